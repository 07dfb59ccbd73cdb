"""Prompts of scenes: true sentences of k facts about scenes that a law draws, and their file.

The facts of k = 1 to 8 come in one order. Up to three facts, a prompt names one object and the backdrop. From
four on, it names two objects and their direction. In scenes_flat the scenes have exactly these objects.

A file of prompts has one JSON object a line: prompt, facts (type, subject, value, relation, object), n_facts,
held_out. A prompt is held out if it states a combination that training pictures never show.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from caption.sentences.scene_facts import TYPES, SceneFact
from caption.sentences.scene_sentences import plain
from evaluate.judge import fresh
from synth.errors import UserError
from synth.families import scene_world
from synth.families.scene_world import DIRECTIONS, OPPOSITES, Pair
from synth.foreign import parsed_json
from synth.sets.storage import Folder

MOST = 8  # facts
SIDE = 64  # pixels of the pictures that facts are taken from

_OF_SCENE = ("backdrop", "texture", "count")
_ONE = (("kind", 0), ("colour", 0), ("backdrop", -1))
_TWO = (
    *(("kind", 0), ("kind", 1), ("relation", 0), ("colour", 0), ("colour", 1), ("backdrop", -1)),
    *(("size", 0), ("size", 1)),
)

Json = dict[str, Any]


@dataclass(frozen=True)
class ScenePrompt:
    """A prompt and the facts that it states. Its objects are numbered by first mention."""

    prompt: str
    facts: tuple[SceneFact, ...]
    held_out: bool

    @property
    def row(self) -> Json:
        """The prompt's line in a file."""
        facts = [fact._asdict() for fact in self.facts]
        return {"prompt": self.prompt, "facts": facts, "n_facts": len(facts), "held_out": self.held_out}


class Drawn(NamedTuple):
    """A prompt, a scene that it is true of, and the scene's number of each of the prompt's objects."""

    prompt: ScenePrompt
    scene: fresh.Fresh
    numbers: dict[int, int]


