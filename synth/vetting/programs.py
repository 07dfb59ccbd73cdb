"""The vetted programs of a data set, programs.json: which were accepted, in what order, and why the others were not.

Vetting comes before numbering, so that the index law holds: class c is drawn by accepted program c mod P, and where its first parameter
vector has nothing to show by the vector of a later attempt. Rendering only reads the file. Its sha256 stands for it in a set's identity.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from synth import settings
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.storage import open_storage

FORMAT = 1
NAME = "programs.json"
SHIPPED = ROOT / "data" / "shaders" / NAME
_TRAVELS = 1 << 20  # bytes: a larger file is read by the workers where it lies

Json = dict[str, Any]


@dataclass(frozen=True)
class Programs:
    """A programs.json that was found or made. Between processes a large one travels as its place alone."""

    sha256: str
    place: str  # a folder or URL that holds the file; empty where it is not written yet
    data: bytes

    @classmethod
    def of(cls, data: bytes, place: str = "") -> Self:
        """The programs of a file's bytes. Raises UserError where they are none of this version."""
        return cls(settings.digest(_parsed(data, place)), place, data)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The programs.json of a folder, as `vet` writes it. Raises UserError where there is none."""
        try:
            return cls.of((Path(text) / NAME).read_bytes(), text)
        except OSError:
            raise UserError(f"{text} holds no {NAME}; make one with: python -m synth vet shaders --out {text}") from None

    @classmethod
    def made(cls, content: Json) -> Self:
        """The programs of a content that vetting came to."""
        return cls.of(json.dumps(json.loads(settings.canonical({"format": FORMAT, **content})), indent=0, sort_keys=True).encode() + b"\n")

    @property
    def content(self) -> Json:
        """What the file says."""
        return _content(self)

    @property
    def stated(self) -> str:
        """What an identity says of the file."""
        return self.sha256

    def at(self, place: str) -> "Programs":
        """The same file, which lies at a place from now on."""
        return replace(self, place=place)

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Programs({self.sha256[:12]})"

    def __getstate__(self) -> tuple[str, str, bytes]:
        return self.sha256, self.place, self.data if len(self.data) <= _TRAVELS or not self.place else b""

    def __setstate__(self, state: tuple[str, str, bytes]) -> None:
        for name, value in zip(("sha256", "place", "data"), state, strict=True):
            object.__setattr__(self, name, value)


def shipped() -> Programs:
    """The programs that come with exnihilo. Raises UserError where they are missing."""
    try:
        return Programs.of(SHIPPED.read_bytes(), str(SHIPPED.parent))
    except FileNotFoundError:
        raise UserError(f"{SHIPPED} is missing; restore it, or make it: python -m synth vet shaders --out {SHIPPED.parent}") from None


@lru_cache(maxsize=4)
def _content(programs: Programs) -> Json:
    data = programs.data or open_storage(programs.place).read(NAME)
    content = _parsed(data, programs.place)
    if settings.digest(content) != programs.sha256:
        raise UserError(f"{programs.place}/{NAME} was changed since the set was begun; give another --out")
    return content


def _parsed(data: bytes, place: str) -> Json:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not content.get("programs"):
        raise UserError(f"{place or 'this'}/{NAME} is damaged or of another version; remove it and vet the programs again")
    return content
