"""Runs from request to checkpoint in this process: what they refuse, write, and start from."""

import io
import json
import resource
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from caption.table import CaptionSet
from synth.errors import UserError
from tests.kit import make_small, make_tables
from tests.kit_train import SETTINGS, losses, quiet, refused, weights
from train import checkpoint, config, log, presets, runs
from train.distributed import Ranks
from train.model import PRECISIONS, Wanted
from train.models.stylegan2 import DISCRIMINATOR, EMA, GENERATOR
from train.start import training
from train.start.prepared import Prepared, prepare
from train.start.request import TrainRequest
from train.start.training import Note, train, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train_request(undisturbed: Path, captioned: Path, tmp_path: Path) -> TrainRequest:
    """A run of a few steps."""
    return TrainRequest(
        "tiny-32",
        (str(undisturbed),),
        str(tmp_path / "run"),
        (str(captioned),),
        images=48,
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def trained(undisturbed: Path, captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 160 images: 20 steps."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("trained") / "run"
    quiet(
        TrainRequest(
            "tiny-32", (str(undisturbed),), str(run), (str(captioned),), images=160, settings=SETTINGS
        )
    )
    return run


def test_a_run_leaves_what_its_folder_is_said_to_hold(trained: Path) -> None:
    assert [row["images_seen"] for row in losses(trained)] == list(range(16, 161, 16))
    assert {
        "g/adversarial",
        "g/cond",
        "d/fake_adversarial",
        "d/real_adversarial",
        "d/real_cond",
        "path/path",
    } <= losses(trained)[0].keys()
    assert sorted(p.name for p in (trained / "samples").iterdir()) == [
        "000000000.png",
        "000000080.png",
        "000000160.png",
    ]
    assert [c.name for c in checkpoint.committed(trained)] == [
        "000000040",
        "000000080",
        "000000120",
        "000000160",
    ]
    metadata = runs.describe(trained)
    assert (
        metadata["config"]["model"]["resolution"] == 16
        and metadata["shards"]["digest"]
        and metadata["captions"]["digest"]
    )
    assert metadata["made_by"]["versions"]["safetensors"] == version("safetensors")


def test_only_the_last_two_checkpoints_keep_more_than_the_average(trained: Path) -> None:
    kept = {c.name: {p.stem for p in c.iterdir()} for c in checkpoint.committed(trained)}
    assert kept["000000040"] == kept["000000080"] == {"ema", "state", "COMMITTED"}
    parts = {"generator", "discriminator"}
    full = {"ema", *parts, *(f"{part}.optimiser" for part in parts), "state", "COMMITTED"}
    assert kept["000000120"] == kept["000000160"] == full


@pytest.mark.parametrize("stops", [pytest.param((8, 56, 120), marks=pytest.mark.slow), (72,)])
def test_a_run_in_pieces_is_the_run_in_one(
    train_request: TrainRequest, trained: Path, stops: tuple[int, ...]
) -> None:
    """Also where it was stopped between two lines of the log."""
    for images in (*stops, 160):
        quiet(replace(train_request, images=images))
    assert losses(Path(train_request.out)) == losses(trained)
    assert weights(Path(train_request.out)) == weights(trained)


@pytest.mark.slow
def test_what_lies_behind_the_last_marked_checkpoint_is_seen_again(
    train_request: TrainRequest, trained: Path
) -> None:
    run = Path(train_request.out)
    quiet(replace(train_request, images=120))
    (run / "checkpoints" / "000000120" / "COMMITTED").unlink()  # killed before it was marked
    (run / "checkpoints" / ".000000120.tmp").mkdir()
    with (run / log.LOG).open("a") as file:
        file.write('{"images_seen": 112, "g/adv')  # and in the middle of a line
    quiet(replace(train_request, images=160))
    assert losses(run) == losses(trained) and weights(run) == weights(trained)
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_tensorboard_shows_every_image_once(train_request: TrainRequest, trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Path(train_request.out)
    quiet(replace(train_request, images=96))
    shutil.rmtree(run / "checkpoints" / "000000096")
    [events] = (run / "tensorboard").iterdir()
    events.rename(events.with_name("events.out.tfevents.1"))  # they are read by the second of their start
    quiet(replace(train_request, images=160))
    accumulated = EventAccumulator(str(run / "tensorboard"))
    accumulated.Reload()
    shown = [(event.step, round(event.value, 4)) for event in accumulated.Scalars("g/adversarial")]
    assert shown == [(row["images_seen"], round(row["g/adversarial"], 4)) for row in losses(trained)]


def require_grids(run: Path, *steps: int) -> None:
    """Compares the grids of TensorBoard with the run's PNGs of these steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulated = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    accumulated.Reload()
    events = accumulated.Images("grid")
    assert tuple(event.step for event in events) == steps
    for event in events:
        with (
            Image.open(io.BytesIO(event.encoded_image_string)) as shown,
            Image.open(run / "samples" / f"{event.step:09d}.png") as stored,
        ):
            assert shown.size == stored.size and shown.tobytes() == stored.tobytes()


def test_tensorboard_shows_the_grids(trained: Path) -> None:
    require_grids(trained, 0, 80, 160)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1])
def test_a_resumed_run_shows_no_grid_twice(kept: int, train_request: TrainRequest) -> None:
    run = Path(train_request.out)
    quiet(replace(train_request, images=80))
    for lost in checkpoint.committed(run)[kept:]:
        shutil.rmtree(run / "checkpoints" / lost.name)
    [events] = (run / "tensorboard").iterdir()
    events.rename(events.with_name("events.out.tfevents.1"))  # they are read by the second of their start
    quiet(replace(train_request, images=160))
    require_grids(run, 0, 80, 160)


def test_a_finished_run_is_left_alone(train_request: TrainRequest, trained: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*.*") if p.name not in (".lock", log.LOG)}
    for images in (160, 100):
        done = replace(train_request, out=str(trained), images=images)
        notes = [event.text for event in train(done) if isinstance(event, Note)]
        assert notes == [f"finished: 160 of {images} images are seen; a larger --images goes on"]
    assert {
        p: p.stat().st_mtime_ns for p in trained.rglob("*.*") if p.name not in (".lock", log.LOG)
    } == before


@pytest.mark.slow
def test_images_that_no_batch_ends_at_are_passed(train_request: TrainRequest) -> None:
    """And periods shorter than a batch tell once a batch."""
    quiet(
        replace(
            train_request, images=13, settings=(*SETTINGS, "run.tick=1", "run.checkpoint=3", "run.samples=5")
        )
    )
    run = Path(train_request.out)
    assert [row["images_seen"] for row in losses(run)] == [8, 16]
    assert [c.name for c in checkpoint.committed(run)] == ["000000008", "000000016"]
    assert sorted(p.stem for p in (run / "samples").iterdir()) == ["000000000", "000000008", "000000016"]


@pytest.mark.slow
def test_how_a_run_is_carried_out_may_change(train_request: TrainRequest, trained: Path) -> None:
    quiet(
        replace(
            train_request, images=40, settings=(*SETTINGS, "run.workers=1", "run.tick=8", "run.checkpoint=16")
        )
    )
    quiet(replace(train_request, images=160))
    assert weights(Path(train_request.out)) == weights(trained)
    assert losses(Path(train_request.out))[-7:] == losses(trained)[-7:]


def test_another_seed_is_another_run(train_request: TrainRequest, trained: Path) -> None:
    quiet(replace(train_request, settings=(*SETTINGS, "training.seed=1")))
    assert losses(Path(train_request.out))[0] != losses(trained)[0]


# What is refused.


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("training.batch=10",), "a batch of 10 is not divided by groups of 4"),
        (("run.micro_batch=3",), "8 samples of a rank are not divided by run.micro_batch = 3"),
        (("run.micro_batch=2",), "2 samples at once are not divided by groups of 4"),
        (
            ("training.batch=7", "loss.contrastive_group=7", "model.mbstd_group=7"),
            "7 samples at once are not divided by 2, as stylegan2 needs",
        ),
        (
            ("model.resolution=64",),
            "have 32 pixels a side, no power-of-two multiple of model.resolution = 64",
        ),
        (("model.resolution=48",), "must be a power of two"),
        (("model.text_dim=64",), "has embeddings of 32 dimensions, and model.text_dim is 64"),
        (("loss.gamma=1",), "unknown setting 'loss.gamma'; known are .*cond_weight.*r1"),
        (
            ("losses.r1=1",),
            "unknown setting 'losses.r1=1'; known are model.resolution, .*loss.r1, .*run.cache_gb",
        ),
        (("training.batch",), "has no value; write training.batch=VALUE"),
        (("training.batch=many",), "it must be a whole number"),
        (("training.precision=fp8",), "it must be fp32 or bf16"),
        (("run.images=0",), r"it must lie in 1\.\.1,000,000"),
        (
            ("data.text=words",),
            "unknown text 'words'; give pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE",
        ),
        (("data.text=caption",), "has no column text_embedding"),
        (("data.fraction=0",), "fraction cannot be '0': fraction is 0.0; it must be above 0 and at most 1"),
        (("data.fraction=1.5",), "it must be above 0 and at most 1"),
        (("data.fraction=nan",), "fraction cannot be .nan.: it must be finite"),
    ],
)
def test_settings_that_make_no_run_are_refused(
    train_request: TrainRequest, settings: tuple[str, ...], sentence: str
) -> None:
    refused(replace(train_request, images=None, settings=(*SETTINGS, *settings)), sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"preset": "tiny"},
            "unknown preset 'tiny'; known are paper-256, lafite-256, small-64, tiny-32, coco-256",
        ),
        ({"precision": "fp16", "settings": ()}, "unknown precision 'fp16'; known are auto, fp32, bf16"),
        ({"shards": ("/nowhere",)}, "/nowhere"),
        ({"captions": ("/nowhere",)}, "/nowhere"),
        ({"source": "/nowhere"}, "/nowhere is no run"),
        ({"text": "mix:2"}, "unknown text 'mix:2'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"images": 0}, r"it must lie in 1\.\."),
        ({"fraction": 1.5}, "must be above 0 and at most 1"),
    ],
)
def test_requests_that_make_no_run_are_refused(
    train_request: TrainRequest, changes: dict[str, Any], sentence: str
) -> None:
    refused(replace(train_request, **changes), sentence)


def test_ranks_have_to_divide_the_batch_and_to_have_a_sample_each(train_request: TrainRequest) -> None:
    refused(train_request, "a batch of 8 is not divided by 3 ranks", ranks=3)
    refused(train_request, "2 samples at once are not divided by groups of 4", ranks=4)
    many = ("training.batch=160", "data.fraction=0.5", "model.mbstd_group=4")
    refused(
        replace(train_request, settings=(*SETTINGS, *many)),
        "40 ranks are more than the 20 samples of the set",
        ranks=40,
    )


@pytest.mark.slow
def test_captions_have_to_be_made_for_these_shards(
    train_request: TrainRequest, finished: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    other = replace(train_request, shards=(str(finished),))
    quiet(replace(other, images=8))
    make_small(finished, samples=44)
    refused(other, "has changed since the tables of .* were made; repeat the command that made the tables")
    make_tables(finished, tmp_path / "tables", tiny_encoder)
    grown = replace(other, captions=(str(tmp_path / "tables"),))
    refused(
        grown,
        "the digest of shards is [0-9a-f]{12} there and [0-9a-f]{12} here; the digest of captions is .*; "
        "give another --out",
    )
    make_small(tmp_path / "others", settings=("canvas=64", "orbits=1,10"))
    refused(replace(train_request, shards=(str(tmp_path / "others"),)), "were made for another set of shards")


def test_the_only_tables_are_found_and_several_are_listed(
    train_request: TrainRequest, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    default = replace(train_request, captions=())
    refused(default, "no caption tables of .* are in data/captions/visual_atoms; `make captions` makes them")
    shutil.copytree(captioned, "data/captions/visual_atoms/one")
    [(_, tables)] = prepare(default, "cpu").sets
    assert tables and tables.storage.url.endswith("visual_atoms/one")
    shutil.copytree(captioned, "data/captions/visual_atoms/two")
    refused(
        default,
        "has several caption tables; choose by --encoder, or by --captions: "
        ".*visual_atoms/one, .*visual_atoms/two",
    )


def test_a_wrong_encoder_is_refused(train_request: TrainRequest, tiny_encoder: Path, tmp_path: Path) -> None:
    contrasted = tuple(s for s in SETTINGS if not s.startswith("loss.cong_weight"))
    refused(
        replace(train_request, settings=contrasted, encoder="nano"),
        "the encoder nano has other weights than the one that made",
    )
    # Also if no loss needs it, as the config would name it and nothing could draw the run's texts.
    refused(
        replace(train_request, encoder="nano"), "the encoder nano has other weights than the one that made"
    )
    refused(replace(train_request, encoder=str(tmp_path / "gone")), "; or leave --encoder out")
    moved = Path(shutil.copytree(tiny_encoder, tmp_path / "moved"))
    refused(
        replace(train_request, settings=contrasted, encoder=str(tmp_path / "gone")),
        "L_ConG needs the captions' encoder: .*cong_weight=0 does without",
    )
    assert prepare(replace(train_request, settings=contrasted, encoder=str(moved)), "cpu").encoder is not None
    assert prepare(replace(train_request, encoder=str(moved)), "cpu").encoder is None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_encoder_computes_in_the_precision_of_the_run(
    train_request: TrainRequest, tiny_encoder: Path, precision: str
) -> None:
    settings = (*(s for s in SETTINGS if "cong_weight" not in s), f"training.precision={precision}")
    prepared = prepare(replace(train_request, settings=settings, encoder=str(tiny_encoder)), "cpu")
    assert prepared.encoder is not None and prepared.encoder.precision == precision


def test_another_run_at_the_same_place_is_refused(train_request: TrainRequest, trained: Path) -> None:
    before = weights(trained)
    other = replace(train_request, out=str(trained), settings=(*SETTINGS, "loss.r1=1", "training.g_lr=0.001"))
    refused(
        other,
        "holds another run: .*loss.r1 is 10.0 there and 1.0 here.*"
        "training.g_lr is 0.0025 there and 0.001 here; give another --out",
    )
    refused(
        replace(train_request, out=str(trained), source=str(trained)),
        "the digest of from is None there and [0-9a-f]{12} here",
    )
    assert weights(trained) == before


def test_a_rank_that_reads_other_sets_than_the_first_is_refused(
    train_request: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "join", lambda device: Ranks(rank=1))

    def overtaken(*args: Any, **options: Any) -> Prepared:
        prepared = prepare(*args, **options)
        first = {**prepared.metadata, "shards": {**prepared.metadata["shards"], "digest": "0"}}
        prepared.run.mkdir()
        (prepared.run / runs.CONFIG).write_text(json.dumps(first))
        return prepared

    monkeypatch.setattr(training, "prepare", overtaken)
    with pytest.raises(UserError, match=r"the digest of shards is 0 there and [0-9a-f]{12} here"):
        quiet(train_request)


def test_an_export_is_not_trained(train_request: TrainRequest, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    exported = {**runs.describe(trained), "exported": "0", "images_seen": 160}
    (tmp_path / "exported" / runs.CONFIG).write_text(json.dumps(exported))
    refused(
        replace(train_request, out=str(tmp_path / "exported")), "holds an export, which no training resumes"
    )


def test_a_folder_that_holds_something_else_is_left_alone(
    train_request: TrainRequest, tmp_path: Path
) -> None:
    Path(train_request.out).mkdir()
    (Path(train_request.out) / "thesis.tex").write_text("precious")
    refused(train_request, "is not empty and holds no run")
    assert [p.name for p in Path(train_request.out).iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file; give a folder"):
        quiet(replace(train_request, out=str(tmp_path / "file" / "run")))


def test_what_a_killed_start_leaves_is_no_obstacle(train_request: TrainRequest) -> None:
    Path(train_request.out).mkdir()
    for name in (".lock", ".config.json.part"):
        (Path(train_request.out) / name).write_text("{")
    quiet(train_request)
    assert len(losses(Path(train_request.out))) == 3


@pytest.mark.slow
def test_two_trainers_do_not_share_a_run(train_request: TrainRequest) -> None:
    quiet(replace(train_request, images=8))
    with log.locked(Path(train_request.out)), pytest.raises(UserError, match="another process trains in"):
        quiet(train_request)
    quiet(train_request)


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_is_refused(train_request: TrainRequest) -> None:
    quiet(replace(train_request, images=40))
    newest = checkpoint.require(Path(train_request.out))
    for name in (
        "generator.safetensors",
        "discriminator.optimiser.safetensors",
        "state.safetensors",
        checkpoint.STATE,
    ):
        whole = (newest / name).read_bytes()
        (newest / name).write_bytes(whole[:-9])
        refused(
            train_request,
            f"{name} is damaged: it differs from its mark; "
            "remove the folder to go on from the checkpoint before",
        )
        (newest / name).write_bytes(whole)
    shutil.rmtree(newest)
    quiet(train_request)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk_ends_a_run_with_a_sentence(train_request: TrainRequest, trained: Path) -> None:
    run = Path(train_request.out)
    quiet(replace(train_request, images=40))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # the kernel refuses larger files
    try:
        with pytest.raises(UserError, match="refuses files of this size; make room"):
            quiet(replace(train_request, images=160))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["000000040"]
    quiet(replace(train_request, images=160))
    assert losses(run) == losses(trained) and weights(run) == weights(trained)


# Fine-tuning.


def test_fine_tuning_starts_from_the_exact_weights(train_request: TrainRequest, trained: Path) -> None:
    tuned = replace(
        train_request, preset="emoji-32", source=str(trained), settings=(*SETTINGS, "data.text=stored")
    )
    prepared = prepare(tuned, "cpu")
    trainer = trainer_of(prepared, Ranks(), None)
    newest = checkpoint.require(trained)
    for name, module in {**trainer.parts, **trainer.averages}.items():
        saved = load_file(newest / f"{name}.safetensors")
        assert saved.keys() == module.state_dict().keys()
        assert all(torch.equal(saved[key], value) for key, value in module.state_dict().items())
    assert {*trainer.parts, *trainer.averages} == {GENERATOR, DISCRIMINATOR, EMA}
    assert trainer.images_seen == 0 and float(trainer.model.state["path_mean"]) == 0
    for part, c in ((GENERATOR, 2 / 3), (DISCRIMINATOR, 3 / 4)):  # as regularised every 2 and 3 steps
        optimiser = trainer.model.optimisers[part]
        assert not optimiser.state and optimiser.param_groups[0]["lr"] == pytest.approx(1e-3 * c)


@pytest.mark.slow
def test_fine_tuning_goes_on_where_its_source_has_moved_on(
    train_request: TrainRequest, trained: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(trained, tmp_path / "source"))
    tuned = replace(train_request, out=str(tmp_path / "tuned"), source=str(source))
    quiet(replace(tuned, images=16))
    quiet(replace(train_request, out=str(source), images=168))
    quiet(replace(tuned, source=f"{source}/"))
    assert runs.describe(tmp_path / "tuned")["from"]["checkpoint"] == "000000160"
    assert [row["images_seen"] for row in losses(tmp_path / "tuned")] == [16, 32, 48]

    # Without a checkpoint, it needs the parts that thinning has removed.
    quiet(replace(train_request, out=str(source), images=176))
    begun = Path(shutil.copytree(tmp_path / "tuned", tmp_path / "begun"))
    shutil.rmtree(begun / "checkpoints")
    refused(replace(tuned, out=str(begun)), "the digest of from is .* there and .* here; give another --out")

    # The checkpoint is enough, so that of the source may be gone, and the source too.
    quiet(replace(tuned, images=56))
    shutil.rmtree(source / "checkpoints" / "000000160")
    quiet(replace(tuned, images=64))
    shutil.rmtree(source)
    quiet(replace(tuned, source=f"{source}/", images=80))
    assert [row["images_seen"] for row in losses(tmp_path / "tuned")] == [16, 32, 48, 64, 80]
    refused(replace(tuned, out=str(tmp_path / "new")), "source is no run: there is no such folder")


def test_a_source_of_another_model_is_refused(train_request: TrainRequest, trained: Path) -> None:
    other = replace(
        train_request, source=str(trained), settings=(*SETTINGS, "model.resolution=32", "model.style=w")
    )
    refused(
        other,
        "is of another model: model.resolution is 16 there and 32 here; "
        "model.style is stylespace there and w here",
    )


def test_a_source_that_reads_another_encoders_texts_is_refused(
    train_request: TrainRequest, trained: Path, undisturbed: Path, tmp_path: Path
) -> None:
    make_tables(undisturbed, tmp_path / "nano", "nano")
    changed = (*SETTINGS, "model.text_dim=128")
    refused(
        replace(train_request, captions=(str(tmp_path / "nano"),), source=str(trained), settings=changed),
        "give captions of these shards by",
    )


def test_a_fraction_is_a_fixed_part_of_the_set(train_request: TrainRequest) -> None:
    part = replace(train_request, source=None, fraction=0.25)
    streams = [
        prepare(r, "cpu").stream(Wanted(("d", "g")))
        for r in (part, part, replace(part, settings=(*SETTINGS, "training.seed=1")))
    ]
    seen = [{(p.shard, p.row) for p in s.order.places(0, 200)} for s in streams]
    assert len(seen[0]) == 10 and seen[0] == seen[1] != seen[2]


# Presets.


def test_presets_are_the_experiments_that_they_name() -> None:
    configs = {name: preset.make() for name, preset in presets.PRESETS.items()}
    paper, lafite = configs["paper-256"].groups, configs["lafite-256"]
    assert (paper.model.resolution, paper.model.channel_base, paper.training.batch) == (256, 32768, 64)
    assert (paper.training.g_lr, paper.training.d_lr) == (2.5e-3, 2.5e-3)
    assert (paper.loss.r1, paper.loss.cond_weight, paper.loss.cong_weight) == (10, 5, 10)
    assert (paper.loss.projection, paper.loss.contrast, paper.model.style) == (
        "sample",
        "softmax",
        "stylespace",
    )
    assert configs["paper-256"].data.xi == 0.25 and configs["paper-256"].run.images == 10_000_000
    switches = lafite.groups.loss.projection, lafite.groups.loss.contrast, lafite.groups.model.style
    assert switches == ("batch_sum", "sharpened", "w")
    assert lafite.data.xi == 3.0 and lafite.data.caption_xi == pytest.approx(1 / 9)
    tiny = configs["tiny-32"].groups.model
    assert (tiny.z_dim, tiny.w_dim, tiny.text_width) == (128, 128, 128)
    assert (tiny.channel_base, tiny.channel_max, tiny.mapping_layers) == (1024, 64, 2)


def test_fine_tuning_presets_have_the_papers_rates_and_parts() -> None:
    configs = {name: preset.make() for name, preset in presets.PRESETS.items()}
    tuned = ("coco-256", "cub-256", "celeba_hq-256", "emoji-32")
    rates = {name: (configs[name].groups.training.g_lr, configs[name].groups.training.d_lr) for name in tuned}
    assert rates == {
        "coco-256": (2.5e-3, 1e-3),
        "cub-256": (1e-3, 1e-3),
        "celeba_hq-256": (1e-3, 1e-3),
        "emoji-32": (1e-3, 1e-3),
    }
    parts = {
        name: run_config.data.fraction
        for name, run_config in configs.items()
        if run_config.data.text == "caption"
    }
    whole = dict.fromkeys(("emoji-32", "emoji-32-diffusion", "clip-32", "stablerep-plus-32"), 1)
    assert parts == {"coco-256": 0.1, "cub-256": 0.1, "celeba_hq-256": 0.1, **whole}


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_divides_its_batch_and_comes_back_from_json(name: str) -> None:
    run_config = presets.get(name).make()
    assert config.require_divisible(run_config, 1) == run_config.groups.training.batch
    assert config.from_json(config.to_json(run_config), run_config.name) == run_config


def test_fine_tuning_presets_fit_what_they_are_tuned_from() -> None:
    for tuned, source in (
        ("coco-256", "paper-256"),
        ("cub-256", "paper-256"),
        ("celeba_hq-256", "paper-256"),
        ("emoji-32", "tiny-32"),
    ):
        assert presets.get(tuned).make().groups.model == presets.get(source).make().groups.model


def test_captions_of_a_run_decide_its_width(train_request: TrainRequest, captioned: Path) -> None:
    assert (
        prepare(train_request, "cpu").config.groups.model.text_dim
        == CaptionSet(str(captioned)).dimensions
        == 32
    )


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("images", 8, "run.images=9"),
        ("fraction", 0.5, "data.fraction=1"),
        ("text", "stored", "data.text=pseudo"),
        ("precision", "bf16", "training.precision=fp32"),
    ],
)
def test_an_option_and_the_same_setting_are_refused(
    train_request: TrainRequest, option: str, value: Any, setting: str
) -> None:
    changed = replace(train_request, settings=(*SETTINGS, setting), **{"images": None, option: value})
    refused(
        changed, f"--{option} and --set {setting.partition('=')[0]} are the same setting; give one of them"
    )
