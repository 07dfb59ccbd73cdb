"""DOOR. The caption table: one Parquet file per shard, of the same stem and order, joined to it by key.

    key               string
    index             int64                  row number in the set
    image_embedding   halffloat[D]           clean encoder output, unit length
    pseudo_caption    halffloat[D]           equation 3, draw 0 (caption.pseudo)
    caption           list<string>           attribute sentences, or the human captions of a real set
    text_embedding    list<halffloat[D]>     of the captions, unit length; only with --text-embeddings or
                                             human captions

Tables of formula pictures that are made with --names have two more columns, the ground truth of
caption/blending.py:

    name              list<string>           the bare name of the picture, one of each sample
    name_embedding    list<halffloat[D]>     of these names, unit length

Tables of `recaption` have two more columns:

    synthetic_caption     list<string>           the captions of a captioner, one of each sample
    synthetic_embedding   list<halffloat[D]>     of these captions, unit length

Axes: N rows, D dimensions of the embedding.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caption import table_folder
from synth.errors import UserError
from synth.sets import ledger
from synth.sets.damage import UnreadableError, judged
from synth.sets.mapping import mapped
from synth.sets.records import Part
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder, Storage, open_storage, reading
from synth.settings import canonical

KIND = "captions"  # in the identity of such a set
LAW = 1  # increased when the same request gives other vectors
ROWS_AT_ONCE = 4096  # in a row group, at least
VECTORS = ("image_embedding", "pseudo_caption")

_TEXT = "text_embedding"
_NAMES = ("name", "name_embedding")
_SYNTHETIC = ("synthetic_caption", "synthetic_embedding")
_DIGEST = "manifest_digest"
_AGAIN = "remove it and repeat the command that made the tables"

Json = dict[str, Any]


class Rows(NamedTuple):
    """Consecutive rows of a table."""

    keys: Sequence[str]
    first: int  # index of the first
    image_embedding: np.ndarray  # float16 (N, D)
    pseudo_caption: np.ndarray  # float16 (N, D)
    captions: Sequence[Sequence[str]]
    text_embedding: Sequence[np.ndarray] | None  # float16 (captions of the row, D) each
    synthetic_caption: Sequence[Sequence[str]] | None = None  # of a captioner
    synthetic_embedding: Sequence[np.ndarray] | None = None  # float16 (its captions of the row, D) each
    name: Sequence[Sequence[str]] | None = None  # of formula pictures
    name_embedding: Sequence[np.ndarray] | None = None  # float16 (1, D) each


class TableWriter:
    """A writer of one table, in slices of rows. `size` (bytes) and `sha256` exist once it is closed."""

    size: int
    sha256: str

    def __init__(
        self,
        path: str,
        dimensions: int,
        *,
        text_embeddings: bool,
        metadata: dict[str, str],
        synthetic: bool = False,
        names: bool = False,
    ) -> None:
        self._path = path
        self._schema = _schema(dimensions, text_embeddings, synthetic, metadata, names=names)
        self._waiting: list[pa.RecordBatch] = []

        # Compression and dictionaries cost time and save nothing for vectors.
        texts = ("key", "index", "caption", _NAMES[0], _SYNTHETIC[0])
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            use_dictionary=["caption.list.element"],
            compression={name: "zstd" if name in texts else "none" for name in self._schema.names},
            write_statistics=["key", "index"],
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            with open(self._path, "rb") as file:
                self.sha256, self.size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()

    def add(self, rows: Rows) -> None:
        """Appends rows."""
        # Columns.
        columns = [
            pa.array(rows.keys, pa.string()),
            pa.array(np.arange(rows.first, rows.first + len(rows.keys))),
            _vectors(rows.image_embedding),
            _vectors(rows.pseudo_caption),
            pa.array(rows.captions, pa.list_(pa.string())),
        ]
        if rows.text_embedding is not None:
            columns.append(_lists_of_vectors(rows.text_embedding, rows.image_embedding.shape[1]))
        pairs = (rows.name, rows.name_embedding), (rows.synthetic_caption, rows.synthetic_embedding)
        for lists, embedded in pairs:
            if lists is not None and embedded is not None:
                columns.append(pa.array(lists, pa.list_(pa.string())))
                columns.append(_lists_of_vectors(embedded, rows.image_embedding.shape[1]))
        arrays = [column.cast(field.type) for column, field in zip(columns, self._schema, strict=True)]

        # Row group.
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        if sum(b.num_rows for b in self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Writes the waiting rows as row groups."""
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
            self._waiting = []


