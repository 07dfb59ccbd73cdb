"""Shader programs of other people, adapted to run here: the wrappers of Shadertoy and TwiGL, and headers that
Mesa accepts.

Shadertoy programs write `mainImage`. TwiGL has four modes. Each exists for GLSL ES 1.00, for 3.00 (`300 es`),
and for 3.00 with several outputs (MRT). Classic and geek are complete programs. Geeker leaves out the
declarations. Geekest is the body of `main` alone. A bare program is any other complete fragment program. All
are wrapped as desktop GLSL. Mesa links no `300 es` program with another vertex shader, and accepts no
`precision` without a version.
"""

import re
from typing import NamedTuple

from synth.glsl.blocks import FOLDER

_VERSION = "#version 430\n"
_FRAME_RATE = 60
_SHADERTOY = (
    *("vec3 iResolution", "float iTime", "float iTimeDelta", "float iFrameRate", "float iSampleRate"),
    *("int iFrame", "vec4 iMouse", "vec4 iDate", "vec3 iChannelResolution[4]", "float iChannelTime[4]"),
)

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_UNIFORM = re.compile(r"\buniform\s+(?:(?:highp|mediump|lowp)\s+)?(\w+)\s+([^;{]+);")
_HEADER = re.compile(r"^[ \t]*#[ \t]*(?:version|extension)\b[^\n]*$", re.M)
_DECLARATION = re.compile(r"\b(int|float|vec[234]|mat[234])\s+(?=[A-Za-z]\s*[,;=])")

# The order of tries if no mode is known.
MODES = (
    *("geekest 300", "classic 300", "classic", "geekest", "geek 300", "geeker 300", "geek", "geeker"),
    *("classic mrt", "geekest mrt", "geek mrt", "geeker mrt"),
)

Value = int | float | tuple[float, ...]


class ShaderSource(NamedTuple):
    """A program as it is compiled, and the name of its wrapper."""

    wrapper: str
    text: str


def plain(code: str) -> str:
    """Returns a program without comments."""
    return _COMMENT.sub(" ", code)


def shadertoy(code: str) -> ShaderSource:
    """Wraps a Shadertoy program."""
    # Declarations, as the site adds them.
    uniforms = "".join(f"uniform {u};\n" for u in _SHADERTOY)
    samplers = "".join(f"uniform sampler2D iChannel{i};\n" for i in range(4))
    head = f"{_VERSION}precision highp float;\n{uniforms}{samplers}"
    head += "#define iGlobalTime iTime\n#define HW_PERFORMANCE 1\nout vec4 exn_colour;\n"

    # The call of its mainImage, with opaque black as the start.
    main = "void main() {\n    vec4 c = vec4(0, 0, 0, 1);\n    mainImage(c, gl_FragCoord.xy);\n"
    main += "    exn_colour = vec4(c.rgb, 1);\n}\n"
    return ShaderSource("shadertoy", f"{head}{_without_header(code)}\n{main}")


def bare(code: str) -> ShaderSource:
    """Wraps a complete fragment program, which declares its own uniforms."""
    if re.search(r"\bvoid\s+mainImage\b", plain(code)):
        return shadertoy(code)
    return ShaderSource("bare", _complete(code))


def twigl(code: str, mode: str) -> ShaderSource:
    """Wraps a TwiGL program of a mode, such as `geekest 300`."""
    name, _, manner = mode.partition(" ")
    code = _zeroed(_without_header(code))

    # Complete programs.
    if name in ("classic", "geek"):
        return ShaderSource(f"twigl {mode}", _complete(code))

    # Declarations.
    both = "layout(location = 0) out vec4 o0;\nlayout(location = 1) out vec4 o1;\n"
    outputs = {"": "", "300": "out vec4 o;\n", "mrt": both}[manner]
    buffers = "uniform sampler2D b0, b1;\n" if manner == "mrt" else "uniform sampler2D b;\n"
    head = f"precision highp float;\nuniform vec2 r, m;\nuniform float t, f, s;\n{buffers}{outputs}"

    # The function `main` round its body.
    if name == "geekest":
        output = {"": "gl_FragColor", "300": "o", "mrt": "o0 = o1"}[manner]
        clear = f"{output} = vec4(0, 0, 0, 1);"
        head += "#define FC gl_FragCoord\n" + (FOLDER / "twigl.glsl").read_text(encoding="utf-8")
        code = f"void main() {{\n    {clear}\n{code}\n}}\n"
    return ShaderSource(f"twigl {mode}", _complete(head + code))


