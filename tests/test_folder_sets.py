"""The preparation of any folder of pictures, with captions in each of the forms that people keep them in."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from synth.errors import UserError
from tests.kit import prepare_set, samples, states, write, write_picture

PICTURES = ["a/1.jpg", "a/2.JPG", "b/3.png"]
SAID = {"a/1.jpg": ["a red cat", "a cat, red"], "a/2.JPG": ["a dog"], "b/3.png": ["a house"]}

TABLES = {
    "captions.csv": 'caption,image\na red cat,a/1.jpg\n"a cat, red",a/1.jpg\n'
    'a dog,a/2.JPG\n"a\nhouse",b/3.png\n',
    "captions.txt": '\ufeffimage,caption\r\n1.jpg,a red cat\r\n1.jpg,"a cat, red"\r\n'
    "2.JPG,a dog\r\n3.png, a house \r\n",
    "first.csv": 'picture,text,rated\n1.jpg,a red cat,1\n1.jpg,"a cat, red",2\n'
    "2.JPG,a dog,3\n\n3.png,a house,4\n",
    "metadata.jsonl": '{"file_name": "a/1.jpg", "caption": ["a red cat", "a cat, red"]}\n\n'
    '{"file_name": "./a/2.JPG", "text": "a dog", "more": 1}\n{"file_name": "b/3.png", "text": "a house"}\n',
    "a/metadata.jsonl": '{"file_name": "1.jpg", "text": ["a red cat", " ", "a cat, red"]}\n'
    '{"file_name": "2.JPG", "text": "a dog"}\n{"file_name": "../b/3.png", "text": "a house"}\n',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, name in enumerate(PICTURES):
        write_picture(tmp_path / "my set" / name, i)
    return tmp_path / "my set"


def prepare(root: Path, *more: object) -> list[dict[str, Any]]:
    return prepare_set("folder", root, root.parent / "out", *more)


@pytest.mark.parametrize("name", TABLES)
def test_captions_come_from_tables_of_each_kind(name: str, root: Path) -> None:
    write(root / name, TABLES[name])
    [row] = prepare(root, "--captions", name, "--test-share", 0)
    assert row["prepared"] == 3 and row["captions"] == 4
    assert {s.metadata["source"]: s.captions for s in samples(root.parent / "out/train")} == SAID
    before = states(root.parent)
    assert [row["prepared"] for row in prepare(root, "--captions", name, "--test-share", 0)] == [0]
    assert states(root.parent) == before


def test_captions_lie_beside_their_pictures(root: Path) -> None:
    for name, texts in SAID.items():
        write((root / name).with_suffix(".txt"), "\n".join(texts) + "\n")
    prepare(root, "--test-share", 0, "--licence", "CC BY 4.0", "--name", "cats.v1")
    assert {s.metadata["source"]: s.captions for s in samples(root.parent / "out/train")} == SAID
    manifest = json.loads((root.parent / "out/train/manifest.json").read_text())
    assert manifest["licence"] == "CC BY 4.0" and manifest["identity"]["dataset"] == "cats.v1-train"


def test_pictures_may_go_without_captions_and_are_split_by_a_seed(root: Path) -> None:
    for i in range(7):
        write_picture(root / f"c/{i}.png", 10 + i)
    rows = prepare(root, "--captions", "none", "--test-share", 0.3)
    assert [(row["pictures"], row["captions"]) for row in rows] == [(7, 0), (3, 0)]
    train, test = (
        {s.metadata["source"] for s in samples(root.parent / "out" / split)} for split in ("train", "test")
    )
    assert not train & test and len(train | test) == 10
    manifest = json.loads((root.parent / "out/test/manifest.json").read_text())
    assert manifest["identity"]["dataset"] == "my-set-test"
    assert manifest["licence"] == "unknown, as its owner states it"
    assert "its captions" not in (root.parent / "out/test/README.md").read_text()
    assert "with captions" not in (root.parent / "out/test/croissant.json").read_text()
    prepare_set("folder", root, root.parent / "other", "--captions", "none", "--test-share", 0.3, "--seed", 1)
    assert {s.metadata["source"] for s in samples(root.parent / "other/test")} != test


def test_a_split_of_an_earlier_division_is_not_left_beside_another(root: Path) -> None:
    prepare(root, "--captions", "none")
    before = states(root.parent)
    with pytest.raises(UserError, match=r"out/test holds a split that this command does not make; remove it"):
        prepare(root, "--captions", "none", "--test-share", 0, "--overwrite")
    assert states(root.parent) == before


def table(name: str, content: str | bytes) -> tuple[str, dict[str, str | bytes]]:
    return name, {name: content}


REST = "2.JPG,b\n3.png,c\n"
BAD: list[tuple[tuple[str, dict[str, str | bytes]], str]] = [
    (
        table("c.csv", "image,caption\n1.jpg,a\n3.png,c\n"),
        r"a/2.JPG has no caption in .*c.csv; write one, or",
    ),
    (
        table("c.csv", f"image,caption\n1.jpg,a\n9.jpg,z\n{REST}"),
        r"9.jpg has captions in .*c.csv, but does not exist; add the picture, or",
    ),
    (table("c.csv", f"image,caption\n1.jpg, \n{REST}"), "a/1.jpg has no caption in"),
    (
        table("c.csv", f"image,caption\n1.jpg,a cat, red\n{REST}"),
        r"c.csv, line 2 has 3 columns, but the header has 2; put texts",
    ),
    (
        table("c.csv", f'image,caption\n1.jpg,a\n2.JPG,"a\n{REST}'),
        r"c.csv, line \d is no comma-separated text: unexpected end of data",
    ),
    (table("c.csv", f"image,caption\n,a cat\n,\n{REST}"), "c.csv has the caption 'a cat' of no picture; add"),
    (
        table("c.jsonl", '{"file_name": "", "text": "a cat"}\n'),
        "c.jsonl has the caption 'a cat' of no picture",
    ),
    (table("c.token", "1.jpg#0\ta\n2.JPG#0\t\r\n"), r"a/2.JPG has no caption in .*c.token \(and 1 more\)"),
    (table("c.csv", "1.jpg,a\n"), "has no column caption or text; its first line, '1.jpg,a'"),
    (table("c.csv", ""), "has no column caption or text"),
    (table("c.csv", 'sep="\nimage"caption\n'), "has no column caption or text"),
    (table("c.csv", "image,caption\n1.jpg,caf\xe9\n".encode("latin-1")), r"c.csv is not UTF-8 \(byte 23"),
    (table("c.jsonl", '{"file_name": "a/1.jpg", "text": "a"}\n{"file_name"\n'), "c.jsonl, line 2 is no JSON"),
    (
        table("c.jsonl", '{"file_name": "a/1.jpg", "text": 3}\n'),
        "line 1 is no object with file_name and caption or text",
    ),
    (table("c.jsonl", '["a/1.jpg", "a"]\n'), "line 1 is no object"),
    (
        table("c.jsonl", '{"file_name": "a/1.jpg", "text": "a \\ud83d"}\n'),
        r"the caption 'a .ud83d' contains half a character",
    ),
    (("none.csv", {}), r"there is no caption file none.csv, in .*my set or here"),
    (table("c.xml", "<a/>"), "is of no known kind of caption file; known are .csv, .txt, .jsonl"),
    (("beside", {}), "has no .txt beside its pictures; give --captions FILE"),
    (("beside", {"a/1.txt": "a", "a/2.txt": "b"}), r"b/3.png has no .txt beside it"),
    (
        ("beside", {"a/1.txt": "a", "a/2.txt": "b", "b/3.txt": "c", "README.txt": "d"}),
        "README.txt lies beside no picture of that name",
    ),
    (("beside", {"a/1.txt": "a", "a/2.txt": "b", "b/3.txt": "\n"}), "3.txt holds no caption"),
    (("beside", {"a/1.txt": b"\xff\xfe", "a/2.txt": "b", "b/3.txt": "c"}), "1.txt is not UTF-8"),
    (("beside", {"a/1.png": "twin", "a/1.txt": "a"}), "a/1.txt would hold the captions of several pictures"),
    (
        ("c.csv", {"b/1.jpg": "twin", "c.csv": "image,caption\n1.jpg,a\n"}),
        "names 1.jpg, which 2 pictures of .* are called; give",
    ),
]


@pytest.mark.parametrize(("given", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_bad_captions_get_a_sentence_and_nothing_is_written(
    given: tuple[str, dict[str, Any]], sentence: str, root: Path
) -> None:
    captions, files = given
    for name, content in files.items():
        write(root / name, content)
    with pytest.raises(UserError, match=sentence) as error:
        prepare(root, "--captions", captions)
    assert "\n" not in str(error.value) and not (root.parent / "out").exists()


def test_a_file_whose_name_is_not_utf_8_is_named(root: Path) -> None:
    Path(root, os.fsdecode(b"caf\xe9.png")).write_bytes((root / "b/3.png").read_bytes())
    with pytest.raises(UserError, match=r"the name of 'caf.udce9.png' in .*my set is not UTF-8; rename it"):
        prepare(root, "--captions", "none")


def test_a_link_that_leads_back_and_a_pipe_are_named(root: Path) -> None:
    (root / "a/again").symlink_to("..")
    with pytest.raises(UserError, match=r"again is a link to a folder that contains it; remove the link$"):
        prepare(root, "--captions", "none")
    (root / "a/again").unlink()
    (root / "a/other").symlink_to("../b")
    (root / "b/other").symlink_to("../a")
    with pytest.raises(UserError, match=r"other is a link to a folder that contains it; remove the link$"):
        prepare(root, "--captions", "none")
    (root / "a/other").unlink()
    os.mkfifo(root / "b/pipe.png")
    with pytest.raises(
        UserError, match=r"pipe.png has the name of a picture, but is no regular file; remove"
    ):
        prepare(root, "--captions", "none")


def test_a_folder_is_no_caption_file_of_a_split(root: Path, tmp_path: Path) -> None:
    (root / "a").rename(root / "train")
    with pytest.raises(UserError, match=r"there is no caption file .*; give a \.csv, \.txt or \.jsonl"):
        prepare(root, "--captions", tmp_path)


def test_a_place_may_begin_with_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    [row] = prepare_set(
        "folder", Path("~/my set"), Path("~/prepared"), "--captions", "none", "--test-share", 0
    )
    assert row["out"] == str(root.parent / "prepared/train")


def test_other_bad_requests_get_a_sentence(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, more, sentence in (
        (tmp_path / "empty", [], "holds no pictures; known are .bmp"),
        (tmp_path / "none", [], "none is missing$"),
        (root, ["--name", "a/b"], "--name is 'a/b'; give letters"),
        (root, ["--out", root / "a" / "out"], "is within --root"),
        (root, ["--out", f"file://{root}/out"], "is within --root"),
        (root, ["--root", ""], "--root is empty; give a folder"),
        (root, ["--licence", "caf\udce9"], "which is not UTF-8; correct it"),
        (root, ["--out", ""], "--out is empty; give a folder"),
        (root, ["--test-share", 1], "--test-share is 1"),
        (root, ["--test-share", -0.1], r"--test-share is -0\.1"),
    ):
        with pytest.raises(UserError, match=sentence):
            prepare(folder, "--captions", "none", *more)
    assert not (tmp_path / "out").exists()
