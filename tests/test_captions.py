"""Caption tables from request to manifest, and what becomes of them when something goes wrong."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caption import encoders, pipeline, worker
from caption.cli import app
from caption.encoders import Encoder
from caption.table import CaptionSet, text_vectors
from synth.errors import UserError
from synth.sets import completion, places
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage
from tests.kit import (
    invoke,
    json_lines,
    kill_driver,
    make_small,
    make_tables,
    start,
    states,
    tar_hashes,
    write_foreign,
)


def hashes(out: object) -> dict[str, str]:
    return tar_hashes(out, ".parquet")


def test_tables_are_made_once_and_are_the_same_from_any_number_of_workers(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path, ray_session: None
) -> None:
    assert make_tables(undisturbed, tmp_path / "t", tiny_encoder, workers=2).pictures == 40
    assert hashes(tmp_path / "t") == hashes(captioned)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "t").iterdir()}
    assert make_tables(undisturbed, tmp_path / "t", tiny_encoder).pictures == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "t").iterdir()} == before
    assert CaptionSet(str(tmp_path / "t")).digest == CaptionSet(str(captioned)).digest


def test_the_sentences_are_those_of_the_sample(undisturbed: Path, captioned: Path) -> None:
    from caption.sentences.attributes import sentences

    tables, shard_set = CaptionSet(str(captioned)), ShardSet(str(undisturbed))
    stored = [c for part in tables.parts for c in tables.read(part, ["caption"])["caption"].to_pylist()]
    assert stored == [sentences(s.metadata) for shard in shard_set.shards for s in shard_set.read(shard)]
    assert all(len(row) == 2 for row in stored)


def test_a_grown_set_gets_only_the_tables_that_changed(
    finished: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(captioned, tmp_path / "tables"))
    make_small(finished, samples=70)
    assert make_tables(finished, out, tiny_encoder).pictures == 16 + 16 + 6  # the third shard was partial
    CaptionSet(str(out)).require_made_for(ShardSet(str(finished)))
    make_tables(finished, tmp_path / "fresh", tiny_encoder)
    again, fresh = CaptionSet(str(out)), CaptionSet(str(tmp_path / "fresh"))
    for part in fresh.parts:
        assert again.read(part, ["key", "index", "image_embedding", "pseudo_caption", "caption"]).equals(
            fresh.read(part, ["key", "index", "image_embedding", "pseudo_caption", "caption"])
        )
    assert make_tables(finished, out, tiny_encoder).pictures == 0


def test_other_terms_at_the_same_place_are_refused_or_replace_it(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(captioned, tmp_path / "tables"))
    before = hashes(out)
    for changes, sentence in (
        ({"xi": "lafite"}, r"xi is 0\.25 there and 3\.0 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"precision": "fp32" if encoders.has_bf16("cpu") else "bf16"}, "precision is"),
        ({"text_embeddings": True}, "text_embeddings is False there and True here"),
    ):
        with pytest.raises(UserError, match=sentence):
            make_tables(undisturbed, out, tiny_encoder, **changes)
    assert hashes(out) == before
    assert make_tables(undisturbed, out, tiny_encoder, xi="lafite", overwrite=True).pictures == 40
    assert CaptionSet(str(out)).identity["xi"] == 3.0


def test_unfinished_shards_say_how_many_are_missing(
    finished: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    for name in ("manifest.json", "visual_atoms-000001.json"):
        (finished / name).unlink()
    with pytest.raises(UserError, match="holds no finished set: 1 of 3 parts are missing"):
        make_tables(finished, tmp_path / "t", tiny_encoder)
    assert not (tmp_path / "t").exists()


def test_tables_of_an_earlier_version_stay_beside_their_manifest(
    finished: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    old, new = (Path(shutil.copytree(captioned, tmp_path / name)) for name in ("old", "new"))
    for table in (old / "tables").iterdir():
        table.rename(old / table.name)
    (old / "tables").rmdir()
    before = states(old)
    assert make_tables(finished, old, tiny_encoder).pictures == 0 and states(old) == before
    make_small(finished, samples=70)
    for place in (old, new):
        assert make_tables(finished, place, tiny_encoder).pictures == 16 + 16 + 6
    assert not (old / "tables").exists() and not list(new.glob("*.parquet"))
    assert CaptionSet(str(old)).digest == CaptionSet(str(new)).digest
    card = (old / "README.md").read_text()
    assert 'path: "*.parquet"' in card and (old / "SHA256SUMS").read_text().count("  visual_atoms-") == 5
    make_tables(finished, old, tiny_encoder, seed=1, overwrite=True)
    assert not (old / "tables").exists() and CaptionSet(str(old)).identity["seed"] == 1


def test_tables_of_a_url_have_their_folder(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, request: pytest.FixtureRequest
) -> None:
    place = f"memory://{request.node.name}"
    make_tables(undisturbed, place, tiny_encoder)
    assert hashes(place) == hashes(captioned)
    assert sorted(open_storage(place).sizes()) == sorted(p.name for p in captioned.iterdir() if p.is_file())
    tables = CaptionSet(place)
    assert tables.read(tables.parts[2], ["key"]).num_rows == 8
    assert make_tables(undisturbed, place, tiny_encoder).pictures == 0


def test_a_shard_that_was_changed_is_told_before_a_table_is_there(
    finished: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    tar = finished / "visual_atoms-000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    with pytest.raises(UserError, match=r"000001\.tar is not the file that its manifest describes"):
        make_tables(finished, tmp_path / "t", tiny_encoder)
    assert sorted(hashes(tmp_path / "t")) == ["visual_atoms-000000.parquet"]
    tar.unlink()
    with pytest.raises(UserError, match=r"000001\.tar is missing though the manifest names it"):
        make_tables(finished, tmp_path / "t", tiny_encoder)


def test_a_picture_that_does_not_decode_is_named(tiny_encoder: Path, tmp_path: Path) -> None:
    shards = write_foreign(
        tmp_path / "s", [{"txt": b"a"}] * 40 + [{"png": b"no picture", "txt": b"a"}] + [{"txt": b"a"}] * 3
    )
    with pytest.raises(UserError, match=r"sample photo_40 of .*00000\.tar does not decode"):
        make_tables(shards, tmp_path / "t", tiny_encoder)
    with pytest.raises(
        UserError,
        match="sample photo_1 has 32 x 32 pixels, but those before it 24 x 24; a set has one square size",
    ):
        make_tables(write_foreign(tmp_path / "u", [{}] * 2, sizes=(24, 32)), tmp_path / "v", tiny_encoder)


def test_peoples_captions_are_embedded_and_the_long_ones_cut_and_counted(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    long = " ".join(["red"] * 80)
    texts = [
        {"txt": f"a red cat\n{long}\n".encode()},
        {"json": json.dumps({"caption": "a dog"}).encode()},
        {"txt": b"a red cat"},
        {},
    ]
    summary = make_tables(write_foreign(tmp_path / "s", texts), tmp_path / "t", tiny_encoder)
    tables = CaptionSet(str(tmp_path / "t"))
    table = tables.read(tables.parts[0], ["key", "caption", "text_embedding"])
    assert table["key"].to_pylist() == [f"photo_{i}" for i in range(4)]
    assert table["caption"].to_pylist() == [["a red cat", long], ["a dog"], ["a red cat"], []]
    embedded = text_vectors(table["text_embedding"], 32)
    assert [len(v) for v in embedded] == [2, 1, 1, 0] and summary.cut == 1
    encoder = encoders.load(encoders.find(str(tiny_encoder)), "cpu", tables.identity["precision"])
    expected = encoder.texts(["a red cat", " ".join(["red"] * 62)])
    assert np.allclose(embedded[0], expected, atol=2e-3) and np.array_equal(embedded[0][0], embedded[2][0])


def test_captions_are_lines_of_utf_8_and_blank_ones_are_none(tiny_encoder: Path, tmp_path: Path) -> None:
    line = "one \u2028 line \x0b still"  # what only str.splitlines takes for ends of lines
    texts = [
        {"txt": f"\ufeff{line}\r\n\n  \n two \n".encode()},
        {"json": b'{"caption": ["a", " ", "b"]}'},
        {"json": b'{"caption": null}'},
    ]
    assert make_tables(write_foreign(tmp_path / "s", texts), tmp_path / "t", tiny_encoder).pictures == 3
    tables = CaptionSet(str(tmp_path / "t"))
    assert tables.read(tables.parts[0], ["caption"])["caption"].to_pylist() == [[line, "two"], ["a", "b"], []]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"txt": "café".encode("latin-1")}, "sample photo_1 of .* does not decode: 'utf-8' codec"),
        ({"json": b"[1, 2]"}, r"sample photo_1 of .* has a \.json that is no object, but \[1, 2\]"),
        (
            {"json": b'{"caption": 5}'},
            "the caption of sample photo_1 is 5; its JSON may have a text or a list of texts",
        ),
        ({"json": b'{"caption": ["a", null]}'}, "the caption of sample photo_1 is"),
        ({"json": b'{"caption": "\\ud83d"}'}, "a caption of sample photo_1 cannot be stored: .*surrogates"),
        (
            {"json": b'{"family": "x", "params": {}, "stats": {}}'},
            "the JSON of sample photo_1 has .*family 'x'.*, but .* has no sentences of it",
        ),
    ],
)
def test_texts_that_are_none_name_their_sample(
    tiny_encoder: Path, tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_tables(write_foreign(tmp_path / "s", [{"txt": b"a"}, files]), tmp_path / "t", tiny_encoder)


def test_what_is_no_set_of_shards_is_told(captioned: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no shards; `python -m synth shards` makes some"):
        make_tables(captioned, tmp_path / "t", tiny_encoder)
    shards = write_foreign(tmp_path / "s", [{"txt": b"a"}])
    (shards / "00000.tar").unlink()
    with pytest.raises(UserError, match=r"00000\.tar is missing though the manifest names it"):
        make_tables(shards, tmp_path / "t", tiny_encoder)


def test_tables_never_take_the_place_of_shards(
    finished: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    before = hashes(finished) | tar_hashes(finished)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds shards and no captions; give another --out"):
            make_tables(finished, finished, tiny_encoder, overwrite=overwrite)
    assert hashes(finished) | tar_hashes(finished) == before
    tables = Path(shutil.copytree(captioned, tmp_path / "tables"))
    with pytest.raises(UserError, match="holds captions and no shards"):
        make_small(tables, overwrite=True)


@pytest.mark.slow
def test_the_card_has_the_training_data_of_the_weights_under_any_name(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    false_friend = Path(shutil.copytree(tiny_encoder, tmp_path / "nano"))
    sentences: dict[Path | str, str] = {
        false_friend: "were trained on pictures from the web",
        "nano": "formula pictures and their attribute sentences only",
        "nano-emoji": "a drawn emoji font with its names: not formulas only",
        "nano-scenes": "formula pictures and scenes with their sentences only",
    }
    for number, (encoder, sentence) in enumerate(sentences.items()):
        make_tables(undisturbed, tmp_path / f"t{number}", encoder)
        card = (tmp_path / f"t{number}" / "README.md").read_text()
        assert [other for other in sentences.values() if other in card] == [sentence]


def test_each_distinct_sentence_is_encoded_once(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    texts = Encoder.texts

    def counted(self: Encoder, given: list[str]) -> np.ndarray:
        encoded.extend(given)
        return texts(self, given)

    worker._memory.cache_clear()
    worker._encoder.cache_clear()
    monkeypatch.setattr(Encoder, "texts", counted)
    make_tables(undisturbed, tmp_path / "t", tiny_encoder, text_embeddings=True)
    tables = CaptionSet(str(tmp_path / "t"))
    stored = {
        c
        for part in tables.parts
        for row in tables.read(part, ["caption"])["caption"].to_pylist()
        for c in row
    }
    assert len(encoded) == len(set(encoded)) and len(set(encoded)) <= len(stored)
    first = tables.parts[0]
    assert tables.vectors(first).tobytes() == CaptionSet(str(captioned)).vectors(first).tobytes()


@pytest.mark.slow
def test_tables_on_s3_are_the_tables_on_disk(bucket: str, captioned: Path, tiny_encoder: Path) -> None:
    make_small(bucket)
    assert make_tables(bucket, "s3://pictures/captions", tiny_encoder).pictures == 40
    assert hashes("s3://pictures/captions") == hashes(captioned)
    assert make_tables(bucket, "s3://pictures/captions", tiny_encoder).pictures == 0


def test_memory_is_bounded_by_the_batch(tiny_encoder: Path, tmp_path: Path) -> None:
    import tracemalloc

    make_small(tmp_path / "s", samples=450, shard_size=450, size=64)
    shard_set = ShardSet(str(tmp_path / "s"))
    tracemalloc.start()
    for batch in worker._batched(worker._decoded(shard_set, shard_set.shards[0], "cpu"), 32):
        assert len(batch) in (32, 450 % 32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 64 * 64 * 3  # of 450 pictures


def test_pictures_are_decoded_in_order_by_threads_as_by_none(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(worker.BATCH, "cuda", 3)
    shard_set = ShardSet(str(undisturbed))
    plain, threaded = (list(worker._decoded(shard_set, shard_set.shards[0], d)) for d in ("cpu", "cuda"))
    assert [s.key for s in plain] == [s.key for s in threaded]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(plain, threaded, strict=True))


def test_a_precision_once_decided_for_a_place_stays(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(captioned, tmp_path / "tables"))
    decided = CaptionSet(str(out)).identity["precision"]
    monkeypatch.setattr(encoders, "has_bf16", lambda _: decided == "fp32")
    assert make_tables(undisturbed, out, tiny_encoder).pictures == 0
    other = make_tables(undisturbed, tmp_path / "new", tiny_encoder).precision
    assert other == "fp32" or decided == "fp32"


def test_bf16_is_not_taken_where_it_says_something_else(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "has_bf16", lambda _: True)
    monkeypatch.setattr(pipeline, "_AGREEMENT", 1.01)
    assert make_tables(undisturbed, tmp_path / "t", tiny_encoder).precision == "fp32"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"xi": "-1"}, "--xi is -1; it must be finite, at least 0 and at most 1,000,000"),
        ({"seed": -1}, "--seed is -1"),
        ({"workers": -1}, "--workers is -1"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; known are auto, fp32, bf16"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_bad_requests_get_a_sentence(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path, changes: dict, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_tables(undisturbed, tmp_path / "t", tiny_encoder, **changes)
    assert not (tmp_path / "t").exists()


def test_all_places_are_examined_before_the_first_table_is_made(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tables(undisturbed, tmp_path / "taken", tiny_encoder, seed=1)
    one, two = write_foreign(tmp_path / "s", [{}]), write_foreign(tmp_path / "of_one_name", [{}, {}])
    outs = ["--out", tmp_path / "first", "--out", tmp_path / "taken"]
    monkeypatch.chdir(tmp_path)
    for words, sentence in (
        ([one, undisturbed, *outs], "seed is 1 there and 0 here"),
        ([one, two], "would hold the tables of two sets; give --out once for each set"),
    ):
        with pytest.raises(UserError, match=sentence):
            invoke(app, "captions", *words, "--encoder", tiny_encoder, "--workers", 0, raising=True)
    assert not (tmp_path / "first").exists() and not (tmp_path / "data").exists()


def test_a_dry_run_writes_nothing(undisturbed: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    foreseen = pipeline.estimate(
        pipeline.CaptionRequest(str(undisturbed), str(tmp_path / "t"), str(tiny_encoder), workers=0)
    )
    assert foreseen.pictures == 40 and foreseen.bytes > 40 * 2 * 2 * 32 and not (tmp_path / "t").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.soak)])
def test_after_kill_9_the_same_command_makes_the_same_tables(
    tiny_encoder: Path, tmp_path: Path, workers: str
) -> None:
    make_small(tmp_path / "s", samples=2400, shard_size=300)
    make_tables(tmp_path / "s", tmp_path / "expected", tiny_encoder)
    command = [sys.executable, "-m", "caption", "captions", str(tmp_path / "s"), "--out", str(tmp_path / "t")]
    command += ["--encoder", str(tiny_encoder), "--workers", workers]
    process = start(command)
    while process.poll() is None and len(list(tmp_path.glob("t/tables/*.parquet"))) < 2:
        time.sleep(0.002)
    kill_driver(process)
    [row] = json_lines(invoke(app, *command[3:]))
    assert 0 < row["captioned"] < 2400
    assert hashes(tmp_path / "t") == hashes(tmp_path / "expected")
    assert not [p.name for p in (tmp_path / "t").iterdir() if p.name.startswith(".")]


def test_workers_in_another_folder_find_the_encoder(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(tmp_path / "set", [{"txt": b"a cat"}, {"txt": b"a dog"}])
    monkeypatch.chdir(tiny_encoder.parent)
    request = pipeline.CaptionRequest(
        str(tmp_path / "set"), str(tmp_path / "tables"), tiny_encoder.name, workers=0
    )
    events = pipeline.make_captions(request)
    next(events)
    monkeypatch.chdir(tmp_path)
    completion.finish(events)
    assert CaptionSet(str(tmp_path / "tables")).identity["encoder"] == tiny_encoder.name


def test_a_file_of_weights_is_named_by_its_whole_path(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "mine")
    (tmp_path / "mine/notes").mkdir()
    monkeypatch.chdir(tmp_path / "mine/notes")
    file = "open_clip_model.safetensors"
    assert encoders.absolute(f"ViT-B-32=../{file}") == f"ViT-B-32={tmp_path / 'mine' / file}"
    assert encoders.absolute("..") == str(tmp_path / "mine") and encoders.absolute("nano") == "nano"
    assert encoders.find("..").name == "mine"


def test_the_default_place_is_within_the_captions_folder() -> None:
    assert places.tables("visual_atoms", "ViT-B-32/openai") == "data/captions/visual_atoms/ViT-B-32-openai"
    assert places.tables("../../x", "a b") == "data/captions/-..-x/a-b"
