"""The cost of a run (--dry-run): the resolved config, parameters, memory and time, from one small step.

Writes nothing.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from caption import encoders
from train import config
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.model import Micro, Wanted
from train.start.prepared import Prepared, prepare, survey_of
from train.start.request import TrainRequest
from train.stream.batches import Batch

_BYTES = 4  # of a float32
_TEXT = "a text as long as most: three facts of a picture"

Json = dict[str, Any]


def estimate(request: TrainRequest) -> Iterator[Json]:
    """Yields rows for a person: config, parameters, memory and time.

    Raises UserError as the run itself would."""
    # The resolved config.
    device = encoders.choose_device(request.device)
    prepared = prepare(request, device)
    run_config = prepared.config
    for group, values in config.to_json(run_config).items():
        yield {"group": group, **values}

    # Sizes of the networks and of the set.
    trainer = _small(prepared, device)
    counts = {name: parameters(part) for name, part in trainer.parts.items()}
    samples = prepared.stream(Wanted(vectors=())).order.samples
    yield {**{f"parameters_of_{name}": n for name, n in counts.items()}, "samples_of_an_epoch": samples}

    # Memory: weight, gradient and Adam's two moments of each parameter, and the kept activations.
    seconds, kept = _step(trainer)
    averages = sum(parameters(average) for average in trainer.averages.values())
    trained = sum(counts.values())
    memory = _BYTES * (4 * trained + averages) + kept * config.require_divisible(run_config, 1)
    yield {
        "seconds_per_kimg": round(1000 * seconds, 1),
        "hours": round(run_config.run.images * seconds / 3600, 2),
        "memory_gb": round(memory / 1e9, 2),
        "checkpoint_gb": round(_BYTES * (3 * trained + averages) / 1e9, 2),
    }


def _small(prepared: Prepared, device: str) -> Trainer:
    """Returns a trainer of the smallest batch that the model's groups allow."""
    run_config, needs = prepared.config, prepared.config.needs
    batch = math.lcm(needs.multiple, 2, *needs.groups)
    training = replace(run_config.groups.training, batch=batch)
    small = replace(run_config.replaced("training", training), run=replace(run_config.run, micro_batch=0))
    return Trainer(small, prepared.context(Ranks(device=device), survey_of(prepared)), Ranks(device=device))


def _step(trainer: Trainer) -> tuple[float, float]:
    """Returns seconds of wall clock and bytes kept for gradients, per sample.

    The seconds of a phase count by its frequency."""
    # A random batch.
    groups = trainer.config.groups
    side, batch, wanted = groups.model.resolution, groups.training.batch, trainer.model.wanted
    pictures = torch.randint(0, 256, (batch, wanted.views, 3, side, side), dtype=torch.uint8)
    if wanted.latents:
        pictures = torch.randn(batch, 1, *wanted.latents).half()
    width = getattr(groups.model, "text_dim", 1)
    vectors = {name: functional.normalize(torch.randn(batch, width), dim=1) for name in wanted.vectors}
    tokens = torch.tensor([wanted.tokenise(_TEXT)] * batch) if wanted.tokenise else None
    micros = list(trainer._micros(Batch(pictures, vectors, tokens)))

    # Each phase twice: once for its memory, which also warms up, and once for its time.
    seconds, most = 0.0, 0
    for phase in trainer.model.phases:
        kept = _kept_for_gradients(trainer, phase, micros)
        begun = time.perf_counter()
        trainer._take(phase, micros)
        if trainer.ranks.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds += (time.perf_counter() - begun) / phase.every
        most = max(most, kept)
    return seconds / batch, most / batch


def _kept_for_gradients(trainer: Trainer, phase: Any, micros: list[Micro]) -> int:
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
