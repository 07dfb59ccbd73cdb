"""The usual places of sets and tables, below the working directory. Every command finds names there.

    data/shards/NAME                  a formula set, made by `python -m synth shards NAME`
    data/real/NAME/SPLIT              a real set, prepared by `python -m data NAME`
    data/captions/DATASET/ENCODER     the caption tables of a set; those of a split are in NAME-SPLIT
    data/latents/DATASET/RUN          the latents of a set by an autoencoder

A text with a slash, or the path of an existing set, is a place itself.
"""

import re
from pathlib import Path

from synth.errors import UserError
from synth.sets.ledger import MANIFEST

SHARDS, REAL, CAPTIONS, LATENTS = "data/shards", "data/real", "data/captions", "data/latents"
TRAINED_ON = ("train",)
HELD_OUT = ("val", "test")  # in the order of preference


def shards(name: str) -> str:
    """Returns the folder of a formula set."""
    return f"{SHARDS}/{name}"


def tables(dataset: str, encoder: str) -> str:
    """Returns the folder of a set's caption tables; `dataset` and `encoder` are recorded names."""
    return f"{CAPTIONS}/{_plain(dataset)}/{_plain(encoder)}"


def latents(dataset: str, autoencoder: str) -> str:
    """Returns the folder of a set's latents; `dataset` is a recorded name, `autoencoder` that of a folder."""
    return f"{LATENTS}/{_plain(dataset)}/{_plain(autoencoder)}"


def folders(dataset: str) -> list[str]:
    """Returns the folders that a recorded name of a set may stand for: a formula set's, a real split's."""
    name, _, split = dataset.rpartition("-")
    return [shards(dataset), *([f"{REAL}/{name}/{split}"] if name else [])]


def all_tables(dataset: str) -> list[str]:
    """Returns the folders of a set's finished caption tables, of every encoder."""
    return sorted(str(path.parent) for path in Path(tables(dataset, "")).glob(f"*/{MANIFEST}"))


def all_latents(dataset: str) -> list[str]:
    """Returns the folders of a set's finished latents, of every autoencoder."""
    return sorted(str(path.parent) for path in Path(latents(dataset, "")).glob(f"*/{MANIFEST}"))


def is_place(text: str) -> bool:
    """Returns True for a folder or URL, False for a name."""
    return "/" in text or (Path(text) / MANIFEST).is_file()


def name_of(text: str) -> str:
    """Returns the name that a place or a name gives to other folders: its last component."""
    return text.rstrip("/").rpartition("/")[2]


def sets(text: str) -> list[str]:
    """Returns the place itself, or the finished sets of a name: one formula set, or every split of a real
    set.

    Raises UserError if there is none, or the name stands for sets of both kinds."""
    if is_place(text):
        return [text]
    # A name of both kinds is ambiguous, and one of neither is unknown.
    formula, splits = _formula(text), _splits(text)
    _require_one(text, formula, splits)
    return formula or splits


def training_set(text: str) -> str:
    """Returns the place itself, or the set of a name to train on: the formula set or the real set's train.

    Raises UserError if there is none."""
    return _one(text, TRAINED_ON)


def held_out_set(text: str) -> str:
    """Returns the place itself, or the set of a name to measure on: the real set's val or test, or the
    formula set.

    Raises UserError if there is none."""
    return _one(text, HELD_OUT)


def shards_or_folder(text: str) -> str:
    """Returns the set of a name to measure on, or the text itself if it is a folder or URL."""
    return text if is_place(text) or Path(text).is_dir() else held_out_set(text)


def is_real(text: str) -> bool:
    """Returns True for the name of a prepared real set."""
    return not is_place(text) and bool(_splits(text))


def _plain(name: str) -> str:
    """Returns a name without characters that a folder's name should not have, such as the slash of
    ViT-B-32/openai."""
    return re.sub(r"[^\w.+-]", "-", name).lstrip(".")


def _one(text: str, names: tuple[str, ...]) -> str:
    """Returns the place itself, or the one set of a name. A real set gives the first split of `names`."""
    if is_place(text):
        return text
    formula = _formula(text)
    splits = [place for name in names for place in _splits(text) if place.endswith(f"/{name}")]
    _require_one(text, formula, splits)
    return (formula or splits)[0]


def _formula(name: str) -> list[str]:
    return [shards(name)] if name and (Path(shards(name)) / MANIFEST).is_file() else []


def _splits(name: str) -> list[str]:
    return sorted(str(path.parent) for path in Path(REAL, name).glob(f"*/{MANIFEST}")) if name else []


def _require_one(name: str, formula: list[str], splits: list[str]) -> None:
    if formula and splits:
        raise UserError(f"{name} is a set in {formula[0]} and in {splits[0]}; give one of these folders")
    if not formula and not splits:
        sentence = f"there is no finished set {name!r}: neither {SHARDS}/{name} nor {REAL}/{name}/SPLIT"
        raise UserError(f"{sentence}; make it by `make shards` or `make data`, or give a folder or URL")
