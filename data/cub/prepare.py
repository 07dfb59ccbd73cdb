"""CUB-200-2011 (Wah et al. 2011), birds of 200 species, with the ten captions a picture of Reed et al.
(2016).

The split is Reed et al.'s: 150 species for training, 50 others for testing. The folder of captions holds it
as trainvalclasses.txt and testclasses.txt. AttnGAN's folder of birds holds it as train/filenames.pickle and
test/filenames.pickle.
"""

import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from data import caption_files, command, originals, pickled_names
from data.command import Out, Workers
from data.originals import Files, Original, Source, Splits
from data.requests import PrepareRequest
from synth.errors import UserError
from synth.options import Codec, DryRun, Overwrite, ShardSize, Size

SOURCE = Source(
    "cub",
    "Caltech-UCSD Birds 200-2011",
    "https://www.vision.caltech.edu/datasets/cub_200_2011 (CUB_200_2011.tgz)",
    "pictures: of their photographers, for non-commercial research and education;"
    " captions (Reed et al. 2016): none stated",
)
TEXTS = Source(
    "cub",
    "the set of captions of Reed et al. (2016)",
    "https://github.com/reedscot/cvpr2016 (cvpr2016_cub.tar.gz), and with AttnGAN's folder of birds"
    " (https://github.com/taoxugit/AttnGAN)",
    SOURCE.licence,
)

WHOLE = {"train": 8_855, "test": 2_933}
TEXT_FOLDERS = ("text_c10", "text")
CLASS_FILES = {"train": "trainvalclasses.txt", "test": "testclasses.txt"}
NAME_FILES = {"train": "train/filenames.pickle", "test": "test/filenames.pickle"}


def find(root: Path, captions: Path) -> Splits:
    """Returns the pictures of both splits, by number. `root` holds CUB_200_2011, and `captions` holds the
    texts. Raises UserError."""
    # Pictures with their species, by number.
    folder = birds(root)
    names, species = _names(folder), _table(folder / "classes.txt")
    labels = _table(folder / "image_class_labels.txt")
    sizes = originals.sizes(folder / "images", SOURCE)
    present = originals.require_all(names.values(), sizes, "images.txt", SOURCE)
    names = {number: present[name] for number, name in names.items()}
    if unlabelled := names.keys() - labels.keys() or set(labels.values()) - species.keys():
        raise UserError(f"{folder} has no species for the number {min(unlabelled)}{SOURCE.advice}")

    # Each picture has captions and a split.
    texts = _texts(captions)
    stems = {number: name.rsplit(".", 1)[0] for number, name in names.items()}
    captioned = caption_files.by_stem(texts, TEXTS)
    pairs = originals.require_pairs(stems.values(), captioned, str(texts), TEXTS)
    split_of = _splits(captions, list(stems.values()))

    # Splits.
    def original(number: str) -> Original:
        metadata = {"class_id": int(labels[number]), "class_name": _words(species[labels[number]])}
        lines = caption_files.beside(texts / captioned[pairs[stems[number]]], TEXTS)
        return Original(names[number], lines, metadata, sizes[names[number]])

    pictures = {
        split: [original(n) for n in sorted(names, key=int) if split_of[stems[n]] == split] for split in WHOLE
    }
    originals.note_counts(pictures, WHOLE)
    return pictures


def birds(root: Path) -> Path:
    """Returns the folder CUB_200_2011, which `root` holds or is. Raises UserError if it is missing."""
    return root if (root / "images.txt").exists() else originals.require(root / "CUB_200_2011", SOURCE)


def _texts(folder: Path) -> Path:
    """Returns the folder of the captions.

    Raises UserError if it is missing, with a command if AttnGAN's text.zip is still packed."""
    archive = folder / "text.zip"
    if archive.exists() and not any((folder / name).exists() for name in TEXT_FOLDERS):
        # The archive may or may not begin with the folder's name.
        try:
            with zipfile.ZipFile(archive) as file:
                named = all(name.startswith("text/") for name in file.namelist())
        except zipfile.BadZipFile as error:
            raise UserError(f"{archive} is damaged ({error}){TEXTS.advice}") from None
        command = shlex.join(["unzip", "-q", str(archive), "-d", str(folder if named else folder / "text")])
        raise UserError(f"{folder / 'text'} is missing, and {archive} is still packed; type: {command}")
    return originals.first_of(folder, TEXT_FOLDERS, TEXTS)


