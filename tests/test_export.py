"""Exports: tars with a picture, its caption and its JSON, through the commit protocol."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption import export
from caption.cli import app
from caption.endpoint import Endpoint
from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import ShardSet
from tests.kit import (
    chat_server,
    invoke,
    json_lines,
    make_small,
    make_tables,
    states,
    tar_hashes,
    write_foreign,
)


def run(tables: Path, pictures: Path, out: Path, *more: object) -> dict[str, Any]:
    words = ["export", tables, "--shards", pictures, "--out", out, "--workers", 0, *more]
    [row] = json_lines(invoke(app, *words, raising=True))
    return row


def members(place: Path) -> dict[str, dict[str, bytes]]:
    """Every sample of a set as stored: files by extension, by key."""
    shard_set = ShardSet(str(place))
    return dict(sample for shard in shard_set.shards for sample in shard_set.verified(shard))


def captions(tables: Path) -> dict[str, list[str]]:
    caption_set = CaptionSet(str(tables))
    rows = (caption_set.read(part, ["key", "caption"]).to_pylist() for part in caption_set.parts)
    return {row["key"]: row["caption"] for part in rows for row in part}


def texts(place: Path) -> dict[str, str]:
    return {key: files["txt"].decode() for key, files in members(place).items()}


def test_pictures_and_json_are_those_of_the_shards_and_texts_those_of_the_tables(
    undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    row = run(captioned, undisturbed, tmp_path / "long")
    assert (row["pictures"], row["exported"], row["left_out"]) == (40, 40, 0)
    run(captioned, undisturbed, tmp_path / "short", "--caption", "short")
    run(captioned, undisturbed, tmp_path / "all", "--caption", "all")
    sentences, before = captions(captioned), members(undisturbed)
    assert texts(tmp_path / "short") == {key: short for key, (short, _) in sentences.items()}
    assert texts(tmp_path / "long") == {key: long for key, (_, long) in sentences.items()}
    assert texts(tmp_path / "all") == {key: "\n".join(lines) for key, lines in sentences.items()}
    for key, files in members(tmp_path / "long").items():
        assert list(files) == ["png", "json", "txt"]
        assert before[key] == {name: files[name] for name in ("png", "json")}


def test_a_random_caption_is_a_function_of_the_seed(
    undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(captioned, undisturbed, tmp_path / name, "--caption", "random", "--seed", seed)
    first, again, other = (texts(tmp_path / name) for name in "abc")
    sentences = captions(captioned)
    drawn = [sentences[key].index(text) for key, text in first.items()]
    assert first == again != other and 8 < sum(drawn) < 32


def test_vectors_and_classes_come_on_request(undisturbed: Path, captioned: Path, tmp_path: Path) -> None:
    run(captioned, undisturbed, tmp_path / "out", "--embeddings", "--classes")
    tables = CaptionSet(str(captioned))
    stored = {
        name: np.concatenate([tables.vectors(p, name) for p in tables.parts])
        for name in ("image_embedding", "pseudo_caption")
    }
    for row, files in enumerate(members(tmp_path / "out").values()):
        assert int(files["cls"]) == json.loads(files["json"])["class"] == row
        for name, vectors in stored.items():
            assert np.array_equal(np.load(io.BytesIO(files[f"{name}.npy"])), vectors[row])


def test_sizes_and_checksums_are_those_of_the_tars(
    undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    run(captioned, undisturbed, out := tmp_path / "out")
    assert json.loads((out / "sizes.json").read_text()) == {
        f"visual_atoms-long-{i:06d}.tar": count for i, count in enumerate((16, 16, 8))
    }
    assert (
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=False).returncode
        == 0
    )
    card = (out / "README.md").read_text()
    assert '"visual_atoms-long-{000000..000002}.tar"' in card and ShardSet(str(out)).digest in card
    assert "use at most 3 workers" in card


def test_an_export_is_resumed_grows_with_its_set_and_is_not_replaced_unasked(
    finished: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    tables, out = tmp_path / "tables", tmp_path / "out"
    make_tables(finished, tables, tiny_encoder)
    run(tables, finished, out)
    before, whole = states(out), tar_hashes(out)
    assert run(tables, finished, out)["exported"] == 0 and states(out) == before
    (out / "manifest.json").unlink()
    (out / "visual_atoms-long-000001.tar").write_bytes(b"cut")
    assert run(tables, finished, out)["exported"] == 16 and tar_hashes(out) == whole
    make_small(finished, samples=48)
    make_tables(finished, tables, tiny_encoder)
    assert run(tables, finished, out)["exported"] == 16  # the last tar, which had 8 of them
    assert len(ShardSet(str(out))) == 48
    with pytest.raises(UserError, match=r"export\.caption is long there and short here"):
        run(tables, finished, out, "--caption", "short")
    assert run(tables, finished, out, "--caption", "short", "--overwrite")["exported"] == 48


def test_one_caption_of_a_real_picture_is_chosen_and_none_leaves_it_out(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    lines = [b"a cat\na cat on  a mat", b"", b"one"]
    make_tables(
        write_foreign(tmp_path / "s", [{"txt": text} for text in lines]), tmp_path / "t", tiny_encoder
    )
    row = run(tmp_path / "t", tmp_path / "s", tmp_path / "out")
    assert (row["pictures"], row["left_out"]) == (2, 1)
    assert texts(tmp_path / "out") == {"photo_0": "a cat on a mat", "photo_2": "one"}
    assert json.loads((tmp_path / "out/sizes.json").read_text()) == {"toy-long-000000.tar": 2}
    before = states(tmp_path / "out")
    run(tmp_path / "t", tmp_path / "s", tmp_path / "out")
    assert states(tmp_path / "out") == before
    with pytest.raises(UserError, match=r"sample photo_0 has no number of a class; leave --classes out"):
        run(tmp_path / "t", tmp_path / "s", tmp_path / "classes", "--classes")


def test_captions_of_a_captioner_are_exported_on_request(tiny_encoder: Path, tmp_path: Path) -> None:
    write_foreign(tmp_path / "s", [{"txt": b"a cat"}, {}])
    with chat_server() as server:
        model = Endpoint(f"{server}/v1", "tiny", pause=0.01)
        make_tables(tmp_path / "s", tmp_path / "t", tiny_encoder, endpoint=model)
    tables = CaptionSet(str(tmp_path / "t"))
    column = tables.read(tables.parts[0], ["synthetic_caption"])["synthetic_caption"]
    run(tmp_path / "t", tmp_path / "s", tmp_path / "out", "--caption", "synthetic")
    assert list(texts(tmp_path / "out").values()) == [text for row in column.to_pylist() for text in row]
    assert "by the captioner `tiny`" in (tmp_path / "out/README.md").read_text()
    assert ShardSet(str(tmp_path / "out")).manifest["identity"]["dataset"] == "toy-synthetic"
    run(tmp_path / "t", tmp_path / "s", tmp_path / "long")
    assert texts(tmp_path / "long") == {"photo_0": "a cat"}


@pytest.mark.parametrize("number", ["true", '"1"', "1.5"])
def test_a_class_that_is_no_number_is_refused(number: str, tiny_encoder: Path, tmp_path: Path) -> None:
    write_foreign(tmp_path / "s", [{"txt": b"one", "json": f'{{"class": {number}}}'.encode()}])
    make_tables(tmp_path / "s", tmp_path / "t", tiny_encoder)
    with pytest.raises(UserError, match="the JSON of sample photo_0 has no number of a class"):
        run(tmp_path / "t", tmp_path / "s", tmp_path / "out", "--classes")


def test_keys_may_have_folders(tiny_encoder: Path, tmp_path: Path) -> None:
    write_foreign(tmp_path / "s", [{"txt": b"one"}, {"txt": b"two"}], stem="part 1/photo_")
    make_tables(tmp_path / "s", tmp_path / "t", tiny_encoder)
    run(tmp_path / "t", tmp_path / "s", tmp_path / "out")
    assert texts(tmp_path / "out") == {"part 1/photo_0": "one", "part 1/photo_1": "two"}
    assert '"fullpath"' in (tmp_path / "out/croissant.json").read_text()


def test_an_export_is_a_set_that_can_be_captioned(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    run(captioned, undisturbed, tmp_path / "out")
    make_tables(tmp_path / "out", tmp_path / "tables", tiny_encoder)
    assert captions(tmp_path / "tables") == {key: [text] for key, text in texts(tmp_path / "out").items()}
    assert "text_embedding" in CaptionSet(str(tmp_path / "tables")).columns


def test_the_usual_place_of_the_shards_is_found_by_their_name(
    undisturbed: Path, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(undisturbed, "data/shards/visual_atoms")
    [row] = json_lines(invoke(app, "export", captioned, "--caption", "short", "--workers", 0, raising=True))
    assert row["out"] == str(tmp_path / "data/shards/visual_atoms-short")


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_small(tmp_path / "other", samples=8, seed=1)
    make_tables(write_foreign(tmp_path / "s", [{}, {}]), tmp_path / "mute", tiny_encoder)
    for tables, pictures, more, sentence in (
        (
            captioned,
            undisturbed,
            ["--caption", "both"],
            "'both'; known are long, short, random, all, synthetic",
        ),
        (
            captioned,
            undisturbed,
            ["--caption", "synthetic"],
            "no captions of a captioner; `python -m caption",
        ),
        (captioned, undisturbed, ["--seed", -1], "--seed is -1; it must be at least 0"),
        (captioned, undisturbed, ["--caption", "short", "--seed", 7], "--caption short draws nothing; leave"),
        (captioned, tmp_path / "other", [], "were made for another set of shards"),
        (tmp_path / "mute", tmp_path / "s", [], r"no sample of .*00000\.parquet has a caption"),
    ):
        with pytest.raises(UserError, match=sentence):
            run(tables, pictures, tmp_path / "out", *more)
        assert not list(tmp_path.glob("out/*.tar")) and not (tmp_path / "out/manifest.json").exists()


def test_an_export_does_not_replace_its_own_pictures(finished: Path, captioned: Path) -> None:
    before = tar_hashes(finished)
    with pytest.raises(UserError, match="which holds the pictures themselves; give another --out"):
        run(captioned, finished, finished, "--overwrite")
    assert tar_hashes(finished) == before


def test_a_table_with_other_keys_than_its_tar_is_named(
    undisturbed: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verified = shards.ShardSet.verified
    monkeypatch.setattr(
        shards.ShardSet, "verified", lambda *a: ((f"x{key}", files) for key, files in verified(*a))
    )
    with pytest.raises(UserError, match=r"000000\.parquet and .*000000\.tar do not agree: .* key x000000000"):
        run(captioned, undisturbed, tmp_path / "out")


@pytest.mark.parametrize("choice", export.CHOICES)
def test_a_sample_without_captions_has_an_empty_text(choice: str) -> None:
    assert export.chosen([], choice, 0, 0) == export.chosen([" ", "\n"], choice, 0, 0) == ""
    assert export.chosen(["a\nb"], choice, 0, 0) == "a b"


@pytest.mark.soak
def test_two_workers_export_what_one_does(
    undisturbed: Path, captioned: Path, tmp_path: Path, ray_session: None
) -> None:
    for name, workers in (("one", 0), ("two", 2)):
        request = export.ExportRequest(
            str(captioned), str(undisturbed), str(tmp_path / name), workers=workers, embeddings=True
        )
        list(export.make_export(request))
    assert tar_hashes(tmp_path / "one") == tar_hashes(tmp_path / "two")
