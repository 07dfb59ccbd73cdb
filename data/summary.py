"""The summary of a prepared set and of the run that prepared it."""

from typing import Any, NamedTuple, Self

from synth.sets import ledger
from synth.sets.completion import Outcome
from synth.sets.storage import Storage

Json = dict[str, Any]


class SetSummary(NamedTuple):
    """A finished set, and a run's part in it."""

    out: str
    pictures: int
    captions: int
    prepared: int  # by this run
    grey: int
    left_out: list[Json]  # name and reason of originals that cannot be used
    seconds: float

    @classmethod
    def of(cls, storage: Storage, outcome: Outcome) -> Self:
        """Returns the summary of a set that a run has finished."""
        manifest = ledger.read_manifest(storage)
        grey, captions = (sum(p["content"][name] for p in manifest["parts"]) for name in ("grey", "captions"))
        prepared = sum(r.count for r in outcome.records)
        return cls(
            storage.url,
            manifest["samples"],
            captions,
            prepared,
            grey,
            manifest.get("left_out", []),
            outcome.seconds,
        )

    def row(self) -> Json:
        """Returns the summary as a row for a person."""
        return {**self._asdict(), "left_out": len(self.left_out), "seconds": round(self.seconds, 1)}
