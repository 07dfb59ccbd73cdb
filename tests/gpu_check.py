"""Checks that need a GPU, in at most ten minutes: `make check-gpu`. They write nothing into the checkout.

The checks are a step of each preset at full size (seconds per kimg and memory, in float32 and bfloat16), a
run that is stopped and resumed, the caption stage beside its bare encoder, and two processes over nccl if
there are two GPUs. `--rehearse` runs all of them on the CPU, at tiny sizes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional

from caption import encoders, worker
from caption.pipeline import CaptionRequest, _Captioning
from tests.kit import make_small, make_tables
from train import checkpoint, config
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.model import PRECISIONS, Context
from train.presets import PRESETS
from train.stream.stream import Batch

_STEPS = 16  # every phase is due at least once
_MOST = 8 * 60  # seconds; later presets are left out
_TINY = ("model.channel_base=512", "model.channel_max=16", "training.batch=16", "model.resolution=32")


def main() -> None:
    """Runs all checks."""
    # Device.
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny")
    rehearse = parser.parse_args().rehearse
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
                changes = [f"training.precision={precision}", *(_TINY if rehearse else ())]
                print(_step(preset.name, config.with_settings(preset.make(), changes), device), flush=True)

    # Runs and captions.
    samples, side = (256, 64) if rehearse else (4096, 256)
    with tempfile.TemporaryDirectory() as scratch:
        print(_resumed(Path(scratch), device), flush=True)
        make_small(Path(scratch) / "shards", samples=samples, shard_size=4096, size=side, settings=())
        print(_captions(Path(scratch), device, rehearse), flush=True)
        if rehearse or torch.cuda.device_count() > 1:
            print(_two_processes(Path(scratch), device), flush=True)


def _step(name: str, run_config: RunConfig, device: str) -> str:
    """Returns seconds per kimg and memory of a preset, without the encoder's part.

    Halves the micro-batch until it fits."""
    training = run_config.groups.training
    micro = training.batch
    while True:
        try:
            # Warm-up.
            trainer = _trainer(replace(run_config, run=replace(run_config.run, micro_batch=micro)), device)
            trainer.step(_batch(run_config, 0))
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()

            # Steps.
            begun = time.perf_counter()
            for i in range(_STEPS):
                trainer.step(_batch(run_config, i))
            if device == "cuda":
                torch.cuda.synchronize()
            break
        except torch.cuda.OutOfMemoryError:
            micro //= 2
            if micro < run_config.groups.loss.contrastive_group:
                return f"{name:<14} {training.precision}  does not fit"
            torch.cuda.empty_cache()

    # Row.
    kimg = (time.perf_counter() - begun) / (_STEPS * training.batch) * 1000
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    sizes = ", ".join(f"{part} {parameters(net) / 1e6:.1f} M" for part, net in trainer.parts.items())
    figures = f"{kimg:7.2f} s/kimg  {memory:5.1f} GiB  {micro} at once"
    return f"{name:<14} {training.precision}  {figures}  {sizes}"


def _resumed(scratch: Path, device: str) -> str:
    """Returns the largest relative difference of losses between a resumed run and an uninterrupted one.

    The difference must be 0 on a CPU."""
    # An uninterrupted run, and one that is saved after four steps.
    run_config = config.with_settings(PRESETS["tiny-32"].make(), ["training.batch=16"])
    whole, first = _trainer(run_config, device), _trainer(run_config, device)
    for i in range(4):
        for trainer in (whole, first):
            trainer.step(_batch(run_config, i))
    first.save(scratch / "run")

    # Four more steps.
    second = _trainer(run_config, device)
    second.restore(checkpoint.require(scratch / "run"))
    worst = 0.0
    for i in range(4, 8):
        ours, theirs = (trainer.step(_batch(run_config, i)) for trainer in (whole, second))
        differences = [(ours[k] - theirs[k]).abs() / ours[k].abs().clamp(min=1e-3) for k in ours]
        worst = max(worst, *map(float, differences))
    assert worst <= (0 if device == "cpu" else 1e-2), f"losses differ by {worst:.1e} after resuming"
    return f"resumed from a checkpoint: losses within {worst:.1e} over four steps"


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
    context = Context(torch.device(device), PRECISIONS[run_config.groups.training.precision])
    return Trainer(run_config, context, Ranks(device=device))


def _batch(run_config: RunConfig, number: int) -> Batch:
    """Returns a random batch that depends on the number alone."""
    generator = torch.Generator().manual_seed(number)
    side, count = run_config.groups.model.resolution, run_config.groups.training.batch
    pictures = torch.randint(0, 256, (count, 1, 3, side, side), dtype=torch.uint8, generator=generator)
    texts = torch.randn(count, run_config.groups.model.text_dim, generator=generator)
    texts = functional.normalize(texts, dim=1)
    return Batch(pictures, {"d": texts, "g": texts})


if __name__ == "__main__":
    main()
