"""The judge's own accuracy on fresh renders: by type of fact, and of whole prompts by number of facts.

A whole prompt is examined twice. Its own render should be accepted: the share is the sensitivity. The same
render with exactly one stated fact changed should not: the share is the rate of false accepts. Kinds that are
confused more often than 3 % at 32 pixels share a word there.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.judge import fresh, scene_prompts, scoring, seeing
from evaluate.judge.fresh import Fresh
from evaluate.judge.network import SIDES, Judge
from evaluate.judge.rates import Counted
from evaluate.judge.scene_prompts import Drawn, ScenePrompt
from evaluate.judge.sight import Seen
from synth.errors import UserError
from synth.families.scene_edits import edited
from synth.sets.completion import Progress

NAME = "accuracy.json"

_CONFUSED = 0.03  # share of a kind's objects that are called another kind
_NEAR = 0.1  # sides of the picture, between an object and its sight
_AT_ONCE = 256
_LETTERS = ("letters=true",)  # settings of the pictures for texts, a fifth of all
_SEED = 5  # of the exam's pictures

Json = dict[str, Any]


@dataclass(frozen=True)
class Accuracy:
    """The judge's figures for a data set at a side."""

    name: str
    side: int
    pictures: int
    facts: dict[str, Counted]  # by type; "all"; relations also by their words
    accepted: dict[int, Counted] = field(default_factory=dict)  # right pictures, by number of facts
    false_accepts: dict[int, Counted] = field(default_factory=dict)  # with one fact changed
    same: dict[str, str] = field(default_factory=dict)  # kinds that share a word

    @property
    def row(self) -> Json:
        """The figures as JSON."""
        return {
            "set": self.name,
            "side": self.side,
            "pictures": self.pictures,
            "facts": {name: list(counted) for name, counted in self.facts.items()},
            "accepted": {str(k): list(counted) for k, counted in self.accepted.items()},
            "false_accepts": {str(k): list(counted) for k, counted in self.false_accepts.items()},
            "same_word": self.same,
        }


