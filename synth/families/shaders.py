"""Shaders: pictures of our own GLSL programs, after Shaders21k (Baradad et al., Procedural Image Programs for
Representation Learning, NeurIPS 2022). The programs of Shaders21k belong to their authors.

A structure is a program text (synth/glsl/composer.py). A class is a structure with a parameter vector in
uniforms. An instance is a time, uniform on 0.1 to 10 s as in the paper, and a view: shift, zoom and turn.
Class c has structure c mod P of the P vetted ones (synth/vetting/programs.py), so that consecutive pictures
come from different structures. Classes are the same under every seed. Times and views follow the seed. A
picture that shows nothing is drawn again from the next numbers of its stream.

The foreground is the part that differs from the picture's modal colour (synth/vetting/judging.py). Parameters
are the same everywhere. Pixels are those of a renderer, which every sample and record names. Pixels of
another renderer differ by a few levels, and more at edges.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from synth import seeds, settings
from synth.errors import UserError
from synth.glsl import composer, gl
from synth.images.pictures import Picture, UnfitError
from synth.seeds import Stream
from synth.vetting import judging, programs, vetting
from synth.vetting.programs import Programs

Json = dict[str, Any]

LAW = 1  # raised when a structure, a class or the ranges of instances change

renderer = gl.renderer


@dataclass(frozen=True)
class Config:
    """The law's ranges."""

    classes: int = 21_000
    structures: int = 256  # programs; more than are shipped are vetted first
    programs: Programs | None = None  # the vetted ones: those shipped, or made for this set
    time: tuple[float, float] = (0.1, 10.0)  # seconds
    shift: tuple[float, float] = (-0.25, 0.25)  # each axis; the picture is 2 wide
    zoom: tuple[float, float] = (0.75, 1.35)
    turn: tuple[float, float] = (-0.4, 0.4)  # radians

    def __post_init__(self) -> None:
        settings.require_within(self, 1, 10**9, "classes", "structures")
        settings.require_within(self, -(10**6), 10**6, "time", "shift", "turn")
        settings.require_within(self, 0.001, 1000, "zoom")
        if not isinstance(self.programs, Programs):
            object.__setattr__(self, "programs", _shipped(self))
        if self.programs and not _composed(self.programs.content):
            raise ValueError(
                "its programs are not composed of exnihilo's blocks, as those of `vet shaders` are"
            )

    @property
    def channels(self) -> int:
        """The channels of the pictures: RGB."""
        return 3


@dataclass(frozen=True)
class Class:
    """The parameters that all pictures of a class share."""

    structure: int
    plan: str  # the name of its plan
    blocks: tuple[str, ...]  # the names of its blocks
    values: tuple[float, ...]  # of its uniforms


@dataclass(frozen=True)
class Params(Class):
    """Everything that a picture is drawn from."""

    time: float
    view: tuple[float, ...]  # shift to the right and up, zoom, turn
    redraws: int = 0


def ready(config: Config, stored: bytes | None) -> Config:
    """Returns the config with its programs. Vets them now if neither exnihilo nor the target's programs.json
    has them."""
    if config.programs is not None:
        return config

    # Stored programs count only if they were vetted for as many structures and classes, by the same law.
    inputs = {"structures": config.structures, "law": vetting.LAW}
    vetted = Programs.of(stored) if stored else None
    known = vetted.content if vetted else {}
    if vetted is None or (known.get("asked"), known.get("classes")) != (inputs, config.classes):
        vetted = _vetted(config.structures, config.classes)
    return replace(config, programs=vetted)


def vet(config: Config, device: str = "software") -> Programs:
    """Vets as many structures as the config has, and the first parameter vectors of its classes."""
    return vetting.structures(config.structures, config.classes, device)


def sample_class(config: Config, stream: Stream) -> Class:
    """Returns a class of the law. The stream holds its number."""
    assert config.programs is not None
    # Class c has structure c mod P.
    number, content = stream.path[0], config.programs.content
    accepted = content["programs"]
    structure = accepted[number % min(config.structures, len(accepted))]["structure"]

    # The first parameter vector that passed vetting.
    values = class_values(structure, number, content["attempts"].get(str(number), 0))
    program = composer.compose(structure)
    return Class(structure, program.plan, program.blocks, values)


def sample_instance(config: Config, shared: Class, stream: Stream) -> Params:
    """Returns the Params of a picture of a class: a time and a view. Zooms are uniform in their logarithm."""
    time = round(stream.uniform(*config.time), 4)
    shift = (round(stream.uniform(*config.shift), 4), round(stream.uniform(*config.shift), 4))
    low, high = config.zoom
    zoom = round(low * math.exp(stream.uniform(0, math.log(high / low))), 4)
    return Params(**vars(shared), time=time, view=(*shift, zoom, round(stream.uniform(*config.turn), 4)))


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 3). Raises UnfitError if it shows nothing."""
    with gl.vetted(f"structure {params.structure}"):
        pixels = draw(params, size)
    # A smaller thumbnail may well be one colour.
    fault = judging.blank(pixels)
    if fault and size >= 64:
        raise UnfitError(f"structure {params.structure} is {fault}")
    return Picture(pixels, judging.foreground(pixels))


def draw(params: Params, size: int) -> np.ndarray:
    """Draws the pixels of a picture, without judging them: uint8 (size, size, 3)."""
    program = composer.compose(params.structure)
    values = program.bindings(params.values)
    values |= {"side": float(size), "time": params.time, "view": params.view}
    return gl.draw(program.text, values, size, f"structure {params.structure}")


def class_values(structure: int, number: int, attempt: int) -> tuple[float, ...]:
    """Returns the parameter vector of a class at an attempt. It is the same under every seed, as an imported
    program is. The seed chooses only view and time."""
    return composer.compose(structure).sample(seeds.stream(0, "shaders/classes", number, attempt))


def look(structure: int, values: tuple[float, ...], time: float) -> Params:
    """Returns the Params of a parameter vector at a time, without shift, zoom or turn."""
    program = composer.compose(structure)
    return Params(structure, program.plan, program.blocks, values, time, (0.0, 0.0, 1.0, 0.0))


@lru_cache(maxsize=4)
def _vetted(structures: int, classes: int) -> Programs:
    """Vets programs once in a process, because a command checks its request before it makes the set."""
    return vetting.structures(structures, classes)


def _composed(content: Json) -> bool:
    """Returns True if every program of a vetting is a structure."""
    entries = content["programs"]
    whole = isinstance(content.get("attempts"), dict) and all(isinstance(entry, dict) for entry in entries)
    return whole and all(isinstance(entry.get("structure"), int) for entry in entries)


def _shipped(config: Any) -> Programs | None:
    """Returns the shipped programs if the config needs no others, else None. Raises UserError if the config
    holds another sha256, as a manifest may."""
    shipped = programs.shipped()
    if isinstance(config.programs, str) and config.programs != shipped.sha256:
        digest = f"sha256 {config.programs[:12]}..."
        raise UserError(
            f"its programs ({digest}) are not the shipped ones; give the set's folder: --set programs=DIR"
        )
    return shipped if config.programs or config.structures <= len(shipped.content["programs"]) else None
