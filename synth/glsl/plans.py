"""The plans of our shader programs: the kinds of pictures, and the places of blocks in them.

A plan writes the lines of `vec3 picture(vec2 q, vec2 place)`. `q` is the place as the view shows it. The
lines end with the variable `colour`. Structure number n follows plan n mod 16, so that neighbours are of
different kinds.
"""

from collections.abc import Callable

from synth.glsl.blocks import blocks, of_role
from synth.glsl.drafts import Draft


def _bend(draft: Draft, least: int, most: int, name: str = "q") -> None:
    """Adds changes of coordinates, one after the other."""
    for _ in range(draft.stream.integer(least, most)):
        draft.add(f"{name} = {draft.call(draft.one_of('coordinates'), name)};")


def _colour(draft: Draft, number: str, other: str | None = None) -> None:
    """Adds a colour for a number from 0 to 1, in one of several manners."""
    manner = draft.stream.integer(0, 5)
    palette = draft.one_of("palettes")

    # The palette alone, or embossed as a relief.
    if manner in (1, 2):
        draft.raise_relief(number)
    if manner <= 2:
        draft.add(f"vec3 colour = {draft.call(palette, number)};")
    if manner in (1, 2):
        depth, angle = draft.knob("depth", 0.15, 0.7), draft.knob("angle", 0, 6.28)
        draft.add(f"colour = embossed(colour, high, {depth}, {angle});")

    # Two palettes, by the share of the other number.
    if manner == 3:
        second = draft.one_of("palettes")
        share = other or f"smoothstep(0.3, 0.7, {draft.call(draft.one_of('fields'), 'place')})"
        draft.add(f"vec3 colour = mix({draft.call(palette, number)}, {draft.call(second, number)}, {share});")

    # Hue by the other number, light by this one.
    if manner == 4:
        hue = other or "0.5 + 0.35 * place.x + 0.2 * place.y"
        paint = draft.call(palette, f"0.35 * {number} + 0.6 * ({hue})")
        draft.add(f"vec3 colour = {paint} * (0.5 + 0.6 * {number});")

    # Contour lines.
    if manner == 5:
        lines, thin = draft.knob("lines", 3, 9), draft.knob("thin", 0.1, 0.3)
        draft.add(f"vec3 colour = {draft.call(palette, number)};")
        draft.add(f"colour *= 0.35 + 0.65 * smoothstep(0.0, {thin}, abs(fract({lines} * {number}) - 0.5));")


def _finish(draft: Draft) -> None:
    """Adds none, one or two finishes."""
    for _ in range(draft.stream.integer(0, 2)):
        draft.add(f"colour = {draft.call(draft.one_of('finishes'), 'colour', 'place')};")


def _two_fields(draft: Draft, *roles: str) -> None:
    """Adds a field, or two combined, over bent coordinates, in colour."""
    _bend(draft, 0, 2)
    draft.add(f"float a = {draft.call(draft.one_of(*roles), 'q')};")

    # A second field, over coordinates that the first one pulls or over others.
    if draft.chance(0.5):
        if draft.chance(0.4):
            draft.add(f"vec2 r = q + {draft.knob('pull', 0.2, 0.9)} * vec2(a, -a);")
        else:
            draft.add("vec2 r = place;")
            _bend(draft, 0, 1, "r")
        draft.add(f"float b = {draft.call(draft.one_of('fields', 'cells'), 'r')};")
        draft.add(f"float f = {draft.call(draft.one_of('combinations'), 'a', 'b')};")
        _colour(draft, "f", "b")
    else:
        _colour(draft, "a")
    _finish(draft)


def _fields(draft: Draft) -> None:
    _two_fields(draft, "fields")


def _cells(draft: Draft) -> None:
    _two_fields(draft, "cells")


def _fractals(draft: Draft) -> None:
    """Adds an escape-time fractal or the like, alone or combined with a field."""
    if draft.chance(0.3):
        _bend(draft, 1, 1)
    draft.add(f"float a = {draft.call(draft.one_of('fractals'), 'q')};")

    # Combination with a field.
    if draft.chance(0.35):
        draft.add(f"float b = {draft.call(draft.one_of('fields'), 'q')};")
        draft.add(f"float f = {draft.call(draft.one_of('combinations'), 'a', 'b')};")
        _colour(draft, "f", "b")
    else:
        _colour(draft, "a")
    _finish(draft)


