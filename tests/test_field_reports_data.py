"""Kinds of faults from bug reports about other people's tools: pictures, tars, captions and names."""

import io
import json
import pickle
import re
import struct
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caption.table import _require_keys
from data import originals, pickled_arrays
from data.cifar10 import prepare as cifar10
from data.cli import app
from data.img2dataset import tars
from evaluate import sources
from synth import class_tables
from synth.errors import UserError
from synth.images import codecs, conversion
from synth.sets import ledger, shards
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from synth.vetting import shader_folders
from tests.kit import ROOT, invoke, json_lines, prepare_set, samples, states, write, write_picture

SIDE = 16
COMPOSED, DECOMPOSED = "\u00e9t\u00e9", unicodedata.normalize("NFD", "\u00e9t\u00e9")


def coloured(side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def adopt(place: Path, *more: object) -> list[dict[str, Any]]:
    return json_lines(invoke(app, "img2dataset", "--root", place, "--workers", 0, *more, raising=True))


def prepare(root: Path, *more: object) -> dict[str, list[str]]:
    """Prepares a folder without held-out pictures. Returns the captions by original."""
    prepare_set("folder", root, root.parent / "out", "--test-share", 0, *more)
    return {s.metadata["source"]: s.captions for s in samples(root.parent / "out/train")}


# Row 4: one conversion of pictures for every reader.


def modes() -> Iterator[tuple[str, bytes]]:
    """Pictures of every mode that a format stores, as an extension and a file."""
    rgb = Image.fromarray(coloured())
    grey16 = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 257)
    clear = rgb.convert("RGBA")
    clear.putalpha(Image.fromarray(coloured()[..., 0]))
    for mode in ("1", "L", "LA", "P", "RGB"):
        yield "png", encoded(rgb.convert(mode), "PNG")
    yield "png", encoded(clear, "PNG")
    yield "png", encoded(grey16, "PNG")
    yield "png", encoded(rgb, "PNG", transparency=tuple(coloured()[0, 0].tolist()))
    yield "png", encoded(rgb.convert("L"), "PNG", transparency=77)
    yield "png", encoded(rgb.quantize(16), "PNG", transparency=3)
    for mode in ("L", "RGB", "CMYK"):
        yield "jpg", encoded(rgb.convert(mode), "JPEG")
    turned = Image.Exif()
    turned[0x0112] = 6
    yield "jpg", encoded(rgb, "JPEG", exif=turned)
    yield "webp", encoded(rgb, "WEBP", lossless=True)
    yield "webp", encoded(clear, "WEBP", lossless=True, exact=True)
    # Content decides the format, not the extension.
    for mode in ("1", "L", "LA", "P", "RGB", "CMYK", "YCbCr", "LAB"):
        yield (
            "jpg",
            encoded(
                rgb.convert("RGB").convert(mode)
                if mode != "LAB"
                else Image.new(mode, (SIDE, SIDE), (90, 30, 60)),
                "TIFF",
            ),
        )
    yield "jpg", encoded(clear, "TIFF")
    yield "jpg", encoded(grey16, "TIFF")


@pytest.mark.slow
def test_a_picture_has_the_same_pixels_by_every_road(tmp_path: Path) -> None:
    """Prepared from a folder, adopted in place, rewritten from a tar, and read by `evaluate`."""
    members = [(f"{i:03d}.{extension}", data) for i, (extension, data) in enumerate(modes())]
    for name, data in members:
        write(tmp_path / "folder" / name, data)
    write_tar(tmp_path / "tars/00000.tar", members)
    prepare_set("folder", tmp_path / "folder", tmp_path / "out", "--captions", "none", "--test-share", 0)

    adopt(tmp_path / "tars")
    adopt(tmp_path / "tars", "--out", tmp_path / "rewritten", "--size", SIDE)
    prepared = samples(tmp_path / "out/train")
    adopted, rewritten = samples(tmp_path / "tars"), samples(tmp_path / "rewritten")
    mapped = ShardSet(str(tmp_path / "tars")).mapped(ShardSet(str(tmp_path / "tars")).shards[0])
    [compared] = list(sources.find(str(tmp_path / "folder")).batches(0))
    assert len(prepared) == len(adopted) == len(rewritten) == len(compared) == len(members)
    for i, sample in enumerate(prepared):
        for pixels in (adopted[i].pixels, rewritten[i].pixels, codecs.rgb(mapped.picture(i)), compared[i]):
            assert (pixels == sample.pixels).all(), members[i][0]


def test_one_module_converts_pictures_of_unknown_modes() -> None:
    packages = [ROOT / name for name in ("synth", "data", "caption", "train", "evaluate")]
    paths = [path for package in packages for path in package.rglob("*.py")]
    converting = {str(path.relative_to(ROOT)) for path in paths if ".convert(" in path.read_text()}
    # Augmentations turn the hue of pictures that are RGB already.
    assert converting == {"synth/images/conversion.py", "train/stream/augmentations.py"}


