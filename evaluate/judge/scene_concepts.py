"""Concepts of scenes: objects of one kind in one colour, with pictures of them and prompts about them.

A concept is decidable: the judge sees if an object is of its kind and colour. Its pictures show it alone. In
its prompts another phrase may stand for its name: "a purple star left of a red ring on white" becomes "a
<thing> left of a red ring on white". No other object of a prompt has its kind or its colour.

Axes: K pictures of a concept, P prompts, R side of a picture.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_phrases import NOUNS
from caption.sentences.scene_sentences import plain
from evaluate.judge import fresh, scene_prompts
from evaluate.judge.scene_prompts import Drawn, ScenePrompt
from synth import seeds
from synth.errors import UserError
from synth.families import scene_world, scenes
from synth.families.scene_world import Pair

FACTS = range(3, 7)  # of a prompt, which then begins with kind and colour of its first object

_OWN = ("kind", "colour")  # facts of the first object that make the concept
_TRIES = 1000  # scenes in turn

Known = Callable[[str], bool]  # text -> True if a run knows all its words


@dataclass(frozen=True)
class Concept:
    """An object to learn a word for."""

    kind: str
    colour: str
    held_out: bool  # the train split never shows this kind in this colour
    pictures: np.ndarray  # uint8 (K, R, R, 3), to learn from
    others: np.ndarray  # uint8 (K, R, R, 3), to compare with
    prompts: tuple[ScenePrompt, ...]  # their first object is the concept
    scenes: np.ndarray  # uint8 (P, R, R, 3), which the prompts are true of

    @property
    def noun(self) -> str:
        """The plain word of its kind, at which a new word begins."""
        return NOUNS[self.kind][0]

    @property
    def name(self) -> str:
        """Its plain name, such as "a purple star"."""
        return name_of(Pair(self.kind, self.colour))

    def prompted(self, phrase: str) -> list[str]:
        """Returns the prompts with a phrase in the place of the name."""
        rests = [prompt.prompt.removeprefix(self.name) for prompt in self.prompts]
        assert all(len(rest) < len(prompt.prompt) for rest, prompt in zip(rests, self.prompts, strict=True))
        return [phrase + rest for rest in rests]


def of_concept(fact: SceneFact) -> bool:
    """Returns True for facts of the concept itself, False for those of the rest of its prompt."""
    return fact.subject == 0 and fact.type in _OWN


def name_of(pair: Pair) -> str:
    """Returns the plain name of a kind in a colour."""
    return plain([SceneFact("kind", 0, pair.kind), SceneFact("colour", 0, pair.colour)])


def drawn(
    name: str,
    known: Known,
    n: int,
    side: int,
    *,
    pictures: int,
    facts: Sequence[int],
    prompts: int,
    seed: int = 0,
) -> list[Concept]:
    """Returns n concepts of a data set with names that a run knows, held-out ones first, in random order.

    Each has `prompts` prompts of every number of `facts`. Those of a held-out concept state no other held-out
    combination, and those of a seen one none at all. Raises UserError for other numbers of facts than FACTS,
    or if there are fewer concepts."""
    require_facts(facts)
    world = fresh.config(name)
    held = scene_world.held_out(world.held)
    pairs = [Pair(kind, colour) for kind in world.kinds for colour in world.colours]
    named = [pair for pair in pairs if known(name_of(pair)) and " " not in NOUNS[pair.kind][0]]
    if len(named) < 2:
        raise UserError(f"the run knows no names of concepts of {name}; give a run that was trained on it")
    if len(named) < n:
        raise UserError(
            f"the run knows the names of {len(named)} concepts of {name}; give --n of at most that"
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(named))
    chosen = sorted((named[number] for number in order), key=lambda pair: pair not in held)[:n]

    concepts = []
    for number, pair in enumerate(chosen):
        # Pictures of the concept alone.
        alone = _scenes(name, pair, known, 3, ("objects=1,1",), (seed, number, 0))
        shown = _rendered(islice(alone, 2 * pictures), side)

        # Prompts.
        stated = [
            scene
            for wanted in dict.fromkeys(facts)
            for scene in islice(
                _scenes(
                    name, pair, known, wanted, scene_prompts.only_named(name, wanted), (seed, number, wanted)
                ),
                prompts,
            )
        ]
        concepts.append(
            Concept(
                pair.kind,
                pair.colour,
                pair in held,
                shown[:pictures],
                shown[pictures:],
                tuple(scene.prompt for scene in stated),
                _rendered(stated, side),
            )
        )
    return concepts


def require_facts(facts: Sequence[int]) -> None:
    """Raises UserError if prompts of one of these numbers of facts do not begin with a concept's name."""
    for number in facts:
        if number not in FACTS:
            raise UserError(
                f"--facts has {number}; prompts of concepts state {FACTS[0]} to {FACTS[-1]} facts"
            )


def _rendered(cases: Iterator[Drawn] | Sequence[Drawn], side: int) -> np.ndarray:
    return np.stack([fresh.rendered(case.scene.params, side).pixels for case in cases])


def _scenes(
    name: str, pair: Pair, known: Known, facts: int, changes: tuple[str, ...], key: tuple[int, int, int]
) -> Iterator[Drawn]:
    """Yields scenes with a main object of this kind and colour, and their prompts with `facts` facts.

    `key` has the seed, and the numbers of the concept and of the use of its scenes. Raises UserError if 1,000
    scenes in turn have no such prompt."""
    config, (seed, number, use) = fresh.config(name, changes), key
    held, failures = scene_world.held_out(config.held), 0
    for index in count():
        stream = seeds.stream(seed, "concepts", number, use, index)
        scene = fresh.rendered(scenes.sample_instance(config, pair, stream), scene_prompts.SIDE)
        case = scene_prompts.of_scene(scene, facts, held)
        if case and _fits(case.prompt, pair, held) and known(case.prompt.prompt):
            failures = 0
            yield case
        elif (failures := failures + 1) == _TRIES:
            problem = (
                f"{_TRIES:,} scenes of {name} in turn have no prompt of {facts} facts about {name_of(pair)}"
            )
            raise UserError(f"{problem} in words of the run; give fewer --facts, or another run")


def _fits(prompt: ScenePrompt, pair: Pair, held: frozenset[Pair]) -> bool:
    """Returns True if a prompt states no held-out combination but the concept's own, and its other object
    differs in kind and colour."""
    others = {fact.value for fact in prompt.facts if fact.subject == 1 and fact.type in _OWN}
    return scene_prompts.shows(prompt.facts) & held <= {pair} and not others & {pair.kind, pair.colour}
