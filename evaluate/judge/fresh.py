"""Fresh pictures of scenes: renders that no fit has seen, their true facts, and changes of one fact."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from caption.sentences import scene_facts
from caption.sentences.scene_facts import SceneFact
from evaluate.judge.sight import Seen, SeenObject
from synth import datasets, settings
from synth.errors import UserError
from synth.families import scene_world, scenes
from synth.families.scene_edits import Change
from synth.families.scenes import Config, Params
from synth.images.pictures import Picture

Json = dict[str, Any]

SETS = ("scenes", "scenes_flat")
FIRST = 1_000_000_000  # indices from here on are never used for fitting
_DEPTHS = ("in front of", "behind", "inside")


class Fresh(NamedTuple):
    """A picture with its truth."""

    params: Params
    pixels: np.ndarray  # uint8 (S, S, 3)
    mask: np.ndarray  # uint8 (S, S): number of the foremost object from 1, or 0
    sample: Json

    @property
    def facts(self) -> list[SceneFact]:
        """All facts that the picture shows."""
        return scene_facts.scene_facts(self.sample)


@cache
def config(name: str, changes: tuple[str, ...] = ()) -> Config:
    """Returns the settings of a data set of scenes. Raises UserError if it is of another family."""
    if name not in SETS:
        raise UserError(f"the judge does not know {name}; give {' or '.join(SETS)}")
    dataset = datasets.get(name)
    result = settings.with_settings(dataset.module.Config(**dataset.config), changes)
    assert isinstance(result, Config)
    return result


def law(name: str, changes: tuple[str, ...], seed: int, index: int) -> Params:
    """Returns the parameters of a picture of a data set with changed settings."""
    params = datasets.sample_params(datasets.get(name), config(name, changes), seed=seed, index=index)
    assert isinstance(params, Params)
    return params


def rendered(params: Params, size: int) -> Fresh:
    """Returns the picture of parameters."""
    picture = scenes.render(params, size)
    assert picture.mask is not None
    return Fresh(params, picture.pixels, picture.mask, sample_of(params, picture, size))


def sample_of(params: Params, picture: Picture, size: int) -> Json:
    """Returns the part of a sample's JSON that facts follow from."""
    values = {**vars(params), "objects": [vars(thing) for thing in params.objects]}
    return {"params": values, "objects": picture.objects, "size": size}


def seen_of(sample: Json) -> Seen:
    """Returns a picture as a judge without error sees it: the objects that a sentence may name."""
    params, size, numbers = sample["params"], sample["size"], scene_facts.named(sample)
    objects = []
    for number in numbers:
        thing, box = params["objects"][number], sample["objects"][number]["box"]
        objects.append(
            SeenObject(
                kind=thing["kind"],
                colour=thing["colour"],
                size=thing["size"],
                centre=tuple(thing["centre"]),
                box=tuple(side / size for side in box),
                filling=thing["filling"],
                second=thing["second"],
                points=thing["detail"] if thing["kind"] == "star" else 0,
                text=thing["text"],
                confidence=1.0,
            )
        )
    place = {number: i for i, number in enumerate(numbers)}
    stated = (fact for fact in scene_facts.scene_facts(sample) if fact.relation in _DEPTHS)
    depths = {(place[fact.subject], place[fact.object]): fact.relation for fact in stated}
    return Seen(params["backdrop"], params["backdrop_filling"], tuple(objects), depths)


def changes(
    facts: Sequence[SceneFact], numbers: Mapping[int, int], world: Config, stream: np.random.Generator
) -> Iterator[tuple[SceneFact, Change]]:
    """Yields stated facts in random order, each with a change that makes it false, to a word of the world.

    `numbers` has the scene's object of each object of the facts."""
    words = {"colour": world.colours, "backdrop": world.colours, "kind": world.kinds, "size": world.sizes}
    for place in stream.permutation(len(facts)):
        fact = facts[place]
        if fact.type in words:
            others = [word for word in words[fact.type] if word != fact.value]
            value = others[stream.integers(len(others))]
            yield fact, Change(fact.type, value, numbers.get(fact.subject, 0))
        elif fact.relation in scene_world.DIRECTIONS:
            opposite = scene_world.OPPOSITES[fact.relation]
            yield fact, Change("direction", opposite, numbers[fact.subject], numbers[fact.object])
