"""Multi-Modal CelebA-HQ (Xia et al. 2021): 30,000 faces with ten captions each. A grammar composed the
captions from CelebA's attributes.
"""

from pathlib import Path
from typing import Annotated

from data import caption_files, command, originals, pickled_names
from data.command import Out, Workers
from data.originals import Files, Original, Source, Splits
from data.requests import PrepareRequest
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

SOURCE = Source(
    "celeba_hq",
    "Multi-Modal CelebA-HQ",
    "https://github.com/IIGROUP/MM-CelebA-HQ-Dataset",
    "for non-commercial research and education (the agreements of CelebA and of CelebA-HQ);"
    " faces are of real people",
)

WHOLE = {"train": 24_000, "test": 6_000}
IMAGES = ("images", "image", "CelebA-HQ-img", "CelebAMask-HQ/CelebA-HQ-img")
TEXTS = ("text/celeba-caption", "text", "celeba-caption")


def find(root: Path) -> Splits:
    """Returns the pictures of both splits, by number. Raises UserError."""
    images, texts = originals.first_of(root, IMAGES, SOURCE), originals.first_of(root, TEXTS, SOURCE)

    # Lists of both splits.
    listed = {
        split: {_stem(n) for n in pickled_names.read(root / split / "filenames.pickle", SOURCE)}
        for split in WHOLE
    }
    if both := listed["train"] & listed["test"]:
        raise UserError(f"picture {min(both)} lies in both splits of {root}{SOURCE.advice}")

    # Pictures, by number.
    sizes = originals.sizes(images, SOURCE)
    files = {_stem(name): name for name in sizes}
    if twins := sizes.keys() - files.values():
        raise UserError(
            f"{images} holds {min(twins)} and another picture of that number; keep one{SOURCE.advice}"
        )

    # Each picture has captions and a split.
    captioned = caption_files.by_stem(texts, SOURCE)
    pairs = originals.require_pairs(files, captioned, str(texts), SOURCE)
    for split, names in listed.items():
        originals.require_all(names, files, f"{split}/filenames.pickle", SOURCE)
    if alone := files.keys() - listed["train"] - listed["test"]:
        fault = f"{files[min(alone)]} lies in neither filenames.pickle of {root}"
        raise UserError(f"{fault}{originals.others(alone)}{SOURCE.advice}")

    # Splits. Pictures are named by their path below the root.
    folder = images.relative_to(root).as_posix()

    def original(name: str) -> Original:
        file = files[name]
        captions = caption_files.beside(texts / captioned[pairs[name]], SOURCE)
        return Original(f"{folder}/{file}", captions, bytes=sizes[file])

    pictures = {
        split: [original(n) for n in sorted(names, key=_by_number)] for split, names in listed.items()
    }
    originals.note_counts(pictures, WHOLE)
    return pictures


def _stem(name: str) -> str:
    """Returns "7" for "7.jpg". Lists name pictures with or without the extension."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in originals.PICTURES else name


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


EXAMPLE = "python -m data celeba_hq --root ~/celeba-hq --size 256 --out data/real/celeba_hq"  # of --help


def main(
    root: Annotated[
        str,
        command.folder(
            "--root",
            "The folder of images (or CelebAMask-HQ), text (or celeba-caption), train/filenames.pickle and"
            " test/filenames.pickle.",
        ),
    ],
    out: Out = "data/real/celeba_hq",
    size: Size = 256,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares Multi-Modal CelebA-HQ as sets of shards: train (24,000 pictures) and test (6,000)."""
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    law = "the owner's: filenames.pickle"
    command.prepare(SOURCE, law, find(Path(root)), Files(root), request, dry_run)
