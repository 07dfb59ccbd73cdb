"""The sources of a stream: files of stored sets, live sets, and their encoder."""

from collections.abc import Sequence
from typing import NamedTuple

from caption.blending import Columns
from caption.encoders import EncoderSource
from train.stream.cache import Cache, Remote
from train.stream.live import LiveSet


class Sources(NamedTuple):
    """The files of all sets, and the live sets. It is sent to reader processes."""

    cache: Cache
    tars: Sequence[Remote]
    tables: Sequence[Remote]
    # Number of each shard's first sample among those of all sets. Live sets are the last shards.
    firsts: Sequence[int]
    # Columns of vectors and of texts that visits of each shard blend. Empty: they blend none.
    columns: Sequence[tuple[Columns, Columns]] = ()
    latents: Sequence[Remote] = ()  # one for each shard, if the model reads latents
    live: Sequence[LiveSet] = ()
    encoder: EncoderSource | None = None  # of the vectors of live sets
