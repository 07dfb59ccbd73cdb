"""The card of a fitted encoder: its origin, its training sets, its figures and its limits."""

from collections.abc import Mapping
from typing import NamedTuple

from caption.encoders import NANO, EncoderSource, find
from caption.nano.exam import ExamScore
from caption.nano.fitting_sets import Sets
from synth.sets import front_matter

NAME = "README.md"

_CARD = """{head}# {name}: an image-text encoder, trained on {data}

{description}

```
{command}
```

Seed {seed}, {visits:,} visits of pictures, {minutes:.1f} CPU minutes with --threads {threads}, without the
rendering. The loss went from {first:.2f} to {last:.2f}. The same sets, seed and number of threads give the
same bytes on machines of one type.

| file | content |
| --- | --- |
| open_clip_config.json | architecture and preprocessing, as open_clip reads them |
| open_clip_model.safetensors | weights, stored as fp16, fp32 in memory |
| config.json, model.safetensors | both again, as transformers reads them |
| tokenizer.json, tokenizer_config.json | the tokenizer, as transformers reads it |
| merges.txt.gz | its list, for open_clip's SimpleTokenizer: any text has tokens |

open_clip loads it without exnihilo: `open_clip.create_model_and_transforms("local-dir:FOLDER")` returns the
model, and `open_clip.get_tokenizer("local-dir:FOLDER")` the tokenizer. The latter needs transformers.
`transformers.CLIPModel.from_pretrained("FOLDER")` returns the same model, for pictures of 64 x 64 pixels in
-1..1. `transformers.AutoTokenizer.from_pretrained("FOLDER")` returns its tokenizer.

## Figures

{figures}

All pictures are of classes and concepts outside the training sets. An answer is right if the picture's own
text has the greatest cosine.

Retrieval compares the picture's long sentence with 99 sentences of other pictures, all false of this one.
Zero-shot compares all words of the grammar for one fact ("red"; "on a red background"; "a fractal"), for
pictures with this fact. "Mean by word" gives each word the same weight. "Commonest word" is the share of a
constant answer.{before}{naming}{scenes}

## Limits

{limits}
"""

_FORMULAS_ONLY = (NANO, "nano-scenes")  # shipped encoders that saw no other pictures
_FORMULAS_ALONE = "formula pictures only"
_FORMULAS = """\
A CLIP of open_clip's architecture{start}, \
trained on {drawn:,} formula pictures of exnihilo and their attribute
sentences. Its training data contain no photograph, nothing from the web, and nobody's drawing. Its weights,
tokenizer list and figures are CC0-1.0. The list is the first 2,000 merges of open_clip's (MIT)."""

_FORMULAS_LIMITS = """\
It knows formula pictures and the words of exnihilo's grammar, and nothing else. Other words have tokens,
but no meaning: no objects, animals, people or styles. Its embedding of a photograph reflects at most the
colours and their places. Its input has 64 x 64 pixels. It is meant for trying out the whole path offline,
and for measuring how well formula pictures match their sentences. It does not replace a CLIP that was
trained on the web."""

_SCENES = """\
A CLIP of open_clip's architecture{start}, trained on {drawn:,} formula pictures of exnihilo with their
attribute sentences, and on {scenes:,} scenes with sentences of one to eight facts. Its training data contain
no photograph, nothing from the web, and nobody's drawing. Its weights, tokenizer list and figures are
CC0-1.0. The list is the first 2,000 merges of open_clip's (MIT)."""

_SCENES_LIMITS = """\
It knows formula pictures, scenes and the words of exnihilo's grammar, and nothing else. Other words have
tokens, but no meaning: no animals, people or styles. Colours are learnt first, and kinds of objects late:
compare the rows of the table. With one wrong fact among its words, a sentence often seems as right as before,
so this encoder is no judge of a picture's details. Formula pictures may be known less well than before:
compare the columns. Its embedding of a photograph reflects at most the colours and their places. Its input
has 64 x 64 pixels. It is meant for trying out the whole path offline. It does not replace a CLIP that was
trained on the web."""

_EXAM_OF_SCENES = """

The exam of scenes has fresh pictures, of both splits. An answer is right if it is true of the picture and has
the greatest cosine. Colour and kind are those of the main object, among texts such as "a red star" that
differ in this word alone. "Other pictures" compares a sentence of two to eight facts with nine of other
pictures of the set, false of this one. "One fact changed" compares it with nine false versions of itself.
"New pairs" are main objects with a kind and a colour that never came together in the training scenes."""

_BEFORE = """ The column "{start}" has the shares of {start}, from which the fit started, on the same exam."""

_CAPTIONED = """\
A CLIP of open_clip's architecture{start}, trained on {drawn:,} formula pictures of exnihilo with their
attribute sentences, and on {named:,} pictures of {concepts:,} concepts by other people, with their
captions. It is **not** an encoder of formulas only. Its other training data are

| data set | pictures | licence |
| --- | --- | --- |
{origins}

The weights, as far as they are ours to give, and the figures are CC0-1.0. The tokenizer list is the first
2,000 merges of open_clip's (MIT). The pictures and captions above are other people's work under these
licences; this folder contains none of them. Whoever distributes the weights must judge if these licences
concern them."""

