"""Tars as img2dataset writes them, used in place and rewritten."""

import hashlib
import io
import json
import shutil
import tarfile
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caption.table import CaptionSet
from data.cli import app
from data.img2dataset import adoption, prepare, tars
from synth import verify
from synth.errors import UserError
from synth.images.codecs import decode, rgb
from synth.sets import completion, ledger
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from tests.kit import invoke, json_lines, make_small, make_tables, samples, states


def jpeg(number: int, *, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def sample(key: str, number: int, **files: bytes | None) -> dict[str, Any]:
    """A sample as img2dataset writes it, or with other files; None: without this one."""
    metadata = {
        "caption": f"text {number}",
        "url": f"http://x/{number}.jpg",
        "key": key,
        "status": "success",
        "exif": "{}",
        "width": 32,
    }
    members: dict[str, Any] = {
        "__key__": key,
        "jpg": jpeg(number),
        "txt": f"text {number}".encode(),
        "json": json.dumps(metadata).encode(),
    }
    members |= files
    return {name: data for name, data in members.items() if data is not None}


def write_tar(place: Path, name: str, contents: list[dict[str, Any]]) -> None:
    """Writes a tar and its statistics as img2dataset does, by webdataset's own writer."""
    import webdataset

    place.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(place / name)) as writer:
        for content in contents:
            writer.write(content)
    stem = name.removesuffix(".tar")
    (place / f"{stem}_stats.json").write_text(
        json.dumps({"count": len(contents) + 2, "successes": len(contents), "failed_to_download": 2})
    )
    (place / f"{stem}.parquet").write_bytes(b"PAR1")


def fetched(place: Path, changes: dict[str, dict[str, bytes | None]] | None = None) -> Path:
    """Two tars of five samples; `changes` gives some samples other files."""
    for shard in range(2):
        keys = [f"{shard:05d}{i:04d}" for i in range(5)]
        contents = [sample(key, 10 * shard + i, **(changes or {}).get(key, {})) for i, key in enumerate(keys)]
        write_tar(place, f"{shard:05d}.tar", contents)
    (place / "README.md").write_text("mine")
    return place


def run(*arguments: object) -> list[dict[str, Any]]:
    words = ("--root", *arguments, *(() if "--workers" in arguments else ("--workers", 0)))
    return json_lines(invoke(app, "img2dataset", *words, raising=True))


OWN = {
    "00000.tar",
    "00000.parquet",
    "00000_stats.json",
    "00001.tar",
    "00001.parquet",
    "00001_stats.json",
    "README.md",
}