def test_decoded_pictures_have_white_behind_them_and_eight_of_sixteen_bits() -> None:
    clear = encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG")
    assert (codecs.decode(clear) == 255).all()
    deep = encoded(Image.fromarray(np.full((4, 4), 0x1234, np.uint16)), "PNG")
    assert (codecs.decode(deep) == 0x12).all()
    assert codecs.decode(encoded(Image.new("L", (4, 4), 7), "PNG", optimize=True)).shape == (4, 4, 1)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused_in_place_and_left_out_elsewhere(
    mode: str, tmp_path: Path
) -> None:
    bad, good = encoded(Image.new(mode, (SIDE, SIDE)), "TIFF"), encoded(Image.new("RGB", (SIDE, SIDE)), "PNG")
    place = write_tar(tmp_path / "tars/00000.tar", [("a.png", good), ("b.png", bad)]).parent
    with pytest.raises(UserError, match=r"sample b of .*cannot be used: .*which defines no white"):
        adopt(place)
    [row] = adopt(place, "--out", tmp_path / "out", "--size", SIDE)
    assert (row["pictures"], row["left_out"]) == (1, 1)
    with pytest.raises(ValueError, match="defines no white"):
        codecs.decode(bad)


def tiff(levels: np.ndarray, bits: int, *, order: str = "<") -> bytes:
    """A grey TIFF of unsigned numbers of so many bits, packed as its format requires."""
    digits = "".join(f"{level:0{bits}b}" for level in levels.reshape(-1))
    data = bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    if bits == 16:
        data = levels.astype(f"{order}u2").tobytes()
    height, width = levels.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(data)))
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        directory += struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + directory + bytes(4)


@pytest.mark.parametrize(("bits", "order"), [(12, "<"), (16, "<"), (16, ">")])
def test_grey_of_12_bits_has_its_white(bits: int, order: str) -> None:
    """Packed, or in numbers of 16 bits in either order of their bytes."""
    levels = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 16
    file = tiff(levels, bits, order=order)
    assert Image.open(io.BytesIO(file)).mode.startswith("I;16")
    assert (codecs.decode(file)[..., 0] == levels >> 4).all()


def test_grey_of_16_bits_keeps_its_white_in_every_format() -> None:
    levels = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 256
    dark = levels // 256
    for format in ("PNG", "TIFF"):
        assert (codecs.decode(encoded(Image.fromarray(levels), format))[..., 0] == levels >> 8).all()
    assert not codecs.decode(encoded(Image.fromarray(dark), "PNG")).any()


def test_a_tiff_with_white_as_zero_is_inverted() -> None:
    levels = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 256
    plain = encoded(Image.fromarray(levels), "TIFF")
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    assert plain.count(tag + b"\x01") == 1
    inverted = plain.replace(tag + b"\x01", tag + b"\x00")
    assert (codecs.decode(inverted) == 255 - codecs.decode(plain)).all()


