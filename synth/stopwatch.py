"""DOOR. The record of a part that has been made: what it is, and how long it took, on what."""

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, Self

from synth.sets.ledger import Part, Record
from synth.settings import digest

Json = dict[str, Any]


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

    def record(
        self,
        part: Part,
        identity: Json,
        content: Json,
        *,
        bytes: int,
        sha256: str,
        packages: Sequence[str],
        count: int | None = None,
        about: Json | None = None,
    ) -> Record:
        """The record of a part, now that its file is published: of `count` samples, where these are not as many as were planned. Its
        `run`, which no digest covers, has times, host, the packages' versions, and what else there is to say `about` it."""
        run = {
            "parts": part.of,
            "seconds": round(time.perf_counter() - self.begun, 3),
            "cpu_seconds": round(self.cpu_seconds(), 3),
            "host": platform.node(),
            **(about or {}),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        }
        count = part.count if count is None else count
        return Record(part.file, part.number, part.first, count, bytes, sha256, digest(identity), identity, content, run)
