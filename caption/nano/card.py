"""The card of a fitted encoder: its origin, its training sets, its figures and its limits."""

from collections.abc import Mapping
from typing import NamedTuple

from caption.encoders import NANO, EncoderSource, find
from caption.nano.exam import Score
from caption.nano.fitting_sets import Sets

NAME = "README.md"

_CARD = """# {name}: an image-text encoder that has seen {seen}

{about}

```
{command}
```

Seed {seed}, {visits:,} visits of pictures, {minutes:.1f} CPU minutes with --threads {threads}, rendering not counted. The loss
went from {first:.2f} to {last:.2f}. The same sets, seed and number of threads give the same bytes on machines of one type.

| file | what |
| --- | --- |
| open_clip_config.json | architecture and preprocessing, as open_clip reads them |
| open_clip_model.safetensors | weights, stored as fp16, fp32 in memory |
| merges.txt.gz | the list of the tokenizer, open_clip's SimpleTokenizer: any text has tokens |

open_clip loads it without exnihilo: `open_clip.create_model_and_transforms("local-dir:FOLDER")`, and for the tokenizer
`open_clip.get_tokenizer("local-dir:FOLDER", bpe_path="FOLDER/merges.txt.gz")`.

## Figures

{figures}

Retrieval: the picture's long sentence among 100, the other 99 being sentences of other pictures that are not true of it. Zero-shot: the
nearest of the grammar's words ("red"; "on a red background"; "a fractal"), for pictures whose facts have one. Words are not equally
common: "mean by word" counts each alike, "commonest word" is what naming it always would get.{naming}

## What it cannot do

{limits}
"""

_FORMULAS = """\
A CLIP of open_clip's architecture, fitted to {drawn:,} pictures that exnihilo drew and to their attribute sentences. It has never seen a
photograph, the web or anybody's drawing. Its weights, tokenizer list and figures are CC0-1.0; the list is the first 2,000 merges of
open_clip's (MIT)."""

_FORMULAS_LIMITS = """\
It knows nothing but formula pictures and the words of exnihilo's grammar. Other words have tokens, but no meaning: it knows no objects, no
animals, no people, no styles, and its embedding of a photograph says at most which colours are where. It sees 64 x 64 pixels. It is meant
for trying out the whole path offline and for measuring how well formula pictures match their sentences, not as a stand-in for a CLIP
that has seen the world."""

_CAPTIONED = """\
A CLIP of open_clip's architecture{carried}, fitted to {drawn:,} pictures that exnihilo drew, with their attribute sentences, and
to {named:,} pictures of {concepts:,} concepts that others made and named, with their captions. It is **not** an encoder of formulas only:
of what others made it has seen

| what | pictures | licence |
| --- | --- | --- |
{origins}

What exnihilo adds, the weights as far as they are ours to give and the figures, is CC0-1.0; the tokenizer list is the first 2,000 merges
of open_clip's (MIT). Pictures and captions above are others' work under the licences above; none of them lies in this folder. What these
licences say of weights that were fitted to such pictures is for whoever passes them on to judge."""

_CAPTIONED_LIMITS = """\
It knows the words of exnihilo's grammar, and the words of the captions above as far as those pictures show what they mean. A word that
no caption had has tokens, but no meaning, and a concept that it has not seen is named right as often as the table says. It has seen no
other pictures: its embedding of anything else says at most which colours are where, and what it resembles of the above. What it says of
pictures that it was fitted to is memory. It sees 64 x 64 pixels. It is meant for trying out the whole path offline, not as a stand-in
for a CLIP that has seen the world."""

_NAMING = """

Named among: the first caption of a picture among so many, the others being those of other concepts that it was not fitted to, one picture
a concept; the mean of 20 draws of the others. "All" is every picture of a concept, such as the skin tones of an emoji: easier, where a
caption that says what sets a picture apart stands among others that do not."""


class Fitted(NamedTuple):
    """The settings, time and losses of a fit."""

    command: str
    seed: int
    visits: int
    threads: int
    minutes: float
    losses: tuple[float, float]  # mean of the first and of the last tenth


def text(
    name: str, fitted: Fitted, sets: Sets, start: EncoderSource | None, figures: Mapping[str, Score]
) -> str:
    """Returns the card of an encoder of that name, fitted to these sets, and carried on from `start` if there is one."""
    numbers = fitted._asdict()
    first, last = numbers.pop("losses")
    about = _about(sets, name, start)
    return _CARD.format(**numbers, **about, first=first, last=last, figures=_table(figures))


def _about(sets: Sets, name: str, start: EncoderSource | None) -> dict[str, str]:
    """Returns the card's texts about the sets and about the encoder that the fit started from."""
    drawn, captioned = len(sets.formulas.facts), sets.captioned
    origins = [
        f"| {origin.dataset}: {origin.title} | {origin.pictures:,} | {origin.licence} |"
        for origin in sets.origins
    ]
    if start and start.sha256 != find(NANO).sha256:
        origins.append(f"| what {start.name}, which was carried on, had seen | | |")
    if not origins:
        return {
            "name": NANO,
            "seen": "formula pictures only",
            "about": _FORMULAS.format(drawn=drawn),
            "limits": _FORMULAS_LIMITS,
            "naming": "",
        }
    concepts = len(set(captioned.concepts))
    carried = f", {start.name} carried on" if start else ""
    others = (
        "an emoji font that people drew" if set(captioned.nouns) == {"emoji"} else "other people's pictures"
    )
    return {
        "name": name,
        "seen": f"formula pictures and {others}" if drawn else others,
        "about": _CAPTIONED.format(
            carried=carried,
            drawn=drawn,
            named=len(captioned.concepts),
            concepts=concepts,
            origins="\n".join(origins),
        ),
        "limits": _CAPTIONED_LIMITS,
        "naming": _NAMING,
    }


def _table(figures: Mapping[str, Score]) -> str:
    if not figures:
        return "No exam was given."
    rows: list[tuple[str, ...]] = [
        ("on classes it was not fitted to", "right", "mean by word", "a guess", "commonest word", "pictures")
    ]
    rows.append(("---",) * len(rows[0]))
    for name, figure in figures.items():
        shares = (figure.right, figure.even, figure.chance, figure.commonest)
        rows.append(
            (
                name,
                *("" if share is None else f"{100 * share:.1f} %" for share in shares),
                f"{figure.pictures:,}",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
