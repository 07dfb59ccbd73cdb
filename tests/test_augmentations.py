"""Augmentations beside torchvision's: train/stream/augmentations.py."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from caption.lean_imports import import_torchvision
from train.stream import augmentations
from train.stream.augmentations import Augmentations

import_torchvision()
from torchvision.transforms import RandomResizedCrop, functional  # noqa: E402 (needs the operators)

LEVEL = 1.01 / 255  # of Pillow's rounding at each step
NONE = Augmentations(crop=1, flip=0, jitter=0, grey=0, blur=0, down=0)


def picture(side: int = 32) -> np.ndarray:
    """A smooth picture with an edge."""
    y, x = np.mgrid[:side, :side] / side
    planes = [np.sin(5 * x + y) / 2 + 0.5, y * 0.8, np.where(x > y, 0.9, 0.2)]
    return (255 * np.stack(planes, 2)).round().astype(np.uint8)


def planes(image: Image.Image | np.ndarray) -> torch.Tensor:
    """A picture as torchvision's functions take tensors: (3, R, R) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_a_view_depends_on_picture_and_numbers_alone() -> None:
    full = Augmentations()
    views = [full(picture(), numbers(seed)) for seed in range(6)]
    assert all(view.shape == (32, 32, 3) and view.dtype == np.uint8 for view in views)
    assert len({view.tobytes() for view in views}) == 6
    again = pickle.loads(pickle.dumps(full))(picture(), numbers(3))
    assert np.array_equal(again, views[3])
    assert np.array_equal(NONE(picture(), numbers()), picture())
    assert NONE(picture()[:, :, :1], numbers()).shape == (32, 32, 3)


def test_a_setting_changes_no_other_augmentation() -> None:
    """Without flips a view is the same view, or its mirror image."""
    plain, flipped = (Augmentations(flip=p, blur=0, down=0) for p in (0.0, 1.0))
    for seed in range(5):
        one, other = plain(picture(), numbers(seed)), flipped(picture(), numbers(seed))
        # Contrast rounds a mean, which is the same for both.
        assert np.array_equal(one, other[:, ::-1])


def test_a_crop_is_torchvisions() -> None:
    box = (3, 5, 20, 25)
    ours = planes(augmentations.cropped(Image.fromarray(picture()), box))
    left, top, right, bottom = box
    theirs = functional.resized_crop(
        planes(picture()),
        top,
        left,
        bottom - top,
        right - left,
        [32, 32],
        functional.InterpolationMode.BICUBIC,
        antialias=True,
    )
    assert (ours - theirs.clamp(0, 1)).abs().max() < 2 * LEVEL


def test_crops_have_torchvisions_law() -> None:
    """Means and deviations of the four numbers of a crop, over 1,500 draws, within five standard errors."""
    torch.manual_seed(0)
    blank = torch.zeros(3, 64, 64)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(1500)])
    random = numbers()
    boxes = [augmentations.box(random.random((10, 2)), random.random(2), 0.08, 64) for _ in range(1500)]
    ours = np.array([(top, left, bottom - top, right - left) for left, top, right, bottom in boxes])
    spread = theirs.std(0)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * spread * np.sqrt(2 / 1500)).all()
    assert (np.abs(ours.std(0) / spread - 1) < 0.12).all()


@pytest.mark.parametrize(
    ("number", "name"), [(0, "adjust_brightness"), (1, "adjust_contrast"), (2, "adjust_saturation")]
)
@pytest.mark.parametrize("change", [-0.4, 0.3])
def test_light_and_colour_are_torchvisions(number: int, name: str, change: float) -> None:
    changes = [0.0] * 4
    changes[number] = change
    ours = planes(augmentations.jittered(Image.fromarray(picture()), changes, np.arange(4)))
    theirs = getattr(functional, name)(planes(picture()), 1 + change)
    assert (ours - theirs).abs().max() < 2 * LEVEL


@pytest.mark.parametrize("turn", [-0.1, 0.05])
def test_the_hue_is_torchvisions(turn: float) -> None:
    image = Image.fromarray(picture())
    ours, theirs = augmentations.turned(image, turn), functional.adjust_hue(image, turn)
    assert np.array_equal(np.array(ours), np.array(theirs))
    assert (planes(ours) - functional.adjust_hue(planes(picture()), turn)).abs().mean() < 2 * LEVEL


def test_grey_is_torchvisions() -> None:
    ours = Augmentations(crop=1, flip=0, jitter=0, grey=1, blur=0, down=0)(picture(), numbers())
    theirs = functional.rgb_to_grayscale(planes(picture()), 3)
    assert (planes(ours) - theirs).abs().max() < LEVEL


def test_the_blur_is_torchvisions() -> None:
    """Pillow's blur is three box blurs, which differ from a Gaussian by some levels at an edge."""
    from PIL import ImageFilter

    side = 224
    ours = planes(Image.fromarray(picture(side)).filter(ImageFilter.GaussianBlur(2.0)))
    theirs = functional.gaussian_blur(planes(picture(side)), [23, 23], [2.0, 2.0])
    inside = slice(16, -16)
    assert (ours - theirs)[:, inside, inside].abs().max() < 6 * LEVEL


def test_down_sampling_is_torchvisions() -> None:
    ours = planes(augmentations.resampled(Image.fromarray(picture()), 9))
    small = functional.resize(planes(picture()), [9, 9], functional.InterpolationMode.BICUBIC, antialias=True)
    theirs = functional.resize(
        small.clamp(0, 1), [32, 32], functional.InterpolationMode.BICUBIC, antialias=True
    )
    assert (ours - theirs.clamp(0, 1)).abs().max() < 3 * LEVEL


@pytest.mark.parametrize("change", [{"crop": 0}, {"crop": 1.1}, {"hue": 0.6}, {"blur": -0.1}])
def test_values_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Augmentations(**change)
