"""The trainer's step against the clock: CPU time of one thread, as multiples of a reference convolution that runs beside it.

python -m tests.bench.bench_train
"""

import copy
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from train import ema
from train.models import losses
from train.models.latents import draw_latents, draw_path_noise
from train.models.losses import Judgement, LossConfig
from train.models.stylegan2 import Config, Discriminator, Generator

SMALL = {side: Config(resolution=side, channel_base=base, channel_max=128) for side, base in ((32, 2048), (64, 4096))}
TINY = Config(resolution=32, z_dim=128, w_dim=128, text_width=128, mapping_layers=2, channel_base=1024, channel_max=64)
EVERY = {"g": 1.0, "d": 1.0, "path": 4.0, "r1": 16.0}  # steps between two of a phase


class Step:
    """The phases of a training step, each with its optimiser's step; no encoder, so no L_ConG."""

    def __init__(self, config: Config, *, batch: int, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.config, self.batch, self.dtype = config, batch, dtype
        self.losses = LossConfig()
        self.g, self.d = Generator(config), Discriminator(config)
        self.average = copy.deepcopy(self.g)
        networks: tuple[nn.Module, ...] = (self.g, self.d)
        self.optimisers = {m: torch.optim.Adam(m.parameters(), lr=2e-3, betas=(0.0, 0.99), fused=True) for m in networks}
        self.real = torch.rand(batch, 3, config.resolution, config.resolution) * 2 - 1
        self.h = functional.normalize(torch.randn(batch, config.text_dim), dim=1)
        self.mean_length = torch.zeros(())
        self.seen = 0

    def generator(self) -> None:
        """G main, and the moving average."""
        with self.training(self.g):
            fake = self.judged(self.generated())
            sum(losses.generator_losses(self.losses, fake, None).values(), torch.zeros(())).backward()
        self.seen += self.batch
        ema.update(self.average, self.g, ema.decay(self.batch, self.seen, half_life=20_000))

    def discriminator(self) -> None:
        """D main."""
        with self.training(self.d):
            with torch.no_grad():
                images = self.generated()
            sum(losses.fake_losses(self.losses, self.judged(images)).values(), torch.zeros(())).backward()
            sum(losses.real_losses(self.losses, self.judged(self.real)).values(), torch.zeros(())).backward()

    def path(self) -> None:
        """Path length, on half of the batch."""
        half = range(self.batch // 2)
        with self.training(self.g):
            latents = draw_latents(self.config, 0, 2, half)
            ws = self.g.latents(latents.z, latents.cutoff)
            images = self.g.synthesise(ws, self.h[: len(half)], noise=latents.noise, dtype=self.dtype)
            lengths = losses.path_lengths(images, ws, draw_path_noise(self.config, 0, 3, half))
            (4 * self.losses.path_weight * losses.path_penalty(lengths, self.mean_length).mean()).backward()
            self.mean_length = losses.moved_mean(self.mean_length, lengths, self.losses.path_decay)

    def r1(self) -> None:
        """R1, on real pictures."""
        with self.training(self.d):
            real = self.real.clone().requires_grad_()
            penalty = losses.gradient_penalty(self.judged(real).logits(self.losses), real)
            (16 * self.losses.r1 / 2 * penalty.mean()).backward()

    def phases(self) -> dict[str, Callable[[], None]]:
        """By name."""
        return {"g": self.generator, "d": self.discriminator, "path": self.path, "r1": self.r1}

    def generated(self) -> Tensor:
        latents = draw_latents(self.config, 0, 0, range(self.seen, self.seen + self.batch))
        return self.g(latents.z, self.h, cutoff=latents.cutoff, noise=latents.noise, dtype=self.dtype)

    def judged(self, images: Tensor) -> Judgement:
        score, meaning = self.d(images, dtype=self.dtype)
        return Judgement(score, meaning, self.h)

    @contextmanager
    def training(self, model: nn.Module) -> Iterator[None]:
        """Gradients for one network alone, then its optimiser's step."""
        for each in (self.g, self.d):
            each.requires_grad_(each is model)
        yield
        self.optimisers[model].step()
        self.optimisers[model].zero_grad()


class Measured(NamedTuple):
    """A step in milliseconds of CPU time, by phase, and of it the bare convolutions."""

    phases: dict[str, float]
    bare: dict[str, float]
    peak: float  # MB

    @property
    def step(self) -> float:
        return amortised(self.phases)


def amortised(phases: dict[str, float]) -> float:
    """A step that takes part of every phase."""
    return sum(value / EVERY[name] for name, value in phases.items())


def milliseconds(call: Callable[[], object], *, repeats: int) -> float:
    """The least CPU time of a call."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - begun)
    return min(times) / 1e6


def reference() -> float:
    """R: a convolution 8 x 128 x 64 x 64 by 128 x 128 x 3 x 3 in float32, forward and both gradients, milliseconds."""
    x, w = torch.randn(8, 128, 64, 64, requires_grad=True), torch.randn(128, 128, 3, 3, requires_grad=True)
    gradient = torch.ones(8, 128, 64, 64)

    def once() -> None:
        x.grad = w.grad = None
        functional.conv2d(x, w, padding=1).backward(gradient)

    return milliseconds(once, repeats=10)


def bare_convolutions(call: Callable[[], None]) -> float:
    """What a phase's convolutions and their gradients cost alone, of the operators' own time, milliseconds."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return (
        sum(e.self_cpu_time_total for e in profile.key_averages() if "mkldnn_convolution" in e.key or "convolution_backward" in e.key) / 1e3
    )


def measure(config: Config, *, batch: int, dtype: torch.dtype, repeats: int) -> Measured:
    """A step of this model in this process."""
    step = Step(config, batch=batch, dtype=dtype)
    phases = {name: milliseconds(call, repeats=repeats) for name, call in step.phases().items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Measured(phases, {name: bare_convolutions(call) for name, call in step.phases().items()}, peak)


def in_process(name: str, dtype: str) -> tuple[float, Measured]:
    """The same in a process of its own, so that its peak of memory is its own; R first, there."""
    line = [sys.executable, "-m", "tests.bench.bench_train", name, dtype]
    answer: Any = json.loads(subprocess.run(line, capture_output=True, check=True, text=True).stdout)
    return answer["r"], Measured(*answer["measured"])


def profile(name: str, dtype: str) -> None:
    """Prints where a step's time goes, by operator."""
    step = Step({"32": SMALL[32], "64": SMALL[64], "tiny": TINY}[name], batch=16 if name == "tiny" else 8, dtype=getattr(torch, dtype))
    for call in step.phases().values():
        call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as taken:
        for call in list(step.phases().values())[:2]:
            call()
    print(taken.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


def main() -> None:
    """Prints every figure beside its target."""
    goals = {
        ("32", "float32"): (1.78, 653),
        ("64", "float32"): (5.3, 1015),
        ("32", "bfloat16"): (1.2, 653),
        ("64", "bfloat16"): (3.6, 1015),
    }
    for (name, dtype), (most, memory) in goals.items():
        r, got = in_process(name, dtype)
        parts = "  ".join(f"{k} {v:.0f}" for k, v in got.phases.items())
        print(f"{name} px {dtype:<9} step {got.step / r:.2f} R (<= {most}), bare convolutions {amortised(got.bare) / r:.2f} R, ", end="")
        print(f"peak {got.peak:.0f} MB (<= {memory}); R {r:.0f} ms, step {got.step:.0f} ms: {parts}", flush=True)
    for dtype in ("float32", "bfloat16"):
        _, got = in_process("tiny", dtype)
        print(f"tiny-32 {dtype}: {got.step / 16:.2f} ms a picture (<= 5 in float32), batch 16, peak {got.peak:.0f} MB", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["profile"]:
        profile(*sys.argv[2:])
    elif sys.argv[1:]:
        config, batch = {"32": (SMALL[32], 8), "64": (SMALL[64], 8), "tiny": (TINY, 16)}[sys.argv[1]]
        r = reference()
        print(json.dumps({"r": r, "measured": measure(config, batch=batch, dtype=getattr(torch, sys.argv[2]), repeats=8)}))
    else:
        main()
