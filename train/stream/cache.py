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
from synth.sets.storage import Folder, open_storage, reading

_PAUSE = 0.02  # seconds between two checks for a file
_CHUNK = 1 << 22  # bytes
_MISSING = "is missing though the manifest names it; give the command that made the set again"


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

    folder: str | None  # None: no folder can be written, so only sets on this machine can be read
    ended: Event | None = None  # set when no process needs files any more

    def path(self, file: Remote) -> str:
        """Returns the local path of a file. Waits while it is being fetched.

        Raises UserError if it is missing, truncated, or cannot be fetched."""
        if "://" not in file.url:
            return _in_place(file)

        # The fetching process either renames the file into the cache or records a failure.
        kept, failure = self.place(file), self._failure(file)
        while not kept.exists():
            if failure.exists():
                raise UserError(failure.read_text(encoding="utf-8"))
            if self.ended and self.ended.is_set():
                raise UserError(f"{file.name} was not fetched before the run ended")
            time.sleep(_PAUSE)
        return str(kept)

    def place(self, file: Remote) -> Path:
        """Returns the path of a fetched file."""
        return self.root / f"{file.sha256}{Path(file.file).suffix}"

    @property
    def root(self) -> Path:
        """The folder of fetched files. Raises UserError if the user can write none."""
        if self.folder is None:
            raise UserError("there is no folder for fetched files; set EXNIHILO_CACHE to one")
        return Path(self.folder)

    def fetch(self, file: Remote) -> None:
        """Fetches a file into the cache. If that fails, records the failure for the waiting processes."""
        if self.place(file).exists():
            return

        # Another process may read the file as soon as it has its name, so it is written under another one.
        self._failure(file).unlink(missing_ok=True)
        part = self.place(file).with_suffix(f".{os.getpid()}.part")
        try:
            # Copy, check, rename.
            with (
                reading(file.name),
                open_storage(file.url).whole(file.file) as source,
                part.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, _CHUNK)
            with part.open("rb") as written:
                if hashlib.file_digest(written, "sha256").hexdigest() != file.sha256:
                    problem = f"{file.name} is not the file that its manifest describes"
                    raise UserError(f"{problem}; make the set again, or give another")
            part.replace(self.place(file))
        except FileNotFoundError:
            self._fail(file, f"{file.name} {_MISSING}")
        except (UserError, OSError) as error:
            self._fail(file, str(error))
        finally:
            part.unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Creates the cache, and removes the failures of earlier runs."""
        self.root.mkdir(parents=True, exist_ok=True)
        for failure in self.root.glob("*.failed"):
            failure.unlink(missing_ok=True)

    def _failure(self, file: Remote) -> Path:
        return self.place(file).with_suffix(".failed")

    def _fail(self, file: Remote, sentence: str) -> None:
        self._failure(file).write_text(sentence, encoding="utf-8", errors="backslashreplace")


class Fetcher(threading.Thread):
    """A thread that fetches files in the order of their use, as far ahead as `limit` bytes allow."""

    def __init__(
        self, cache: Cache, needed: Iterator[Needed], limit: int, position: Callable[[], int]
    ) -> None:
        super().__init__(daemon=True, name="fetcher")
        self._cache, self._needed, self._limit, self._position = cache, needed, limit, position
        self._ended = threading.Event()

    def run(self) -> None:
        """Fetches the files of each position as soon as there is room for them."""
        window: list[Needed] = []
        for ahead in self._needed:
            # Room.
            window.append(ahead)
            while not self._make_room(window):
                if self._ended.wait(_PAUSE):
                    return

            # Files.
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

        Returns False if the last files of the window do not fit yet."""
        # Files that are needed soon.
        while len(window) > 1 and window[1].position <= self._position():
            del window[0]
        kept = {self._cache.place(f): f.bytes for step in window for f in step.files}
        if sum(kept.values()) > self._limit and len(window) > 1:
            return False

        # All others, the oldest first, until the rest fits. Compiled shaders have a folder there too.
        paths = [path for path in self._cache.root.iterdir() if path.suffix != ".failed" and path.is_file()]
        others = {path: path.stat() for path in paths if path not in kept}
        spare = self._limit - sum(kept.values()) - sum(status.st_size for status in others.values())
        for path in sorted(others, key=lambda path: others[path].st_mtime):
            if spare >= 0:
                break
            # Processes that have mapped the file keep it.
            path.unlink(missing_ok=True)
            spare += others[path].st_size
        return True


def require_room(needed: Iterator[Needed], limit: int, blocks: int) -> None:
    """Raises UserError if a block of an epoch's files is larger than the cache."""
    largest = max(sum(f.bytes for f in step.files) for step, _ in zip(needed, range(blocks), strict=False))
    if largest > limit:
        cache, block = f"{limit / 1e9:.1f} GB", f"{largest / 1e9:.1f} GB"
        problem = f"the cache of {cache} is too small: {block} are in use at a time"
        raise UserError(f"{problem}; give --set run.cache_gb={math.ceil(largest / 1e9)}")


def _in_place(file: Remote) -> str:
    """Returns the path of a file of a local set. Raises UserError if it is missing or truncated."""
    path = Path(Folder(file.url).url) / file.file
    with reading(str(path)):
        if not path.is_file():
            raise UserError(f"{path} {_MISSING}")
        size = path.stat().st_size
    if size != file.bytes:
        problem = f"{path} has {size:,} bytes, and the manifest records {file.bytes:,}"
        raise UserError(f"{problem}; make the set again")
    return str(path)
