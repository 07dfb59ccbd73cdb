"""Emoji: a captioned set that installs anywhere. The Noto Color Emoji font gives the pictures, the `emoji`
package the names.

Variants of a concept in several skin tones are near copies of each other. All of them are in one split.
"""

import re
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

from data import command, splits
from data.command import Out, Seed, TestShare, Workers
from data.emoji import font
from data.emoji.font import Font
from data.originals import Original, Source, Splits
from data.requests import PrepareRequest
from synth import console, options
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

SOURCE = Source(
    "emoji",
    "emoji of a colour font, with their English names",
    "Debian's package fonts-noto-color-emoji (github.com/googlefonts/noto-emoji) and PyPI's emoji",
    "drawings: SIL Open Font License 1.1 (Google, Noto Color Emoji);"
    " names: Unicode, through the emoji package (BSD-3-Clause)",
)

_TONE = re.compile(r" (medium-light|medium-dark|light|medium|dark) skin tone")
_BOTH = " person person"  # in the names of couples with two tones
# Flags of countries, and of parts of countries.
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}|\U0001f3f4[\U000e0020-\U000e007f]+")


class Emoji(NamedTuple):
    """An emoji of the package."""

    emoji: str
    name: str  # the English one, with spaces
    captions: tuple[str, ...]

    @property
    def concept(self) -> str:
        """The name without its skin tones."""
        return _TONE.sub("", self.name).removesuffix(_BOTH)

    @property
    def metadata(self) -> dict[str, str]:
        """The entries of its sample's JSON: emoji, name and concept."""
        return {"emoji": self.emoji, "name": self.name, "concept": self.concept}


def known() -> list[Emoji]:
    """Returns the emoji that Unicode recommends for general interchange, in the package's order."""
    from emoji import EMOJI_DATA, STATUS

    return [
        _named(e, entry) for e, entry in EMOJI_DATA.items() if entry["status"] == STATUS["fully_qualified"]
    ]


def originals(drawn_by: Font, *, seed: int, share: float) -> Splits:
    """Returns the splits of the emoji that a font has pictures of."""
    # Emoji that the font draws.
    emoji = known()
    missing = drawn_by.missing(font.code_points(e.emoji) for e in emoji)
    if missing:
        count = f"{len(missing):,} of {len(emoji):,} emoji"
        console.note(f"note: {drawn_by.path} has no picture of {count}, which are left out")
    emoji = [e for e in emoji if font.code_points(e.emoji) not in missing]

    # Their originals.
    origin = {"font": drawn_by.sha256, "package": version("emoji")}
    pictures = [Original(font.code_points(e.emoji), e.captions, {**e.metadata, **origin}) for e in emoji]

    # Splits, by concept.
    test = splits.held_out((e.concept for e in emoji), share, seed)
    return {
        split: [o for o in pictures if (o.metadata["concept"] in test) == (split == "test")]
        for split in ("train", "test")
    }


def _named(emoji: str, entry: dict[str, Any]) -> Emoji:
    names = [_words(n) for n in (entry["en"], *entry.get("alias", ()))]
    # The package names the country of a flag alone.
    if _FLAG.fullmatch(emoji):
        others = [n for n in names[1:] if n.lower() != names[0].lower()]
        names = [f"flag of {names[0]}", *others]
    return Emoji(emoji, names[0], tuple(dict.fromkeys(names)))


def _words(name: str) -> str:
    return name.strip(":").replace("_", " ")


EXAMPLE = "python -m data emoji --size 32 --out data/real/emoji"  # of --help


def main(
    path: Annotated[
        str | None,
        options.place("--font", "FILE", "A font with colour bitmaps.  [default: Debian's Noto Color Emoji]"),
    ] = None,
    seed: Seed = 0,
    test_share: TestShare = 0.1,
    out: Out = "data/real/emoji",
    size: Size = 32,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Draws the emoji of a font as sets of shards, with their English names: train and test."""
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    drawn_by = font.find(path)
    law = f"concepts by blake2b of seed {seed} and name, {test_share:g} of them held out"
    splits = originals(drawn_by, seed=seed, share=test_share)
    command.prepare(SOURCE, law, splits, drawn_by, request, dry_run)
