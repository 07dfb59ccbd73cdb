"""A set and its tables in somebody's own training loop: caption.join."""

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from torch.utils.data import DataLoader

from caption.join import dataset
from caption.pseudo import pseudo_caption
from caption.table import CaptionSet, Rows, TableWriter
from synth.errors import UserError
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage
from tests.kit import ROOT, make_small, make_tables, samples, write_foreign
from tests.kit_train import GAN, first, stream
from train.stream.visits import Text, Visit

MORE_WORKERS_THAN_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def keys(pipeline: Any) -> list[str]:
    return [sample["key"] for sample in pipeline]


def test_samples_are_those_of_the_set_with_the_rows_of_its_tables(undisturbed: Path, captioned: Path) -> None:
    tables = CaptionSet(str(captioned))
    rows = [row for part in tables.parts for row in tables.read(part, tables.columns).to_pylist()]
    joined = list(dataset(str(undisturbed), str(captioned), tables.columns, shuffle=0))
    for sample, stored, row in zip(joined, samples(undisturbed), rows, strict=True):
        assert sample["key"] == sample["__key__"] == stored.key == row["key"]
        assert sample["picture"].dtype == np.uint8 and np.array_equal(sample["picture"], stored.pixels)
        assert (sample["index"], sample["caption"]) == (row["index"], row["caption"])
        for column in ("image_embedding", "pseudo_caption"):
            assert sample[column].dtype == np.float32 and np.array_equal(sample[column], row[column])
    assert list(joined[0]) == ["__key__", "__url__", "key", "picture", *tables.columns[1:]]


def test_pictures_and_stored_vectors_are_those_of_the_training_stream(
    undisturbed: Path, captioned: Path
) -> None:
    joined = {s["key"]: s for s in dataset(str(undisturbed), str(captioned), size=16)}
    trained = stream(undisturbed, captioned, Visit(16, 4, Text.parse("stored"), 0.25, 0.0, GAN))
    [batch] = first(trained.batches(0, 40), 1)
    shards = ShardSet(str(undisturbed)).shards
    for i, place in enumerate(trained.order.places(0, 40)):
        sample = joined.pop(f"{shards[place.shard].first + place.row:09d}")
        assert np.array_equal(sample["picture"], batch.pictures[i, 0].permute(1, 2, 0))
        stored = sample["pseudo_caption"][None]
        assert np.array_equal(
            pseudo_caption(stored, np.ones_like(stored), np.zeros((1, 1), np.float32))[0],
            batch.vectors["d"][i],
        )
    assert not joined


@pytest.mark.parametrize(("nodes", "workers"), [(3, 1), (1, 3), (2, 2)])
def test_nodes_and_workers_share_an_epoch(
    undisturbed: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch, nodes: int, workers: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(nodes))
    monkeypatch.setenv("NUM_WORKERS", str(workers))
    pipeline, shares = dataset(str(undisturbed), str(captioned), ["index"]), []
    for node in range(nodes):
        for worker in range(workers):
            monkeypatch.setenv("RANK", str(node))
            monkeypatch.setenv("WORKER", str(worker))
            pipeline.set_epoch(5)
            shares.append(keys(pipeline))
    assert sorted(key for share in shares for key in share) == [f"{i:09d}" for i in range(40)]
    assert sum(map(bool, shares)) == 3  # as many as there are shards


def test_a_node_without_shards_is_refused(
    undisturbed: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="has 3 shards, fewer than nodes"):
        next(iter(dataset(str(undisturbed), str(captioned))))


@MORE_WORKERS_THAN_CORES
def test_a_dataloader_with_workers_shows_every_sample_once_an_epoch(
    undisturbed: Path, captioned: Path
) -> None:
    pipeline = dataset(str(undisturbed), str(captioned), seed=1)
    loader = DataLoader(pipeline.batched(7), batch_size=None, num_workers=2)
    orders = []
    for epoch in (0, 1):
        pipeline.set_epoch(epoch)
        batches = list(loader)
        orders.append([key for batch in batches for key in batch["key"]])
        assert batches[0]["picture"].shape == (7, 32, 32, 3) and batches[0]["picture"].dtype == torch.uint8
        assert batches[0]["pseudo_caption"].shape == (7, 32) and len(batches[0]["caption"]) == 7
    assert (
        sorted(orders[0]) == sorted(orders[1]) == [f"{i:09d}" for i in range(40)] and orders[0] != orders[1]
    )