@pytest.mark.parametrize(
    "raised",
    [IndexError("x"), TypeError("y"), NotImplementedError("z"), EOFError()],
    ids=lambda e: type(e).__name__,
)
def test_whatever_a_decoder_raises_is_a_sentence(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr(conversion, "rgb", fail)
    with pytest.raises(ValueError, match=r"not a readable picture: ."):
        codecs.decode(encoded(Image.new("RGB", (4, 4)), "JPEG"))


# Rows 8 and 9: keys and extensions as webdataset has them.

NAMES = [
    *("cats/0000.jpg", "cats/0000.txt", "dogs/0000.jpg", "dogs/0000.TXT", "./a/b.c.jpg", "./a/b.Json"),
    *("a.b/c.jpg", "a.b/c.d.txt", ".hidden", "./.hidden.jpg", "dir/.hidden.jpg", "dir/sub/._a.jpg"),
    *(
        "a.b/.hidden.jpg",
        "README",
        "cats/README",
        "__meta__",
        "__meta__/a.jpg",
        "__a/b.jpg",
        "x/__meta__/a.jpg",
    ),
    *(
        "end.",
        "/srv/a.jpg",
        "//a.jpg",
        "caf\udce9/a.jpg",
        "\u00e9/a.jpg",
        "a b/c d.jpg",
        "a..jpg",
        "...",
        "_/_.x",
    ),
    *("a" * 120 + ".jpg", "b/" * 80 + "c.jpg", "__.jpg", "__MACOSX/._0000.jpg", "0000.seg.png", "0000.png"),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_grouped_as_webdataset_groups_them(form: int, tmp_path: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    rng = np.random.default_rng(form)
    for number in range(12):
        # Odd names in a random order, with members that are no files.
        names = list(dict.fromkeys(rng.choice(NAMES, 20).tolist()))
        names = [name for name in names if form != tarfile.USTAR_FORMAT or len(name) < 100]
        path = tmp_path / f"{number:05d}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(name.encode(errors="surrogateescape"))
                tar.addfile(info, io.BytesIO(name.encode(errors="surrogateescape")))
            for name, kind in (
                ("dir.d", tarfile.DIRTYPE),
                ("link.jpg", tarfile.SYMTYPE),
                ("hard.jpg", tarfile.LNKTYPE),
            ):
                other = tarfile.TarInfo(name)
                other.type, other.linkname = kind, "cats/0000.jpg"
                tar.addfile(other)

        with path.open("rb") as stream:
            expanded = tar_file_expander(iter([{"url": str(path), "stream": stream}]))
            expected = [
                (s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")})
                for s in group_by_keys(expanded)
            ]
        with path.open("rb") as file:
            assert list(shards.read_members(file, path.name)) == expected
        keys = [key for key, files in expected if codecs.EXTENSIONS & files.keys()]
        assert list(dict.fromkeys(keys)) == shards.MappedShard(str(path), path.name).keys


@pytest.mark.parametrize("way", ["in place", "rewritten"])
def test_keys_keep_their_folders_and_extensions_may_be_in_capitals(way: str, tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(coloured()), "PNG")
    pairs = [(f"{kind}/0000", f"a {kind}") for kind in ("cats", "dogs")]
    members = [
        (f"{key}{end}", data)
        for key, text in pairs
        for end, data in ((".PNG", picture), (".TXT", text.encode()))
    ]
    place = write_tar(tmp_path / "tars/00000.tar", members).parent
    adopt(place, *(() if way == "in place" else ("--out", tmp_path / "out", "--size", SIDE)))
    stored = samples(place if way == "in place" else tmp_path / "out")
    assert [(s.key, s.captions) for s in stored] == [(key, [text]) for key, text in pairs]
    assert all((s.pixels == coloured()).all() for s in stored)
    if way == "rewritten":
        [field, _] = json.loads((tmp_path / "out/croissant.json").read_text())["recordSet"][0]["field"]
        source = field["source"]
        assert source["extract"] == {"fileProperty": "fullpath"}
        match = re.search(source["transform"]["regex"], "cats/0000.png")
        assert match and match[1] == "cats/0000"


def test_tables_made_before_keys_had_folders_still_belong_to_their_shard() -> None:
    _require_keys("a.parquet", ["0", "1"], ["cats/0", "cats/1"])
    for keys in (["0", "2"], ["cats/0"], ["dogs/0", "dogs/1"]):
        with pytest.raises(UserError, match="do not agree"):
            _require_keys("a.parquet", keys, ["cats/0", "cats/1"])


def test_extensions_in_capitals_are_read_everywhere(tmp_path: Path) -> None:
    # A folder, and a table that names the other case.
    for name in ("A.JPG", "b.Png"):
        write_picture(tmp_path / "folder" / name, 0)
    write(tmp_path / "folder/A.TXT", "a cat")
    write(tmp_path / "folder/b.txt", "a dog")
    expected = {"A.JPG": ["a cat"], "b.Png": ["a dog"]}
    assert prepare(tmp_path / "folder") == expected
    write(tmp_path / "folder/names.CSV", "image,caption\nA.jpg,a cat\nb.png,a dog\n")
    assert prepare(tmp_path / "folder", "--captions", "names.csv") == expected

    # Captions of CUB's and CelebA's kind, class tables, shaders.
    write(tmp_path / "texts/x/7.TXT", "a bird")
    assert list(captions_by_stem(tmp_path / "texts").items()) == [("x/7", "x/7.TXT")]
    write(tmp_path / "classes/0.CSV", "0.5,0,0,0.5,0,0,1\n")
    assert len(class_tables.Table.parse(str(tmp_path / "classes")).systems) == 1
    write(tmp_path / "shaders/A.FRAG", "void main() {}")
    assert [c.name for c in shader_folders.read(str(tmp_path / "shaders"))] == ["A"]


def captions_by_stem(folder: Path) -> dict[str, str]:
    from data import caption_files

    return caption_files.by_stem(folder, cifar10.SOURCE)


def test_two_caption_files_that_differ_in_case_are_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "folder/a.jpg", 0)
    for name in ("a.txt", "a.TXT"):
        write(tmp_path / "folder" / name, name)
    with pytest.raises(UserError, match=r"a.TXT and a.txt look equal; keep one"):
        prepare(tmp_path / "folder")
    with pytest.raises(UserError, match=r"holds a.TXT and a.txt; keep one"):
        captions_by_stem(tmp_path / "folder")


# Row 10: names and texts from outside on their way to JSON, Parquet and the terminal.

ODD = "caf\udce9"  # Latin-1 where UTF-8 is expected


def test_a_member_whose_name_is_not_utf_8_is_named_in_place_and_left_out_elsewhere(tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(coloured()), "PNG")
    members = [("a.png", picture), (f"{ODD}.png", picture), (f"{ODD}.txt", b"a")]
    place = write_tar(tmp_path / "tars/00000.tar", members).parent
    with pytest.raises(
        UserError, match=r"sample caf.udce9 of .* cannot be used: its name is not UTF-8"
    ) as error:
        adopt(place)
    str(error.value).encode()
    [row] = adopt(place, "--out", tmp_path / "out", "--size", SIDE)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert row["left_out"] == 1 and manifest["left_out"][0]["name"] == "00000.tar/caf\\udce9"
    with pytest.raises(UserError, match=r"00000.tar has the key caf.udce9 twice") as error:
        adopt(write_tar(tmp_path / "twice/00000.tar", [members[1], members[0], members[1]]).parent)
    str(error.value).encode()


def spoil_tar_name(root: Path) -> object:
    return adopt(write_tar(root / f"{ODD}-00000.tar", [("a.png", b"")]).parent)


def spoil_folder(root: Path) -> object:
    write_picture(root / f"{ODD}.png", 0)
    return sources.of_folder(str(root))


def spoil_jsonl(root: Path) -> object:
    write_picture(root / "a.png", 0)
    lines = ['{"file_name": "a.png", "text": "a"}', '{"file_name": "a\\ud83d.png", "text": "a"}', ""]
    write(root / "c.jsonl", "\n".join(lines))
    return prepare(root, "--captions", "c.jsonl")


def spoil_coco(root: Path) -> object:
    for folder in ("train2014", "val2014"):
        write_picture(root / folder / "1.jpg", 0)
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "license": 1}],
            "annotations": [{"id": 1, "image_id": 1, "caption": "a"}],
            "licenses": [{"id": 1, "url": "http://\ud83d"}],
        }
        write(root / f"annotations/captions_{folder}.json", json.dumps(content))
    return prepare_set("coco", root, root.parent / "out")


