import numpy as np
import pytest

from synth.images.pictures import Picture, box_average, contact_sheet, measure

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "factor"), [(1, 1), (7, 1), (5, 2), (4, 3), (3, 8), (1, 16)])
def test_box_average_is_the_mean_rounded_half_up(size: int, factor: int) -> None:
    canvas = RNG.integers(0, 256, (size * factor, size * factor), np.uint8)
    sums = canvas.reshape(size, factor, size, factor).sum(axis=(1, 3), dtype=int)
    assert np.array_equal(box_average(canvas, size), np.floor(sums / factor**2 + 0.5))


def test_box_average_refuses_a_canvas_that_is_no_multiple() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        box_average(np.zeros((10, 10), np.uint8), 4)


def test_measures_of_a_grey_rectangle() -> None:
    pixels = np.zeros((10, 20, 1), np.uint8)
    pixels[2:5, 4:10] = 100
    pixels[2, 4] = 10
    stats = measure(Picture(pixels, pixels[..., 0] > 0))
    assert stats["fill"] == 18 / 200
    assert stats["box"] == [4, 2, 10, 5]
    assert stats["foreground"] == {"mean": [95.0], "mode": [100]}
    assert stats["background"] == {"mean": [0.0], "mode": [0]}


def test_measures_of_a_coloured_picture_follow_the_mask() -> None:
    pixels = np.full((8, 8, 3), (10, 20, 200), np.uint8)
    pixels[:4] = (250, 0, 0)
    pixels[0, 0] = (0, 0, 0)  # drawn black: still foreground
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    stats = measure(Picture(pixels, mask))
    assert stats["fill"] == 0.5 and stats["box"] == [0, 0, 8, 4]
    assert stats["foreground"] == {"mean": [242.19, 0.0, 0.0], "mode": [250, 0, 0]}
    assert stats["background"] == {"mean": [10.0, 20.0, 200.0], "mode": [10, 20, 200]}


def test_measures_agree_with_numpy_on_noise() -> None:
    pixels = RNG.integers(0, 256, (33, 17, 3), np.uint8)
    mask = RNG.random((33, 17)) < 0.3
    stats = measure(Picture(pixels, mask))
    assert stats["fill"] == mask.mean()
    assert np.allclose(stats["foreground"]["mean"], pixels[mask].mean(axis=0), atol=0.006)
    assert np.allclose(stats["background"]["mean"], pixels[~mask].mean(axis=0), atol=0.006)


def test_an_empty_picture_has_no_box_and_no_foreground_colour() -> None:
    stats = measure(Picture(np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), bool)))
    assert stats["fill"] == 0 and stats["box"] is None
    assert stats["foreground"] == {"mean": None, "mode": None}


def test_contact_sheet_places_pictures_row_by_row() -> None:
    sheet = contact_sheet([np.full((16, 16, 1), v, np.uint8) for v in (10, 20, 30)], columns=2, gap=4)
    assert sheet.shape == (44, 44, 1)
    assert [sheet[10, 10, 0], sheet[10, 30, 0], sheet[30, 10, 0]] == [10, 20, 30]
    assert sheet[30, 30, 0] == 64
