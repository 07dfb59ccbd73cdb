"""Bare names of formula pictures: the ground truth beside the sentences that state facts.

name(sample)              "a red star" for a scene, "a fractal" for a fractal
stating(sample, k, choice)    a sentence that states k of the certain facts
"""

from typing import Any

from caption.sentences import attributes
from caption.sentences.grammar import Facts
from caption.sentences.phrases import article
from caption.sentences.scene_facts import named

LAW = 1  # increased when a sample gets another name

Json = dict[str, Any]

# Facts that are stated only with another one.
_NEEDS = {"second": "motif", "shade": "colour", "behind": "background"}


def name(sample: Json) -> str:
    """Returns the bare name of a formula picture. Raises KeyError if synth did not write its JSON.

    A scene has colour and kind of its main object, if that is visible."""
    if sample["family"] == "scenes":
        params = sample["params"]
        main = params["objects"][params["main"]]
        words = f"{main['colour']} {main['kind']}"
        return f"{article(words)} {words}" if params["main"] in named(sample) else "a scene"
    return attributes.state({"family": attributes.facts(sample)["family"]})


def stating(sample: Json, k: int, choice: int) -> str:
    """Returns a sentence that states k of the certain facts of a formula picture, or all if it has fewer.

    `choice` decides which facts, and their wording. The family is always stated. Raises KeyError if synth
    did not write the sample's JSON."""
    certain = attributes.facts(sample)
    chosen: Facts = {"family": certain["family"]}
    left = [fact for fact in certain if fact != "family"]
    while len(chosen) < min(k, len(certain)):
        # A fact that needs another one waits for it.
        free = [fact for fact in left if _NEEDS.get(fact) not in left]
        choice, pick = divmod(choice, len(free))
        chosen[free[pick]] = certain[free[pick]]
        left.remove(free[pick])
    return attributes.state(chosen, choice=choice)
