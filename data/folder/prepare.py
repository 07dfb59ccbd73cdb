"""Pictures of a folder, at any depth, with a caption file each, one file for all, or no captions.

Captions are a .txt of each picture's name, one a line. Or --captions names a file: .csv or .txt with a
header, or .jsonl, as Flickr8k's captions.txt and Hugging Face's metadata.jsonl. Such a file names pictures by
path, or by name alone if only one picture has that name.
"""

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from data import caption_files, command, originals, splits
from data.command import Seed, Workers
from data.originals import Files, Original, Source, Splits
from data.requests import PrepareRequest
from synth import options
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size
from synth.sets.storage import open_storage

BESIDE, NONE = "beside", "none"
LICENCE = "unknown, as its owner states it"


def source_of(root: Path, name: str | None, licence: str) -> Source:
    """Returns the source of a folder's pictures. Raises UserError if its name cannot name files."""
    set_name = originals.set_name(name, str(root.resolve()))
    return Source(set_name, f"pictures of {set_name}", "", licence)


def find(root: Path, source: Source, captions: str, *, seed: int, share: float) -> Splits:
    """Returns the pictures by path, in train and test, or in train alone if the share is 0. Raises
    UserError."""
    # Pictures.
    sizes = originals.sizes(root, source)
    if not sizes:
        raise UserError(f"{root} holds no pictures; known are {', '.join(sorted(originals.PICTURES))}")
    texts = _captions(root, list(sizes), source, captions)
    pictures = [Original(name, tuple(texts[name]), bytes=size) for name, size in sizes.items()]

    # Splits.
    if share == 0:
        return {"train": pictures}
    test = splits.held_out(sizes, share, seed)
    return {
        split: [o for o in pictures if (o.name in test) == (split == "test")] for split in ("train", "test")
    }


def _captions(root: Path, names: list[str], source: Source, captions: str) -> Mapping[str, Sequence[str]]:
    """Returns the captions of every picture. Raises UserError if pictures have none, or captions no
    picture."""
    # None, or a file for each picture.
    if captions == NONE:
        return dict.fromkeys(names, ())
    if captions == BESIDE:
        return _beside(root, names, source)

    # One file for all.
    file = next((path for path in (root / captions, Path(captions)) if path.is_file()), None)
    if file is None:
        advice = f"give a .csv, .txt or .jsonl, {BESIDE}, or {NONE}"
        raise UserError(f"there is no caption file {captions}, in {root} or here; {advice}")
    located = _located(root, file, names, caption_files.table(file, source))
    texts_of = {name: texts for name, texts in located.items() if texts}
    originals.require_pairs(names, texts_of, str(file), source)
    return texts_of


def _beside(root: Path, names: list[str], source: Source) -> Mapping[str, Sequence[str]]:
    """Returns the captions of every picture from its .txt.

    Raises UserError if a picture has none, or a .txt belongs to no picture or to several."""
    # The .txt of each picture.
    files = {name: f"{posixpath.splitext(name)[0]}.txt" for name in names}
    if twins := [file for file, count in Counter(files.values()).items() if count > 1]:
        fault = f"{root / twins[0]} would hold the captions of several pictures"
        raise UserError(f"{fault}; rename one of them, or give --captions FILE")

    # Existing files.
    texts = originals.sizes(root, source, suffixes={".txt"})
    if not texts:
        advice = f"give --captions FILE, or --captions {NONE} for pictures without captions"
        raise UserError(f"{root} has no .txt beside its pictures; {advice}")

    # Both kinds of lonely files.
    if strays := texts.keys() - set(files.values()):
        advice = "captions stand beside theirs, as a.txt beside a.jpg"
        raise UserError(f"{root / min(strays)} lies beside no picture of that name; {advice}")
    if bare := [name for name, file in files.items() if file not in texts]:
        fault = f"{root / bare[0]} has no .txt beside it (of {len(bare):,})"
        raise UserError(f"{fault}; give each its captions, or --captions {NONE}")
    return {name: caption_files.beside(root / file, source) for name, file in files.items()}


def _located(
    root: Path, file: Path, names: list[str], captions: caption_files.Captions
) -> Mapping[str, Sequence[str]]:
    """Returns captions by the path of their picture. Raises UserError if several pictures have the name."""
    # Pictures by path, and by name alone.
    present, namesakes = set(names), Counter(posixpath.basename(name) for name in names)
    path_of = {posixpath.basename(name): name for name in names}
    folder = posixpath.relpath(file.resolve().parent, root.resolve())

    # Paths begin at the file's folder or at the root.
    located: dict[str, list[str]] = {}
    for name, texts in captions.items():
        candidates = [posixpath.normpath(path) for path in (posixpath.join(folder, name), name)]
        path = next((path for path in candidates if path in present), None)
        if path is None and namesakes[name] > 1:
            count = f"{namesakes[name]} pictures of {root}"
            raise UserError(f"{file} names {name}, which {count} are called; give their paths")
        located.setdefault(path or path_of.get(name, name), []).extend(texts)
    return located


EXAMPLE = "python -m data folder --root ~/flickr8k --captions captions.txt"  # of --help


def main(
    root: Annotated[str, command.folder("--root", "The folder that holds the pictures, at any depth.")],
    captions: Annotated[
        str, options.place("--captions", "FILE", "beside (a .txt each), a .csv, .txt or .jsonl, or none.")
    ] = BESIDE,
    name: Annotated[
        str | None, options.text("--name", "NAME", "The set's name.  [default: the folder's]")
    ] = None,
    licence: Annotated[str, options.text("--licence", "TEXT", "The permission of its owner.")] = LICENCE,
    seed: Seed = 0,
    test_share: Annotated[
        float,
        options.number(
            "--test-share",
            "Share of pictures to hold out, below 1; 0: none, all is train.",
            most=1,
            below=True,
        ),
    ] = 0.1,
    out: Annotated[
        str | None,
        command.folder("--out", "Each split becomes a set in OUT/SPLIT.  [default: data/real/NAME]"),
    ] = None,
    size: Size = 256,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares a folder of pictures as sets of shards: train and test."""
    # Source and place.
    source = source_of(Path(root), name, licence)
    out = out or f"data/real/{source.name}"
    place = open_storage(out).url
    if "://" not in place and Path(place).resolve().is_relative_to(Path(root).resolve()):
        raise UserError(
            f"--out {out} is within --root, and its preview would count as a picture; give another --out"
        )

    # Set.
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    splits = find(Path(root), source, captions, seed=seed, share=test_share)
    share = f"pictures by blake2b of seed {seed} and name, {test_share:g} of them held out"
    command.prepare(source, share if test_share else "all of them", splits, Files(root), request, dry_run)
