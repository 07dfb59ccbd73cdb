"""Local files of a set: in its folder, or fetched ahead from an object store into a bounded cache.

Files are verified, and named by their sha256 in the cache, so they outlive a run and serve the next one. One
process per node fetches. All others of its run wait until it renames a file into the cache, or records a
failure.
"""

import contextlib
import hashlib
import math
import os
import platform
import secrets
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from synth import caches, options
from synth.errors import UserError
from synth.sets.shards import MISSING
from synth.sets.storage import Folder, open_storage, plain_errors, reading

_CACHE = "EXNIHILO_CACHE"  # environment variable: the folder of fetched files
_PAUSE = 0.02  # seconds between two checks for a file
_LOOK = 5.0  # seconds between two checks that fetched files are still there
_PATIENCE = 5.0  # seconds for a file that is being fetched when the run ends
_ABANDONED = 600.0  # seconds without a write, after which a part of a file is that of a run that was killed
_AHEAD = 64  # blocks that are fetched before they are needed
_CHUNK = 1 << 22  # bytes
_PROBE = "exnihilo.probe"  # a file that is written to see if the cache takes files
_FETCHED = "[0-9a-f]" * 64 + ".*"  # names of fetched files; the folder may hold others


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
    """The local files of sets on this machine. It is sent to reader processes."""

    folder: str | None  # None: no folder can be written, so only sets on this machine can be read
    run: str = ""  # in the names of its failures; other runs may share the folder
    ended: threading.Event | None = None  # set when this process needs no more files

    def path(self, file: Remote) -> str:
        """Returns the local path of a file. Waits while it is being fetched.

        Raises UserError if it is missing, truncated, or cannot be fetched."""
        if "://" not in file.url:
            return _in_place(file)

        # The fetching process either renames the file into the cache or records a failure.
        kept, failures = self.place(file), (self._failure(file), self._stopped)
        while not kept.exists():
            for failure in failures:
                if failure.exists():
                    text = failure.read_text(encoding="utf-8")
                    raise UserError(text or f"{file.name} was not fetched into {self.folder}")
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
        if (place := self.place(file)).exists():
            # A run that shares this cache removes the oldest files first.
            with contextlib.suppress(OSError):
                os.utime(place)
            return

        # A user may have removed the whole cache.
        self.root.mkdir(parents=True, exist_ok=True)
        self._failure(file).unlink(missing_ok=True)

        # Another process may read the file as soon as it has its name, so it is written under another one.
        # Processes of two containers may have one number.
        part = self.place(file).with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            # Copy, check, rename.
            with plain_errors(f"the cache {self.folder}"), part.open("wb") as target:
                for chunk in _chunks(file):
                    target.write(chunk)
                # Its name promises its bytes, also after a power failure.
                target.flush()
                os.fsync(target.fileno())
            with part.open("rb") as written:
                if hashlib.file_digest(written, "sha256").hexdigest() != file.sha256:
                    problem = f"{file.name} is not the file that its manifest describes"
                    raise UserError(f"{problem}; make the set again, or give another")
            part.replace(self.place(file))
        except FileNotFoundError:
            self._fail(file, MISSING.format(file.name))
        except Exception as error:
            self._fail(file, str(error) if isinstance(error, UserError) else f"{file.name}: {error}")
        finally:
            part.unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Creates the cache, and removes the failures of earlier runs.

        Raises UserError if files cannot be written there."""
        Folder(str(self.root)).write(_PROBE, b"")
        (self.root / _PROBE).unlink(missing_ok=True)
        for failure in self.root.glob("*.failed"):
            # Waiting processes read a failure at once, so those of a run that still goes on are young.
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - failure.stat().st_mtime > _ABANDONED
                if old or failure.name.endswith(f".{self.run}.failed"):
                    failure.unlink()

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yields the fetched files, and the parts that killed runs have left."""
        for path in self.root.glob(_FETCHED):
            # Another run may remove it now.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                written = path.suffix == ".part" and time.time() - status.st_mtime < _ABANDONED
                if stat.S_ISREG(status.st_mode) and path.suffix != ".failed" and not written:
                    yield path, status

    def stop(self, sentence: str) -> None:
        """Records for all waiting processes that no more files come."""
        _note(self._stopped, sentence)

    @property
    def _stopped(self) -> Path:
        return self.root / f"fetcher.{self.run}.failed"

    def _failure(self, file: Remote) -> Path:
        return self.place(file).with_suffix(f".{self.run}.failed")

    def _fail(self, file: Remote, sentence: str) -> None:
        _note(self._failure(file), sentence)


