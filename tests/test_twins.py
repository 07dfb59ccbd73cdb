"""Every compiled kernel beside a plain twin: the same law in Python or NumPy, written for reading.

Integers, and floats added in a fixed order, must be equal; what contains a sine agrees to 1e-12. Twins of
one module alone stand in that module's tests. `TWINS` names them all.
"""

import ast
import heapq
import math
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from synth.families import fractal_scenes, fractaldb, fractals
from synth.glsl import gl
from synth.images import codecs, huffman
from synth.images.pictures import Picture, measure
from synth.kernels import colour, ifs, lines, trigonometry
from synth.seeds import Stream
from synth.vetting import judging
from tests.kit import ROOT, python_files

PACKAGES = ("synth", "data", "caption", "train", "evaluate")

# Test -> the kernels that it compares with plain twins. Tests of this module have no prefix.
TWINS = {
    "test_systems_are_sampled_as_by_their_twin": "ifs: sample singular_values rotation weigh _uniform",
    "test_the_chaos_game_is_its_twins_to_the_bit": "ifs: _iterate _thresholds",
    "test_fixed_points_and_stretches_are_those_of_linear_algebra": "ifs: fixed_point largest_stretch",
    "test_ifs.test_bounds_are_the_least_and_greatest_coordinates": "ifs: bounds",
    "test_ifs.test_histogram_counts_points_like_numpy": "ifs: histogram _within",
    "test_lines_are_scattered_as_by_their_twin": "lines: scatter",
    "test_lines_are_drawn_as_by_their_twin": "lines: draw_lines",
    "test_trigonometry.test_sine_agrees_with_the_library": "trigonometry: sine",
    "test_ifs.test_exponential_is_right_to_twelve_digits": "trigonometry: exponential",
    "test_a_circle_is_the_librarys": "trigonometry: circle",
    "test_fractals.test_clouds_are_diamond_square": "clouds: heights _refine _noise",
    "test_fractals.test_colours_are_those_of_colorsys": "colour: pixel",
    "test_palettes_hold_a_colour_for_each_hue": "colour: hues",
    "test_counts_are_painted_as_by_their_twin": "colour: paint_counts",
    "test_heights_are_painted_as_by_their_twin": "colour: paint_heights",
    "test_fractals.test_blur_is_gaussian_to_a_level": "colour: blur",
    "test_levels_are_unpacked_and_weighed_as_by_their_twin": "colour: rgb grey",
    "test_points_are_spread_as_by_their_twin": "fractals: spread",
    "test_figures_are_put_on_a_canvas_as_by_their_twin": "fractal_scenes: put_dark put_clean _mix",
    "test_candidates_are_sampled_as_by_their_twin": "fractaldb: candidate",
    "test_points_are_placed_and_counted_as_by_their_twins": "fractaldb: place filled",
    "test_patches_are_pasted_as_by_their_twin": "fractaldb: paste",
    "test_visual_atoms.test_kernel_draws_the_pixels_of_its_plain_twin": "visual_atoms: draw_orbits push",
    "test_visual_atoms.test_polygons_are_pillows_even_across_the_frame": "visual_atoms: draw_polygon",
    "test_seeds.test_kernels_read_the_same_stream": "seeds: word",
    "test_pictures.test_box_average_is_the_mean_rounded_half_up": "pictures: _box_average",
    "test_fractals.test_colour_statistics_are_those_of_numpy": "pictures: _rgb_tallies _rgb_boxes _sum_rgb",
    "test_grey_statistics_are_those_of_numpy": "pictures: _grey_tallies _count _box",
    "test_differences_are_summed_as_by_numpy": "codecs: _summed",
    "test_deflated_bytes_are_those_of_their_twin": "huffman: _deflate _count _codes _heading _write",
    "test_code_lengths_are_those_of_their_twin": "huffman: code_lengths _depths",
    "test_judgements_are_those_of_numpy": "judging: _levels _likeness _boxes",
    "test_what_stands_out_is_that_of_numpy": "judging: foreground",
    "test_scenes.test_coverage_is_that_of_dense_samples": "shapes: cover _placed",
    "test_scenes.test_cells_are_covered_as_by_their_twin": "shapes: cover_cells",
    "test_scene_matching.test_outlines_are_searched_as_by_their_twin": "matching: search _misfit _window",
    "test_scenes.test_objects_are_painted_as_by_their_twin": "fillings: paint direction _second _height",
    "test_noise.test_fields_are_those_of_numpys_transform": "noise: spectrum transform power",
    "test_noise.test_pixels_are_mixed_as_by_their_twin": "noise: mix",
    "test_rows_are_turned_upright_as_by_numpy": "gl: _upright",
}


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def uniforms(key: int, count: int) -> list[float]:
    """Returns the first words of a stream as numbers in [0, 1)."""
    stream = Stream(key)
    return [(stream.word() >> 11) * 2.0**-53 for _ in range(count)]


