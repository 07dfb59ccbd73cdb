"""The vetted programs of a data set, programs.json: the accepted ones in their order, and the reasons against
the others.

Vetting comes before numbering, so that the index law holds: accepted program c mod P draws class c. If the
first parameter vector of a class shows nothing, the class has the vector of a later attempt. Rendering only
reads the file. A set's identity holds its sha256.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from synth import settings
from synth.checkout import ROOT
from synth.errors import UserError
from synth.foreign import parsed_json
from synth.sets.storage import open_storage, reading

FORMAT = 1
NAME = "programs.json"
SHIPPED = ROOT / "data" / "shaders" / NAME
_TRAVELS = 1 << 20  # bytes: the workers read a larger file at its place

Json = dict[str, Any]


@dataclass(frozen=True)
class Programs:
    """A programs.json, read or new. Between processes a large one travels as its place alone."""

    sha256: str
    place: str  # a folder or URL that holds the file; empty if it is not written yet
    data: bytes

    @classmethod
    def of(cls, data: bytes, place: str = "") -> Self:
        """Returns the programs of a file's bytes. Raises UserError if they are none of this version."""
        return cls(settings.digest(_parsed(data, place)), place, data)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the programs.json of a folder, as `vet` writes it. Raises UserError if there is none."""
        try:
            with reading(str(Path(text) / NAME)):
                return cls.of((Path(text) / NAME).read_bytes(), text)
        except OSError:
            advice = f"make one with: python -m synth vet shaders --out {text}"
            raise UserError(f"{text} holds no {NAME}; {advice}") from None

    @classmethod
    def from_content(cls, content: Json) -> Self:
        """Returns the programs of a vetting's content."""
        # Canonical first, so that numbers and tuples have one form, then one value a line.
        values = json.loads(settings.canonical({"format": FORMAT, **content}))
        return cls.of(json.dumps(values, indent=0, sort_keys=True).encode() + b"\n")

    @property
    def content(self) -> Json:
        """The content of the file."""
        return _content(self)

    @property
    def stated(self) -> str:
        """The entry of the file in an identity: its sha256."""
        return self.sha256

    def at(self, place: str) -> "Programs":
        """Returns the same file with another place."""
        return replace(self, place=place)

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Programs({self.sha256[:12]})"

    def __getstate__(self) -> tuple[str, str, bytes]:
        # Small data always travels, so that workers need not open the place.
        return self.sha256, self.place, self.data if len(self.data) <= _TRAVELS or not self.place else b""

    def __setstate__(self, state: tuple[str, str, bytes]) -> None:
        for name, value in zip(("sha256", "place", "data"), state, strict=True):
            object.__setattr__(self, name, value)


def shipped() -> Programs:
    """Returns the programs that exnihilo ships. Raises UserError if they are missing."""
    try:
        with reading(str(SHIPPED)):
            return Programs.of(SHIPPED.read_bytes(), str(SHIPPED.parent))
    except FileNotFoundError:
        advice = f"restore it, or make it: python -m synth vet shaders --out {SHIPPED.parent}"
        raise UserError(f"{SHIPPED} is missing; {advice}") from None


@lru_cache(maxsize=4)
def _content(programs: Programs) -> Json:
    """Returns the content of programs. Raises UserError if the file at their place was changed."""
    # A large file does not travel with the job. Its sha256 shows whether it is still the same.
    data = programs.data or open_storage(programs.place).read(NAME)
    content = _parsed(data, programs.place)
    if settings.digest(content) != programs.sha256:
        raise UserError(f"{programs.place}/{NAME} was changed since the set was begun; give another --out")
    return content


def _parsed(data: bytes, place: str) -> Json:
    """Returns the content of a programs.json. Raises UserError if it is damaged."""
    try:
        content = parsed_json(data)
    except ValueError:
        content = None
    entries = content.get("programs") if isinstance(content, dict) else None
    if not entries or not isinstance(entries, list) or content.get("format") != FORMAT:
        file = f"{place}/{NAME}" if place else f"the target's {NAME}"
        fault = f"{file} is damaged or of another version"
        raise UserError(f"{fault}; remove it and vet the programs again")
    return content
