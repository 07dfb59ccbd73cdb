"""COCO 2014 or 2017 (Lin et al. 2014, captions: Chen et al. 2015): photographs with about five captions each,
by people.

The splits are its owner's: train and val. The two years divide the same photographs differently. Every
picture has a licence of its own, which its sample names. Captions are in the order of their numbers.
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
from synth import options
from synth.errors import UserError
from synth.foreign import parsed_json
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

# Pictures of each split, by year. The first year counts if a folder holds both.
WHOLE = {2014: {"train": 82_783, "val": 40_504}, 2017: {"train": 118_287, "val": 5_000}}
SPLITS = ("train", "val")

Json = Mapping[str, Any]


def source_of(year: int) -> Source:
    """Returns the source of the pictures of a year."""
    return Source(
        "coco",
        f"COCO {year}, photographs with captions",
        f"https://cocodataset.org/#download (train{year}.zip, val{year}.zip, annotations_trainval{year}.zip)",
        "pictures: each under its own (`licence` in its sample), by their photographers on Flickr;"
        " captions: CC BY 4.0, COCO Consortium",
    )


def year_of(root: Path, splits: Sequence[str]) -> int:
    """Returns the year with the most files and folders of the splits, the first of equal ones."""

    def present(year: int) -> int:
        return sum(path.exists() for split in splits for path in _paths(root, f"{split}{year}"))

    return max(WHOLE, key=present)


def requested(splits: str) -> list[str]:
    """Returns the splits of `--splits`, in the owner's order. Raises UserError for another name."""
    names = [name.strip() for name in splits.split(",")]
    if unknown := [name for name in names if name not in SPLITS]:
        raise UserError(f"--splits has {unknown[0]!r}; it must be train, val, or train,val")
    return [split for split in SPLITS if split in names]


def find(root: Path, year: int, splits: Sequence[str] = SPLITS) -> Splits:
    """Returns the pictures of the splits, by number. Raises UserError."""
    # Files of every split.
    source = source_of(year)
    for split in splits:
        for path in _paths(root, f"{split}{year}"):
            originals.require(path, source)

    # Their pictures.
    pictures = {split: _split(root, f"{split}{year}", source) for split in splits}
    originals.note_counts(pictures, WHOLE[year])
    return pictures


def _paths(root: Path, folder: str) -> tuple[Path, Path]:
    """Returns the annotation file and the folder of pictures of a split."""
    return root / "annotations" / f"captions_{folder}.json", root / folder


def _split(root: Path, folder: str, source: Source) -> Sequence[Original]:
    """Returns the pictures of a split, by number. Raises UserError."""
    # Files.
    file, pictures = _paths(root, folder)
    tables = _tables(file, source)
    sizes = originals.sizes(pictures, source)

    # Originals. An annotation file of another layout lacks an entry, or has one of another type.
    try:
        return _originals(source, folder, file, *tables, sizes)
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"({type(error).__name__}: {error})"
        raise UserError(f"{file} is not laid out as COCO's captions are {reason}{source.advice}") from None


def _originals(
    source: Source,
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
            f"{file} has captions of the picture {min(strangers)}, which it does not list{source.advice}"
        )
    number_of: dict[str, int] = {}
    for i in captions:
        name = image_of[i]["file_name"]
        if number_of.setdefault(name, i) != i:
            raise UserError(f"{file} lists the picture {name} under two numbers{source.advice}")
    pairs = originals.require_pairs(sizes, number_of, file.name, source)
    name_of = {number_of[listed]: name for name, listed in pairs.items()}
    return [
        _original(f"{folder}/{name_of[i]}", image_of[i], urls, captions[i], sizes[name_of[i]])
        for i in sorted(name_of)
    ]


def _original(name: str, image: Json, licences: Json, captions: Sequence[str], size: int) -> Original:
    metadata = {"image_id": image["id"], "licence": licences[image["license"]]}
    return Original(name, tuple(captions), metadata, size)


def _tables(file: Path, source: Source) -> tuple[list[Json], list[Json], list[Json]]:
    """Returns pictures, captions and licences of an annotation file. Raises UserError if it lacks one of the
    lists."""
    # JSON. NaN is no JSON, but common.
    try:
        content = parsed_json(originals.text(file, source), parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        raise UserError(f"{file} is no JSON at {place}: {error.msg}{source.advice}") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}{source.advice}") from None

    # Lists.
    parts = [
        content.get(name) if isinstance(content, dict) else None
        for name in ("images", "annotations", "licenses")
    ]
    if not all(isinstance(part, list) for part in parts):
        raise UserError(f"{file} has no lists of images, annotations and licenses{source.advice}")
    return tuple(parts)  # type: ignore[return-value]


EXAMPLE = "python -m data coco --root ~/coco --size 256 --out data/real/coco"  # of --help


def main(
    root: Annotated[
        str, command.folder("--root", "The folder of annotations, train2014 and val2014 (or 2017).")
    ],
    splits: Annotated[
        str, options.text("--splits", "NAMES", "The splits to prepare: train, val, or both.")
    ] = "train,val",
    out: Out = "data/real/coco",
    size: Size = 256,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares COCO as sets of shards.

    COCO 2014 has 82,783 pictures in train and 40,504 in val, COCO 2017 has 118,287 and 5,000."""
    chosen = requested(splits)
    year = year_of(Path(root), chosen)
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    law = f"the owner's: {' and '.join(f'{split}{year}' for split in chosen)}"
    pictures = find(Path(root), year, chosen)
    command.prepare(source_of(year), law, pictures, Files(root), request, dry_run)
