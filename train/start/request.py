"""The options of a command that trains."""

from dataclasses import dataclass

from train import runs


@dataclass(frozen=True)
class TrainRequest:
    """The options of one `pretrain` or `finetune` command."""

    preset: str
    shards: tuple[str, ...]  # sets that are read as one
    out: str
    # The tables of each set. Empty: the only tables of these shards under data/captions.
    captions: tuple[str, ...] = ()
    images: int | None = None  # length of the run
    precision: str = "auto"
    text: str | None = None
    encoder: str | None = None  # None: the one that made the captions
    device: str = "auto"
    settings: tuple[str, ...] = ()
    source: str | None = None  # the run with the first weights: fine-tuning
    fraction: float | None = None
    latents: tuple[str, ...] = ()  # of each set; empty: those under data/latents
    live: tuple[str, ...] = ()  # data sets that are drawn while training
    # The run with the config and the live sets, in place of preset and options.
    replayed: runs.Run | None = None
