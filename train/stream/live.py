"""Live sets: pictures of formulas and their sentences, drawn by the readers of a run without shards.

The picture with an index equals that of shards with the same data set, settings, seed and size, bit for bit.
Its texts equal those of their caption tables. `--live NAME` names a data set of synth, and `--set
live.NAME.KEY=VALUE` changes a setting: one of its family, or one of `Settings`. Drawing needs numba alone.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, Self, overload

import numpy as np

from caption.sentences import attributes, names
from synth import datasets, families, settings
from synth.datasets import DataSet
from synth.errors import UserError
from synth.images.codecs import rgb
from synth.images.pictures import Picture, box_average, measure
from synth.options import LARGEST, MOST
from train.model import CaptionedPicture
from train.stream import mixture

NUMBERS = 1 << 40  # pictures of a live set have numbers from a multiple of this on
LIVE, STORED = "live", "on"  # first words of settings of one set, as in live.scenes.objects=1,2
_MOST_PICTURES = 1 << 32  # of an epoch: readers keep a list of its shards
_ROUNDING = 1e-6  # of shares

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The settings of every live set. The settings of its family come besides."""

    share: float | None = None  # of the visits; None: an equal part of what the others leave
    seed: int = 0
    size: int | None = None  # pixels a side that are drawn and averaged down; None: the model's resolution
    pictures: int | None = None  # of an epoch; None: every visit draws a new picture

    def __post_init__(self) -> None:
        for name in ("share", "seed", "size", "pictures"):
            value, least = getattr(self, name), 0 if name in ("share", "seed") else 1
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}")
        for name, most in (("seed", MOST), ("pictures", _MOST_PICTURES)):
            if (getattr(self, name) or 0) > most:
                raise ValueError(f"{name} must be at most {most:,}")


@dataclass(frozen=True)
class LiveSet:
    """A data set that is drawn while training. It is sent to reader processes."""

    dataset: DataSet
    config: Any  # the family's Config
    seed: int
    size: int
    pictures: int | None  # of an epoch; None: endless
    names: int = names.LAW  # the law of its listings

    @property
    def identity(self) -> Json:
        """Everything that determines the pictures and their texts, as plain JSON."""
        identity = {
            "dataset": self.dataset.name,
            "family": self.dataset.family,
            "law": self.dataset.module.LAW,
            "sentences": attributes.law(self.dataset.family),
            "names": self.names,
            "stream": self.dataset.stream,
            "config": self.config,
            "size": self.size,
            "seed": self.seed,
            "pictures": self.pictures,
        }
        return dict(json.loads(settings.canonical(identity)))

    @classmethod
    def of(cls, identity: Json) -> Self:
        """Returns the live set of an identity. Raises UserError if this checkout draws other pictures."""
        dataset, wanted = datasets.get(identity["dataset"]), "the version of exnihilo that trained on it"
        try:
            family = settings.from_json(dataset.module.Config, identity["config"])
            seed, size, pictures = (identity[name] for name in ("seed", "size", "pictures"))
            law = identity["names"] if identity["names"] in names.SAME else names.LAW
            same = cls(dataset, family, seed, size, pictures, law)
            if same.identity == {**identity, "config": same.identity["config"]}:
                return same
        except (TypeError, ValueError, AttributeError, KeyError):
            pass
        raise UserError(f"this checkout cannot draw {dataset.name} as it is recorded; use {wanted}")

    @property
    def row(self) -> Json:
        """The row of config.json, in the form of a stored set's."""
        name = self.dataset.name
        return {"url": None, "digest": settings.digest(self.identity), "dataset": name, "live": self.identity}

    def drawn(self, index: int) -> "LiveSample":
        """Returns a drawn sample. Raises UserError if its class gives no picture."""
        params, picture = families.render(
            self.dataset, self.config, seed=self.seed, index=index, size=self.size
        )
        return LiveSample(self, index, params, picture)

    def samples(self, resolution: int, texts: Callable[[Json], Sequence[str]]) -> Iterator[CaptionedPicture]:
        """Yields the pictures by index with these texts of their JSON, endlessly or for an epoch."""
        index = 0
        while self.pictures is None or index < self.pictures:
            sample = self.drawn(index)
            yield CaptionedPicture(rgb(box_average(sample.pixels, resolution)), tuple(texts(sample)))
            index += 1