def test_tars_are_described_where_they_lie_and_not_touched(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    before = states(place)
    [row] = run(place)
    assert (row["prepared"], row["pictures"], row["captions"]) == (10, 10, 10)
    after = states(place)
    assert before.items() <= after.items()
    assert {p.name for p in after} - OWN == {"00000.json", "00001.json", "manifest.json"}
    shard_set = ShardSet(str(place))
    assert [(s.file, s.first, s.count) for s in shard_set.shards] == [
        ("00000.tar", 0, 5),
        ("00001.tar", 5, 5),
    ]
    for name, sha256 in shard_set.sha256.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == sha256
    assert shard_set.manifest["identity"] == {"dataset": "cc3m", "law": 1, "adopted": True, "size": 32}
    assert [row["prepared"] for row in run(place)] == [0] and states(place) == after
    assert all(damage is None for _, damage in verify.damages(shard_set, verify.redrawable(shard_set)))
    assert verify.about_sample(str(place), "000010003")["url"] == "http://x/13.jpg"


@pytest.mark.parametrize("way", ["in place", "rewritten"])
def test_webdataset_reads_the_same_keys_captions_and_pictures(way: str, tmp_path: Path) -> None:
    import webdataset

    place = fetched(tmp_path / "cc3m", {"000000001": {"jpg": jpeg(7, mode="L")}})
    run(place, *(["--out", tmp_path / "out", "--size", 16] if way == "rewritten" else []))
    out = tmp_path / "out" if way == "rewritten" else place
    shard_set = ShardSet(str(out))
    ours = [(s.key, s.captions, s.pixels) for s in samples(out)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves closing to the collector
        theirs = list(
            webdataset.WebDataset([str(out / s.file) for s in shard_set.shards], shardshuffle=False)
        )
    assert [(key, text) for key, text, _ in ours] == [(t["__key__"], [t["txt"].decode()]) for t in theirs]
    assert all(
        (pixels == rgb(decode(t.get("jpg", t.get("png"))))).all()
        for (_, _, pixels), t in zip(ours, theirs, strict=True)
    )


def test_rewritten_tars_are_a_set_of_shards_of_squares(tmp_path: Path) -> None:
    broken: dict[str, dict[str, bytes | None]] = {
        "000000001": {"jpg": jpeg(1, size=(48, 30))},
        "000000002": {"jpg": b"no picture"},
    }
    broken |= {"000010000": {"txt": None}, "000010001": {"jpg": None}, "000010002": {"json": b"["}}
    broken |= {"000010003": {"txt": b"\xff\xfe"}, "000010004": {"txt": b"a\nb"}}
    place = fetched(tmp_path / "cc3m", broken)
    before = states(place)
    options = ["--size", 16, "--codec", "webp", "--name", "web", "--licence", "none"]
    command = (place, "--out", tmp_path / "out", *options)
    [row] = run(*command)
    assert states(place) == before and (row["pictures"], row["prepared"], row["left_out"]) == (6, 6, 4)
    rewritten = {s.key: s for s in samples(tmp_path / "out")}
    assert list(rewritten) == ["000000000", "000000001", "000000003", "000000004", "000010000", "000010004"]
    assert all(s.pixels.shape == (16, 16, 3) for s in rewritten.values())
    assert rewritten["000010000"].captions == ["text 10"] and rewritten["000010004"].captions == ["a", "b"]
    metadata = rewritten["000000001"].metadata
    assert (metadata["original_size"], metadata["crop"], metadata["filter"]) == (
        [48, 30],
        [9, 0, 39, 30],
        "lanczos",
    )
    assert metadata["source"] == "00000.tar/000000001"
    assert metadata["original"]["url"] == "http://x/1.jpg"
    assert "caption" not in metadata["original"]
    manifest = ShardSet(str(tmp_path / "out")).manifest
    reasons = {o["name"]: o["reason"] for o in manifest["left_out"]}
    assert list(reasons) == [
        "00000.tar/000000002",
        "00001.tar/000010001",
        "00001.tar/000010002",
        "00001.tar/000010003",
    ]
    assert "does not decode" in reasons["00000.tar/000000002"]
    assert "0 pictures instead of one" in reasons["00001.tar/000010001"]
    assert manifest["licence"] == "none" and manifest["identity"]["dataset"] == "web"
    assert "`00000.tar/000000002`" in (tmp_path / "out/README.md").read_text()
    after = states(tmp_path)
    assert [row["prepared"] for row in run(*command)] == [0]
    assert states(tmp_path) == after


def test_what_others_json_may_hold_is_stored_or_named(tmp_path: Path) -> None:
    broken: dict[str, dict[str, bytes | None]] = {"000000000": {"json": b'{"similarity": NaN, "params": 3}'}}
    broken |= {
        "000000001": {"json": b'{"url": "\\ud83d"}'},
        "000000002": {"txt": None, "json": b'{"caption": "\\ud83d"}'},
    }
    broken |= {"000000003": {"txt": None, "json": b'{"caption": ["a\\nb", "c"]}'}}
    place = fetched(tmp_path / "cc3m", broken)
    write_tar(place, "00002.tar", [sample("k" * 91, 0), sample("k" * 90, 1)])
    run(place, "--out", tmp_path / "out", "--size", 8)
    rewritten = {s.key: s for s in samples(tmp_path / "out")}
    assert rewritten["000000000"].metadata["original"] == {"similarity": None, "params": 3}
    assert rewritten["000000003"].captions == ["a b", "c"] and "k" * 90 in rewritten
    left_out = {
        o["name"].split("/")[1][-3:]: o["reason"]
        for o in ShardSet(str(tmp_path / "out")).manifest["left_out"]
    }
    assert list(left_out) == ["001", "002", "kkk"] and "longer than 90 bytes" in left_out["kkk"]
    assert "its .json cannot be stored" in left_out["001"]
    assert "the caption in its .json cannot be stored" in left_out["002"]


def test_samples_without_captions_stay_and_are_counted(tmp_path: Path, capsys: Any) -> None:
    place = fetched(tmp_path / "cc3m", {"000000003": {"txt": None, "json": b"{}"}})
    [row] = run(place)
    assert row["pictures"] == 10 and row["captions"] == 9
    assert ShardSet(str(place)).manifest["parts"][0]["content"]["without_captions"] == 1
    assert samples(place)[3].captions == []


@pytest.mark.parametrize("first", [False, True])
def test_an_empty_tar_without_successes_is_left_out_with_a_note(
    first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, name = fetched(tmp_path / "cc3m"), "00000.tar" if first else "00002.tar"
    write_tar(place, name, [])
    pictures = 5 if first else 10
    note = f"note: 1 tar without samples is left out, for img2dataset counted no successes: {name}\n"
    for more in ((), ("--out", tmp_path / "out", "--size", 16)):
        capsys.readouterr()
        [row] = json_lines(result := invoke(app, "img2dataset", "--root", place, "--workers", 0, *more))
        assert row["pictures"] == pictures and note in result.stderr
        assert [r["prepared"] for r in run(place, *more)] == [0]
    assert name not in ShardSet(str(place)).sha256
    assert ShardSet(str(tmp_path / "out")).manifest["empty_tars"] == [name]
    card = (tmp_path / "out/README.md").read_text()
    assert f"Tars that held no sample, and have no part here: `{name}`." in card
    numbers = [s.file for s in ShardSet(str(tmp_path / "out")).shards]
    assert numbers == [f"cc3m-{i:06d}.tar" for i in range(pictures // 5)]


def test_an_empty_tar_is_refused_if_others_may_hold_its_samples(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    write_tar(place, "00002.tar", [])
    (place / "00002_stats.json").unlink()
    with pytest.raises(UserError, match=r"00002.tar holds no samples; fetch it again"):
        run(place)
    (place / "00002_stats.json").write_text('{"successes": 0}')
    shutil.copy(place / "00001.tar", place / "00002.tar")
    with pytest.raises(UserError, match=r"00002.tar holds 5 samples, but img2dataset counted 0"):
        run(place)
    for number in range(3):
        write_tar(place, f"0000{number}.tar", [])
    with pytest.raises(
        UserError, match=r"no tar of .*cc3m holds a sample: img2dataset downloaded no picture"
    ):
        run(place)


def test_a_run_that_was_killed_goes_on_and_new_tars_are_added(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    run(place)
    whole = ShardSet(str(place)).digest
    for name in ("manifest.json", "00001.json"):
        (place / name).unlink()
    assert [row["prepared"] for row in run(place)] == [5] and ShardSet(str(place)).digest == whole
    write_tar(place, "00002.tar", [sample(f"00002000{i}", i) for i in range(3)])
    assert [(row["prepared"], row["pictures"]) for row in run(place)] == [(3, 13)]
    for name in ("00000.tar", "00000_stats.json"):
        (place / name).unlink()
    assert [(row["prepared"], row["pictures"]) for row in run(place)] == [(0, 8)]
    assert not (place / "00000.json").exists()
    (place / "00001.tar").unlink()
    write_tar(place, "00001.tar", [sample(f"00001000{i}", i) for i in range(4)])
    assert [(row["prepared"], row["pictures"]) for row in run(place)] == [(4, 7)]


@pytest.mark.slow
def test_tables_of_tars_that_move_have_the_new_row_numbers(tmp_path: Path, tiny_encoder: Path) -> None:
    place, tables = fetched(tmp_path / "cc3m"), tmp_path / "t"
    # A longer tar moves the rows of the next one. A tar at the end moves none.
    for tar, count, pictures in (("00000", 5, 10), ("00000", 9, 14), ("00002", 1, 1)):
        write_tar(place, f"{tar}.tar", [sample(f"{tar}000{i}", i) for i in range(count)])
        run(place)
        assert make_tables(place, tables, tiny_encoder).pictures == pictures
        caption_set = CaptionSet(str(tables))
        columns = (caption_set.read(part, ["index"])["index"].to_pylist() for part in caption_set.parts)
        assert [*chain.from_iterable(columns)] == list(range(len(caption_set)))


def test_a_rewritten_set_grows_and_shrinks_with_its_tars(tmp_path: Path) -> None:
    place, out = fetched(tmp_path / "cc3m"), tmp_path / "out"
    run(place, "--out", out, "--size", 8)
    write_tar(place, "00002.tar", [sample(f"00002000{i}", i) for i in range(3)])
    assert [(row["prepared"], row["pictures"]) for row in run(place, "--out", out, "--size", 8)] == [(3, 13)]
    for name in ("00002.tar", "00002_stats.json"):
        (place / name).unlink()
    assert [(row["prepared"], row["pictures"]) for row in run(place, "--out", out, "--size", 8)] == [(0, 10)]
    assert sorted(p.name for p in out.glob("*.tar")) == ["cc3m-000000.tar", "cc3m-000001.tar"]
    with pytest.raises(UserError, match="holds another set: size is 8 there and 16 here"):
        run(place, "--out", out, "--size", 16)
    assert [row["prepared"] for row in run(place, "--out", out, "--size", 16, "--overwrite")] == [10]


def test_nothing_removes_what_its_owner_wrote(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    records = states(place)
    run(place)
    with pytest.raises(
        UserError, match=r"dataset is cc3m there and other here; give another --out, or --overwrite"
    ):
        run(place, "--name", "other")
    assert [row["prepared"] for row in run(place, "--name", "other", "--overwrite")] == [10]
    for more in ({}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"give another --out$"):
            make_small(place, **more)
    with pytest.raises(UserError, match="holds the tars themselves; give another --out"):
        run(place, "--out", place, "--overwrite")
    (place / "manifest.json").unlink()
    (place / "00000.json").unlink()
    with pytest.raises(UserError, match="does not replace"):
        make_small(place, overwrite=True)
    for number in ("00007", "visual_atoms-000009"):  # what looks like a part, and no record names
        shutil.copy(place / "00000.tar", place / f"{number}.tar")
    work = adoption._Adoption(
        adoption.AdoptRequest(str(place), prepare.source_of(str(place), "other", ""), completion.Execution(0))
    )
    completion._remove_strays(work, ledger.load(work.storage))
    assert records.items() <= states(place).items() and (place / "00007.tar").exists()


def test_a_set_of_exnihilo_is_not_adopted(undisturbed: Path) -> None:
    before = states(undisturbed)
    for more in ((), ("--overwrite",)):
        with pytest.raises(UserError, match=r"holds (another set|a set that exnihilo made)"):
            run(undisturbed, *more)
    assert states(undisturbed) == before


def cut(place: Path) -> None:
    path = place / "00001.tar"
    path.write_bytes(path.read_bytes()[:6000])


def shorten(place: Path) -> None:
    """Cuts a tar between two samples, where no reader sees it."""
    path = place / "00001.tar"
    with tarfile.open(path) as tar:
        end = tar.getmembers()[6].offset
    path.write_bytes(path.read_bytes()[:end])


def shorten_and_end(place: Path) -> None:
    """Cuts a tar between two samples, and ends it as a whole one."""
    shorten(place)
    path = place / "00001.tar"
    path.write_bytes(path.read_bytes() + bytes(1024))


def again(place: Path) -> None:
    write_tar(place, "00002.tar", [sample(key, i) for i, key in enumerate(("000000003", "000020000"))])


def twice(place: Path) -> None:
    with tarfile.open(place / "00001.tar", "a") as tar:
        for name in ("000010004.jpg", "000010004.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))


def unlink(*names: str) -> Callable[[Path], None]:
    def unlinking(place: Path) -> None:
        for name in names:
            (place / name).unlink()

    return unlinking


def misname(place: Path) -> None:
    (place / "00000.tar").rename(place / "a.tar")
    (place / "00000_stats.json").unlink()


def spoilt(key: str, **files: bytes | None) -> Callable[[Path], Any]:
    return lambda place: fetched(place, {key: files})


LAST = "000010002"
BAD: list[tuple[Callable[[Path], Any], str, bool]] = [
    (
        spoilt(LAST, jpg=jpeg(1)[:400]),
        r"sample 000010002 of .*00001.tar cannot be used: its picture does not decode",
        True,
    ),
    (
        lambda p: fetched(p, {LAST: {"jpg": None}, "000010003": {"jpg": b""}}),
        r"0 pictures instead of one \(and 1 more of this",
        True,
    ),
    (
        spoilt(LAST, jpg=jpeg(1, size=(64, 64))),
        "has 64 x 64 pixels, but those before it 32 x 32; in place nothing can be left out",
        True,
    ),
    (spoilt(LAST, txt=b"\xff"), r"its .txt or .json is damaged", True),
    (spoilt(LAST, json=b"[]"), r"its .json is no object", True),
    (spoilt(LAST, txt=None, json=b'{"caption": 3}'), r"the caption in its .json is no text", True),
    (
        spoilt("000000000", jpg=jpeg(1, size=(48, 30))),
        r"no squares \(the first has 48 x 30 pixels\); give --out",
        True,
    ),
    (cut, r"00001.tar is damaged at .*fetch it again", False),
    (shorten, r"00001.tar is cut after 000010001.txt: its end mark is missing; fetch it again", False),
    (shorten_and_end, r"00001.tar holds 2 samples, but img2dataset counted 5; fetch it again", False),
    (again, "00000.tar and 00002.tar of .* both hold the key 000000003", True),
    (twice, "00001.tar has the key 000010004 twice", True),
    (unlink("00001.tar"), r"00001.tar is missing, but its 00001_stats.json exists", True),
    (
        unlink("00000.tar", "00001.tar", "00000_stats.json", "00001_stats.json"),
        "holds no .tar; img2dataset writes them with",
        True,
    ),
    (misname, "a.tar has no number of five digits", True),
    (
        lambda p: (p / "00000_stats.json").write_text("["),
        "00000_stats.json is not what img2dataset writes",
        True,
    ),
    (lambda p: (p / "00000.json").write_text('{"a": 1}'), "00000.json is no record", True),
]


@pytest.mark.parametrize(("spoil", "sentence", "untouched"), BAD, ids=[sentence for _, sentence, _ in BAD])
def test_what_cannot_be_used_in_place_gets_a_sentence(
    spoil: Callable[[Path], Any], sentence: str, untouched: bool, tmp_path: Path
) -> None:
    """And where no other fetching would mend it, nothing is left behind."""
    place = fetched(tmp_path / "cc3m")
    spoil(place)
    before = states(place)
    with pytest.raises(UserError, match=sentence) as error:
        run(place)
    assert "\n" not in str(error.value) and not (place / "manifest.json").exists()
    after = states(place)
    assert {p: s for p, s in after.items() if p in before and p != place} == {
        p: s for p, s in before.items() if p != place
    }
    assert (after.keys() == before.keys()) == untouched


def test_other_bad_requests_get_a_sentence(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    (tmp_path / "linked").symlink_to(place)
    for more, sentence in (
        (("--size", 16), "give --out too"),
        (("--codec", "png"), "give --out too"),
        (("--out", tmp_path / "out", "--size", 0), "--size is 0"),
        (
            ("--out", tmp_path / "linked", "--overwrite"),
            "linked, which holds the tars themselves; give another",
        ),
        (("--out", tmp_path / "out", "--codec", "gif"), "unknown codec 'gif'"),
        (("--workers", -1), "--workers is -1"),
        (("--name", "a b"), "--name is 'a b'"),
    ):
        with pytest.raises(UserError, match=sentence):
            run(place, *more)
    assert not (tmp_path / "out").exists() and not (place / "manifest.json").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    place = fetched(tmp_path / "cc3m")
    before = states(tmp_path)
    assert run(place, "--dry-run")[0]["bytes"] == 0
    assert run(place, "--out", tmp_path / "out", "--size", 16, "--dry-run")[0]["bytes"] > 0
    assert states(tmp_path) == before


def test_keys_that_mix_over_tars_are_read_again_and_compared(tmp_path: Path) -> None:
    place = tmp_path / "mixed"
    write_tar(place, "00000.tar", [sample("a", 0), sample("z", 1)])
    write_tar(place, "00001.tar", [sample("b", 2), sample("c", 3)])
    write_tar(place, "00002.tar", [sample("zz", 4)])
    assert [row["pictures"] for row in run(place)] == [5]
    assert [s.key for s in samples(place)] == ["a", "z", "b", "c", "zz"]
    opened: list[str] = []

    class Watched(Folder):
        def whole(self, name: str) -> Any:
            opened.append(name)
            return super().whole(name)

    ranges = {p["file"]: tuple(p["content"]["keys"]) for p in ShardSet(str(place)).manifest["parts"]}
    tars.require_unique(Watched(str(place)), ranges)
    assert opened == ["00000.tar", "00001.tar"]


def test_a_file_is_hashed_while_it_is_read_back_and_forth(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(5000)
    (tmp_path / "f").write_bytes(data)
    with (tmp_path / "f").open("rb") as plain:
        file = tars.HashedFile(plain)
        file.seek(100)
        assert file.read(50) == data[100:150]
        file.seek(120)
        assert file.read(100) == data[120:220] and file.tell() == 220
        file.seek(4000)
        file.read(1)
        file.seek(10)
        assert file.sha256() == hashlib.sha256(data).hexdigest() and file.tell() == 5000


def test_tars_in_a_bucket_are_described_and_rewritten(bucket: str, tmp_path: Path) -> None:
    import fsspec

    place = fetched(tmp_path / "cc3m")
    for path in place.iterdir():
        fsspec.filesystem("s3").put_file(str(path), f"{bucket.removeprefix('s3://')}/{path.name}")
    assert [row["prepared"] for row in run(bucket, "--out", f"{bucket}-small", "--size", 16)] == [10]
    assert [row["prepared"] for row in run(bucket)] == [10]
    assert [row["prepared"] for row in run(bucket)] == [0]
    assert [s.captions for s in samples(bucket)] == [
        [f"text {10 * t + i}"] for t in range(2) for i in range(5)
    ]
    assert ShardSet(f"{bucket}-small").manifest["identity"]["dataset"] == "atoms"


def test_two_workers_describe_tars_as_one_does(ray_session: None, tmp_path: Path) -> None:
    one, two = fetched(tmp_path / "one/cc3m".replace("/", "-")), tmp_path / "two"
    shutil.copytree(one, two)
    run(one, "--name", "web")
    run(two, "--name", "web", "--workers", 2)
    assert ShardSet(str(one)).digest == ShardSet(str(two)).digest
    bad = fetched(tmp_path / "bad", {"000010002": {"jpg": None}})
    with pytest.raises(UserError, match="sample 000010002"):
        run(bad, "--workers", 2)
    assert {p.name for p in bad.iterdir()} == OWN


@pytest.mark.parametrize("way", ["in place", "rewritten"])
def test_foreign_tars_go_through_captions_and_training_steps(
    way: str, tiny_encoder: Path, one_thread: None, tmp_path: Path
) -> None:
    from caption.table import CaptionSet
    from tests.kit_train import SETTINGS, losses, quiet
    from train.start.request import TrainRequest

    place = fetched(tmp_path / "cc3m")
    run(place, *(["--out", tmp_path / "out", "--size", 16] if way == "rewritten" else []))
    out = tmp_path / "out" if way == "rewritten" else place
    assert make_tables(out, tmp_path / "tables", tiny_encoder).pictures == 10
    tables = CaptionSet(str(tmp_path / "tables"))
    stored = [c for part in tables.parts for c in tables.read(part, ["caption"])["caption"].to_pylist()]
    assert stored == [s.captions for s in samples(out)]
    settings = (*SETTINGS, "run.tick=8")
    quiet(
        TrainRequest(
            "tiny-32",
            (str(out),),
            str(tmp_path / "run"),
            (str(tmp_path / "tables"),),
            images=16,
            settings=settings,
        )
    )
    assert [row["images_seen"] for row in losses(tmp_path / "run")] == [8, 16]
