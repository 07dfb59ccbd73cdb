"""Latents of a set as tables, and the diffusion model that reads them."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from caption.table import read_table, vectors
from evaluate.cli import app as measuring
from synth.errors import UserError
from synth.sets import completion
from synth.sets.shards import ShardSet
from tests.kit import invoke, json_lines, refusal, samples
from tests.kit_train import PSEUDO, first, quiet, refused
from train import autoencoders, export, presets, runs
from train.cli import app
from train.model import Wanted
from train.models import diffusion
from train.models.autoencoder_networks import AutoencoderSizes, LatentDecoder, LatentEncoder
from train.models.unet import UNet
from train.sampling import draw
from train.sampling.editing import Editor
from train.start.request import TrainRequest
from train.stream import latents
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.latent_tables import LATENT, LatentSet, deviation
from train.stream.latents import LatentRequest
from train.stream.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

AUTOENCODER = (
    *("model.resolution=32", "model.channels=8,16,16", "model.planes=2", "model.critic_layers=1"),
    *("model.critic_channels=8", "loss.network=none", "training.batch=8", "run.workers=0"),
)
SHAPE = (2, 8, 8)
DENOISER = (
    *("model.reads=4,8", "model.itself=4", "model.factor=4", "model.planes=2", "model.channels=32,32"),
    *("model.text_width=32", "training.batch=8", "run.workers=0"),
)


def autoencoder(shards: Path, out: Path, *more: str) -> Path:
    quiet(
        TrainRequest(
            "autoencoder-64", (str(shards),), str(out), images=8, device="cpu", settings=(*AUTOENCODER, *more)
        )
    )
    return out


def coded(shards: Path, out: Path, run: Path | str) -> LatentSet:
    completion.finish(latents.make_latents(LatentRequest(str(shards), str(run), str(out), device="cpu")))
    return LatentSet(str(out))


def request(
    shards: Path, tables: Path, latent_tables: Path, run: Path, out: Path, *more: str
) -> TrainRequest:
    return TrainRequest(
        "diffusion-32",
        (str(shards),),
        str(out),
        captions=(str(tables),),
        images=16,
        device="cpu",
        settings=(f"model.latents={run}", *DENOISER, *more),
        latents=(str(latent_tables),),
    )


@pytest.fixture(scope="module")
def run(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return autoencoder(undisturbed, tmp_path_factory.mktemp("autoencoders") / "one")


@pytest.fixture(scope="module")
def tables(undisturbed: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentSet:
    return coded(undisturbed, tmp_path_factory.mktemp("latents") / "one", run)


@pytest.fixture(scope="module")
def trained(
    undisturbed: Path, captioned: Path, run: Path, tables: LatentSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A diffusion model after two steps."""
    out = tmp_path_factory.mktemp("denoisers") / "one"
    assert not quiet(request(undisturbed, captioned, Path(tables.storage.url), run, out))
    return out


def wanted(tables: LatentSet, shards: Path) -> Iterator[torch.Tensor]:
    visit = replace(PSEUDO, resolution=32, wanted=Wanted((), latents=SHAPE))
    stream = Stream(
        [CaptionedSet(ShardSet(str(shards)), None)], visit, cache=Cache("unused"), latents=[tables]
    )
    stream.require_whole()
    for batch in first(stream.batches(0, 8), 5):
        yield batch.pictures


# Tables.


def test_a_table_has_the_means_of_the_encoder(undisturbed: Path, run: Path, tables: LatentSet) -> None:
    encoder = autoencoders.find(str(run)).encoder
    pixels = np.stack([sample.pixels for sample in samples(undisturbed)])
    with torch.inference_mode():
        means = encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1).mean
    rows = torch.cat(list(wanted(tables, undisturbed)))
    assert rows.shape == (40, 1, *SHAPE) and rows.dtype == torch.float16

    # The stream has its own order.
    flat = (values.reshape(40, -1).float() for values in (rows, means))
    ours, theirs = (values[values[:, 0].argsort()] for values in flat)
    assert torch.allclose(ours, theirs, atol=0.01)
    assert deviation([tables]) == pytest.approx(float(means.std(correction=0)), rel=2e-3)


