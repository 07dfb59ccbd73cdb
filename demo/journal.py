"""What was done of a demo, and how long it took: a line of JSON at each sign of life, the last one of a start and step holding.

So a start that is cut off leaves what it took up to then, and the times of a step are the sums over the starts that worked on it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.plan import Step

WHOLE = "demo"  # what stands for all of it, beside the steps

_NAME = "journal.jsonl"

Json = dict[str, Any]


@dataclass(frozen=True)
class Time:
    """What something took, over all starts."""

    seconds: float  # of wall clock
    cpu_seconds: float


class Journal:
    """The journal of a demo. The start that opens it is a new one."""

    def __init__(self, out: Path) -> None:
        self.path = out / _NAME
        self._last: dict[tuple[int, str], Json] = {}
        text = self.path.read_text() if self.path.exists() else ""
        for line in text.splitlines():
            self._keep(line)
        self._cut = text[-1:] not in ("", "\n")  # a crash has cut its last line
        self._start = 1 + max((start for start, _ in self._last), default=0)

    def note(self, step: str, command: str, seconds: float, *, cpu_seconds: float = 0.0, code: int | None = None) -> None:
        """Writes down how long a step has taken in this start; with an exit status, that it has ended."""
        row = {"start": self._start, "step": step, "command": command, "seconds": round(seconds, 2)}
        line = json.dumps(row | {"cpu_seconds": cpu_seconds, "code": code})
        with self.path.open("a") as file:
            file.write("\n" * self._cut + line + "\n")
        self._cut = False
        self._keep(line)

    def done(self, step: Step) -> bool:
        """Whether a step's command, as it is now, has ended well, and what it makes is there."""
        ended = any(r["step"] == step.name and r["command"] == step.line and r["code"] == 0 for r in self._last.values())
        return ended and step.left

    def time(self, names: Sequence[str]) -> Time:
        """What these steps took together."""
        rows = [row for (_, name), row in self._last.items() if name in names]
        return Time(sum(r["seconds"] for r in rows), sum(r["cpu_seconds"] for r in rows))

    @property
    def starts(self) -> int:
        """How many starts there were, this one among them where it has noted something."""
        return len({start for start, _ in self._last})

    def _keep(self, line: str) -> None:
        """A line that a crash has cut counts as not there."""
        try:
            row = json.loads(line)
            self._last[int(row["start"]), str(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            return
