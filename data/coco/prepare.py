"""COCO 2014 (Lin et al. 2014, captions: Chen et al. 2015): photographs with about five captions each, by
people.

The splits are its owner's: train and val. Every picture has a licence of its own, which its sample names.
Captions are in the order of their numbers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from data import command, originals
from data.caption_files import one_line
from data.command import Out, Workers
from data.originals import Files, Original, Source, Splits
from data.requests import PrepareRequest
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

SOURCE = Source(
    "coco",
    "COCO 2014, photographs with captions",
    "https://cocodataset.org/#download (train2014.zip, val2014.zip, annotations_trainval2014.zip)",
    "pictures: each under its own (`licence` in its sample), by their photographers on Flickr;"
    " captions: CC BY 4.0, COCO Consortium",
)

FOLDERS = {"train": "train2014", "val": "val2014"}
WHOLE = {"train": 82_783, "val": 40_504}

Json = Mapping[str, Any]


def find(root: Path) -> Splits:
    """Returns the pictures of both splits, by number. Raises UserError."""
    # Files of both splits.
    files = {split: root / "annotations" / f"captions_{folder}.json" for split, folder in FOLDERS.items()}
    for split, file in files.items():
        originals.require(file, SOURCE)
        originals.require(root / FOLDERS[split], SOURCE)

    # Their pictures.
    pictures = {split: _split(root, FOLDERS[split], file) for split, file in files.items()}
    originals.note_counts(pictures, WHOLE)
    return pictures


def _split(root: Path, folder: str, file: Path) -> Sequence[Original]:
    """Returns the pictures of a split, by number. Raises UserError."""
    # Files.
    tables = _tables(file)
    sizes = originals.sizes(root / folder, SOURCE)

    # Originals. An annotation file of another layout lacks an entry, or has one of another type.
    try:
        return _originals(folder, file, *tables, sizes)
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"({type(error).__name__}: {error})"
        raise UserError(f"{file} is not laid out as COCO's captions are {reason}{SOURCE.advice}") from None


def _originals(
    folder: str,
    file: Path,
    images: list[Json],
    annotations: list[Json],
    licences: list[Json],
    sizes: Mapping[str, int],
) -> list[Original]:
    """Returns the pictures of an annotation file, by number.

    Raises UserError if a picture has no caption, or a caption no picture."""
    # Tables by number.
    image_of = {image["id"]: image for image in images}
    urls = {licence["id"]: licence["url"] for licence in licences}

    # Captions, in the order of their numbers.
    captions: dict[int, list[str]] = {}
    for annotation in sorted(annotations, key=lambda a: a["id"]):
        if caption := one_line(annotation["caption"]):
            captions.setdefault(annotation["image_id"], []).append(caption)

    # Pairs.
    if strangers := captions.keys() - image_of.keys():
        raise UserError(
            f"{file} has captions of the picture {min(strangers)}, which it does not list{SOURCE.advice}"
        )
    number_of = {image_of[i]["file_name"]: i for i in captions}
    pairs = originals.require_pairs(sizes, number_of, file.name, SOURCE)
    name_of = {number_of[listed]: name for name, listed in pairs.items()}
    return [
        _original(f"{folder}/{name_of[i]}", image_of[i], urls, captions[i], sizes[name_of[i]])
        for i in sorted(name_of)
    ]


def _original(name: str, image: Json, licences: Json, captions: Sequence[str], size: int) -> Original:
    metadata = {"image_id": image["id"], "licence": licences[image["license"]]}
    return Original(name, tuple(captions), metadata, size)


def _tables(file: Path) -> tuple[list[Json], list[Json], list[Json]]:
    """Returns pictures, captions and licences of an annotation file. Raises UserError if it lacks one of the
    lists."""
    # JSON.
    try:
        content = json.loads(originals.text(file, SOURCE))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        raise UserError(f"{file} is no JSON at {place}: {error.msg}{SOURCE.advice}") from None

    # Lists.
    parts = [
        content.get(name) if isinstance(content, dict) else None
        for name in ("images", "annotations", "licenses")
    ]
    if not all(isinstance(part, list) for part in parts):
        raise UserError(f"{file} has no lists of images, annotations and licenses{SOURCE.advice}")
    return tuple(parts)  # type: ignore[return-value]


EXAMPLE = "python -m data coco --root ~/coco --size 256 --out data/real/coco"  # of --help


def main(
    root: Annotated[str, command.folder("--root", "The folder of annotations, train2014 and val2014.")],
    out: Out = "data/real/coco",
    size: Size = 256,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares COCO 2014 as sets of shards: train (82,783 pictures) and val (40,504)."""
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    law = "the owner's: train2014 and val2014"
    command.prepare(SOURCE, law, find(Path(root)), Files(root), request, dry_run)
