"""The building blocks of our shader programs, read from the GLSL files of glsl/.

A file is a role: coordinates, fields, palettes and so on. Every function in it is a block. A parameter with a
range, as in `float scale /* 1.5..4 */`, becomes a uniform. The caller fills in parameters without a range.
Functions of the roles `common` and `scenes` are not blocks: blocks and scenes call them. A program includes
all functions that its blocks name.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent

# In the order of their functions in a program.
_ROLES = (
    *("common", "coordinates", "tunnels", "fields", "cells", "fractals", "combinations"),
    *("tilings", "shapes", "solids", "palettes", "scatterings", "sights", "finishes", "scenes"),
)

# A function with its note in the line above, and a parameter with its range.
_FUNCTION = re.compile(
    r"^(?:// (?P<note>[^\n]*)\n)?(?P<head>(?P<type>\w+) (?P<name>\w+)\((?P<parameters>[^{]*)\)) \{\n.*?^\}\n",
    re.M | re.S,
)
_PARAMETER = re.compile(
    r"(?P<type>int|float|vec2|vec3) (?P<name>\w+)(?: /\* (?P<low>[-\d.]+)\.\.(?P<high>[-\d.]+) \*/)?"
)


@dataclass(frozen=True)
class Parameter:
    """A number that a class chooses, uniform between its ends."""

    type: str  # int, float, vec2 or vec3; each component has the same range
    name: str
    low: float
    high: float

    @property
    def width(self) -> int:
        """The count of floats in the parameter."""
        return {"vec2": 2, "vec3": 3}.get(self.type, 1)


@dataclass(frozen=True)
class Block:
    """A function of a GLSL file."""

    role: str
    name: str
    text: str
    note: str  # a description of its picture
    parameters: tuple[Parameter, ...]  # those with a range
    needs: tuple[str, ...]  # names of the functions that it calls


@cache
def blocks() -> dict[str, Block]:
    """Returns all blocks by name. Each stands after the functions that it calls."""
    table: dict[str, Block] = {}
    for role in _ROLES:
        for match in _FUNCTION.finditer((FOLDER / f"{role}.glsl").read_text(encoding="utf-8")):
            # GLSL functions call earlier ones alone, so all callees are in the table already.
            body = match.group()[match.end("head") - match.start() :]
            needs = tuple(name for name in table if re.search(rf"\b{name}\(", body))

            # The text without its note and its ranges.
            text = re.sub(r" /\* \S+ \*/", "", match.group()[match.start("type") - match.start() :])
            name, parameters = match["name"], _parameters(match["parameters"])
            table[name] = Block(role, name, text, match["note"], parameters, needs)
    return table


@cache
def of_role(role: str) -> tuple[Block, ...]:
    """Returns the blocks of a role, in the order of their file."""
    return tuple(block for block in blocks().values() if block.role == role and block.parameters)


def with_needs(names: set[str]) -> list[Block]:
    """Returns these blocks and all that they need, in their order."""
    closure, waiting = set(names), list(names)
    while waiting:
        fresh = set(blocks()[waiting.pop()].needs) - closure
        closure |= fresh
        waiting += fresh
    return [block for name, block in blocks().items() if name in closure]


def _parameters(text: str) -> tuple[Parameter, ...]:
    """Returns the parameters that have a range."""
    matches = [match for match in _PARAMETER.finditer(text) if match["low"]]
    return tuple(Parameter(m["type"], m["name"], float(m["low"]), float(m["high"])) for m in matches)