def test_latents_that_were_interrupted_go_on_to_the_same_bytes(
    undisturbed: Path, run: Path, tables: LatentSet, tmp_path: Path
) -> None:
    command = LatentRequest(str(undisturbed), str(run), str(tmp_path), device="cpu")
    events = latents.make_latents(command)
    for event in events:
        if isinstance(event, completion.Progress) and len(list(tmp_path.glob("*.json"))) > 1:
            break
    events.close()
    assert not (tmp_path / "manifest.json").exists()
    last = list(latents.make_latents(command))[-1]
    assert isinstance(last, latents.LatentSummary) and 0 < last.encoded < last.pictures == 40
    parts = sorted(Path(tables.storage.url).glob("*.parquet"))
    assert all((tmp_path / part.name).read_bytes() == part.read_bytes() for part in parts)

    # Finished tables are left alone.
    row = json_lines(invoke(app, "latents", undisturbed, "--autoencoder", run, "--out", tmp_path))[-1]
    assert row["encoded"] == 0


def test_latents_of_another_autoencoder_or_of_other_shards_are_refused(
    undisturbed: Path, captioned: Path, run: Path, tables: LatentSet, tmp_path: Path
) -> None:
    other, place = autoencoder(undisturbed, tmp_path / "other", "training.seed=1"), Path(tables.storage.url)
    out = tmp_path / "run"
    refused(request(undisturbed, captioned, place, other, out), "belong to another autoencoder")
    refused(
        request(undisturbed, captioned, place, run, out, "model.planes=3"),
        "set model.planes and model.factor to those",
    )
    refused(request(undisturbed, captioned, place, run, out, "data.mirror=true"), "data.mirror=false")
    elsewhere = replace(request(undisturbed, captioned, place, run, out), latents=())
    refused(elsewhere, f"`python -m train latents {undisturbed} --autoencoder {run}` makes them")
    with pytest.raises(UserError, match="belong to other shards"):
        changed = ShardSet(str(undisturbed))
        changed.digest = "0"
        tables.require_made_for(changed)


def test_tables_of_one_set_are_by_one_checkpoint(undisturbed: Path, run: Path, tmp_path: Path) -> None:
    work = latents._Encoding(LatentRequest(str(undisturbed), str(run), str(tmp_path / "out"), device="cpu"))
    job = work.jobs(work.parts)[0]
    before = {**job.identity, "autoencoder": {**job.identity["autoencoder"], "weights": "0"}}
    with pytest.raises(UserError, match="has a newer checkpoint than when this command began; wait"):
        list(latents.encode_shard(job._replace(identity=before)))
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_model_is_no_autoencoder(trained: Path, undisturbed: Path, tmp_path: Path) -> None:
    sentence = refusal(app, "train", "latents", undisturbed, "--autoencoder", trained, "--out", tmp_path)
    assert "is a run of diffusion; give a run of autoencoder" in sentence


# The diffusion model.


def test_a_model_on_latents_draws_decoded_pictures(trained: Path, run: Path, tables: LatentSet) -> None:
    survey = runs.find(trained).survey
    assert survey["latent_scale"] == pytest.approx(1 / deviation([tables]), rel=1e-5)
    assert survey["sigma_data"] == 1 and survey["autoencoder"]["weights"] == tables.weights
    loaded = runs.load(str(trained))
    drawing = draw.drawing(
        loaded, draw.texts_of(loaded, ["a star"] * 2, None, "cpu"), seed=0, options={"steps": "3"}
    )
    images = drawing.images(range(2))
    assert images.shape == (2, 3, 32, 32)
    with pytest.raises(UserError, match="this run draws latents, and a picture is none; give a run without"):
        Editor(runs.find(trained), loaded, {}, "cpu").inverted(images, ["a star"] * 2)

    # The decoder is the autoencoder's, and reads unscaled latents.
    decoder = autoencoders.find(str(run)).decoder
    theirs = loaded.parts[diffusion.DECODER].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in decoder.state_dict().items())
    latent = torch.randn(1, *SHAPE)
    context = type("", (), {"survey": survey, "dtype": torch.float32, "device": torch.device("cpu")})()
    with torch.no_grad():
        pictures = diffusion.decoded(loaded.parts, latent * survey["latent_scale"], context)
        assert torch.allclose(pictures, decoder(latent), atol=1e-4)


