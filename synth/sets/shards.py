"""The shard format: keys, the class law, tars of samples, and readers of finished sets.

A shard is a USTAR archive (mtime 0, no owner). The members of a sample are adjacent and have one key:
`000000123.png`, `000000123.json`, and `000000123.txt` if there are captions. webdataset and its relatives
read it as it is.
"""

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np

from synth.errors import UserError
from synth.foreign import escaped, parsed_json
from synth.images import codecs
from synth.images.pictures import box_average
from synth.sets import ledger
from synth.sets.damage import UnreadableError, judged
from synth.sets.mapping import mapped
from synth.sets.records import Part
from synth.sets.storage import Storage, open_storage, reading

Json = dict[str, Any]
T = TypeVar("T")

# Errors of tarfile at a damaged header. Each long name in a chain of them is one more call.
_UNPARSED = (tarfile.TarError, RecursionError)
_BLOCK = 512  # bytes of a tar header; members are padded to multiples of it
_AGAIN = "run the command that made the set again"
MISSING = "{} is missing though the manifest names it; run the command that made the set again"


class Shard(Part):
    """A planned shard."""


class Sample(NamedTuple):
    """A sample, read from a shard."""

    key: str
    pixels: np.ndarray  # uint8 (H, W, 3), grey widened
    metadata: Json  # the content of its .json; empty if it has none
    captions: list[str]


class Description(NamedTuple):
    """The texts of a sample."""

    metadata: Json  # the content of its .json; empty if it has none
    captions: list[str]


def sample_key(index: int) -> str:
    """Returns the key of a sample: its global index, nine digits."""
    return f"{index:09d}"


def plan(name: str, samples: int, shard_size: int) -> list[Shard]:
    """Returns the shards of a set, in order. The last may be partial."""
    firsts = range(0, samples, shard_size)
    counts = (min(shard_size, samples - first) for first in firsts)
    numbered = enumerate(zip(firsts, counts, strict=True))
    return [Shard(f"{name}-{i:06d}.tar", i, first, count, of=len(firsts)) for i, (first, count) in numbered]


class _Member(tarfile.TarInfo):
    """A header that is used once. tarfile need not copy it, which saves half of its time."""

    def __copy__(self) -> Self:
        return self


class _HashedFile:
    """A file for writing that keeps the size and sha256 of its content."""

    def __init__(self, path: str) -> None:
        # A few large writes, instead of two or three for each member.
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 (closed by its owner)
        self.close = self._file.close
        self.size, self.sha256 = 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


