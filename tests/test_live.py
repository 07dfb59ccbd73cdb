"""Live sets: pictures and sentences that readers draw, in place of shards and tables."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caption import encoders
from caption.sentences import names
from caption.sentences.attributes import sentences
from synth import seeds
from synth.errors import UserError
from tests.kit import ROOT, json_lines, make_small, make_tables, samples
from tests.kit_train import first, quiet, refused, stream, weights
from train import export, provenance, runs
from train.estimate import estimate
from train.model import Wanted
from train.start import prepared
from train.start.prepared import prepare
from train.start.request import TrainRequest
from train.stream import live
from train.stream.batches import Batch
from train.stream.cache import Cache
from train.stream.mixture import Live, Mixture, Stored
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 40
SETS = {
    "scenes_flat": ("objects=1,2", "split=train"),
    "scenes": ("split=train",),
    "fractals": ("points=2000",),
    "fractals_multi": ("points=500", "figures=1,2"),
    "visual_atoms": ("canvas=64", "orbits=1,20"),
    "fractaldb": ("points=2000",),
    "noise": (),
}
TEXTS = ("caption", "blend:0.7", "blend:1,short", "blend:0.5,long", "blend:0.9,facts=1..4")
SMALL = (
    *("model.itself=8", "model.reads=8", "model.resolution=8", "model.channels=32,32"),
    *("model.text_width=32", "model.text_dim=32", "training.batch=8", "training.drop_vector=1"),
    *("training.precision=fp32", "run.tick=16", "run.checkpoint=1000", "run.samples=32", "run.workers=0"),
)


def codes(text: str) -> list[int]:
    """The tokens of a text: its characters."""
    return [ord(letter) for letter in text]


def visit(text: str, side: int = 32) -> Visit:
    return Visit(side, 4, Text.parse(text), 0.25, 0.0, Wanted((), tokenise=codes))


def live_set(name: str, *changes: str, side: int = 32) -> live.LiveSet:
    [one] = live.find([name], [], [f"live.{name}.{change}" for change in changes], side).sets
    return one


def live_stream(*sets: live.LiveSet, text: str = "caption") -> Stream:
    shares = [1 / len(sets)] * len(sets)
    return Stream([], visit(text), cache=Cache(None), live=sets, shares=shares)


def bytes_of(batches: list[Batch]) -> list[tuple[bytes, bytes]]:
    rows = [(batch.pictures, batch.tokens) for batch in batches]
    return [
        (pictures.numpy().tobytes(), tokens.numpy().tobytes())
        for pictures, tokens in rows
        if tokens is not None
    ]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> tuple[Path, Path]:
    """Shards of flat scenes and their tables with names."""
    out = tmp_path_factory.mktemp("scenes")
    make_small(out / "s", dataset="scenes_flat", seed=5, shard_size=4096, settings=SETS["scenes_flat"])
    make_tables(out / "s", out / "t", tiny_encoder, names=True, precision="fp32")
    return out / "s", out / "t"


@pytest.mark.parametrize("name", SETS)
def test_a_live_picture_and_its_json_equal_those_of_shards(name: str, tmp_path: Path) -> None:
    make_small(tmp_path / "s", dataset=name, seed=3, samples=6, settings=SETS[name])
    drawn = live_set(name, "seed=3", *SETS[name])
    for index, stored in enumerate(samples(tmp_path / "s")):
        sample = drawn.drawn(index)
        assert np.array_equal(np.broadcast_to(sample.pixels, stored.pixels.shape), stored.pixels)
        assert sample.whole() == {key: value for key, value in stored.metadata.items() if key != "crc32"}
        for k in (2, 5):
            assert names.stating(sample, k, seeds.Stream(index)) == names.stating(
                stored.metadata, k, seeds.Stream(index)
            )
        texts = [*sentences(stored.metadata), names.name(stored.metadata)]
        assert [*sentences(sample), names.name(sample)] == texts


@pytest.mark.parametrize("text", TEXTS)
def test_the_batches_of_a_live_set_equal_those_of_its_shards_and_tables(
    scenes: tuple[Path, Path], text: str
) -> None:
    drawn = live_set("scenes_flat", "seed=5", f"pictures={COUNT}", *SETS["scenes_flat"])
    stored = first(stream(*scenes, visit(text)).batches(24, 8), 6)
    assert bytes_of(first(live_stream(drawn, text=text).batches(24, 8), 6)) == bytes_of(stored)


@pytest.mark.parametrize("text", ["pseudo", "caption", "mix:0.5", "blend:0.7", "blend:0.5,long"])
def test_vectors_of_live_pictures_are_those_of_their_tables(
    scenes: tuple[Path, Path], text: str, tiny_encoder: Path
) -> None:
    """Up to rounding, as an encoder sums a picture in other batches otherwise."""
    seen = replace(visit(text), wanted=Wanted(("d", "g"), tokenise=codes))
    drawn = live_set("scenes_flat", "seed=5", f"pictures={COUNT}", *SETS["scenes_flat"])
    one = {"live": [drawn], "shares": [1.0], "encoder": encoders.find(str(tiny_encoder))}
    batches = first(Stream([], seen, cache=Cache(None), **one).batches(24, 24), 2)  # type: ignore[arg-type]
    for there, here in zip(first(stream(*scenes, seen).batches(24, 24), 2), batches, strict=True):
        assert here.embedding > 0 and there.embedding == 0
        assert there.tokens is not None and here.tokens is not None and torch.equal(there.tokens, here.tokens)
        for name, vectors in there.vectors.items():
            assert torch.allclose(vectors, here.vectors[name], atol=2e-3)


@pytest.mark.slow
def test_a_run_with_vectors_embeds_live_pictures_and_prints_the_time(
    request_of: TrainRequest, tiny_encoder: Path, tmp_path: Path
) -> None:
    settings = tuple(change for change in request_of.settings if "drop_vector" not in change)
    both = replace(request_of, settings=settings, encoder=str(tiny_encoder))
    assert quiet(replace(both, images=32, out=str(tmp_path / "whole"))) == 0
    assert quiet(replace(both, images=16)) == 0
    assert quiet(replace(both, images=32)) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    rows = json_lines(tmp_path / "whole" / "log.jsonl")
    assert all(row["embedding_seconds_per_kimg"] > 0 for row in rows)
    assert runs.find(tmp_path / "run").encoder().dimensions == 32


def test_an_endless_live_set_shows_its_pictures_by_index() -> None:
    drawn = live_set("scenes_flat")
    [batch] = first(live_stream(drawn).batches(40, 4), 1)
    for row, picture in enumerate(batch.pictures[:, 0]):
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), drawn.drawn(40 + row).pixels)
    assert live_stream(drawn).order.samples is None


@pytest.mark.slow
def test_ranks_and_readers_change_no_batch_of_live_sets() -> None:
    source = live_stream(live_set("scenes_flat"), live_set("fractals", "points=2000"), text=TEXTS[-1])
    [alone] = first(source.batches(1020, 8), 1)
    parts = [first(source.batches(1020, 8, rank=rank, ranks=2, workers=rank), 1)[0] for rank in range(2)]
    assert torch.equal(torch.cat([part.pictures for part in parts]), alone.pictures)


def test_a_larger_drawing_is_averaged_down() -> None:
    [sample] = list(live_set("fractals", "size=64", "points=2000", "pictures=1").samples(32, lambda _: ["a"]))
    boxes = (
        live_set("fractals", "size=64", "points=2000").drawn(0).pixels.reshape(32, 2, 32, 2, 3).astype(int)
    )
    assert np.array_equal(sample.pixels, (boxes.sum(axis=(1, 3)) + 2) // 4)


def test_scenes_are_of_the_training_split_unless_a_setting_says_otherwise() -> None:
    assert live_set("scenes").config.split == "train"
    assert live_set("scenes", "split=all").config.split == "all"


# The order.


def mixture() -> Mixture:
    return Mixture([Live(3, None, 4), Live(4, 50, 4), Stored([7, 3, 5], 4, 0)], (0.5, 0.3, 0.2), 4)


def test_every_block_of_a_mixture_has_the_stated_shares_and_every_source_its_order() -> None:
    order = mixture()
    places = order.places(0, 4096)
    sources = ["stored" if place.shard < 3 else place.shard for place in places]
    for block in range(0, 4096, 1024):
        counts = Counter(sources[block : block + 1024])
        assert all(
            abs(counts[source] - share * 1024) <= 1 for source, share in ((3, 0.5), (4, 0.3), ("stored", 0.2))
        )
    rows = [place.row for place in places if place.shard == 3]
    assert rows == list(range(len(rows)))
    assert [place for place in places if place.shard < 3] == Stored([7, 3, 5], 4, 0).places(
        0, sources.count("stored")
    )


def test_any_position_of_a_mixture_can_be_gone_on_from() -> None:
    order, together = mixture(), mixture().places(0, 3000)
    for position, count in ((0, 1), (1000, 100), (1024, 64), (2047, 2)):
        assert order.places(position, count) == together[position : position + count]


# Runs.


@pytest.fixture
def request_of(scenes: tuple[Path, Path], tmp_path: Path) -> TrainRequest:
    """A run of a small denoiser on live scenes."""
    settings = (
        *SMALL,
        *(f"live.scenes_flat.{change}" for change in ("pictures=64", "size=32", *SETS["scenes_flat"])),
    )
    request = TrainRequest("diffusion-32", (), str(tmp_path / "run"), images=48, text=TEXTS[-1], device="cpu")
    return replace(request, live=("scenes_flat",), settings=settings)


@pytest.mark.slow
def test_a_run_on_a_live_set_equals_one_on_its_shards(
    request_of: TrainRequest, scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    exact = (f"pictures={COUNT}", "seed=5")
    drawn = (*request_of.settings, *(f"live.scenes_flat.{change}" for change in exact))
    stored = replace(
        request_of, live=(), shards=(str(scenes[0]),), captions=(str(scenes[1]),), settings=SMALL
    )
    assert quiet(replace(request_of, settings=drawn)) == 0
    assert quiet(replace(stored, out=str(tmp_path / "stored"))) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "stored")


@pytest.mark.slow
def test_a_resumed_mixture_equals_an_undisturbed_one(
    request_of: TrainRequest,
    undisturbed: Path,
    captioned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepared, "_SURVEYED", 100)
    both = replace(
        request_of, live=("scenes_flat", "fractals"), shards=(str(undisturbed),), captions=(str(captioned),)
    )
    shares = ("live.scenes_flat.share=0.5", "on.visual_atoms.share=0.2", "live.fractals.points=500")
    both = replace(both, text="caption", settings=(*both.settings, *shares))
    assert quiet(replace(both, out=str(tmp_path / "whole"))) == 0
    assert quiet(replace(both, images=24)) == 0
    assert quiet(both) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    rows = runs.describe(tmp_path / "run")["shards"]["sets"]
    assert [row["share"] for row in rows] == pytest.approx([0.5, 0.3, 0.2])
    refused(replace(both, settings=(*both.settings, "live.fractals.seed=1")), "the digest of shards is")
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == [
        "000000000.png",
        "000000032.png",
    ]


def test_the_config_and_the_card_name_live_sets_with_seed_and_settings(
    request_of: TrainRequest, tmp_path: Path
) -> None:
    assert quiet(replace(request_of, images=8)) == 0
    run = runs.find(tmp_path / "run")
    identity = run.metadata["shards"]["live"]
    assert identity["seed"] == 0 and identity["config"]["objects"] == [1, 2]
    assert run.metadata["captions"] is None and {"a", "red", "disc"} <= set(run.survey["words"])
    [row] = provenance.data_of(run)
    assert row["licence"] == "CC0-1.0"
    order = "drawn while training, share 1, 64 pictures, seed 0, 32 pixels a side"
    assert row["name"] == "scenes_flat"
    assert row["read"] == f"{order}, classes=60, objects=1,2, split=train"


@pytest.mark.slow
def test_an_export_with_all_parts_starts_a_fine_tuning_on_drawn_pictures(
    request_of: TrainRequest, tmp_path: Path
) -> None:
    base, exported = replace(request_of, images=16), str(tmp_path / "exported")
    assert quiet(base) == 0
    export.export(base.out, exported)
    drawn = (*SMALL, "live.noise.pictures=64")
    tuned = replace(base, source=exported, out=str(tmp_path / "tuned"), live=("noise",), settings=drawn)
    assert quiet(tuned) == 0

    # Words keep their numbers, averages go on from the export's weights, and the card names both sets.
    run, before = runs.find(tuned.out), runs.find(base.out)
    known = before.survey["words"]
    assert run.survey["words"][: len(known)] == known and len(run.survey["words"]) > len(known)
    there = runs.load(exported).parts["denoiser"].state_dict()
    here = runs.load(tuned.out).averages["ema"].state_dict()
    common = [name for name in there if there[name].shape == here[name].shape]
    assert 0 < max(float((there[name] - here[name]).abs().max()) for name in common) < 1e-3
    assert [row["name"] for row in provenance.data_of(run)] == ["noise", "scenes_flat"]
    assert provenance.measured(run, 16)["images"] == 32


@pytest.mark.slow
def test_a_denoiser_of_small_pictures_starts_one_of_larger_pictures(
    request_of: TrainRequest, tmp_path: Path
) -> None:
    assert quiet(replace(request_of, images=8)) == 0
    large = ("model.resolution=16", "model.channels=32,32,32")
    tuned = replace(request_of, source=request_of.out, out=str(tmp_path / "tuned"), images=8)
    assert quiet(replace(tuned, settings=(*request_of.settings, *large))) == 0
    inner, outer = (
        load_file(tmp_path / run / "checkpoints" / "000000008" / "denoiser.safetensors")
        for run in ("run", "tuned")
    )
    same, moved = (f"unet.down.{level}.block.conv.weight" for level in (0, 1))
    assert float((outer[moved] - inner[same]).abs().max()) < 1e-3  # a step at rates that begin to rise
    other = replace(tuned, out=str(tmp_path / "other"), settings=(*request_of.settings, large[0]))
    refused(other, "is of another model: model.resolution is 8 there and 16 here")


def test_models_that_read_words_alone_may_have_captions_of_different_encoders(
    request_of: TrainRequest, scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    source = str(tmp_path / "run")
    assert quiet(replace(request_of, images=8)) == 0
    metadata = json.loads((tmp_path / "run" / "config.json").read_text())
    metadata["encoder"] = {"name": "another", "digest": "0"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(metadata))
    tuned = replace(request_of, source=source, out=str(tmp_path / "tuned"), live=(), settings=SMALL)
    tuned = replace(tuned, shards=(str(scenes[0]),), captions=(str(scenes[1]),), text="caption")
    assert prepare(tuned, "cpu").source is not None
    vectors = replace(tuned, settings=(*SMALL, "training.drop_vector=0"))
    assert prepare(vectors, "cpu").source is not None
    metadata["config"]["training"]["drop_vector"] = 0.5
    (tmp_path / "run" / "config.json").write_text(json.dumps(metadata))
    refused(vectors, "was trained with another")
    kept = [each for each in request_of.settings if not each.startswith("training.drop_vector")]
    drawn = replace(request_of, source=source, out=str(tmp_path / "drawn"), encoder="nano", text="pseudo")
    drawn = replace(drawn, settings=(*kept, "training.drop_vector=0.5"))
    refused(drawn, "was trained with another, and --encoder is nano; give --encoder another")


def test_a_dry_run_prints_the_cost_of_a_live_run(request_of: TrainRequest) -> None:
    rows = list(estimate(request_of))
    assert rows[-1]["seconds_per_kimg"] > 0 and rows[-2]["samples_of_an_epoch"] == 64
    assert not Path(request_of.out).exists()


@pytest.mark.slow
def test_a_live_run_imports_no_ray(tmp_path: Path) -> None:
    words = [
        "train",
        "pretrain",
        "diffusion-32",
        "--live",
        "noise",
        "--images",
        "8",
        "--out",
        str(tmp_path / "run"),
    ]
    words += [word for change in (*SMALL, "live.noise.pictures=8") for word in ("--set", change)]
    lines = f"import sys, runpy\nsys.argv = {words!r}\ntry: runpy.run_module('train', run_name='__main__')\n"
    lines += "finally: print([name for name in sys.modules if name.split('.')[0] in ('ray', 'moderngl')])"
    ended = subprocess.run(
        [sys.executable, "-c", lines], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("names", "changes", "sentence"),
    [
        (("scenes", "scenes"), (), "--live scenes is given twice; give it once"),
        (
            ("shaders",),
            (),
            "programs draw shaders, .* use `make shards DATASET=shaders SIZE=32`, and --on shaders",
        ),
        (("stars",), (), "unknown data set 'stars'; known are visual_atoms"),
        (
            ("scenes",),
            ("live.scenes.colour=1",),
            "unknown setting live.scenes.colour; known are live.scenes.share",
        ),
        (("scenes",), ("live.noise.seed=1",), "of no set of this run; known are live.scenes"),
        (("scenes",), ("live.scenes.pictures=0",), "pictures must be at least 1"),
        (("scenes",), ("live.scenes.pictures=1000000000000",), "pictures must be at most 4,294,967,296"),
        (("scenes",), (f"live.scenes.seed={1 << 64}",), "seed must be at most 18,446,744,073,709,551,615"),
        (("scenes",), ("live.scenes.size=48",), "live.scenes.size is 48; it must be a power-of-two multiple"),
        (("scenes",), ("live.scenes.share=0.5",), "must sum to 1"),
        (("scenes", "noise"), ("live.noise.share=0.001",), "each be at least 0.01"),
        (("scenes", "noise"), ("live.noise.share=1.5",), "each be at least 0.01"),
    ],
)
def test_bad_live_sets_are_refused(names: tuple[str, ...], changes: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        live.find(names, [], changes, 32)


def test_shares_of_stored_sets_follow_their_names() -> None:
    """Two sets may have one name, and a name may have dots."""
    changes = ("on.a.b.share=0.2", "on.a.share=0.3", "live.noise.seed=7")
    requested = live.find(["noise"], ["a.b", "a", "a.b"], changes, 32)
    assert requested.shares == pytest.approx((0.3, 0.2, 0.3, 0.2)) and requested.sets[0].seed == 7
    with pytest.raises(UserError, match=r"setting on\.a\.share cannot be 'much'"):
        live.find(["noise"], ["a"], ["on.a.share=much"], 32)


def test_a_run_beyond_the_end_of_its_rates_says_so(request_of: TrainRequest) -> None:
    ends = replace(
        request_of, settings=(*request_of.settings, "training.decay_from=0", "training.decay_to=32")
    )
    assert prepare(ends, "cpu").note == (
        "the learning rates are 0 from 32 images on, and the run has 48;"
        " give --set training.decay_to=48 to use them all"
    )
    assert not prepare(replace(ends, images=32), "cpu").note and not prepare(request_of, "cpu").note


def test_a_run_refuses_what_live_sets_do_not_have(request_of: TrainRequest, tiny_encoder: Path) -> None:
    with_vectors = tuple(change for change in request_of.settings if "drop_vector" not in change)
    refused(
        replace(request_of, settings=with_vectors), "give --encoder nano, .* or --set training.drop_vector=1"
    )
    stored = replace(request_of, settings=with_vectors, encoder=str(tiny_encoder), text="stored")
    refused(stored, "--text is stored, and --live has no tables")
    refused(replace(request_of, text="synthetic"), "give --text blend:1")
    refused(replace(request_of, encoder="nano"), "--encoder is nano, .* reads no vectors; leave it out")
    deaf = (*request_of.settings, "training.drop_words=1", "training.drop_vector=1")
    refused(replace(request_of, settings=deaf), "so the model would read no texts; give one of them below 1")
    refused(replace(request_of, fraction=0.5), "fraction is 0.5, .* give --set data.fraction=1")
    refused(replace(request_of, live=(), shards=("x",)), "needs live sets|x")