def test_a_run_on_latents_is_equal_if_it_is_trained_again(trained: Path, tmp_path: Path) -> None:
    result = invoke(app, "prove", trained, "--out", tmp_path / "again", "--device", "cpu")
    assert result.exit_code == 0 and json_lines(result.stdout)[-1]["equal"], result.stderr


def test_an_export_holds_both_parts_and_needs_no_autoencoder(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    config = json.loads((copy / "config.json").read_text())
    config["config"]["model"]["latents"] = "moved"
    (copy / "config.json").write_text(json.dumps(config))
    export.export(str(copy), str(tmp_path / "export"))
    assert {"denoiser.safetensors", "decoder.safetensors"} <= {
        path.name for path in (tmp_path / "export").iterdir()
    }
    ours, theirs = (
        draw.sample(runs.find(place), ["a star"], n=2, seed=0, options={"steps": "2"})
        for place in (trained, tmp_path / "export")
    )
    assert np.array_equal(ours, theirs)
    assert "-> `denoised` (N, 2, S, S), for any N" in (tmp_path / "export" / "README.md").read_text()


# Reconstruction.


def test_reconstructions_are_measured(undisturbed: Path, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    command = ("reconstruction", copy, "--on", undisturbed, "--n", 24, "--detector", "nano")
    result = invoke(measuring, *command, "--out", tmp_path / "sheet.png")
    rows = {row["metric"]: row for row in json_lines(result.stdout)}
    assert set(rows) == {"reconstruction PSNR", "rFD (nano)", "rKD (nano)", "rFD-infinity (nano)"}
    assert json_lines((copy / "metrics.jsonl").read_text()) == list(rows.values())
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 8 * 128

    # The same by hand.
    pixels = np.stack([sample.pixels for sample in samples(undisturbed)][:24])
    halves = autoencoders.find(str(run))
    with torch.inference_mode():
        y = halves.decoder(halves.encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1).mean)
    errors = (((y + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy() - pixels) ** 2
    mean = np.log10(255**2 / errors.mean((1, 2, 3))).mean() * 10
    psnr = rows["reconstruction PSNR"]
    assert psnr["value"] == pytest.approx(mean, abs=0.02) and psnr["images_seen"] == 8
    assert psnr["interval"][0] < psnr["value"] < psnr["interval"][1]

    # Other pictures of the set.
    rest = json_lines(invoke(measuring, *command[:5], 16, "--skip", 24, *command[6:]).stdout)[0]
    assert rest["value"] != psnr["value"] and rest["reference_digest"] != psnr["reference_digest"]


def test_a_reconstruction_that_cannot_be_measured_is_refused(
    undisturbed: Path, run: Path, trained: Path
) -> None:
    for autoencoder, more, sentence in (
        (run, ("--n", 41), "holds 40 pictures, so 41 after 0 cannot be taken; give another --n or --skip"),
        (run, ("--n", 24, "--skip", 17), "so 24 after 17 cannot be taken"),
        (trained, ("--n", 8), "is a run of diffusion; give a run of autoencoder"),
    ):
        command = ("reconstruction", autoencoder, "--on", undisturbed, "--detector", "nano", *more)
        assert sentence in refusal(measuring, "evaluate", *command)


# Folders of diffusers.


def write_diffusers(folder: Path, **changes: object) -> tuple[LatentEncoder, LatentDecoder]:
    """Writes an autoencoder as diffusers writes it. Returns both halves."""
    sizes = AutoencoderSizes(32, (32, 32, 64), blocks=2, planes=3, groups=32)
    torch.manual_seed(0)
    halves = {"encoder": LatentEncoder(sizes), "decoder": LatentDecoder(sizes)}
    tensors = {}
    for half, module in halves.items():
        for name, value in module.state_dict().items():
            outside = name.startswith(("quant_conv", "post_quant_conv"))
            tensors[name if outside else f"{half}.{name}"] = value.contiguous()
    folder.mkdir()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    values = {
        "_class_name": "AutoencoderKL",
        "sample_size": 32,
        "block_out_channels": [32, 32, 64],
        "layers_per_block": 2,
        "latent_channels": 3,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
        "in_channels": 3,
        "out_channels": 3,
        "act_fn": "silu",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(values))
    return halves["encoder"], halves["decoder"]  # type: ignore[return-value]


def test_a_folder_of_diffusers_stands_in_for_a_run(undisturbed: Path, tmp_path: Path) -> None:
    encoder, _ = write_diffusers(tmp_path / "vae")
    tables = coded(undisturbed, tmp_path / "latents", tmp_path / "vae")
    assert tables.shape == (3, 8, 8)
    sample = samples(undisturbed)[0]
    with torch.inference_mode():
        mean = encoder(torch.from_numpy(sample.pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1).mean
    table = read_table(str(tmp_path / "latents" / tables.manifest["parts"][0]["file"]), "table", [LATENT])
    latent = vectors(table[LATENT], mean.numel())[0].reshape(mean.shape[1:])
    assert np.allclose(latent, mean[0], atol=2e-3)
    assert autoencoders.load_any(str(tmp_path / "vae")).config.model.factor == 4


def test_names_of_layers_are_those_of_diffusers(tmp_path: Path) -> None:
    sizes = AutoencoderSizes(32, (32, 64), blocks=1, groups=32)
    names = {f"encoder.{name}" for name in LatentEncoder(sizes).state_dict()} | {
        f"decoder.{name}" for name in LatentDecoder(sizes).state_dict()
    }
    assert names >= {
        "encoder.conv_in.weight",
        "encoder.down_blocks.0.resnets.0.norm1.weight",
        "encoder.down_blocks.0.downsamplers.0.conv.weight",
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
        "encoder.mid_block.attentions.0.group_norm.weight",
        "encoder.mid_block.attentions.0.to_out.0.bias",
        "encoder.mid_block.resnets.1.conv2.bias",
        "encoder.conv_norm_out.weight",
        "decoder.up_blocks.0.resnets.1.conv1.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.weight",
        "decoder.conv_out.bias",
    }
    assert not any("downsamplers" in name and "down_blocks.1" in name for name in names)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"_class_name": "VQModel"}, "it is a VQModel"),
        ({"act_fn": "gelu"}, "act_fn is gelu and not silu; give a run of autoencoder, or another folder"),
        ({"latent_channels": 4}, "does not fit its config"),
        ({"layers_per_block": None}, "no config of AutoencoderKL"),
    ],
)
def test_other_autoencoders_of_diffusers_are_refused(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    write_diffusers(tmp_path / "vae", **changes)
    with pytest.raises(UserError, match=sentence) as error:
        autoencoders.load(str(tmp_path / "vae"))
    assert "\n" not in str(error.value)


# Presets.


@pytest.mark.parametrize(
    ("small", "large"), [("diffusion-64", "autoencoder-64"), ("ldm-256", "autoencoder-256")]
)
def test_a_preset_on_latents_fits_its_autoencoder(small: str, large: str) -> None:
    ours, theirs = (presets.get(name).make().groups.model for name in (small, large))
    assert (ours.resolution, ours.factor, ours.planes) == (theirs.resolution, theirs.factor, theirs.planes)
    assert ours.latents == f"runs/{large}" and ours.side == theirs.side


def test_blocks_of_a_level_keep_the_names_of_the_first() -> None:
    one, two = (UNet((32, 48), 8, 16, reads=(8,), itself=(), blocks=blocks) for blocks in (1, 2))
    assert one.state_dict().keys() < two.state_dict().keys()
    text, present = torch.zeros(1, 2, 16), torch.ones(1, 2, dtype=torch.bool)
    assert two(torch.randn(1, 3, 8, 8), torch.zeros(1), text, present).shape == (1, 3, 8, 8)
