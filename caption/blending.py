"""DOOR. Blending at draw time: a visit's text is synthetic with a probability, else the ground truth (Betker
et al., Improving Image Generation with Better Captions, 2023, section 3).

    blend:0.95                  a synthetic caption with the probability 0.95, of any length
    blend:0.95,short            the short one: the main subject alone (SSC)
    blend:0.95,long             the long one: everything (DSC)
    blend:0.95,plain            a plain text that names every object, for readers of texts or tokens
    blend:0.95,related          a direction whenever one is clear, all names and the backdrop
    blend:0.95,mixed            a plain text half of the time, else one of the sentences
    blend:0.95,facts=1..4       a sentence that states 1 to 4 facts, for readers of texts or tokens

The ground truth of a real picture is its human caption, and its synthetic caption is a captioner's. The
ground truth of a formula picture is its bare name, and its synthetic captions are its sentences. All choices
of a visit follow from (seed, index, epoch).

Axes: N visits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from caption import pseudo
from caption.sentences import names
from caption.table import CaptionSet
from synth.errors import UserError
from synth.seeds import Stream
from synth.sets import places
from synth.sets.storage import open_storage

LENGTHS = ("any", "short", "long", "plain", "related", "mixed")
FORMS = "blend:SHARE, or with ,short or ,long or ,plain or ,related or ,mixed or ,facts=LEAST..MOST"
START = "blend:"

_MOST = 1000  # facts
_PLAIN = 0.5  # share of plain texts among mixed ones

Json = dict[str, Any]
T = TypeVar("T")


class Columns(NamedTuple):
    """The columns of a set's tables that visits read: empty if the share needs no such text."""

    synthetic: str
    truth: str


class Chances(NamedTuple):
    """Random numbers of a visit, each in [0, 1)."""

    source: float  # synthetic or ground truth
    which: float  # among the captions of that source
    facts: float  # their number
    wording: float


@dataclass(frozen=True)
class Blend:
    """The share and the length of synthetic captions."""

    share: float
    length: str = "any"  # of the stored captions: short is the first, long the last; others are drawn
    facts: tuple[int, int] | None = None  # stated by a sentence, both ends included; None: stored captions

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the blend of a text such as blend:0.95,long. Raises UserError for other texts."""
        share, comma, rest = text.removeprefix(START).partition(",")
        try:
            if not text.startswith(START) or not 0 <= float(share) <= 1:
                raise ValueError
            if rest.startswith("facts="):
                least, dots, most = rest.removeprefix("facts=").partition("..")
                facts = int(least), int(most if dots else least)
                if not 1 <= facts[0] <= facts[1] <= _MOST:
                    raise ValueError
                return cls(float(share), facts=facts)
            if comma and rest not in LENGTHS:
                raise ValueError
        except ValueError:
            allowed = f"a SHARE of 0 to 1, and 1 <= LEAST <= MOST <= {_MOST}"
            raise UserError(f"unknown blend {text!r}; give {FORMS}, with {allowed}") from None
        return cls(float(share), rest or "any")

    def columns(self, tables: CaptionSet, *, vectors: bool) -> Columns:
        """Returns the columns of vectors, or of texts, that a set's tables have for this blend.

        Raises UserError if they have none, or if stored vectors state no drawn number of facts."""
        place, formula = tables.storage.url, bool(tables.identity.get("sentences"))
        if self.drawn and (vectors or not formula):
            form = "facts= draws sentences of any length" if self.facts else f"{self.length} draws texts"
            problem = (
                "which stored vectors do not have" if vectors else f"which captions of {place} do not have"
            )
            raise UserError(f"{form}, {problem}; give short, long or neither")

        # Synthetic captions.
        synthetic, truth = "text_embedding" if vectors else "caption", ""
        if not formula:
            synthetic, truth = "synthetic_embedding" if vectors else "synthetic_caption", synthetic
        if self.share > 0 and synthetic not in tables.columns:
            raise _missing(tables, synthetic)

        # Ground truth.
        if formula:
            truth = "name_embedding" if vectors else "name"
        if self.share < 1 and truth not in tables.columns:
            raise _missing(tables, truth)
        return Columns(synthetic if self.share > 0 else "", truth if self.share < 1 else "")

    def choose(self, synthetic: Sequence[T], truth: Sequence[T], chances: Chances) -> T | None:
        """Returns the text of a visit, or its vector, among those of both sources.

        Returns None if the chosen source has none."""
        if chances.source >= self.share:
            return truth[int(chances.which * len(truth))] if len(truth) else None
        if not len(synthetic):
            return None
        if self.length in ("any", "mixed"):
            return synthetic[int(chances.which * len(synthetic))]
        return synthetic[0 if self.length == "short" else -1]

    def text(
        self, sample: Callable[[], Json], synthetic: Sequence[str], truth: Sequence[str], chances: Chances
    ) -> str | None:
        """Returns the text of a visit. `sample` returns the JSON of a formula picture, for `facts`.

        Returns None if the chosen source has none."""
        stored = not self.drawn or (self.length == "mixed" and chances.facts >= _PLAIN)
        if stored or chances.source >= self.share:
            return self.choose(synthetic, truth, chances)
        stream = Stream(int(chances.wording * 2**53))
        if self.facts is None:
            return names.listing(sample(), stream, related=self.length == "related")
        least, most = self.facts
        k = least + int(chances.facts * (most - least + 1))
        return names.stating(sample(), k, stream)

    @property
    def drawn(self) -> bool:
        """True if synthetic texts are drawn at each visit, not stored."""
        return self.facts is not None or self.length in ("plain", "related", "mixed")


def _missing(tables: CaptionSet, column: str) -> UserError:
    """Returns the error of a missing column, with the command that makes tables with it."""
    # Commands take no recorded name of a split, such as cub-train, but its folder.
    dataset, encoder = tables.identity["shards"]["dataset"], tables.identity["encoder"]
    shards = next((f for f in places.folders(dataset) if open_storage(f).sizes()), dataset)
    command = f"python -m caption captions {shards} --encoder {encoder} --names"
    if not tables.identity.get("sentences"):
        command = f"python -m caption recaption {shards} --encoder {encoder} --captioner FOLDER"
    problem = f"the tables of {tables.storage.url} have no column {column}"
    return UserError(f"{problem}; `{command}` makes such tables")


def chances(seed: int, indices: Iterable[int], epoch: int) -> list[Chances]:
    """Returns the random numbers of visits, N of one epoch. A visit's depend on (seed, index, epoch) alone,
    and differ from those of pseudo-captions."""
    rows = pseudo.uniform(seed, indices, epoch, len(Chances._fields), use=pseudo.BLENDING)
    return [Chances(*row) for row in np.asarray(rows).tolist()]
