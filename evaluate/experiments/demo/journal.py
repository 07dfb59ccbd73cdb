"""The journal of a demo: one line of JSON per event of a step. The last line of each start and step counts.

So an interrupted start keeps its times up to then. The time of a step is the sum over its starts.
"""

import json
from pathlib import Path
from typing import Any

from evaluate.experiments.demo.plan import Step

WHOLE = "demo"  # the name of the whole demo among the steps

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
        self._cut = text[-1:] not in ("", "\n")  # a crash has torn its last line
        self._start = 1 + max((start for start, _ in self._last), default=0)

    def note(
        self, step: str, command: str, seconds: float, *, cpu_seconds: float = 0.0, code: int | None = None
    ) -> None:
        """Writes the duration of a step in this start. An exit status marks its end."""
        row = {"start": self._start, "step": step, "command": command, "seconds": round(seconds, 2)}
        line = json.dumps(row | {"cpu_seconds": cpu_seconds, "code": code})
        with self.path.open("a") as file:
            file.write("\n" * self._cut + line + "\n")
        self._cut = False
        self._keep(line)

    def done(self, step: Step) -> bool:
        """Returns True if a step's present command has succeeded and its result exists."""
        ended = any(
            r["step"] == step.name and r["command"] == step.line and r["code"] == 0
            for r in self._last.values()
        )
        return ended and step.left

    def seconds(self, name: str) -> float:
        """Returns the wall clock seconds of a step, over all starts."""
        return float(sum(row["seconds"] for (_, step), row in self._last.items() if step == name))

    @property
    def starts(self) -> int:
        """The number of starts, with this one if it has recorded something."""
        return len({start for start, _ in self._last})

    def _keep(self, line: str) -> None:
        """Keeps the row of a line. Ignores a torn line."""
        try:
            row = json.loads(line)
            self._last[int(row["start"]), str(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            return