class LiveSample(dict[str, Any]):
    """The JSON of a drawn sample, as sentences read it. An entry is made when it is first read.

    Most texts need few entries, and measuring a picture takes as long as writing its text."""

    def __init__(self, live_set: LiveSet, index: int, params: Any, picture: Picture) -> None:
        super().__init__(
            family=live_set.dataset.family, index=index, size=live_set.size, params=_named(params)
        )
        if picture.objects is not None:
            self["objects"] = picture.objects
        self._set, self._params, self._picture = live_set, params, picture

    @property
    def pixels(self) -> np.ndarray:
        """The picture: uint8 (S, S, C)."""
        return self._picture.pixels

    def __missing__(self, key: str) -> Any:
        """Returns an entry that has not been read before. Raises KeyError if the JSON has none."""
        self[key] = measure(self._picture) if key == "stats" else self.whole()[key]
        return self[key]

    def whole(self) -> Json:
        """Returns all entries, as in a shard: written and read, so that tuples are lists."""
        live_set, index = self._set, self["index"]
        sample = families.describe(
            *(live_set.dataset, live_set.config, self._params, self._picture),
            seed=live_set.seed,
            index=index,
            size=live_set.size,
        )
        return dict(json.loads(settings.canonical(sample)))


def _named(params: Any) -> Json:
    """Returns the fields of a dataclass by name, also those of dataclasses in its tuples."""
    named = dict(vars(params))
    for name, value in named.items():
        if isinstance(value, tuple) and value and is_dataclass(value[0]):
            named[name] = [_named(each) for each in value]
    return named


class Requested(NamedTuple):
    """The live sets of a command, and the shares of all its sets."""

    sets: tuple[LiveSet, ...]
    shares: tuple[float, ...]  # of the live sets, then of the stored ones