@pytest.mark.parametrize("spoil", [spoil_tar_name, spoil_folder, spoil_jsonl, spoil_coco])
def test_names_and_texts_that_are_not_utf_8_get_a_sentence(
    spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"(udce9|ud83d)") as error:
        spoil(tmp_path / "root")
    str(error.value).encode()
    assert not (tmp_path / "out").exists()


def test_a_shader_with_a_name_that_is_not_utf_8_is_stored_with_it_escaped(tmp_path: Path) -> None:
    write(tmp_path / f"{ODD}.frag", "void main() {}")
    page = [
        {"info": {"id": "a\ud83d", "username": "b\ud83d"}, "renderpass": [{"code": "void mainImage() {}"}]}
    ]
    write(tmp_path / "page.json", json.dumps(page))
    bare, shadertoy = shader_folders.read(str(tmp_path))
    assert (bare.name, shadertoy.name, shadertoy.author) == ("caf\\udce9", "a\\ud83d", "b\\ud83d")


# Row 11: downloads that stopped.


@pytest.mark.parametrize("way", ["in place", "rewritten"])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_tar_cut_between_members_is_no_smaller_set(kept: int, way: str, tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(coloured()), "PNG")
    path = write_tar(tmp_path / "tars/00000.tar", [(f"{i}.png", picture) for i in range(4)])
    with tarfile.open(path) as tar:
        end = tar.getmembers()[kept].offset
    path.write_bytes(path.read_bytes()[:end])
    more = () if way == "in place" else ("--out", tmp_path / "out", "--size", SIDE)
    with pytest.raises(
        UserError, match=rf"00000.tar is cut after {kept - 1}.png: its end mark is missing; fetch"
    ):
        adopt(path.parent, *more)
    assert not (path.parent / "manifest.json").exists() and not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("blocks", [1, 2, 20])
def test_an_end_mark_of_any_length_ends_a_tar(form: int, blocks: int, tmp_path: Path) -> None:
    name = f"{'long/' * 40 if form != tarfile.USTAR_FORMAT else ''}0.png"
    path = write_tar(tmp_path / "00000.tar", [(name, b"x" * 700)], format=form)
    with tarfile.open(path) as tar:
        [member] = tar.getmembers()
        end = member.offset_data + 1024
    path.write_bytes(path.read_bytes()[:end] + bytes(512 * blocks))
    with path.open("rb") as file:
        assert [list(files) for _, files in tars.read(file, "a.tar")] == [["png"]]
    with path.open("rb") as file, pytest.raises(UserError, match="end mark is missing"):
        list(tars.read(io.BytesIO(file.read(end)), "a.tar"))


