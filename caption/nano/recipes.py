"""Recipes of the shipped encoders: their training sets, and the sets of their exam.

Nearly every formula picture has a class of its own. The shaders of the exam have one program less than those
of the fit, so that their classes differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from caption.nano.fitting import FitRequest
from synth.errors import UserError

_PLACE = "data/shards/nano"
_FIT_SEED, _EXAM_SEED = 1001, 1002
_ONE_CLASS_A_PICTURE = "classes=20000"


class FormulaSet(NamedTuple):
    """A set of formula pictures, made by `python -m synth shards`."""

    dataset: str
    size: int  # pixels a side
    pictures: int
    setting: str

    def command(self, folder: str, seed: int) -> list[str]:
        """Returns the words after `python -m`."""
        size, n = str(self.size), str(self.pictures)
        out = f"{_PLACE}/{folder}/{self.dataset}-{self.size}"
        words = ["synth", "shards", self.dataset, "--size", size, "--n", n, "--set", self.setting]
        return [*words, "--seed", str(seed), "--out", out, "--shard-size", "2048"]


@dataclass(frozen=True)
class EncoderRecipe:
    """A fit: its formula sets, the sides of its emoji, and its length."""

    fit: tuple[FormulaSet, ...]
    exam: tuple[FormulaSet, ...]
    visits: int
    start: str = ""  # the encoder to start from
    emoji: tuple[int, ...] = ()  # pixels a side; the first is also examined

    def commands(self) -> Iterator[list[str]]:
        """Yields the commands that make the sets, each as the words after `python -m`."""
        for formula_set in self.fit:
            yield formula_set.command("fitted", _FIT_SEED)
        for formula_set in self.exam:
            yield formula_set.command("exam", _EXAM_SEED)
        for size in self.emoji:
            yield ["data", "emoji", "--out", f"{_PLACE}/emoji-{size}", "--size", str(size)]

    def request(self, out: str, *, seed: int, visits: int | None, threads: int) -> FitRequest:
        """Returns the request of the fit. `visits` replaces the recipe's number."""
        # Sets.
        shards = [f"{_PLACE}/fitted", *(f"{_PLACE}/emoji-{size}/train" for size in self.emoji)]
        exam = [f"{_PLACE}/exam", *(f"{_PLACE}/emoji-{size}/test" for size in self.emoji[:1])]

        # Request.
        visits = self.visits if visits is None else visits
        return FitRequest(
            tuple(shards), out, tuple(exam), start=self.start, seed=seed, visits=visits, threads=threads
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


_SMALL = (128, 64, 32)  # further sizes of the fit, pixels a side
_FIT = (
    *_families(256, 10_000, 4_000, 5_000),
    *(formula_set for size in _SMALL for formula_set in _families(size, 1_500, 600, 800)),
    FormulaSet("fractaldb", 256, 6_000, "classes=3000"),
    *(FormulaSet("fractaldb", size, 1_000, "classes=3000") for size in _SMALL),
    FormulaSet("shaders", 256, 10_000, "classes=21000"),
    *(FormulaSet("shaders", size, 1_500, "classes=21000") for size in _SMALL),
)
_EXAM = (
    *_families(256, 600, 250, 300),
    FormulaSet("fractaldb", 256, 400, "classes=3000"),
    FormulaSet("shaders", 256, 765, "structures=255"),
)

RECIPES = {
    "nano": EncoderRecipe(_FIT, _EXAM, visits=700_000),
    "nano-emoji": EncoderRecipe(_FIT, _EXAM, visits=320_000, start="nano", emoji=(64, 32)),
}