def split(changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the settings of single sets, and all others."""
    single = [change for change in changes if change.partition(".")[0] in (LIVE, STORED)]
    return single, [change for change in changes if change not in single]


def find(live: Sequence[str], stored: Sequence[str], changes: Sequence[str], resolution: int) -> Requested:
    """Returns the live sets of these names, and the shares of these and of the stored sets.

    `changes` have the form live.NAME.KEY=VALUE or on.NAME.share=VALUE. The share of a name acts on each of
    several stored sets with that name. Raises UserError for an unknown name or setting, for sets that need a
    renderer, and for shares that leave nothing for a set."""
    # Names.
    if doubled := next((name for name in live if list(live).count(name) > 1), None):
        raise UserError(f"--live {doubled} is given twice; give it once, with a larger share")
    by_name: dict[tuple[str, str], list[str]] = {(LIVE, name): [] for name in live}
    by_name |= {(STORED, name): [] for name in stored}
    for change in changes:
        # A name of a stored set may have dots.
        fits = [key for key in by_name if change.startswith(f"{'.'.join(key)}.")]
        if not fits:
            known = ", ".join(f"{one}.{other}.KEY" for one, other in by_name)
            raise UserError(f"--set {change} is of no set of this run; known are {known}")
        kind, name = max(fits, key=lambda key: len(key[1]))
        by_name[kind, name].append(change.removeprefix(f"{kind}.{name}."))

    # Sets and shares.
    drawn = [_live_set(name, by_name[LIVE, name], resolution) for name in live]
    wanted = [share for _, share in drawn] + [_stored_share(name, by_name[STORED, name]) for name in stored]
    return Requested(tuple(live_set for live_set, _ in drawn), _shares(wanted))


def recorded(shards: Json) -> Requested:
    """Returns the live sets of a run and the shares of all its sets, from the entry `shards` of config.json.

    Raises UserError if this checkout draws other pictures."""
    rows = shards.get("sets", [shards])
    sets = tuple(LiveSet.of(row["live"]) for row in rows if "live" in row)
    return Requested(sets, tuple(row["share"] for row in rows if "share" in row))


def _live_set(name: str, assignments: Sequence[str], resolution: int) -> tuple[LiveSet, float | None]:
    """Returns a live set with its share. Raises UserError if it cannot be drawn while training."""
    # The family. Its settings and those of a live set have no name in common.
    dataset = datasets.get(name)
    if hasattr(dataset.module, "vet"):
        shards = f"`make shards DATASET={name} SIZE={resolution}`, and --on {name}"
        raise UserError(f"programs draw {name}, and each takes long to start; use {shards}")
    family, general = dataset.module.Config(**dataset.config), Settings()
    if hasattr(family, "split"):
        family = replace(family, split="train")

    # Settings.
    known = [field.name for field in (*fields(Settings), *fields(family))]
    for assignment in assignments:
        key = assignment.partition("=")[0]
        if key not in known:
            names = ", ".join(f"live.{name}.{setting}" for setting in known)
            raise UserError(f"unknown setting live.{name}.{key}; known are {names}")
    of_general = [a for a in assignments if hasattr(general, a.partition("=")[0])]
    of_family = [a for a in assignments if a not in of_general]
    general = settings.with_settings(general, of_general, f"live.{name}.")
    family = settings.with_settings(family, of_family, f"live.{name}.")

    # Size.
    size = general.size or resolution
    factor, rest = divmod(size, resolution)
    if rest or factor & (factor - 1) or size > LARGEST:
        allowed = f"a power-of-two multiple of model.resolution = {resolution}, at most {LARGEST}"
        raise UserError(f"live.{name}.size is {size}; it must be {allowed}")
    return LiveSet(dataset, family, general.seed, size, general.pictures), general.share


def _stored_share(name: str, assignments: Sequence[str]) -> float | None:
    """Returns the share of a stored set, or None if none is given. Raises UserError for other settings."""
    for assignment in assignments:
        if (key := assignment.partition("=")[0]) != "share":
            raise UserError(f"unknown setting on.{name}.{key}; known is on.{name}.share")
    return settings.with_settings(Settings(), assignments, f"on.{name}.").share


def _shares(wanted: Sequence[float | None]) -> tuple[float, ...]:
    """Returns the shares, which sum to 1. Those that are not given get equal parts of the rest.

    Raises UserError if that leaves a set less than the smallest share."""
    given = sum(share or 0 for share in wanted)
    free = [share for share in wanted if share is None]
    shares = tuple((1 - given) / len(free) if share is None else share for share in wanted)
    if abs(sum(shares) - 1) > _ROUNDING or min(shares, default=1) < mixture.LEAST:
        problem = f"the shares of the sets are {', '.join(f'{share:.4g}' for share in shares)}"
        raise UserError(f"{problem}; they must sum to 1, and each be at least {mixture.LEAST}")
    return shares


class LiveShard:
    """A live set in the place of a shard: pictures and texts by row, which is the picture's index."""

    def __init__(self, live_set: LiveSet, first: int) -> None:
        self.first = first  # number of its first picture among those of all sets
        self._set = live_set
        self._samples: dict[int, LiveSample] = {}  # of this batch

    def picture(self, row: int, size: int) -> np.ndarray:
        """Returns the picture of a row, box-averaged: uint8 (size, size, C)."""
        return box_average(self.metadata(row).pixels, size)

    def metadata(self, row: int) -> LiveSample:
        """Returns the sample of a row. Draws it once a batch."""
        if row not in self._samples:
            self._samples[row] = self._set.drawn(row)
        return self._samples[row]

    def key(self, row: int) -> str:
        """Returns the key of a row, as in a shard."""
        return f"{row:09d}"

    def captions_of(self, row: int) -> Sequence[str]:
        """Returns the sentences of a picture, short and long. They are written when they are read."""
        return _Texts(2, lambda: attributes.sentences(self.metadata(row)))

    def sources(self, row: int) -> tuple[Sequence[str], Sequence[str]]:
        """Returns the synthetic texts of a picture, its sentences, and its ground truth, its bare name."""
        return self.captions_of(row), _Texts(1, lambda: [names.name(self.metadata(row))])

    def forget(self) -> None:
        """Drops the samples of a batch."""
        self._samples.clear()


class _Texts(Sequence[str]):
    """A known number of texts, written when one of them is read."""

    def __init__(self, count: int, write: Callable[[], list[str]]) -> None:
        self._count, self._write = count, write

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        return self._write()[number]
