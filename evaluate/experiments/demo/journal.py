"""What was done of a demo, and how long it took: a line of JSON at each sign of life, the last one of a start and step holding.

So a start that is cut off leaves what it took up to then, and the times of a step are the sums over the starts that worked on it.
"""

import json
from pathlib import Path
from typing import Any

from evaluate.experiments.demo.plan import Step

WHOLE = "demo"  # what stands for all of it, beside the steps

_NAME = "journal.jsonl"

Json = dict[str, Any]


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

    def seconds(self, name: str) -> float:
        """What a step took, of wall clock, over all starts."""
        return float(sum(row["seconds"] for (_, step), row in self._last.items() if step == name))

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
