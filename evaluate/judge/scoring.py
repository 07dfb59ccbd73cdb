"""Scores: which facts of a prompt a seen picture has, and if it has all of them.

Protocol. The objects of a prompt are assigned to different seen objects. The assignment with the most right
facts counts, the first of equals. A fact of an object without a partner is wrong. A count is right if the
judge sees that many objects. A prompt is right as a whole if all its facts are. If it is `closed`, it must
also name as many objects as the judge sees. Prompts of scenes_flat are closed, as they name everything.

    left of, right of, above, below   the centroids lie on that side, the longer way is along it, and it is
                                      half of the margin of scene_world or more
    larger than, smaller than         by size word
    place                             by thirds of the frame, divided in the middle of the margin between them
    in front of, behind               an object inside another is in front of it

Axes: A assignments, K named objects, M seen objects.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from caption.sentences.scene_facts import SceneFact
from evaluate.judge.sight import Seen, SeenObject
from synth.families import scene_world
from synth.families.scene_world import DIRECTIONS

_APART = 0.075  # sides of the picture: half of a stated direction's
_THIRDS = (0.395, 0.605)  # of the frame
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")
_ALONE = {("", ""): "centre", ("upper", ""): "top", ("lower", ""): "bottom"}

Same = Mapping[str, str]  # kinds that share a word, each to that word


class Score(NamedTuple):
    """A picture's score."""

    rights: tuple[bool, ...]  # by fact
    whole: bool


def score(seen: Seen, facts: Sequence[SceneFact], *, closed: bool = False, same: Same | None = None) -> Score:
    """Returns which facts a seen picture has. `same` unites kinds that the judge confuses at this size."""
    # Every fact about every seen object, or pair of them.
    same = same or {}
    names = sorted({n for fact in facts for n in (fact.subject, fact.object) if n >= 0})
    place, count = {name: k for k, name in enumerate(names)}, len(seen.objects)
    scene = [_of_scene(seen, fact) if fact.subject < 0 else False for fact in facts]
    options = _assignments(len(names), count)  # (A, K), count or more: no partner
    rights = np.zeros((len(options), len(facts)), bool)  # (A, facts)
    for column, fact in enumerate(facts):
        if fact.subject < 0:
            rights[:, column] = scene[column]
        elif fact.type == "relation":
            table = np.zeros((len(names) + count, len(names) + count), bool)
            for i in range(count):
                for j in range(count):
                    table[i, j] = i != j and related(seen, i, j, fact.relation)
            rights[:, column] = table[options[:, place[fact.subject]], options[:, place[fact.object]]]
        else:
            row = np.zeros(len(names) + count, bool)
            row[:count] = [of_object(thing, fact, same) for thing in seen.objects]
            rights[:, column] = row[options[:, place[fact.subject]]]
    best = rights[int(rights.sum(axis=1).argmax())].tolist()
    return Score(tuple(best), all(best) and (not closed or count == len(names)))


def related(seen: Seen, first: int, second: int, relation: str) -> bool:
    """Returns True if a relation holds between two seen objects."""
    one, other = seen.objects[first], seen.objects[second]
    if relation in DIRECTIONS:
        across, down = one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]
        way, sideways = (across, down) if relation in ("left of", "right of") else (down, across)
        sign = -1 if relation in ("left of", "above") else 1
        return sign * way >= max(_APART, abs(sideways))
    if relation == "larger than":
        return scene_world.larger(one.size, other.size)
    if relation == "smaller than":
        return scene_world.larger(other.size, one.size)
    if relation == "same colour as":
        return one.colour == other.colour
    if relation in ("in front of", "behind"):
        inner = (first, second) if relation == "in front of" else (second, first)
        if seen.depths.get(inner) == "inside":
            return True
    return seen.depths.get((first, second), "") == relation


def placed(centre: tuple[float, float]) -> str:
    """Returns the place of a centroid in the frame."""
    column, row = (sum(share > third for third in _THIRDS) for share in centre)
    words = _ROWS[row], _COLUMNS[column]
    return _ALONE.get(words) or " ".join(word for word in words if word)


@lru_cache(maxsize=64)
def _assignments(names: int, count: int) -> np.ndarray:
    """Returns every assignment of names to different seen objects: int64 (A, K). Numbers from `count` on are
    no objects; they are there only if there are fewer objects than names."""
    options = list(permutations(range(max(count, names)), names))
    return np.array(options, np.int64).reshape(len(options), names)


def _of_scene(seen: Seen, fact: SceneFact) -> bool:
    if fact.type == "count":
        return len(seen.objects) == fact.value
    return bool(fact.value == (seen.backdrop if fact.type == "backdrop" else seen.texture))


def of_object(thing: SeenObject, fact: SceneFact, same: Same) -> bool:
    """Returns True if a seen object has a fact."""
    value: Any = fact.value
    if fact.type == "kind":
        return same.get(thing.kind, thing.kind) == same.get(value, value)
    if fact.type == "place":
        return placed(thing.centre) == value
    return bool(getattr(thing, fact.type, None) == value)
