"""DOOR. The table of named data sets: presets of families (synth/families).

The module also draws the parameters of their pictures.
"""

import functools
import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from synth import seeds
from synth.errors import UserError

if TYPE_CHECKING:
    from synth.families import Family


@dataclass(frozen=True)
class DataSet:
    """A named preset of a family."""

    name: str
    family: str
    config: dict[str, Any]  # differences from the family's own Config
    title: str
    base: str = ""  # the data set with the same random streams; empty: it has streams of its own

    @property
    def stream(self) -> str:
        """The name under which its random streams are drawn."""
        return self.base or self.name

    @property
    def module(self) -> "Family":
        """The family's module, imported at the first use: it compiles kernels."""
        return _module(self.family)


@functools.cache
def _module(family: str) -> "Family":
    # Even a repeated import takes microseconds, and each picture asks for its family several times.
    return cast("Family", importlib.import_module(f"synth.families.{family}"))


# Differences of the ablations of the seed paper.
_GREY = {"colour": "grey"}
_BLACK = {"backdrop": "black"}
_CUT = {"backdrop": "black", "lines": 100}

# The small, exact world of scenes.
_FLAT = {
    "objects": (1, 3),
    "kinds": ("disc", "square", "triangle", "star", "ring", "cross"),
    "sizes": ("small", "large"),
    "fillings": ("flat",),
    "backdrops": ("flat",),
    "overlap": False,
    "turn": (-0.025, 0.025),
    "shade": 0,
}

# Titles, which manifests hold.
_ATOMS = "contours of superposed sine waves, grey on black"
_SCENES = "one to five coloured fractals on coloured clouds"
_SHADERS = "programs of our own on the graphics pipeline: fields, tilings, solids, fractals"
_IMPORTED = "programs of other people, from a copy of Shaders21k or another folder"
_ON_CLOUDS = "coloured fractals on coloured clouds"
_IN_GREY = "fractals on clouds, in grey"
_ON_BLACK = "coloured fractals on black"
_WITH_LINES = "coloured fractals on black, cut by lines"
_OBJECTS = "one to six objects over a backdrop, every fact known"
_FLAT_OBJECTS = "one to three flat objects with gaps between them, every fact known"
_ORIGINAL = "grey fractals of the original FractalDB"
_NOISE = "noise of two or three colours with the power spectrum 1 / f^a, a from 0.5 to 1.5"

_TABLE = (
    DataSet("visual_atoms", "visual_atoms", {}, _ATOMS),
    DataSet("fractals", "fractals", {}, _ON_CLOUDS),
    DataSet("fractals_without_color", "fractals", _GREY, _IN_GREY, base="fractals"),
    DataSet("fractals_without_background", "fractals", _BLACK, _ON_BLACK, base="fractals"),
    DataSet("fractals_corrupted_contour", "fractals", _CUT, _WITH_LINES, base="fractals"),
    DataSet("fractals_multi", "fractal_scenes", {}, _SCENES, base="fractals"),
    DataSet("shaders", "shaders", {}, _SHADERS),
    DataSet("shaders21k", "imported_shaders", {}, _IMPORTED),
    DataSet("fractaldb", "fractaldb", {}, _ORIGINAL),
    DataSet("noise", "noise", {}, _NOISE),
    DataSet("scenes", "scenes", {}, _OBJECTS),
    DataSet("scenes_flat", "scenes", _FLAT, _FLAT_OBJECTS),
)
DATASETS = {dataset.name: dataset for dataset in _TABLE}


def get(name: str) -> DataSet:
    """Returns the data set of that name. Raises UserError, which lists the known names."""
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def sample_class(dataset: DataSet, config: Any, *, seed: int, number: int) -> Any:
    """Returns the parameters that all pictures of a class share."""
    return dataset.module.sample_class(config, seeds.stream(seed, dataset.stream, number))


def sample_params(dataset: DataSet, config: Any, *, seed: int, index: int, redraws: int = 0) -> Any:
    """Returns the parameters of picture `index` after `redraws` redraws. The class is index mod C, the
    instance is index div C."""
    instance, number = divmod(index, config.classes)
    shared = sample_class(dataset, config, seed=seed, number=number)
    stream = seeds.stream(seed, dataset.stream, number, instance)
    # A redraw takes the next numbers of the stream, so the rejected draws come first.
    for _ in range(redraws):
        dataset.module.sample_instance(config, shared, stream)
    params = dataset.module.sample_instance(config, shared, stream)
    # Families that never redraw have no such field.
    return replace(params, redraws=redraws) if redraws else params
