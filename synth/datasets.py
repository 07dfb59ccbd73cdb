"""The table of named data sets, and the contract of a family.

A family is a module of this package, found by its name, that holds

    LAW                                     integer, raised when its golden pixels change
    CHANNELS                                1 grey or 3 RGB
    Config                                  frozen dataclass with `classes`; its fields are what --set takes
    Params                                  frozen, flat dataclass: everything that a picture is drawn from
    sample_class(config, stream)            what all pictures of a class share
    sample_instance(config, class, stream)  -> Params
    render(params, size)                    -> pictures.Picture
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from synth import seeds
from synth.errors import UserError


@dataclass(frozen=True)
class DataSet:
    """A named preset of a family."""

    name: str
    family: str
    config: dict[str, Any]  # what differs from the family's own Config
    title: str

    @property
    def module(self) -> ModuleType:
        """The family's module (imported when asked for: it compiles kernels)."""
        return importlib.import_module(f"synth.{self.family}")


DATASETS = {
    dataset.name: dataset
    for dataset in [
        DataSet("visual_atoms", "visual_atoms", {}, "contours of superposed sine waves, grey on black"),
    ]
}


def get(name: str) -> DataSet:
    """The data set of that name. Raises UserError, listing the known."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def sample_params(dataset: DataSet, config: Any, *, seed: int, index: int) -> Any:
    """The parameters of picture `index`: class index mod C, instance index div C."""
    instance, number = divmod(index, config.classes)
    shared = dataset.module.sample_class(config, seeds.stream(seed, dataset.name, number))
    return dataset.module.sample_instance(config, shared, seeds.stream(seed, dataset.name, number, instance))
