"""The table of named data sets, and the contract of a family.

A family is a module of this package, found by its name, that holds

    LAW                                     integer, raised when its golden pixels change
    Config                                  frozen dataclass with `classes` and `channels` (1 grey, 3 RGB); its fields are what --set takes
    Params                                  frozen dataclass: everything that a picture is drawn from, as plain numbers and tuples
    sample_class(config, stream)            what all pictures of a class share
    sample_instance(config, class, stream)  -> Params
    render(params, size)                    -> pictures.Picture, or raises pictures.UnfitError where there is nothing to see

and, where its pictures come from programs that are vetted before they are drawn by a renderer, also

    ready(config, stored)                   the config with its `programs`, which `stored`, the target's programs.json, may hold already
    vet(config, device)                     the Programs that such a config comes to, vetted now
    renderer()                              what draws the pictures, and its version
    licence(config)                         what the card says of the pictures' licence, where that is not exnihilo's own

A picture that is unfit is drawn anew from the next numbers of its stream; Params then has the field `redraws`. Where classes have tables
(class_tables), what sample_class gives back is a system.
"""

import importlib
from dataclasses import dataclass, replace
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
    base: str = ""  # the data set whose random streams it shares; none: its own

    @property
    def stream(self) -> str:
        """The name under which its random streams are drawn."""
        return self.base or self.name

    @property
    def module(self) -> ModuleType:
        """The family's module (imported when asked for: it compiles kernels)."""
        return importlib.import_module(f"synth.families.{self.family}")


DATASETS = {
    dataset.name: dataset
    for dataset in [
        DataSet("visual_atoms", "visual_atoms", {}, "contours of superposed sine waves, grey on black"),
        DataSet("fractals", "fractals", {}, "coloured fractals on coloured clouds"),
        DataSet("fractals_without_color", "fractals", {"colour": "grey"}, "fractals on clouds, in grey", "fractals"),
        DataSet("fractals_without_background", "fractals", {"backdrop": "black"}, "coloured fractals on black", "fractals"),
        DataSet(
            "fractals_corrupted_contour",
            "fractals",
            {"backdrop": "black", "lines": 100},
            "coloured fractals on black, cut by lines",
            "fractals",
        ),
        DataSet("fractals_multi", "fractal_scenes", {}, "one to five coloured fractals on coloured clouds", "fractals"),
        DataSet("shaders", "shaders", {}, "programs of our own on the graphics pipeline: fields, tilings, solids, fractals"),
        DataSet("shaders21k", "imported_shaders", {}, "programs of other people, from a copy of Shaders21k or another folder"),
        DataSet("fractaldb", "fractaldb", {}, "grey fractals of the original FractalDB"),
    ]
}


def get(name: str) -> DataSet:
    """The data set of that name. Raises UserError, listing the known."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def sample_class(dataset: DataSet, config: Any, *, seed: int, number: int) -> Any:
    """What all pictures of a class share."""
    return dataset.module.sample_class(config, seeds.stream(seed, dataset.stream, number))


def sample_params(dataset: DataSet, config: Any, *, seed: int, index: int, redraws: int = 0) -> Any:
    """The parameters of picture `index` after so many redraws: class index mod C, instance index div C."""
    instance, number = divmod(index, config.classes)
    shared = sample_class(dataset, config, seed=seed, number=number)
    stream = seeds.stream(seed, dataset.stream, number, instance)
    for _ in range(redraws):
        dataset.module.sample_instance(config, shared, stream)
    params = dataset.module.sample_instance(config, shared, stream)
    return replace(params, redraws=redraws) if redraws else params
