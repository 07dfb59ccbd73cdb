"""Folders of other people's shader programs: a copy of Shaders21k, Shadertoy's JSON files, or bare fragment
programs.

If the folder, or its shader_codes, holds a `shaders_list`, that lists the files. Else all .fragment, .json,
.frag, .glsl and .fs files in it are taken, by name. The text decides the kind of a file. JSON is Shadertoy's,
with the names of its pages or of its API. A name of 32 hex digits is TwiGL's. Its mode is in the file of the
same name in a `modes` folder.

The licence of a program comes from a table licences.csv (or licenses.csv), rows `name,licence`, or else from
its comments. Else Shadertoy's programs have Shadertoy's default.
"""

import csv
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import UserError
from synth.glsl import wrappers
from synth.glsl.wrappers import MODES, ShaderSource, plain
from synth.sets.storage import reading

SHADERTOY_DEFAULT = "cc-by-nc-sa-3.0"
UNKNOWN = "unknown"

_ENDINGS = {".fragment", ".json", ".frag", ".glsl", ".fs"}

# Pattern in a comment -> licence. The first match counts.
_MIT = r"\bmit license|\bthe mit\b|\bmit licence|licen[sc]e: *mit\b"
_LICENCES = (
    (r"\bcc0\b|creative commons zero|public domain|unlicense", "cc0"),
    (r"\bcc[ -]by[ -]nc[ -]sa|attribution[ -]noncommercial[ -]sharealike", "cc-by-nc-sa"),
    (r"\bcc[ -]by[ -]nc", "cc-by-nc"),
    (r"\bcc[ -]by[ -]sa", "cc-by-sa"),
    (r"\bcc[ -]by\b", "cc-by"),
    (rf"{_MIT}|permission is hereby granted, free of charge", "mit"),
    (r"apache license", "apache-2.0"),
    (r"\bagpl|\blgpl|\bgpl|gnu general public", "gpl"),
    (r"\bbsd\b", "bsd"),
    (r"all rights reserved", "proprietary"),
)


@dataclass(frozen=True)
class Candidate:
    """A program of a folder: the ways to wrap it, or the reason against it."""

    name: str
    sources: tuple[ShaderSource, ...] = ()
    licence: str = UNKNOWN
    author: str = UNKNOWN
    fault: str | None = None


