"""Local files of a set: in its folder, or fetched ahead from an object store into a bounded cache.

Files are verified, and named by their sha256 in the cache, so they outlive a run and serve the next one. One
process per node fetches. All others wait until it renames a file into the cache, or records a failure.
"""

import hashlib
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from synth.errors import UserError
from synth.sets.storage import Folder, open_storage

_PAUSE = 0.02  # seconds between two checks for a file
_CHUNK = 1 << 22


class Remote(NamedTuple):
    """A file of a set."""

    url: str  # of the set
    file: str
    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return f"{self.url.rstrip('/')}/{self.file}"


class Needed(NamedTuple):
    """Files for the samples from a position on."""

    position: int
    files: Sequence[Remote]


@dataclass(frozen=True)
class Cache:
    """The local files of sets on this machine. It is sent to loader workers."""

    folder: str
    ended: Event | None = None  # set when no process needs files any more

    def path(self, file: Remote) -> str:
        """Returns a local path of a file. Waits while it is being fetched.

        Raises UserError if it is missing, truncated, or cannot be fetched."""
        if "://" not in file.url:
            return _in_place(file)
        kept, failure = self.place(file), self._failure(file)
        while not kept.exists():
            if failure.exists():
                raise UserError(failure.read_text())
            if self.ended and self.ended.is_set():
                raise UserError(f"{file.name} was not there yet when the run ended")
            time.sleep(_PAUSE)
        return str(kept)

    def place(self, file: Remote) -> Path:
        """Returns the path of a fetched file."""
        return Path(self.folder) / f"{file.sha256}{Path(file.file).suffix}"

    def fetch(self, file: Remote) -> None:
        """Fetches a file into the cache. If that fails, records the failure for the waiting processes."""
        if self.place(file).exists():
            return
        self._failure(file).unlink(missing_ok=True)
        part = self.place(file).with_suffix(f".{os.getpid()}.part")
        try:
            with open_storage(file.url).whole(file.file) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            with part.open("rb") as written:
                if hashlib.file_digest(written, "sha256").hexdigest() != file.sha256:
                    raise UserError(
                        f"{file.name} is not the file that its manifest describes; make the set again, or give another"
                    )
            part.replace(self.place(file))
        except FileNotFoundError:
            self._fail(
                file,
                f"{file.name} is missing though the manifest names it; give the command that made the set again",
            )
        except (UserError, OSError) as error:
            self._fail(file, str(error))
        finally:
            part.unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Creates the cache, and removes the failures of earlier runs."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        for failure in Path(self.folder).glob("*.failed"):
            failure.unlink(missing_ok=True)

    def _failure(self, file: Remote) -> Path:
        return self.place(file).with_suffix(".failed")

    def _fail(self, file: Remote, sentence: str) -> None:
        self._failure(file).write_text(sentence)


class Fetcher(threading.Thread):
    """A thread that fetches files in the order of their use, as far ahead as `limit` bytes allow."""

    def __init__(
        self, cache: Cache, needed: Iterator[Needed], limit: int, position: Callable[[], int]
    ) -> None:
        super().__init__(daemon=True, name="fetcher")
        self._cache, self._needed, self._limit, self._position = cache, needed, limit, position
        self._ended = threading.Event()

    def run(self) -> None:
        window: list[Needed] = []
        for ahead in self._needed:
            window.append(ahead)
            while not self._make_room(window):
                if self._ended.wait(_PAUSE):
                    return
            for file in ahead.files:
                self._cache.fetch(file)
                if self._ended.is_set():
                    return

    def end(self) -> None:
        """Ends the thread after its current file."""
        self._ended.set()
        self.join()

    def _make_room(self, window: list[Needed]) -> bool:
        """Removes files that are not needed soon.

        Returns False if the last of the window does not fit yet."""
        while len(window) > 1 and window[1].position <= self._position():
            del window[0]
        kept = {self._cache.place(f): f.bytes for step in window for f in step.files}
        if sum(kept.values()) > self._limit and len(window) > 1:
            return False
        there = {
            p: p.stat() for p in Path(self._cache.folder).iterdir() if p not in kept and p.suffix != ".failed"
        }
        spare = self._limit - sum(kept.values()) - sum(s.st_size for s in there.values())
        for path in sorted(there, key=lambda p: there[p].st_mtime):
            if spare >= 0:
                break
            path.unlink(missing_ok=True)  # processes that have mapped it keep it
            spare += there[path].st_size
        return True


def require_room(needed: Iterator[Needed], limit: int, blocks: int) -> None:
    """Raises UserError if a block of an epoch's files is larger than the cache."""
    largest = max(sum(f.bytes for f in step.files) for step, _ in zip(needed, range(blocks), strict=False))
    if largest > limit:
        enough = math.ceil(largest / 1e9)
        raise UserError(
            f"the cache of {limit / 1e9:.1f} GB is too small: {largest / 1e9:.1f} GB are in use at a time; give --set run.cache_gb={enough}"
        )


def _in_place(file: Remote) -> str:
    path = Path(Folder(file.url).url) / file.file
    if not path.is_file():
        raise UserError(
            f"{path} is missing though the manifest names it; give the command that made the set again"
        )
    if path.stat().st_size != file.bytes:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes where the manifest says {file.bytes:,}; make the set again"
        )
    return str(path)
