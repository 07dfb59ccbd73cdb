"""The recipe of a set: what decides its pixels and bytes, and the samples that follow from it."""

import json
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
from zlib_ng import zlib_ng

from synth import datasets, settings
from synth.errors import UserError
from synth.images.codecs import CODECS
from synth.images.pictures import Picture, UnfitError, measure

Json = dict[str, Any]

_REDRAWS = 100  # of a picture, before its class is given up


def checksum(data: bytes) -> str:
    """CRC-32 of a picture file, eight hex digits: it tells which member of a tar was changed, where the tar's sha256 tells that one was."""
    return f"{zlib_ng.crc32(data):08x}"


class DrawError(Exception):
    """A family failed at a picture: a defect of the program, with its traceback."""


class Encoded(NamedTuple):
    """A sample, ready to be written."""

    files: dict[str, bytes]  # by extension
    pixels: np.ndarray  # uint8 (S, S, C)
    redraws: int


@dataclass(frozen=True)
class Recipe:
    """A data set with everything chosen but the number of pictures; it travels to the workers."""

    dataset: datasets.DataSet
    config: Any  # the family's Config
    size: int
    seed: int
    shard_size: int
    codec: str

    @classmethod
    def of(cls, identity: Json) -> Self:
        """The recipe that a manifest or record states. Raises UserError where this checkout draws another law."""
        dataset = datasets.get(identity["dataset"])
        _family(dataset.family, identity["law"])
        family_config = settings.from_json(dataset.module.Config, identity["config"])
        return cls(dataset, family_config, identity["size"], identity["seed"], identity["shard_size"], identity["codec"])

    @property
    def identity(self) -> Json:
        """The recipe as JSON: its sha256 is the set's fingerprint."""
        identity = {
            "dataset": self.dataset.name,
            "family": self.dataset.family,
            "law": self.dataset.module.LAW,
            "stream": self.dataset.stream,
            "config": vars(self.config),
            "size": self.size,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "codec": self.codec,
        }
        return json.loads(settings.canonical(identity))

    @property
    def renderer(self) -> Json:
        """What draws the pictures, where that is not exnihilo alone."""
        return {"renderer": self.dataset.module.renderer()} if hasattr(self.dataset.module, "renderer") else {}

    def params(self, index: int) -> Any:
        """What picture `index` is drawn from."""
        return datasets.sample_params(self.dataset, self.config, seed=self.seed, index=index)

    def render(self, index: int) -> tuple[Any, Picture]:
        """Parameters and picture of an index. Raises UserError where its class gives none."""
        for redraws in range(_REDRAWS):
            params = datasets.sample_params(self.dataset, self.config, seed=self.seed, index=index, redraws=redraws)
            try:
                return params, self.dataset.module.render(params, self.size)
            except UnfitError as error:
                reason = error
        raise UserError(f"picture {index} was drawn {_REDRAWS} times in vain: {reason}; change the settings or the class table")

    def describe(self, index: int, params: Any, picture: Picture) -> Json:
        """The JSON of a sample, but for the checksum of its picture file."""
        instance, number = divmod(index, self.config.classes)
        return {
            "dataset": self.dataset.name,
            "family": self.dataset.family,
            "law": self.dataset.module.LAW,
            "index": index,
            "class": number,
            "instance": instance,
            "seed": self.seed,
            "size": self.size,
            "params": vars(params),
            **self.renderer,
            "stats": measure(picture),
        }

    def encode(self, index: int) -> Encoded:
        """A sample, ready to be written. Raises UserError where its class gives no picture, DrawError where the family fails."""
        try:
            params, picture = self.render(index)
            codec = CODECS[self.codec]
            encoded = codec.encode(picture.pixels)
            about = {**self.describe(index, params, picture), "crc32": checksum(encoded)}
            files = {codec.extension: encoded, "json": settings.canonical(about)}
            return Encoded(files, picture.pixels, getattr(params, "redraws", 0))
        except UserError:
            raise
        except Exception as error:
            sentence = f"picture {index} could not be drawn: {type(error).__name__}: {error}"
            raise DrawError(f"{sentence}\n{traceback.format_exc()}") from None


def redraw(about: Json) -> np.ndarray:
    """A picture drawn again from its sample's JSON alone: uint8 (S, S, C). Raises UserError where that JSON does not allow it."""
    try:
        family = _family(about["family"], about["law"])
        return family.render(settings.from_json(family.Params, about["params"]), about["size"]).pixels
    except (KeyError, TypeError, ValueError, UnfitError) as error:
        raise UserError(f"this sample's JSON does not describe a picture: {error}") from None


def _family(name: str, law: int) -> ModuleType:
    module = next((d.module for d in datasets.DATASETS.values() if d.family == name), None)
    if module is None:
        raise UserError(f"this checkout has no family {name!r}")
    if law != module.LAW:
        raise UserError(f"this was drawn by law {law} of {name}; this checkout draws law {module.LAW}")
    return module
