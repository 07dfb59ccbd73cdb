"""Concepts of scenes: objects of one kind in one colour, with pictures of them and prompts about them.

A concept is decidable: the judge sees if an object is of its kind and colour. Its pictures show it alone. In
its prompts another phrase may stand for its name: "a purple star left of a red ring on white" becomes "a
<thing> left of a red ring on white".

Axes: K pictures of a concept, P prompts, R side of a picture.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_phrases import NOUNS
from caption.sentences.scene_sentences import plain
from evaluate.judge import fresh, scene_prompts
from evaluate.judge.scene_prompts import ScenePrompt
from synth import seeds
from synth.errors import UserError
from synth.families import scene_world, scenes
from synth.families.scene_world import Pair

_OWN = ("kind", "colour")  # facts of the first object that make the concept
_TRIES = 1000  # scenes in turn


@dataclass(frozen=True)
class Concept:
    """An object to learn a word for."""

    kind: str
    colour: str
    held_out: bool  # training pictures never show this kind in this colour
    pictures: np.ndarray  # uint8 (K, R, R, 3)
    prompts: tuple[ScenePrompt, ...]  # their first object is the concept
    scenes: np.ndarray  # uint8 (P, R, R, 3), which the prompts are true of

    @property
    def noun(self) -> str:
        """The plain word of its kind: the one that a new word begins at."""
        return NOUNS[self.kind][0]

    @property
    def name(self) -> str:
        """Its plain name, such as "a purple star"."""
        return plain([SceneFact("kind", 0, self.kind), SceneFact("colour", 0, self.colour)])

    def prompted(self, phrase: str) -> list[str]:
        """Returns the prompts with a phrase in the place of the name."""
        return [prompt.prompt.replace(self.name, phrase, 1) for prompt in self.prompts]


def of_concept(fact: SceneFact) -> bool:
    """Returns True for facts of the concept itself, False for those of the rest of its prompt."""
    return fact.subject == 0 and fact.type in _OWN


def drawn(
    name: str,
    nouns: Container[str],
    n: int,
    side: int,
    *,
    pictures: int,
    facts: Sequence[int],
    prompts: int,
    seed: int = 0,
) -> list[Concept]:
    """Returns n concepts of a data set with nouns that a run knows: held-out ones first, in random order.

    `prompts` of each number of `facts`, from three on. Raises UserError if there are fewer concepts, or a
    prompt does not name kind, colour and backdrop."""
    # Kinds in colours.
    if min(facts) < len(_OWN) + 1:
        raise UserError(f"--facts has {min(facts)}; prompts of concepts state three facts or more")
    world = fresh.config(name)
    held = scene_world.held_out(world.held)
    known = [
        Pair(kind, colour) for kind in world.kinds if NOUNS[kind][0] in nouns for colour in world.colours
    ]
    if len(known) < n:
        raise UserError(
            f"{name} has {len(known)} concepts with nouns that the run knows; give --n of at most that"
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(known))
    chosen = sorted((known[number] for number in order), key=lambda pair: pair not in held)[:n]

    # Their pictures and prompts.
    concepts = []
    for number, pair in enumerate(chosen):
        alone = _scenes(name, pair, 3, ("objects=1,1",), (seed, number, 0))
        shown = [fresh.rendered(each.scene.params, side).pixels for each in islice(alone, pictures)]
        cases = [
            each
            for stated in facts
            for each in islice(
                _scenes(name, pair, stated, scene_prompts.only_named(name, stated), (seed, number, stated)),
                prompts,
            )
        ]
        prompted = tuple(each.prompt for each in cases)
        true = [fresh.rendered(each.scene.params, side).pixels for each in cases]
        concepts.append(
            Concept(pair.kind, pair.colour, pair in held, np.stack(shown), prompted, np.stack(true))
        )
    return concepts


def _scenes(
    name: str, pair: Pair, facts: int, changes: tuple[str, ...], key: tuple[int, int, int]
) -> Iterator[scene_prompts.Drawn]:
    """Yields scenes with a main object of this kind and colour, and their prompts of so many facts.

    `key` has the seed, and the numbers of the concept and of the use of its scenes."""
    config, (seed, number, use) = fresh.config(name, changes), key
    held, failures = scene_world.held_out(config.held), 0
    for index in count():
        stream = seeds.stream(seed, "concepts", number, use, index)
        scene = fresh.rendered(scenes.sample_instance(config, pair, stream), scene_prompts.SIDE)
        each = scene_prompts.of_scene(scene, facts, held)
        if each:
            failures = 0
            yield each
        elif (failures := failures + 1) == _TRIES:
            raise UserError(
                f"{_TRIES:,} scenes of {name} in turn do not show {facts} facts; give fewer --facts"
            )
