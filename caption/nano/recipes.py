"""Recipes of the shipped encoders: their training sets, and the sets of their exam.

Nearly every formula picture has a class of its own. The shaders of the exam have one program less than those
of the fit, so that their classes differ. The scenes of a fit are those of the train split. An exam has scenes
of both splits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from caption.nano.fitting import FitRequest
from synth.errors import UserError

_PLACE = "data/shards/nano"
_FIT_SEED, _EXAM_SEED = 1001, 1002
_ONE_CLASS_A_PICTURE = ("classes=20000",)


class FormulaSet(NamedTuple):
    """A set of formula pictures, made by `python -m synth shards`."""

    dataset: str
    size: int  # pixels a side
    pictures: int
    settings: tuple[str, ...] = ()  # KEY=VALUE each

    def command(self, folder: str, seed: int) -> list[str]:
        """Returns the words after `python -m`."""
        size, n = str(self.size), str(self.pictures)
        out = f"{_PLACE}/{folder}/{self.dataset}-{self.size}"
        settings = [word for setting in self.settings for word in ("--set", setting)]
        words = ["synth", "shards", self.dataset, "--size", size, "--n", n, *settings]
        return [*words, "--seed", str(seed), "--out", out, "--shard-size", "2048"]


@dataclass(frozen=True)
class EncoderRecipe:
    """A fit: its formula sets by folder, the sides of its emoji, and its length."""

    fit: Mapping[str, tuple[FormulaSet, ...]]
    exam: Mapping[str, tuple[FormulaSet, ...]]
    visits: int
    start: str = ""  # the encoder to start from
    emoji: tuple[int, ...] = ()  # pixels a side; the first is also examined

    def commands(self) -> Iterator[list[str]]:
        """Yields the commands that make the sets, each as the words after `python -m`."""
        for folders, seed in ((self.fit, _FIT_SEED), (self.exam, _EXAM_SEED)):
            for folder, sets in folders.items():
                for formula_set in sets:
                    yield formula_set.command(folder, seed)
        for size in self.emoji:
            yield ["data", "emoji", "--out", f"{_PLACE}/emoji-{size}", "--size", str(size)]

    def request(self, out: str, *, seed: int, visits: int | None, threads: int) -> FitRequest:
        """Returns the request of the fit. `visits` replaces the recipe's number, and the fit an encoder."""
        # Sets.
        shards = [*(f"{_PLACE}/{folder}" for folder in self.fit)]
        shards += [f"{_PLACE}/emoji-{size}/train" for size in self.emoji]
        exam = [*(f"{_PLACE}/{folder}" for folder in self.exam)]
        exam += [f"{_PLACE}/emoji-{size}/test" for size in self.emoji[:1]]

        # Request.
        visits = self.visits if visits is None else visits
        return FitRequest(
            tuple(shards),
            out,
            tuple(exam),
            start=self.start,
            seed=seed,
            visits=visits,
            threads=threads,
            replaces=True,
        )


def get(name: str) -> EncoderRecipe:
    """Returns the recipe of this name. Raises UserError, which lists all names, if it is unknown."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


def _families(size: int, most: int, grey: int, black: int) -> list[FormulaSet]:
    """Returns sets of visual atoms and fractals of one size.

    Sets without colour or with corrupted contours have `grey` pictures, the set without background has
    `black`, and all others have `most`."""
    pictures = {
        "visual_atoms": most,
        "fractals": most,
        "fractals_multi": most,
        "fractals_without_color": grey,
        "fractals_without_background": black,
        "fractals_corrupted_contour": grey,
    }
    return [FormulaSet(name, size, count, _ONE_CLASS_A_PICTURE) for name, count in pictures.items()]


def _fractaldb(size: int, pictures: int) -> FormulaSet:
    return FormulaSet("fractaldb", size, pictures, ("classes=3000",))


def _shaders(size: int, pictures: int) -> FormulaSet:
    return FormulaSet("shaders", size, pictures, ("classes=21000",))


def _scenes(pictures: int, *settings: str) -> tuple[FormulaSet, ...]:
    """Returns sets of scenes: both data sets at both sizes."""
    return tuple(
        FormulaSet(name, size, pictures, settings) for name in ("scenes", "scenes_flat") for size in (32, 64)
    )


_SMALL = (128, 64, 32)  # further sizes of the fit, pixels a side
_FIT = (
    *_families(256, 10_000, 4_000, 5_000),
    *(formula_set for size in _SMALL for formula_set in _families(size, 1_500, 600, 800)),
    _fractaldb(256, 6_000),
    *(_fractaldb(size, 1_000) for size in _SMALL),
    _shaders(256, 10_000),
    *(_shaders(size, 1_500) for size in _SMALL),
)
_FEWER = (
    *_families(256, 2_000, 800, 1_000),
    *_families(64, 1_000, 400, 500),
    *(_fractaldb(256, 1_500), _fractaldb(64, 500)),
    *(_shaders(256, 2_000), _shaders(64, 1_000)),
)
_EXAM = (
    *_families(256, 600, 250, 300),
    _fractaldb(256, 400),
    FormulaSet("shaders", 256, 765, ("structures=255",)),
)

RECIPES = {
    "nano": EncoderRecipe({"fitted": _FIT}, {"exam": _EXAM}, visits=700_000),
    "nano-emoji": EncoderRecipe(
        {"fitted": _FIT}, {"exam": _EXAM}, visits=320_000, start="nano", emoji=(64, 32)
    ),
    "nano-scenes": EncoderRecipe(
        {"fewer": _FEWER, "scenes": _scenes(15_000, "split=train")},
        {"exam": _EXAM, "exam-scenes": _scenes(600)},
        visits=150_000,
        start="nano",
    ),
}
