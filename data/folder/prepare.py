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
from synth import console, foreign, options
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size
from synth.sets.storage import open_storage

BESIDE, NONE = "beside", "none"
# Names that owners give the folders of their splits.
FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
LICENCE = "unknown, as its owner states it"


def source_of(root: Path, name: str | None, licence: str) -> Source:
    """Returns the source of a folder's pictures. Raises UserError if its name cannot name files."""
    set_name = originals.set_name(name, str(root.resolve()))
    return Source(set_name, f"pictures of {set_name}", "", licence)


def find(root: Path, source: Source, captions: str, *, seed: int, share: float) -> tuple[Splits, str]:
    """Returns the pictures by path in their splits, and the law of the splits in words.

    They are the owner's folders if each has its caption file. Else they are train and test, or train alone if
    the share is 0. Raises UserError."""
    # Pictures.
    sizes = originals.sizes(root, source)
    if not sizes:
        raise UserError(f"{root} holds no pictures; known are {', '.join(sorted(originals.PICTURES))}")

    # The owner's splits.
    if tables := _tables(root, captions):
        return _owners(root, source, sizes, tables)

    # Captions.
    texts = _captions(root, list(sizes), source, captions)
    pictures = [Original(name, tuple(texts[name]), bytes=size) for name, size in sizes.items()]

    # Splits by a seed.
    if share == 0:
        return {"train": pictures}, "all of them"
    test = splits.held_out(sizes, share, seed)
    law = f"pictures by blake2b of seed {seed} and name, {share:g} of them held out"
    return {
        split: [o for o in pictures if (o.name in test) == (split == "test")] for split in ("train", "test")
    }, law


def _tables(root: Path, captions: str) -> dict[str, Path]:
    """Returns the caption file of each split, if the folders of the splits hold them.

    Raises UserError if some hold one and others none."""
    # One file for all goes first.
    if captions in (BESIDE, NONE) or _table(root, captions) is not None:
        return {}
    folders = {
        split: root / name for split, names in FOLDERS.items() for name in names if (root / name).is_dir()
    }
    tables = {
        split: table
        for split, folder in folders.items()
        if (table := foreign.locate(folder / captions)) and table.is_file()
    }

    # Every split has one.
    if tables and (bare := folders.keys() - tables.keys()):
        other = next(iter(tables.values()))
        raise UserError(f"{folders[min(bare)]} has no {captions}, though {other} exists; add it")
    return tables


def _owners(
    root: Path, source: Source, sizes: Mapping[str, int], tables: Mapping[str, Path]
) -> tuple[Splits, str]:
    """Returns the pictures of the owner's splits, and the law in words. Raises UserError."""
    # Pictures by split.
    folders = {split: table.relative_to(root).parts[0] for split, table in tables.items()}
    if strays := [name for name in sizes if name.split("/")[0] not in folders.values()]:
        places = " and ".join(folders.values())
        raise UserError(
            f"{root / strays[0]} is in none of {places}{originals.others(strays)}; move it into one"
        )

    # Their captions.
    pictures = {}
    for split, table in tables.items():
        names = [name for name in sizes if name.split("/")[0] == folders[split]]
        texts = _texts(root, table, names, source)
        pictures[split] = [Original(name, tuple(texts[name]), bytes=sizes[name]) for name in names]
    law = f"the owner's: {' and '.join(folders.values())}"
    console.note(f"note: the splits are {law}; --seed and --test-share do not count")
    return pictures, law


def _table(root: Path, captions: str) -> Path | None:
    """Returns the one caption file for all pictures, or None if there is none."""
    paths = (foreign.locate(path) for path in (root / captions, Path(captions)))
    return next((path for path in paths if path and path.is_file()), None)


def _captions(root: Path, names: list[str], source: Source, captions: str) -> Mapping[str, Sequence[str]]:
    """Returns the captions of every picture. Raises UserError if pictures have none, or captions no
    picture."""
    # None, or a file for each picture.
    if captions == NONE:
        return dict.fromkeys(names, ())
    if captions == BESIDE:
        return _beside(root, names, source)

    # One file for all.
    file = _table(root, captions)
    if file is None:
        advice = f"give a .csv, .txt or .jsonl, {BESIDE}, or {NONE}"
        raise UserError(f"there is no caption file {captions}, in {root} or here; {advice}")
    return _texts(root, file, names, source)


def _texts(root: Path, file: Path, names: list[str], source: Source) -> Mapping[str, Sequence[str]]:
    """Returns the captions of these pictures from a file. Raises UserError if pictures have none, or captions
    no picture."""
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
    matched = foreign.matches(files.values(), texts)
    if strays := texts.keys() - set(matched.values()):
        # A file with the name of another, in other letters.
        twin = foreign.matches([min(strays)], matched.values()).get(min(strays))
        if twin:
            raise UserError(f"{root / min(strays)} and {twin} look equal; keep one")
        advice = "captions stand beside theirs, as a.txt beside a.jpg"
        raise UserError(f"{root / min(strays)} lies beside no picture of that name; {advice}")
    if bare := [name for name, file in files.items() if file not in matched]:
        fault = f"{root / bare[0]} has no .txt beside it{originals.others(bare)}"
        raise UserError(f"{fault}; give each its captions, or --captions {NONE}")
    return {name: caption_files.beside(root / matched[file], source) for name, file in files.items()}


def _located(
    root: Path, file: Path, names: list[str], captions: caption_files.Captions
) -> Mapping[str, Sequence[str]]:
    """Returns captions by the path of their picture. Raises UserError if several pictures have the name."""
    # Pictures by name alone, also by names that look equal.
    named: dict[str, list[str]] = {}
    similarly_named: dict[str, list[str]] = {}
    for path in names:
        base = posixpath.basename(path)
        named.setdefault(base, []).append(path)
        similarly_named.setdefault(foreign.alike(base), []).append(path)

    # Paths begin at the file's folder or at the root.
    folder = posixpath.relpath(file.resolve().parent, root.resolve())
    candidates = {
        name: [posixpath.normpath(path) for path in (posixpath.join(folder, name), name)] for name in captions
    }
    present = set(names)
    similar = foreign.matches((path for pair in candidates.values() for path in pair), present)

    # Captions by path. Equal names count before those that look equal.
    located: dict[str, list[str]] = {}
    for name, texts in captions.items():
        exact = [path for path in candidates[name] if path in present]
        alike = [similar[path] for path in candidates[name] if path in similar]
        namesakes = named.get(name) or similarly_named.get(foreign.alike(name), [])
        if not exact and not alike and len(namesakes) > 1:
            count = f"{len(namesakes)} pictures of {root}"
            raise UserError(f"{file} names {name}, which {count} are called; give their paths")
        located.setdefault([*exact, *alike, *namesakes, name][0], []).extend(texts)
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
    licence: Annotated[str, options.text("--licence", "TEXT", "The licence that the owner gives.")] = LICENCE,
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
    splits, law = find(Path(root), source, captions, seed=seed, share=test_share)
    command.prepare(source, law, splits, Files(root), request, dry_run)
