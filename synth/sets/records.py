"""Parts of a set, and the records that mark them as done."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

from synth.settings import digest
from synth.stopwatch import Stopwatch

Json = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A planned part: its file and its samples."""

    file: str
    number: int
    first: int  # index of its first sample
    count: int  # of samples
    content: Json = field(default_factory=dict)  # entries that its record's content must hold
    of: int = 1  # parts of the planned set
    counted: bool = True  # if not, `count` is a guess until the part is made


@dataclass(frozen=True)
class Record:
    """A finished part."""

    file: str
    number: int
    first: int  # index of its first sample
    count: int  # of samples
    bytes: int
    sha256: str
    fingerprint: str
    identity: Json = field(default_factory=dict)  # left out in the parts of a manifest, which has it once
    content: Json = field(default_factory=dict)  # entries of the stage: further digests, counts
    run: Json = field(default_factory=dict)  # seconds, attempts, host, versions: no part of any digest

    @classmethod
    def of(
        cls,
        part: Part,
        identity: Json,
        content: Json,
        watch: Stopwatch,
        *,
        bytes: int,
        sha256: str,
        packages: Sequence[str],
        count: int | None = None,
        entries: Json | None = None,
    ) -> Self:
        """Returns the record of a part after its file is published.

        `count` is the number of its samples if it differs from the plan. `run` gets the times since the watch
        began, the host, the packages' versions, and the stage's `entries`."""
        # No part of any digest, as times and hosts differ from run to run.
        run = {
            "parts": part.of,
            "seconds": round(watch.seconds(), 3),
            "cpu_seconds": round(watch.cpu_seconds(), 3),
            "host": platform.node(),
            **(entries or {}),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        }
        return cls(
            part.file,
            part.number,
            part.first,
            part.count if count is None else count,
            bytes,
            sha256,
            digest(identity),
            identity,
            content,
            run,
        )

    @property
    def name(self) -> str:
        """The record's own file."""
        return self.file.rsplit(".", 1)[0] + ".json"

    @property
    def planned(self) -> int:
        """The planned number of samples: its own, and those left out, which its content names."""
        return self.count + len(self.content.get("left_out", ()))
