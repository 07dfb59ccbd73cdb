"""The CPU time of the trainer's step on one thread, in multiples of a reference convolution of the same run.

python -m tests.bench.bench_train
"""

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from caption import encoders
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Trainer
from train.model import PRECISIONS, Context
from train.presets import PRESETS
from train.stream.batches import Batch

WIDE = {"training.batch": 8, "model.channel_max": 128}
SIZES = {
    "32": RunConfig.of("stylegan2", {**WIDE, "model.resolution": 32, "model.channel_base": 2048}),
    "64": RunConfig.of("stylegan2", {**WIDE, "model.resolution": 64, "model.channel_base": 4096}),
    "tiny-32": PRESETS["tiny-32"].make(),
    "tiny-32 with nano": PRESETS["tiny-32"].make(),
}
# Upper limits: multiples of R, and MB.
GOALS = {
    ("32", "fp32"): (1.78, 653),
    ("64", "fp32"): (5.3, 1015),
    ("32", "bf16"): (1.2, 653),
    ("64", "bf16"): (3.6, 1015),
}
# Phases -> a step's number, and the share of such steps.
KINDS = {"g d": (1, 12 / 16), "g path d": (4, 3 / 16), "g path d r1": (0, 1 / 16)}


class Step:
    """Trainer.step of a config, as the step of any number. With nano as the encoder, or without L_ConG."""

    def __init__(self, config: RunConfig, precision: str, *, nano: bool = False) -> None:
        # Trainer.
        config = config.replaced("training", replace(config.groups.training, precision=precision))
        encoder = encoders.load(encoders.find("nano"), "cpu", precision) if nano else None
        if encoder:
            config = config.replaced("model", replace(config.groups.model, text_dim=encoder.dimensions))
        context = Context(torch.device("cpu"), PRECISIONS[precision], encoder=encoder)
        self.trainer = Trainer(config, context, Ranks())

        # Random batch.
        self.size, side = config.groups.training.batch, config.groups.model.resolution
        texts = functional.normalize(torch.randn(self.size, config.groups.model.text_dim), dim=1)
        pictures = torch.randint(0, 256, (self.size, 1, 3, side, side), dtype=torch.uint8)
        self._batch = Batch(pictures, {"d": texts, "g": texts})

    def take(self, number: int) -> None:
        """Takes a step as if it were the one of this number."""
        self.trainer.images_seen = number * self.size
        self.trainer.step(self._batch)

    def kinds(self) -> dict[str, Callable[[], None]]:
        """Returns the kinds of steps, by their phases."""
        return {phases: partial(self.take, number) for phases, (number, _) in KINDS.items()}


class Measured(NamedTuple):
    """Milliseconds of CPU time: R, the kinds of steps, and their convolutions alone."""

    r: float
    steps: dict[str, float]
    bare: dict[str, float]  # convolutions alone
    peak: float  # MB

    @property
    def step(self) -> float:
        """The mean step."""
        return amortised(self.steps)


def amortised(steps: dict[str, float]) -> float:
    """Returns the mean step: every fourth takes the path length, every sixteenth also R1."""
    return sum(value * KINDS[phases][1] for phases, value in steps.items())


def milliseconds(call: Callable[[], object]) -> float:
    """Returns the CPU time of a call."""
    begun = time.process_time_ns()
    call()
    return (time.process_time_ns() - begun) / 1e6


def reference() -> Callable[[], None]:
    """Returns R: a convolution 8 x 128 x 64 x 64 by 128 x 128 x 3 x 3 in float32, with both gradients."""
    x, w = torch.randn(8, 128, 64, 64, requires_grad=True), torch.randn(128, 128, 3, 3, requires_grad=True)
    gradient = torch.ones(8, 128, 64, 64)

    def once() -> None:
        x.grad = w.grad = None
        functional.conv2d(x, w, padding=1).backward(gradient)

    return once


class Convolutions(TorchDispatchMode):
    """A record of the dense convolutions and their gradients that run under it. Blurs are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A dense convolution has one group. The table has the position of that argument.
        aten = torch.ops.aten
        position = {aten.convolution.default: 8, aten.convolution_backward.default: 9}.get(func)
        if position is not None and args[position] == 1:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        """Runs the recorded calls again."""
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def measure(name: str, precision: str, *, rounds: int = 8) -> Measured:
    """Returns the least time of several rounds in this process. Each round has R and all kinds of steps."""
    # Warm-up.
    step = Step(SIZES[name], precision, nano=name.endswith("nano"))
    for call in [*step.kinds().values()] * 2:
        call()
    peak, ruler = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, reference()

    # Rounds.
    least: dict[str, float] = {}
    for _ in range(rounds):
        times = {kind: milliseconds(call) for kind, call in [("R", ruler), *step.kinds().items()]}
        least = {kind: min(value, least.get(kind, value)) for kind, value in times.items()}
    return Measured(least.pop("R"), least, {kind: bare(call) for kind, call in step.kinds().items()}, peak)


def bare(call: Callable[[], None]) -> float:
    """Returns the milliseconds of a step's dense convolutions and their gradients alone."""
    with Convolutions() as convolutions:
        call()
    return min(milliseconds(convolutions.again) for _ in range(4))


def in_process(name: str, precision: str) -> Measured:
    """Measures in another process, so that the peak of memory is that of the step alone."""
    command = [sys.executable, "-m", "tests.bench.bench_train", name, precision]
    fields: Any = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return Measured(*fields)


def profile(name: str, precision: str) -> None:
    """Prints the time of a step without regularisers by operator."""
    step = Step(SIZES[name], precision)
    step.take(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        step.take(1)
    print(record.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


def saving() -> float:
    """Returns the least wall clock, in seconds, of writing a checkpoint of tiny-32."""
    step, least = Step(SIZES["tiny-32"], "fp32"), float("inf")
    step.take(0)
    for _ in range(4):
        with tempfile.TemporaryDirectory() as run:
            begun = time.perf_counter()
            step.trainer.save(Path(run))
            least = min(least, time.perf_counter() - begun)
    return least


def main() -> None:
    """Prints every figure with its target, and the profile of a step that misses its target."""
    # Multiples of R.
    for (name, precision), (most, memory) in GOALS.items():
        times = in_process(name, precision)
        steps = "  ".join(f"{phases} {value:.0f}" for phases, value in times.steps.items())
        step, convolutions = times.step / times.r, amortised(times.bare) / times.r
        print(f"{name} px {precision} step {step:.2f} R (<= {most}), ", end="")
        print(f"its bare convolutions {convolutions:.2f} R, peak {times.peak:.0f} MB (<= {memory}); ", end="")
        print(f"R {times.r:.0f} ms, step {times.step:.0f} ms: {steps}", flush=True)
        if step > most:
            profile(name, precision)

    # Milliseconds per picture of the smallest preset.
    for name, precision in itertools.product(("tiny-32", "tiny-32 with nano"), ("fp32", "bf16")):
        times, batch = in_process(name, precision), SIZES[name].groups.training.batch
        step, convolutions = times.step / batch, amortised(times.bare) / batch
        goal = "" if name.endswith("nano") else " (<= 5)"
        print(f"{name} {precision} {step:.2f} ms a picture{goal}, ", end="")
        print(f"its bare convolutions {convolutions:.2f} ms; R {times.r:.0f} ms", flush=True)

    # Checkpoints.
    print(f"a checkpoint of tiny-32 {saving():.3f} s of wall clock")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["profile"]:
        profile(*sys.argv[2:])
    elif sys.argv[1:]:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