@pytest.mark.parametrize("suffix", ["part", "aria2", "crdownload", "tmp"])
def test_a_download_that_has_not_ended_is_named(suffix: str, tmp_path: Path) -> None:
    place = write_tar(tmp_path / "00000.tar", [("0.png", encoded(Image.fromarray(coloured()), "PNG"))]).parent
    write(place / f"00001.tar.{suffix}", "")
    before = states(place)
    with pytest.raises(
        UserError, match=rf"00001.tar is a download that has not ended, as 00001.tar.{suffix} shows"
    ):
        adopt(place)
    assert states(place) == before


# Row 12: foreign files under our names.

FOREIGN = {
    "a list": "[]",
    "an object": '{"name": "an app", "icons": []}',
    "a text": "no JSON",
    "another format": '{"format": 99, "samples": 3}',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("name", ["manifest.json", "00000.json", "splits.json"])
def test_a_file_of_another_program_is_never_advised_to_be_removed(
    name: str, content: str, tmp_path: Path
) -> None:
    picture = encoded(Image.fromarray(coloured()), "PNG")
    place = write_tar(tmp_path / "00000.tar", [("0.png", picture)]).parent
    write(place / name, content)
    before = states(place)
    with pytest.raises(UserError) as error:
        if name == "splits.json":
            write_picture(tmp_path.with_name("originals") / "a.png", 0)
            prepare_set(
                "folder", tmp_path.with_name("originals"), place, "--captions", "none", "--test-share", 0
            )
        adopt(place)
        ledger.load(Folder(str(place)))
    assert "remove" not in str(error.value) and str(error.value).endswith("give another --out")
    assert states(place) == before


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_readers_of_a_foreign_manifest_are_told_to_give_a_set(content: str, tmp_path: Path) -> None:
    write(tmp_path / "manifest.json", content)
    with pytest.raises(UserError, match=r"manifest.json is not exnihilo's.*; give a folder that holds a set"):
        ShardSet(str(tmp_path))


def test_a_split_of_another_program_is_not_advised_to_be_removed(tmp_path: Path) -> None:
    write_picture(tmp_path / "folder/a.png", 0)
    write(tmp_path / "out/val/manifest.json", "{}")
    with pytest.raises(UserError, match=r"val/manifest.json is not exnihilo's; give another --out"):
        prepare(tmp_path / "folder", "--captions", "none")


# Row 15: names that are equal to a person.


def test_names_that_look_equal_are_matched(tmp_path: Path) -> None:
    assert COMPOSED != DECOMPOSED
    root = tmp_path / "folder"
    write_picture(root / f"a/{DECOMPOSED}.jpg", 0)
    write_picture(root / f"{COMPOSED}2.jpg", 1)
    expected = {f"a/{DECOMPOSED}.jpg": ["one"], f"{COMPOSED}2.jpg": ["two"]}

    # Tables by path and by name alone, with the separators of Windows, and JSON.
    tables = {
        "c.csv": f"image,caption\na\\{COMPOSED}.jpg,one\n{DECOMPOSED}2.JPG,two\n",
        "d.csv": f"image,caption\n{COMPOSED}.jpg,one\n{COMPOSED}2.jpg,two\n",
        "e.jsonl": "".join(
            json.dumps({"file_name": n, "text": t}) + "\n"
            for n, t in ((f"a/{COMPOSED}.jpg", "one"), (f"{DECOMPOSED}2.jpg", "two"))
        ),
    }
    for name, content in tables.items():
        write(root / name, content)
        assert prepare(root, "--captions", name) == expected

    # Files beside their pictures, and the caption file's own name.
    write(root / f"{COMPOSED}.csv", tables["c.csv"])
    assert prepare(root, "--captions", f"{DECOMPOSED}.csv") == expected
    write(root / f"a/{COMPOSED}.txt", "one")
    write(root / f"{DECOMPOSED}2.txt", "two")
    assert prepare(root) == expected


def test_a_licence_and_a_list_of_shaders_name_programs_that_look_equal(tmp_path: Path) -> None:
    write(tmp_path / f"shader_codes/{DECOMPOSED}.frag", "void main() {}")
    write(tmp_path / "shaders_list", f"shader_codes/{COMPOSED}.frag\n")
    write(tmp_path / "licences.csv", f"{COMPOSED},MIT\n")
    [program] = shader_folders.read(str(tmp_path))
    assert (program.licence, program.fault) == ("mit", None)


def test_names_that_several_pictures_look_like_are_not_guessed(tmp_path: Path) -> None:
    for number, name in enumerate((f"{COMPOSED}.jpg", f"{DECOMPOSED}.jpg")):
        write_picture(tmp_path / "folder" / name, number)
    write(tmp_path / "folder/c.csv", f"image,caption\n{COMPOSED}.JPG,one\n")
    with pytest.raises(UserError, match=r"2 pictures of .* are called; give their paths"):
        prepare(tmp_path / "folder", "--captions", "c.csv")
    write(tmp_path / "folder/d.csv", f"image,caption\n{COMPOSED}.jpg,one\n{DECOMPOSED}.jpg,two\n")
    expected = {f"{COMPOSED}.jpg": ["one"], f"{DECOMPOSED}.jpg": ["two"]}
    assert prepare(tmp_path / "folder", "--captions", "d.csv") == expected


# Row 16: pictures passed over.


def test_pictures_of_kinds_that_are_not_read_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "folder"
    for name in ("a.png", "b.jfif", "x/c.AVIF"):
        write(root / name, encoded(Image.fromarray(coloured()), "PNG"))
    assert list(originals.sizes(root, cifar10.SOURCE)) == ["a.png"]
    assert "2 pictures of" in (printed := capsys.readouterr().err)
    assert "not read, among them b.jfif; read are bmp, gif" in printed
    sources.of_folder(str(root))
    assert "are of a kind that is not read, among them b.jfif; read are jpeg, jpg" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["b.jfif", "b.HEIC", "x/b.avif"])
