"""The folder of the Parquet files of a set of caption tables: `tables`, in that of the set.

Readers of tables take a folder for one table if it has Parquet files alone. So the records, the manifest and
the card lie beside the folder. Sets of earlier versions have their tables beside the manifest, and keep them
there.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from synth.errors import UserError
from synth.sets.storage import Storage, open_storage

NAME = "tables"

_SUFFIX = ".parquet"


def of_finished(storage: Storage, table: str) -> Storage:
    """Returns the storage of the tables of a finished set. `table` is the file of one of them."""
    apart = open_storage(storage.join(NAME))
    for place in (apart, storage):
        # Stores that hide their listing refuse files that are missing.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, UserError):
            place.open(table).close()
            return place
    return apart


def to_write(url: str) -> Storage:
    """Returns the storage of a set of tables, which has the tables in their folder.

    For a set of an earlier version, returns the storage of its one folder."""
    storage = open_storage(url)
    flat = _has_tables(storage) and not _has_tables(open_storage(storage.join(NAME)))
    return to_resume(url, apart=not flat)


def to_resume(url: str, *, apart: bool) -> Storage:
    """Returns the storage of a set of tables in its known form, which the missing tables do not show."""
    storage = open_storage(url)
    return _Apart(storage) if apart else storage


def is_apart(storage: Storage) -> bool:
    """Returns True if tables that are written to a storage have their own folder."""
    return isinstance(storage, _Apart)


def _has_tables(storage: Storage) -> bool:
    return any(name.endswith(_SUFFIX) for name in storage.sizes())


class _Apart(Storage):
    """A place with its tables in a folder of their own, under the names of one place."""

    def __init__(self, storage: Storage) -> None:
        self.url = storage.url
        self._set, self._tables = storage, open_storage(storage.join(NAME))

    def sizes(self) -> dict[str, int]:
        files = self._set.sizes()
        # The listing of a local folder has its folders, too.
        files.pop(NAME, None)
        return {**self._tables.sizes(), **files}

    def read(self, name: str) -> bytes:
        return self._place(name).read(name)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        names = list(names)
        return {
            name: data
            for place in (self._set, self._tables)
            for name, data in place.read_many(n for n in names if self._place(n) is place).items()
        }

    def open(self, name: str) -> BinaryIO:
        return self._place(name).open(name)

    @contextlib.contextmanager
    def whole(self, name: str) -> Iterator[BinaryIO]:
        with self._place(name).whole(name) as file:
            yield file

    def staged(self, name: str) -> contextlib.AbstractContextManager[str]:
        return self._place(name).staged(name)

    def remove(self, names: Iterable[str]) -> None:
        names = list(names)
        for place in (self._set, self._tables):
            place.remove(n for n in names if self._place(n) is place)

    def free_bytes(self) -> int | None:
        return self._set.free_bytes()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[str | None]:
        with self._set.exclusive() as note, self._tables.exclusive():
            yield note

    def join(self, name: str) -> str:
        return self._place(name).join(name)

    def _place(self, name: str) -> Storage:
        return self._tables if name.endswith(_SUFFIX) else self._set
