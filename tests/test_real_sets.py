"""Each preparation on a tiny made-up copy of its set, laid out as the owner's is."""

import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import pickled_names
from data.originals import Source
from synth.errors import UserError
from tests.kit import ROOT, prepare_set, samples, states, write, write_picture


def write_coco(root: Path, *, year: int = 2014) -> None:
    for split, numbers in ((f"train{year}", (9, 30, 25)), (f"val{year}", (42, 73))):
        prefix = f"COCO_{split}_" if year == 2014 else ""
        names = {n: f"{prefix}{n:012d}.jpg" for n in numbers}
        for number, name in names.items():
            write_picture(root / split / name, number, mode="L" if number == 25 else "RGB")
        images = [
            {"license": 1 + n % 2, "file_name": name, "id": n, "height": 24, "width": 30}
            for n, name in names.items()
        ]
        captions = [
            {"image_id": n, "id": 100 * n + i, "caption": f"caption {i}\nof {n}.\n"}
            for i in (1, 0)
            for n in numbers
        ]
        kinds = {1: "by-nc-sa", 2: "by"}
        licences = [
            {"url": f"http://creativecommons.org/licenses/{kind}/2.0/", "id": i, "name": kind}
            for i, kind in kinds.items()
        ]
        content = {"info": {}, "images": images, "licenses": licences, "annotations": captions}
        write(root / "annotations" / f"captions_{split}.json", json.dumps(content))


BIRDS = [
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34",
]
BIRDS += [
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027",
    "200.Common_Yellowthroat/Common_Yellowthroat_0003_190521",
]


def write_cub(root: Path, *, attngan: bool = False) -> None:
    folder, species = root / "CUB_200_2011", sorted({b.split("/")[0] for b in BIRDS})
    write(folder / "images.txt", "".join(f"{i} {b}.jpg\n" for i, b in enumerate(BIRDS, 1)))
    write(folder / "classes.txt", "".join(f"{int(s[:3])} {s}\n" for s in species))
    write(folder / "image_class_labels.txt", "".join(f"{i} {int(b[:3])}\n" for i, b in enumerate(BIRDS, 1)))
    for i, bird in enumerate(BIRDS):
        write_picture(folder / "images" / f"{bird}.jpg", i)
        write(
            root / ("text" if attngan else "text_c10") / f"{bird}.txt",
            "".join(f"bird {i} in words {k}\n" for k in range(10)),
        )
    if attngan:
        write(root / "train/filenames.pickle", pickle.dumps([BIRDS[0], BIRDS[1], BIRDS[3]], protocol=2))
        write(root / "test/filenames.pickle", pickle.dumps([BIRDS[2]], protocol=0))
    else:
        write(root / "trainvalclasses.txt", f"{species[0]}\n{species[2]}\n")
        write(root / "testclasses.txt", f"{species[1]}\n")


def write_celeba_hq(root: Path, *, images: str = "images", texts: str = "text/celeba-caption") -> None:
    for i in range(12):
        write_picture(root / images / f"{i}.jpg", i)
        write(root / texts / f"{i}.txt", "".join(f"face {i} in words {k}\n" for k in range(10)))
    write(root / "train/filenames.pickle", pickle.dumps([str(i) for i in range(11, 1, -1)]))
    write(root / "test/filenames.pickle", pickle.dumps(["0", "1"]))


CLASSES = ["airplane", "automobile", "bird"]


def write_cifar10_binary(root: Path) -> None:
    write(root / "cifar-10-batches-bin/batches.meta.txt", "\n".join([*CLASSES, ""]) + "\n")
    for batch in range(6):
        name = "test_batch.bin" if batch == 5 else f"data_batch_{batch + 1}.bin"
        pixels = np.random.default_rng(batch).integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = np.arange(4, dtype=np.uint8)[:, None] % 3
        write(root / "cifar-10-batches-bin" / name, np.concatenate([labels, pixels], axis=1).tobytes())


