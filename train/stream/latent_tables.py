"""The table of latents: one Parquet file per shard, of the same stem and order, joined to it by key.

    key      string
    latent   halffloat[K S S]   the mean of the encoder's distribution, planes first

The manifest names the shards, the weights of the autoencoder, and the shape and deviation of the latents.

Axes: N rows, K planes, S side.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synth.errors import UserError
from synth.sets import ledger
from synth.sets.shards import ShardSet
from synth.sets.storage import Storage, open_storage

KIND = "latents"  # in the identity of such a set
LATENT = "latent"  # the column

_AT_ONCE = 512  # rows of a row group

Json = dict[str, Any]


class LatentWriter:
    """A writer of one table, in slices of rows. `size` (bytes) and `sha256` exist once it is closed."""

    size: int
    sha256: str

    def __init__(self, path: str, shape: Sequence[int], metadata: dict[str, str]) -> None:
        value = pa.field("element", pa.float16(), nullable=False)
        fields = [
            pa.field("key", pa.string(), nullable=False),
            pa.field(LATENT, pa.list_(value, math.prod(shape)), nullable=False),
        ]
        self._path, self._schema = path, pa.schema(fields, metadata=metadata)
        self._waiting: list[pa.RecordBatch] = []
        # Compression and dictionaries cost time and save nothing for latents.
        self._writer = pq.ParquetWriter(
            path, self._schema, use_dictionary=False, compression="none", write_page_checksum=True
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

    def add(self, keys: Sequence[str], latents: np.ndarray) -> None:
        """Appends rows: keys, and latents float16 (N, K, S, S)."""
        flat = pa.array(np.ascontiguousarray(latents, np.float16).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, latents[0].size).cast(self._schema.field(1).type)
        self._waiting.append(pa.record_batch([pa.array(keys, pa.string()), column], schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Writes the waiting rows as row groups."""
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
            self._waiting = []


class LatentSet:
    """A finished set of tables of latents, through its manifest. Raises UserError if there is none."""

    def __init__(self, url: str) -> None:
        self.storage: Storage = open_storage(url)
        self.manifest = ledger.read_manifest(self.storage)
        self.identity: Json = self.manifest["identity"]
        if self.identity.get("kind") != KIND:
            advice = "`python -m train latents SET --autoencoder RUN` makes them"
            raise UserError(f"{self.storage.url} holds no latents; {advice}")
        self.digest = ledger.manifest_digest(self.manifest)
        self.weights = str(self.identity["autoencoder"]["weights"])
        self.shape: tuple[int, int, int] = tuple(self.identity["shape"])

    @property
    def sums(self) -> tuple[int, float, float]:
        """The number of all values, their sum, and the sum of their squares."""
        rows = [part["content"] for part in self.manifest["parts"]]
        count = int(self.manifest["samples"]) * math.prod(self.shape)
        return count, sum(row["sum"] for row in rows), sum(row["square"] for row in rows)

    def require_made_for(self, shards: ShardSet) -> None:
        """Raises UserError if the tables belong to other shards, or to these before they changed."""
        if self.manifest["shards"]["digest"] != shards.digest:
            raise UserError(
                f"the latents of {self.storage.url} belong to other shards than {shards.storage.url};"
                " `python -m train latents SET --autoencoder RUN` makes them for these"
            )

    def require_made_by(self, weights: str, place: str) -> None:
        """Raises UserError if the tables belong to another autoencoder than the one in a place."""
        if self.weights != weights:
            raise UserError(
                f"the latents of {self.storage.url} belong to another autoencoder than {place};"
                f" `python -m train latents SET --autoencoder {place} --out DIR` makes them for this one"
            )


def deviation(sets: Sequence[LatentSet]) -> float:
    """Returns the standard deviation of all values of all sets, around one mean."""
    count, total, square = (sum(column) for column in zip(*(each.sums for each in sets), strict=True))
    return math.sqrt(max(square / count - (total / count) ** 2, 1e-12))
