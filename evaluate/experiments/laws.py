"""The laws of commands: everything in this checkout that decides what a command of a stage makes.

A law is JSON. It is part of the address of a step, so a step has another address if a family, the sentences,
a preset's defaults or the way of measuring have changed.
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from synth import datasets, settings
from synth.checkout import ROOT
from synth.errors import UserError
from synth.families import scenes

# By command of evaluate: increased when the same command gives another figure.
MEASURING = {
    "agreement": 1,
    "compare": 1,
    "concepts": 1,
    "curve": 1,
    "edits": 3,
    "grid": 1,
    "loss": 1,
    "metrics": 1,
    "obedience": 1,
    "probe": 1,
    "reading": 1,
    "statistics": 1,
}

_JUDGE = ROOT / "data" / "judge"
_JUDGED = ("judge.safetensors", "accuracy.json")
_OF_SCENES = ("obedience", "edits", "concepts", "reading")  # they draw the scenes that they measure on

Json = dict[str, Any]


def of(words: Sequence[str]) -> Json:
    """Returns the law of a command, from its words after `python -m`.

    Raises UserError for a command that is none of a stage."""
    stage = _STAGES.get(words[0])
    if stage is None or len(words) < 2:
        known = ", ".join(_STAGES)
        raise UserError(
            f"{' '.join(words[:2])!r} is no command of {known}; give its step a law, such as law=1"
        )
    return stage(words)


def values(words: Sequence[str], option: str) -> list[str]:
    """Returns the values of an option that may be repeated."""
    return [value for name, value in pairwise(words) if name == option]


def _synth(words: Sequence[str]) -> Json:
    return _drawn(words[2]) if words[1] == "shards" and len(words) > 2 else {}


def _data(words: Sequence[str]) -> Json:
    from data import preparation

    return {"data": preparation.LAW}


def _caption(words: Sequence[str]) -> Json:
    from caption import table

    weights = _weights(values(words, "--encoder"))
    return {"tables": table.LAW, "sentences": _sentences(), "weights": weights}


def _train(words: Sequence[str]) -> Json:
    from train import runs

    if words[1] not in ("pretrain", "finetune"):
        return {"law": runs.LAW, **_models(words[2:3])}
    changes = [each for each in values(words, "--set") if not each.startswith(("live.", "on.", "run."))]
    live = [_drawn(name) for name in values(words, "--live")]
    models = _models(values(words, "--from"))
    return {**runs.law(words[2], changes), "live": live, "sentences": _sentences(), **models}


def _evaluate(words: Sequence[str]) -> Json:
    if words[1] not in MEASURING:
        known = ", ".join(MEASURING)
        raise UserError(f"evaluate {words[1]} measures nothing; a step may have {known}")
    law = {"measuring": MEASURING[words[1]], "sentences": _sentences(), **_models(words[2:3])}
    if weights := _weights([*values(words, "--detector"), *values(words, "--clip")]):
        law["weights"] = weights
    if words[1] in ("obedience", "edits", "concepts"):
        law["judge"] = [hashlib.sha256((_JUDGE / name).read_bytes()).hexdigest() for name in _JUDGED]
    # Rows of the scenes' first law are older than this entry, and keep their addresses.
    if words[1] in _OF_SCENES and scenes.LAW > 1:
        law["scenes"] = scenes.LAW
    return law


def _weights(names: Sequence[str]) -> Json:
    """Returns the weights of the shipped encoders among the names."""
    from caption import encoders

    return {name: encoders.find(name).sha256 for name in names if name in encoders.SHIPPED}


def _models(names: Sequence[str]) -> Json:
    """Returns the weights of the shipped models among the names, or nothing if there are none.

    Their checksums leave out the card, which may be mended."""
    sums = {name: ROOT / "data" / name / "COMMITTED" for name in names if name}
    texts = {name: path.read_text(encoding="utf-8") for name, path in sums.items() if path.is_file()}
    shipped = {name: settings.digest(text) for name, text in texts.items()}
    return {"models": shipped} if shipped else {}


def _drawn(name: str) -> Json:
    """Returns the law of a data set's pictures."""
    dataset = datasets.get(name)
    family = settings.canonical(dataset.module.Config(**dataset.config)).decode()
    return {"dataset": name, "law": dataset.module.LAW, "config": family}


def _sentences() -> list[int]:
    from caption.sentences import attributes, names, scene_sentences

    return [attributes.LAW, scene_sentences.LAW, names.LAW]


_STAGES: dict[str, Callable[[Sequence[str]], Json]] = {
    "synth": _synth,
    "data": _data,
    "caption": _caption,
    "train": _train,
    "evaluate": _evaluate,
}
