"""Fits nano's architecture to finished sets: formula pictures, captioned pictures, scenes, or several kinds.

Every step has pictures of each kind in the sets. Its loss is the sum over the kinds (formula_fitting,
captioned_fitting, scene_fitting). Fitting starts from random weights or from those of another such encoder.

Everything random follows from the seed and the number of the step or epoch. The same sets, seed and number of
threads produce the same bytes on machines of one type.
"""

import math
import shlex
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caption import encoders
from caption.nano import (
    captioned_fitting,
    card,
    encoder_folder,
    fitting_sets,
    formula_fitting,
    naming_exam,
    network,
    scene_exam,
    scene_fitting,
    scene_texts,
)
from caption.nano.exam import ExamScore, examine
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.storage import Folder

_WARM_UP = 0.04  # share of the steps
_STEEPEST = math.log(100)  # of the logit scale, as in CLIP
_FURTHER = 0.625  # of a batch: captioned pictures and scenes, if there are formula pictures, too


@dataclass(frozen=True)
class FitRequest:
    """The options of one `fit-encoder` command."""

    shards: tuple[str, ...]  # finished sets
    out: str
    exam: tuple[str, ...] = ()  # finished sets of other classes and concepts
    start: str = ""  # the encoder to start from; empty: random weights
    seed: int = 0
    visits: int = 700_000  # of pictures
    threads: int = 1  # sums depend on it
    batch: int = 256
    rate: float = 1e-3  # AdamW's, at its highest
    decay: float = 0.1
    replaces: bool = False  # an encoder that fit-encoder wrote to the folder

    @property
    def command(self) -> str:
        """The command line."""
        options = ["--from", self.start] if self.start else []
        options += [word for url in self.exam for word in ("--exam", url)]
        options += ["--out", self.out, "--seed", str(self.seed)]
        options += ["--visits", str(self.visits), "--threads", str(self.threads)]
        return shlex.join(["python", "-m", "caption", "fit-encoder", *self.shards, *options])

    def is_finished(self) -> bool:
        """Returns True if the folder has the encoder of this command.

        Raises UserError if it has anything else that a fit does not replace."""
        return encoder_folder.is_finished(self.out, self.command, replaces=self.replaces)


@dataclass(frozen=True)
class Share:
    """The pictures of one kind in every batch."""

    number: int  # of the kind: its random streams are its own
    count: int  # pictures, or concepts, in an epoch
    batch: int
    loss: Callable[..., torch.Tensor]


