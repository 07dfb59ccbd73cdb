import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from caption.audit import gallery, sheet
from caption.audit.gallery import Neighbour, TableRow
from caption.cli import app
from caption.table import CaptionSet
from synth.errors import UserError
from synth.images import lettering
from synth.sets.shards import ShardSet, sample_key
from tests import kit
from tests.kit import make_small, make_tables, pictures


def invoke(*arguments: Any) -> Result:
    """The command within this process."""
    return kit.invoke(app, *arguments)


def embeddings(tables: CaptionSet) -> np.ndarray:
    vectors = np.concatenate([tables.vectors(part) for part in tables.parts]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_neighbours_are_those_of_sorting_all_cosines(captioned: Path) -> None:
    tables = CaptionSet(str(captioned))
    every = embeddings(tables)
    for number in (0, 17, 39):
        row = gallery.row_of(tables, sample_key(number))
        near = gallery.neighbours(tables, row, 7)
        cosines = every @ every[number]
        order = [i for i in np.argsort(-cosines, kind="stable") if i != number][:7]
        assert row.number == number and np.allclose(row.embedding, every[number])
        assert [n.cosine for n in near] == pytest.approx(cosines[order].tolist())
        assert {n.number for n in near} == set(order)
        assert [n.key for n in near] == [sample_key(n.number) for n in near]
    assert len(gallery.neighbours(tables, row, 64)) == 39


def test_a_row_has_its_captions_with_cosines_where_these_are_stored(
    captioned: Path, undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_tables(undisturbed, tmp_path / "t", tiny_encoder, text_embeddings=True)
    bare, full = (
        gallery.row_of(CaptionSet(str(place)), "000000020") for place in (captioned, tmp_path / "t")
    )
    assert [text for text, _ in bare.captions] == [text for text, _ in full.captions]
    assert len(full.captions) == 2
    assert all(cosine is None for _, cosine in bare.captions)
    assert all(-1 <= (cosine or 9) <= 1 for _, cosine in full.captions)
    assert 0.9 < full.pseudo_cosine < 1 and full.pseudo_cosine == bare.pseudo_cosine


def test_pictures_are_those_of_the_shards(undisturbed: Path) -> None:
    drawn = gallery.pictures(ShardSet(str(undisturbed)), {n: sample_key(n) for n in (39, 0, 15, 16, 17)})
    every = pictures(undisturbed)
    assert len(drawn) == 5 and all(drawn[key].tobytes() == every[key] for key in drawn)
    with pytest.raises(
        UserError, match=r"visual_atoms-000001.tar holds 000000016, but the tables have other"
    ):
        gallery.pictures(ShardSet(str(undisturbed)), {16: "other"})


def test_the_sheet_shows_the_picture_its_sentences_and_its_neighbours(
    captioned: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a" / "sheet.png"
    result = invoke("show", captioned, "000000017", "--shards", undisturbed, "--out", out, "--neighbours", 5)
    assert result.exception is None
    row = json.loads(result.stdout)
    assert row["key"] == "000000017" and len(row["captions"]) == 2 and len(row["nearest"]) == 5
    image = np.asarray(Image.open(out).convert("RGB"))
    assert image.shape[1] == sheet.WIDTH and 600 < image.shape[0] < 1300
    every = {
        key: np.frombuffer(data, np.uint8).reshape(32, 32, 3) for key, data in pictures(undisturbed).items()
    }
    assert contains(image, every["000000017"], 384)
    assert all(contains(image, every[key], sheet._TILE) for key in row["nearest"])
    absent = next(key for key in every if key not in row["nearest"] and key != "000000017")
    assert not contains(image, every[absent], sheet._TILE)


def contains(image: np.ndarray, pixels: np.ndarray, side: int) -> bool:
    """Returns True if a picture is in one of the columns of a sheet, scaled to that side."""
    wanted = np.asarray(sheet._scaled(pixels, side))
    lefts = [sheet._MARGIN + column * (sheet._TILE + sheet._GAP) for column in range(4)]
    places = ((top, left) for top in range(len(image) - side) for left in lefts)
    first = [(y, x) for y, x in places if np.array_equal(image[y, x : x + side], wanted[0])]
    return any(np.array_equal(image[y : y + side, x : x + side], wanted) for y, x in first)


def drawing(captions: list[str], neighbours: int = 3, key: str = "k") -> Image.Image:
    vector = np.ones(4, np.float32) / 2
    row = TableRow(key, 0, [(text, 0.25) for text in captions], vector, 0.97)
    near = [Neighbour(f"n{i}", i + 1, 0.9) for i in range(neighbours)]
    pixels = {name: np.full((16, 16, 3), 90, np.uint8) for name in (key, *(n.key for n in near))}
    return sheet.sheet(row, near, pixels, "about")


def test_sheets_grow_with_captions_and_neighbours_and_keep_to_their_width() -> None:
    plain, wordy, many = (
        drawing(["a"]),
        drawing(["a long sentence of many words " * 9] * 5),
        drawing(["a"], 13),
    )
    assert wordy.height > plain.height + 200 and many.height - plain.height == 3 * (sheet._TILE + 44)
    for image in (plain, wordy, many, drawing(["x" * 400]), drawing([], 1), drawing(["a"], 1, key="k" * 300)):
        edges = np.asarray(image)[:, [0, 10, -10, -1]]
        assert image.width == sheet.WIDTH and (edges == 255).all()
    assert Image.open(io.BytesIO(sheet.png(plain))).size == plain.size
    assert sheet.png(plain) == sheet.png(drawing(["a"]))
    assert np.asarray(drawing(["a red thing"])).tobytes() != np.asarray(drawing(["a bed thing"])).tobytes()


def test_wrapped_lines_fit_and_lose_nothing() -> None:
    text = "a short word and a " + "very" * 60 + " long one, then some more words " * 4
    lines = lettering.wrapped(text, 19, 300)
    assert all(lettering.length(line, 19) <= 300 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert lettering.wrapped("", 19, 300) == []


def test_the_default_place_of_the_shards_and_the_name_of_the_sheet(
    undisturbed: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = invoke("show", captioned, "000000001").exception
    assert isinstance(error, UserError)
    assert "no pictures of visual_atoms in data/shards/visual_atoms; give their folder as --shards" in str(
        error
    )
    shutil.copytree(undisturbed, tmp_path / "data" / "shards" / "visual_atoms")
    assert invoke("show", captioned, "000000001").exception is None and (tmp_path / "000000001.png").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["000000040"], "has no picture 000000040; its 40 keys run from 000000000 to 000000039"),
        (["17"], "has no picture 17"),
        (["000000001", "--out", "a.jpg"], "--out is a.jpg; it must end in .png"),
        (["000000001", "--neighbours", "0"], "--neighbours is 0; it must be 1 to 64"),
        (["000000001", "--shards", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_gets_one_sentence(
    captioned: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = invoke("show", captioned, "--shards", undisturbed, *options).exception
    assert isinstance(error, UserError) and re.search(sentence, str(error)) and not list(tmp_path.iterdir())


def test_other_shards_than_those_of_the_tables_are_refused(
    captioned: Path, undisturbed: Path, finished: Path, tmp_path: Path
) -> None:
    make_small(tmp_path / "other", seed=1)
    for place, sentence in ((tmp_path / "other", "made for another set of shards"), (undisturbed, "")):
        error = invoke(
            "show", captioned, "000000001", "--shards", place, "--out", tmp_path / "a.png"
        ).exception
        assert (isinstance(error, UserError) and sentence in str(error)) if sentence else error is None
    tar = sorted(finished.glob("*.tar"))[0]
    tar.unlink()
    error = invoke(
        "show", captioned, "000000001", "--shards", finished, "--out", tmp_path / "a.png"
    ).exception
    assert isinstance(error, UserError)
    assert f"{tar.name} is missing though the manifest names it" in str(error)
