import colorsys
import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import datasets, settings
from synth.errors import UserError
from synth.families import fractals
from synth.families.fractals import Config
from synth.images.pictures import Picture, UnfitError, measure
from synth.kernels import clouds, colour, ifs, lines
from synth.kernels.trigonometry import exponential
from synth.pipeline import RenderRequest, recipe_of
from synth.recipe import redraw
from synth.seeds import Stream

CHAIN = ["fractals", "fractals_without_color", "fractals_without_background", "fractals_corrupted_contour"]
GOLDEN = {
    "fractals": ["a01197de4c9d1520", "20495c0c34ecc4a8", "691d218da980e1d4"],
    "fractals_without_color": ["f6a58dd8691e4ca0", "650664e786d27a40", "34ba5dd059a02860"],
    "fractals_without_background": ["95fd8a944117a964", "b7c02478850cc489", "f1568fc8fa6d4381"],
    "fractals_corrupted_contour": ["db3f5c37d2ffb765", "8a900faa40fd7ed6", "a32f225ceef9fb63"],
    "fractals_multi": ["89593a96930bd2d3", "0319af849d825d14", "49c03a66d581a8c9"],
    "fractaldb": ["0e8991b0f5961a68", "4ea82913e1838766", "364c4ba0f890ebf5"],
}


def drawn(name: str, index: int, *, size: int = 128, settings: tuple[str, ...] = ()) -> tuple[Any, Picture]:
    return recipe_of(RenderRequest(name, 1, "", size=size, settings=settings)).render(index)


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_are_what_they_were(name: str) -> None:
    pictures = [drawn(name, index)[1].pixels.tobytes() for index in (0, 1, 1002)]
    assert [hashlib.sha256(pixels).hexdigest()[:16] for pixels in pictures] == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_picture_is_drawn_again_from_its_json(name: str) -> None:
    recipe = recipe_of(RenderRequest(name, 1, "", size=64))
    for index in (0, 1001):
        params, picture = recipe.render(index)
        metadata = json.loads(settings.canonical(recipe.describe(index, params, picture)))
        assert (redraw(metadata) == picture.pixels).all()
        assert settings.from_json(type(params), metadata["params"]) == params


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_have_the_channels_that_their_set_says(name: str) -> None:
    recipe = recipe_of(RenderRequest(name, 1, "", size=50))
    assert recipe.render(0)[1].pixels.shape == (50, 50, recipe.config.channels)
    assert recipe.config.channels == (1 if name in ("fractals_without_color", "fractaldb") else 3)


@pytest.mark.parametrize("index", range(8))
def test_without_color_is_the_luma_of_the_finished_picture(index: int) -> None:
    finished, grey = (drawn(name, index)[1].pixels for name in CHAIN[:2])
    assert (grey[..., 0] == (finished @ np.array([19595, 38470, 7471]) + 32768) >> 16).all()


@pytest.mark.parametrize("index", range(8))
def test_without_background_keeps_the_foreground(index: int) -> None:
    (params, finished), (bare, black) = (drawn(name, index) for name in (CHAIN[0], CHAIN[2]))
    assert bare == replace(params, clouds=()) and (black.foreground == finished.foreground).all()
    inner = ~dilated(~black.foreground) if params.sigma else black.foreground
    assert (black.pixels[inner] == finished.pixels[inner]).all()
    assert (black.pixels[~dilated(black.foreground)] == 0).all()


@pytest.mark.parametrize("index", range(8))
def test_corrupted_contour_is_without_background_cut_by_black_lines(index: int) -> None:
    (_, black), (params, cut) = (drawn(name, index) for name in CHAIN[2:])
    changed = (black.pixels != cut.pixels).any(axis=-1)
    assert params.lines == 100 and (cut.pixels[changed] == 0).all()
    assert (cut.foreground <= black.foreground).all() and (cut.foreground[changed] == 0).all()
    assert changed.sum() > 0.05 * black.foreground.sum()


