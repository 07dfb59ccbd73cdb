"""Texts of formula pictures besides their short and long sentences.

    name(sample)                the bare name, a ground truth: "a red star" for a scene, "a fractal"
    of_classes(family, config)  the bare names of classes
    stating(sample, k, stream)  a text that states k of the certain facts
    listing(sample, stream)     a plain text that names every object of a scene; of others, the short one

caption/blending.py draws them.
"""

from typing import Any

from caption.sentences import attributes, scene_facts, scene_sentences
from caption.sentences.grammar import Facts
from synth import settings
from synth.families import scenes
from synth.seeds import Stream

NAME_LAW = 1  # increased when a sample gets another name
LAW = 2  # increased when a sample gets another name or listing
# Laws with the listings of today. 2 changed the texts of blend:SHARE,related, which no release had.
SAME = (1, 2)

Json = dict[str, Any]

# Facts that are stated only with another one.
_NEEDS = {"second": "motif", "shade": "colour", "behind": "background"}


def name(sample: Json) -> str:
    """Returns the bare name of a formula picture. Raises KeyError if synth did not write its JSON.

    That of a scene has colour and kind of its main object, if that is visible."""
    if sample["family"] == "scenes":
        visible = sample["params"]["main"] in scene_facts.named(sample)
        return scene_sentences.bare(sample) if visible else "a scene"
    return attributes.state({"family": attributes.facts(sample)["family"]})


def of_classes(family: str, config: Json) -> tuple[str, ...] | None:
    """Returns the bare name of each class of a formula set with these settings. Returns None if words do not
    name its classes, or if the settings are of another version.

    The class of a scene is colour and kind of its main object."""
    if family != "scenes":
        return None
    try:
        known = settings.from_json(scenes.Config, config)
    except (TypeError, ValueError):
        return None
    mains = scenes.main_combinations(known)[: known.classes]
    return tuple(scene_sentences.main_name(main.kind, main.colour) for main in mains)


def stating(sample: Json, k: int, stream: Stream) -> str:
    """Returns a text that states k of the certain facts of a formula picture, or all if it has fewer.

    The stream decides which facts, and their wording. Except for scenes, the family is always stated. Raises
    KeyError if synth did not write the sample's JSON."""
    if sample["family"] == "scenes":
        known = scene_sentences.canonical(scene_facts.scene_facts(sample))
        return scene_sentences.draw(known, stream, min(k, len(known)))

    # The family, and facts by chance.
    certain = attributes.facts(sample)
    chosen: Facts = {"family": certain["family"]}
    left = [fact for fact in certain if fact != "family"]
    while len(chosen) < min(k, len(certain)):
        # A fact that needs another one waits for it.
        free = [fact for fact in left if _NEEDS.get(fact) not in left]
        fact = free[stream.integer(0, len(free) - 1)]
        chosen[fact] = certain[fact]
        left.remove(fact)
    return attributes.state(chosen, choice=stream.word())


def listing(sample: Json, stream: Stream, *, related: bool = False) -> str:
    """Returns a plain text that names every object of a scene. Of other pictures, it is the short sentence.

    If `related`, it states a direction whenever one is clear. Raises KeyError if synth did not write the
    sample's JSON."""
    if sample["family"] == "scenes":
        write = scene_sentences.related if related else scene_sentences.listing
        return write(scene_facts.scene_facts(sample), stream)
    return attributes.state(attributes.facts(sample), "short", choice=stream.integer(0, 2**31))
