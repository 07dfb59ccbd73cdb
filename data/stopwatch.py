"""How long a part took, and on what: what records say of a run, and no digest covers."""

import platform
import time
from importlib.metadata import version
from typing import Any, NamedTuple, Self

from synth.ledger import Part

_VERSIONED = ("numpy", "pillow")


class Stopwatch(NamedTuple):
    """When the making of a part began."""

    begun: float  # seconds, on the wall
    cpu: float  # seconds, of this process

    @classmethod
    def start(cls) -> Self:
        """A watch that runs from now on."""
        return cls(time.perf_counter(), time.process_time())

    def cpu_seconds(self) -> float:
        """CPU time since then."""
        return time.process_time() - self.cpu

    def run(self, part: Part) -> dict[str, Any]:
        """What the record of the part says of its making, now that it is done."""
        return {
            "parts": part.of,
            "seconds": round(time.perf_counter() - self.begun, 3),
            "cpu_seconds": round(self.cpu_seconds(), 3),
            "host": platform.node(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
        }