def read(folder: str) -> list[Candidate]:
    """Returns the programs of a folder, in order. Marks later copies of the same text. Raises UserError if
    there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder} is no folder; give one with shader programs, such as a copy of Shaders21k")
    files = _files(root)
    if not files:
        kinds = "no shaders_list, .fragment, .json, .frag, .glsl or .fs files"
        raise UserError(f"{folder} holds no shader programs: {kinds}")

    # Programs, and the first one with each text.
    table = _licence_table(root)
    first: dict[str, str] = {}
    return [_once(_read(file, table), first) for file in files]


def allowed(candidates: list[Candidate], licences: str) -> list[Candidate]:
    """Returns the programs, and marks those of other licences than the named (commas between them, empty for
    all)."""
    names = {name.strip().lower() for name in licences.split(",") if name.strip()}

    def judged(program: Candidate) -> Candidate:
        if not names or program.fault or program.licence in names:
            return program
        return _refused(program, f"licence {program.licence} is not asked for")

    return [judged(program) for program in candidates]


def _refused(program: Candidate, fault: str) -> Candidate:
    """Returns the program with the reason against it, and without its text."""
    return Candidate(program.name, licence=program.licence, author=program.author, fault=fault)


def _files(root: Path) -> list[Path]:
    """Returns the files of the programs, in order."""
    # A list of files, relative to the folder above it (as in Shaders21k) or to its own.
    listings = (root / "shaders_list", root / "shader_codes" / "shaders_list")
    listing = next((p for p in listings if p.is_file()), None)
    if listing is not None:
        above = listing.parent.parent
        lines = [line.strip() for line in foreign.read_text(listing).splitlines() if line.strip()]
        places = [(above / line, listing.parent / line) for line in lines]
        return [_first_file(pair) for pair in places]

    # All files of a known kind.
    files = (p for p in root.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
    return sorted(p for p in files if "modes" not in p.relative_to(root).parts[:-1])


def _first_file(places: tuple[Path, Path]) -> Path:
    """Returns the first place with a file, else the first place."""
    files = (foreign.locate(place) for place in places)
    return next((file for file in files if file and file.is_file()), places[0])


def _read(file: Path, table: dict[str, str]) -> Candidate:
    """Returns the program of a file. Raises UserError if the file exists and cannot be read now."""
    name = foreign.escaped(file.stem)
    try:
        with reading(str(file)):
            text = foreign.read_text(file)
    except OSError as error:
        return Candidate(name, fault=f"cannot be read: {error.strerror}")

    # Shadertoy, TwiGL, or a bare program.
    licence = table.get(foreign.alike(name)) or _licence_of(text)
    if text.lstrip().startswith(("{", "[")):
        return _shadertoy(name, text, table)
    if re.fullmatch("[0-9a-f]{32}", name):
        modes = _modes(file)
        return Candidate(name, tuple(map(partial(wrappers.twigl, text), modes)), licence or UNKNOWN)
    return Candidate(name, (wrappers.bare(text),), licence or UNKNOWN, fault=_needs(text))


def _shadertoy(name: str, text: str, table: dict[str, str]) -> Candidate:
    """Returns a program in Shadertoy's JSON, as the site's pages or its API have it."""
    # Pages give a list, the API an object with the entry `Shader`. Passes have no type in some files.
    try:
        shader: Any = foreign.parsed_json(text)
        shader = shader[0] if isinstance(shader, list) else shader
        shader = shader.get("Shader", shader)
        info, passes = shader.get("info", {}), shader["renderpass"]
        kinds = [str(p.get("type", "image")) for p in passes]
        images = [p["code"] for p in passes if p.get("type", "image") == "image"]
        common = [p["code"] for p in passes if p.get("type") == "common"]
        # One image, with the code that its passes share. Half of a surrogate pair is no character.
        code = "\n".join([*common, *images]).encode(errors="replace").decode()
        author, name = (
            foreign.escaped(str(text)) for text in (info.get("username") or UNKNOWN, info.get("id") or name)
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return Candidate(name, fault="is not Shadertoy's JSON")

    # The licence, then what cannot be drawn.
    licence = table.get(foreign.alike(name)) or _licence_of(code) or SHADERTOY_DEFAULT
    if len(images) != 1 or set(kinds) - {"image", "common"}:
        fault = f"has several passes: {', '.join(kinds)}"
        return Candidate(name, licence=licence, author=author, fault=fault)
    return Candidate(name, (wrappers.shadertoy(code),), licence, author, _needs(code))


def _needs(code: str) -> str | None:
    """Returns the reason why a program cannot be drawn alone, or None. Such a program reads a texture."""
    channel = re.search(r"\b(?:texture\w*|texelFetch)\s*\(\s*(iChannel\d)", plain(code))
    return f"reads a texture ({channel[1]})" if channel else None


def _modes(file: Path) -> tuple[str, ...]:
    """Returns the modes to try for a TwiGL program: the one of its mode file, or all."""
    for place in (file.parent.parent / "modes", file.parent / "modes"):
        listing = place / file.name
        lines = foreign.read_text(listing).split() if listing.is_file() else []
        # Mode, then True for GLSL ES 3.00, then True for several outputs.
        if lines and lines[0] in ("classic", "geek", "geeker", "geekest"):
            several, modern = lines[2:3] == ["True"], lines[1:2] == ["True"]
            return (f"{lines[0]} mrt" if several else f"{lines[0]} 300" if modern else lines[0],)
    return MODES


def _licence_of(text: str) -> str | None:
    """Returns the licence in the comments of a program, or None."""
    # Comments alone, as code may use the same words.
    comments = " ".join(re.findall(r"//[^\n]*|/\*.*?\*/", text, re.S)).lower()
    return next((licence for pattern, licence in _LICENCES if re.search(pattern, comments)), None)


def _licence_table(root: Path) -> dict[str, str]:
    """Returns the folder's own table, name -> licence, or an empty one. Names have the form of `alike`.

    Raises UserError if the table is damaged."""
    for name in ("licences.csv", "licenses.csv"):
        if (root / name).is_file():
            lines = foreign.read_text(root / name).split("\n")
            try:
                rows = [row for row in csv.reader(lines) if len(row) >= 2]
            except csv.Error as error:
                raise UserError(
                    f"{root / name} is no table: {error}; its rows must be name,licence"
                ) from None
            return {foreign.alike(row[0].strip()): row[1].strip().lower() for row in rows}
    return {}


def _once(program: Candidate, first: dict[str, str]) -> Candidate:
    """Returns the program, marked if an earlier one has the same text apart from comments and spaces."""
    if program.fault or not program.sources:
        return program
    # The first wrapping stands for the text.
    text = "".join(plain(program.sources[0].text).split())
    earlier = first.setdefault(hashlib.sha256(text.encode()).hexdigest(), program.name)
    return program if earlier == program.name else _refused(program, f"is a copy of {earlier}")
