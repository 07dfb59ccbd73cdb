"""Several captioned sets as one: their batches, what a run of them says, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caption import encoders
from caption.pseudo import noise, pseudo_caption
from caption.table import CaptionSet
from synth.errors import UserError
from synth.images.pictures import box_average
from synth.sets.shards import ShardSet
from tests.kit import TINY_CLIP, invoke, json_lines, make_small, make_tables, write_foreign
from tests.kit_train import OPTIONS, PSEUDO, SETTINGS, first, joined, losses, quiet, refused, weights
from train import runs
from train.cli import app
from train.start.prepared import prepare
from train.start.request import TrainRequest
from train.stream import captioned_sets
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.order import Order
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

pytestmark = pytest.mark.usefixtures("one_thread")

FIRSTS = (0, 40, 80)  # of the sets' samples


@pytest.fixture(scope="module")
def three(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, str]]:
    """Shards and tables of three sets: 40 pictures of 32 px, 40 of 64 px, 20 foreign ones with captions."""
    out = tmp_path_factory.mktemp("three")
    make_small(out / "large", size=64, settings=("canvas=64", "orbits=1,10"))
    write_foreign(out / "told", [{"txt": f"picture {i}".encode()} for i in range(20)], sizes=(32,))
    for name in ("large", "told"):
        make_tables(out / name, out / f"{name}-tables", tiny_encoder)
    tables = [(str(out / name), str(out / f"{name}-tables")) for name in ("large", "told")]
    return [(str(undisturbed), str(captioned)), *tables]


@pytest.fixture
def train_request(three: list[tuple[str, str]], tmp_path: Path) -> TrainRequest:
    """A run of all three."""
    shards, captions = zip(*three, strict=True)
    return TrainRequest("tiny-32", shards, str(tmp_path / "run"), captions, images=48, settings=SETTINGS)


def opened(places: list[tuple[str, str]]) -> list[CaptionedSet]:
    return [CaptionedSet(ShardSet(s), CaptionSet(c)) for s, c in places]


def stream(places: list[tuple[str, str]], visit: Visit = PSEUDO) -> Stream:
    return Stream(opened(places), visit, cache=Cache("unused"))


def test_a_sample_is_that_of_its_set_and_its_noise_that_of_its_number_among_all(
    three: list[tuple[str, str]],
) -> None:
    source, sets = stream(three), opened(three)
    assert source.order.samples == 100 and len(source._sources.tars) == 7
    parts = [(n, shard) for n, (shards, _) in enumerate(sets) for shard in shards.shards]
    [batch] = first(source.batches(96, 32), 1)
    for i, place in enumerate(source.order.places(96, 32)):
        number, shard = parts[place.shard]
        shards, captions = sets[number]
        sample = list(shards.read(shard))[place.row]
        assert np.array_equal(batch.pictures[i, 0].permute(1, 2, 0), box_average(sample.pixels, 16))
        assert captions
        image = captions.vectors(captions.parts[shard.number])[[place.row]].astype(np.float32)
        eps = noise(4, [FIRSTS[number] + shard.first + place.row], 1 + 2 * place.epoch, 32)
        assert np.array_equal(batch.vectors["d"][i], pseudo_caption(image, eps, 0.25)[0])


def test_an_epoch_shows_every_sample_of_every_set_once(three: list[tuple[str, str]]) -> None:
    shown = torch.cat([batch.pictures[:, 0] for batch in first(stream(three).batches(0, 10), 10)])
    there = [
        box_average(s.pixels, 16)
        for shards, _ in opened(three)
        for shard in shards.shards
        for s in shards.read(shard)
    ]
    assert sorted(p.permute(1, 2, 0).contiguous().numpy().tobytes() for p in shown) == sorted(
        p.tobytes() for p in there
    )


def test_the_first_of_several_sets_keeps_its_noise(three: list[tuple[str, str]]) -> None:
    """So that what is added to a set changes the order alone."""
    assert stream(three)._sources.firsts[:3] == stream(three[:1])._sources.firsts == [0, 16, 32]


@pytest.mark.slow
def test_ranks_and_workers_change_no_batch_of_several_sets(three: list[tuple[str, str]]) -> None:
    source = stream(three)
    alone = [joined([b]) for b in first(source.batches(24, 12), 4)]
    parts = [first(source.batches(24, 12, rank=r, ranks=2, workers=r), 4) for r in range(2)]
    assert [joined(list(p)) for p in zip(*parts, strict=True)] == alone


def test_a_set_on_an_object_store_is_fetched_beside_local_ones(
    three: list[tuple[str, str]], bucket: str, tmp_path: Path
) -> None:
    make_small(bucket)
    places = [three[1], (bucket, three[0][1])]
    source = Stream(opened(places), PSEUDO, cache=Cache(str(tmp_path / "cache")))
    fetcher = source.fetcher(0, 80, 8, limit=10**9)
    assert fetcher is not None
    fetcher.start()
    local = [joined([b]) for b in first(stream([three[1], three[0]]).batches(0, 8), 10)]
    assert [joined([b]) for b in first(source.batches(0, 8), 10)] == local
    fetcher.end()
    assert sorted(p.suffix for p in (tmp_path / "cache").iterdir()) == [".tar"] * 3


def test_a_set_given_twice_counts_twice_with_noise_of_its_own(three: list[tuple[str, str]]) -> None:
    source = stream([three[2], three[2]])
    assert source.order.samples == 40 and source._sources.firsts == [0, 20]


def test_a_fraction_is_one_of_all_sets_together(
    train_request: TrainRequest, three: list[tuple[str, str]]
) -> None:
    order = prepare(replace(train_request, fraction=0.25), "cpu").stream(PSEUDO.wanted).order
    assert order.samples == 25 and order.places(0, 25) == Order(
        [16, 16, 8, 16, 16, 8, 20], 0, fraction=0.25
    ).places(0, 25)


@pytest.mark.slow
def test_a_run_of_several_sets_in_pieces_is_the_run_in_one(
    train_request: TrainRequest, tmp_path: Path
) -> None:
    quiet(train_request)
    pieces = replace(train_request, out=str(tmp_path / "pieces"))
    for images in (16, 24, 48):
        quiet(replace(pieces, images=images))
    assert weights(Path(pieces.out)) == weights(Path(train_request.out)) and losses(
        Path(pieces.out)
    ) == losses(Path(train_request.out))


@pytest.mark.slow
def test_a_run_says_which_sets_it_is_of_and_refuses_others(
    train_request: TrainRequest, three: list[tuple[str, str]]
) -> None:
    quiet(replace(train_request, images=8))
    metadata = runs.describe(Path(train_request.out))
    assert metadata["shards"]["dataset"] == "visual_atoms + toy"
    assert [row["url"] for row in metadata["shards"]["sets"]] == [s for s, _ in three]
    assert [row["digest"] for row in metadata["captions"]["sets"]] == [CaptionSet(c).digest for _, c in three]
    for chosen in (three[:2], three[:1], [*three[1:], three[0]]):
        shards, captions = zip(*chosen, strict=True)
        other = replace(train_request, shards=shards, captions=captions)
        refused(
            other, "the digest of shards is [0-9a-f]{12} there and [0-9a-f]{12} here; the digest of captions"
        )


def test_evaluation_reads_runs_of_several_sets(train_request: TrainRequest) -> None:
    from evaluate import tables
    from train.runs import find

    quiet(replace(train_request, images=8))
    (Path(train_request.out) / "metrics.jsonl").write_text(
        json.dumps({"images_seen": 8, "metric": "FID", "value": 1.0, "n": 2}) + "\n"
    )
    assert tables.row_of(find(train_request.out)).fitted_to == "visual_atoms + toy"


def test_grids_show_the_sets_by_turns(three: list[tuple[str, str]]) -> None:
    vectors, texts = captioned_sets.stored_texts(opened(three), 16)
    for n, (_, captions) in enumerate(opened(three)):
        assert captions
        table = captions.read(captions.parts[0], ["pseudo_caption", "caption"]).slice(0, 5)
        assert np.array_equal(vectors[n:15:3], np.array(table["pseudo_caption"].to_pylist(), np.float32))
        assert texts[n:15:3] == [choices[0] for choices in table["caption"].to_pylist()]
    assert texts[15] != texts[12] and len(texts) == len(vectors) == 16
    assert (
        len(captioned_sets.stored_texts(opened(three), 99)[1]) == 16 + 16 + 20
    )  # where the first shard of each has no more


def test_the_only_tables_of_each_set_are_found(
    train_request: TrainRequest, three: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    default = replace(train_request, captions=())
    shutil.copytree(three[0][1], "data/captions/visual_atoms/one")
    shutil.copytree(three[1][1], "data/captions/visual_atoms/large")
    refused(default, "no caption tables of .*told are in data/captions/toy")
    shutil.copytree(three[2][1], "data/captions/toy/one")
    assert [s.captions and s.captions.digest for s in prepare(default, "cpu").sets] == [
        CaptionSet(c).digest for _, c in three
    ]


def test_tables_belong_to_their_set_and_are_as_many(train_request: TrainRequest) -> None:
    refused(
        replace(train_request, captions=train_request.captions[:2]),
        "3 sets of shards and 2 of caption tables are given; give --captions once for each",
    )
    refused(
        replace(
            train_request,
            captions=(train_request.captions[1], train_request.captions[0], train_request.captions[2]),
        ),
        "were made for another set of shards",
    )


@pytest.mark.slow
def test_tables_of_two_encoders_are_not_read_as_one(
    train_request: TrainRequest, three: list[tuple[str, str]], tiny_encoder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_encoder, tmp_path / "other"))
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.25] * 3, "std": [0.25] * 3}}
    (other / "open_clip_config.json").write_text(json.dumps(config))
    make_tables(three[2][0], tmp_path / "tables", other)
    mixed = replace(train_request, captions=(*train_request.captions[:2], str(tmp_path / "tables")))
    refused(
        mixed,
        "was made by .*tiny and .*tables was made by .*other, which differ in preprocessing; "
        "give tables of one encoder",
    )
    assert encoders.find(str(other)).sha256 == encoders.find(str(tiny_encoder)).sha256
    make_tables(three[2][0], tmp_path / "nano", "nano")
    refused(
        replace(mixed, captions=(*train_request.captions[:2], str(tmp_path / "nano"))),
        "by nano, which differ in weights and dimensions",
    )


def test_every_set_is_checked_for_size_and_captions(
    train_request: TrainRequest, three: list[tuple[str, str]]
) -> None:
    refused(
        replace(train_request, settings=(*SETTINGS, "model.resolution=64")),
        "have 32 pixels a side, no power-of-two multiple",
    )
    large_first = replace(
        train_request, shards=(three[1][0], three[2][0]), captions=(three[1][1], three[2][1])
    )
    refused(
        replace(large_first, settings=(*SETTINGS, "model.resolution=64")),
        "pictures of .*told have 32 pixels a side",
    )
    told_first = [three[2], three[0]]
    with pytest.raises(UserError, match=r"visual_atoms-000000\.parquet has no column text_embedding"):
        stream(told_first, Visit(16, 0, Text.parse("caption"), 0.25, 0.0, PSEUDO.wanted))


def test_the_command_line_takes_sets_by_repeating(three: list[tuple[str, str]], tmp_path: Path) -> None:
    places = [word for s, c in three for word in ("--on", s, "--captions", c)]
    ended = invoke(app, "pretrain", "tiny-32", *places, "--out", tmp_path / "run", *OPTIONS, "--dry-run")
    assert any(row.get("samples_of_an_epoch") == 100 for row in json_lines(ended))
    assert not list(tmp_path.iterdir())