def dilated(mask: np.ndarray) -> np.ndarray:
    """A mask with the eight neighbours of all that is in it."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.any([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


def test_lines_have_the_width_and_length_of_their_law() -> None:
    for key in range(20):
        canvas, foreground = np.full((300, 300), 7, np.uint32), np.ones((300, 300), bool)
        line = lines.scatter(np.uint64(key), 1, 0.1, 0.1)
        line[0, :2] = 0.5
        lines.draw_lines(300 * line, 3, canvas, foreground)
        rows, columns = np.nonzero(canvas == 0)
        assert len(rows) == 3 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
        assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(30, abs=3)
        assert (foreground == (canvas > 0)).all()
        assert abs(rows.mean() - 149.5) < 1 and abs(columns.mean() - 149.5) < 1


def test_lines_are_scattered_evenly() -> None:
    scattered = lines.scatter(np.uint64(1), 4000, 0.2, 0.8)
    lengths = np.hypot(scattered[:, 2], scattered[:, 3])
    for values, ends in ((scattered[:, 0], (0, 1)), (scattered[:, 1], (0, 1)), (lengths, (0.2, 0.8))):
        assert np.histogram(values, bins=4, range=ends)[0] == pytest.approx([1000] * 4, rel=0.1)
    assert scattered[:, 2:].mean(axis=0) == pytest.approx([0, 0], abs=0.02)


def test_fill_is_that_of_the_published_generator() -> None:
    config = Config(shift=(0.0, 0.0), zoom=(1.0, 1.0), jitter=(1.0, 1.0))
    dataset, fills = datasets.get("fractals"), []
    for index in range(1000):
        figure = replace(datasets.sample_params(dataset, config, seed=0, index=index), stencil=16)
        fills.append((fractals.density(figure, 256) > 0).mean())
    published = [0.058, 0.113, 0.178, 0.273, 0.453]
    assert np.quantile(fills, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx(published, rel=0.1)


def test_hues_up_to_150_degrees_are_twice_as_likely() -> None:
    colours = colour.hues(255, 255, colour.HUE_MODES["byte-wrap"])
    hues = [360 * colorsys.rgb_to_hsv(*rgb)[0] for rgb in colours.view(np.uint8).reshape(256, 4)[:, :3] / 255]
    counts = np.histogram(hues, bins=[0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 360])[0]
    assert counts == pytest.approx([30] * 5 + [15] * 7, abs=2)
    uniform = colour.hues(255, 255, colour.HUE_MODES["uniform"])
    assert len(set(uniform.tolist())) == 256 and len(set(colours.tolist())) == 180


def test_colours_are_those_of_colorsys() -> None:
    for hue, saturation, value in ((0, 255, 255), (75, 100, 200), (100, 37, 91), (200, 255, 128)):
        packed = int(colour.pixel(hue, saturation, value, 360 / 256))
        expected = [255 * level for level in colorsys.hsv_to_rgb(hue / 256, saturation / 255, value / 255)]
        assert [packed >> shift & 255 for shift in (0, 8, 16)] == pytest.approx(expected, abs=0.51)


def test_hue_runs_once_round_from_the_rarest_to_the_densest() -> None:
    counts, palette = np.array([[0, 1, 128, 256]], np.uint32), np.arange(256, dtype=np.uint32)
    picture = np.full((1, 4), 999, np.uint32)
    lit = colour.paint_counts(counts, 200.0, palette, picture)
    assert picture.tolist() == [[999, 200, (127 + 200) % 256, (255 + 200) % 256]]
    assert lit.tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("orientation", range(8))
def test_orientation_turns_the_figure(orientation: int) -> None:
    params = drawn("fractals", 3)[0]
    plain, turned = (fractals.density(replace(params, orientation=o), 96) for o in (0, orientation))
    assert (turned == ifs.turned(plain, orientation)).all()
    assert (turned != plain).any() == (orientation > 0)


def test_the_stencil_spreads_every_point() -> None:
    counts = np.zeros((12, 12), np.uint32)
    counts[5, 6] = 3
    stencil = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 0]], np.uint8)
    out, seen = fractals.spread(counts, stencil)
    expected = np.zeros((8, 8), int)
    expected[2:5, 3:6] = 3 * stencil
    assert (out == expected).all() and seen == 3


def test_points_a_pixel_outside_reach_in_and_others_do_not() -> None:
    counts = np.zeros((8, 8), np.uint32)
    counts[1, 3], counts[0, 4] = 1, 5
    out, seen = fractals.spread(counts, np.ones((3, 3), np.uint8))
    assert out.tolist() == [[1, 1, 1, 0], *[[0] * 4] * 3] and seen == 0


def test_jitter_scales_one_map_and_never_beyond_a_contraction() -> None:
    dataset, changed = datasets.get("fractals"), 0
    for index in range(200):
        system = ifs.array(datasets.sample_class(dataset, Config(), seed=0, number=index))
        maps = ifs.array(datasets.sample_params(dataset, Config(), seed=0, index=index).maps)
        rows = np.flatnonzero((maps != system).any(axis=1))
        changed += len(rows)
        assert len(rows) <= 1 and max(ifs.largest_stretch(*row[:4]) for row in maps) <= 1
        for row in rows:
            factors = maps[row, :6] / system[row, :6]
            assert np.ptp(factors) < 1e-12 and 0.8 <= factors[0] <= 1.1
            assert maps[row, 6] / system[row, 6] == pytest.approx(factors[0] ** 2)
    assert changed > 150


def cloud_twin(key: int, size: int, decay: float) -> np.ndarray:
    """Diamond-square in NumPy."""
    stream, most = Stream(key), 32768.0
    grid = np.array([stream.word() >> 48 for _ in range(4)]).reshape(2, 2)
    while len(grid) <= size:
        steps = len(grid) - 1

        def noise(rows: int, columns: int, most: float = most, steps: int = steps) -> np.ndarray:
            words = np.array([[stream.word() for _ in range(steps // 4 + 1)] for _ in range(rows)], np.uint64)
            return (words.view(np.uint16).astype(int)[:, :columns] - 32768) * int(most) >> 15

        fine = np.zeros((2 * steps + 1, 2 * steps + 1), int)
        fine[::2, ::2] = grid
        middles = ((grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:]) >> 2) + noise(steps, steps)
        around = np.pad(middles, 1, mode="wrap")
        fine[1::2, 1::2] = middles
        rows = (grid[:, :-1] + grid[:, 1:] + around[:-1, 1:-1] + around[1:, 1:-1]) >> 2
        columns = (grid[:-1] + grid[1:] + around[1:-1, :-1] + around[1:-1, 1:]) >> 2
        fine[::2, 1::2] = rows + noise(steps + 1, steps)
        fine[1::2, ::2] = columns + noise(steps, steps + 1)
        grid, most = fine, most * exponential(-decay)
    return grid


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_clouds_are_diamond_square(size: int) -> None:
    assert (clouds.heights(np.uint64(7), size, 0.5) == cloud_twin(7, size, 0.5)).all()


def test_a_smaller_decay_makes_rougher_clouds() -> None:
    steps = [
        [np.diff(clouds.heights(np.uint64(key), 64, decay)).std() for key in range(30)]
        for decay in (0.4, 0.8)
    ]
    assert np.mean(steps[0]) > 1.5 * np.mean(steps[1])


def test_a_cloud_is_coloured_by_its_height() -> None:
    law = np.array([[100.0, 20.0], [50.0, 110.0], [400.0, 100.0]])
    picture = colour.paint_heights(np.array([[0, 65536], [-16384, 163840]], np.int32), 2, law, 2.0)
    expected = [[(20, 110, 100), (120, 160, 255)], [(251, 97, 0), (270 % 256, 235, 255)]]
    assert (picture & 0xFFFFFF).tolist() == [[int(colour.pixel(*c, 2.0)) for c in row] for row in expected]


@pytest.mark.parametrize("side", [1, 2, 3, 40])
def test_blur_is_gaussian_to_a_level(side: int) -> None:
    levels = np.random.default_rng(side).integers(0, 256, (side, side, 4)).astype(np.uint8)
    packed = colour.blur(levels.view(np.uint32).reshape(side, side), 0.7)
    blurred = packed.view(np.uint8).reshape(side, side, 4)
    weights = np.exp(-np.array([1, 0, 1]) / (2 * 0.7**2))
    weights /= weights.sum()
    padded = np.pad(levels.astype(float), ((1, 1), (1, 1), (0, 0)), mode="reflect" if side > 1 else "edge")
    shifts = [(i, j) for i in range(3) for j in range(3)]
    expected = sum(weights[i] * weights[j] * padded[i : i + side, j : j + side] for i, j in shifts)
    assert abs(blurred - expected).max() < 2


def test_a_blank_view_is_drawn_anew_and_counted() -> None:
    index = 1486  # found by looking
    first = datasets.sample_params(datasets.get("fractals"), Config(), seed=0, index=index)
    with pytest.raises(UnfitError, match="shows no part"):
        fractals.render(first, 64)
    recipe = recipe_of(RenderRequest("fractals", 1, "", size=64))
    params, picture = recipe.render(index)
    assert params.redraws == recipe.encode(index).redraws == 1
    assert picture.foreground.any() and params.point_key != first.point_key
    assert {drawn(name, index)[0].redraws for name in CHAIN} == {1}


def test_a_diverging_class_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("3,0,0,3,1,1,1\n3,0,0,3,2,1,1\n")
    with pytest.raises(UserError, match="showed nothing in 100 draws: its points diverge"):
        drawn("fractals", 0, settings=(f"table={tmp_path}", "jitter=1,1"))


def test_a_scene_lists_its_fractals_with_classes_and_boxes() -> None:
    dataset, counts = datasets.get("fractals_multi"), []
    single = datasets.get("fractals")
    for index in range(100):
        params = drawn("fractals_multi", index, size=64)[0]
        counts.append(len(params.figures))
        assert params.figures[0].number == index
        for figure in params.figures:
            system = datasets.sample_class(single, Config(), seed=0, number=figure.number)
            assert figure.maps == system
            left, top, right, bottom = figure.box
            assert 0.15 <= right - left <= 0.6 and bottom - top == pytest.approx(right - left)
            assert 0 <= (left + right) / 2 <= 1 and 0 <= (top + bottom) / 2 <= 1
    assert set(counts) == {1, 2, 3, 4, 5} and dataset.stream == "fractals"


def test_figures_are_drawn_within_their_boxes() -> None:
    for index in range(10):
        params, picture = drawn("fractals_multi", index)
        allowed = np.zeros((128, 128), bool)
        for left, top, right, bottom in (figure.box for figure in params.figures):
            sides = ((top, bottom), (left, right))
            rows, columns = (slice(max(0, round(a * 128)), max(0, round(b * 128) + 1)) for a, b in sides)
            allowed[rows, columns] = True
        assert (picture.foreground <= allowed).all()


def test_dark_edges_outline_figures_and_clean_ones_do_not() -> None:
    luma = {}
    for edges in ("dark", "clean"):
        settings = (f"edges={edges}", "blur=0")
        pictures = [drawn("fractals_multi", index, settings=settings)[1] for index in range(12)]
        pictures = [p for p in pictures if p.foreground.any()]
        rims = [p.pixels[p.foreground & dilated(~p.foreground)].mean() for p in pictures]
        luma[edges] = np.mean(rims)
    assert luma["dark"] < 0.7 * luma["clean"]


def measure_twin(picture: Picture) -> dict[str, Any]:
    """The statistics of an RGB picture by NumPy and exact fractions."""
    stats: dict[str, Any] = {"fill": picture.foreground.mean()}
    rows, columns = np.nonzero(picture.foreground)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None
    stats["box"] = [int(edge) for edge in box] if box else None
    for name, mask in (("foreground", picture.foreground), ("background", ~picture.foreground)):
        pixels = picture.pixels[mask].astype(int)
        if not len(pixels):
            stats[name] = {"mean": None, "mode": None}
            continue
        boxes = pixels // 16 @ np.array([256, 16, 1])
        modal = pixels[boxes == np.bincount(boxes).argmax()]
        mode = [round(Fraction(int(total), len(modal))) for total in modal.sum(axis=0)]
        mean = [round(int(total) / len(pixels), 2) for total in pixels.sum(axis=0)]
        stats[name] = {"mean": mean, "mode": mode}
    return stats


@pytest.mark.parametrize("case", ["drawn", "odd", "blank", "full"])
def test_colour_statistics_are_those_of_numpy(case: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (7, 9, 3)).astype(np.uint8)
    picture = {
        "drawn": drawn("fractals", 0)[1],
        "odd": Picture(noise, rng.random((7, 9)) < 0.5),
        "blank": Picture(noise, np.zeros((7, 9), bool)),
        "full": Picture(noise, np.ones((7, 9), bool)),
    }[case]
    assert measure(picture) == measure_twin(picture)


KINDS = ("colour=sepia", "backdrop=green", "hue_mode=odd")
RANGES = ("maps=0,3", "points=0", "lines=-1", "zoom=0,1", "sigma=0,1", "value=0,2")


@pytest.mark.parametrize("setting", KINDS + RANGES)
def test_settings_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"setting {setting.split('=')[0]} cannot be"):
        drawn("fractals", 0, settings=(setting,))


@pytest.mark.parametrize("setting", ["edges=soft", "figures=0,2", "figures=1,1001", "side=0,1"])
def test_scene_settings_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"setting {setting.split('=')[0]} cannot be"):
        drawn("fractals_multi", 0, settings=(setting,))
