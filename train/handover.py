"""The files of an exported folder besides config and weights: code, pictures, encoder, card, checksums."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from caption import encoders
from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets import checksums
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder, sha256_of
from train import bundle, model, model_card, onnx_file, runs
from train.bundle import Name
from train.model import Loaded
from train.runs import Run
from train.sampling import draw, grid
from train.stream import captioned_sets, live
from train.stream.captioned_sets import CaptionedSet

_TOKENISER = "tokeniser"  # of models that read words
_DRAWING = ("Config", "parts", "Options", "start", "draw", _TOKENISER)  # of a model's module
_SHARED = ("Texts", "Drawer", "opened")
_PICTURES = 8  # in the sample grid
_PROMPTS = (
    "a red fractal on a black background",
    "a green drawing of waves on a white background",
    "a yellow flower",
    "a smiling face",
)

_HEAD = '''\
"""Draws pictures of texts by a {name} of exnihilo. It needs torch, safetensors and numpy alone.

`load()` returns the model in the folder of this file, a Drawer. Its method `draw` returns pictures of Texts.
The drawing options are the fields of Options.

exnihilo wrote this file from the modules that the comments name. SPDX-License-Identifier: Apache-2.0
"""

'''
_FOOT = '''

def load(folder: str | Path = Path(__file__).parent, device: str = "cpu") -> Drawer:
    """Returns the model of a folder, ready to draw."""
    return opened(Path(folder), device, {names})
'''


class _Prompts(NamedTuple):
    """The texts of the sample grid."""

    vectors: np.ndarray | None  # float32 (N, D); None: the model draws from words
    captions: list[str]


def complete(folder: Path, name: str, encoder: str | None, notes: str, *, onnx: bool) -> None:
    """Writes the files that an exported folder lacks, SHA256SUMS last. Leaves existing files alone.

    `notes` is Markdown for the card. `encoder` embeds the prompts of the sample grid, if there are no tables.
    Raises UserError if the model's code does not stand alone, if `encoder` is not that of the captions, or if
    a finished folder has a card with other notes, or no grid."""
    # Nothing to do.
    run, storage = runs.find(folder), Folder(str(folder))
    sums = storage.read(checksums.NAME).decode() if checksums.NAME in storage.sizes() else ""
    listed = [line.partition("  ")[2] for line in sums.splitlines()]
    if notes and model_card.CARD in storage.sizes():
        card = storage.read(model_card.CARD).decode()
        if "\n\n" + notes.strip("\n") + "\n\n" not in card:
            raise UserError(f"{folder} has a card with other notes; export to another folder")
    missing = [file for file in listed if not (folder / file).exists()]
    if listed and not missing and (not onnx or model_card.ONNX in listed):
        # The card would not show a later grid.
        if encoder and model_card.SAMPLES not in listed:
            problem = f"{folder} was exported without {model_card.SAMPLES}, for which --encoder is needed"
            raise UserError(f"{problem}; export to another folder")
        return

    # One writer at a time. It clears the remains of killed ones.
    with storage.exclusive():
        _fill(run, storage, name, encoder, notes, onnx=onnx)


def source_of(name: str) -> str:
    """Returns model.py: the code with which a model draws, in one file.

    Raises UserError if the code reaches other packages than torch, safetensors and numpy."""
    module = f"train.models.{name}"
    drawing = [f for f in _DRAWING if f != _TOKENISER or bundle.defines(Name(module, f))]
    wanted = [Name(module, function) for function in drawing]
    wanted += [Name("train.standalone", shared) for shared in _SHARED]
    try:
        code = bundle.bundle(wanted)
    except ValueError as error:
        place = f"train/models/{name}.py"
        raise UserError(f"{place} cannot be handed over as one file: {error}") from None
    names = ", ".join(f"{function}={function}" for function in drawing)
    return _HEAD.format(name=name) + code + _FOOT.format(names=names)


def reads_vectors(run: Run) -> bool:
    """Returns True if a run draws pictures by the vectors of texts."""
    if not hasattr(model.find(run.model), "draw"):
        return False
    return "vectors" in draw.reads(run.model, draw.usual_options(run.model, run.config.groups))


def _fill(run: Run, storage: Folder, name: str, encoder: str | None, notes: str, *, onnx: bool) -> None:
    """Writes the missing files, then SHA256SUMS."""
    # The longest work comes first.
    there, loaded = storage.sizes(), run.load()
    if onnx and model_card.ONNX not in there:
        storage.write(model_card.ONNX, onnx_file.of(loaded))

    # Code and pictures.
    if hasattr(model.find(run.model), "draw"):
        if model_card.MODEL not in there:
            storage.write(model_card.MODEL, source_of(run.model).encode())
        prompts = None if model_card.SAMPLES in there else _prompts(run, encoder)
        if prompts:
            storage.write(model_card.SAMPLES, _grid(loaded, prompts))

    # Encoder, card and checksums.
    shipped = _shipped(run)
    if shipped:
        _copy(shipped, Folder(storage.join(model_card.ENCODER)))
    if model_card.CARD not in there:
        samples = model_card.SAMPLES in storage.sizes()
        card = model_card.text(run, name, loaded, notes, shipped=shipped is not None, samples=samples)
        storage.write(model_card.CARD, card.encode())
    storage.write(checksums.NAME, checksums.document({"parts": _digests(run.path)}))


def _prompts(run: Run, encoder: str | None) -> _Prompts | None:
    """Returns the texts of the sample grid: those of the run's tables or live sets, else some prompts.

    Returns None if the model needs vectors, the tables have moved and the encoder is missing."""
    # Tables, if they are as the run saw them.
    sets = _sets(run)
    if sets:
        stored, captions = captioned_sets.stored_texts(sets, _PICTURES)
        return _Prompts(stored, captions)

    # Words alone.
    if not reads_vectors(run):
        return _Prompts(None, _first_words(run) or _repeated())

    # Prompts.
    try:
        vectors = run.encoder(encoder).texts(_PROMPTS)
    except UserError:
        if encoder:
            raise
        return None
    return _Prompts(vectors.repeat(_PICTURES // len(_PROMPTS), axis=0), _repeated())


def _first_words(run: Run) -> list[str]:
    """Returns texts of the run's live sets, or nothing if this checkout draws other pictures."""
    try:
        drawn = live.recorded(run.metadata["shards"]).sets
    except UserError:
        return []
    return captioned_sets.first_texts([], drawn, run.config.groups.model.resolution, _PICTURES)


