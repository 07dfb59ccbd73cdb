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
from torch.utils._python_dispatch import TorchDispatchMode

from train import ema
from train.models import losses
from train.models.latents import draw_latents, draw_path_noise
from train.models.losses import Judgement, LossConfig
from train.models.stylegan2 import Config, Discriminator, Generator

TINY = Config(resolution=32, z_dim=128, w_dim=128, text_width=128, mapping_layers=2, channel_base=1024, channel_max=64)
SIZES = {  # model and batch
    "32": (Config(resolution=32, channel_base=2048, channel_max=128), 8),
    "64": (Config(resolution=64, channel_base=4096, channel_max=128), 8),
    "tiny": (TINY, 32),
}
GOALS = {  # most multiples of R and MB
    ("32", "float32"): (1.78, 653),
    ("64", "float32"): (5.3, 1015),
    ("32", "bfloat16"): (1.2, 653),
    ("64", "bfloat16"): (3.6, 1015),
}
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
    """R and the phases of a step in milliseconds of CPU time, and of them the bare convolutions."""

    r: float
    phases: dict[str, float]
    bare: dict[str, float]
    peak: float  # MB

    @property
    def step(self) -> float:
        return amortised(self.phases)


def amortised(phases: dict[str, float]) -> float:
    """A step that takes part of every phase."""
    return sum(value / EVERY[name] for name, value in phases.items())


def milliseconds(call: Callable[[], object]) -> float:
    """The CPU time of a call."""
    begun = time.process_time_ns()
    call()
    return (time.process_time_ns() - begun) / 1e6


def reference() -> Callable[[], None]:
    """R: a convolution 8 x 128 x 64 x 64 by 128 x 128 x 3 x 3 in float32, forward and both gradients."""
    x, w = torch.randn(8, 128, 64, 64, requires_grad=True), torch.randn(128, 128, 3, 3, requires_grad=True)
    gradient = torch.ones(8, 128, 64, 64)

    def once() -> None:
        x.grad = w.grad = None
        functional.conv2d(x, w, padding=1).backward(gradient)

    return once


class Convolutions(TorchDispatchMode):
    """Keeps every dense convolution and every gradient of one that runs under it, to be run again alone; the blurs are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        groups = {torch.ops.aten.convolution.default: 8, torch.ops.aten.convolution_backward.default: 9}.get(func)
        if groups is not None and args[groups] == 1:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def measure(config: Config, *, batch: int, dtype: torch.dtype, rounds: int = 8) -> Measured:
    """A step of this model in this process: of each part the least of several rounds, all parts and R in every round."""
    step = Step(config, batch=batch, dtype=dtype)
    for call in [*step.phases().values()] * 2:
        call()
    peak, ruler = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, reference()
    least: dict[str, float] = {}
    for _ in range(rounds):
        times = {name: milliseconds(call) for name, call in [("R", ruler), *step.phases().items()]}
        least = {name: min(value, least.get(name, value)) for name, value in times.items()}
    return Measured(least.pop("R"), least, {name: bare(call) for name, call in step.phases().items()}, peak)


def bare(call: Callable[[], None]) -> float:
    """What a phase's dense convolutions and their gradients cost alone, milliseconds."""
    with Convolutions() as kept:
        call()
    return min(milliseconds(kept.again) for _ in range(4))


def in_process(name: str, dtype: str) -> Measured:
    """The same in a process of its own, so that its peak of memory is its own."""
    line = [sys.executable, "-m", "tests.bench.bench_train", name, dtype]
    answer: Any = json.loads(subprocess.run(line, capture_output=True, check=True, text=True).stdout)
    return Measured(*answer)


def profile(name: str, dtype: str) -> None:
    """Prints where the time of the main phases goes, by operator."""
    config, batch = SIZES[name]
    step = Step(config, batch=batch, dtype=getattr(torch, dtype))
    for call in step.phases().values():
        call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as taken:
        step.generator()
        step.discriminator()
    print(taken.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


def main() -> None:
    """Prints every figure beside its target; where one is missed, the profile too."""
    for (name, dtype), (most, memory) in GOALS.items():
        got = in_process(name, dtype)
        phases = "  ".join(f"{k} {v:.0f}" for k, v in got.phases.items())
        step, convolutions = got.step / got.r, amortised(got.bare) / got.r
        print(f"{name} px {dtype:<9} step {step:.2f} R (<= {most}), its bare convolutions {convolutions:.2f} R, ", end="")
        print(f"peak {got.peak:.0f} MB (<= {memory}); R {got.r:.0f} ms, step {got.step:.0f} ms: {phases}", flush=True)
        if step > most:
            profile(name, dtype)
    for dtype in ("float32", "bfloat16"):
        got = in_process("tiny", dtype)
        step, convolutions = got.step / SIZES["tiny"][1], amortised(got.bare) / SIZES["tiny"][1]
        print(
            f"tiny-32 {dtype:<9} {step:.2f} ms a picture (<= 5), its bare convolutions {convolutions:.2f} ms; R {got.r:.0f} ms", flush=True
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["profile"]:
        profile(*sys.argv[2:])
    elif sys.argv[1:]:
        config, batch = SIZES[sys.argv[1]]
        print(json.dumps(measure(config, batch=batch, dtype=getattr(torch, sys.argv[2]))))
    else:
        main()
