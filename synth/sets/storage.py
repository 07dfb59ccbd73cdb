"""Places of sets: a folder, or a prefix of an object store under any fsspec URL.

A file appears under its name whole or not at all. Locally: a temporary name in the same folder, fsync,
rename, fsync of the folder. On an object store: one upload of a finished local file, then a look at its size.
Nothing is ever streamed to a final name.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from synth.errors import UserError
from synth.sets import locks

T = TypeVar("T")

ATTEMPTS = 5  # of a transfer that fails for a passing reason
FIRST_PAUSE = 0.5  # seconds; doubles with every attempt
_BUFFER = 1 << 16  # bytes that a file for reading fetches at once
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")

# Failures that no retry mends.
_FULL = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is over its quota",
    errno.EFBIG: "refuses files of this size",
}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

# Failures of a disk, a network file system or this process. They make no claim about a file.
NOT_NOW = {
    *(errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK),
}

# Failures that may pass: by number, and by parts of the names of HTTP libraries' exceptions.
_PASSING = {
    *(errno.EAGAIN, errno.EBUSY, errno.ECONNRESET, errno.ECONNREFUSED),
    *(errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EINTR),
}
_PASSING_NAMES = (
    *("Connect", "Timeout", "IncompleteRead", "ResponseStreaming"),
    *("Disconnected", "ClientPayload", "SSLError"),
)


class Storage(ABC):
    """Files by name under one place. Names have no folders."""

    url: str

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Returns name -> bytes of every finished file, or nothing if the place does not exist yet."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Returns a whole file. Raises FileNotFoundError."""

    @abstractmethod
    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns several whole files. Reads them at once if that is faster."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading, with seek."""

    @contextlib.contextmanager
    def whole(self, name: str) -> Iterator[BinaryIO]:
        """Opens a file as a local one. Fetches it first if it is remote. Raises FileNotFoundError."""
        with self.open(name) as file:
            yield file

    @abstractmethod
    def staged(self, name: str) -> contextlib.AbstractContextManager[str]:
        """Yields a local path to write to. If the block succeeds, that file is published as `name`, else it
        is removed.

        Raises UserError if the target is full or cannot be written."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Removes files. Ignores those that do not exist."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Returns the free space, or None if it is unknown."""

    @abstractmethod
    def exclusive(self) -> contextlib.AbstractContextManager[str | None]:
        """Holds the place for one writer and clears the leftovers of killed writers.

        Yields a sentence if the place has no locks. Raises UserError if another writer is active."""

    def write(self, name: str, data: bytes) -> None:
        """Publishes bytes."""
        with self.staged(name) as path:
            Path(path).write_bytes(data)

    def join(self, name: str) -> str:
        """Returns the full name of a file, for messages."""
        return f"{self.url.rstrip('/')}/{name}"


def open_storage(url: str) -> Storage:
    """Returns the storage of a folder or URL. Creates nothing before the first write.

    Raises UserError for an unknown scheme, or one with a missing package."""
    # Folders.
    if not url:
        raise UserError("the place is empty; give a folder or a URL")
    if "\0" in unquote(url):
        raise UserError(f"{url} holds a null character; give a folder or a URL without it")
    if "://" not in url:
        if url.startswith("file:/"):
            raise UserError(f"{url} has one slash; write file://{url.removeprefix('file:')}, or a folder")
        return Folder(url)
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        # A hash or question mark is part of a name here.
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise UserError(f"{url} names the host {host!r}; a file:// URL is local: file:///folder")
        return Folder(unquote(slash + path))

    # Object stores, and what else fsspec opens.
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        fault = f"unknown URL scheme {scheme}:// in {url}"
        raise UserError(f"{fault}; use a folder, s3://, gs:// or another scheme of fsspec") from None
    except ImportError as error:
        raise UserError(f"{scheme}:// needs another package: {error}") from None
    with plain_errors(url):
        try:
            # A web address that does not parse, such as http://[, would fail at the first request.
            if scheme in ("http", "https"):
                _ = urlsplit(url).port
            return ObjectStore(url)
        except (TypeError, ValueError, NotImplementedError) as error:
            # Some file systems need options that a URL does not hold, or have no folders.
            raise UserError(
                f"{url} cannot be a place of files: {error}; give a folder, s3:// or gs://"
            ) from None