def test_a_table_that_names_a_picture_of_a_kind_that_is_not_read_gets_the_truth(
    name: str, tmp_path: Path
) -> None:
    root = tmp_path / "folder"
    write_picture(root / "a.png", 0)
    write(root / name, "anything")
    write(root / "c.csv", f"image,caption\na.png,one\n{name},two\n")
    with pytest.raises(
        UserError, match=rf"{name} has captions in .*, but is of a kind that is not read \(read are bmp"
    ):
        prepare(root, "--captions", "c.csv")


@pytest.mark.parametrize("extension", ["gif", "tif", "jfif"])
def test_a_tar_of_pictures_of_a_kind_that_is_not_read_gets_the_truth(extension: str, tmp_path: Path) -> None:
    place = write_tar(tmp_path / "00000.tar", [(f"0.{extension}", b"x")]).parent
    sentence = (
        rf"holds 0 pictures instead of one; \.{extension} is of a kind that is not read \(jpg, jpeg, png and"
    )
    with pytest.raises(UserError, match=sentence):
        adopt(place)
    with (place / "00000.tar").open("rb") as file, pytest.raises(UserError, match=sentence):
        list(shards.read_shard(file, "a.tar"))


# Row 17: separators and layouts of caption files.

LAYOUTS = {
    "semicolons.csv": 'image;caption\n1.jpg;"a cat; red"\n2.jpg;a dog, brown\n',
    "excel.csv": 'sep=;\nimage;caption\n1.jpg;"a cat; red"\n2.jpg;a dog, brown\n',
    "results.csv": "image_name| comment_number| comment\n1.jpg| 0| a cat; red\n2.jpg| 0| a dog, brown\n",
    "tabs.tsv": "image\tcaption\n1.jpg\ta cat; red\n2.jpg\ta dog, brown\n",
    "tabs.txt": "image\tcaption\r\n1.jpg\ta cat; red\r\n2.jpg\ta dog, brown\r\n",
    "Flickr8k.token.txt": "1.jpg#0\ta cat; red\n2.jpg#0\ta dog, brown\n",
    "results.token": "1.jpg#0\ta cat; red\n2.jpg#0\ta dog, brown\n",
    "mark.csv": '\ufeffimage;caption\n1.jpg;"a cat; red"\n2.jpg;a dog, brown\n',
    "commas.csv": 'image,caption\n1.jpg,a cat; red\n2.jpg,"a dog, brown"\n',
}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for number in (1, 2):
        write_picture(tmp_path / f"folder/{number}.jpg", number)
    return tmp_path / "folder"


def test_caption_files_of_the_usual_layouts_are_read(two: Path) -> None:
    for name, content in LAYOUTS.items():
        write(two / name, content)
        assert prepare(two, "--captions", name) == {"1.jpg": ["a cat; red"], "2.jpg": ["a dog, brown"]}