def fit(request: FitRequest) -> Generator[Progress | dict[str, Any], None, None]:
    """Fits a model and writes its folder whole. Leaves a finished one of the same command alone.

    Yields the pictures of each step, and at the end the figures by name. Raises UserError if a set has
    neither parameters nor captions, a number is out of range, or the folder has other files."""
    # Options.
    if request.visits < request.batch or request.batch < 2 or request.seed < 0 or request.threads < 1:
        visits = f"at least as many visits as a batch has pictures ({request.batch})"
        raise UserError(
            f"fit-encoder needs a batch of at least 2, {visits}, a seed of at least 0 and a thread"
        )
    request.is_finished()
    begin = time.process_time()
    start = encoders.find(request.start) if request.start else None

    with (
        Folder(request.out).exclusive() as note,
        tempfile.TemporaryDirectory() as place,
        network.reproducible(request.threads),
    ):
        if note:
            yield Progress(0, note=note)
        if request.is_finished():
            advice = "nothing to do; remove it to fit it again"
            yield Progress(0, note=f"{request.out} is finished: {advice}")
            yield {"out": request.out}
            return

        # Model and sets.
        scratch = Folder(place)
        torch.manual_seed(request.seed)
        model = network.carried_on(start) if start else network.build()
        sets = fitting_sets.read(request.shards)
        known = scene_texts.vocabulary(sets.scenes.facts)
        exam = fitting_sets.held_out(fitting_sets.read(request.exam), sets) if request.exam else None

        # Steps.
        scratch.write(encoders.MERGES, network.merges())
        losses = []
        for loss in _train(model, _shares(sets, known, request, network.tokenizer(Path(place))), request):
            losses.append(loss)
            yield Progress(request.batch)

        # Figures, of the weights as they are stored.
        files = network.files(model)
        for name, data in files.items():
            scratch.write(name, data)
        minutes = (time.process_time() - begin) / 60
        figures = _examine(encoders.load(encoders.find(place)), exam, known) if exam else {}
        before = _examine(encoders.load(start), exam, known) if exam and start else {}

        # Folder, with its card.
        tenth = max(1, len(losses) // 10)
        ends = (_mean(losses[:tenth]), _mean(losses[-tenth:]))
        fitted = card.Fitted(request.command, request.seed, request.visits, request.threads, minutes, ends)
        name = Path(request.out).absolute().name
        files[card.NAME] = card.text(name, fitted, sets, start, figures, before).encode()
        encoder_folder.write(request.out, files)
    row = {"out": request.out, "pictures": len(sets), "minutes": round(minutes, 1)}
    row |= {"first_loss": ends[0], "last_loss": ends[1]}
    yield {**row, **{name: round(figure.right, 4) for name, figure in figures.items()}}


def _examine(
    encoder: encoders.Encoder, exam: fitting_sets.Sets, known: scene_texts.Vocabulary
) -> dict[str, ExamScore]:
    """Returns the figures of all exams by name. `known` is the vocabulary of the fitted scenes."""
    formulas, captioned = exam.formulas, exam.captioned
    named = naming_exam.examine(encoder, captioned) if captioned.concepts else {}
    drawn = examine(encoder, formulas.pixels, formulas.facts) if formulas.facts else {}
    return named | drawn | scene_exam.examine(encoder, exam.scenes, known.pairs)


def _shares(
    sets: fitting_sets.Sets, known: scene_texts.Vocabulary, request: FitRequest, tokenizer: Any
) -> list[Share]:
    """Returns the parts of every batch: one for each kind of pictures in the sets."""
    # Pictures of each kind, with their losses.
    formulas, captioned, scenes = sets.formulas, sets.captioned, sets.scenes
    concepts = captioned.by_concept()
    kinds = [
        (len(formulas.facts), partial(formula_fitting.loss, formulas, tokenizer)),
        (len(concepts), partial(captioned_fitting.loss, captioned, concepts, tokenizer)),
        (len(scenes.facts), partial(scene_fitting.loss, scenes, known, tokenizer)),
    ]

    # Captioned pictures and scenes have equal parts.
    further = sum(count > 0 for count, _ in kinds[1:])
    rest = round(_FURTHER * request.batch) if formulas.facts else request.batch
    batches = (request.batch - rest if further else request.batch, *(rest // max(1, further),) * 2)
    return [
        Share(number, count, batch, loss)
        for number, ((count, loss), batch) in enumerate(zip(kinds, batches, strict=True))
        if count
    ]


def _train(model: Any, shares: list[Share], request: FitRequest) -> Iterator[float]:
    """Fits the model. Yields the loss of every step."""
    model.train()
    optimiser = torch.optim.AdamW(_groups(model, request.decay), betas=(0.9, 0.98))
    steps = request.visits // request.batch
    batches = [_batches(share, request.seed, steps) for share in shares]
    for number in range(steps):
        # Learning rate.
        for group in optimiser.param_groups:
            group["lr"] = request.rate * _schedule(number, steps)

        # Loss over all kinds of pictures.
        loss = torch.zeros(())
        for share, chosen in zip(shares, batches, strict=True):
            stream = np.random.default_rng([request.seed, 2 * share.number + 1, number])
            loss = loss + share.loss(model, next(chosen), stream)

        # Step, with clipped gradients and a clamped logit scale.
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, _STEEPEST)
        yield loss.item()


def _batches(share: Share, seed: int, steps: int) -> Iterator[np.ndarray]:
    """Yields `steps` batches of indices. Every epoch has a new order, and its rest opens the next batch."""
    epoch, waiting = 0, np.empty(0, np.int64)
    for _ in range(steps):
        # A batch may be larger than an epoch.
        while len(waiting) < share.batch:
            random = np.random.default_rng([seed, 2 * share.number, epoch])
            waiting = np.concatenate([waiting, random.permutation(share.count)])
            epoch += 1
        yield waiting[: share.batch]
        waiting = waiting[share.batch :]


def _schedule(number: int, steps: int) -> float:
    """Returns the share of the highest rate at a step: a linear warm-up, then half a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    if number < warm:
        return (number + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (number - warm) / max(1, steps - warm))


def _groups(model: Any, decay: float) -> list[dict[str, Any]]:
    """Returns AdamW's parameter groups. Matrices decay; biases, norms, embeddings and the scale do not."""
    parameters = dict(model.named_parameters())
    matrices = {name for name, value in parameters.items() if value.ndim >= 2 and "embedding" not in name}
    return [
        {"params": [parameters[name] for name in parameters if name in matrices], "weight_decay": decay},
        {"params": [parameters[name] for name in parameters if name not in matrices], "weight_decay": 0.0},
    ]


def _mean(numbers: list[float]) -> float:
    return round(sum(numbers) / len(numbers), 4)
