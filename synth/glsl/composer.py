"""Our shader programs: structure number -> GLSL text and the uniforms that a class chooses.

A structure is composed of blocks (synth/glsl/blocks.py) along one of a few plans (synth/glsl/plans.py): a
field over changed coordinates, a tiling, a tunnel, lit solids and so on. The structure's own stream chooses
the blocks. Every number within a block is a uniform. So a class, a vector of such numbers, costs no
compilation. All programs are GLSL 330 and have these uniforms:

    side    pixels of the picture's side
    time    seconds, 0.1 to 10
    view    shift (x, y), zoom and turn of an instance
    zero    0; in a loop's bound it keeps compilers from unrolling the loop, which takes them long
"""

import hashlib
from dataclasses import dataclass
from functools import cache

from synth import seeds
from synth.glsl.blocks import blocks, with_needs
from synth.glsl.drafts import Draft, Uniform
from synth.glsl.plans import PLANS
from synth.seeds import Stream

_HEAD = """#version 330
// exnihilo, structure {number}: {title}
uniform float side;
uniform float time;
uniform vec4 view;
uniform int zero;
{uniforms}
out vec4 colour_out;

float solid(vec3 p);
float height(vec2 q, vec2 place);
vec2 seen(vec2 place);

{functions}
{definitions}
vec2 seen(vec2 place) {{
    return turned(view.w) * place / view.z + view.xy;
}}

void main() {{
    vec2 place = 2.0 * gl_FragCoord.xy / side - 1.0;
    colour_out = vec4(clamp(picture(seen(place), place), 0.0, 1.0), 1.0);
}}
"""


@dataclass(frozen=True)
class Program:
    """A structure."""

    number: int
    plan: str
    blocks: tuple[str, ...]  # in the order of their choice
    uniforms: tuple[Uniform, ...]
    text: str

    @property
    def sha256(self) -> str:
        """The sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def sample(self, stream: Stream) -> tuple[float, ...]:
        """Draws a parameter vector: the numbers of all uniforms, one after the other."""
        values: list[float] = []
        for uniform in self.uniforms:
            low, high = uniform.parameter.low, uniform.parameter.high
            if uniform.parameter.type == "int":
                values.append(float(stream.integer(int(low), int(high))))
            # Six digits survive any JSON reader, and are enough for single precision.
            else:
                values += [round(stream.uniform(low, high), 6) for _ in range(uniform.parameter.width)]
        return tuple(values)

    def bindings(self, values: tuple[float, ...]) -> dict[str, int | float | tuple[float, ...]]:
        """Returns the values of the uniforms by name, for a parameter vector."""
        bound: dict[str, int | float | tuple[float, ...]] = {}
        start = 0
        for uniform in self.uniforms:
            # moderngl takes integers and floats as they are, vectors as tuples.
            width = uniform.parameter.width
            numbers = values[start : start + width]
            start += width
            if uniform.parameter.type == "int":
                bound[uniform.name] = int(numbers[0])
            else:
                bound[uniform.name] = numbers[0] if width == 1 else numbers
        return bound


@cache
def compose(number: int) -> Program:
    """Returns the program of a structure number."""
    # A plan draws from the structure's own stream, so the seed of a set does not change it.
    draft = Draft(seeds.stream(0, "shaders/structures", number))
    plan = PLANS[number % len(PLANS)]
    plan(draft)
    name = plan.__name__.strip("_")
    return Program(number, name, tuple(draft.blocks), tuple(draft.uniforms), _text(number, name, draft))


def _text(number: int, plan: str, draft: Draft) -> str:
    """Returns the GLSL text of a draft."""
    # The structure's three functions.
    definitions = _function("float solid(vec3 p)", draft.solid or ["return 1.0;"])
    definitions += _function("float height(vec2 q, vec2 place)", draft.height or ["return 0.0;"])
    definitions += _function("vec3 picture(vec2 q, vec2 place)", [*draft.lines, "return colour;"])

    # The blocks that they call.
    names = {name for name in blocks() if f"{name}(" in definitions}
    functions = "\n".join(block.text for block in with_needs({*names, "turned"}))

    # The uniforms with their ranges.
    uniforms = "".join(
        f"uniform {u.parameter.type} {u.name};  // {u.parameter.low:g} to {u.parameter.high:g}\n"
        for u in draft.uniforms
    )

    title = f"{plan}: {', '.join(draft.blocks)}"
    return _HEAD.format(
        number=number, title=title, uniforms=uniforms, functions=functions, definitions=definitions
    )


def _function(head: str, lines: list[str]) -> str:
    return f"{head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n\n"
