import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data import preparation
from data.decoding import UndecodableError, decoding
from data.originals import Files, Original, Source
from data.preparation import PrepareRequest
from data.splits import held_out
from data.squares import square
from data.summary import SetSummary
from synth.errors import UserError
from synth.sets import completion
from synth.sets.shards import ShardSet
from tests.kit import tar_hashes

SOURCE = Source("made", "made-up pictures", "nowhere", "CC0-1.0")


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A gradient, different in every pixel of a row."""
    ramp = np.add.outer(np.arange(height) * 2, np.arange(width)).astype(np.uint8)
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], axis=2)).convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "original"
    place.mkdir()
    for i in range(10):
        picture(40 + i, 30, "L" if i == 3 else "RGB").save(place / f"{i}.png")
    return place


def prepare(folder: Path, out: Path, **changes: object) -> list[SetSummary]:
    originals = [
        Original(p.name, (f"picture {p.stem}",), bytes=p.stat().st_size) for p in sorted(folder.iterdir())
    ]
    splits = {"train": originals[:7], "test": originals[7:]}
    request = PrepareRequest(**{"out": str(out), "size": 16, "shard_size": 4, "workers": 0, **changes})  # type: ignore[arg-type]
    return completion.finish(preparation.prepare(SOURCE, "by hand", splits, Files(str(folder)), request))


def test_samples_are_the_middle_of_their_originals_with_their_captions(folder: Path, tmp_path: Path) -> None:
    train, test = prepare(folder, tmp_path / "out")
    assert (train.pictures, test.pictures, train.grey, train.captions, train.left_out) == (7, 3, 1, 7, [])
    shard_set = ShardSet(str(tmp_path / "out/train"))
    samples = [s for shard in shard_set.shards for s in shard_set.read(shard)]
    assert [s.key for s in samples] == [f"{i:09d}" for i in range(7)]
    assert [s.captions for s in samples] == [[f"picture {i}"] for i in range(7)]
    for i, sample in enumerate(samples):
        original = picture(40 + i, 30, "L" if i == 3 else "RGB").convert("RGB")
        left = (10 + i) // 2
        expected = original.crop((left, 0, left + 30, 30)).resize((16, 16), Image.Resampling.LANCZOS)
        assert (sample.pixels == np.asarray(expected)).all()
        metadata = {
            "source": f"{i}.png",
            "split": "train",
            "original_size": [40 + i, 30],
            "crop": [left, 0, left + 30, 30],
            "filter": "lanczos",
        }
        assert metadata.items() <= sample.metadata.items()


def test_a_picture_that_does_not_decode_is_left_out_and_named_everywhere(
    folder: Path, tmp_path: Path
) -> None:
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "5.png").write_text("no picture")
    train, _ = prepare(folder, tmp_path / "out")
    assert [o["name"] for o in train.left_out] == ["2.png", "5.png"]
    assert all(o["reason"] for o in train.left_out)
    shard_set = ShardSet(str(tmp_path / "out/train"))
    assert [(s.first, s.count) for s in shard_set.shards] == [(0, 3), (3, 2)]  # numbered without gaps
    assert [s.metadata["source"] for shard in shard_set.shards for s in shard_set.read(shard)] == [
        f"{i}.png" for i in (0, 1, 3, 4, 6)
    ]
    assert shard_set.manifest["left_out"] == train.left_out
    card = (tmp_path / "out/train/README.md").read_text()
    assert "`2.png`" in card and "`5.png`" in card and "2 could not be used" in card
    before = tar_hashes(tmp_path / "out/train")
    assert prepare(folder, tmp_path / "out")[0].prepared == 0 and tar_hashes(tmp_path / "out/train") == before


def test_a_shard_of_which_nothing_decodes_is_an_error(folder: Path, tmp_path: Path) -> None:
    for i in range(4):
        (folder / f"{i}.png").write_text("no picture")
    with pytest.raises(
        UserError, match=r"none of the 4 pictures of made-train-000000.tar decodes; 0.png: its format is none"
    ):
        prepare(folder, tmp_path / "out")


def test_a_run_that_was_cut_short_goes_on_and_a_finished_one_does_nothing(
    folder: Path, tmp_path: Path
) -> None:
    prepare(folder, tmp_path / "whole")
    prepare(folder, tmp_path / "cut")
    for name in ("manifest.json", "made-train-000001.json"):
        (tmp_path / "cut/train" / name).unlink()
    train, test = prepare(folder, tmp_path / "cut")
    assert (train.prepared, test.prepared) == (3, 0)
    assert tar_hashes(tmp_path / "cut/train") == tar_hashes(tmp_path / "whole/train")
    assert [s.prepared for s in prepare(folder, tmp_path / "cut")] == [0, 0]


def test_changed_originals_are_another_set(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "out")
    splits = (tmp_path / "out/splits.json").read_text()
    picture(64, 64).save(folder / "1.png")
    with pytest.raises(UserError, match=r"holds another set: originals\.digest is"):
        prepare(folder, tmp_path / "out")
    assert (tmp_path / "out/splits.json").read_text() == splits
    assert [s.prepared for s in prepare(folder, tmp_path / "out", overwrite=True)] == [7, 0]


def test_no_split_is_begun_where_another_finds_no_place(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out/test").mkdir(parents=True)
    (tmp_path / "out/test/mine.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"out/test is not empty and holds no set of exnihilo \(mine.txt lies there\)"
    ):
        prepare(folder, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["test", "mine.txt"]


def test_a_card_of_somebody_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    with pytest.raises(UserError, match=r"out/README.md is not exnihilo's; give another --out"):
        prepare(folder, tmp_path / "out")
    assert [p.read_text() for p in (tmp_path / "out").rglob("*")] == ["mine"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": 0}, "--size is 0"),
        ({"codec": "gif"}, "unknown codec 'gif'"),
        ({"shard_size": 0}, "--shard-size is 0"),
        ({"workers": -1}, "--workers is -1"),
    ],
)
def test_bad_requests_get_a_sentence_and_leave_nothing(
    folder: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare(folder, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


KINDS = [
    ("RGB", 1),
    ("RGBA", 1),
    ("CMYK", 1),
    ("P", 50),
    ("L", 1),
    ("LA", 1),
    ("1", 130),
]  # P and 1 keep few levels


@pytest.mark.parametrize(("mode", "off"), KINDS)
def test_every_kind_of_picture_becomes_rgb(mode: str, off: int) -> None:
    stored = square(picture(20, 20, mode), 20)
    assert stored.grey == (mode in ("L", "LA", "1"))
    plain = picture(20, 20, "L" if stored.grey else "RGB").convert("RGB")
    assert np.abs(stored.pixels.astype(int) - np.asarray(plain)).mean() <= off


def test_sixteen_bits_become_eight() -> None:
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024)
    stored = square(deep, 8)
    assert deep.mode == "I;16" and stored.grey
    assert (stored.pixels[..., 0] == np.arange(64).reshape(8, 8) * 4).all()


def test_what_is_transparent_shows_white_and_exif_turns_are_undone() -> None:
    clear = picture(8, 8, "RGBA")
    clear.putalpha(0)
    assert (square(clear, 8).pixels == 255).all()
    turned = picture(10, 6)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.info["exif"] = exif.tobytes()
    assert square(turned, 6).size == (6, 10)


def test_a_picture_is_turned_whatever_else_its_exif_says(tmp_path: Path) -> None:
    orientation, maker = (
        struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0),
        struct.pack("<HHII", 0x010F, 5, 1, 0),
    )  # a maker that is a number
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + maker + bytes(16)
    picture(10, 6).save(tmp_path / "1.jpg", exif=exif)
    with Image.open(tmp_path / "1.jpg") as turned:
        assert square(turned, 6).size == (6, 10)


@pytest.mark.parametrize("number", range(1, 9))
def test_every_exif_orientation_is_undone_as_pillow_does(number: int) -> None:
    turned = picture(7, 7)
    exif = turned.getexif()
    exif[0x0112] = number
    turned.info["exif"] = exif.tobytes()
    assert (square(turned, 7).pixels == np.asarray(ImageOps.exif_transpose(turned))).all()


def test_what_is_said_of_a_damaged_picture_names_no_place_and_no_run(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("no picture")
    for opened in (tmp_path / "1.png", io.BytesIO(b"no picture")):
        with (
            pytest.raises(UndecodableError, match=r"^its format is none that is known$"),
            decoding("1.png"),
            Image.open(opened),
        ):
            pass


@pytest.mark.parametrize(
    "raised",
    [struct.error("bad"), KeyError("bad"), ZeroDivisionError("bad"), OSError("bad"), OSError(22, "bad")],
    ids=repr,
)
def test_whatever_a_decoder_raises_is_a_reason(raised: Exception) -> None:
    with pytest.raises(UndecodableError, match="bad"), decoding("1.png"):
        raise raised


def test_a_picture_that_is_gone_ends_the_run(folder: Path, tmp_path: Path) -> None:
    originals = [Original(f"{i}.png") for i in (1, 99, 2)]
    request = PrepareRequest(str(tmp_path / "out"), size=16, workers=0)
    with pytest.raises(UserError, match=r"^99.png cannot be read: No such file or directory; make it read"):
        list(preparation.estimate(SOURCE, {"train": originals}, Files(str(folder)), request))
    assert not (tmp_path / "out").exists()


def test_numbers_without_a_white_are_refused() -> None:
    with pytest.raises(ValueError, match="defines no white"):
        square(Image.new("F", (4, 4)), 4)


def test_who_is_held_out_depends_on_seed_and_name_alone() -> None:
    names = [f"g{i}" for i in range(100)]
    chosen = held_out(names, 0.1, 0)
    assert len(chosen) == 10
    assert held_out(reversed(names), 0.1, 0) == chosen
    assert held_out(names, 0.1, 1) != chosen
    assert chosen <= held_out(names, 0.2, 0)
    assert len(held_out(["a", "b"], 0.001, 0)) == len(held_out(["a", "b"], 0.999, 0)) == 1


def test_a_prepared_set_passes_the_checks_of_any_set(folder: Path, tmp_path: Path) -> None:
    from synth import verify

    prepare(folder, tmp_path / "out")
    place = str(tmp_path / "out/train")
    assert all(
        damage is None for _, damage in verify.damages(ShardSet(place), verify.redrawable(ShardSet(place)))
    )
    assert verify.about_sample(place, "000000005")["source"] == "5.png"
    croissant = json.loads((tmp_path / "out/train/croissant.json").read_text())
    assert {r["name"] for r in croissant["recordSet"]} == {"pictures", "records", "captions"}