def test_the_order_is_a_function_of_seed_and_epoch(undisturbed: Path, captioned: Path) -> None:
    def pipeline(**more: Any) -> Any:
        return dataset(str(undisturbed), str(captioned), ["key"], **more)

    counted, chosen = pipeline(seed=3), pipeline(seed=3)
    epochs = [keys(counted), keys(counted)]
    chosen.set_epoch(1)
    assert epochs[0] == keys(pipeline(seed=3)) != keys(pipeline(seed=4))
    assert epochs[1] == keys(chosen.map(lambda sample: sample)) != epochs[0]
    assert len({key < "000000016" for key in epochs[0][:8]}) == 2  # shards are mixed
    assert keys(pipeline(shuffle=0)) == sorted(epochs[0]) == sorted(epochs[1])


def test_stages_of_webdataset_compose(undisturbed: Path, captioned: Path) -> None:
    pipeline = dataset(str(undisturbed), str(captioned), ["image_embedding"], shuffle=0)
    assert isinstance(pipeline, webdataset.WebDataset)
    pairs = pipeline.map_dict(picture=lambda p: p / 255).to_tuple("picture", "image_embedding").batched(16)
    shapes = [(pictures.shape, vectors.shape) for pictures, vectors in pairs]
    assert shapes[0] == ((16, 32, 32, 3), (16, 32)) and [len(p) for p, _ in pairs] == [16, 16, 8]
    assert keys(pickle.loads(pickle.dumps(pipeline))) == keys(pipeline)  # for workers that are spawned
    assert len(keys(pipeline.with_epoch(100))) == 100


@pytest.fixture(params=["s3", "memory"])
def remote(request: pytest.FixtureRequest, undisturbed: Path, captioned: Path) -> tuple[str, str]:
    """The small set and its tables behind URLs."""
    place = "s3://pictures" if request.param == "s3" else "memory://joined"
    if request.param == "s3":
        request.getfixturevalue("bucket")
    for name, folder in (("atoms", undisturbed), ("tables", captioned)):
        for path in filter(Path.is_file, folder.rglob("*")):
            below = path.parent.relative_to(folder).parts
            open_storage("/".join([place, name, *below])).write(path.name, path.read_bytes())
    return f"{place}/atoms", f"{place}/tables"


def test_urls_give_what_folders_give(remote: tuple[str, str], undisturbed: Path, captioned: Path) -> None:
    here, there = dataset(str(undisturbed), str(captioned)), dataset(*remote)
    loader: Any = DataLoader(
        there, batch_size=None, num_workers=1
    )  # the client of this process is no use in a fork
    for ours, theirs in zip(here, loader, strict=True):
        assert ours["key"] == theirs["key"] and ours["caption"] == theirs["caption"]
        assert np.array_equal(ours["picture"], theirs["picture"])
        assert np.array_equal(ours["pseudo_caption"], theirs["pseudo_caption"])


def test_captions_of_people_come_with_their_vectors(tmp_path: Path, tiny_encoder: Path) -> None:
    texts = [{"txt": f"picture {i}\nagain {i}".encode()} if i else {} for i in range(3)]
    make_tables(write_foreign(tmp_path / "s", texts), tmp_path / "t", tiny_encoder)
    pipeline = dataset(str(tmp_path / "s"), str(tmp_path / "t"), ["caption", "text_embedding"], shuffle=0)
    [batch] = pipeline.batched(3)
    assert batch["caption"] == [[], ["picture 1", "again 1"], ["picture 2", "again 2"]]
    assert [len(vectors) for vectors in batch["text_embedding"]] == [0, 2, 2]
    assert all(np.linalg.norm(v) == pytest.approx(1, abs=1e-3) for v in batch["text_embedding"][1])


def test_sets_and_tables_of_an_older_commit_join() -> None:
    old = ROOT / "tests" / "fixtures" / "at_2cbd3b2"
    pipeline = dataset(str(old / "shards/fractals"), str(old / "captions/fractals/nano"), ["text_embedding"])
    rows = [(sample["picture"].ndim, len(sample["text_embedding"])) for sample in pipeline]
    assert rows == [(3, 2)] * len(ShardSet(str(old / "shards/fractals")))