class ShardWriter:
    """A writer of a tar, sample by sample: the same samples give the same bytes. `size` (bytes) and `sha256`
    are set when it is closed."""

    size: int
    sha256: str

    def __init__(self, path: str) -> None:
        file: Any = _HashedFile(path)  # the methods of a file that tarfile uses
        self._file = file
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing the tar writes its end. After a failure the file must stay incomplete.
        try:
            if kind is None:
                self._tar.close()
        finally:
            self._file.close()
        self.size, self.sha256 = self._file.size, self._file.sha256.hexdigest()

    def add(self, key: str, files: dict[str, bytes]) -> None:
        """Appends a sample: its files by extension, in the order given."""
        for extension, data in files.items():
            member = _Member(f"{key}.{extension}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
            # tarfile keeps every header for readers, which a writer does not need.
            self._tar.members.clear()  # type: ignore[attr-defined]


def split_member(name: str) -> tuple[str, str] | None:
    """Returns key and extension of a tar's member as webdataset does, or None for a member of no sample.

    The key is the path up to the first dot of the base name. The extension is in lower case."""
    # Metadata of webdataset.
    first = name.split("/", 1)[0]
    if first.startswith("__") and first.endswith("__") and len(first) >= 4:
        return None

    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    # A hidden file has its folder as key. One below a folder with a dot belongs to no sample.
    if not dot or not (stem or (slash and "." not in folder)):
        return None
    return f"{folder}{slash}{stem}", extension.lower()


def read_members(file: BinaryIO, name: str, *, ended: bool = False) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a tar as stored: key and files by extension.

    Raises UnreadableError, naming the member, if the tar ends early or is no tar.

    With `ended`, also raises UserError if the tar has no end mark: a download may have stopped there."""
    key, last = "", "its start"
    files: dict[str, bytes] = {}
    try:
        with reading(name), tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile() or not (parts := split_member(member.name)):
                    continue
                last = escaped(member.name)
                data = tar.extractfile(member).read()  # type: ignore[union-attr]

                # A sample ends at another key, or at an extension that it has already.
                stem, extension = parts
                if (stem != key or extension in files) and files:
                    yield key, files
                    files = {}
                key, files = stem, {**files, extension: data}

            # The end mark is a block of zeros.
            file.seek(tar.offset)
            if ended and len(file.read(_BLOCK)) < _BLOCK:
                raise UserError(f"{name} is cut after {last}: its end mark is missing; fetch it again")
    except _UNPARSED as error:
        raise UnreadableError(name, f"at {last}: {error}") from None
    if files:
        yield key, files


def read_shard(file: BinaryIO, name: str) -> Iterator[Sample]:
    """Yields the samples of a tar, decoded. Raises UserError, naming the sample, if one is damaged."""
    for key, files in read_members(file, name):
        yield decode(key, files, name)


def decode(key: str, files: dict[str, bytes], name: str) -> Sample:
    """Returns a sample from its members. `name` is the tar's. Raises UserError, naming the sample, if it is
    damaged."""
    # One picture, whatever its codec.
    key = escaped(key)
    try:
        picture = codecs.only_picture(files)
    except ValueError as error:
        raise UserError(f"sample {key} of {name} {error}") from None

    # Its pixels and its texts.
    texts = describe(key, files, name)
    try:
        pixels = codecs.rgb(codecs.decode(picture))
    except ValueError as error:
        raise UserError(f"sample {key} of {name} does not decode: {error}") from None
    return Sample(key, pixels, *texts)


def describe(key: str, files: dict[str, bytes], name: str) -> Description:
    """Returns the texts of a sample from its members. `name` is the tar's. Raises UserError, naming the
    sample, if one is damaged."""
    # Captions end at "\n" alone, because splitlines would cut those of other scripts.
    key = escaped(key)
    try:
        metadata = parsed_json(files.get("json", b"{}"))
        lines = files.get("txt", b"").decode("utf-8-sig").split("\n")
    except ValueError as error:
        raise UserError(f"sample {key} of {name} does not decode: {error}") from None
    if not isinstance(metadata, dict):
        excerpt = json.dumps(metadata)[:40]
        raise UserError(f"sample {key} of {name} has a .json that is no object, but {excerpt}")
    return Description(metadata, [caption for line in lines if (caption := line.strip())])


class MappedShard:
    """A local tar of samples, mapped into memory: pictures by row, in any order.

    Raises UnreadableError if the tar does not parse."""

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        with reading(name):
            self._data = mapped(path)
        if not self._data:
            raise UnreadableError(name, "at its start: it is empty")

        # Offset and size of each picture and each JSON, by key.
        members = _members_by_header(self._data) or _members_by_tarfile(path, name)
        self._places: dict[str, tuple[int, int]] = {}
        self._documents: dict[str, tuple[int, int]] = {}
        for member, offset, size in members:
            parts = split_member(member)
            if parts and parts[1] in codecs.EXTENSIONS:
                self._places[parts[0]] = offset, size
            elif parts and parts[1] == "json":
                self._documents[parts[0]] = offset, size
        self.keys = list(self._places)

    def __len__(self) -> int:
        return len(self.keys)

    def metadata(self, row: int) -> Json:
        """Returns the JSON of a row, which is empty if it has none. Raises UserError if it does not parse."""
        key = self.keys[row]
        offset, length = self._documents.get(key, (0, 0))
        try:
            return dict(parsed_json(bytes(self._data[offset : offset + length]))) if length else {}
        except (ValueError, TypeError) as error:
            raise UserError(f"the JSON of sample {key} of {self._name} does not parse: {error}") from None

    def picture(self, row: int, size: int | None = None) -> np.ndarray:
        """Returns the picture of a row: uint8 (H, W, C), C as stored.

        With a `size` it is box-averaged to that many pixels a side. Raises UserError if it does not decode,
        or its side is no multiple of `size`."""
        key = self.keys[row]
        offset, length = self._places[key]
        try:
            pixels = codecs.decode(bytes(self._data[offset : offset + length]))
            if size is None:
                return pixels

            # Only whole boxes have an exact average.
            height, width, _ = pixels.shape
            if height != width or height % size:
                fault = f"{width} x {height} pixels, no multiple of {size} x {size}"
                raise UserError(f"sample {key} of {self._name} has {fault}")
            return box_average(pixels, size)
        except ValueError as error:
            raise UserError(f"sample {key} of {self._name} does not decode: {error}") from None


def _members_by_header(data: memoryview) -> list[tuple[str, int, int]] | None:
    """Returns name, offset and size of every member of a plain USTAR archive. Returns None if a header is of
    another kind, or the tar is cut."""
    members, start, end = [], 0, len(data)
    while start + _BLOCK <= end and data[start]:
        # Fields of a USTAR header: name at 0, size at 124, type at 156, prefix of the name at 345.
        header = bytes(data[start : start + _BLOCK])
        digits = header[124:136].strip(b" \0")
        if header[156] not in b"0\0" or header[345] or not re.fullmatch(rb"[0-7]+", digits):
            return None

        size = int(digits, 8)
        members.append((header[:100].rstrip(b"\0").decode(errors="surrogateescape"), start + _BLOCK, size))
        start += _BLOCK + -(-size // _BLOCK) * _BLOCK
    return members if start <= end else None


def _members_by_tarfile(path: str, name: str) -> list[tuple[str, int, int]]:
    """Returns name, offset and size of every member of any tar that tarfile reads.

    Raises UnreadableError if it ends early."""
    try:
        with reading(name), tarfile.open(path, "r:") as tar:
            return [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
    except _UNPARSED as error:
        raise UnreadableError(name, f"at a member: {error}") from None


class ShardSet:
    """A finished set of shards, through its manifest. Raises UserError if the set is not finished."""

    def __init__(self, url: str) -> None:
        self.storage: Storage = open_storage(url)
        self.manifest = ledger.read_manifest(self.storage)
        if "dataset" not in self.manifest["identity"] or not self.manifest["parts"]:
            raise UserError(f"{self.storage.url} holds no shards; `python -m synth shards` makes some")

        # What later stages need of the manifest.
        self.digest = ledger.manifest_digest(self.manifest)
        self.shards = [Shard(p["file"], p["number"], p["first"], p["count"]) for p in self.manifest["parts"]]
        self.sha256 = {p["file"]: str(p["sha256"]) for p in self.manifest["parts"]}

    def __len__(self) -> int:
        return int(self.manifest["samples"])

    @property
    def remedy(self) -> str:
        """The advice about a damaged tar of the set."""
        # Adopted tars are other people's, so no command makes them again.
        adopted = ledger.adopted(self.manifest["identity"])
        return "fetch it again" if adopted else f"remove it and {_AGAIN}"

    def read(self, shard: Shard) -> Iterator[Sample]:
        """Yields the samples of one shard. Raises UserError if it is damaged or has another number of samples
        than the manifest."""
        name = self.storage.join(shard.file)
        try:
            with self.storage.open(shard.file) as file, self._judging(shard, file):
                yield from _all_of(shard, name, self.remedy, read_shard(file, name))
        except FileNotFoundError:
            raise UserError(MISSING.format(name)) from None

    def mapped(self, shard: Shard) -> MappedShard:
        """Returns one shard, mapped into memory. Fetches it first if it is remote.

        Raises UserError if it is missing or damaged."""
        name = self.storage.join(shard.file)
        try:
            with self.storage.whole(shard.file) as file, self._judging(shard, file):
                return MappedShard(f"/proc/self/fd/{file.fileno()}", name)
        except FileNotFoundError:
            raise UserError(MISSING.format(name)) from None

    def verified(self, shard: Shard) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yields the samples of one shard as stored (see `decode`), after a check of its sha256 against the
        manifest. Raises UserError."""
        name = self.storage.join(shard.file)
        try:
            with self.storage.whole(shard.file) as file:
                # The checksum first, so that no changed sample is yielded.
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                if sha256 != self.sha256[shard.file]:
                    advice = "`python -m synth verify` names the changed member"
                    raise UserError(f"{name} is not the file that its manifest describes; {advice}")

                file.seek(0)
                with self._judging(shard, file):
                    yield from _all_of(shard, name, self.remedy, read_members(file, name))
        except FileNotFoundError:
            raise UserError(MISSING.format(name)) from None

    @contextlib.contextmanager
    def _judging(self, shard: Shard, file: BinaryIO) -> Iterator[None]:
        """Turns the failure to parse a tar into the right error, by its checksum."""
        try:
            yield
        except UnreadableError as error:
            raise judged(error, file, self.sha256[shard.file], self.remedy) from None


def _all_of(shard: Shard, name: str, remedy: str, samples: Iterable[T]) -> Iterator[T]:
    """Yields the samples of a shard. Raises UserError at the end if the manifest says another number."""
    count = 0
    for count, sample in enumerate(samples, 1):  # noqa: B007
        yield sample
    if count != shard.count:
        raise UserError(f"{name} holds {count} samples where the manifest says {shard.count}; {remedy}")
