"""DOOR. Families of pictures, one law per file; their contract; pictures drawn from a law without shards.

    for pixels, sample in draw("visual_atoms", None, seed=0, indices=range(64), size=128):
        ...

A family is a module of this package. It is imported at the first use of one of its data sets, because it
compiles kernels.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from synth import datasets, settings
from synth.datasets import DataSet
from synth.errors import UserError
from synth.images.pictures import Picture, UnfitError, measure
from synth.seeds import Stream

Json = dict[str, Any]

_REDRAWS = 100  # of a picture, before its class is given up


class Family(Protocol):
    """The contract of a family's module.

    Config is a frozen dataclass with `classes` and `channels` (1 grey, 3 RGB). --set takes its fields. Params
    is a frozen dataclass of all parameters of a picture, as plain numbers and tuples. It has the field
    `redraws` if the family raises UnfitError. Such a picture is drawn again, from the next numbers of its
    stream. If classes have tables (synth/class_tables.py), sample_class returns a system. A family with
    instance masks says so by the constant MASKS; its pictures have `mask` and `objects`."""

    LAW: int  # raised when the golden pixels change

    @property
    def Config(self) -> type[Any]:  # noqa: N802 (a class)
        """The settings of a data set."""

    @property
    def Params(self) -> type[Any]:  # noqa: N802 (a class)
        """The parameters of a picture."""

    def sample_class(self, config: Any, stream: Stream, /) -> Any:
        """Returns the parameters that all pictures of a class share."""

    def sample_instance(self, config: Any, shared: Any, stream: Stream, /) -> Any:
        """Returns the Params of a picture of that class."""

    def render(self, params: Any, size: int, /) -> Picture:
        """Returns the picture. Raises UnfitError if there is nothing to see."""


class Vetted(Family, Protocol):
    """The contract of a family with programs, which are vetted before a renderer draws them.

    It may also have `licence(config)`: the licence of the pictures, if that is not exnihilo's own."""

    def ready(self, config: Any, stored: bytes | None, /) -> Any:
        """Returns the config with its `programs`. `stored` is the target's programs.json, which may hold them
        already."""

    def vet(self, config: Any, device: str = "software", /) -> Any:
        """Returns the programs of a config, vetted now."""

    def renderer(self) -> str:
        """Returns the name and version of the renderer."""


def draw(
    dataset: DataSet | str, config: Any, seed: int, indices: Iterable[int], *, size: int = 256
) -> Iterator[tuple[np.ndarray, Json]]:
    """Yields the pictures of these indices, uint8 (size, size, C), each with its sample's JSON, as shards
    hold them.

    A config of None stands for the data set's own. The JSON has no checksum, as there is no file. Raises
    UserError if a class gives no picture."""
    # The data set and its settings.
    dataset = datasets.get(dataset) if isinstance(dataset, str) else dataset
    config = dataset.module.Config(**dataset.config) if config is None else config
    if hasattr(dataset.module, "ready"):
        config = dataset.module.ready(config, None)

    # Pictures. Their JSON is written and read, so that tuples are lists, as in a shard.
    for index in indices:
        params, picture = render(dataset, config, seed=seed, index=index, size=size)
        sample = describe(dataset, config, params, picture, seed=seed, index=index, size=size)
        yield picture.pixels, json.loads(settings.canonical(sample))


def render(dataset: DataSet, config: Any, *, seed: int, index: int, size: int) -> tuple[Any, Picture]:
    """Returns parameters and picture of an index. Raises UserError if its class gives none."""
    for redraws in range(_REDRAWS):
        params = datasets.sample_params(dataset, config, seed=seed, index=index, redraws=redraws)
        try:
            return params, dataset.module.render(params, size)
        except UnfitError as error:
            reason = error
    fault = f"picture {index} showed nothing in {_REDRAWS} draws: {reason}"
    raise UserError(f"{fault}; change the settings or the class table")


def describe(
    dataset: DataSet, config: Any, params: Any, picture: Picture, *, seed: int, index: int, size: int
) -> Json:
    """Returns the JSON of a sample, without the checksum of its picture file."""
    # Picture i is instance i div C of class i mod C.
    instance, number = divmod(index, config.classes)
    return {
        "dataset": dataset.name,
        "family": dataset.family,
        "law": dataset.module.LAW,
        "index": index,
        "class": number,
        "instance": instance,
        "seed": seed,
        "size": size,
        "params": vars(params),
        **renderer(dataset),
        "stats": measure(picture),
        **({"objects": picture.objects} if picture.objects is not None else {}),
    }


def renderer(dataset: DataSet) -> Json:
    """Returns the `renderer` entry of samples and records, or nothing if exnihilo itself draws the
    pictures."""
    return {"renderer": dataset.module.renderer()} if hasattr(dataset.module, "renderer") else {}
