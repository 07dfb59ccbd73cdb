"""The recipe of a set: the settings that decide its pixels and bytes, and the samples that follow."""

import json
import traceback
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from zlib_ng import zlib_ng

from synth import datasets, families, settings
from synth.errors import UserError
from synth.families import Family
from synth.images.codecs import CODECS, Codec, encode_png
from synth.images.pictures import Picture, UnfitError

Json = dict[str, Any]

MASK = "mask.png"  # extension of an instance mask in a shard

# The errors of a family's classes at JSON with values of other types.
_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)

# The entries of an identity that a recipe is read from.
_KINDS: dict[str, type[object]] = {
    "dataset": str,
    "law": int,
    "config": dict,
    "size": int,
    "seed": int,
    "shard_size": int,
}


def checksum(data: bytes) -> str:
    """Returns the CRC-32 of a picture file, eight hex digits. It finds the changed member of a tar, after the
    tar's sha256 shows a change."""
    return f"{zlib_ng.crc32(data):08x}"


def mask_file(picture: Picture) -> bytes:
    """Returns the instance mask of a picture as a PNG. Raises ValueError if it has none."""
    if picture.mask is None:
        raise ValueError("the picture has no mask")
    return encode_png(picture.mask[..., None])


class DrawError(Exception):
    """A failure of a family at a picture, with its traceback: a defect of the program."""


class Encoded(NamedTuple):
    """A sample, ready to be written."""

    files: dict[str, bytes]  # by extension
    pixels: np.ndarray  # uint8 (S, S, C)
    redraws: int


@dataclass(frozen=True)
class Recipe:
    """A data set with all settings except the number of pictures. It is sent to the workers."""

    dataset: datasets.DataSet
    config: Any  # the family's Config
    size: int
    seed: int
    shard_size: int
    codec: str

    @classmethod
    def of(cls, identity: Json) -> Self:
        """Returns the recipe of a manifest's or record's identity. Raises UserError if this checkout draws
        another law or has other settings, or the identity is damaged."""
        for name, kind in _KINDS.items():
            if not isinstance(identity.get(name), kind):
                raise UserError(f"the {name} in the set's identity is missing or damaged; make the set again")

        # The law first, as another law may have other settings.
        dataset = datasets.get(identity["dataset"])
        _family(dataset.family, identity["law"])
        try:
            family_config = settings.from_json(dataset.module.Config, identity["config"])
        except _MALFORMED as error:
            raise UserError(f"this checkout has other settings of {dataset.name}: {error}") from None

        codec_of(identity)
        size, seed = identity["size"], identity["seed"]
        return cls(dataset, family_config, size, seed, identity["shard_size"], identity["codec"])

    @property
    def identity(self) -> Json:
        """The recipe as JSON: its sha256 is the set's fingerprint."""
        identity = {
            "dataset": self.dataset.name,
            "family": self.dataset.family,
            "law": self.dataset.module.LAW,
            "stream": self.dataset.stream,
            "config": self.config,
            "size": self.size,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "codec": self.codec,
        }
        # Written and read, so that it equals the identity in a manifest: lists, and sha256s for tables.
        return json.loads(settings.canonical(identity))

    @property
    def renderer(self) -> Json:
        """The renderer's entry in samples and records, empty if exnihilo itself draws the pictures."""
        return families.renderer(self.dataset)

    def render(self, index: int) -> tuple[Any, Picture]:
        """Returns parameters and picture of an index. Raises UserError if its class gives none."""
        return families.render(self.dataset, self.config, seed=self.seed, index=index, size=self.size)

    def describe(self, index: int, params: Any, picture: Picture) -> Json:
        """Returns the JSON of a sample, without the checksum of its picture file."""
        return families.describe(
            self.dataset, self.config, params, picture, seed=self.seed, index=index, size=self.size
        )

    def encode(self, index: int) -> Encoded:
        """Returns a sample, ready to be written. Raises UserError if its class gives no picture, DrawError if
        the family fails."""
        try:
            params, picture = self.render(index)
            codec = CODECS[self.codec]
            encoded = codec.encode(picture.pixels)
            metadata = {**self.describe(index, params, picture), "crc32": checksum(encoded)}
            files = {codec.extension: encoded, "json": settings.canonical(metadata)}
            if picture.mask is not None:
                files[MASK] = mask_file(picture)
            return Encoded(files, picture.pixels, getattr(params, "redraws", 0))
        except UserError:
            raise
        except Exception as error:
            # A defect of the family. Its traceback does not survive the way between processes.
            sentence = f"picture {index} could not be drawn: {type(error).__name__}: {error}"
            raise DrawError(f"{sentence}\n{traceback.format_exc()}") from None


def codec_of(identity: Json) -> Codec:
    """Returns the codec of a manifest's identity. Raises UserError if it has none that is known."""
    name = identity.get("codec")
    if not isinstance(name, str) or name not in CODECS:
        fault = f"the codec in the set's identity is {name!r}; known are {', '.join(CODECS)}"
        raise UserError(f"{fault}; make the set again")
    return CODECS[name]


def redraw(metadata: Json) -> np.ndarray:
    """Draws a picture again from its sample's JSON alone: uint8 (S, S, C). Raises UserError if the JSON does
    not describe a picture."""
    try:
        family = _family(metadata["family"], metadata["law"])
        return family.render(settings.from_json(family.Params, metadata["params"]), metadata["size"]).pixels
    except (*_MALFORMED, UnfitError) as error:
        raise UserError(f"this sample's JSON does not describe a picture: {error}") from None


def _family(name: str, law: int) -> Family:
    """Returns the module of a family. Raises UserError if this checkout has no such family or law."""
    # Several data sets may share a family.
    module = next((d.module for d in datasets.DATASETS.values() if d.family == name), None)
    if module is None:
        names = ", ".join(sorted({dataset.family for dataset in datasets.DATASETS.values()}))
        raise UserError(f"this checkout has no family {name!r}; it has {names}")
    if law != module.LAW:
        raise UserError(f"these pictures follow law {law} of {name}; this checkout draws law {module.LAW}")
    return module