def bindings(text: str, time: float, size: int) -> dict[str, Value]:
    """Returns the values of uniforms that a program declares and that have a known name: resolution, time,
    frames, mouse, date.

    The mouse is at 0 and the date 3 October 2021, as in Shaders21k. Samplers are left unbound, which is
    black."""
    # Values by name.
    values: dict[str, tuple[float, ...]] = {"iDate": (2021.0, 10.0, 3.0, 0.0), "iSampleRate": (44100.0,)}
    values |= dict.fromkeys(("iResolution", "u_resolution", "resolution", "r"), (size, size, 1.0))
    values |= dict.fromkeys(("iTime", "iGlobalTime", "u_time", "time", "t"), (time,))
    values |= dict.fromkeys(("iFrame", "u_frame", "frame", "f"), (round(time * _FRAME_RATE),))
    values |= {"iTimeDelta": (1 / _FRAME_RATE,), "iFrameRate": (_FRAME_RATE,)}

    # Declared uniforms, in the type of their declaration.
    bound: dict[str, Value] = {}
    for kind, names in _UNIFORM.findall(plain(text)):
        width = {"float": 1, "int": 1, "vec2": 2, "vec3": 3, "vec4": 4}.get(kind, 0)
        for name in (n.strip() for n in names.split(",")):
            if name in values and width:
                value = tuple(float(v) for v in (*values[name], 0.0, 0.0, 0.0)[:width])
                bound[name] = int(value[0]) if kind == "int" else value[0] if width == 1 else value
    return bound


def _complete(code: str) -> str:
    """Returns a complete program with a header that desktop GLSL accepts. Replaces gl_FragColor by an
    output."""
    # Built-in names of GLSL ES 1.00 that desktop GLSL 4.30 lacks.
    code = _without_header(code)
    head = _VERSION
    if re.search(r"\bgl_Frag(Color|Data)\b", plain(code)):
        head += "out vec4 exn_colour;\n#define gl_FragColor exn_colour\n#define texture2D texture\n"
        code = re.sub(r"\bgl_FragData\s*\[\s*0\s*\]", "exn_colour", code)
        code = re.sub(r"\bvarying\b", "in", code)
    return head + code


def _without_header(code: str) -> str:
    """Returns a program without its #version and #extension lines, which stay as empty lines."""
    return _HEADER.sub("", code.replace("\r", ""))


def _zeroed(code: str) -> str:
    """Returns a program in which one-letter variables without a value start at 0. Golfed programs rely on
    that."""
    parts: list[str] = []
    position = 0
    for match in _DECLARATION.finditer(code):
        # Parameters of functions, and variables that come from outside, keep their form.
        end = _end_of(code, match.end())
        outside = re.search(r"\b(uniform|varying|in|out|inout|attribute)\s+$", code[: match.start()])
        if match.start() < position or end < 0 or outside:
            continue

        # Names without a value.
        names = _split(code[match.end() : end])
        zero = {"int": "0", "float": "0."}.get(match[1], f"{match[1]}(0)")
        parts += [code[position : match.end()], ",".join(n if "=" in n else f"{n}={zero}" for n in names)]
        position = end
    return "".join(parts) + code[position:]


def _end_of(code: str, start: int) -> int:
    """Returns the place of the semicolon that ends a declaration, outside of brackets, or -1 if a bracket
    closes first."""
    depth = 0
    for i in range(start, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth < 0:
            return -1
        if code[i] == ";" and depth == 0:
            return i
    return -1


def _split(text: str) -> list[str]:
    """Splits a text at its commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
