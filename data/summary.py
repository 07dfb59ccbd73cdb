"""The summary of a prepared set and of the command that prepared it."""

from typing import Any, NamedTuple, Self

from synth.sets import ledger
from synth.sets.completion import Outcome
from synth.sets.storage import Storage

Json = dict[str, Any]


class SetSummary(NamedTuple):
    """A finished set, and the work of one command on it."""

    out: str
    pictures: int
    captions: int
    prepared: int  # by this command
    grey: int
    left_out: list[Json]  # name and reason of originals that cannot be used
    seconds: float

    @classmethod
    def of(cls, storage: Storage, outcome: Outcome) -> Self:
        """Returns the summary of a set that a command has finished."""
        manifest = ledger.read_manifest(storage)
        contents = [part["content"] for part in manifest["parts"]]
        return cls(
            out=storage.url,
            pictures=manifest["samples"],
            captions=sum(content["captions"] for content in contents),
            prepared=sum(record.count for record in outcome.records),
            grey=sum(content["grey"] for content in contents),
            left_out=manifest.get("left_out", []),
            seconds=outcome.seconds,
        )

    def row(self) -> Json:
        """Returns the rounded figures by name, with the number of originals that were left out."""
        return {**self._asdict(), "left_out": len(self.left_out), "seconds": round(self.seconds, 1)}
