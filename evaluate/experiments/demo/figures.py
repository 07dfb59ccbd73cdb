"""The measurements of a demo's runs, and their result: one sentence, computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt
from pathlib import Path
from typing import Any, NamedTuple

from evaluate import results
from evaluate.experiments.demo.plan import DETECTOR, FINETUNED, PRETRAINED, SCRATCH, UNTRAINED, Places, Plan

THOUSAND = 1000  # KID is printed times a thousand

_KID = f"KD ({DETECTOR})"  # its name on another net than Inception
_AGREEMENT = "attribute agreement: "
_NORMAL = 1.96  # standard errors either way that hold 95 %

Json = dict[str, Any]


class Point(NamedTuple):
    """KID of a checkpoint, times a thousand."""

    images_seen: int
    value: float
    error: float  # standard

    @property
    def interval(self) -> float:
        """Half of the 95 % interval."""
        return _NORMAL * self.error

    def __str__(self) -> str:
        return f"{self.value:.0f} ± {self.interval:.0f}"


@dataclass(frozen=True)
class DemoFigures:
    """KID of every measured checkpoint, and attribute agreement."""

    untrained: Point
    finetuned: list[Point]  # from 0 emoji, the pre-trained model, on
    scratch: list[Point]  # carried on to the end
    at: int  # emoji seen at the end of `finetuned`
    pictures: int  # drawn of each checkpoint
    reference: int  # held-out emoji of the comparison
    agreement: list[Json]

    @property
    def same(self) -> Point:
        """The run from scratch after as many emoji as the fine-tuned run has seen in the end."""
        return next(p for p in self.scratch if p.images_seen >= self.at)

    @property
    def swing(self) -> float:
        """The standard deviation of KID from one checkpoint to the next, with any trend."""
        return swing([self.finetuned[1:], self.scratch])

    @property
    def sentence(self) -> str:
        """The conclusion from the curves."""
        ends = [
            p._replace(error=hypot(p.error, self.swing))
            for p in (self.finetuned[-1], self.same, self.scratch[-1])
        ]
        return sentence(*ends, untrained=self.untrained)

    def row(self) -> Json:
        """Returns all figures as plain JSON."""
        curves = {"untrained": [self.untrained], "finetuned": self.finetuned, "scratch": self.scratch}
        kid = {name: [p._asdict() for p in points] for name, points in curves.items()}
        return {
            "sentence": self.sentence,
            "swing": self.swing,
            "kid_x_1000": kid,
            "agreement": self.agreement,
        }


def read(plan: Plan, at: Places) -> DemoFigures:
    """Returns the figures of a demo with finished steps."""
    rows = {name: _rows(at.run(name)) for name in (PRETRAINED, FINETUNED, SCRATCH, UNTRAINED)}
    kid = {
        name: [r for r in found if r["metric"] == _KID and r["n"] == min(plan.measured, r["reference_n"])]
        for name, found in rows.items()
    }
    points = {name: [_point(row) for row in found] for name, found in kid.items()}
    terms = kid[SCRATCH][-1]
    before = points[PRETRAINED][-1]._replace(images_seen=0)
    agreement = [row for row in rows[PRETRAINED] if row["metric"].startswith(_AGREEMENT)]
    return DemoFigures(
        untrained=points[UNTRAINED][-1],
        finetuned=[before, *points[FINETUNED]],
        scratch=points[SCRATCH],
        at=points[FINETUNED][-1].images_seen,
        pictures=terms["n"],
        reference=terms["reference_n"],
        agreement=[{**row, "fact": row["metric"].removeprefix(_AGREEMENT)} for row in agreement],
    )


def swing(curves: Sequence[Sequence[Point]]) -> float:
    """Returns the standard deviation of a checkpoint's value, from differences d of neighbours.

    It is sqrt(mean d^2 / 2): von Neumann et al., Annals of Mathematical Statistics 1941."""
    differences = [b.value - a.value for curve in curves for a, b in pairwise(curve)]
    return sqrt(sum(d * d for d in differences) / (2 * len(differences))) if differences else 0.0


def sentence(finetuned: Point, scratch: Point, longer: Point, *, untrained: Point) -> str:
    """Returns the conclusion about pre-training from the ends of the curves, in one sentence.

    Two figures differ if their difference is outside of its 95 % interval. DemoFigures are not compared before
    both are better than an untrained generator."""
    bad = {
        name: p
        for name, p in (("the pre-trained run", finetuned), ("the run from scratch", scratch))
        if not _lower(p, untrained)
    }
    if bad:
        who = " and ".join(f"{name} ({p})" for name, p in bad.items())
        return (
            f"Nothing can be said of pre-training yet: after {scratch.images_seen:,} emoji {who} {'is' if len(bad) == 1 else 'are'} "
            f"no better than a generator that was never trained ({untrained}), and pictures as bad as that are not ranked by their KID."
        )
    short, long = _compared(finetuned, scratch), _compared(finetuned, longer)
    joint = "and" if short == long else "but"
    return (
        f"Having seen {scratch.images_seen:,} emoji, the pre-trained run has {_CLAUSES[short]} the run from scratch ({finetuned} against "
        f"{scratch}), {joint} {_CLAUSES[long]} the run from scratch carried on until it had seen {longer.images_seen:,}, as many as "
        f"the other had with its formula pictures ({longer}): {_CONCLUSIONS[short, long]}."
    )


_CLAUSES = {-1: "a lower KID than", 0: "a KID that cannot be told from that of", 1: "a higher KID than"}
_SPENT = "the same computing time spent on emoji"
_WORSE = "the same computing time was better spent on emoji"
_CONCLUSIONS = {
    (-1, -1): f"pre-training was worth more here than {_SPENT}",
    (-1, 0): f"pre-training is a head start, worth about as much as {_SPENT}",
    (-1, 1): f"pre-training is a head start, but {_WORSE}",
    (
        0,
        -1,
    ): "at equal emoji the figures do not tell whether pre-training helped, and the longer run has become worse than both",
    (0, 0): "the figures do not tell whether pre-training helped",
    (0, 1): f"at equal emoji the figures do not tell whether pre-training helped, and {_WORSE}",
    (1, -1): "pre-training did harm at equal emoji, though the longer run has become worse than both",
    (1, 0): "pre-training did harm at equal emoji, and the longer run has come no further",
    (1, 1): f"pre-training did harm, and {_WORSE}",
}


def _compared(a: Point, b: Point) -> int:
    """Returns -1 if a is lower, 1 if a is higher, and 0 if their intervals do not separate them."""
    difference = a.value - b.value
    return 0 if abs(difference) <= hypot(a.interval, b.interval) else 1 if difference > 0 else -1


def _lower(a: Point, b: Point) -> bool:
    return _compared(a, b) < 0


def _point(row: Json) -> Point:
    return Point(
        int(row["images_seen"]), THOUSAND * float(row["value"]), THOUSAND * float(row.get("error") or 0.0)
    )


def _rows(run: Path) -> list[Json]:
    """Returns the newest figure of each checkpoint, metric and number of pictures, by checkpoint."""
    newest = {(row["metric"], row["images_seen"], row["n"]): row for row in results.read(run)}
    return sorted(newest.values(), key=lambda row: row["images_seen"])
