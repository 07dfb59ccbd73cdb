"""Imported shaders: pictures of the programs of a folder, such as a copy of Shaders21k (Baradad et al.,
NeurIPS 2022).

Each program that passes vetting is a class. Its pictures differ only in time, uniform on 0.1 to 10 s as in
the paper. Text, licence and author are in each sample's JSON. Thus a sample alone is enough to draw its
picture again and to read its terms.
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
from synth.vetting.shader_folders import Candidate

Json = dict[str, Any]

LAW = 1  # raised when a program is wrapped or seen otherwise

renderer = gl.renderer

_results: dict[str, Programs] = {}  # of vetting in this process, by the digest of its inputs


@dataclass(frozen=True, repr=False)
class Collection(Programs):
    """The programs of a folder, to be vetted."""

    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the collection of a folder, not vetted yet."""
        return cls("", "", b"", text)


@dataclass(frozen=True)
class Config:
    """The folder of programs, and the limits on those to take."""

    classes: int = 21_083  # at most: as many as there are accepted programs
    programs: Collection | None = field(default=None)  # the folder
    licenses: str = ""  # those to take, commas between them; empty: all
    slowest: float = 500.0  # CPU milliseconds that a picture of 256 x 256 may take
    time: tuple[float, float] = (0.1, 10.0)  # seconds

    def __post_init__(self) -> None:
        settings.require_within(self, 1, 10**9, "classes")
        settings.require_within(self, -(10**6), 10**6, "time")
        # A manifest holds the sha256 of its programs alone.
        if isinstance(self.programs, str):
            digest = f"sha256 {self.programs[:12]}..."
            raise UserError(f"its programs ({digest}) come from a folder; give it: --set programs=DIR")

    @property
    def channels(self) -> int:
        """The channels of the pictures: RGB."""
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
    """Returns the config with its programs. Vets them now unless the target's programs.json holds them."""
    if config.programs and config.programs.sha256:
        return config

    # Stored programs count only if they were vetted from the same inputs.
    candidates, inputs = _inputs(config)
    programs = Programs.of(stored) if stored else None
    if programs is None or programs.content.get("asked") != {**inputs, "law": vetting.LAW}:
        programs = _vetted(config, candidates, inputs)

    # A class for each accepted program.
    classes = min(config.classes, len(programs.content["programs"]))
    collection = Collection(programs.sha256, programs.place, programs.data)
    return replace(config, classes=classes, programs=collection)


def vet(config: Config, device: str = "software") -> Programs:
    """Vets the programs of the config's folder. Raises UserError if it has none."""
    candidates, inputs = _inputs(config)
    return vetting.sources(candidates, inputs, config.slowest, device)


def _vetted(config: Config, candidates: list[Candidate], inputs: Json) -> Programs:
    """Vets programs once in a process, because a command checks its request before it makes the set."""
    key = settings.digest(inputs)
    if key not in _results:
        _results[key] = vetting.sources(candidates, inputs, config.slowest)
    return _results[key]


def _inputs(config: Config) -> tuple[list[Candidate], Json]:
    """Returns the programs of the config's folder, and the inputs of their vetting as JSON."""
    if config.programs is None:
        reason = "shaders21k cannot be shipped, because its programs belong to their authors"
        raise UserError(f"{reason}; give a copy: --set programs=DIR")
    candidates = shader_folders.allowed(shader_folders.read(config.programs.folder), config.licenses)
    sources = [(c.name, c.sources, c.licence, c.author, c.fault) for c in candidates]
    return candidates, {"sources": settings.digest(sources), "slowest": config.slowest}


def licence(config: Config) -> str:
    """Returns the licence text for the card of a set."""
    assert config.programs is not None
    programs = config.programs.content["programs"][: config.classes]
    licences = sorted({program["licence"] for program in programs})

    # The data card looks for this warning at the start of the text.
    restricted = (shader_folders.UNKNOWN, "proprietary")
    bound = [name for name in licences if "-nc" in name or name in restricted]
    warning = "NOT for commercial use without further leave: some samples stand under "
    warning = f"{warning}{', '.join(bound)}. " if bound else ""
    terms = "Every sample's JSON names its program's licence and author."
    return f"{warning}{terms} All licences here: {', '.join(licences)}"


def sample_class(config: Config, stream: Stream) -> Class:
    """Returns the program of a class. The stream holds the class's number."""
    assert config.programs is not None
    entry: dict[str, Any] = config.programs.content["programs"][stream.path[0]]
    return Class(entry["name"], entry["wrapper"], entry["licence"], entry["author"], entry["source"])


def sample_instance(config: Config, shared: Class, stream: Stream) -> Params:
    """Returns the Params of a picture of a program: a time."""
    return Params(**vars(shared), time=round(stream.uniform(*config.time), 4))


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 3). Raises UnfitError if it shows nothing."""
    values = wrappers.bindings(params.source, params.time, size)
    with gl.vetted(params.program):
        pixels = gl.draw(params.source, values, size, params.program)
    # A smaller thumbnail may well be one colour.
    fault = judging.blank(pixels)
    if fault and size >= 64:
        raise UnfitError(f"program {params.program} is {fault}")
    return Picture(pixels, judging.foreground(pixels))
