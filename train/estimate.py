"""The cost of a run (--dry-run): the resolved config, parameters, memory and time, from one small step.

Writes nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from caption import encoders
from synth.stopwatch import Stopwatch
from train import config, machine
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.model import Micro, Phase
from train.start.prepared import Prepared, prepare, survey_of
from train.start.request import TrainRequest
from train.stream.batches import Batch

_BYTES = 4  # of a float32
_LEAST = 8  # samples of the batch that is measured
_TEXT = "a text as long as most: three facts of a picture"

Json = dict[str, Any]


def estimate(request: TrainRequest) -> Iterator[Json]:
    """Yields rows for a person: config, parameters, memory and time.

    Raises UserError as the run itself would."""
    # The resolved config.
    device = encoders.choose_device(request.device)
    machine.use_one_thread(device)
    prepared = prepare(request, device)
    run_config = prepared.config
    for group, values in config.to_json(run_config).items():
        yield {"group": group, **values}
    if prepared.note:
        yield {"note": prepared.note}

    # Sizes of the networks and of the set.
    trainer = _small(prepared, device)
    counts = {name: parameters(part) for name, part in trainer.parts.items()}
    samples = prepared.stream(trainer.model.wanted).order.samples
    yield {**{f"parameters_of_{name}": n for name, n in counts.items()}, "samples_of_an_epoch": samples}

    # Memory: weight, gradient and Adam's two moments of each parameter, and the kept activations.
    seconds, kept = _costs(trainer, run_config.groups.training.batch)
    averages = sum(parameters(average) for average in trainer.averages.values())
    trained = sum(n for name, n in counts.items() if name not in run_config.needs.frozen)
    weights = sum(counts.values()) + 3 * trained + averages
    memory = _BYTES * weights + kept * config.require_divisible(run_config, 1)
    yield {
        "seconds_per_kimg": round(1000 * seconds, 1),
        "hours": round(run_config.run.images * seconds / 3600, 2),
        "on": "one core" if device == "cpu" else "one GPU",
        "memory_gb": round(memory / 1e9, 2),
        "checkpoint_gb": round(trainer.sizes().full / 1e9, 2),
    }


def _small(prepared: Prepared, device: str) -> Trainer:
    """Returns a trainer of the smallest batch from 8 on that the model's groups allow."""
    run_config, needs = prepared.config, prepared.config.needs
    unit = math.lcm(needs.multiple, 2, *needs.groups)
    batch = unit * -(-_LEAST // unit)
    training = replace(run_config.groups.training, batch=batch)
    small = replace(run_config.replaced("training", training), run=replace(run_config.run, micro_batch=0))
    return Trainer(small, prepared.context(Ranks(device=device), survey_of(prepared)), Ranks(device=device))


def _costs(trainer: Trainer, batch: int) -> tuple[float, float]:
    """Returns seconds and bytes kept for gradients, per sample of a run with this batch.

    The seconds of a phase count by its frequency."""
    micros = _random(trainer)
    size = len(micros[0].pictures)
    seconds, most = 0.0, 0
    for phase in trainer.model.phases:
        most = max(most, _kept_for_gradients(trainer, phase, micros))  # it also warms up

        # A second micro-batch costs its samples alone. The rest is paid once a step, as by the optimiser.
        once, twice = _seconds(trainer, phase, micros), _seconds(trainer, phase, micros * 2)
        samples = max(twice - once, 0.0)
        rest = max(once - samples, 0.0)
        seconds += (samples / size + rest / batch) / phase.every
    return seconds, most / size


def _random(trainer: Trainer) -> list[Micro]:
    """Returns a random batch, as one micro-batch."""
    groups = trainer.config.groups
    side, batch, wanted = groups.model.resolution, groups.training.batch, trainer.model.wanted
    pictures = torch.randint(0, 256, (batch, wanted.views, 3, side, side), dtype=torch.uint8)
    if wanted.latents:
        pictures = torch.randn(batch, 1, *wanted.latents).half()
    width = getattr(groups.model, "text_dim", 1)
    vectors = {name: functional.normalize(torch.randn(batch, width), dim=1) for name in wanted.vectors}
    tokens = torch.tensor([wanted.tokenise(_TEXT)] * batch) if wanted.tokenise else None
    return list(trainer._micros(Batch(pictures, vectors, tokens)))


def _seconds(trainer: Trainer, phase: Phase, micros: list[Micro]) -> float:
    """Takes a phase. Returns its seconds: CPU time of all threads, or wall-clock time of a GPU."""
    watch = Stopwatch.start()
    trainer._take(phase, micros)
    if trainer.ranks.device == "cpu":
        return watch.cpu_seconds()
    torch.cuda.synchronize()
    return watch.seconds()


def _kept_for_gradients(trainer: Trainer, phase: Phase, micros: list[Micro]) -> int:
    """Takes a phase. Returns the bytes that it keeps for gradients."""
    kept = 0

    # autograd calls this for each tensor that it saves.
    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        trainer._take(phase, micros)
    return kept
