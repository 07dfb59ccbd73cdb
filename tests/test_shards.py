import io
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import webdataset

from synth.errors import UserError
from synth.images import codecs
from synth.recipe import redraw
from synth.sets import shards
from synth.sets.shards import Shard, ShardSet, ShardWriter
from tests.kit import make_small


def test_shards_cover_every_index_once() -> None:
    plan = shards.plan("toy", 10, 4)
    assert plan == [Shard(f"toy-00000{i}.tar", i, 4 * i, count, of=3) for i, count in enumerate([4, 4, 2])]
    smaller = shards.plan("toy", 8, 4)
    assert [(s.file, s.first, s.count) for s in smaller] == [(s.file, s.first, s.count) for s in plan[:2]]
    assert len(shards.plan("toy", 1, 4)) == 1


def test_tars_are_plain_ustar_without_time_or_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with ShardWriter(str(path)) as writer:
        writer.add("000000000", {"png": b"12", "json": b"{}"})
    assert writer.size == path.stat().st_size
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["000000000.png", "000000000.json"]
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "") for m in members)
    assert path.read_bytes()[257:263] == b"ustar\0"


def test_a_shard_has_the_bytes_that_tarfile_writes(tmp_path: Path) -> None:
    samples = [
        (f"{7**i % 10**9:09d}", {"png": bytes(range(256)) * i, "json": b"{}" * 256 * (i % 3)})
        for i in range(25)
    ]
    expected = io.BytesIO()
    with tarfile.TarFile(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with ShardWriter(str(tmp_path / "shard.tar")) as writer:
        for key, files in samples:
            writer.add(key, files)
    assert (tmp_path / "shard.tar").read_bytes() == expected.getvalue()


def test_webdataset_iterates_what_was_written(undisturbed: Path) -> None:
    urls = str(undisturbed / "visual_atoms-{000000..000002}.tar")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing to the collector
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    assert [s["__key__"] for s in samples] == [f"{i:09d}" for i in range(40)]
    for sample in samples[::7]:
        assert sample["json"]["index"] == int(sample["__key__"])
        assert np.array_equal(np.asarray(sample["png"]), codecs.rgb(redraw(sample["json"])))


def test_samples_are_read_as_rgb_with_their_json(undisturbed: Path) -> None:
    shard_set = ShardSet(str(undisturbed))
    assert len(shard_set) == 40 and [s.count for s in shard_set.shards] == [16, 16, 8]
    sample = next(shard_set.read(shard_set.shards[1]))
    assert sample.key == "000000016" and sample.metadata["class"] == 16 and sample.captions == []
    assert sample.pixels.shape == (32, 32, 3) and sample.pixels.dtype == np.uint8


def test_captions_are_one_a_line(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "a.tar")) as writer:
        picture = codecs.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
        writer.add("a", {"jpg": picture, "txt": "a cat\nune bête\n".encode()})
    with (tmp_path / "a.tar").open("rb") as file:
        assert next(shards.read_shard(file, "a.tar")).captions == ["a cat", "une bête"]


def test_members_in_folders_have_their_path_as_key(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(folder := tarfile.TarInfo("./pictures"))
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("./pictures/a.txt", "./pictures/b.txt"):
            tar.addfile(tarfile.TarInfo(name))
    with (tmp_path / "a.tar").open("rb") as file:
        keys = [key for key, _ in shards.read_members(file, "a.tar")]
    assert keys == ["./pictures/a", "./pictures/b"]


@pytest.mark.slow
def test_a_long_shard_takes_no_memory_for_its_headers(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "a.tar")) as writer:
        writer.add("a", {"txt": b""})
        tracemalloc.start()
        for i in range(5000):
            writer.add(f"{i:09d}", {"txt": b""})
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 300_000


@pytest.mark.parametrize("cut", [700, 3000, 7001])
def test_a_cut_tar_names_the_member(finished: Path, cut: int) -> None:
    path = finished / "visual_atoms-000001.tar"
    path.write_bytes(path.read_bytes()[:cut])
    shard_set = ShardSet(str(finished))
    faults = r"(is damaged at 0000000\d\d\.|holds \d+ samples where)"
    with pytest.raises(UserError, match=rf"visual_atoms-000001\.tar {faults}"):
        list(shard_set.read(shard_set.shards[1]))


def test_a_tar_cut_between_members_is_short_of_samples(finished: Path) -> None:
    path = finished / "visual_atoms-000000.tar"
    with tarfile.open(path) as tar:
        end = tar.getmembers()[10].offset
    path.write_bytes(path.read_bytes()[:end])
    shard_set = ShardSet(str(finished))
    with pytest.raises(UserError, match="holds 5 samples where the manifest says 16; remove it and run"):
        list(shard_set.read(shard_set.shards[0]))


def test_a_header_with_a_damaged_size_is_told(finished: Path) -> None:
    path = finished / "visual_atoms-000001.tar"
    data = bytearray(path.read_bytes())
    data[124:135] = b"00000000009"
    path.write_bytes(data)
    shard_set = ShardSet(str(finished))
    with pytest.raises(UserError, match=r"000001\.tar is damaged at a member: .*; remove it and run"):
        shard_set.mapped(shard_set.shards[1])


def test_what_is_no_tar_is_told() -> None:
    with pytest.raises(UserError, match=r"x\.tar is damaged at its start"):
        list(shards.read_members(io.BytesIO(b"no tar at all" * 100), "x.tar"))


def test_a_sample_without_a_picture_is_told(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "a.tar")) as writer:
        writer.add("000000005", {"json": b"{}"})
    with (
        (tmp_path / "a.tar").open("rb") as file,
        pytest.raises(UserError, match=r"sample 000000005 of a\.tar holds 0 pictures"),
    ):
        list(shards.read_shard(file, "a.tar"))


@pytest.mark.parametrize(("codec", "extension"), [("png", "png"), ("webp", "webp"), ("jpeg", "jpg")])
def test_every_codec_makes_readable_sets(tmp_path: Path, codec: str, extension: str) -> None:
    make_small(tmp_path / codec, samples=4, codec=codec)
    shard_set = ShardSet(str(tmp_path / codec))
    for sample in shard_set.read(shard_set.shards[0]):
        difference = np.abs(sample.pixels.astype(int) - codecs.rgb(redraw(sample.metadata)))
        assert difference.max() <= (0 if codec != "jpeg" else 40)
    with tarfile.open(tmp_path / codec / "visual_atoms-000000.tar") as tar:
        assert tar.getnames()[0] == f"000000000.{extension}"