class Folder(Storage):
    """A folder of the local disk or of a shared file system."""

    def __init__(self, path: str) -> None:
        self.url = os.path.abspath(path)
        self._path = Path(self.url)

    def sizes(self) -> dict[str, int]:
        if self._path.exists() and not self._path.is_dir():
            raise UserError(f"{self.url} is a file; give a folder or a URL")
        if not self._path.exists():
            return {}

        # Temporary files of writers do not count.
        with plain_errors(self.url), os.scandir(self._path) as entries:
            names = [e.name for e in entries if not _TEMPORARY.fullmatch(e.name)]
            paths = {name: self._path / name for name in names}
            # A link to nowhere counts as an empty file.
            return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self.read(name) for name in names}

    def open(self, name: str) -> BinaryIO:
        with reading(self.join(name)):
            return BufferedReader(_File(self._path / name), _BUFFER)

    @contextlib.contextmanager
    def staged(self, name: str) -> Iterator[str]:
        temporary = self._path / f".{name}.{secrets.token_hex(4)}.tmp"
        with plain_errors(self.url):
            # Some file systems, such as /proc, have folders that take no files.
            self._create()
            try:
                temporary.touch()
            except FileNotFoundError:
                raise UserError(f"{self.url} takes no files; give another folder") from None

            # The content reaches the disk before the name, and the name before the block returns. Some
            # libraries write a private file of their own, but files follow the umask.
            try:
                mode = temporary.stat().st_mode
                yield str(temporary)
                if temporary.stat().st_mode != mode:
                    temporary.chmod(mode)
                sync(temporary)
                os.replace(temporary, self._path / name)
                sync(self._path)
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def filled(self) -> Iterator["Folder"]:
        """Yields an empty scratch folder. If the block succeeds, it becomes this folder, else it is removed.

        Raises UserError if this folder has files, or cannot be written."""
        self.require_empty()

        # A scratch folder beside this one, so that a rename can move it. No rename replaces a link.
        path = Path(os.path.realpath(self._path))
        Folder(str(path.parent))._create()
        scratch = Folder(str(path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")))
        scratch._create()
        try:
            yield scratch
            with plain_errors(self.url):
                os.replace(scratch.url, path)
                sync(path.parent)
        finally:
            shutil.rmtree(scratch.url, ignore_errors=True)

    def remove(self, names: Iterable[str]) -> None:
        with plain_errors(self.url):
            for name in names:
                (self._path / name).unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        # The folder may not exist yet, so its nearest parent is asked.
        return shutil.disk_usage(next(p for p in [self._path, *self._path.parents] if p.exists())).free

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[str | None]:
        """Locks the folder itself, so the lock leaves no file and dies with the process."""
        # The sweep comes before and after: a killed writer may have left files, and this one may fail.
        created = self._create()
        folder = os.open(self._path, os.O_RDONLY)
        try:
            try:
                locked = locks.lock(folder)
            except BlockingIOError:
                advice = "wait for it, or give another folder"
                raise UserError(f"another run is writing to {self.url}; {advice}") from None
            self._sweep()
            try:
                # Without locks, the bytes of two runs are equal anyway.
                yield None if locked else locks.note(self.url)
            finally:
                self._sweep()
                # A run that wrote nothing leaves nothing. Folders with files do not go away.
                with contextlib.suppress(OSError):
                    for path in created:
                        path.rmdir()
        finally:
            os.close(folder)

    def require_empty(self) -> None:
        """Raises UserError if this folder has files."""
        if self.sizes():
            raise UserError(f"{self.url} already holds files; give another folder")

    def require_writable(self) -> list[Path]:
        """Returns the folders that must still be made, innermost first.

        Raises UserError if the nearest folder that exists takes no files."""
        missing = [p for p in [self._path, *self._path.parents] if not p.exists()]
        nearest = [self._path, *self._path.parents][len(missing)]
        if not nearest.is_dir():
            raise UserError(f"{nearest} is a file; give a folder or a URL")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"{nearest} may not be written to; give another folder")
        return missing

    def _create(self) -> list[Path]:
        """Makes the folder and its parents. Returns the new folders, innermost first."""
        missing = self.require_writable()
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.url} cannot be made: {error.strerror}; give another folder") from None
        return missing

    def _sweep(self) -> None:
        """Removes the temporary files and folders of killed writers."""
        with os.scandir(self._path) as entries:
            for entry in entries:
                if not _TEMPORARY.fullmatch(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


class _File(FileIO):
    """A file for reading. Its failures are sentences, whatever library reads it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reading = partial(reading, str(path))

    def readinto(self, buffer: Any) -> int | None:
        with self._reading():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._reading():
            return super().readall()


class ObjectStore(Storage):
    """A prefix of an object store, or of anything else that fsspec opens. Writers need no lock: two runs of
    one command upload the same bytes under the same names."""

    def __init__(self, url: str) -> None:
        import fsspec

        # Object stores take a double slash for another prefix.
        self.url = re.sub(r"(?<![:/])//+", "/", url).rstrip("/")
        if self.url.endswith(":"):
            raise UserError(f"{url} names no bucket; write it as {url.split(':')[0]}://bucket/prefix")
        self._fs, self._root = fsspec.core.url_to_fs(self.url)

    def sizes(self) -> dict[str, int]:
        # fsspec caches listings, and other nodes write too.
        self._fs.invalidate_cache()
        try:
            entries = self._try(lambda: self._fs.ls(self._root, detail=True))
        except FileNotFoundError:
            self._require_bucket()
            return {}
        named = {e["name"].rsplit("/", 1)[-1]: e["size"] for e in entries if e["type"] == "file"}
        # An empty name is a web console's mark of a folder.
        return {name: size for name, size in named.items() if name}

    def read(self, name: str) -> bytes:
        return self._try(lambda: self._fs.cat_file(self._path(name)))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        # One call, so that fsspec fetches them concurrently.
        names = list(names)
        paths = [self._path(name) for name in names]
        if not paths:
            return {}
        contents = self._try(lambda: self._fs.cat_ranges(paths, None, None, on_error="raise"))
        return dict(zip(names, contents, strict=True))

    def open(self, name: str) -> BinaryIO:
        return self._try(lambda: self._fs.open(self._path(name), "rb"))

    @contextlib.contextmanager
    def whole(self, name: str) -> Iterator[BinaryIO]:
        # The path of the open file lets fsspec write to a file without a name.
        with plain_errors(f"the scratch folder {tempfile.gettempdir()}"), tempfile.TemporaryFile() as scratch:
            self._try(lambda: self._fs.get_file(self._path(name), f"/proc/self/fd/{scratch.fileno()}"))
            yield scratch

    @contextlib.contextmanager
    def staged(self, name: str) -> Iterator[str]:
        # The scratch file has no name, so nothing can be left of it, however this process ends.
        with plain_errors(f"the scratch folder {tempfile.gettempdir()}"), tempfile.TemporaryFile() as scratch:
            local = f"/proc/self/fd/{scratch.fileno()}"
            yield local
            self._try(lambda: self._upload(local, self._path(name)))

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._try(partial(self._fs.rm_file, self._path(name)))

    def free_bytes(self) -> int | None:
        return None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[str | None]:
        if self.url.startswith(("http://", "https://")):
            advice = "give a folder or an object store such as s3://bucket/prefix"
            raise UserError(f"{self.url} can only be read; {advice}")
        yield None

    def _upload(self, local: str, path: str) -> None:
        self._fs.put_file(local, path)
        self._fs.invalidate_cache()

        # A cut upload counts as a lost connection, and is tried again.
        sent, stored = os.path.getsize(local), self._fs.info(path)["size"]
        if sent != stored:
            raise ConnectionError(f"{path} has {stored} bytes after an upload of {sent}")

    def _require_bucket(self) -> None:
        """Raises UserError if the bucket does not exist. Its absence looks like that of the prefix."""
        bucket = self._root.strip("/").split("/")[0]
        if self.url.startswith(("s3://", "gs://")) and not self._try(lambda: self._fs.exists(bucket)):
            fault = f"there is no bucket {bucket!r} (or it may not be seen)"
            raise UserError(f"{fault}; make it first, or correct the URL {self.url}")

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _try(self, action: Callable[[], T]) -> T:
        with plain_errors(self.url):
            return patiently(action)


def patiently(action: Callable[[], T]) -> T:
    """Returns the action's result. Retries a few times after failures that may pass (timeouts, 429, 5xx, lost
    connections)."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))

    # The last attempt raises what it raises.
    return action()