def _names(folder: Path) -> Mapping[str, str]:
    """Returns the pictures by number. Raises UserError if one is not in a folder of its species."""
    names = _table(folder / "images.txt")
    for name in names.values():
        if name.count("/") != 1 or "." not in name:
            raise UserError(
                f"{folder / 'images.txt'} names {name}, where SPECIES/NAME.jpg is expected{SOURCE.advice}"
            )
    return names


def _table(path: Path) -> Mapping[str, str]:
    """Returns a file of numbers and names as a mapping. Raises UserError, which names the line, if it holds
    anything else."""
    table: dict[str, str] = {}
    for row, line in enumerate(originals.lines(path, SOURCE), 1):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            fault = f"entry {row:,} is {line[:60]!r}, where a number and a name are expected"
            raise UserError(f"{path}, {fault}{SOURCE.advice}")
        table[number] = name.strip()
    return table


def _splits(folder: Path, stems: list[str]) -> Mapping[str, str]:
    """Returns the split of every picture, by SPECIES/NAME. Raises UserError if a species is in both, or a
    picture in none."""
    # No species in both splits.
    members = {split: _members(folder, split, stems) for split in WHOLE}
    species = {split: {stem.split("/")[0] for stem in chosen} for split, chosen in members.items()}
    if both := species["train"] & species["test"]:
        raise UserError(
            f"the species {min(both)} lies in both splits of {folder}, which are to share none{TEXTS.advice}"
        )

    # No picture in neither.
    if alone := set(stems) - members["train"] - members["test"]:
        fault = f"{min(alone)} lies in no split of {folder}{originals.others(alone)}"
        raise UserError(f"{fault}{TEXTS.advice}")
    return {stem: split for split, chosen in members.items() for stem in chosen}


def _members(folder: Path, split: str, stems: list[str]) -> set[str]:
    """Returns the pictures of a split. The file that exists lists them by species, or one by one."""
    # The file of the split.
    if not any((folder / files[split]).exists() for files in (CLASS_FILES, NAME_FILES)):
        both = f"neither {CLASS_FILES[split]} nor {NAME_FILES[split]}"
        raise UserError(f"{folder} has {both}, which say the split{TEXTS.advice}")
    file = originals.first_of(folder, (CLASS_FILES[split], NAME_FILES[split]), TEXTS)

    # One by one.
    if file.suffix == ".pickle":
        members = pickled_names.read(file, TEXTS)
        return set(originals.require_all(members, stems, str(file), SOURCE).values())

    # By species.
    present = {stem.split("/")[0] for stem in stems}
    species = set(originals.require_all(originals.lines(file, TEXTS), present, str(file), SOURCE).values())
    return {stem for stem in stems if stem.split("/")[0] in species}


def _words(name: str) -> str:
    """Returns the species of "001.Black_footed_Albatross"."""
    return name.partition(".")[2].replace("_", " ")


EXAMPLE = "python -m data cub --root ~/birds --size 256 --out data/real/cub"  # of --help


def main(
    root: Annotated[str, command.folder("--root", "The folder that holds CUB_200_2011.")],
    captions: Annotated[
        str | None,
        command.folder(
            "--captions", "The folder of text_c10 (or text) and of the split.  [default: the root]"
        ),
    ] = None,
    out: Out = "data/real/cub",
    size: Size = 256,
    codec: Codec = "png",
    shard_size: ShardSize = 4096,
    workers: Workers = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Prepares CUB-200-2011 as sets of shards.

    They are train (8,855 pictures of 150 species) and test (2,933 of 50 others)."""
    request = PrepareRequest(out, size, codec, shard_size, workers, overwrite)
    splits, pictures = find(Path(root), Path(captions or root)), Files(str(birds(Path(root)) / "images"))
    command.prepare(SOURCE, "by species, as Reed et al. (2016) have it", splits, pictures, request, dry_run)
