import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caption.pseudo import noise, pseudo_caption
from caption.table import CaptionSet, Rows, TableWriter
from synth.errors import UserError
from synth.images.pictures import box_average
from synth.sets.shards import ShardSet
from tests.kit import children, make_small, make_tables, write_foreign
from tests.kit_train import GAN, PSEUDO, first, joined, stream
from train.model import Wanted
from train.stream.visits import Text, Visit


def test_pictures_and_texts_are_those_of_their_sample(undisturbed: Path, captioned: Path) -> None:
    source = stream(undisturbed, captioned)
    shard_set, tables = ShardSet(str(undisturbed)), CaptionSet(str(captioned))
    [batch] = first(source.batches(100, 24), 1)
    assert batch.pictures.dtype == torch.uint8 and batch.pictures.shape == (24, 1, 3, 16, 16)
    for i, place in enumerate(source.order.places(100, 24)):
        sample = list(shard_set.read(shard_set.shards[place.shard]))[place.row]
        assert np.array_equal(batch.pictures[i, 0].permute(1, 2, 0), box_average(sample.pixels, 16))
        index = shard_set.shards[place.shard].first + place.row
        image = tables.vectors(tables.parts[place.shard])[[place.row]].astype(np.float32)
        for phase, texts in enumerate((batch.vectors["d"], batch.vectors["g"])):
            expected = pseudo_caption(image, noise(4, [index], 1 + 2 * place.epoch + phase, 32), 0.25)
            assert np.array_equal(texts[i], expected[0])


@pytest.mark.parametrize("workers", [(0,), (0, 0), (0, 0, 0), pytest.param((2, 0), marks=pytest.mark.slow)])
def test_ranks_and_workers_change_no_batch(
    undisturbed: Path, captioned: Path, workers: tuple[int, ...]
) -> None:
    """`workers` has the number of reader processes of each rank."""
    source, ranks = stream(undisturbed, captioned), len(workers)
    alone = [joined([b]) for b in first(source.batches(24, 12), 5)]
    parts = [first(source.batches(24, 12, rank=r, ranks=ranks, workers=w), 5) for r, w in enumerate(workers)]
    assert [joined(list(p)) for p in zip(*parts, strict=True)] == alone


def test_a_stream_goes_on_from_any_number_of_images_seen(undisturbed: Path, captioned: Path) -> None:
    source = stream(undisturbed, captioned)
    whole = [joined([b]) for b in first(source.batches(0, 12), 12)]
    for step in (1, 3, 4, 11):
        assert joined(first(source.batches(12 * step, 12), 1)) == whole[step]


def test_half_of_the_visits_are_mirrored_and_keep_their_texts(undisturbed: Path, captioned: Path) -> None:
    batches = [
        first(stream(undisturbed, captioned, replace(PSEUDO, mirror=mirror)).batches(0, 400), 1)[0]
        for mirror in (False, True)
    ]
    plain, mirrored = (batch.pictures for batch in batches)
    flipped = [
        torch.equal(b, a.flip(3)) and not torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)
    ]
    assert 160 < sum(flipped) < 240
    kept = [torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)]
    assert all(k or f for k, f in zip(kept, flipped, strict=True))
    assert flipped[:40] != flipped[40:80]  # another epoch
    assert torch.equal(batches[0].vectors["g"], batches[1].vectors["g"])


def test_an_epoch_shows_every_sample_once(undisturbed: Path, captioned: Path) -> None:
    shown = torch.cat([b.pictures[:, 0] for b in first(stream(undisturbed, captioned).batches(0, 8), 5)])
    shard_set = ShardSet(str(undisturbed))
    there = sorted(
        box_average(s.pixels, 16).tobytes() for shard in shard_set.shards for s in shard_set.read(shard)
    )
    assert sorted(p.permute(1, 2, 0).contiguous().numpy().tobytes() for p in shown) == there


