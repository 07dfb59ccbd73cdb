"""Edits of scenes: two prompts that differ in one fact, with the renders that they are true of.

    replace    both prompts state the fact, with other values: a red star on white -> a green star on white
    refine     only the edited prompt states it: a star on white -> a green star on white
    reweight   refine, with twice the weight on the word of the new fact

Pixels that differ between the two renders are the true mask of an edit. All others should stay.

Axes: R side of the picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import plain
from evaluate.judge import fresh, scene_prompts
from evaluate.judge.fresh import Fresh
from synth.errors import UserError
from synth.families.scene_edits import Change, edited
from synth.families.scenes import Config

KINDS = ("replace", "refine", "reweight")
WEIGHT = 2.0  # of the new word

_WORDS = ("kind", "colour", "size", "backdrop")  # facts of one word
_ADDED = ("colour", "size", "backdrop")  # facts that a prompt may leave out


class SceneEdit(NamedTuple):
    """An edit with its truth."""

    kind: str
    source: str  # the prompt of `before`
    edited: str  # the prompt of `after`
    facts: tuple[SceneFact, ...]  # of the edited prompt
    place: int  # of the changed fact among them
    before: Fresh
    after: Fresh
    numbers: Mapping[int, int]  # the scene's number of each object of the prompts

    @property
    def changed(self) -> SceneFact:
        """The changed fact."""
        return self.facts[self.place]

    @property
    def weights(self) -> dict[str, float]:
        """Factors on words of the edited prompt."""
        return {str(self.changed.value): WEIGHT} if self.kind == "reweight" else {}

    @property
    def mask(self) -> np.ndarray:
        """The pixels that the edit changes: bool (R, R)."""
        return np.asarray((self.before.pixels != self.after.pixels).any(axis=2))


def drawn(name: str, facts: Sequence[int], side: int, *, seed: int = 0) -> Iterator[SceneEdit]:
    """Yields edits of scenes of a data set without end, the kinds in turn, with renders of `side` pixels.

    Prompts state these numbers of facts in turn. Raises UserError if the data set has no such scenes."""
    streams = [scene_prompts.drawn(name, number, seed=seed) for number in facts]
    world = fresh.config(name)
    edits = failures = 0
    for index in count():
        scene = next(streams[index % len(streams)])
        stream = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
        kind = KINDS[edits // len(facts) % len(KINDS)]
        changes = fresh.changes(scene.prompt.facts, scene.numbers, world, stream)
        edit = _edit(scene, kind, changes, world, side)
        if edit:
            edits, failures = edits + 1, 0
            yield edit
        elif (failures := failures + 1) == 1000:
            raise UserError(f"1,000 scenes of {name} in turn have no edit of kind {kind}; give more --facts")


def _edit(
    scene: scene_prompts.Drawn,
    kind: str,
    changes: Iterator[tuple[SceneFact, Change]],
    world: Config,
    side: int,
) -> SceneEdit | None:
    """Returns the edit by the first change that fits, or None if no change does."""
    stated = scene.prompt.facts
    for fact, change in changes:
        # A fact of one word, which the law of scenes lets change.
        if fact.type not in (_WORDS if kind == "replace" else _ADDED):
            continue
        try:
            params = edited(scene.scene.params, change, world)
        except ValueError:
            continue
        place = stated.index(fact)
        facts = (*stated[:place], fact._replace(value=change.value), *stated[place + 1 :])

        # The edited prompt is true, and names the new value once.
        truth = set(fresh.rendered(params, scene_prompts.SIDE).facts)
        here = [_in_scene(fact, scene.numbers) for fact in facts]
        prompt = plain(facts)
        if not truth.issuperset(here) or prompt.split().count(str(change.value)) != 1:
            continue
        source = plain(stated if kind == "replace" else (*stated[:place], *stated[place + 1 :]))
        before, after = fresh.rendered(scene.scene.params, side), fresh.rendered(params, side)
        return SceneEdit(kind, source, prompt, facts, place, before, after, scene.numbers)
    return None


def _in_scene(fact: SceneFact, numbers: Mapping[int, int]) -> SceneFact:
    """Returns a fact of a prompt with the scene's numbers of its objects."""
    subject, other = numbers.get(fact.subject, -1), numbers.get(fact.object, -1)
    return fact._replace(subject=subject, object=other)
