"""The words of prompts, and which words of one prompt stand for words of another.

Equal words are aligned by Needleman and Wunsch (J. Mol. Biol. 48, 1970) with a match of 1, a mismatch of -1
and a gap of 0, as in the program of prompt-to-prompt. That is the longest common subsequence. Words between
two equal ones form a run: those of the source are replaced by those of the edit.

Axes: S words of the source, E words of the edit, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from synth.errors import UserError
from train.model import Tokeniser

KINDS = ("auto", "replace", "refine")


@dataclass(frozen=True)
class Word:
    """A word of a prompt."""

    text: str
    columns: tuple[int, ...]  # numbers of its tokens


class Run(NamedTuple):
    """Words of the source, by number, and the words of the edit in their place. One side may be empty."""

    source: tuple[int, ...]
    edit: tuple[int, ...]


@dataclass(frozen=True)
class Alignment:
    """The words of an edited prompt beside those of its source."""

    kind: str  # replace: maps of a run's source words go to its edit words; refine: new words have their maps
    source: tuple[Word, ...]
    edit: tuple[Word, ...]
    equal: tuple[tuple[int, int], ...]  # numbers of equal words
    runs: tuple[Run, ...]

    @property
    def links(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Tokens of the source, and the tokens of the edit that share their maps."""
        links: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for number, other in self.equal:
            pieces = zip(self.source[number].columns, self.edit[other].columns, strict=False)
            links += [((one,), (two,)) for one, two in pieces]
        if self.kind == "replace":
            links += [(columns(self.source, run.source), columns(self.edit, run.edit)) for run in self.runs]
        return links


def columns(words: Sequence[Word], numbers: Sequence[int]) -> tuple[int, ...]:
    """Returns the tokens of words with these numbers."""
    return tuple(column for number in numbers for column in words[number].columns)


def worded(tokenise: Tokeniser, text: str) -> tuple[Word, ...]:
    """Returns the words of a text with their tokens. Words beyond the longest text have fewer or none."""
    frame, length = len(tokenise("")), len(tokenise(text))
    last = length - (frame - 1)
    words, place = [], 1
    for word in tokenise.divided(text):
        count = len(tokenise(word)) - frame
        words.append(Word(word, tuple(range(min(place, last), min(place + count, last)))))
        place += count
    return tuple(words)


def aligned(source: Sequence[Word], edit: Sequence[Word], kind: str = "auto") -> Alignment:
    """Returns the alignment of an edited prompt with its source, as one of KINDS.

    auto is replace if every run has as many words on both sides, else refine. Raises UserError if the prompts
    do not align for replace."""
    equal = common([word.text for word in source], [word.text for word in edit])
    runs = list(_runs(equal, len(source), len(edit)))
    if kind == "auto":
        kind = "replace" if all(len(run.source) == len(run.edit) for run in runs) else "refine"
    if kind == "replace":
        for run in runs:
            words, numbers = (source, run.source) if run.source else (edit, run.edit)
            if not run.source or not run.edit:
                names = ", ".join(repr(words[number].text) for number in numbers)
                missing = "edited" if run.source else "first"
                problem = f"the prompts do not align for replace: nothing in the {missing} prompt stands for"
                raise UserError(f"{problem} {names}; give --kind refine, or change the prompts")
    return Alignment(kind, tuple(source), tuple(edit), tuple(equal), tuple(runs))


def common(source: Sequence[str], edit: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the numbers of equal words, in order: a longest common subsequence, as late as possible."""
    # Scores of all prefixes. A mismatch scores less than two gaps, so it is never taken.
    scores = [[0] * (len(edit) + 1) for _ in range(len(source) + 1)]
    for i, one in enumerate(source, 1):
        for j, other in enumerate(edit, 1):
            best = max(scores[i - 1][j], scores[i][j - 1])
            scores[i][j] = max(best, scores[i - 1][j - 1] + 1) if one == other else best

    # The way back.
    pairs, i, j = [], len(source), len(edit)
    while i and j:
        if source[i - 1] == edit[j - 1] and scores[i][j] == scores[i - 1][j - 1] + 1:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif scores[i - 1][j] >= scores[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _runs(equal: Sequence[tuple[int, int]], source: int, edit: int) -> list[Run]:
    """Returns the words between equal ones."""
    runs, place = [], (0, 0)
    for number, other in [*equal, (source, edit)]:
        run = Run(tuple(range(place[0], number)), tuple(range(place[1], other)))
        runs += [run] if run.source or run.edit else []
        place = number + 1, other + 1
    return runs