class Fetcher(threading.Thread):
    """A thread that fetches files in the order of their use, as far ahead as `limit` bytes allow.

    If another run with this cache removes a file, it is fetched again."""

    def __init__(
        self, cache: Cache, needed: Iterator[Needed], limit: int, position: Callable[[], int]
    ) -> None:
        super().__init__(daemon=True, name="fetcher")
        self._cache, self._needed, self._limit, self._position = cache, needed, limit, position
        self._ended, self._looked = threading.Event(), time.monotonic()

    def run(self) -> None:
        """Fetches the files of each position as soon as there is room for them.

        Tells the waiting processes if it must stop."""
        try:
            self._fetch()
        except Exception as error:
            self._cache.stop(f"no more files are fetched into {self._cache.folder}: {error}")

    def _fetch(self) -> None:
        window: list[Needed] = []
        for ahead in self._needed:
            # Room. There is more as soon as the first block is read.
            window.append(ahead)
            while not self._make_room(window):
                while window[1].position > self._position():
                    if self._ended.wait(_PAUSE):
                        return
                    self._fetch_again(window[:-1])

            # Files.
            if not self._fetched(ahead.files):
                return

    def _fetched(self, files: Sequence[Remote]) -> bool:
        """Fetches files. Returns False if the thread is to end."""
        for file in files:
            self._cache.fetch(file)
            if self._ended.is_set():
                return False
        return True

    def _fetch_again(self, window: Sequence[Needed]) -> None:
        """Fetches files that another run has removed from the cache."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._fetched([file for step in window for file in step.files])
        self._looked = time.monotonic()

    def end(self) -> None:
        """Ends the thread after its current file, or leaves it to its slow connection."""
        self._ended.set()
        self.join(_PATIENCE)

    def _make_room(self, window: list[Needed]) -> bool:
        """Removes files that are not needed soon.

        Returns False if the last files of the window do not fit yet."""
        # Files that are needed soon.
        while len(window) > 1 and window[1].position <= self._position():
            del window[0]
        if len(window) > _AHEAD:
            return False
        kept = {self._cache.place(f): f.bytes for step in window for f in step.files}
        if sum(kept.values()) > self._limit and len(window) > 1:
            return False

        # All others, the oldest first, until the rest fits. Compiled shaders have a folder there too.
        others = {path: status for path, status in self._cache.files() if path not in kept}
        spare = self._limit - sum(kept.values()) - sum(status.st_size for status in others.values())
        for path in sorted(others, key=lambda path: others[path].st_mtime):
            if spare >= 0:
                break
            # Processes that have mapped the file keep it.
            path.unlink(missing_ok=True)
            spare += others[path].st_size
        return True


def this_run() -> str:
    """Returns a name that the ranks of this run share on this machine, and other runs do not."""
    # Ranks of a node are children of one process. Several machines may share the cache.
    number = os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
    return f"{platform.node()}-{number}"


def fetched_files() -> str | None:
    """Returns the folder of fetched files, or None if the user can write no cache."""
    if place := os.environ.get(_CACHE):
        return options.located(f"${_CACHE}", place)
    folder = caches.folder("exnihilo")
    return str(folder) if folder else None


def require_room(needed: Iterable[Needed], limit: int, batch: int) -> None:
    """Raises UserError if the files of a batch are larger than the cache. Many batches cross two blocks."""
    window: deque[Needed] = deque()
    largest = 0
    for step in needed:
        window.append(step)
        # The last batch that begins in the first block ends at this position.
        while len(window) > 1 and step.position >= window[1].position + batch - 1:
            window.popleft()
        files = {file for each in window for file in each.files}
        largest = max(largest, sum(file.bytes for file in files))
    if largest > limit:
        cache, block = f"{limit / 1e9:.1f} GB", f"{largest / 1e9:.1f} GB"
        problem = f"the cache of {cache} is too small: {block} are in use at a time"
        raise UserError(f"{problem}; give --set run.cache_gb={math.ceil(largest / 1e9)}")


def _chunks(file: Remote) -> Iterator[bytes]:
    """Yields the content of a file. Raises UserError if it cannot be read, and FileNotFoundError."""
    with contextlib.ExitStack() as stack:
        with reading(file.name):
            source = stack.enter_context(open_storage(file.url).whole(file.file))
        while chunk := _read(source, file.name):
            yield chunk


def _read(source: BinaryIO, name: str) -> bytes:
    # The writer of the chunks has errors of its own, so only the reader's are caught here.
    with reading(name):
        return source.read(_CHUNK)


def _note(path: Path, sentence: str) -> None:
    """Writes a failure. On a full disk an empty file is enough."""
    with contextlib.suppress(OSError):
        path.write_text(sentence, encoding="utf-8", errors="backslashreplace")


def require_present(files: Sequence[Remote]) -> None:
    """Raises UserError if a file is missing, or has another size than its manifest records."""
    for url in dict.fromkeys(file.url for file in files):
        # A web server lists no sizes.
        if url.startswith(("http://", "https://")):
            continue
        sizes = open_storage(url).sizes() if "://" in url else None
        for file in files:
            if file.url != url:
                continue
            if sizes is None:
                _in_place(file)
            elif file.file not in sizes:
                raise UserError(MISSING.format(file.name))
            elif sizes[file.file] != file.bytes:
                raise UserError(_other_size(file.name, sizes[file.file], file.bytes))


def _in_place(file: Remote) -> str:
    """Returns the path of a file of a local set. Raises UserError if it is missing or truncated."""
    path = Path(Folder(file.url).url) / file.file
    with reading(str(path)):
        if not path.is_file():
            raise UserError(MISSING.format(path))
        size = path.stat().st_size
    if size != file.bytes:
        raise UserError(_other_size(str(path), size, file.bytes))
    return str(path)


def _other_size(name: str, size: int, recorded: int) -> str:
    return f"{name} has {size:,} bytes, and the manifest records {recorded:,}; make the set again"
