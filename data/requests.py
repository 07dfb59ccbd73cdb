"""The request of a preparation. Commands import it without the code that carries it out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareRequest:
    """The options of one `prepare` command."""

    out: str  # the splits are OUT/SPLIT
    size: int = 256
    codec: str = "png"
    shard_size: int = 4096
    workers: int | None = None  # None: one per core, at most one per shard
    overwrite: bool = False