class CaptionSet:
    """A finished set of caption tables, read through its manifest. Raises UserError if there is none."""

    def __init__(self, url: str) -> None:
        # Manifest.
        self.storage: Storage = open_storage(url)
        self.manifest = ledger.read_manifest(self.storage)
        self.identity: Json = self.manifest["identity"]
        if self.identity.get("kind") != KIND or "shards" not in self.manifest:
            raise UserError(
                f"{self.storage.url} holds no caption tables;"
                " `python -m caption captions SHARDS` makes them from a set of shards"
            )

        # Tables.
        self.digest = ledger.manifest_digest(self.manifest)
        self.dimensions = int(self.identity["dimensions"])
        self.parts = [
            Part(p["file"], p["number"], p["first"], p["count"], p["content"]) for p in self.manifest["parts"]
        ]
        self.place = table_folder.of_finished(self.storage, self.parts[0].file)  # of the Parquet files

    def __len__(self) -> int:
        return int(self.manifest["samples"])

    @property
    def columns(self) -> list[str]:
        """The names of the tables' columns."""
        synthetic, names = "captioner" in self.identity, "names" in self.identity
        return _schema(self.dimensions, self.identity["text_embeddings"], synthetic, {}, names=names).names

    def require_made_for(self, shard_set: ShardSet) -> None:
        """Raises UserError if the tables belong to another set of shards, or to this one before it grew."""
        # The fingerprint decides the pictures. The digest also changes when the set grows.
        shards, tables = shard_set.storage.url, self.storage.url
        identity = self.manifest["shards"]
        if identity["fingerprint"] != shard_set.manifest["fingerprint"]:
            raise UserError(
                f"the tables of {tables} were made for another set of shards than {shards};"
                f" `python -m caption captions {shards}` makes tables for these"
            )
        if identity["digest"] != shard_set.digest:
            raise UserError(
                f"{shards} has changed since the tables of {tables} were made;"
                " repeat the command that made the tables"
            )

    def read(self, part: Part, columns: Sequence[str], keys: Sequence[str] | None = None) -> pa.Table:
        """Returns columns of one table.

        If `keys` are given, compares its keys with them. Raises UserError if the table is damaged, belongs to
        another shard, or has other keys."""
        # File.
        name = self.place.join(part.file)
        try:
            # A local table is mapped, so that only the columns are read.
            local = isinstance(self.place, Folder)
            table = read_table(name if local else self.place.read(part.file), name, columns, keys)
        except UnreadableError as error:
            sha256 = next(p["sha256"] for p in self.manifest["parts"] if p["file"] == part.file)
            with self.place.whole(part.file) as file:
                raise judged(error, file, sha256, _AGAIN) from None
        except FileNotFoundError:
            raise UserError(
                f"{name} is missing though the manifest names it; repeat the command that made the tables"
            ) from None

        # Agreement with the manifest.
        problem = None
        if table.num_rows != part.count:
            problem = f"it has {table.num_rows:,} rows and not {part.count:,}"
        if field := self._differing(part, table.schema.metadata or {}):
            problem = f"its {field} is another"
        if problem:
            raise UserError(f"{name} is not the table that the manifest names: {problem}; {_AGAIN}")
        return table

    def vectors(self, part: Part, column: str = VECTORS[0]) -> np.ndarray:
        """Returns a column of vectors of one table: float16 (N, D). Raises UserError as `read` does."""
        return vectors(self.read(part, [column])[column], self.dimensions)

    def _differing(self, part: Part, stored: dict[bytes, bytes]) -> str | None:
        """Returns the first metadata field of a table that differs from the manifest.

        The manifest digest is not compared, because the set may have grown since."""
        expected = metadata(self.identity, part.content["shard"], "")
        del expected[_DIGEST]
        return next((k for k, v in expected.items() if stored.get(k.encode()) != v.encode()), None)


def read_table(
    file: str | bytes, name: str, columns: Sequence[str], keys: Sequence[str] | None = None
) -> pa.Table:
    """Returns columns of one table, from its path or content.

    If `keys` are given, compares its keys with them. Raises UnreadableError if the table does not parse.
    Raises UserError if it has other keys."""
    names = [*columns, "key"] if keys is not None and "key" not in columns else list(columns)
    try:
        with reading(name), pq.ParquetFile(_in_memory(file), page_checksum_verification=True) as parquet:
            missing = [column for column in names if column not in parquet.schema_arrow.names]
            table = None if missing else parquet.read(names, use_threads=False)
    except FileNotFoundError:
        raise
    # Arrow's errors about content are OSErrors too, without a number.
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(name, f"({str(error).splitlines()[0].rstrip('.')})") from None

    # Columns and keys.
    if table is None:
        advice = f"`python -m caption captions SHARDS --text-embeddings` adds {_TEXT} to sentences"
        if missing[0] in _SYNTHETIC:
            advice = "`python -m caption recaption SHARDS` makes tables with captions of a captioner"
        if missing[0] in _NAMES:
            advice = "`python -m caption captions SHARDS --names` makes tables with names"
        raise UserError(f"{name} has no column {missing[0]}; {advice}")
    if keys is not None:
        _require_keys(name, table["key"].to_pylist(), keys)
    return table