def _mirrors(draft: Draft) -> None:
    """Writes a field over coordinates that are bent three or four times, so that the bending shows."""
    _bend(draft, 3, 4)
    draft.add(f"float a = {draft.call(draft.one_of('fields', 'cells'), 'q')};")
    _colour(draft, "a", "0.5 + 0.5 * sin(q.x + q.y)")
    _finish(draft)


def _tilings(draft: Draft) -> None:
    """Writes shapes in cells, each turned and coloured by the cell's random number, cell.z."""
    _bend(draft, 0, 1)
    draft.add(f"vec4 cell = {draft.call(draft.one_of('tilings'), 'q')};")

    # The place in the cell, cell.xy. Cells differ in turn, speed and scale.
    turn, variety = draft.knob("turn", 0, 6.28), draft.knob("own", 0.2, 1)
    angle = f"{turn} * floor(4.0 * cell.z) + 0.6 * {variety} * time * (cell.z - 0.5)"
    draft.add(f"vec2 at = turned({angle}) * cell.xy * (1.0 + {variety} * cell.z);")

    # One shape, or two by turns.
    draft.add(f"float d = {draft.call(draft.one_of('shapes'), 'at')};")
    if draft.chance(0.5):
        draft.add(f"float e = {draft.call(draft.one_of('shapes'), 'at * 1.3')};")
        draft.add("d = cell.z < 0.5 ? d : e;")

    # Colours of shape, ground and joints. The distance to the cell's edge is cell.w.
    palette = draft.one_of("palettes")
    inner = draft.call(palette, f"fract(3.7 * cell.z) + {draft.knob('rings', 0, 0.8)} * d")
    outer = draft.call(draft.one_of("palettes"), f"0.25 + 0.5 * cell.z * {draft.knob('ground', 0, 1.2)}")
    draft.add(f"vec3 colour = {outer} * {draft.knob('dim', 0.6, 1)};")
    shadow, outline = draft.knob("shadow", 0.02, 0.3), draft.knob("outline", 0, 1)
    draft.add(f"colour = laid(colour, d, {inner}, {shadow}, {outline});")
    draft.add(f"colour *= smoothstep(0.0, {draft.knob('joint', 0.01, 0.12)}, cell.w) * 0.6 + 0.4;")
    _finish(draft)


def _tunnels(draft: Draft) -> None:
    """Writes a field on the walls of something deep, dark or bright at its end."""
    # The wall: coordinates on it, and its depth wall.z.
    wall = f"vec3 wall = {draft.call(draft.one_of('tunnels'), 'q')};"
    draft.add(wall)
    draft.add("q = wall.xy;")
    if draft.chance(0.4):
        _bend(draft, 1, 1)

    # The field, flat or as a relief. A relief moves the lines so far away, so the wall comes again.
    draft.add(f"float a = {draft.call(draft.one_of('fields', 'cells'), 'q')};")
    relief = draft.chance(0.5)
    if relief:
        draft.raise_relief("a")
        draft.add(wall)
    draft.add(f"vec3 colour = {draft.call(draft.one_of('palettes'), 'a')};")
    if relief:
        depth, angle = draft.knob("depth", 0.1, 0.4), draft.knob("angle", 0, 6.28)
        draft.add(f"colour = embossed(colour, high, {depth}, {angle});")

    # Fog towards the end.
    end = f"tinted(vec3({draft.knob('hue', 0, 1)}, 0.6, {draft.knob('light', 0, 1)}))"
    draft.add(f"colour = mix({end}, colour, exp(-{draft.knob('fog', 0.08, 0.3)} * wall.z));")
    _finish(draft)


