"""What a run would take (--dry-run): the resolved config, parameters, memory and time, from one step on few samples. Nothing is written."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from caption import encoders
from train import config
from train.distributed import Ranks
from train.loop import Trainer, parameters
from train.start import Request, prepare
from train.stream.stream import Batch

_WORDS = 4  # bytes of a float32

Json = dict[str, Any]


def estimate(request: Request) -> Iterator[Json]:
    """Rows for a person: config, parameters, memory and time. Raises UserError as the run itself would."""
    prepared = prepare(request, encoders.choose_device(request.device))
    settled = prepared.config
    at_once = config.require_divisible(settled, 1)
    for group, values in config.to_json(settled).items():
        yield {"group": group, **values}
    few = math.lcm(settled.loss.contrastive_group, settled.model.mbstd_group, 2)
    small = replace(settled, training=replace(settled.training, batch=few), run=replace(settled.run, micro_batch=0))
    trainer = Trainer(small, prepared.encoder, Ranks(device=encoders.choose_device(request.device)))
    g, d = parameters(trainer.players.g), parameters(trainer.players.d)
    yield {"parameters_of_generator": g, "parameters_of_discriminator": d, "samples_of_an_epoch": prepared.stream.order.samples}
    seconds, saved = _step(trainer)
    held = _WORDS * (5 * g + 4 * d)  # weight, gradient and two moments of each; the generator's average
    total = settled.run.images * seconds
    yield {
        "seconds_per_kimg": round(1000 * seconds, 1),
        "hours": round(total / 3600, 2),
        "memory_gb": round((held + saved * at_once) / 1e9, 2),
        "checkpoint_gb": round(_WORDS * (4 * g + 3 * d) / 1e9, 2),
    }


def _step(trainer: Trainer) -> tuple[float, float]:
    """Seconds of wall clock and bytes kept for gradients, a sample; regularisers in proportion to how often they come."""
    settled = trainer.config
    side, batch = settled.model.resolution, settled.training.batch
    pictures = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    texts = torch.nn.functional.normalize(torch.randn(batch, settled.model.text_dim), dim=1)
    micros = trainer._micros(Batch(pictures, texts, texts))
    seconds, most = 0.0, 0
    for phase in trainer.phases:
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            trainer._turn(phase, micros)
        begun = time.perf_counter()
        trainer._turn(phase, micros)
        if trainer.ranks.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds += (time.perf_counter() - begun) / phase.every
        most = max(most, kept)
    return seconds / batch, most / batch