@pytest.fixture(scope="module")
def captioned_in_part(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> tuple[Path, Path]:
    """A foreign set in which some pictures have captions, and its tables."""
    out = tmp_path_factory.mktemp("told")
    texts = [{"txt": f"picture {i}\nagain {i}".encode()} if i % 4 else {} for i in range(40)]
    make_tables(write_foreign(out / "s", texts, sizes=(32,)), out / "t", tiny_encoder)
    return out / "s", out / "t"


def test_texts_follow_their_policy(captioned_in_part: tuple[Path, Path]) -> None:
    tables = CaptionSet(str(captioned_in_part[1]))
    stored = tables.vectors(tables.parts[0], "pseudo_caption").astype(np.float32)
    captions = tables.read(tables.parts[0], ["text_embedding"])["text_embedding"].to_pylist()
    shares = {}
    for text in ("stored", "mix:0.5", "mix:1", "pseudo"):
        source = stream(*captioned_in_part, Visit(16, 0, Text.parse(text), 0.25, 0.0, GAN))
        [batch] = first(source.batches(0, 40), 1)
        count = 0
        for place, vector in zip(source.order.places(0, 40), batch.vectors["g"].numpy(), strict=True):
            if text == "stored":
                assert np.allclose(vector, stored[place.row], atol=1e-3)
            count += any(np.allclose(vector, v, atol=1e-3) for v in captions[place.row])
        shares[text] = count
    assert shares["stored"] == shares["pseudo"] == 0 and shares["mix:1"] == 30 and 8 < shares["mix:0.5"] < 22
    with pytest.raises(
        UserError, match=r"sample photo_\d+ of .*00000\.tar has no caption; begin again with --text mix:1"
    ):
        first(
            stream(*captioned_in_part, Visit(16, 0, Text.parse("caption"), 0.25, 0.0, GAN)).batches(0, 40), 1
        )


def test_captions_get_their_own_noise(captioned_in_part: tuple[Path, Path]) -> None:
    clean, noised = (
        first(stream(*captioned_in_part, Visit(16, 0, Text.parse("mix:1"), 3.0, xi, GAN)).batches(0, 40), 1)[
            0
        ]
        for xi in (0.0, 1 / 9)
    )
    cosines = (clean.vectors["d"] * noised.vectors["d"]).sum(dim=1)
    # Pictures without captions have the same pseudo-caption. Captions are 0.9 text and 0.1 noise.
    assert sorted(cosines.numpy() > 0.9999) == [False] * 30 + [True] * 10
    assert cosines.sort().values[:30].mean() == pytest.approx(0.9939, abs=0.003)


def test_all_draws_of_a_visit_can_take_one_caption(captioned_in_part: tuple[Path, Path]) -> None:
    shares = []
    for one_caption in (False, True):
        wanted = Wanted(vectors=("a", "b", "c"), one_caption=one_caption)
        source = stream(*captioned_in_part, Visit(16, 0, Text.parse("mix:1"), 3.0, 0.0, wanted))
        [batch] = first(source.batches(0, 40), 1)
        a, b, c = batch.vectors.values()
        shares.append(((a == b).all(1) & (b == c).all(1)).sum().item())
        assert not torch.equal(a, c)  # pictures without captions have pseudo-captions of their own noise
    assert shares[0] < 20 and shares[1] == 30  # a quarter of the visits by chance; all with captions


@pytest.mark.parametrize("text", ["", "captions", "mix:", "mix:1.5", "mix:nan"])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown text"):
        Text.parse(text)
    with pytest.raises(UserError, match="unknown text 'plain'; give blend:1,plain"):
        Text.parse("plain")


def test_tables_without_text_embeddings_cannot_give_captions(undisturbed: Path, captioned: Path) -> None:
    with pytest.raises(UserError, match="has no column text_embedding"):
        stream(undisturbed, captioned, Visit(16, 0, Text(captions=0.5), 0.25, 0.0, GAN))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_missing_or_damaged_shard_is_named(finished: Path, captioned: Path, workers: int) -> None:
    tar = finished / "visual_atoms-000001.tar"
    whole = tar.read_bytes()
    for data, sentence in (
        (whole[:-512], "has [0-9,]+ bytes, and the manifest records"),
        (whole.replace(b"IDAT", b"IDAX"), r"sample \d+ of .*000001\.tar does not decode"),
    ):
        tar.write_bytes(data)
        with pytest.raises(UserError, match=sentence):
            first(stream(finished, captioned).batches(0, 40, workers=workers), 1)
    tar.unlink()
    with pytest.raises(UserError, match="is missing though the manifest names it"):
        first(stream(finished, captioned).batches(0, 40, workers=workers), 1)


def test_sizes_that_the_shards_cannot_give_are_refused(undisturbed: Path, captioned: Path) -> None:
    for resolution in (64, 24):
        visit = Visit(resolution, 0, Text(), 0.25, 0.0, GAN)
        sentence = f"has 32 x 32 pixels, no multiple of {resolution} x {resolution}"
        with pytest.raises(UserError, match=sentence):
            first(stream(undisturbed, captioned, visit).batches(0, 4), 1)


def test_keys_of_a_table_are_compared_with_the_tar(finished: Path, captioned: Path, tmp_path: Path) -> None:
    tables = Path(shutil.copytree(captioned, tmp_path / "t"))
    vectors = np.ones((16, 32), np.float16)
    file = str(tables / "tables/visual_atoms-000000.parquet")
    with TableWriter(file, 32, text_embeddings=False, metadata={}) as writer:
        writer.add(Rows([f"{i:09d}" for i in range(1, 17)], 0, vectors, vectors, [["a"]] * 16, None))
    manifest = json.loads((tables / "manifest.json").read_text())
    manifest["parts"][0] |= {"bytes": writer.size, "sha256": writer.sha256}
    (tables / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="has key 000000001 and the shard has 000000000 in the same row"):
        first(stream(finished, tables).batches(0, 40), 1)


def test_a_set_on_an_object_store_is_fetched_into_a_bounded_cache(
    bucket: str, captioned: Path, undisturbed: Path, tmp_path: Path
) -> None:
    make_small(bucket)
    remote, local = stream(bucket, captioned, cache=str(tmp_path / "cache")), stream(undisturbed, captioned)
    fetcher = remote.fetcher(0, 80, 8, limit=10**9)
    assert fetcher is not None and local.fetcher(0, 80, 8, limit=1) is None
    fetcher.start()
    assert [joined([b]) for b in first(remote.batches(0, 8), 10)] == [
        joined([b]) for b in first(local.batches(0, 8), 10)
    ]
    fetcher.end()
    assert sum(p.suffix == ".tar" for p in (tmp_path / "cache").iterdir()) == 3
    with pytest.raises(UserError, match="is too small"):
        remote.fetcher(0, 80, 8, limit=1000)


def test_what_an_object_store_does_not_have_is_told_to_whoever_waits(
    bucket: str, captioned: Path, tmp_path: Path
) -> None:
    make_small(bucket)
    store = ShardSet(bucket).storage
    store.write("visual_atoms-000001.tar", b"spoilt")
    store.remove(["visual_atoms-000002.tar"])
    source = stream(bucket, captioned, cache=str(tmp_path / "cache"))
    fetcher = source.fetcher(0, 40, 40, limit=10**9)
    assert fetcher is not None
    fetcher.start()
    spoilt, missing = r"000001\.tar is not the file that its manifest describes", r"000002\.tar is missing"
    with pytest.raises(UserError, match=f"{spoilt}|{missing} though"):
        first(source.batches(0, 40), 1)
    fetcher.end()


@pytest.mark.slow
def test_a_stream_that_is_left_keeps_no_worker_waiting(bucket: str, captioned: Path, tmp_path: Path) -> None:
    make_small(bucket)
    source = stream(bucket, captioned, cache=str(tmp_path))
    start = next(s for s in range(40) if len({p.shard for p in source.order.places(s, 2)}) == 1)
    source._sources.cache.fetch(source._sources.tars[source.order.places(start, 1)[0].shard])
    before = {pid for pid, _ in children(os.getpid())}
    batches = source.batches(start, 2, workers=1)
    assert len(next(batches).pictures) == 2
    # After this the worker waits for a shard that nobody fetches.
    time.sleep(0.5)
    batches.close()
    assert not {pid for pid, command in children(os.getpid()) if "spawn_main" in command} - before
