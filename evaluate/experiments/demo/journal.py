"""The journal of a demo: one line of JSON per event of a step.

The last line of each start and step counts, so an interrupted start keeps its times. The time of a step is
the sum over its starts.
"""

import json
from pathlib import Path
from typing import Any

from evaluate.experiments.demo.plan import DemoStep
from synth.sets.storage import plain_errors

WHOLE = "demo"  # the name of the whole demo among the steps

_NAME = "journal.jsonl"

Json = dict[str, Any]


class Journal:
    """The journal of a demo. Opening it begins a new start."""

    def __init__(self, out: Path) -> None:
        self.path = out / _NAME
        self._last: dict[tuple[int, str], Json] = {}
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            self._keep(line)
        self._torn = text[-1:] not in ("", "\n")  # True if a crash cut the last line short
        self._start = 1 + max((start for start, _ in self._last), default=0)

    def note(
        self, step: str, command: str, seconds: float, *, cpu_seconds: float = 0.0, code: int | None = None
    ) -> None:
        """Writes the duration of a step in this start. An exit status marks its end."""
        row = {"start": self._start, "step": step, "command": command, "seconds": round(seconds, 2)}
        line = json.dumps(row | {"cpu_seconds": cpu_seconds, "code": code})
        with plain_errors(str(self.path)), self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + line + "\n")
        self._torn = False
        self._keep(line)

    def done(self, step: DemoStep) -> bool:
        """Returns True if a step's present command has succeeded and its result exists."""
        success = (step.name, step.line, 0)
        ended = any((r["step"], r["command"], r["code"]) == success for r in self._last.values())
        return ended and step.exists

    def seconds(self, name: str) -> float:
        """Returns the seconds of wall clock of a step, over all starts."""
        return float(sum(row["seconds"] for (_, step), row in self._last.items() if step == name))

    @property
    def starts(self) -> int:
        """The number of starts. This one counts once it has recorded something."""
        return len({start for start, _ in self._last})

    def _keep(self, line: str) -> None:
        """Remembers the row of a line. Ignores a torn line."""
        try:
            row = json.loads(line)
            self._last[int(row["start"]), str(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            return
