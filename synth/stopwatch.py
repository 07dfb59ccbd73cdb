"""DOOR. Wall-clock and CPU time since a moment."""

import time
from typing import NamedTuple, Self


class Stopwatch(NamedTuple):
    """The moment at which some work began."""

    begun: float  # seconds, on the wall
    cpu: float  # seconds, of this process

    @classmethod
    def start(cls) -> Self:
        """Returns a watch that runs from now on."""
        return cls(time.perf_counter(), time.process_time())

    def seconds(self) -> float:
        """Returns the wall-clock time since then."""
        return time.perf_counter() - self.begun

    def cpu_seconds(self) -> float:
        """Returns the CPU time of this process since then."""
        return time.process_time() - self.cpu
