"""The options and the course that the commands of all sets share: `python -m data SET`."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated, Any

from data.originals import Pictures, Source, Splits
from data.requests import PrepareRequest
from synth import console, options
from synth.sets.completion import Estimate, Progress

if TYPE_CHECKING:
    from data.summary import SetSummary

_NAMED = 3  # originals that are left out and named on stderr; the manifest has all


def folder(name: str, help: str) -> Any:
    """Returns an option that takes a folder."""
    return options.place(name, "DIR", help)


Out = Annotated[str, folder("--out", "Each split becomes a set in OUT/SPLIT.")]
Seed = Annotated[int, options.integer("--seed", "Seed that chooses the held-out pictures.")]
TestShare = Annotated[
    float,
    options.number(
        "--test-share",
        "Share of pictures to hold out, between 0 and 1.",
        most=1,
        above=True,
        below=True,
    ),
]
Workers = Annotated[
    int | None,
    options.integer("--workers", "Processes at once; 0: this one.  [default: one for each core and shard]"),
]


def prepare(
    source: Source, law: str, originals: Splits, pictures: Pictures, request: PrepareRequest, dry_run: bool
) -> None:
    """Prepares the splits of a set. With `dry_run`, shows the estimates and writes nothing. Raises
    UserError."""
    from data import preparation

    if dry_run:
        for out, estimate in preparation.estimate(source, originals, pictures, request):
            console.show({"out": out, **estimate._asdict()})
        return
    finish(request.out, preparation.prepare(source, law, originals, pictures, request))


def finish(out: str, events: Generator[Estimate | Progress | list["SetSummary"], None, None]) -> None:
    """Draws the events of a preparation and shows its summaries."""
    summaries = console.watched("pictures", events)
    if not any(s.prepared for s in summaries):
        console.note(f"{out} is finished: nothing to do")
    for summary in summaries:
        if summary.left_out:
            named = "; ".join(f"{o['name']}: {o['reason']}" for o in summary.left_out[:_NAMED])
            some = f"{len(summary.left_out):,} pictures cannot be used and are left out of {summary.out}"
            console.note(f"warning: {some}, among them {named}")
        console.show(summary.row())
