"""Checks that need a GPU, in at most ten minutes: `make check-gpu`. It prints, and writes nothing into the checkout.

A step of each preset at full size: seconds per kimg, memory, float32 and bfloat16; a run that is stopped and goes on; two processes over
nccl where there are two GPUs; the caption stage against its bare encoder. `--rehearse` does all of it on the CPU, at tiny sizes.
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
from caption.pipeline import CaptionRequest as Captions
from caption.pipeline import _Captioning
from tests.kit import make_small, make_tables
from train import checkpoint, config
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.model import PRECISIONS, Context
from train.presets import PRESETS
from train.stream.stream import Batch

_STEPS = 16  # all phases are due once
_MOST = 8 * 60  # seconds, after which the rest of the presets is left out
_TINY = ("model.channel_base=512", "model.channel_max=16", "training.batch=16", "model.resolution=32")


def main() -> None:
    """Checks everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny")
    rehearse = parser.parse_args().rehearse
    device = "cpu" if rehearse else "cuda"
    if not rehearse and not torch.cuda.is_available():
        sys.exit("error: no CUDA device is here; --rehearse tries the check on the CPU")
    print(
        f"{'CPU' if rehearse else torch.cuda.get_device_name()}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores"
    )
    begun = time.perf_counter()
    for preset in PRESETS.values():
        for precision in ("fp32", "bf16"):
            if time.perf_counter() - begun < _MOST:
                settled = config.with_settings(
                    preset.make(), [f"training.precision={precision}", *(_TINY if rehearse else ())]
                )
                print(_step(preset.name, settled, device), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        print(_resumed(Path(scratch), device), flush=True)
        make_small(
            Path(scratch) / "shards",
            samples=256 if rehearse else 4096,
            shard_size=4096,
            size=64 if rehearse else 256,
            settings=(),
        )
        print(_captions(Path(scratch), device, rehearse), flush=True)
        if rehearse or torch.cuda.device_count() > 1:
            print(_two_processes(Path(scratch), device), flush=True)


def _step(name: str, settled: RunConfig, device: str) -> str:
    """Seconds per kimg and memory of a preset, without the encoder's part; halves what goes through at once until it fits."""
    micro = settled.groups.training.batch
    while True:
        try:
            trainer = _trainer(replace(settled, run=replace(settled.run, micro_batch=micro)), device)
            trainer.step(_batch(settled, 0))
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            begun = time.perf_counter()
            for i in range(_STEPS):
                trainer.step(_batch(settled, i))
            if device == "cuda":
                torch.cuda.synchronize()
            break
        except torch.cuda.OutOfMemoryError:
            micro //= 2
            if micro < settled.groups.loss.contrastive_group:
                return f"{name:<14} {settled.groups.training.precision}  does not fit"
            torch.cuda.empty_cache()
    kimg = (time.perf_counter() - begun) / (_STEPS * settled.groups.training.batch) * 1000
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    sizes = ", ".join(f"{name} {parameters(part) / 1e6:.1f} M" for name, part in trainer.parts.items())
    return f"{name:<14} {settled.groups.training.precision}  {kimg:7.2f} s/kimg  {memory:5.1f} GiB  {micro} at once  {sizes}"


def _resumed(scratch: Path, device: str) -> str:
    """Says how far a run that was stopped and went on is from one that was not, after four steps more: on a CPU not at all."""
    settled = config.with_settings(PRESETS["tiny-32"].make(), ["training.batch=16"])
    whole, first = _trainer(settled, device), _trainer(settled, device)
    for i in range(4):
        for trainer in (whole, first):
            trainer.step(_batch(settled, i))
    first.save(scratch / "run")
    second = _trainer(settled, device)
    second.restore(checkpoint.require(scratch / "run"))
    worst = 0.0
    for i in range(4, 8):
        losses = [trainer.step(_batch(settled, i)) for trainer in (whole, second)]
        worst = max(
            worst,
            *(
                float((losses[0][k] - losses[1][k]).abs() / losses[0][k].abs().clamp(min=1e-3))
                for k in losses[0]
            ),
        )
    assert worst <= (0 if device == "cpu" else 1e-2), f"losses differ by {worst:.1e} after going on"
    return f"going on from a checkpoint: losses within {worst:.1e} over four steps"


def _captions(scratch: Path, device: str, rehearse: bool) -> str:
    """The caption stage's pictures a second beside those of its encoder with pictures in memory; small ones are decode-bound."""
    told = []
    for name in (encoders.NANO,):
        work = _Captioning(
            Captions(str(scratch / "shards"), str(scratch / f"t-{name}"), name, workers=0, device=device)
        )
        [job], model = work.jobs(work.parts), work._encoder
        pictures, size = work.parts[0].count, worker.BATCH[device]
        batch = torch.randint(0, 256, (size, model.size, model.size, 3), dtype=torch.uint8).numpy()
        model.images(batch)
        begun = time.perf_counter()
        for _ in range(0, pictures, size):
            model.images(batch)
        bare = -(-pictures // size) * size / (time.perf_counter() - begun)
        begun = time.perf_counter()
        list(worker.caption_shard(job))
        stage = pictures / (time.perf_counter() - begun)
        told.append(
            f"captions by {name}: {stage:,.0f} pictures/s, bare encoder {bare:,.0f}, ratio {stage / bare:.2f}"
        )
    return "; ".join(told) + ("" if rehearse else f" ({worker._DECODERS} decoding threads)")


def _two_processes(scratch: Path, device: str) -> str:
    """A short run of two ranks."""
    make_small(scratch / "small", samples=64, shard_size=16, size=32)
    make_tables(scratch / "small", scratch / "small-tables", encoders.NANO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "train",
        "pretrain",
        "tiny-32",
    ]
    command += [
        "--on",
        str(scratch / "small"),
        "--captions",
        str(scratch / "small-tables"),
        "--out",
        str(scratch / "two"),
    ]
    command += ["--images", "64", "--device", device, "--set", "run.tick=32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (
        f"two processes: trained to {checkpoint.images_seen(checkpoint.require(scratch / 'two'))} images seen"
    )


def _trainer(settled: RunConfig, device: str) -> Trainer:
    return Trainer(
        settled,
        Context(torch.device(device), PRECISIONS[settled.groups.training.precision]),
        Ranks(device=device),
    )


def _batch(settled: RunConfig, number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    side, count = settled.groups.model.resolution, settled.groups.training.batch
    pictures = torch.randint(0, 256, (count, 1, 3, side, side), dtype=torch.uint8, generator=generator)
    texts = functional.normalize(
        torch.randn(count, settled.groups.model.text_dim, generator=generator), dim=1
    )
    return Batch(pictures, {"d": texts, "g": texts})


if __name__ == "__main__":
    main()