def _shapes(draft: Draft) -> None:
    """Writes shapes strewn over a ground."""
    # Ground: a gradient, a field, or a picture of another plan.
    ground = draft.stream.integer(0, 2)
    if ground == 0:
        draft.add(f"vec3 colour = {draft.call(draft.one_of('palettes'), '0.5 + 0.3 * q.y + 0.1 * q.x')};")
    elif ground == 1:
        draft.add(f"float a = {draft.call(draft.one_of('fields', 'cells'), 'q')};")
        draft.add(f"vec3 colour = {draft.call(draft.one_of('palettes'), 'a')} * {draft.knob('dim', 0.6, 1)};")
    else:
        draft.add(f"vec3 colour = {draft.call(draft.one_of('scatterings', 'sights'), 'q')};")

    # Shapes, one after the other. Those far from the pixel are skipped.
    count = draft.knob("count", 4, 11, "int")
    size, seed = draft.knob("size", 0.18, 0.42), draft.knob("seed", 0, 1000)
    shape = draft.call(draft.one_of("shapes"), "at")
    paint = draft.call(draft.one_of("palettes"), f"chance(vec2(i, 77.0)) + {draft.knob('rings', 0, 0.5)} * d")
    draft.lines += [
        f"float shadow = {draft.knob('shadow', 0.03, 0.4)}, outline = {draft.knob('outline', 0, 1)};",
        f"for (int i = 0; i < {count}; i++) {{",
        f"    vec4 put = scattered(i, {size}, floor({seed}));",
        "    vec2 at = turned(put.w) * (q - put.xy) / put.z;",
        "    if (dot(at, at) > 3.0) continue;",
        f"    float d = {shape};",
        f"    colour = laid(colour, d, {paint}, shadow, outline);",
        "}",
    ]
    _finish(draft)


# Solids that are seen from outside. The others have no end.
_NEAR = (
    *("ball", "box", "torus", "rings", "drops", "gyroid"),
    *("schwarz", "sponge", "column", "crystal_", "helix", "bulwark"),
)


def _solids(draft: Draft) -> None:
    """Writes one solid, or two, before a backdrop."""
    # The first solid.
    things = [blocks()[name] for name in _NEAR]
    first = things[draft.stream.integer(0, len(things) - 1)]
    draft.solid.append(f"float d = {draft.call(first, 'p')};")

    # The second: beside the first, melted into it, or cut out of it.
    if draft.chance(0.35):
        second = things[draft.stream.integer(0, len(things) - 1)]
        manner = draft.stream.integer(0, 2)
        offset = f"vec3({draft.knob('beside', 0.4, 1.1)}, {draft.knob('above', -0.5, 0.5)}, 0.0)"
        other = draft.call(second, f"(p - {offset}) * 1.4")
        joined = ["min(d, e)", "soft_min(d, e, 0.3)", "max(d, -e)"][manner]
        draft.solid += [f"float e = {other} / 1.4;", f"d = {joined};"]

    # Floor, light and colour.
    floor = draft.chance(0.4)
    draft.solid.append("return min(d, p.y + 1.45);" if floor else "return d;")
    _backdrop(draft)
    _march(draft, "vec3(0.0, 0.35, -3.4)", "1.75", 32, 8.0)
    _surface(draft, floor)
    _finish(draft)


def _spaces(draft: Draft) -> None:
    """Writes land, towns, lattices and caves, without end."""
    things = [block for block in of_role("solids") if block.name not in _NEAR]
    block = things[draft.stream.integer(0, len(things) - 1)]
    draft.solid.append(f"return {draft.call(block, 'p')};")

    # The eye is above the land, and within lattices and caves. Fog hides the end of the rays.
    _backdrop(draft)
    height = "0.0" if block.name in ("lattice", "cave") else "0.55"
    _march(draft, f"vec3(0.0, {height}, -2.0)", "1.3", 36, 11.0)
    _surface(draft, False)
    draft.add(f"colour = mix(colour, behind, smoothstep({draft.knob('fog', 1, 5)}, 11.0, t));")
    _finish(draft)


def _backdrop(draft: Draft) -> None:
    """Adds the colour behind solids: a field, lights, or (in half of the cases) a gradient."""
    # A field, dimmed.
    manner = draft.stream.integer(0, 3)
    if manner == 0:
        number = draft.call(draft.one_of("fields"), "place")
        paint = draft.call(draft.one_of("palettes"), f"0.6 * {number}")
        draft.add(f"vec3 behind = {paint} * {draft.knob('dim', 0.5, 1)};")
    # Lights.
    elif manner == 1:
        draft.add(f"vec3 behind = {draft.call(draft.one_of('scatterings'), 'place')};")
    # A gradient from bottom to top.
    else:
        low, high = draft.knob("low", 0, 1, "vec3"), draft.knob("high", 0, 1, "vec3")
        upper = f"tinted(vec3({high}.x, 0.7 * {high}.yz))"
        draft.add(f"vec3 behind = mix(tinted({low}), {upper}, 0.5 + 0.5 * place.y);")


