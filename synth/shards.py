"""DOOR. The shard format: keys, the class law, tars of samples, and how a finished set is read.

A shard is a USTAR archive (mtime 0, no owner) whose samples are adjacent members of one key: `000000123.png`, `000000123.json`, and
`000000123.txt` where there are captions. webdataset and its relatives read it as it is.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

from synth import codecs, ledger
from synth.errors import UserError
from synth.storage import Storage, open_storage

Json = dict[str, Any]

# A tar header after the name: mode, user, group | size | time | checksum (counted as spaces) | type and the rest
_BLOCK = tarfile.BLOCKSIZE
_MODE_AND_OWNERS, _TIME = b"0000644\0" + 2 * b"0000000\0", b"00000000000\0"
_REST = b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(247)
_SUM = sum(_MODE_AND_OWNERS + _TIME + 8 * b" " + _REST)


@dataclass(frozen=True)
class Shard:
    """A planned shard: which samples it holds."""

    file: str
    number: int
    first: int
    count: int


class Sample(NamedTuple):
    """A sample as it was read."""

    key: str
    pixels: np.ndarray  # uint8 (H, W, 3), grey widened
    about: Json  # its JSON; empty where there is none
    captions: list[str]


def sample_key(index: int) -> str:
    """The key of a sample: its global index, nine digits."""
    return f"{index:09d}"


def plan(name: str, samples: int, shard_size: int) -> list[Shard]:
    """The shards of a set, in order; the last may be partial."""
    firsts = range(0, samples, shard_size)
    return [Shard(f"{name}-{i:06d}.tar", i, first, min(shard_size, samples - first)) for i, first in enumerate(firsts)]


class ShardWriter:
    """Writes a tar, sample by sample: the same samples give the same bytes. `size` (bytes) and `sha256` are there after it is closed."""

    size: int
    sha256: str

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 (closed in __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.write(bytes(2 * _BLOCK))
                self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
        finally:
            self._file.close()
        if kind is None:
            with open(self._file.name, "rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                self.size = file.tell()

    def add(self, key: str, files: dict[str, bytes]) -> None:
        """Appends a sample: its files by extension, in the order given."""
        for extension, data in files.items():
            self._file.write(_header(f"{key}.{extension}", len(data)))
            self._file.write(data)
            self._file.write(bytes(-len(data) % _BLOCK))


def _header(name: str, size: int) -> bytes:
    """The tar header of a plain file, as tarfile writes it, in a quarter of its time."""
    path, octal = name.encode(), b"%011o\0" % size
    checksum = _SUM + sum(path) + sum(octal)
    return b"".join((path.ljust(100, b"\0"), _MODE_AND_OWNERS, octal, _TIME, b"%06o\0 " % checksum, _REST))


def read_members(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a tar as stored: key and files by extension. Raises UserError, naming the member, where the tar ends early or
    is no tar."""
    key, last = "", "its start"
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                last = member.name
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                stem, _, extension = member.name.partition(".")
                if stem != key and files:
                    yield key, files
                    files = {}
                key, files = stem, {**files, extension: data}
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{name} is damaged at {last}: {error}; remove it and give the command that made the set again") from None
    if files:
        yield key, files


def read_shard(file: BinaryIO, name: str) -> Iterator[Sample]:
    """Samples of a tar, decoded. Raises UserError, naming the sample, where one is damaged."""
    for key, files in read_members(file, name):
        pictures = [data for extension, data in files.items() if extension in codecs.EXTENSIONS]
        if len(pictures) != 1:
            raise UserError(f"sample {key} of {name} holds {len(pictures)} pictures instead of one")
        try:
            about = json.loads(files.get("json", b"{}"))
            pixels = codecs.rgb(codecs.decode(pictures[0]))
        except ValueError as error:
            raise UserError(f"sample {key} of {name} does not decode: {error}") from None
        yield Sample(key, pixels, about, files.get("txt", b"").decode().splitlines())


class ShardSet:
    """A finished set of shards, through its manifest. Raises UserError where the set is not finished."""

    def __init__(self, url: str) -> None:
        self.storage: Storage = open_storage(url)
        self.manifest = ledger.read_manifest(self.storage)
        self.digest = ledger.manifest_digest(self.manifest)
        self.shards = [Shard(p["file"], p["number"], p["first"], p["count"]) for p in self.manifest["parts"]]

    def __len__(self) -> int:
        return int(self.manifest["samples"])

    def read(self, shard: Shard) -> Iterator[Sample]:
        """The samples of one shard. Raises UserError where it is damaged or has fewer samples than the manifest says."""
        name, count = self.storage.join(shard.file), 0
        with self.storage.open(shard.file) as file:
            for sample in read_shard(file, name):
                count += 1
                yield sample
        if count != shard.count:
            raise UserError(f"{name} holds {count} samples where the manifest says {shard.count}")
