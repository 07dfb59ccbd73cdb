"""Shaders: pictures of GLSL programs of our own, after Shaders21k (Baradad et al., Procedural Image Programs for Representation
Learning, NeurIPS 2022), whose programs belong to their authors.

A structure is a program text (synth/glsl/composer.py), a class a structure with a parameter vector in uniforms, an instance a time,
uniform on 0.1 to 10 s as in the paper, and a view: shift, zoom and turn. Class c has structure c mod P of the P vetted ones
(synth/vetting/programs.py), so that consecutive pictures come from different structures. Classes are the same under every seed; times and
views follow it. A picture in which nothing can be seen is drawn anew from the next numbers of its stream.

The foreground is what stands out from the picture's modal colour (synth/vetting/judging.py).
Parameters are the same everywhere; pixels are those
of a renderer, which every sample and record names; another one's differ by a few levels, and more at edges.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synth import seeds
from synth.errors import UserError
from synth.glsl import composer, gl
from synth.images.pictures import Picture, UnfitError
from synth.seeds import Stream
from synth.vetting import judging, programs, vetting
from synth.vetting.programs import Programs

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
        for name in ("classes", "structures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.zoom[0] > 0:
            raise ValueError(f"zoom starts at {self.zoom[0]}; it must be above 0")
        if not isinstance(self.programs, Programs):
            object.__setattr__(self, "programs", _known(self))

    @property
    def channels(self) -> int:
        """Of the pictures: RGB."""
        return 3


@dataclass(frozen=True)
class Class:
    """What all pictures of a class share."""

    structure: int
    plan: str  # what kind of program it is
    blocks: tuple[str, ...]  # what it is composed of
    values: tuple[float, ...]  # of its uniforms


@dataclass(frozen=True)
class Params(Class):
    """Everything that a picture is drawn from."""

    time: float
    view: tuple[float, ...]  # shift to the right and up, zoom, turn
    redraws: int = 0


def ready(config: Config, stored: bytes | None) -> Config:
    """The config with its programs, vetted now where neither exnihilo nor the target's programs.json has them."""
    if config.programs is not None:
        return config
    found = Programs.of(stored) if stored else None
    if found is None or found.content["asked"] != {"structures": config.structures, "law": vetting.LAW}:
        found = vet(config)
    return replace(config, programs=found)


def vet(config: Config, device: str = "software") -> Programs:
    """Vets as many structures, and so many of their classes, as the config has."""
    return vetting.structures(config.structures, config.classes, device)


def sample_class(config: Config, stream: Stream) -> Class:
    """A class of the law: its number is the stream's."""
    assert config.programs is not None
    number, content = stream.path[0], config.programs.content
    accepted = content["programs"]
    structure = accepted[number % min(config.structures, len(accepted))]["structure"]
    values = class_values(structure, number, content["attempts"].get(str(number), 0))
    program = composer.compose(structure)
    return Class(structure, program.plan, program.blocks, values)


def sample_instance(config: Config, shared: Class, stream: Stream) -> Params:
    """A picture of a class: a time and a view. Zooms in and out by as much are alike likely."""
    time = round(stream.uniform(*config.time), 4)
    shift = (round(stream.uniform(*config.shift), 4), round(stream.uniform(*config.shift), 4))
    low, high = config.zoom
    zoom = round(low * math.exp(stream.uniform(0, math.log(high / low))), 4)
    return Params(**vars(shared), time=time, view=(*shift, zoom, round(stream.uniform(*config.turn), 4)))


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 3). Raises UnfitError where nothing can be seen."""
    pixels = draw(params, size)
    fault = judging.blank(pixels)
    if fault and size >= 64:  # a thumbnail may well be one colour
        raise UnfitError(f"structure {params.structure} is {fault}")
    return Picture(pixels, judging.foreground(pixels))


def draw(params: Params, size: int) -> np.ndarray:
    """The pixels of a picture, whatever they are: uint8 (size, size, 3)."""
    program = composer.compose(params.structure)
    values = {**program.bindings(params.values), "side": float(size), "time": params.time, "view": params.view}
    return gl.draw(program.text, values, size, f"structure {params.structure}")


def class_values(structure: int, number: int, attempt: int) -> tuple[float, ...]:
    """The parameter vector of a class at an attempt. It is the same under every seed, as a program of other people's would be: the
    seed chooses where and when it is looked at."""
    return composer.compose(structure).sample(seeds.stream(0, "shaders/classes", number, attempt))


def look(structure: int, values: tuple[float, ...], time: float) -> Params:
    """A parameter vector seen straight on at a time."""
    program = composer.compose(structure)
    return Params(structure, program.plan, program.blocks, values, time, (0.0, 0.0, 1.0, 0.0))


def _known(config: Any) -> Programs | None:
    """The shipped programs, if they are meant. Raises UserError where others are stated, as a manifest does."""
    ours = programs.shipped()
    if isinstance(config.programs, str) and config.programs != ours.sha256:
        raise UserError(f"its programs (sha256 {config.programs[:12]}...) are not those that are shipped, but lie beside the set")
    return ours if config.programs or config.structures <= len(ours.content["programs"]) else None