def test_quotes_between_bars_and_tabs_are_a_part_of_the_caption(two: Path) -> None:
    for name, separator in (("a.csv", "|"), ("a.tsv", "\t")):
        write(
            two / name,
            f'image{separator}caption\n1.jpg{separator}"stop" it says\n2.jpg{separator}a 5" nail\n',
        )
        assert prepare(two, "--captions", name) == {"1.jpg": ['"stop" it says'], "2.jpg": ['a 5" nail']}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("image/caption\n1.jpg/a\n", r"must name the columns, separated by commas, semicolons, tabs or bars"),
        (
            "image| caption\n1.jpg| a| b\n",
            r"line 2 has 3 columns, but the header has 2; columns are separated by bars",
        ),
        (
            "image;caption\n1.jpg;a; b\n",
            r"line 2 has 3 columns.*; put texts with semicolons in double quotes",
        ),
        ("1.jpg#0\ta cat\n2.jpg a dog\n", r"line 2 is no NAME#NUMBER, tab, CAPTION; correct it"),
    ],
)
def test_a_caption_file_of_another_layout_gets_a_sentence(content: str, sentence: str, two: Path) -> None:
    write(two / "c.csv", content)
    with pytest.raises(UserError, match=sentence):
        prepare(two, "--captions", "c.csv")


# Row 18: the owner's splits of Hugging Face's imagefolder.


def write_splits(root: Path, names: list[str], table: str) -> None:
    for number, split in enumerate(names):
        write_picture(root / split / "x/0.png", number)
        name = f"{'../' * table.count('/')}x/0.png"
        line = json.dumps({"file_name": name, "text": split}) + "\n"
        write(root / split / table, line if table.endswith("l") else f"file_name,text\n{name},{split}\n")


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (["train", "test"], "metadata.jsonl"),
        (["train", "validation", "test"], "metadata.csv"),
        (["train", "dev"], "c.jsonl"),
        (["train", "test"], "texts/c.csv"),
    ],
)
def test_the_owners_splits_of_an_imagefolder_are_kept(names: list[str], table: str, tmp_path: Path) -> None:
    write_splits(tmp_path / "root", names, table)
    prepare_set("folder", tmp_path / "root", tmp_path / "out", "--captions", table)
    for name in names:
        split = {"validation": "val", "dev": "val"}.get(name, name)
        [sample] = samples(tmp_path / "out" / split)
        assert (sample.metadata["source"], sample.captions) == (f"{name}/x/0.png", [name])
    law = json.loads((tmp_path / "out/splits.json").read_text())["law"]
    assert law == f"the owner's: {' and '.join(names)}"


