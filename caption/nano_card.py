"""The card of a fitted encoder: what it is, what it was fitted to, its figures, what it cannot do."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from caption.nano_exam import Figure

NAME = "README.md"

_CARD = """# nano: an image-text encoder that has seen formula pictures only

A CLIP of open_clip's architecture, fitted to {pictures:,} pictures that exnihilo drew and to their attribute sentences. It has never seen a
photograph, the web or anybody's drawing. Its weights, tokenizer list and figures are CC0-1.0; the list is the first 2,000 merges of
open_clip's (MIT).

```
{command}
```

Seed {seed}, {visits:,} visits of pictures, {minutes:.1f} CPU minutes with --threads {threads}, rendering not counted. The contrastive loss
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
nearest of the grammar's words ("red"; "on a red background"; "a fractal"), for pictures whose facts have one. Words are not equally common:
"mean by word" counts each alike, "commonest word" is what naming it always would get.

## What it cannot do

It knows nothing but formula pictures and the words of exnihilo's grammar. Other words have tokens, but no meaning: it knows no objects, no
animals, no people, no styles, and its embedding of a photograph says at most which colours are where. It sees 64 x 64 pixels. It is meant
for trying out the whole path offline and for measuring how well formula pictures match their sentences, not as a stand-in for a CLIP
that has seen the world.
"""


class Fitted(NamedTuple):
    """What was done."""

    command: str
    seed: int
    visits: int
    threads: int
    pictures: int
    minutes: float
    losses: tuple[float, float]  # mean of the first and of the last tenth


def write(folder: Path, fitted: Fitted, figures: Mapping[str, Figure]) -> None:
    """Writes the card beside the weights."""
    about = fitted._asdict()
    first, last = about.pop("losses")
    (folder / NAME).write_text(_CARD.format(**about, first=first, last=last, figures=_table(figures)))


def _table(figures: Mapping[str, Figure]) -> str:
    if not figures:
        return "No exam was given."
    rows: list[tuple[str, ...]] = [("on classes it was not fitted to", "right", "mean by word", "a guess", "commonest word", "pictures")]
    rows.append(("---",) * len(rows[0]))
    for name, figure in figures.items():
        shares = (figure.right, figure.even, figure.chance, figure.commonest)
        rows.append((name, *("" if share is None else f"{100 * share:.1f} %" for share in shares), f"{figure.pictures:,}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
