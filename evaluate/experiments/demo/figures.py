"""The measurements of a demo's runs, and the conclusion that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt
from pathlib import Path
from typing import Any, NamedTuple

from evaluate import results
from evaluate.experiments.demo.plan import DETECTOR, FINETUNED, PRETRAINED, SCRATCH, UNTRAINED, Places, Plan

THOUSAND = 1000  # KID is printed times a thousand

_KID = f"KD ({DETECTOR})"  # the name of KID on another net than Inception
_AGREEMENT = "attribute agreement: "
_NORMAL = 1.96  # standard errors on each side of a 95 % interval

Json = dict[str, Any]


class Point(NamedTuple):
    """KID of a checkpoint, times a thousand."""

    images_seen: int
    value: float
    error: float  # standard error

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
    finetuned: list[Point]  # begins at 0 emoji: the pre-trained model
    scratch: list[Point]  # to the end of the longer run
    at: int  # emoji seen at the end of `finetuned`
    pictures: int  # drawn by each checkpoint
    reference: int  # held-out emoji in the comparison
    agreement: list[Json]

    @property
    def same(self) -> Point:
        """The run from scratch after as many emoji as the finished fine-tuned run has seen."""
        return next(p for p in self.scratch if p.images_seen >= self.at)

    @property
    def swing(self) -> float:
        """The standard deviation of KID from one checkpoint to the next. A trend is part of it."""
        return swing([self.finetuned[1:], self.scratch])

    @property
    def conclusion(self) -> str:
        """The conclusion from the curves."""
        points = (self.finetuned[-1], self.same, self.scratch[-1])
        ends = [point._replace(error=hypot(point.error, self.swing)) for point in points]
        return conclusion(*ends, untrained=self.untrained)

    def row(self) -> Json:
        """Returns all figures as plain JSON."""
        curves = {"untrained": [self.untrained], "finetuned": self.finetuned, "scratch": self.scratch}
        kid = {name: [p._asdict() for p in points] for name, points in curves.items()}
        row = {"sentence": self.conclusion, "swing": self.swing}
        return {**row, "kid_x_1000": kid, "agreement": self.agreement}


def read(plan: Plan, at: Places) -> DemoFigures:
    """Returns the figures of a demo with finished steps."""
    # KID.
    rows = {name: _rows(at.run(name)) for name in (PRETRAINED, FINETUNED, SCRATCH, UNTRAINED)}
    kid = {name: [row for row in run_rows if _is_kid(row, plan)] for name, run_rows in rows.items()}
    points = {name: [_point(row) for row in kid_rows] for name, kid_rows in kid.items()}
    last = kid[SCRATCH][-1]
    before = points[PRETRAINED][-1]._replace(images_seen=0)

    # Attribute agreement.
    agreement = [row for row in rows[PRETRAINED] if row["metric"].startswith(_AGREEMENT)]
    return DemoFigures(
        untrained=points[UNTRAINED][-1],
        finetuned=[before, *points[FINETUNED]],
        scratch=points[SCRATCH],
        at=points[FINETUNED][-1].images_seen,
        pictures=last["n"],
        reference=last["reference_n"],
        agreement=[{**row, "fact": row["metric"].removeprefix(_AGREEMENT)} for row in agreement],
    )


def swing(curves: Sequence[Sequence[Point]]) -> float:
    """Returns the standard deviation of a checkpoint's value, from the differences d of successive values.

    It is sqrt(mean d^2 / 2): von Neumann et al., Annals of Mathematical Statistics 1941."""
    differences = [b.value - a.value for curve in curves for a, b in pairwise(curve)]
    return sqrt(sum(d * d for d in differences) / (2 * len(differences))) if differences else 0.0


def conclusion(finetuned: Point, scratch: Point, longer: Point, *, untrained: Point) -> str:
    """Returns the conclusion about pre-training from the ends of the curves, in three sentences.

    Two figures differ if zero is outside the 95 % interval of their difference. The figures are compared only
    if both are better than an untrained generator."""
    # Runs that are no better than an untrained generator.
    runs = {"the pre-trained run": finetuned, "the run from scratch": scratch}
    bad = {name: point for name, point in runs.items() if not _lower(point, untrained)}
    after = f"After {scratch.images_seen:,} emoji,"
    if bad:
        who = " and ".join(f"{name} ({point})" for name, point in bad.items())
        who += " is" if len(bad) == 1 else " are"
        return (
            "Pre-training cannot be judged yet. "
            f"{after} {who} no better than a generator that was never trained ({untrained}). "
            "KID does not rank pictures as bad as that."
        )

    # The comparison at equal emoji, and that at equal computing time.
    short, long = _compared(finetuned, scratch), _compared(finetuned, longer)
    also = "It also has" if short == long else "But it has"
    return (
        f"{after} the pre-trained run has {_CLAUSES[short]} the run from scratch "
        f"({finetuned} against {scratch}). "
        f"{also} {_CLAUSES[long]} the run from scratch after {longer.images_seen:,} emoji ({longer}), "
        f"as many pictures as the pre-trained run has seen in all. So {_CONCLUSIONS[short, long]}."
    )


_CLAUSES = {
    -1: "a lower KID than",
    0: "a KID that does not measurably differ from that of",
    1: "a higher KID than",
}
_SPENT = "the same computing time spent on emoji"
_WORSE = "the same computing time was better spent on emoji"
_UNKNOWN = "the figures do not show whether pre-training helped"
_DECLINED = "the longer run has become worse than both"
_CONCLUSIONS = {
    (-1, -1): f"pre-training was worth more here than {_SPENT}",
    (-1, 0): f"pre-training is a head start, worth about as much as {_SPENT}",
    (-1, 1): f"pre-training is a head start, but {_WORSE}",
    (0, -1): f"at equal emoji {_UNKNOWN}, and {_DECLINED}",
    (0, 0): _UNKNOWN,
    (0, 1): f"at equal emoji {_UNKNOWN}, and {_WORSE}",
    (1, -1): f"pre-training did harm at equal emoji, though {_DECLINED}",
    (1, 0): "pre-training did harm at equal emoji, and the longer run is no better than the pre-trained one",
    (1, 1): f"pre-training did harm, and {_WORSE}",
}


def _compared(a: Point, b: Point) -> int:
    """Returns -1 if a is lower, 1 if a is higher, and 0 if their intervals do not separate them."""
    difference = a.value - b.value
    return 0 if abs(difference) <= hypot(a.interval, b.interval) else 1 if difference > 0 else -1


def _lower(a: Point, b: Point) -> bool:
    return _compared(a, b) < 0


def _is_kid(row: Json, plan: Plan) -> bool:
    """Returns True for a row of KID over as many pictures as the plan measures."""
    return bool(row["metric"] == _KID and row["n"] == min(plan.measured, row.get("reference_n", 0)))


def _point(row: Json) -> Point:
    value, error = float(row["value"]), float(row.get("error") or 0.0)
    return Point(int(row["images_seen"]), THOUSAND * value, THOUSAND * error)


def _rows(run: Path) -> list[Json]:
    """Returns the newest figure of each checkpoint, metric and number of pictures, by checkpoint."""
    newest = {(row["metric"], row["images_seen"], row["n"]): row for row in results.read(run)}
    return sorted(newest.values(), key=lambda row: row["images_seen"])