def of_row(row: Any) -> ScenePrompt:
    """Returns the prompt of a line. Raises ValueError if the line is no prompt."""
    try:
        facts = tuple(SceneFact(**fact) for fact in row["facts"])
        prompt = ScenePrompt(row["prompt"], facts, row["held_out"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no prompt: {error}") from None
    if not all(_is_fact(fact) for fact in facts) or len(facts) > MOST:
        raise ValueError(f"facts are 1 to {MOST}, with numbers of objects")
    if not facts or not isinstance(prompt.prompt, str) or row.get("n_facts") != len(facts):
        raise ValueError("prompt, facts and n_facts do not agree")
    if not isinstance(prompt.held_out, bool):
        raise ValueError("held_out is true or false")
    return prompt


def _is_fact(fact: SceneFact) -> bool:
    """Returns True if a fact of a file has a known type, a value, and the numbers of its objects.

    Facts of the scene have no object, relations have two."""
    one, other, numbers = fact.subject, fact.object, range(MOST)
    if fact.type in _OF_SCENE:
        numbered = one == other == -1
    elif fact.type == "relation":
        numbered = one in numbers and other in numbers and one != other
    else:
        numbered = one in numbers and other == -1
    return numbered and fact.type in TYPES and isinstance(fact.value, str | int)


def read(path: str) -> list[ScenePrompt]:
    """Returns the prompts of a file. Raises UserError if it is missing, empty or damaged."""
    advice = "write prompts by `python -m evaluate prompts export`"
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path} cannot be read: {reason}; {advice}") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        try:
            prompts.append(of_row(parsed_json(line)))
        except ValueError:
            raise UserError(f"line {number} of {path} is no prompt; {advice}") from None
    if not prompts:
        raise UserError(f"{path} holds no prompts; {advice}")
    return prompts


def write(path: str, prompts: Sequence[ScenePrompt]) -> None:
    """Writes a file of prompts, whole or not at all."""
    folder, name = os.path.split(path)
    Folder(folder or ".").write(name, "".join(json.dumps(p.row) + "\n" for p in prompts).encode())


def numbers(text: str) -> list[int]:
    """Returns the numbers of facts in a list such as 3,6, each once.

    Raises UserError if one is not in 1..8."""
    parts = text.split(",")
    if not all(re.fullmatch(r"[0-9]{1,3}", part) and 1 <= int(part) <= MOST for part in parts):
        raise UserError(f"--facts is {text}; give numbers from 1 to {MOST}, such as --facts 3,6")
    return list(dict.fromkeys(int(part) for part in parts))


def listed(
    name: str, facts: Sequence[int], n: int, *, seed: int = 0, changes: Sequence[str] = ()
) -> list[ScenePrompt]:
    """Returns n prompts of each number of facts, from scenes of a data set with changed settings."""
    return [
        item.prompt
        for count in facts
        for item in islice(drawn(name, count, seed=seed, changes=tuple(changes)), n)
    ]


def drawn(name: str, facts: int, *, seed: int = 0, changes: tuple[str, ...] = ()) -> Iterator[Drawn]:
    """Yields prompts of a number of facts without end, each with the scene that it is true of.

    Raises UserError if a prompt cannot state that number, the data set shows no such scenes, or a change has
    no use."""
    if not 1 <= facts <= MOST:
        raise UserError(f"a prompt cannot state {facts} facts; give 1 to {MOST}")
    named = only_named(name, facts)
    for change in changes:
        if named and change.startswith("objects="):
            problem = f"--set {change} has no use: scenes of {name} have the objects that their prompts name"
            raise UserError(f"{problem}; leave it out")
    changes = (*changes, *named)
    config = fresh.config(name, changes)
    held, failures = scene_world.held_out(config.held), 0
    for index in range(fresh.FIRST, fresh.FIRST + 1_000_000_000):
        scene = fresh.rendered(fresh.law(name, changes, seed, index), SIDE)
        drawn = of_scene(scene, facts, held)
        if drawn:
            failures = 0
            yield drawn
        elif (failures := failures + 1) == 1000:
            raise UserError(f"1,000 scenes of {name} in turn do not show {facts} facts; allow more objects")


def only_named(name: str, facts: int) -> tuple[str, ...]:
    """Returns the change of a data set's settings by which prompts of a number of facts name all objects."""
    objects = 1 if facts <= len(_ONE) else 2
    return (f"objects={objects},{objects}",) if name == "scenes_flat" else ()


def of_scene(scene: fresh.Fresh, facts: int, held: frozenset[Pair]) -> Drawn | None:
    """Returns the prompt of a number of facts of a scene, or None if the scene does not show them."""
    stated, numbers = _stated(scene, facts)
    if not stated:
        return None
    return Drawn(ScenePrompt(plain(stated), stated, not shows(stated).isdisjoint(held)), scene, numbers)


def shows(facts: Sequence[SceneFact]) -> frozenset[Pair]:
    """Returns the combinations that facts state: kinds in colours, with their directions."""
    value = {(fact.type, fact.subject): str(fact.value) for fact in facts if fact.type != "relation"}
    pairs = {
        subject: Pair(value["kind", subject], value["colour", subject])
        for kind, subject in value
        if kind == "kind" and ("colour", subject) in value
    }
    combinations = set(pairs.values())
    for fact in facts:
        if fact.relation in DIRECTIONS:
            for number, relation in ((fact.subject, fact.relation), (fact.object, OPPOSITES[fact.relation])):
                if number in pairs:
                    combinations.add(pairs[number]._replace(relation=relation))
    return frozenset(combinations)


def _stated(scene: fresh.Fresh, count: int) -> tuple[tuple[SceneFact, ...], dict[int, int]]:
    """Returns `count` facts of a scene's main object, from four on also of another one, and the scene's
    numbers of these objects. Returns no facts if the scene does not show them."""
    facts, main = scene.facts, scene.params.main
    relation = next((f for f in facts if f.subject == main and f.relation in DIRECTIONS), None)
    places = {-1: -1, main: 0}
    if count > len(_ONE):
        if relation is None:
            return (), {}
        places[relation.object] = 1

    # Facts by type and subject, with the objects numbered by first mention.
    table = {}
    for fact in facts:
        if fact.subject in places and (fact.type != "relation" or fact is relation):
            subject, other = places[fact.subject], places.get(fact.object, -1)
            table[fact.type, subject] = fact._replace(subject=subject, object=other)
    keys = (_TWO if count > len(_ONE) else _ONE)[:count]
    stated = tuple(table[key] for key in keys) if all(key in table for key in keys) else ()
    return stated, {place: number for number, place in places.items() if place >= 0}
