"""Shader programs during their composition: blocks, uniforms, lines."""

from dataclasses import dataclass

from synth.glsl.blocks import Block, Parameter, of_role
from synth.seeds import Stream


@dataclass(frozen=True)
class Uniform:
    """A parameter of one use of a block."""

    name: str  # such as swirl1_strength
    parameter: Parameter


class Draft:
    """A program during its composition: the blocks that it calls, their uniforms, the lines of its
    picture."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.blocks: list[str] = []
        self.uniforms: list[Uniform] = []
        self.lines: list[str] = []
        self.solid: list[str] = []  # lines of the function `solid`, for scenes in space
        self.height: list[str] = []  # lines of the function `height`, for reliefs

    def chance(self, share: float) -> bool:
        """Draws True with the probability `share`."""
        return self.stream.uniform(0, 1) < share

    def one_of(self, *roles: str) -> Block:
        """Draws a block of these roles, all with equal probability."""
        choice = [block for role in roles for block in of_role(role)]
        return choice[self.stream.integer(0, len(choice) - 1)]

    def call(self, block: Block, *arguments: str) -> str:
        """Adds a block, with uniforms of its own. Returns the expression that calls it with these
        arguments."""
        # Names are numbered, because a program may call a block twice.
        self.blocks.append(block.name)
        fresh = [Uniform(f"{block.name}{len(self.blocks)}_{p.name.rstrip('_')}", p) for p in block.parameters]
        self.uniforms += fresh
        return f"{block.name}({', '.join([*arguments, *(u.name for u in fresh)])})"

    def knob(self, name: str, low: float, high: float, type: str = "float") -> str:
        """Adds a uniform of the plan itself and returns its name."""
        name = f"plan{len(self.uniforms)}_{name}"
        self.uniforms.append(Uniform(name, Parameter(type, name, low, high)))
        return name

    def raise_relief(self, number: str) -> None:
        """Moves the lines so far, which compute this number, into the function `height`. The picture then has
        `high`, three heights, and the number again."""
        self.height = [*self.lines, f"return {number};"]
        self.lines = ["vec3 high = heights(place);", f"float {number} = high.x;"]

    def add(self, line: str) -> None:
        """Adds a line of the picture."""
        self.lines.append(line)
