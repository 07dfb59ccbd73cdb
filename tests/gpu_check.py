"""Checks that need a GPU, in at most ten minutes: `make check-gpu`. They write nothing into the checkout.

The checks are a step of each preset at full size (seconds per kimg and memory, in float32 and bfloat16),
diffusion with and without torch.compile (pictures per second, in training and drawing), runs that are stopped
and resumed, the caption stage beside its bare encoder, and two processes over nccl if there are two GPUs.
`--minutes N` then trains diffusion-32 on drawn scenes for about so long, and prints its obedience.
`--rehearse` runs all of them on the CPU, at tiny sizes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from caption import encoders, worker
from caption.pipeline import CaptionRequest, _Captioning
from tests.kit import make_small, make_tables
from train import checkpoint, config, model
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.model import PRECISIONS, CaptionedPicture, Context
from train.models.denoiser import Denoiser
from train.models.diffusion import DENOISER
from train.presets import PRESETS
from train.sampling import draw
from train.stream.batches import Batch

_STEPS = 16  # every phase is due at least once
_MOST = 8 * 60  # seconds; later presets are left out
_TINY = {
    "stylegan2": (
        "model.channel_base=512",
        "model.channel_max=16",
        "training.batch=16",
        "model.resolution=32",
    ),
    "diffusion": ("training.batch=16",),
}
_SIDES = {  # settings of diffusion by pixels a side
    32: (),
    64: ("model.itself=8", "model.reads=8,16", "model.resolution=64"),
}
_CAPTION = "a red star left of a blue disc on white"


def main() -> None:
    """Runs all checks."""
    # Device.
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--minutes", type=float, default=0.0, help="of a training on scenes_flat")
    arguments = parser.parse_args()
    rehearse = arguments.rehearse
    device = "cpu" if rehearse else "cuda"
    if not rehearse and not torch.cuda.is_available():
        sys.exit("error: no CUDA device is here; --rehearse tries the check on the CPU")
    name, cores = "CPU" if rehearse else torch.cuda.get_device_name(), len(os.sched_getaffinity(0))
    print(f"{name}, torch {torch.__version__}, {cores} cores")

    # Presets.
    begun = time.perf_counter()
    for preset in PRESETS.values():
        for precision in ("fp32", "bf16"):
            if time.perf_counter() - begun < _MOST:
                tiny = _TINY.get(preset.model, ()) if rehearse else ()
                changes = [f"training.precision={precision}", *tiny]
                print(_step(preset.name, config.with_settings(preset.make(), changes), device), flush=True)

    # Diffusion.
    for side in _SIDES:
        print(_diffusion(side, device), flush=True)

    # Runs and captions.
    samples, side = (256, 64) if rehearse else (4096, 256)
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("tiny-32", "diffusion-32"):
            print(_resumed(Path(scratch) / name, name, device), flush=True)
        make_small(Path(scratch) / "shards", samples=samples, shard_size=4096, size=side, settings=())
        print(_captions(Path(scratch), device, rehearse), flush=True)
        if rehearse or torch.cuda.device_count() > 1:
            print(_two_processes(Path(scratch), device), flush=True)
        if arguments.minutes:
            print(_obedience(Path(scratch) / "scenes", arguments.minutes, device), flush=True)


def _step(name: str, run_config: RunConfig, device: str) -> str:
    """Returns seconds per kimg and memory of a preset, without the encoder's part.

    Halves the micro-batch until it fits."""
    training = run_config.groups.training
    micro = training.batch
    while True:
        try:
            # Warm-up.
            trainer = _trainer(replace(run_config, run=replace(run_config.run, micro_batch=micro)), device)
            trainer.step(_batch(trainer, 0))
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()

            # Steps.
            begun = time.perf_counter()
            for i in range(_STEPS):
                trainer.step(_batch(trainer, i))
            if device == "cuda":
                torch.cuda.synchronize()
            break
        except torch.cuda.OutOfMemoryError:
            micro //= 2
            if micro < max((1, *run_config.needs.groups)):
                return f"{name:<14} {training.precision}  does not fit"
            torch.cuda.empty_cache()

    # Row.
    kimg = (time.perf_counter() - begun) / (_STEPS * training.batch) * 1000
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    sizes = ", ".join(f"{part} {parameters(net) / 1e6:.1f} M" for part, net in trainer.parts.items())
    figures = f"{kimg:7.2f} s/kimg  {memory:5.1f} GiB  {micro} at once"
    return f"{name:<14} {training.precision}  {figures}  {sizes}"


def _diffusion(side: int, device: str) -> str:
    """Returns pictures per second of diffusion in bfloat16, without and with torch.compile."""
    plain, compiled = (_rates(side, device, compiles=compiles) for compiles in (False, True))
    kinds = zip(("training", "drawing"), plain, compiled, strict=True)
    figures = [f"{kind} {first:,.1f}, compiled {second:,.1f}" for kind, first, second in kinds]
    return f"diffusion at {side} px, pictures/s: {'; '.join(figures)}"


def _rates(side: int, device: str, *, compiles: bool) -> tuple[float, float]:
    """Returns pictures per second of training, and of drawing with 18 guided Heun steps."""
    # Networks.
    count, steps, repeats = (64, 18, 20) if device == "cuda" else (4, 2, 1)
    changes = [*_SIDES[side], "training.precision=bf16", f"training.batch={count}"]
    trainer = _trainer(config.with_settings(PRESETS["diffusion-32"].make(), changes), device)
    loaded = trainer.loaded()
    for network in (trainer.parts[DENOISER], loaded.parts[DENOISER]) if compiles else ():
        # Without a GPU, the graphs are taken alone.
        cast(Denoiser, network).unet.compile(backend="inductor" if device == "cuda" else "aot_eager")

    # Training and drawing.
    batch, texts = _batch(trainer, 0), draw.texts_of(loaded, [_CAPTION] * count, None, device)
    pictures = draw.drawing(loaded, texts, seed=0, options={"steps": str(steps)})
    training = _rate(lambda: trainer.step(batch), count, repeats, device)
    return training, _rate(lambda: pictures.images(range(count)), count, max(1, repeats // 4), device)


def _rate(action: Callable[[], Any], pictures: int, repeats: int, device: str) -> float:
    """Returns pictures per second of an action on this many pictures, after two calls that compile."""
    for number in range(2 + repeats):
        if number == 2:
            if device == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
        action()
    if device == "cuda":
        torch.cuda.synchronize()
    return pictures * repeats / (time.perf_counter() - begun)


def _resumed(scratch: Path, name: str, device: str) -> str:
    """Returns the largest relative difference of losses between a resumed run and an uninterrupted one.

    The difference must be 0 on a CPU."""
    # An uninterrupted run, and one that is saved after four steps.
    run_config = config.with_settings(PRESETS[name].make(), ["training.batch=16"])
    whole, first = _trainer(run_config, device), _trainer(run_config, device)
    for i in range(4):
        for trainer in (whole, first):
            trainer.step(_batch(trainer, i))
    first.save(scratch / "run")

    # Four more steps.
    second = _trainer(run_config, device)
    second.restore(checkpoint.require(scratch / "run"))
    worst = 0.0
    for i in range(4, 8):
        ours, theirs = (trainer.step(_batch(trainer, i)) for trainer in (whole, second))
        differences = [(ours[k] - theirs[k]).abs() / ours[k].abs().clamp(min=1e-3) for k in ours]
        worst = max(worst, *map(float, differences))
    assert worst <= (0 if device == "cpu" else 1e-2), f"losses differ by {worst:.1e} after resuming"
    return f"{name} resumed from a checkpoint: losses within {worst:.1e} over four steps"


def _captions(scratch: Path, device: str, rehearse: bool) -> str:
    """Returns pictures per second of the caption stage, and of its encoder with pictures in memory.

    Decoding limits the stage if the encoder is small."""
    # Stage.
    name = encoders.NANO
    out = str(scratch / f"t-{name}")
    work = _Captioning(CaptionRequest(str(scratch / "shards"), out, name, workers=0, device=device))
    [job], model = work.jobs(work.parts), work._encoder
    pictures, size = work.parts[0].count, worker.BATCH[device]

    # Bare encoder.
    batch = torch.randint(0, 256, (size, model.size, model.size, 3), dtype=torch.uint8).numpy()
    model.images(batch)
    begun = time.perf_counter()
    for _ in range(0, pictures, size):
        model.images(batch)
    bare = -(-pictures // size) * size / (time.perf_counter() - begun)

    # Whole stage.
    begun = time.perf_counter()
    list(worker.caption_shard(job))
    stage = pictures / (time.perf_counter() - begun)
    row = f"captions by {name}: {stage:,.0f} pictures/s, bare encoder {bare:,.0f}, ratio {stage / bare:.2f}"
    return row + ("" if rehearse else f" ({worker._DECODERS} decoding threads)")


def _obedience(run: Path, minutes: float, device: str) -> str:
    """Trains diffusion-32 on live scenes_flat. Returns how often whole prompts are right afterwards."""
    # The length that the time allows, in whole batches.
    batch = 256 if device == "cuda" else 16
    changes = ["training.precision=bf16" if device == "cuda" else "training.precision=fp32"]
    changes += [f"training.batch={batch}", "training.drop_vector=1"]
    trainer = _trainer(config.with_settings(PRESETS["diffusion-32"].make(), changes), device)
    step = _batch(trainer, 0)
    rate = _rate(lambda: trainer.step(step), batch, 20, device)
    images = max(1, int(rate * 60 * minutes / batch)) * batch

    # Training, with a reader for every core.
    changes += [f"training.decay_from={images * 3 // 4}", f"training.decay_to={images}"]
    changes += [f"run.workers={len(os.sched_getaffinity(0)) - 1}", f"run.checkpoint={images}"]
    command = [sys.executable, "-m", "train", "pretrain", "diffusion-32", "--live", "scenes_flat"]
    command += ["--text", "blend:1,plain", "--images", str(images), "--device", device, "--out", str(run)]
    begun = time.perf_counter()
    subprocess.run([*command, *(w for c in changes for w in ("--set", c))], check=True, capture_output=True)
    seconds = time.perf_counter() - begun

    # Obedience.
    count = "256" if device == "cuda" else "8"
    command = [sys.executable, "-m", "evaluate", "obedience", str(run), "--facts", "3,6", "--n", count]
    ended = subprocess.run([*command, "--device", device], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    whole = [row for row in rows if "whole prompts of" in row["metric"] and row["split"] == "all"]
    figures = ", ".join(f"{row['metric'].rpartition('of ')[2]} {row['value']:.2f}" for row in whole)
    return f"{images:,} pictures in {seconds:,.0f} s: {figures} of whole prompts right"


def _two_processes(scratch: Path, device: str) -> str:
    """Trains a short run of two ranks. Returns the images that it has seen."""
    # Sets.
    make_small(scratch / "small", samples=64, shard_size=16, size=32)
    make_tables(scratch / "small", scratch / "small-tables", encoders.NANO)

    # Two ranks.
    ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [sys.executable, "-m", *ranks, "train", "pretrain", "tiny-32"]
    command += ["--on", str(scratch / "small"), "--captions", str(scratch / "small-tables")]
    command += ["--out", str(scratch / "two"), "--device", device, "--set", "run.tick=32"]
    command += ["--images", "64"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    images_seen = checkpoint.images_seen(checkpoint.require(scratch / "two"))
    return f"two processes: trained to {images_seen} images seen"


def _trainer(run_config: RunConfig, device: str) -> Trainer:
    """Returns a trainer with the measurements of one random picture and its caption."""
    groups, module = run_config.groups, model.find(run_config.name)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    sample = CaptionedPicture(pixels, (_CAPTION,))
    survey = module.survey(groups, [sample], {}) if hasattr(module, "survey") else {}
    context = Context(torch.device(device), PRECISIONS[groups.training.precision], survey)
    return Trainer(run_config, context, Ranks(device=device))


def _batch(trainer: Trainer, number: int) -> Batch:
    """Returns a random batch of what the model wants. It depends on the number alone."""
    generator, groups, wanted = (
        torch.Generator().manual_seed(number),
        trainer.config.groups,
        trainer.model.wanted,
    )
    side, count = groups.model.resolution, groups.training.batch
    shape = (count, wanted.views, 3, side, side)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    texts = {
        name: functional.normalize(torch.randn(count, groups.model.text_dim, generator=generator), dim=1)
        for name in wanted.vectors
    }
    tokens = torch.tensor([wanted.tokenise(_CAPTION)] * count) if wanted.tokenise else None
    return Batch(pictures, texts, tokens)


if __name__ == "__main__":
    main()