def write_cifar10_tree(root: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for k, name in enumerate(CLASSES):
            for i in range(count):
                write_picture(root / split / name / f"{i:04d}.png", 10 * k + i, size=(32, 32))


LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "coco": ("coco", write_coco),
    "coco 2017": ("coco", lambda root: write_coco(root, year=2017)),
    "cub": ("cub", write_cub),
    "cub of AttnGAN": ("cub", lambda root: write_cub(root, attngan=True)),
    "celeba_hq": ("celeba_hq", write_celeba_hq),
    "celeba_hq elsewhere": ("celeba_hq", lambda root: write_celeba_hq(root, images="image", texts="text")),
    "celeba_hq of its owner": (
        "celeba_hq",
        lambda root: write_celeba_hq(root, images="CelebAMask-HQ/CelebA-HQ-img", texts="celeba-caption"),
    ),
    "cifar10": ("cifar10", write_cifar10_binary),
    "cifar10 as files": ("cifar10", write_cifar10_tree),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_is_prepared_once(layout: str, tmp_path: Path) -> None:
    name, lay_out = LAYOUTS[layout]
    lay_out(tmp_path / "root")
    rows = prepare_set(name, tmp_path / "root", tmp_path / "out")
    assert [row["prepared"] for row in rows] == [row["pictures"] for row in rows]
    assert all(row["captions"] for row in rows)
    before = states(tmp_path)
    assert [row["prepared"] for row in prepare_set(name, tmp_path / "root", tmp_path / "out")] == [0, 0]
    assert states(tmp_path) == before
    written = json.loads((tmp_path / "out/splits.json").read_text())["splits"]
    for split, names in written.items():
        stored = samples(tmp_path / "out" / split)
        assert [s.metadata["source"] for s in stored] == names
        assert [s.key for s in stored] == [f"{i:09d}" for i in range(len(names))]
        assert all(
            s.pixels.shape == (16, 16, 3) and s.captions and s.metadata["filter"] == "lanczos" for s in stored
        )
        manifest = json.loads((tmp_path / "out" / split / "manifest.json").read_text())
        assert manifest["identity"]["dataset"] == f"{name}-{split}" and manifest["licence"]


def test_coco_has_its_captions_in_order_and_a_licence_a_picture(tmp_path: Path) -> None:
    write_coco(tmp_path / "root")
    rows = prepare_set("coco", tmp_path / "root", tmp_path / "out")
    train, val = samples(tmp_path / "out/train"), samples(tmp_path / "out/val")
    assert [s.metadata["image_id"] for s in train] == [9, 25, 30]
    assert [s.metadata["image_id"] for s in val] == [42, 73]
    assert train[0].captions == ["caption 0 of 9.", "caption 1 of 9."]
    licences = [s.metadata["licence"].split("/")[-3] for s in train]
    assert licences == ["by", "by", "by-nc-sa"]
    assert train[0].metadata["licence"] == "http://creativecommons.org/licenses/by/2.0/"
    assert [row["grey"] for row in rows] == [1, 0]


def test_a_licence_of_coco_may_be_nan(tmp_path: Path) -> None:
    write_coco(tmp_path / "root")
    change(ANNOTATIONS, '"url": "http://creativecommons.org/licenses/by/2.0/"', '"url": NaN')(
        tmp_path / "root"
    )
    prepare_set("coco", tmp_path / "root", tmp_path / "out", "--splits", "val")
    licences = {s.metadata["image_id"]: s.metadata["licence"] for s in samples(tmp_path / "out/val")}
    assert licences == {42: "http://creativecommons.org/licenses/by-nc-sa/2.0/", 73: None}


def test_coco_of_2017_is_read_if_that_of_2014_is_missing(tmp_path: Path) -> None:
    write_coco(tmp_path / "root", year=2017)
    prepare_set("coco", tmp_path / "root", tmp_path / "out")
    names = json.loads((tmp_path / "out/splits.json").read_text())
    assert names["law"] == "the owner's: train2017 and val2017"
    assert names["splits"]["val"] == ["val2017/000000000042.jpg", "val2017/000000000073.jpg"]
    manifest = json.loads((tmp_path / "out/val/manifest.json").read_text())
    assert manifest["title"] == "COCO 2017, photographs with captions"
    assert "val2017.zip" in manifest["source"]

    # The annotations of 2014 alone change nothing, but all of 2014 come first.
    write_coco(tmp_path / "both", year=2017)
    write_coco(tmp_path / "older")
    (tmp_path / "older/annotations").rename(tmp_path / "annotations")
    for file in (tmp_path / "annotations").iterdir():
        file.rename(tmp_path / "both/annotations" / file.name)
    prepare_set("coco", tmp_path / "both", tmp_path / "mixed")
    assert "train2017" in (tmp_path / "mixed/splits.json").read_text()
    for split in ("train2014", "val2014"):
        (tmp_path / "older" / split).rename(tmp_path / "both" / split)
    prepare_set("coco", tmp_path / "both", tmp_path / "first")
    assert "train2014" in (tmp_path / "first/splits.json").read_text()


@pytest.mark.parametrize("year", [2014, 2017])
def test_one_split_of_coco_is_prepared_alone(year: int, tmp_path: Path) -> None:
    write_coco(tmp_path / "root", year=year)
    prepare_set("coco", tmp_path / "root", tmp_path / "whole")
    spoil(f"train{year}")(tmp_path / "root")
    spoil(f"annotations/captions_train{year}.json")(tmp_path / "root")
    [row] = prepare_set("coco", tmp_path / "root", tmp_path / "out", "--splits", "val")
    assert row["prepared"] == row["pictures"] == 2
    splits = json.loads((tmp_path / "out/splits.json").read_text())
    assert splits["law"] == f"the owner's: val{year}" and list(splits["splits"]) == ["val"]
    manifests = [(tmp_path / out / "val/manifest.json").read_bytes() for out in ("whole", "out")]
    parts = [[p["sha256"] for p in json.loads(m)["parts"]] for m in manifests]
    assert parts[0] == parts[1]
    with pytest.raises(UserError, match="whole/train holds a split that this command does not make"):
        prepare_set("coco", tmp_path / "root", tmp_path / "whole", "--splits", "val")
    for names in ("test", "", "train,,val"):
        with pytest.raises(UserError, match=r"--splits has '.*'; it must be train, val, or train,val"):
            prepare_set("coco", tmp_path / "root", tmp_path / "out", "--splits", names)


@pytest.mark.parametrize("layout", ["cub", "cub of AttnGAN"])
def test_cub_shares_no_species_between_its_splits(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout][1](tmp_path / "root")
    prepare_set("cub", tmp_path / "root", tmp_path / "out")
    train, test = samples(tmp_path / "out/train"), samples(tmp_path / "out/test")
    names = [s.metadata["class_name"] for s in train]
    assert names == ["Black footed Albatross"] * 2 + ["Common Yellowthroat"]
    assert [s.metadata["class_name"] for s in test] == ["Laysan Albatross"]
    assert test[0].captions == [f"bird 2 in words {k}" for k in range(10)]


def test_cub_takes_captions_from_elsewhere_and_pictures_from_the_folder_itself(tmp_path: Path) -> None:
    write_cub(tmp_path / "root")
    (tmp_path / "texts").mkdir()
    for name in ("text_c10", "trainvalclasses.txt", "testclasses.txt"):
        (tmp_path / "root" / name).rename(tmp_path / "texts" / name)
    rows = prepare_set(
        "cub", tmp_path / "root/CUB_200_2011", tmp_path / "out", "--captions", tmp_path / "texts"
    )
    assert [row["pictures"] for row in rows] == [3, 1]


@pytest.mark.parametrize("inside", ["text/", ""])
def test_captions_that_are_still_packed_get_the_command_that_unpacks_them(
    inside: str, tmp_path: Path
) -> None:
    root = tmp_path / "my birds"
    write_cub(root, attngan=True)
    with zipfile.ZipFile(root / "text.zip", "w") as archive:
        for file in sorted((root / "text").rglob("*.txt")):
            archive.write(file, f"{inside}{file.relative_to(root / 'text')}")
    shutil.rmtree(root / "text")
    with pytest.raises(UserError, match=r"text is missing, and .*text.zip is still packed; type: ") as error:
        prepare_set("cub", root, tmp_path / "out")

    # unzip is not on every machine that tests.
    *_, archive_name, option, folder = shlex.split(str(error.value).split("type: ")[1])
    assert option == "-d"
    with zipfile.ZipFile(archive_name) as packed:
        packed.extractall(folder)
    assert [row["pictures"] for row in prepare_set("cub", root, tmp_path / "out")] == [3, 1]


def test_celeba_hq_of_its_owner_names_pictures_by_their_path(tmp_path: Path) -> None:
    LAYOUTS["celeba_hq of its owner"][1](tmp_path / "root")
    prepare_set("celeba_hq", tmp_path / "root", tmp_path / "out")
    names = json.loads((tmp_path / "out/splits.json").read_text())["splits"]["test"]
    assert names == ["CelebAMask-HQ/CelebA-HQ-img/0.jpg", "CelebAMask-HQ/CelebA-HQ-img/1.jpg"]


def test_celeba_hq_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    write_celeba_hq(tmp_path / "root")
    prepare_set("celeba_hq", tmp_path / "root", tmp_path / "out")
    assert [s.metadata["source"] for s in samples(tmp_path / "out/train")] == [
        f"images/{i}.jpg" for i in range(2, 12)
    ]
    assert samples(tmp_path / "out/test")[1].captions[3] == "face 1 in words 3"


def test_cifar10_is_stored_as_it_is_and_named_by_its_class(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "root")
    prepare_set("cifar10", tmp_path / "root", tmp_path / "out", "--size", 32)
    train = samples(tmp_path / "out/train")
    pixels = (
        np.random.default_rng(1)
        .integers(0, 256, (4, 3072), dtype=np.uint8)[2]
        .reshape(3, 32, 32)
        .transpose(1, 2, 0)
    )
    assert (train[6].pixels == pixels).all() and train[6].metadata["source"] == "data_batch_2.bin/00002"
    assert [s.captions for s in train[:3]] == [
        ["a photo of an airplane"],
        ["a photo of an automobile"],
        ["a photo of a bird"],
    ]
    write_cifar10_tree(tmp_path / "tree")
    prepare_set("cifar10", tmp_path / "tree", tmp_path / "mixed")
    assert [s.metadata["class_name"] for s in samples(tmp_path / "mixed/train")] == CLASSES * 3


def test_pictures_that_do_not_decode_are_left_out_and_named(tmp_path: Path) -> None:
    write_celeba_hq(tmp_path / "root")
    write(tmp_path / "root/images/7.jpg", b"no picture")
    rows = prepare_set("celeba_hq", tmp_path / "root", tmp_path / "out")
    assert [row["left_out"] for row in rows] == [1, 0] and rows[0]["pictures"] == 9
    manifest = json.loads((tmp_path / "out/train/manifest.json").read_text())
    assert [o["name"] for o in manifest["left_out"]] == ["images/7.jpg"]


def spoil(name: str, content: Any = None) -> Callable[[Path], None]:
    """Removes a file or folder, or gives a file another content."""

    def spoiling(root: Path) -> None:
        path = root / name
        if content is not None:
            write(path, content)
        elif path.is_dir():
            path.rename(path.with_name("elsewhere"))
        else:
            path.unlink()

    return spoiling


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def changing(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return changing


def cut_archive(root: Path) -> None:
    spoil("text")(root)
    write(root / "text.zip", b"cut")


ANNOTATIONS, BIRD = "annotations/captions_val2014.json", f"{BIRDS[0]}"
BAD: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "coco",
        spoil(ANNOTATIONS),
        r"captions_val2014.json is missing: is COCO 2014.*unpacked whole\? Its owner offers it at https://cocodataset.org",
    ),
    ("coco", spoil("val2014"), "val2014 is missing"),
    (
        "coco 2017",
        spoil("val2017"),
        r"val2017 is missing: is COCO 2017.*unpacked whole\? .*\(train2017.zip, val2017.zip, annotations_",
    ),
    (
        "coco",
        spoil("train2014/COCO_train2014_000000000030.jpg"),
        r"0030.jpg has captions in captions_train2014.json, but does not exist: is",
    ),
    (
        "coco",
        spoil("val2014/COCO_val2014_000000000099.jpg", b"new"),
        r"_000000000099.jpg has no caption in captions_val2014.json",
    ),
    (
        "coco",
        spoil(ANNOTATIONS, '{"images": [\n1,\n}'),
        r"captions_val2014.json is no JSON at line 3, column 1",
    ),
    (
        "coco",
        change(ANNOTATIONS, "_val2014_000000000073.jpg", "_val2014_000000000042.jpg"),
        r"captions_val2014.json lists the picture COCO_val2014_000000000042.jpg under two numbers: is",
    ),
    ("coco", spoil(ANNOTATIONS, "[]"), "has no lists of images, annotations and licenses"),
    (
        "coco",
        change(ANNOTATIONS, '"image_id": 42', '"image": 42'),
        r"is not laid out as COCO's captions are \(KeyError: 'image_id'\)",
    ),
    (
        "coco",
        change(ANNOTATIONS, '"image_id": 42', '"image_id": 43'),
        "has captions of the picture 43, which it does not list",
    ),
    ("coco", spoil(ANNOTATIONS, "{}".encode("utf-16")), r"captions_val2014.json is not UTF-8 \(byte 0"),
    (
        "cub",
        spoil("CUB_200_2011"),
        r"CUB_200_2011 is missing: .* offers it at https://www.vision.caltech.edu",
    ),
    ("cub", spoil("CUB_200_2011/classes.txt"), "classes.txt is missing"),
    (
        "cub",
        spoil("CUB_200_2011/classes.txt", "1 001.Black_footed_Albatross\n"),
        "has no species for the number 2",
    ),
    (
        "cub",
        spoil("CUB_200_2011/images.txt", "001.A/b.jpg 1\n"),
        "images.txt, entry 1 is '001.A/b.jpg 1', where a number and a name",
    ),
    ("cub", spoil("CUB_200_2011/images.txt", "1 b.jpg\n"), "names b.jpg, where SPECIES/NAME.jpg is expected"),
    (
        "cub",
        spoil(f"CUB_200_2011/images/{BIRD}.jpg"),
        r"_0046_18.jpg is named in images.txt, but does not exist: is Caltech",
    ),
    (
        "cub",
        spoil("text_c10"),
        r"text_c10 is missing: is the set of captions of Reed et al. \(2016\) .*github.com/reedscot/cvpr2016",
    ),
    (
        "cub of AttnGAN",
        cut_archive,
        r"text.zip is damaged \(File is not a zip file\): is the set of captions",
    ),
    ("cub", spoil(f"text_c10/{BIRD}.txt"), r"_0046_18 has no caption in .*text_c10"),
    (
        "cub",
        spoil("text_c10/001.Black_footed_Albatross/other.txt", "a\n"),
        r"Albatross/other has captions in .*text_c10, but does not exist",
    ),
    ("cub", spoil(f"text_c10/{BIRD}.txt", " \n"), "holds no caption"),
    (
        "cub",
        spoil(f"text_c10/{BIRD}.txt", "a caf\xe9\n".encode("latin-1")),
        r"_0046_18.txt is not UTF-8 \(byte 5",
    ),
    (
        "cub",
        spoil("testclasses.txt"),
        "has neither testclasses.txt nor test/filenames.pickle, which say the split",
    ),
    (
        "cub",
        spoil("testclasses.txt", "002.Laysan_Albatross\n001.Black_footed_Albatross\n"),
        "001.Black_footed_Albatross lies in both splits",
    ),
    (
        "cub",
        spoil("testclasses.txt", "002.Laysan_Albatross\n003.Sooty\n"),
        "003.Sooty is named in .*testclasses.txt, but does not exist",
    ),
    (
        "cub",
        spoil("trainvalclasses.txt", "001.Black_footed_Albatross\n"),
        "200.Common_Yellowthroat.* lies in no split",
    ),
    (
        "cub of AttnGAN",
        spoil("test/filenames.pickle", pickle.dumps(BIRDS[1:3])),
        "001.Black_footed_Albatross lies in both splits",
    ),
    (
        "cub of AttnGAN",
        spoil("test/filenames.pickle", b"no pickle"),
        "filenames.pickle is not a pickled list of names",
    ),
    (
        "celeba_hq",
        spoil("images"),
        r"images is missing: .* offers it at https://github.com/IIGROUP/MM-CelebA-HQ-Dataset",
    ),
    ("celeba_hq", spoil("text"), "text/celeba-caption is missing"),
    (
        "celeba_hq",
        spoil("images/3.png", b"twin"),
        r"images holds 3.jpg and another picture of that number; keep one",
    ),
    ("celeba_hq", spoil("text/celeba-caption/3.txt"), "3 has no caption in"),
    ("celeba_hq", spoil("images/3.jpg"), "3 has captions in .*, but does not exist"),
    ("celeba_hq", spoil("train/filenames.pickle"), "train/filenames.pickle is missing"),
    (
        "celeba_hq",
        spoil("test/filenames.pickle", pickle.dumps(["0", "1", "2"])),
        "picture 2 lies in both splits",
    ),
    (
        "celeba_hq",
        spoil("test/filenames.pickle", pickle.dumps(["0"])),
        r"1.jpg lies in neither filenames.pickle",
    ),
    (
        "celeba_hq",
        spoil("test/filenames.pickle", pickle.dumps(["0", "1", "77"])),
        "77 is named in test/filenames.pickle, but does not exist",
    ),
    (
        "cifar10",
        spoil("cifar-10-batches-bin"),
        r"batches.meta.txt is missing: .* offers it at https://www.cs.toronto.edu",
    ),
    ("cifar10", spoil("cifar-10-batches-bin/data_batch_4.bin"), "data_batch_4.bin is missing"),
    (
        "cifar10",
        spoil("cifar-10-batches-bin/data_batch_4.bin", b"\0" * 5000),
        "has 5,000 bytes, no multiple of 3,073",
    ),
    (
        "cifar10",
        spoil("cifar-10-batches-bin/batches.meta.txt", "airplane\n"),
        "has pictures of the class 2, and batches.meta.txt names 1",
    ),
    ("cifar10 as files", spoil("test/bird"), "has the class (bird|elsewhere) in one of train and test only"),
    ("cifar10 as files", spoil("test"), "test is missing"),
    ("cifar10 as files", spoil("test/0.png", b"x"), "test/0.png does not lie in a folder of its class"),
]