def read(folder: Path = seeing.SHIPPED) -> list[Accuracy]:
    """Returns the figures of a judge's folder. Raises UserError if they are missing or damaged."""
    try:
        rows = json.loads((folder / NAME).read_text(encoding="utf-8"))["sets"]
        return [
            Accuracy(
                row["set"],
                row["side"],
                row["pictures"],
                {name: Counted(*pair) for name, pair in row["facts"].items()},
                {int(k): Counted(*pair) for k, pair in row["accepted"].items()},
                {int(k): Counted(*pair) for k, pair in row["false_accepts"].items()},
                row["same_word"],
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"{folder / NAME} does not hold the accuracy of a judge"
        raise UserError(f"{problem}; `python -m evaluate fit-judge --out {folder}` writes it") from None


def of(accuracies: Sequence[Accuracy], name: str, side: int) -> Accuracy:
    """Returns the figures for pictures of a side. Raises UserError if the data set was not examined."""
    nearest = SIDES[0] if side < seeing.BETWEEN else SIDES[1]
    for accuracy in accuracies:
        if (accuracy.name, accuracy.side) == (name, nearest):
            return accuracy
    raise UserError(f"the judge was not examined on {name}; give {' or '.join(fresh.SETS)}")


def examine(judge: Judge, *, pictures: int, prompts: int) -> Iterator[Progress | list[Accuracy]]:
    """Yields the number of judged pictures, and at the end the figures of every data set and side.

    `pictures` are judged by fact, and `prompts` of each number of facts as a whole, right and wrong."""
    rows = []
    for name in fresh.SETS:
        for side in SIDES:
            # Facts.
            laws = (fresh.law(name, (), _SEED, fresh.FIRST + i) for i in range(pictures))
            scenes = [fresh.rendered(params, side) for params in laws]
            seen = sights(judge, scenes, name)
            yield Progress(len(scenes))
            same = shared_words(scenes, seen) if side == SIDES[0] else {}
            facts = by_type(scenes, seen, same)
            if name != seeing.FLAT:
                laws = (fresh.law(name, _LETTERS, _SEED, fresh.FIRST + i) for i in range(pictures // 5))
                lettered = [fresh.rendered(params, side) for params in laws]
                read = by_type(lettered, sights(judge, lettered, name), same)
                facts |= {"text": read["text"]} if "text" in read else {}

            # Whole prompts.
            accepted, false_accepts = {}, {}
            for count in range(1, scene_prompts.MOST + 1):
                right, wrong = whole_pictures(name, count, side, prompts, same)
                accepted[count] = whole(judge, right, name, same)
                false_accepts[count] = whole(judge, wrong, name, same)
                yield Progress(len(right) + len(wrong))
            rows.append(Accuracy(name, side, pictures, facts, accepted, false_accepts, same))
    yield rows


def sights(judge: Judge, scenes: Sequence[Fresh], name: str) -> list[Seen]:
    """Returns the judge's sight of fresh pictures."""
    seen: list[Seen] = []
    for start in range(0, len(scenes), _AT_ONCE):
        part = scenes[start : start + _AT_ONCE]
        seen += seeing.see(np.stack([scene.pixels for scene in part]), name, judge)
    return seen


def by_type(scenes: Sequence[Fresh], seen: Sequence[Seen], same: scoring.Same) -> dict[str, Counted]:
    """Returns right facts among all facts of pictures, by type."""
    right, total = Counter[str](), Counter[str]()
    for scene, sight in zip(scenes, seen, strict=True):
        facts = scene.facts
        for fact, good in zip(facts, scoring.score(sight, facts, same=same).rights, strict=True):
            for name in ("all", fact.type, *([fact.relation] if fact.relation else [])):
                total[name] += 1
                right[name] += good
    return {name: Counted(right[name], total[name]) for name in sorted(total)}


def shared_words(scenes: Sequence[Fresh], seen: Sequence[Seen]) -> dict[str, str]:
    """Returns the kinds that are often confused, each with the one word that they share."""
    # Objects and their sights at the same place.
    pairs, total = Counter[tuple[str, str]](), Counter[str]()
    for scene, sight in zip(scenes, seen, strict=True):
        for thing in fresh.seen_of(scene.sample).objects:
            total[thing.kind] += 1
            for other in sight.objects:
                apart = max(abs(a - b) for a, b in zip(thing.centre, other.centre, strict=True))
                if apart < _NEAR and (thing.size, thing.colour) == (other.size, other.colour):
                    pairs[thing.kind, other.kind] += 1
                    break

    # Groups of kinds.
    group = {kind: kind for kind in total}
    for (kind, called), count in sorted(pairs.items()):
        if kind != called and count > _CONFUSED * total[kind]:
            old, new = group.get(called, called), group[kind]
            group = {name: new if word == old else word for name, word in group.items()}
    return {kind: word for kind, word in group.items() if sum(w == word for w in group.values()) > 1}


def whole_pictures(
    name: str, facts: int, side: int, count: int, same: scoring.Same
) -> tuple[list[tuple[ScenePrompt, Fresh]], list[tuple[ScenePrompt, Fresh]]]:
    """Returns prompts with pictures that are right, and with pictures in which one stated fact is changed."""
    right, wrong = [], []
    stream = np.random.default_rng([_SEED, facts, side])
    for drawn in islice(scene_prompts.drawn(name, facts, seed=_SEED), count):
        right.append((drawn.prompt, fresh.rendered(drawn.scene.params, side)))
        if changed := spoilt(drawn, name, side, same, stream):
            wrong.append((drawn.prompt, changed))
    return right, wrong


def spoilt(
    drawn: Drawn, name: str, side: int, same: scoring.Same, stream: np.random.Generator
) -> Fresh | None:
    """Returns the render of a scene with exactly one of the prompt's facts changed, or None if no edit of the
    scene does that."""
    facts = drawn.prompt.facts
    for fact, change in fresh.changes(facts, drawn.numbers, fresh.config(name), stream):
        try:
            changed = fresh.rendered(edited(drawn.scene.params, change), side)
        except ValueError:
            continue
        score = scoring.score(fresh.seen_of(changed.sample), facts, same=same)
        if score.rights == tuple(stated != fact for stated in facts):
            return changed
    return None


def whole(
    judge: Judge, pictures: Sequence[tuple[ScenePrompt, Fresh]], name: str, same: scoring.Same
) -> Counted:
    """Returns the number of accepted pictures."""
    seen = sights(judge, [scene for _, scene in pictures], name)
    closed = name == seeing.FLAT
    accepted = [
        scoring.score(sight, prompt.facts, closed=closed, same=same).whole
        for sight, (prompt, _) in zip(seen, pictures, strict=True)
    ]
    return Counted(sum(accepted), len(accepted))