def _in_memory(file: str | bytes) -> pa.BufferReader:
    """Returns a reader of bytes, or of a local file that it maps into memory.

    Arrow reads anything else in a thread. Now and then that aborts a process that ends soon after."""
    return pa.BufferReader(pa.py_buffer(file if isinstance(file, bytes) else mapped(file)))


def metadata(identity: Json, shard_sha256: str, manifest_digest: str) -> dict[str, str]:
    """Returns the metadata of a table: its encoder, noise and captioner, its shard, and the shards' manifest
    digest."""
    captioner = identity.get("captioner")
    return {
        **{name: str(identity[name]) for name in ("encoder", "precision", "dimensions", "xi", "seed")},
        "encoder_sha256": identity["weights"],
        "preprocessing": canonical(identity["preprocessing"]).decode(),
        **({"captioner": canonical(captioner).decode()} if captioner else {}),
        "shard_sha256": shard_sha256,
        _DIGEST: manifest_digest,
    }


def vectors(column: pa.ChunkedArray, dimensions: int) -> np.ndarray:
    """Returns a column of vectors as an array, float16 (N, D). It is not copied if it is one chunk."""
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions)


def text_vectors(column: pa.ChunkedArray, dimensions: int) -> list[np.ndarray]:
    """Returns a text_embedding column: float16 (captions of the row, D) for each row."""
    rows: Iterator[Any] = (row.values for row in column)
    return [
        np.zeros((0, dimensions), np.float16) if v is None else v.flatten().to_numpy().reshape(-1, dimensions)
        for v in rows
    ]


def _require_keys(name: str, table_keys: Sequence[str], shard_keys: Sequence[str]) -> None:
    """Raises UserError if the keys of a table are not those of its shard."""
    # Older tables have the last part of each key, without its folders.
    if list(table_keys) == [key.rsplit("/", 1)[-1] for key in shard_keys]:
        return

    # A different key is more precise than the counts.
    pairs = zip(table_keys, shard_keys, strict=False)
    different = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
    problem = None
    if len(table_keys) != len(shard_keys):
        problem = f"{len(table_keys)} keys and {len(shard_keys)}"
    if different:
        problem = f"the table has key {different[0]} and the shard has {different[1]} in the same row"
    if problem:
        shard = f"{name.rsplit('.', 1)[0].rsplit('/', 1)[-1]}.tar"
        raise UserError(f"{name} and {shard} do not agree: {problem}; {_AGAIN}")


def _schema(
    dimensions: int,
    text_embeddings: bool,
    synthetic: bool,
    metadata: dict[str, str],
    *,
    names: bool = False,
) -> pa.Schema:
    # Types.
    vector = pa.list_(pa.field("element", pa.float16(), nullable=False), dimensions)
    texts = pa.list_(pa.field("element", pa.string(), nullable=False))
    vectors_of_texts = pa.list_(pa.field("element", vector, nullable=False))

    # Columns.
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("index", pa.int64(), nullable=False)]
    fields += [pa.field(name, vector, nullable=False) for name in VECTORS]
    fields.append(pa.field("caption", texts, nullable=False))
    if text_embeddings:
        fields.append(pa.field(_TEXT, vectors_of_texts, nullable=False))
    for pair in ([_NAMES] if names else []) + ([_SYNTHETIC] if synthetic else []):
        fields.append(pa.field(pair[0], texts, nullable=False))
        fields.append(pa.field(pair[1], vectors_of_texts, nullable=False))
    return pa.schema(fields, metadata=metadata)


def _vectors(array: np.ndarray) -> pa.Array:
    """Returns vectors (N, D) as a column of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(array, np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _lists_of_vectors(arrays: Sequence[np.ndarray], dimensions: int) -> pa.Array:
    """Returns arrays (any number, D) as a column of lists of vectors."""
    offsets = np.cumsum([0, *(len(a) for a in arrays)], dtype=np.int32)
    flat = np.concatenate(arrays) if arrays else np.zeros((0, dimensions), np.float16)
    return pa.ListArray.from_arrays(offsets, _vectors(flat.reshape(-1, dimensions)))