def test_an_imagefolder_with_a_part_outside_of_its_splits_gets_a_sentence(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_splits(root, ["train", "test"], "metadata.jsonl")
    write_picture(root / "more/1.png", 5)
    with pytest.raises(UserError, match=r"more/1.png is in none of train and test; move it into one"):
        prepare_set("folder", root, tmp_path / "out", "--captions", "metadata.jsonl")
    (root / "test/metadata.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"test has no metadata.jsonl, though .*train/metadata.jsonl exists; add it"
    ):
        prepare_set("folder", root, tmp_path / "out", "--captions", "metadata.jsonl")
    assert not (tmp_path / "out").exists()


# Row 22: texts with a byte order mark.

MARKED = {"utf-8-sig": "utf-8-sig", "utf-16": "utf-16"}


@pytest.mark.parametrize("encoding", MARKED)
def test_texts_with_a_byte_order_mark_read_as_those_without(encoding: str, tmp_path: Path) -> None:
    texts = {
        "shader_codes/a.frag": "void main() { gl_FragColor = vec4(1.0); }\n",
        "shader_codes/page.json": json.dumps([{"renderpass": [{"code": "void mainImage() {}"}]}]),
        "shader_codes/" + "0" * 32 + ".fragment": "o = vec4(1);",
        "modes/" + "0" * 32 + ".fragment": "geekest False False",
        "shaders_list": "shader_codes/a.frag\nshader_codes/page.json\nshader_codes/"
        + "0" * 32
        + ".fragment\n",
        "licences.csv": "a,mit\npage,cc0\n",
        "classes/0.csv": "0.5,0,0,0.5,0,0,1\n",
    }
    for name, text in texts.items():
        write(tmp_path / "plain" / name, text)
        write(tmp_path / "marked" / name, text.encode(encoding))
    plain, marked = (shader_folders.read(str(tmp_path / kind)) for kind in ("plain", "marked"))
    assert marked == plain and [c.fault for c in plain] == [None] * 3
    tables = [class_tables.Table.parse(str(tmp_path / kind / "classes")) for kind in ("plain", "marked")]
    assert tables[0] == tables[1]


# Further: CIFAR-10's Python version.


def write_python(root: Path, protocol: int, *, texts: bool = False) -> Path:
    """Writes the Python version as its owner did (texts as bytes), or as later programs do."""
    folder = root / "cifar-10-batches-py"
    key: Callable[[str], Any] = (lambda k: k) if texts else str.encode
    for number in range(1, 7):
        name = "test_batch" if number == 6 else f"data_batch_{number}"
        pixels = np.random.default_rng(number).integers(0, 256, (4, 3072), dtype=np.uint8)
        content = {key("batch_label"): key(name), key("labels"): [0, 1, 2, 0], key("data"): pixels}
        write(folder / name, pickle.dumps(content, protocol))
    labels = {key("label_names"): [key(n) for n in ("airplane", "automobile", "bird")]}
    write(folder / "batches.meta", pickle.dumps(labels, protocol))
    return folder


@pytest.mark.parametrize(("protocol", "texts"), [(2, False), (2, True), (4, False), (5, True)])
def test_cifar10_is_read_from_its_python_version(protocol: int, texts: bool, tmp_path: Path) -> None:
    write_python(tmp_path / "root", protocol, texts=texts)
    prepare_set("cifar10", tmp_path / "root", tmp_path / "out", "--size", 32)
    train, test = samples(tmp_path / "out/train"), samples(tmp_path / "out/test")
    assert (len(train), len(test)) == (20, 4) and train[6].metadata["source"] == "data_batch_2/00002"
    expected = np.random.default_rng(2).integers(0, 256, (4, 3072), dtype=np.uint8)[2]
    assert (train[6].pixels == expected.reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert [s.captions for s in train[:3]] == [
        ["a photo of an airplane"],
        ["a photo of an automobile"],
        ["a photo of a bird"],
    ]


def test_cifar10_as_python_2_wrote_it_is_read(tmp_path: Path) -> None:
    """Python 2 wrote texts and the bytes of arrays by opcodes that Python 3 never writes."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    pixels = np.arange(2 * 6, dtype=np.uint8).reshape(2, 6)
    dtype = (
        b"cnumpy\ndtype\n"
        + short(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + short(b"b")
        + b"\x87R(K\x01K\x02K\x06\x86"
    )
    array += dtype + b"\x89T" + len(pixels.tobytes()).to_bytes(4, "little") + pixels.tobytes() + b"tb"
    write(tmp_path / "batch", b"\x80\x02}(" + short(b"data") + array + short(b"labels") + b"](K\x01K\x00eu.")
    content = pickled_arrays.read(tmp_path / "batch", cifar10.SOURCE)
    assert content["labels"] == [1, 0] and (content["data"] == pixels).all()


class Dangerous:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch made-by-a-pickle",)


HOSTILE: list[Any] = [
    Dangerous(),
    {b"data": Dangerous()},
    [np.zeros(3, np.uint8)],
    {b"data": np.array([Dangerous()], object)},
    {b"data": np.zeros(3)},
    {b"data": np.asfortranarray(np.zeros((2, 3), np.uint8))},
    {b"data": Path("a")},
]


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_pickle_of_anything_but_arrays_of_bytes_is_refused(
    number: int, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_python(tmp_path / "root", 2)
    write(folder / "data_batch_3", pickle.dumps(HOSTILE[number], protocol))
    with pytest.raises(
        UserError, match=r"data_batch_3 is not a pickled dictionary of arrays, numbers and texts"
    ):
        prepare_set("cifar10", tmp_path / "root", tmp_path / "out")
    assert not (tmp_path / "made-by-a-pickle").exists() and not (tmp_path / "out").exists()


ZEROS = np.zeros((2, 3072), np.uint8)
INCOMPLETE: list[tuple[str, dict[bytes, Any], str]] = [
    ("batches.meta", {b"names": []}, "batches.meta has no label_names"),
    ("data_batch_1", {b"labels": [0]}, "data_batch_1 holds no data and labels"),
    ("data_batch_1", {b"labels": [0], b"data": ZEROS}, "has not 3,072 bytes of data for each"),
    ("test_batch", {b"labels": [9, 0], b"data": ZEROS}, "of the class 9, and batches.meta names 3"),
    ("test_batch", {b"labels": ["x", 0], b"data": ZEROS}, "of the class 'x', and"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), INCOMPLETE, ids=[row[2] for row in INCOMPLETE])
def test_a_batch_without_its_parts_gets_a_sentence(
    name: str, content: Any, sentence: str, tmp_path: Path
) -> None:
    write(write_python(tmp_path / "root", 2) / name, pickle.dumps(content, 2))
    with pytest.raises(UserError, match=sentence):
        prepare_set("cifar10", tmp_path / "root", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [1, 40, 3000])
def test_a_batch_that_was_cut_is_refused(cut: int, tmp_path: Path) -> None:
    file = write_python(tmp_path / "root", 2) / "data_batch_5"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(UserError, match="data_batch_5 is not a pickled dictionary"):
        prepare_set("cifar10", tmp_path / "root", tmp_path / "out")
