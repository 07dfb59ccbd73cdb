"""Notes on texts that a run reads in part: words that it does not know, and texts that are too long."""

import dataclasses
from collections.abc import Mapping, Sequence

from train.model import Tokeniser, find
from train.models.byte_pairs import BytePairs
from train.models.words import UNKNOWN, Vocabulary
from train.runs import Run
from train.sampling import draw, learned

_SHOWN = 10  # unknown words in a note
_BEGINNING = 40  # characters of a text in a note
_ENDLESS = 1 << 30  # tokens


def notes(
    run: Run, texts: Sequence[str], options: Mapping[str, str], learned_words: Sequence[str] = ()
) -> list[str]:
    """Returns a note on the unknown words of texts, and one on the texts that are cut off, if there are any.

    `options` of drawing are in their command-line form, `learned_words` folders of `invert`. Raises UserError
    if the run draws nothing or has no such option, or if a folder is none of a word."""
    draw.require_drawing(run.model, str(run.path))
    if "tokens" not in draw.reads(run.model, options):
        return []
    name = run.path.resolve().name
    survey = learned.survey_with(run.survey, dict(map(learned.sizes_of, learned_words)))
    tokenise = find(run.model).tokeniser(run.config.groups, survey)
    return [*_unknown(tokenise, texts, name), *cut(tokenise, texts, name)]


def cut(tokenise: Tokeniser, texts: Sequence[str], run: str) -> list[str]:
    """Returns a note on the texts that have more tokens than a run reads, or nothing."""
    if not isinstance(tokenise, Vocabulary | BytePairs):
        return []
    endless = dataclasses.replace(tokenise, most=_ENDLESS)
    long = [text for text in texts if len(endless(text)) > len(tokenise(text))]
    if not long:
        return []
    beginning = long[0] if len(long[0]) <= _BEGINNING else f"{long[0][:_BEGINNING]}..."
    count = "a text is" if len(long) == 1 else f"{len(long):,} texts are"
    return [f"note: {count} cut, as {run} reads {tokenise.most} tokens of a text at most: {beginning!r}"]


def _unknown(tokenise: Tokeniser, texts: Sequence[str], run: str) -> list[str]:
    """Returns a note on the words of texts that a vocabulary lacks, or nothing. Byte pairs spell any word."""
    if not isinstance(tokenise, Vocabulary):
        return []
    words = dict.fromkeys(word for text in texts for word in tokenise.divided(text))
    unknown = [repr(word) for word in words if UNKNOWN in tokenise(word)]
    if not unknown:
        return []
    more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
    listed = ", ".join(unknown[:_SHOWN]) + more
    return [f"note: {run} does not know {listed}, so they change the pictures as any unknown word would"]
