"""The settings of a visit, one use of a sample in one epoch, with the choice of its text."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from caption import blending
from caption.blending import Blend
from caption.sentences import names
from caption.sentences.attributes import sentences
from caption.table import CaptionSet
from synth.errors import UserError
from train.model import Wanted

Json = dict[str, Any]
Kind = Literal["plain", "synthetic", "blend"]  # of caption tables


@dataclass(frozen=True)
class Text:
    """The choice of a picture's text at a visit, and of its vector."""

    captions: float = 0.0  # share of visits that get a caption's embedding; the others get a pseudo-caption
    stored: bool = False  # pseudo-captions are the stored ones, not fresh
    required: bool = False  # a picture without a caption is an error
    synthetic: bool = False  # captions are those of a captioner
    blend: Blend | None = None  # every visit gets a synthetic caption or the ground truth

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the choice for pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE.

        Raises UserError for other texts."""
        # Names.
        named = {
            "pseudo": cls(),
            "stored": cls(stored=True),
            "caption": cls(captions=1.0, required=True),
            "synthetic": cls(captions=1.0, required=True, synthetic=True),
        }
        if text in named:
            return named[text]

        # A share.
        if text.startswith(blending.START):
            return cls(required=True, blend=Blend.parse(text))
        try:
            share = float(text.removeprefix("mix:")) if text.startswith("mix:") else 2.0
        except ValueError:
            share = 2.0
        if not 0 <= share <= 1:
            allowed = "pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE with a SHARE of 0 to 1"
            advice = f"blend:1,{text}" if text in blending.LENGTHS else allowed
            raise UserError(f"unknown text {text!r}; give {advice}")
        return cls(captions=share)

    @property
    def column(self) -> str:
        """The column of the captions' vectors."""
        return "synthetic_embedding" if self.synthetic else "text_embedding"

    @property
    def kind(self) -> Kind:
        """The kind of tables that have its vectors."""
        if self.blend:
            return "blend"
        return "synthetic" if self.synthetic else "plain"

    def of_formula(self, sample: Json) -> list[str]:
        """Returns the texts of `required_columns` for a drawn picture, from its JSON."""
        share = self.blend.share if self.blend else 1.0
        return [*(sentences(sample) if share > 0 else ()), *([names.name(sample)] if share < 1 else ())]

    def required_columns(self, tables: CaptionSet) -> list[str]:
        """Returns the columns of a set's tables in which every sample must have a text."""
        if self.blend:
            return [name for name in self.blend.columns(tables, vectors=False) if name]
        return ["synthetic_caption" if self.synthetic else "caption"]


@dataclass(frozen=True)
class Visit:
    """The settings of a visit: one use of a sample in one epoch."""

    resolution: int
    seed: int
    text: Text
    xi: float  # of pseudo-captions, equation 3
    caption_xi: float  # of captions
    wanted: Wanted
    mirror: bool = False  # half of the visits see the picture mirrored
