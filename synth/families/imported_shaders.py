"""Imported shaders: pictures of the programs of a folder, such as somebody's copy of Shaders21k (Baradad et al., NeurIPS 2022).

Each program that passes vetting is a class. Its pictures differ in time, uniform on 0.1 to 10 s as in the paper, and in nothing else. Text,
licence and author travel in each sample's JSON, so that a picture can be drawn again, and its terms be read, from the sample alone.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from synth import settings
from synth.errors import UserError
from synth.glsl import gl, wrappers
from synth.images.pictures import Picture, UnfitError
from synth.seeds import Stream
from synth.vetting import judging, shader_folders, vetting
from synth.vetting.programs import Programs
from synth.vetting.shader_folders import Found

Json = dict[str, Any]

LAW = 1  # raised when a program is wrapped or seen otherwise

renderer = gl.renderer


@dataclass(frozen=True, repr=False)
class Collection(Programs):
    """The programs of a folder, to be vetted."""

    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The programs of a folder."""
        return cls("", "", b"", text)


@dataclass(frozen=True)
class Config:
    """What is taken of a folder."""

    classes: int = 21_083  # at most: as many as there are accepted programs
    programs: Collection | None = field(default=None)  # the folder
    licenses: str = ""  # those to take, commas between them; all where empty
    slowest: float = 500.0  # CPU milliseconds that a picture of 256 x 256 may take
    time: tuple[float, float] = (0.1, 10.0)  # seconds

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes is {self.classes}; it must be at least 1")
        if isinstance(self.programs, str):
            raise UserError(f"its programs (sha256 {self.programs[:12]}...) lie beside the set; only --set programs=DIR can give them")

    @property
    def channels(self) -> int:
        """Of the pictures: RGB."""
        return 3


@dataclass(frozen=True)
class Class:
    """A program."""

    program: str  # its name: Shadertoy's id, TwiGL's hash, or the file's
    wrapper: str
    licence: str
    author: str
    source: str  # as it is compiled


@dataclass(frozen=True)
class Params(Class):
    """Everything that a picture is drawn from."""

    time: float
    redraws: int = 0


def ready(config: Config, stored: bytes | None) -> Config:
    """The config with its programs, vetted now where the target's programs.json does not hold them."""
    if config.programs and config.programs.sha256:
        return config
    programs = Programs.of(stored) if stored else None
    if programs is None or programs.content["asked"] != {**_asked(config)[1], "law": vetting.LAW}:
        programs = vet(config)
    classes = min(config.classes, len(programs.content["programs"]))
    return replace(config, classes=classes, programs=Collection(programs.sha256, programs.place, programs.data))


def vet(config: Config, device: str = "software") -> Programs:
    """Vets the programs of the config's folder. Raises UserError where it has none."""
    found, asked = _asked(config)
    return vetting.sources(found, asked, config.slowest, device)


def _asked(config: Config) -> tuple[list[Found], Json]:
    """The programs of the config's folder, and what their vetting depends on."""
    if config.programs is None:
        raise UserError("shaders21k cannot be shipped, for its programs belong to their authors; give a copy: --set programs=DIR")
    found = shader_folders.allowed(shader_folders.read(config.programs.folder), config.licenses)
    return found, {
        "sources": settings.digest([(f.name, f.sources, f.licence, f.author, f.fault) for f in found]),
        "slowest": config.slowest,
    }


def licence(config: Config) -> str:
    """What the card of a set says of its pictures' licence."""
    assert config.programs is not None
    found = sorted({program["licence"] for program in config.programs.content["programs"][: config.classes]})
    bound = [name for name in found if "-nc" in name or name in (shader_folders.UNKNOWN, "proprietary")]
    warning = f"NOT for commercial use without further leave: some samples stand under {', '.join(bound)}. " if bound else ""
    return f"{warning}Every sample's JSON names its program's licence and author. All licences here: {', '.join(found)}"


def sample_class(config: Config, stream: Stream) -> Class:
    """The program of a class: its number is the stream's."""
    assert config.programs is not None
    program: dict[str, Any] = config.programs.content["programs"][stream.path[0]]
    return Class(program["name"], program["wrapper"], program["licence"], program["author"], program["source"])


def sample_instance(config: Config, shared: Class, stream: Stream) -> Params:
    """A picture of a program: a time."""
    return Params(**vars(shared), time=round(stream.uniform(*config.time), 4))


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 3). Raises UnfitError where nothing can be seen."""
    pixels = gl.draw(params.source, wrappers.bindings(params.source, params.time, size), size, params.program)
    fault = judging.blank(pixels)
    if fault and size >= 64:  # a thumbnail may well be one colour
        raise UnfitError(f"program {params.program} is {fault}")
    return Picture(pixels, judging.foreground(pixels))