def may_pass(error: BaseException) -> bool:
    """Returns True if a retry may succeed after this failure."""
    if isinstance(error, PermissionError | FileNotFoundError | UserError):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in _PASSING:
        return True

    # HTTP: timeouts, too many requests, failures of the server.
    if _status(error) in {408, 425, 429, 500, 502, 503, 504}:
        return True
    return any(word in type(error).__name__ for word in _PASSING_NAMES)


@contextlib.contextmanager
def plain_errors(place: str) -> Iterator[None]:
    """Turns failures of a place that no retry would mend into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number, name = getattr(error, "errno", None), type(error).__name__

        # Space.
        if number in _FULL:
            advice = "make room, then give the same command again: it goes on where it stopped"
            raise UserError(f"{place} {_FULL[number]}; {advice}") from None

        # Rights.
        if isinstance(error, PermissionError) or number in _FORBIDDEN or "Credentials" in name:
            fault = "may not be read or written with these rights or credentials"
            raise UserError(f"{place} {fault}: {error}") from None

        # The place itself.
        if isinstance(error, NotADirectoryError):
            raise UserError(f"{place} lies below a file; give a folder or a URL") from None
        if may_pass(error):
            advice = "give the same command again when it can"
            raise UserError(f"{place} cannot be reached: {error}; {advice}") from None
        if type(error).__module__.startswith("botocore"):
            raise UserError(f"{place} cannot be used: {error}") from None

        # The machine.
        if number in NOT_NOW:
            advice = "run the command again"
            raise UserError(f"{place} cannot be used now: {os.strerror(number)}; {advice}") from None
        raise


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns failures to read a file into a UserError, which makes no claim about the file's content.

    Lets errors pass that say that there is no such file, and errors of decoders, which have no number."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(
            error, FileNotFoundError | NotADirectoryError | IsADirectoryError
        ):
            raise
        if isinstance(error, PermissionError):
            raise UserError(f"{name} may not be read; make it readable and run the command again") from None
        raise UserError(f"{name} cannot be read now: {error.strerror}; run the command again") from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the sha256 of a local file, in hex. Raises UserError if it cannot be read."""
    with reading(str(path)), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unusable(error: OSError) -> str:
    """Returns the sentence about a file or folder that cannot be used, which may pass or not."""
    place, reason = error.filename or "a file", error.strerror or str(error)
    if error.errno in NOT_NOW:
        return f"{place} cannot be used now: {reason}; run the command again"
    return f"{place} cannot be used: {reason}"


def _status(error: BaseException) -> Any:
    """Returns the HTTP status of an object store's failure, or None."""
    # botocore puts it in a response; others have it as an attribute. fsspec wraps either.
    for source in (error, error.__cause__):
        response = getattr(source, "response", None)
        if isinstance(response, dict):
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status := getattr(source, "status", None), int):
            return status
    return None


def sync(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