def _repeated() -> list[str]:
    """Returns the prompts, each several times."""
    return [prompt for prompt in _PROMPTS for _ in range(_PICTURES // len(_PROMPTS))]


def _sets(run: Run) -> list[CaptionedSet]:
    """Returns the sets of a run with their tables, or nothing if one has moved or changed, or is live."""
    shards, captions = run.metadata["shards"], run.metadata["captions"]
    places = shards.get("sets", [shards])
    if not captions or any("live" in row for row in places):
        return []
    rows = captions.get("sets", [captions])
    try:
        sets = [
            CaptionedSet(ShardSet(pictures["url"]), CaptionSet(tables["url"]))
            for pictures, tables in zip(places, rows, strict=True)
        ]
    except UserError:
        return []
    digests = [tables.digest for _, tables in sets if tables]
    return sets if digests == [row["digest"] for row in rows] else []


def _grid(loaded: Loaded, prompts: _Prompts) -> bytes:
    """Returns pictures of the texts as a PNG."""
    data = io.BytesIO()
    vectors = None if prompts.vectors is None else torch.from_numpy(prompts.vectors)
    texts = draw.texts_of(loaded, prompts.captions, vectors, "cpu")
    options = draw.usual_options(loaded.name, loaded.config)
    pictures = draw.pictures(draw.drawing(loaded, texts, seed=0, options=options))
    grid.captioned(pictures, prompts.captions).save(data, "PNG")
    return data.getvalue()


def _shipped(run: Run) -> Path | None:
    """Returns the folder of the captions' encoder if it is one of ours, and the model reads vectors."""
    if hasattr(model.find(run.model), "draw") and not reads_vectors(run):
        return None
    recorded = (run.metadata["encoder"] or {}).get("digest")
    sources = (encoders.find(name) for name in encoders.SHIPPED)
    return next((Path(s.weights).parent for s in sources if s.sha256 == recorded), None)


def _copy(source: Path, target: Folder) -> None:
    """Copies the files of a folder. Each appears whole or not at all."""
    there = target.sizes()
    for path in sorted(source.iterdir()):
        if path.name not in there:
            target.write(path.name, path.read_bytes())


def _digests(folder: Path) -> list[dict[str, str]]:
    """Returns a row for each file of an export: its name and sha256."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths if not path.name.startswith(".")}
    names.pop(checksums.NAME, None)
    return [{"file": name, "sha256": sha256_of(path)} for name, path in names.items()]