def test_tables_of_another_set_are_refused(captioned: Path, tmp_path: Path) -> None:
    make_small(tmp_path / "other", samples=8, seed=1)
    with pytest.raises(UserError, match="were made for another set of shards"):
        dataset(str(tmp_path / "other"), str(captioned))


def test_unfinished_sets_are_refused(
    finished: Path, undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    (finished / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished set"):
        dataset(str(finished), str(captioned))
    tables = Path(shutil.copytree(captioned, tmp_path / "tables"))
    (tables / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished set"):
        dataset(str(undisturbed), str(tables))


@pytest.mark.parametrize("columns", [["caption", "embedding"], "embedding"])
def test_an_unknown_column_is_refused_with_the_known_ones(
    undisturbed: Path, captioned: Path, columns: Any
) -> None:
    known = "key, index, image_embedding, pseudo_caption, caption$"
    with pytest.raises(UserError, match=f"have no column 'embedding'; known are {known}"):
        dataset(str(undisturbed), str(captioned), columns)


def test_a_negative_buffer_is_refused(undisturbed: Path, captioned: Path) -> None:
    with pytest.raises(UserError, match="shuffle is -1"):
        dataset(str(undisturbed), str(captioned), shuffle=-1)


def test_a_size_below_one_is_refused(undisturbed: Path, captioned: Path) -> None:
    for size in (0, -1):
        with pytest.raises(UserError, match=f"size is {size}; give pixels a side, at least 1"):
            dataset(str(undisturbed), str(captioned), size=size)


def test_a_key_that_the_table_lacks_is_an_error(undisturbed: Path, captioned: Path, tmp_path: Path) -> None:
    tables = Path(shutil.copytree(captioned, tmp_path / "tables"))
    vectors, path = np.ones((15, 32), np.float16), str(tables / "tables/visual_atoms-000001.parquet")
    with TableWriter(path, 32, text_embeddings=False, metadata={}) as writer:
        writer.add(Rows([f"{i:09d}" for i in range(16, 31)], 16, vectors, vectors, [["a"]] * 15, None))
    pipeline = dataset(str(undisturbed), str(tables), shuffle=0)
    with pytest.raises(UserError, match=r"000001\.parquet and .*000001\.tar do not agree: 15 keys and 16"):
        keys(pipeline)


def test_a_damaged_or_missing_shard_is_named(finished: Path, captioned: Path) -> None:
    tar = finished / "visual_atoms-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"IDAT", b"IDAX"))
    with pytest.raises(UserError, match=r"sample 000000016 of .*000001\.tar does not decode"):
        keys(dataset(str(finished), str(captioned), shuffle=0))
    tar.unlink()
    with pytest.raises(UserError, match=r"000001\.tar is missing though the manifest names it"):
        keys(dataset(str(finished), str(captioned)))


def test_a_local_table_is_read_by_the_columns_asked_for(
    undisturbed: Path, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    original = CaptionSet.read

    def recorded(self: CaptionSet, part: Any, columns: Any, given: Any = None) -> Any:
        table = original(self, part, columns, given)
        read.append(table.column_names)
        return table

    monkeypatch.setattr(CaptionSet, "read", recorded)
    pipeline = iter(dataset(str(undisturbed), str(captioned), ["image_embedding"], shuffle=0))
    next(pipeline)
    assert read == [["image_embedding", "key"]]  # of the first shard alone
    assert len(list(pipeline)) == 39 and len(read) == 3


@MORE_WORKERS_THAN_CORES
def test_the_loop_of_the_readme_runs(undisturbed: Path, captioned: Path) -> None:
    text = (ROOT / "caption" / "README.md").read_text()
    [script] = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "DataLoader" in b]
    for place, here in (
        ("data/shards/visual_atoms", undisturbed),
        ("data/captions/visual_atoms/nano", captioned),
    ):
        assert place in script
        script = script.replace(place, str(here))
    names: dict[str, Any] = {}
    exec(script, names)
    assert names["pictures"].shape[1:] == (32, 32, 3) and names["pictures"].dtype == torch.uint8
    assert len(names["pictures"]) == len(names["texts"]) == len(names["sentences"])
    assert json.dumps(names["sentences"]) and names["texts"].dtype == torch.float32