_CAPTIONED_LIMITS = """\
It knows the words of exnihilo's grammar, and those of the captions above as far as the pictures show their
meaning. A word outside the captions has tokens, but no meaning. The table shows how often it names a new
concept right. Its embedding of any other picture reflects at most the colours, their places, and a likeness
to the pictures above. Its answers for pictures of the training sets come from memory. Its input has 64 x 64
pixels. It is meant for trying out the whole path offline. It does not replace a CLIP that was trained on
the web."""

_NAMING = """

"Named among N" compares the first caption of a picture with those of N - 1 other new concepts, one picture
per concept. The figure is the mean over 20 draws of the others. "All" has every picture of a concept, such
as the skin tones of an emoji. It is easier, because the caption of a variant names the feature that the
others lack."""


_LICENCE = "CC0-1.0"
_SHARED_LICENCE = (
    "Weights and figures are CC0-1.0 as far as they are ours to give; the other training data have licences"
    " of their own, which the card lists."
)


class Fitted(NamedTuple):
    """The settings, time and losses of a fit."""

    command: str
    seed: int
    visits: int
    threads: int
    minutes: float
    losses: tuple[float, float]  # mean of the first and of the last tenth


def text(
    name: str,
    fitted: Fitted,
    sets: Sets,
    start: EncoderSource | None,
    figures: Mapping[str, ExamScore],
    before: Mapping[str, ExamScore],
) -> str:
    """Returns the card of an encoder. `start` is the encoder that the fit started from, if any.

    `before` has the figures of that encoder."""
    numbers = fitted._asdict()
    first, last = numbers.pop("losses")
    texts = _texts(sets, name, start)
    head = front_matter.of_model(
        texts["name"],
        f"an image-text encoder, trained on {texts['data']}",
        _LICENCE if texts["data"] == _FORMULAS_ALONE else _SHARED_LICENCE,
        library="open_clip",
        task="zero-shot-image-classification",
        tags=("clip",),
    )
    texts["before"] = _BEFORE.format(start=start.name) if start and before else ""
    table = _table(figures, start.name if start else "", before)
    return _CARD.format(**numbers, **texts, head=head, first=first, last=last, figures=table)


def _texts(sets: Sets, name: str, start: EncoderSource | None) -> dict[str, str]:
    """Returns the card's texts about the sets and the encoder that the fit started from."""
    # Sources other than formulas.
    drawn, captioned = len(sets.formulas.facts), sets.captioned
    origins = [
        f"| {origin.dataset}: {origin.title} | {origin.pictures:,} | {origin.licence} |"
        for origin in sets.origins
    ]
    if start and all(start.sha256 != find(shipped).sha256 for shipped in _FORMULAS_ONLY):
        origins.append(f"| the training data of {start.name}, from which the fit started | | |")

    # Formulas only, maybe with scenes.
    number, begin = len(sets.scenes.facts), f", started from {start.name}" if start else ""
    if number and not origins:
        return {
            "name": name,
            "data": _FORMULAS_ALONE,
            "description": _SCENES.format(start=begin, drawn=drawn, scenes=number),
            "limits": _SCENES_LIMITS,
            "naming": "",
            "scenes": _EXAM_OF_SCENES,
        }
    if not origins:
        return {
            "name": name,
            "data": _FORMULAS_ALONE,
            "description": _FORMULAS.format(start=begin, drawn=drawn),
            "limits": _FORMULAS_LIMITS,
            "naming": "",
            "scenes": "",
        }

    # Captioned pictures.
    others = "other people's pictures"
    if set(captioned.nouns) == {"emoji"}:
        others = "an emoji font that people drew"
    description = _CAPTIONED.format(
        start=begin,
        drawn=drawn + number,
        named=len(captioned.concepts),
        concepts=len(set(captioned.concepts)),
        origins="\n".join(origins),
    )
    return {
        "name": name,
        "data": f"formula pictures and {others}" if drawn else others,
        "description": description,
        "limits": _CAPTIONED_LIMITS,
        "naming": _NAMING,
        "scenes": _EXAM_OF_SCENES if number else "",
    }


def _table(figures: Mapping[str, ExamScore], start: str, before: Mapping[str, ExamScore]) -> str:
    """Returns the figures as a Markdown table. A column has those of `start`, if there are any."""
    if not figures:
        return "There was no exam."

    # Heading.
    earlier = (start,) if before else ()
    columns = ("exam", "right", *earlier, "mean by word", "a guess", "commonest word", "pictures")
    rows: list[tuple[str, ...]] = [columns, ("---",) * len(columns)]

    # Shares in percent.
    for name, figure in figures.items():
        earlier_share = (before[name].right,) if before else ()
        shares = (figure.right, *earlier_share, figure.even, figure.chance, figure.commonest)
        percent = ("" if share is None else f"{100 * share:.1f} %" for share in shares)
        rows.append((name, *percent, f"{figure.pictures:,}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
