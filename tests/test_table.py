import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from caption.pseudo import noise, pseudo_caption
from caption.table import CaptionSet, Rows, TableWriter, text_vectors, vectors
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import ROOT, make_small, make_tables


@pytest.fixture
def spoilt(captioned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(captioned, tmp_path / "tables"))


def rows(count: int, *, first: int = 0, texts: bool = False) -> Rows:
    vectors = np.random.default_rng(first).standard_normal((count, 8)).astype(np.float16)
    captions = [["a b"] * (i % 3) for i in range(count)]
    embedded = [vectors[:1].repeat(len(c), axis=0) for c in captions] if texts else None
    return Rows([f"{first + i:09d}" for i in range(count)], first, vectors, -vectors, captions, embedded)


@pytest.mark.parametrize("texts", [False, True])
def test_what_is_written_is_read_by_pyarrow_and_duckdb_alike(tmp_path: Path, texts: bool) -> None:
    path = tmp_path / "a.parquet"
    parts = [rows(5, texts=texts), rows(4, first=5, texts=texts)]
    with TableWriter(str(path), 8, text_embeddings=texts, metadata={"encoder": "toy"}) as writer:
        for part in parts:
            writer.add(part)
    table = pq.read_table(path)
    assert writer.size == path.stat().st_size and table.schema.metadata[b"encoder"] == b"toy"
    expected = np.concatenate([p.image_embedding for p in parts])
    assert np.array_equal(vectors(table["image_embedding"], 8), expected)
    assert np.array_equal(vectors(table["pseudo_caption"], 8), -expected)
    read = duckdb.connect().execute(f"SELECT * FROM '{path}' ORDER BY index").fetchall()
    assert [r[0] for r in read] == table["key"].to_pylist() == [f"{i:09d}" for i in range(9)]
    assert [r[1] for r in read] == table["index"].to_pylist() == list(range(9))
    assert np.array_equal(np.array([r[2] for r in read], np.float16), expected)
    expected_texts = [c for part in parts for c in part.captions]
    assert [list(r[4]) for r in read] == table["caption"].to_pylist() == expected_texts
    if texts:
        assert [np.array(r[5], np.float16).reshape(-1, 8).tolist() for r in read] == [
            v.tolist() for v in text_vectors(table["text_embedding"], 8)
        ]


def test_the_same_rows_give_the_same_bytes_and_reading_does_not_copy_them_apart(tmp_path: Path) -> None:
    hashes = set()
    for name in "ab":
        with TableWriter(str(tmp_path / name), 8, text_embeddings=False, metadata={}) as writer:
            for start in range(0, 9000, 90):
                writer.add(rows(90, first=start))
        hashes.add(writer.sha256)
    parquet = pq.ParquetFile(tmp_path / "a")
    assert len(hashes) == 1 and parquet.num_row_groups == 3
    parquet.close()


def test_the_stored_pseudo_caption_is_draw_0_of_the_stored_embedding(captioned: Path) -> None:
    tables = CaptionSet(str(captioned))
    for part in tables.parts:
        image = tables.vectors(part).astype(np.float32)
        again = pseudo_caption(image, noise(0, range(part.first, part.first + part.count), 0, 32), 0.25)
        assert np.array_equal(tables.vectors(part, "pseudo_caption"), again.astype(np.float16))
        assert np.allclose(np.linalg.norm(image, axis=1), 1, atol=1e-3)


def test_keys_and_order_are_those_of_the_tars(captioned: Path, undisturbed: Path) -> None:
    tables, shard_set = CaptionSet(str(captioned)), ShardSet(str(undisturbed))
    tables.require_made_for(shard_set)
    for part, shard in zip(tables.parts, shard_set.shards, strict=True):
        keys = [s.key for s in shard_set.read(shard)]
        table = tables.read(part, ["index", "caption"], keys)
        assert part.file.removesuffix("parquet") == shard.file.removesuffix("tar")
        assert table["index"].to_pylist() == list(range(shard.first, shard.first + shard.count))
        with pytest.raises(
            UserError,
            match=rf"{part.file} and {shard.file} do not agree: .* has key {keys[0]} and the shard has 7",
        ):
            tables.read(part, ["caption"], ["7", *keys[1:]])
        with pytest.raises(UserError, match=f"{len(keys)} keys and {len(keys) - 1}"):
            tables.read(part, ["caption"], keys[:-1])


def test_a_spoilt_table_is_told(spoilt: Path) -> None:
    tables = CaptionSet(str(spoilt))
    first, second, third = (spoilt / "tables" / p.file for p in tables.parts)
    data = bytearray(first.read_bytes())
    data[data.index(tables.vectors(tables.parts[0]).tobytes()) + 5] ^= (
        1  # the first embedding, which is not compressed
    )
    first.write_bytes(data)
    with pytest.raises(UserError, match=rf"{first.name} is damaged .*checksum"):
        tables.vectors(tables.parts[0])
    first.write_bytes(data[:-100])
    shutil.copy(third, second)
    third.unlink()
    for part, sentence in zip(
        tables.parts, ["is damaged", "its shard_sha256 is another", "is missing though"], strict=True
    ):
        with pytest.raises(UserError, match=f"{part.file} .*{sentence}"):
            tables.vectors(part)


def test_a_table_of_the_same_shard_made_otherwise_is_told(
    spoilt: Path, undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_tables(undisturbed, tmp_path / "other", tiny_encoder, xi="lafite")
    tables = CaptionSet(str(spoilt))
    shutil.copy(tmp_path / "other/tables" / tables.parts[1].file, spoilt / "tables")
    with pytest.raises(
        UserError, match=f"{tables.parts[1].file} is not the table that the manifest names: its xi is another"
    ):
        tables.vectors(tables.parts[1])


def test_a_column_that_is_not_there_is_told(captioned: Path) -> None:
    tables = CaptionSet(str(captioned))
    with pytest.raises(UserError, match=r"has no column text_embedding; .* --text-embeddings` adds"):
        tables.read(tables.parts[0], ["text_embedding"])


def test_tables_of_other_shards_and_of_a_set_before_it_grew_are_told(
    captioned: Path, undisturbed: Path, tmp_path: Path
) -> None:
    tables = CaptionSet(str(captioned))
    make_small(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="were made for another set of shards"):
        tables.require_made_for(ShardSet(str(tmp_path / "other")))
    grown = Path(shutil.copytree(undisturbed, tmp_path / "grown"))
    make_small(grown, samples=44)
    with pytest.raises(UserError, match="has changed since the tables of"):
        tables.require_made_for(ShardSet(str(grown)))
    with pytest.raises(UserError, match="holds no caption tables"):
        CaptionSet(str(undisturbed))
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        CaptionSet(str(tmp_path))


_READ = """
import os, sys
from caption.table import CaptionSet, read_table
tables = CaptionSet(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
tables.read(tables.parts[0], ["pseudo_caption"])
read_table(os.path.join(sys.argv[1], "tables", tables.parts[0].file), "a table", ["pseudo_caption"])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.slow
def test_reading_leaves_no_thread_that_could_abort_a_process_at_its_end(captioned: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _READ, captioned], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