def dotted(entry: str) -> set[str]:
    """Returns the kernels of an entry of TWINS as MODULE.NAME."""
    module, names = entry.split(": ")
    return {f"{module}.{name}" for name in names.split()}


def kernels() -> list[str]:
    """Returns every function that is compiled, as MODULE.NAME."""
    names = []
    for package in PACKAGES:
        for path in python_files(package):
            for node in ast.walk(ast.parse(path.read_text())):
                decorators = map(ast.unparse, getattr(node, "decorator_list", []))
                if isinstance(node, ast.FunctionDef) and "jit" in "".join(decorators):
                    names.append(f"{path.stem}.{node.name}")
    return sorted(names)


def uses(path: Path) -> dict[str, set[str]]:
    """Returns the names that each function of a file refers to, both as MODULE.NAME."""
    tree, names = ast.parse(path.read_text()), {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.split(".")[-1]
            names.update({alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names})
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names.update({node.name: f"{path.stem}.{node.name}" for node in functions})
    references = {}
    for function in functions:
        nodes = list(ast.walk(function))
        direct = {names[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in names}
        attributes = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        references[f"{path.stem}.{function.name}"] = direct | attributes
    return references


def test_every_kernel_has_a_twin() -> None:
    assert sorted(name for entry in TWINS.values() for name in dotted(entry)) == kernels()


def test_twins_run_the_kernels_that_they_stand_for() -> None:
    graph: dict[str, set[str]] = {}
    for path in [*python_files("synth"), *(ROOT / "tests").glob("test_*.py")]:
        graph.update(uses(path))
    for test, names in TWINS.items():
        reached, ahead = set(), [test if "." in test else f"test_twins.{test}"]
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += graph.get(name, ())
        assert dotted(names) <= reached, test


def system_twin(key: int, count: int, low: float, high: float) -> np.ndarray:
    """Samples a system as Anderson & Farrell do: singular values one by one, within what the others leave."""
    stream = Stream(key)
    words = [stream.word() for _ in range(1 + 7 * count)]
    u = [(word >> 11) * 2.0**-53 for word in words]
    left, values = low + (high - low) * u[0], []
    for k in range(count - 1):
        later = 3 * (count - 1 - k)  # what the later maps can take at most
        least, most = max(0.0, (left - later) / 3), min(1.0, left)
        s1 = least + (most - least) * u[1 + 2 * k]
        least, most = max(0.0, (left - s1 - later) / 2), min(s1, (left - s1) / 2)
        s2 = least + (most - least) * u[2 + 2 * k]
        values.append((s1, s2))
        left -= s1 + 2 * s2
    least, most = max(0.0, (left - 1) / 2), left / 3
    s2 = least + (most - least) * u[2 * count - 1]
    values.append((left - 2 * s2, s2))
    rows = []
    for k, value in enumerate(values):
        first = 1 + 2 * count + 5 * k
        signs, turns, place = words[first], u[first + 1 : first + 3], u[first + 3 : first + 5]
        u_matrix, v_matrix = (rotation_twin(turn, signs >> 2 * i) for i, turn in enumerate(turns))
        linear = u_matrix @ np.diag(value) @ v_matrix
        rows.append([*linear.ravel(), *(2 * t - 1 for t in place), abs(np.linalg.det(linear))])
    system = np.array(rows)
    system[:, 6] /= system[:, 6].sum()
    return system


def rotation_twin(turns: float, signs: int) -> np.ndarray:
    cos, sin = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    return np.array([[cos, -sin], [sin, cos]]) @ np.diag([1 - 2 * (signs & 1), 1 - 2 * (signs >> 1 & 1)])


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_systems_are_sampled_as_by_their_twin(count: int) -> None:
    for key in range(20):
        interval = ((5 + count) / 2, (6 + count) / 2) if count > 1 else (1.0, 2.0)
        twin = system_twin(key, count, *interval)
        assert ifs.sample(np.uint64(key), count, *interval) == pytest.approx(twin, abs=1e-12)
    flat = np.zeros((4, 7))
    ifs.weigh(flat)
    assert flat[:, 6].tolist() == [0.25] * 4


def game_twin(system: np.ndarray, start: tuple[float, float], key: int, count: int) -> np.ndarray:
    """Plays 128 orbits side by side in single precision, 16 bits choosing a map: float32 (2, P).

    The first 32 steps are not counted."""
    shares = np.concatenate([[0.0], np.cumsum(system[:, 6])[:-1]]) / system[:, 6].sum()
    least, stream, seen = np.floor(65536 * shares + 0.5).astype(int), Stream(key), []
    x, y = (np.full(128, s, np.float32) for s in start)
    for _ in range(32 + -(-count // 128)):
        choices = np.array([stream.word() for _ in range(32)], np.uint64).view(np.uint16)
        a, b, c, d, e, f, _p = system.astype(np.float32)[np.searchsorted(least, choices, side="right") - 1].T
        x, y = a * x + b * y + e, c * x + d * y + f
        seen.append((x, y))
    return np.stack(seen[32:], axis=1).reshape(2, -1)[:, :count]


@pytest.mark.parametrize("maps", [1, 2, 3, 6])
def test_the_chaos_game_is_its_twins_to_the_bit(maps: int) -> None:
    system = system_twin(maps, maps, 1.0 + maps / 2, 1.5 + maps / 2)
    system[0, 6] *= 1.7  # probabilities need not sum to one
    points = ifs.points(system, start=(0.25, -0.5), key=9 + maps, count=1000)
    assert (np.stack(points) == game_twin(system, (0.25, -0.5), 9 + maps, 1000)).all()


def test_fixed_points_and_stretches_are_those_of_linear_algebra() -> None:
    for row in rng(1).uniform(-0.9, 0.9, (50, 7)):
        linear = row[:4].reshape(2, 2)
        assert ifs.fixed_point(row) == pytest.approx(np.linalg.solve(np.eye(2) - linear, row[4:6]), rel=1e-9)
        assert ifs.largest_stretch(*row[:4]) == pytest.approx(np.linalg.norm(linear, 2), rel=1e-12)


def test_lines_are_scattered_as_by_their_twin() -> None:
    u = np.array(uniforms(5, 80)).reshape(20, 4)
    length, angle = 0.2 + 0.5 * u[:, 2], 2 * np.pi * u[:, 3]
    expected = np.stack([u[:, 0], u[:, 1], length * np.sin(angle), length * np.cos(angle)], axis=1)
    assert lines.scatter(np.uint64(5), 20, 0.2, 0.7) == pytest.approx(expected, abs=1e-12)


def lines_twin(rows: np.ndarray, width: int, size: int) -> np.ndarray:
    """Returns the pixels of lines, bool (S, S): `width` a row of a steep one, or a column of a flat one."""
    cut = np.zeros((size, size), bool)
    for down, across, high, wide in rows:
        steep = abs(high) > abs(wide)
        slope = wide / high if steep else high / wide
        picture, (along, aside) = (cut, (down, across)) if steep else (cut.T, (across, down))
        steps = int(max(abs(high), abs(wide)) + 0.5)
        for offset in np.arange(steps) - (steps - 1) / 2:
            major, minor = math.floor(along + offset), math.floor(aside + slope * offset - (width - 1) / 2)
            if 0 <= major < size:
                picture[major, max(0, minor) : max(0, minor + width)] = True
    return cut


def test_lines_are_drawn_as_by_their_twin() -> None:
    rows = 60 * lines.scatter(np.uint64(3), 12, 0.05, 1.5)
    for width in (1, 2, 5):
        canvas, foreground = np.full((60, 60), 7, np.uint32), np.ones((60, 60), bool)
        lines.draw_lines(rows, width, canvas, foreground)
        cut = lines_twin(rows, width, 60)
        assert (foreground != cut).all() and (canvas == np.where(cut, 0, 7)).all() and 0 < cut.mean() < 1


def test_a_circle_is_the_librarys() -> None:
    angles = 2 * np.pi * np.arange(97) / 97
    expected = np.stack([np.cos(angles), np.sin(angles)])
    assert np.stack(trigonometry.circle(97)) == pytest.approx(expected, abs=1e-13)


def test_palettes_hold_a_colour_for_each_hue() -> None:
    for degrees in colour.HUE_MODES.values():
        expected = [int(colour.pixel(hue, 90, 200, degrees)) for hue in range(256)]
        assert colour.hues(90, 200, degrees).tolist() == expected


def test_counts_are_painted_as_by_their_twin() -> None:
    counts = rng(2).poisson(0.8, (9, 13)).astype(np.uint32) ** 3
    palette = rng(3).integers(1, 1 << 24, 256).astype(np.uint32)
    picture = np.full((9, 13), 5, np.uint32)
    lit = colour.paint_counts(counts, 33.7, palette, picture)
    hues = (counts.astype(np.float32) * np.float32(255 / counts.max()) + np.float32(33.7)).astype(int) % 256
    assert (lit == (counts > 0)).all() and (picture == np.where(counts > 0, palette[hues], 5)).all()


def test_heights_are_painted_as_by_their_twin() -> None:
    heights = rng(4).normal(0, 70000, (9, 9)).astype(np.int32)
    law = np.array([[140.0, 20.5], [50.0, 110.2], [-90.0, 130.7]])
    heights[0, :2] = -300_000, 300_000  # beyond the steps at both ends

    def coloured(height: int) -> int:
        x = min(4095, max(-4096, height >> 6)) / 1024
        hue = math.floor(law[0, 0] * x + law[0, 1]) % 256
        saturation, value = (min(255, max(0, int(gain * x + offset))) for gain, offset in law[1:])
        return int(colour.pixel(hue, saturation, value, 2.0))

    picture = colour.paint_heights(heights, 8, law, 2.0) & 0xFFFFFF
    assert picture.tolist() == [[coloured(height) for height in row] for row in heights[:8, :8].tolist()]


def test_levels_are_unpacked_and_weighed_as_by_their_twin() -> None:
    levels = rng(5).integers(0, 256, (7, 7, 4)).astype(np.uint8)
    picture = levels.view(np.uint32).reshape(7, 7)
    assert (colour.rgb(picture) == levels[..., :3]).all()
    luma = np.floor(levels[..., :3] @ np.array([19595, 38470, 7471]) / 65536 + 0.5)
    assert (colour.grey(picture)[..., 0] == luma).all()


def test_points_are_spread_as_by_their_twin() -> None:
    counts = rng(6).poisson(1.0, (14, 14)).astype(np.uint32)
    stencil = rng(7).integers(0, 2, (3, 3)).astype(np.uint8)
    expected = np.zeros((16, 16), int)
    for row, column in np.ndindex(14, 14):
        expected[row : row + 3, column : column + 3] += counts[row, column] * stencil
    lit, seen = fractals.spread(counts, stencil)
    assert (lit == expected[3:13, 3:13]).all() and seen == counts[2:-2, 2:-2].sum()


def resized(values: np.ndarray, side: int) -> np.ndarray:
    """Interpolates bilinearly between the middles of pixels: (H, H) -> (K, K)."""
    last = len(values) - 1
    places = np.clip((np.arange(side) + 0.5) / side * (last + 1) - 0.5, 0, last)
    weights = np.maximum(0, 1 - abs(places[:, None] - np.arange(last + 1)))
    return weights @ values @ weights.T


@pytest.mark.parametrize("edges", ["dark", "clean"])
@pytest.mark.parametrize("place", [(-5, 3, 32), (10, -2, 16), (4, 4, 8)])  # left, top, side
def test_figures_are_put_on_a_canvas_as_by_their_twin(edges: str, place: tuple[int, int, int]) -> None:
    figure = rng(17).integers(0, 256, (8, 8, 4)).astype(np.uint8)
    behind = rng(18).integers(0, 256, (24, 24, 4)).astype(np.uint8)
    lit = rng(19).random((8, 8)) < 0.4
    figure[~lit] = 0
    canvas, foreground = behind.copy().view(np.uint32)[..., 0], rng(20).random((24, 24)) < 0.1
    left, top, side = place
    rows, columns = (np.arange(max(0, first), min(24, first + side)) for first in (top, left))
    ours, theirs = np.ix_(rows, columns), np.ix_(rows - top, columns - left)
    levels = np.stack([np.floor(resized(figure[..., c], side) + 0.5) for c in range(3)], axis=2)[theirs]
    cover = resized(lit, side)[theirs]
    expected, shown = behind[..., :3].copy(), foreground.copy()
    if edges == "dark":
        expected[ours] = np.where(levels.any(axis=2, keepdims=True), levels, expected[ours])
        shown[ours] |= levels.any(axis=2)
    else:
        expected[ours] = np.minimum(255, np.floor(levels + expected[ours] * (1 - cover[..., None]) + 0.5))
        shown[ours] |= cover >= 0.5
    put = fractal_scenes.put_dark if edges == "dark" else fractal_scenes.put_clean
    put(figure.view(np.uint32)[..., 0], lit, np.array(place), canvas, foreground)
    assert (colour.rgb(canvas) == expected).all() and (foreground == shown).all()


def test_candidates_are_sampled_as_by_their_twin() -> None:
    system = np.array(uniforms(8, 18)).reshape(3, 6) * 2 - 1
    weights = abs(system[:, 0] * system[:, 3] - system[:, 1] * system[:, 2])
    candidate = fractaldb.candidate(np.uint64(8), 3)
    assert (candidate[:, :6] == system).all()
    assert candidate[:, 6] == pytest.approx(weights / weights.sum(), rel=1e-12)


def test_points_are_placed_and_counted_as_by_their_twins() -> None:
    points = tuple(rng(9).normal(size=(2, 500)).astype(np.float32))
    spans, size, margin = np.array([[-2.0, 4.5], [-1.5, 3.0]]), 40, 2.5  # some points lie outside
    expected = []
    for values, (low, extent) in zip(points, spans, strict=True):
        room = size - 2 * margin
        stretch, shift = np.float32(room / extent), np.float32(margin + 2 - low * room / extent)
        expected.append(np.clip(values * stretch + shift, np.float32(2), np.float32(size + 1.5)).astype(int))
    cells = fractaldb.place(points, spans, size, margin)
    assert (cells == expected[1] * (size + 4) + expected[0]).all()
    assert fractaldb.filled(cells, size) == len(set(cells.tolist()))


def test_patches_are_pasted_as_by_their_twin() -> None:
    size = 12
    places = rng(10).integers(2, size + 2, (30, 2))
    stream, expected = Stream(11), np.zeros((size + 4, size + 4), np.uint8)
    numbers = np.array([stream.word() for _ in range(8)], np.uint64).view(np.uint16)[:30].tolist()
    for (row, column), number in zip(places, numbers, strict=True):
        bits = 1 + (number * 511 >> 16)
        patch = np.array([127 * (bits >> k & 1) for k in range(9)]).reshape(3, 3)
        expected[row - 1 : row + 2, column - 1 : column + 2] = patch
    cells = (places[:, 0] * (size + 4) + places[:, 1]).astype(np.int32)
    assert (fractaldb.paste(cells, np.uint64(11), size) == expected).all()


def test_grey_statistics_are_those_of_numpy() -> None:
    pixels = rng(12).integers(0, 20, (11, 13, 1)).astype(np.uint8)
    mask = rng(13).random((11, 13)) < 0.2
    mask[:2], mask[:, -3:] = False, False
    stats, (rows, columns) = measure(Picture(pixels, mask)), np.nonzero(mask)
    assert stats["fill"] == mask.mean()
    assert stats["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    for name, side in (("foreground", mask), ("background", ~mask)):
        levels = pixels[side].ravel()
        mean, mode = round(float(levels.mean()), 2), np.bincount(levels).argmax()
        assert stats[name] == {"mean": [mean], "mode": [mode]}


def test_differences_are_summed_as_by_numpy() -> None:
    differences = rng(14).integers(0, 256, (5, 9, 3)).astype(np.uint8)
    assert (codecs._summed(differences) == np.cumsum(differences, axis=1, dtype=np.uint8)).all()


def code_lengths_twin(frequencies: Sequence[int], longest: int) -> list[int]:
    """Builds Huffman's code with a heap. Among equal weights, symbols come before nodes, older ones first."""
    weights = {symbol: count for symbol, count in enumerate(frequencies) if count}
    while True:
        order = sorted(weights, key=lambda symbol: (weights[symbol], symbol))
        heap = [(weights[symbol], i, [symbol]) for i, symbol in enumerate(order)]
        depths = Counter(order if len(order) == 1 else [])
        while len(heap) > 1:
            (light, _, ones), (heavy, _, others) = heapq.heappop(heap), heapq.heappop(heap)
            depths.update(ones + others)
            heapq.heappush(heap, (light + heavy, 2 * len(order) - len(heap), ones + others))
        if max(depths.values()) <= longest:
            return [depths[symbol] for symbol in range(len(frequencies))]
        weights = {symbol: (weight + 1) // 2 for symbol, weight in weights.items()}


def codes_twin(lengths: Sequence[int]) -> dict[int, str]:
    """Returns the canonical code (RFC 1951, 3.2.2) as bits in the order in which they are written."""
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - before
        codes[symbol], before = f"{code:0{length}b}", length
        code += 1
    return codes


def deflate_twin(data: bytes) -> bytes:
    """Writes one block of literals with a dynamic code, in a zlib stream (RFC 1951, 3.2.7; RFC 1950)."""
    counts = Counter([*data, 256])
    lengths = code_lengths_twin([counts[symbol] for symbol in range(257)], 15)
    written = [*lengths, 0]
    of_lengths = code_lengths_twin([Counter(written)[length] for length in range(19)], 7)
    listed = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    numbers = [(1, 1), (2, 2), (0, 5), (0, 5), (15, 4), *((of_lengths[i], 3) for i in listed)]
    codes, codes_of_lengths = codes_twin(lengths), codes_twin(of_lengths)
    bits = "".join(f"{value:0{width}b}"[::-1] for value, width in numbers)
    bits += "".join(codes_of_lengths[length] for length in written)
    bits += "".join(codes[symbol] for symbol in (*data, 256))
    block = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    return b"\x78\x01" + block + zlib.adler32(data).to_bytes(4, "big")


@pytest.mark.parametrize("size", [1, 5, 64, 999, 4096])
def test_deflated_bytes_are_those_of_their_twin(size: int) -> None:
    for levels in (1, 2, 30, 256):
        data = (rng(size).integers(0, levels, size) ** 2 // levels).astype(np.uint8)
        assert huffman.compress(data) == deflate_twin(data.tobytes())


def test_code_lengths_are_those_of_their_twin() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for frequencies, longest in [
        (fibonacci, 15),
        (fibonacci, 30),
        ([0, 4, 0], 15),
        *((row, 7) for row in rng(15).poisson(2, (20, 19)).tolist()),
    ]:
        lengths = huffman.code_lengths(np.array(frequencies), longest)
        assert lengths.tolist() == code_lengths_twin(frequencies, longest)


def picture_of(seed: int) -> np.ndarray:
    """Returns a ramp with noise, uint8 (12, 17, 3)."""
    ramp = np.arange(17)[None, :, None] * np.array([9, 3, 0])
    return (ramp + rng(seed).integers(0, 60, (12, 17, 3))).astype(np.uint8)


def test_judgements_are_those_of_numpy() -> None:
    for seed in range(5):
        pixels = picture_of(seed)
        share = np.bincount((pixels >> 4).reshape(-1, 3) @ np.array([256, 16, 1])).max() / (12 * 17)
        levels = pixels.mean(), pixels.std(axis=(0, 1)).max(), share
        assert judging._levels(pixels) == pytest.approx(levels, rel=1e-9)
        light = pixels.sum(axis=2) - pixels.sum(axis=2).mean()
        neighbours = (light[:, 1:], light[:, :-1]), (light[1:], light[:-1])
        likeness = [(a * b).mean() / light.var() for a, b in neighbours]
        assert judging._likeness(pixels) == pytest.approx(likeness, rel=1e-9)
    assert judging._likeness(np.full((4, 4, 3), 7, np.uint8)) == (1, 1)


def test_what_stands_out_is_that_of_numpy() -> None:
    for seed in range(5):
        pixels = picture_of(seed)
        boxes = (pixels >> 4) @ np.array([256, 16, 1])
        mode = pixels[boxes == np.bincount(boxes.ravel()).argmax()].astype(int)
        far = abs(pixels - mode.sum(axis=0) // len(mode)).max(axis=2) > 32
        assert (judging.foreground(pixels) == far).all() and 0 < far.mean() < 1


def test_rows_are_turned_upright_as_by_numpy() -> None:
    rows = rng(16).integers(0, 256, (6, 6, 4)).astype(np.uint8)
    assert (gl._upright(rows) == rows[::-1, :, :3]).all()
