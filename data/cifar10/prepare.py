"""CIFAR-10 (Krizhevsky 2009): pictures of 32 x 32 pixels in ten classes, from its binary version, its Python
version or a tree of picture files.

The set has no captions. Each picture gets one, of its class: "a photo of an airplane". Pictures of the tree
are ordered by their number within the class. Thus every shard mixes the classes, as the binary version does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from data import command, originals, pickled_arrays
from data.command import Out, Workers
from data.originals import Files, Original, Pictures, Source, Splits
from data.requests import PrepareRequest
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

SOURCE = Source(
    "cifar10",
    "CIFAR-10",
    "https://www.cs.toronto.edu/~kriz/cifar.html (cifar-10-binary.tar.gz)",
    "none stated by its owner",
)

WHOLE = {"train": 50_000, "test": 10_000}
SIDE = 32
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
NAMES = "batches.meta.txt"
PYTHON_BATCHES = {split: [file.removesuffix(".bin") for file in files] for split, files in BATCHES.items()}
PYTHON_NAMES = "batches.meta"

_RECORD = 1 + 3 * SIDE * SIDE  # bytes: the class, then red, green, blue


@dataclass(frozen=True)
class Records:
    """Pictures of the binary version, by file and number: "test_batch.bin/00007"."""

    root: str

    def open(self, name: str) -> Image.Image:
        """Returns the picture of a record."""
        file, number = name.split("/")
        with Path(self.root, file).open("rb") as batch:
            batch.seek(int(number) * _RECORD + 1)
            planes = np.frombuffer(batch.read(_RECORD - 1), np.uint8).reshape(3, SIDE, SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


@dataclass(frozen=True)
class PythonRecords:
    """Pictures of the Python version, by file and number: "test_batch/00007"."""

    root: str

    def open(self, name: str) -> Image.Image:
        """Returns the picture of a record."""
        file, number = name.split("/")
        planes = _pixels(f"{self.root}/{file}")[int(number)].reshape(3, SIDE, SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def find(root: Path) -> tuple[Splits, Pictures]:
    """Returns the pictures of both splits, and their reader. Raises UserError."""
    python = _inner(root, "cifar-10-batches-py")
    if (root / "train").is_dir():
        splits, pictures = _trees(root)
    elif (python / PYTHON_NAMES).exists():
        splits, pictures = _python(python)
    else:
        splits, pictures = _binary(_inner(root, "cifar-10-batches-bin"))
    originals.note_counts(splits, WHOLE)
    return splits, pictures


def caption(name: str) -> str:
    """Returns the caption of every picture of a class."""
    return f"a photo of {'an' if name[0] in 'aeiou' else 'a'} {name}"


def _original(name: str, class_name: str, size: int) -> Original:
    return Original(name, (caption(class_name),), {"class_name": class_name}, size)


def _trees(root: Path) -> tuple[Splits, Pictures]:
    """Returns the pictures of the trees train and test, and their reader.

    Raises UserError if a class is missing in one of them."""
    splits = {split: _tree(root, split) for split in WHOLE}
    classes = {split: {str(o.metadata["class_name"]) for o in members} for split, members in splits.items()}
    if lone := classes["train"] ^ classes["test"]:
        raise UserError(f"{root} has the class {min(lone)} in one of train and test only{SOURCE.advice}")
    return splits, Files(str(root))


def _tree(root: Path, split: str) -> Sequence[Original]:
    """Returns the pictures of a tree, by number within their class. Raises UserError."""
    # Folders of classes.
    sizes = originals.sizes(root / split, SOURCE)
    if stray := next((name for name in sizes if name.count("/") != 1), None):
        expected = f"a folder of its class: {split}/CLASS/NAME.jpg"
        raise UserError(f"{root / split / stray} does not lie in {expected}{SOURCE.advice}")

    # Classes mixed.
    ordered = sorted(sizes, key=lambda name: (name.split("/")[1], name))
    return [_original(f"{split}/{name}", name.split("/")[0], sizes[name]) for name in ordered]


def _inner(root: Path, name: str) -> Path:
    """Returns the folder of that name below the root, if it exists, else the root."""
    return root / name if (root / name).is_dir() else root


def _python(folder: Path) -> tuple[Splits, Pictures]:
    """Returns the pictures of the Python version, and their reader. Raises UserError."""
    # Names of the classes.
    names = pickled_arrays.read(folder / PYTHON_NAMES, SOURCE).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{folder / PYTHON_NAMES} has no label_names{SOURCE.advice}")

    # Pictures.
    splits = {
        split: [o for file in files for o in _python_batch(folder / file, names)]
        for split, files in PYTHON_BATCHES.items()
    }
    return splits, PythonRecords(str(folder))


def _python_batch(file: Path, names: Sequence[str]) -> list[Original]:
    """Returns the pictures of a pickled batch. Raises UserError if it holds anything else."""
    # Arrays.
    batch = pickled_arrays.read(file, SOURCE)
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise UserError(f"{file} holds no data and labels{SOURCE.advice}")
    if not labels or pixels.shape != (len(labels), _RECORD - 1):
        raise UserError(f"{file} has not {_RECORD - 1:,} bytes of data for each of its labels{SOURCE.advice}")

    # Classes with names.
    if odd := [x for x in labels if not (isinstance(x, int) and 0 <= x < len(names))]:
        fault = f"has pictures of the class {odd[0]!r:.60}, and {PYTHON_NAMES} names {len(names)}"
        raise UserError(f"{file} {fault}{SOURCE.advice}")
    size = file.stat().st_size
    return [_original(f"{file.name}/{i:05d}", names[label], size) for i, label in enumerate(labels)]


@lru_cache(maxsize=1)
def _pixels(file: str) -> np.ndarray:
    """Returns the pictures of a pickled batch: uint8 (N, 3072). Shards read one batch after another."""
    pixels: np.ndarray = pickled_arrays.read(Path(file), SOURCE)["data"]
    return pixels


def _binary(folder: Path) -> tuple[Splits, Pictures]:
    """Returns the pictures of the binary version, and their reader. Raises UserError."""
    names = list(originals.lines(folder / NAMES, SOURCE))
    splits = {
        split: [o for file in files for o in _batch(folder / file, names)] for split, files in BATCHES.items()
    }
    return splits, Records(str(folder))


def _batch(file: Path, names: Sequence[str]) -> list[Original]:
    """Returns the pictures of a batch. Raises UserError if the file is cut, or a class has no name."""
    # Whole records.
    data = originals.require(file, SOURCE).read_bytes()
    if not data or len(data) % _RECORD:
        raise UserError(f"{file} has {len(data):,} bytes, no multiple of {_RECORD:,}{SOURCE.advice}")

    # Classes with names.
    labels = data[::_RECORD]
    if max(labels) >= len(names):
        raise UserError(
            f"{file} has pictures of the class {max(labels)}, and {NAMES} names {len(names)}{SOURCE.advice}"
        )
    return [_original(f"{file.name}/{i:05d}", names[label], len(data)) for i, label in enumerate(labels)]


EXAMPLE = "python -m data cifar10 --root ~/cifar-10-batches-bin --out data/real/cifar10"  # of --help


def main(
    root: Annotated[
        str,
        command.folder(
            "--root", "The binary or Python version, or a folder of train/CLASS/NAME.jpg and test/CLASS/..."
        ),
    ],
    out: Out = "data/real/cifar10",
    size: Size = SIDE,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares CIFAR-10 as sets of shards: train (50,000 pictures) and test (10,000)."""
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    splits, pictures = find(Path(root))
    command.prepare(SOURCE, "the owner's: training and test batches", splits, pictures, request, dry_run)
