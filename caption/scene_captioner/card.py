"""The card of a fitted captioner: its recipe, its figures and its limits."""

from typing import Any, NamedTuple

from synth.sets import front_matter

_CARD = """{head}# {name}: a captioner of scenes

A decoder of two layers that reads {reads} of the encoder `{encoder}`. exnihilo fitted it to pictures of
`scenes` and `scenes_flat` at 64 x 64 pixels and to true sentences on them. Its training data contain no
photograph, nothing from the web, and nobody's drawing. Its weights and figures are CC0-1.0.

```
{command}
python -m caption recaption SET --captioner FOLDER --prompt short --encoder nano
```

The recipe is that of DALL-E 3's captioner, in small: a base reads texts of one to eight facts, and is then
tuned twice. `short` names the main object, and `long` states everything. {minutes:.1f} CPU minutes. The last
losses per word: {losses}. The same command gives the same bytes on machines of one type.

| file | content |
| --- | --- |
| captioner.json | the encoder, the shape of the decoder, the options, all figures |
| vocabulary.json | its words |
| short.safetensors, long.safetensors | the weights of each tuning, fp16 |

## Figures

{figures}

| true by type of fact | {heads} |
| --- | {lines} |
{types}

The pictures are fresh scenes of another seed. "Read" is the share of captions that parse. A stated fact is
true if the parameters of the picture imply it with a margin; the objects of a caption are matched with those
of the picture as well as possible. So "false" is the measured rate of hallucination. "Main object" is the
share of captions with its kind and colour. "Of all facts" is the share of the pictures' facts that the
captions state. Decoding is greedy.

## Limits

It knows scenes and the words of exnihilo's grammar, and nothing else. Of any other picture it describes a
scene that is not there. It reads pictures at the size of its encoder.
"""

_READS = {"vector": "the picture vector", "patches": "the picture vector and the patches"}

Json = dict[str, Any]


class Fitted(NamedTuple):
    """The settings, time and losses of a fit."""

    command: str
    reads: str
    encoder: str
    minutes: float
    losses: dict[str, float]  # mean of the last tenth, by stage


def text(name: str, fitted: Fitted, figures: Json) -> str:
    """Returns the card of a captioner. `figures` has those of each tuning and set."""
    head = front_matter.of_model(
        name,
        "a captioner of scenes, fitted to formula pictures only",
        "CC0-1.0",
        library="exnihilo",
        task="image-to-text",
        tags=("captioning",),
    )
    columns = {(tuning, place): score for tuning, sets in figures.items() for place, score in sets.items()}
    types = dict.fromkeys(type_ for score in columns.values() for type_ in score["types"])
    rows = []
    for type_ in types:
        shares = [score["types"].get(type_) for score in columns.values()]
        cells = (f"{100 * share[0]:.1f} % of {share[1]:,}" if share else "" for share in shares)
        rows.append(f"| {type_} | {' | '.join(cells)} |")
    return _CARD.format(
        head=head,
        name=name,
        reads=_READS[fitted.reads],
        encoder=fitted.encoder,
        command=fitted.command,
        minutes=fitted.minutes,
        losses=", ".join(f"{stage} {loss:.2f}" for stage, loss in fitted.losses.items()),
        figures=table(figures),
        heads=" | ".join(f"{tuning}, {place}" for tuning, place in columns),
        lines=" | ".join("---" for _ in columns),
        types="\n".join(rows),
    )


def table(figures: Json) -> str:
    """Returns the figures of tunings and sets as a Markdown table."""
    columns = ("captions", "set", "read", "false", "main object", "facts stated", "of all facts")
    rows: list[tuple[str, ...]] = [(*columns, "words", "vocabulary", "distinct")]
    rows.append(("---",) * len(rows[0]))
    for tuning, sets in figures.items():
        for name, score in sets.items():
            shares = (score["parsed"], 1 - score["true"], score["main"])
            percent = (f"{100 * share:.1f} %" for share in shares)
            counts = (f"{score['words']:.1f}", f"{score['vocabulary']:,}")
            distinct = f"{score['distinct']:,} of {score['pictures']:,}"
            facts = (f"{score['stated']:.1f}", f"{100 * score['recall']:.1f} %")
            rows.append((tuning, name, *percent, *facts, *counts, distinct))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