@pytest.mark.parametrize(("layout", "spoiling", "sentence"), BAD)
def test_what_is_missing_or_wrong_gets_a_sentence_and_nothing_is_written(
    layout: str, spoiling: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    name, lay_out = LAYOUTS[layout]
    lay_out(tmp_path / "root")
    spoiling(tmp_path / "root")
    with pytest.raises(UserError, match=sentence) as error:
        prepare_set(name, tmp_path / "root", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


class Dangerous:
    """Asks to be made by os.system."""

    def __reduce__(self) -> Any:
        return os.system, ("touch made-by-a-pickle",)


OTHERS: list[Any] = [
    Dangerous(),
    ["a", Dangerous()],
    {"a": 1},
    ["a", 1],
    ("a", "b"),
    [b"a"],
    np.zeros(3),
    Path("a"),
]


@pytest.mark.parametrize("content", OTHERS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_of_anything_but_a_list_of_texts_is_refused(
    content: object, protocol: int, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Source("made", "made-up names", "nowhere", "CC0-1.0")
    Path("names.pickle").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=r"names.pickle is"):
        pickled_names.read(Path("names.pickle"), source)
    assert [p.name for p in tmp_path.iterdir()] == ["names.pickle"]


def test_lists_that_python_2_pickled_are_read(tmp_path: Path) -> None:
    (tmp_path / "names.pickle").write_bytes(b"(lp0\nS'001.A/b'\np1\naS'caf\\xc3\\xa9'\np2\na.")
    assert pickled_names.read(tmp_path / "names.pickle", Source("made", "names", "", "")) == [
        "001.A/b",
        "café",
    ]


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_pickle_that_was_cut_is_refused(cut: int, tmp_path: Path) -> None:
    (tmp_path / "names.pickle").write_bytes(pickle.dumps([f"name {i}" for i in range(9)])[:cut])
    with pytest.raises(UserError, match="is not a pickled list of names"):
        pickled_names.read(tmp_path / "names.pickle", Source("made", "names", "", ""))


@pytest.mark.slow
def test_a_command_ends_with_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "data",
        "coco",
        "--root",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path / "out"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