def _march(draft: Draft, eye: str, lens: str, steps: int, far: float) -> None:
    """Adds the ray of a pixel, and its length `t`. The view turns the eye and shifts it a little."""
    draft.lines += [
        f"vec3 eye = {eye} + vec3(0.3 * view.xy, 0.0), ray = normalize(vec3(place * 1.0, {lens} * view.z));",
        f"float tilt = {draft.knob('tilt', -0.25, 0.15)};",
        "ray.yz = turned(-tilt) * ray.yz;",
        "ray.xy = turned(0.3 * view.w) * ray.xy;",
        f"float t = met(eye, ray, {draft.knob('steps', steps - 8, steps, 'int')}, {far:.1f});",
    ]


def _surface(draft: Draft, floor: bool) -> None:
    """Adds the surface at the end of a ray: colour by place, facing or a field, and light. Rays without an
    end show the backdrop."""
    # The number that chooses the colour. All are written, because each call adds a block and its uniforms.
    number = [
        "0.5 + 0.5 * normal.y",
        f"0.3 * length(p) + {draft.knob('shift', 0, 1)}",
        "0.5 + 0.4 * p.y + 0.2 * normal.x",
        f"{draft.call(draft.one_of('fields'), 'p.xy + 0.6 * p.z')}",
        f"{draft.call(draft.one_of('cells', 'fields'), 'p.xz + 0.5 * p.y')}",
    ][draft.stream.integer(0, 4)]
    paint = draft.call(draft.one_of("palettes"), number)

    # Light, and the floor's chequers and fog.
    sun, gloss = draft.knob("sun", -1, 1, "vec3"), draft.knob("gloss", 0, 0.8)
    light = f"normalize(vec3({sun}.xy, -0.4) + vec3(0.0, 1.2, -0.3))"
    far = "8.0" if draft.blocks[0] in _NEAR else "11.0"
    chequers = "    if (p.y < -1.44) own = behind * (0.5 + 0.5 * mod(floor(p.x) + floor(p.z), 2.0));"
    fog = f"    colour = mix(colour, behind, smoothstep(4.0, {far}, t));"
    draft.lines += [
        "vec3 colour = behind;",
        f"if (t < {far}) {{",
        "    vec3 p = eye + t * ray, normal = facing(p, 0.003 * t);",
        f"    vec3 own = {paint};",
        *([chequers] if floor else []),
        f"    colour = lit(own, p, normal, ray, {light}, {gloss});",
        *([fog] if floor else []),
        "}",
    ]


def _layers(draft: Draft) -> None:
    """Writes two pictures, one seen through the other."""
    # The pictures.
    for name in ("a", "b"):
        draft.add(f"vec2 {name}_at = q;")
        _bend(draft, 0, 1, f"{name}_at")
        draft.add(f"float {name} = {draft.call(draft.one_of('fields', 'cells', 'fractals'), f'{name}_at')};")
        draft.add(f"vec3 {name}_colour = {draft.call(draft.one_of('palettes'), name)};")

    # The hole in the upper one: a shape or a field.
    if draft.chance(0.5):
        put = draft.knob("put", -0.35, 0.35, "vec2")
        draft.add(f"float d = {draft.call(draft.one_of('shapes'), f'(q - {put}) * 1.15')};")
        draft.add("vec3 colour = laid(a_colour, d, b_colour, 0.25, 0.0);")
    else:
        number = draft.call(draft.one_of("fields", "cells"), "0.6 * place")
        draft.add(f"float mask = smoothstep(0.45, 0.55, {number});")
        draft.add("vec3 colour = mix(a_colour, b_colour, mask);")
    _finish(draft)


def _lights(draft: Draft) -> None:
    if draft.chance(0.5):
        _bend(draft, 1, 1)
    draft.add(f"vec3 colour = {draft.call(draft.one_of('scatterings'), 'q')};")
    _finish(draft)


def _views(draft: Draft) -> None:
    draft.add(f"vec3 colour = {draft.call(draft.one_of('sights'), 'q')};")
    _finish(draft)


# Structure n has plan n mod 16. Some plans have two places.
PLANS: tuple[Callable[[Draft], None], ...] = (
    *(_fields, _solids, _cells, _tilings, _fractals, _tunnels, _shapes, _spaces),
    *(_mirrors, _layers, _solids, _lights, _fields, _fractals, _views, _tilings),
)
