"""Fits nano to finished shard sets of formula pictures and to their attribute sentences, and to nothing else.

The loss has two terms. One is CLIP's (Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
figure 3) with one change: a text of the batch that is true of a picture, though it was written for another, is no negative of it; the
grammar says which are. The other is, for every fact of a picture, the cross entropy among phrases that state its values: zero-shot
classification is what is fitted. Every visit brings other texts (caption/prompts.py).

Everything random follows from the seed and the number of the step or epoch: the same sets, seed and number of threads give the same
bytes on machines of one type.

Axes: N pictures, B batch, F facts, L tokens, D embedding.
"""

import itertools
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch.nn.attention import SDPBackend, sdpa_kernel

from caption import attributes, encoders, nano, nano_card, nano_exam, prompts
from caption.grammar import Facts
from synth.errors import UserError
from synth.shards import ShardSet

_DECODED = 256  # pictures that are resized together
_WARM_UP = 0.04  # share of the steps
_STEEPEST = math.log(100)  # of the logit scale, as in CLIP


@dataclass(frozen=True)
class Request:
    """What to fit, and how long."""

    shards: tuple[str, ...]  # finished sets
    out: str
    exam: tuple[str, ...] = ()  # finished sets of another seed
    seed: int = 0
    visits: int = 700_000  # of pictures
    threads: int = 1  # sums depend on it
    batch: int = 256
    rate: float = 1e-3  # AdamW's, at its highest
    decay: float = 0.1


class Pictures(NamedTuple):
    """What is fitted, or examined."""

    pixels: np.ndarray  # uint8 (N, 64, 64, 3)
    facts: list[Facts]
    classes: list[str]


class Step(NamedTuple):
    """How far it is."""

    number: int
    pictures: int  # in this step
    loss: float


def fit(request: Request, progress: Callable[[Step], None]) -> dict[str, Any]:
    """Fits a model and writes its folder; what was measured. Raises UserError for sets that cannot be used."""
    if request.visits < request.batch or request.batch < 2 or request.seed < 0 or request.threads < 1:
        raise UserError("fit-encoder needs a batch of at least 2, at least as many visits, a seed of at least 0 and a thread")
    folder, started = Path(request.out), time.process_time()
    with _reproducible(request.threads):
        pictures = read(request.shards)
        held_out = _held_out(read(request.exam), pictures) if request.exam else None
        nano.save_tokenizer(folder)
        model, losses = _train(pictures, request, nano.tokenizer(folder), progress)
        nano.save_model(model, folder)
        minutes = (time.process_time() - started) / 60
        figures = {}
        if held_out:
            figures = nano_exam.examine(encoders.load(encoders.find(str(folder))), held_out.pixels, held_out.facts)
    tenth = max(1, len(losses) // 10)
    ends = (_mean(losses[:tenth]), _mean(losses[-tenth:]))
    fitted = nano_card.Fitted(_command(request), request.seed, request.visits, request.threads, len(pictures.facts), minutes, ends)
    nano_card.write(folder, fitted, figures)
    row = {"out": request.out, "pictures": len(pictures.facts), "minutes": round(minutes, 1), "first_loss": ends[0], "last_loss": ends[1]}
    return {**row, **{name: round(figure.right, 4) for name, figure in figures.items()}}


def read(urls: tuple[str, ...]) -> Pictures:
    """The pictures of finished sets, or of the sets in local folders, resized, with what may be said of them. Raises UserError where
    a set is not made by formulas."""
    pixels: list[np.ndarray] = []
    facts: list[Facts] = []
    classes: list[str] = []
    for url in (set_url for given in urls for set_url in _sets(given)):
        shards = ShardSet(url)
        for shard in shards.shards:
            samples = shards.read(shard)
            while batch := list(itertools.islice(samples, _DECODED)):
                strange = next((sample.key for sample in batch if "params" not in sample.about), None)
                if strange:
                    raise UserError(f"sample {strange} of {url} states no parameters; fit-encoder reads the sets that synth draws")
                pixels.append(resized(np.stack([sample.pixels for sample in batch])))
                facts += [attributes.facts(sample.about) for sample in batch]
                classes += [_class(sample.about) for sample in batch]
    return Pictures(np.concatenate(pixels), facts, classes)


def _sets(given: str) -> list[str]:
    """The set itself, or those in a folder without a manifest of its own."""
    return sorted(str(path.parent) for path in Path(given).glob("*/manifest.json")) or [given]


def _class(about: dict[str, Any]) -> str:
    """The name of a picture's class. Those of shaders are the same under every seed."""
    params = about["params"]
    return f"{about['family']} {params.get('structure', about['seed'])} {about['class']}"


def _held_out(exam: Pictures, fitted: Pictures) -> Pictures:
    """The pictures of an exam whose class is not fitted to. Raises UserError where there are none."""
    known = set(fitted.classes)
    rows = [i for i, name in enumerate(exam.classes) if name not in known]
    if not rows:
        raise UserError("the exam has no class that is not fitted to; draw its sets with another seed")
    return Pictures(exam.pixels[rows], [exam.facts[i] for i in rows], [exam.classes[i] for i in rows])


def resized(pixels: np.ndarray) -> np.ndarray:
    """Pictures as nano sees them, antialiased bicubic: uint8 (B, S, S, 3) -> uint8 (B, 64, 64, 3)."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    if batch.shape[-1] != nano.SIZE:
        batch = F.interpolate(batch, size=(nano.SIZE, nano.SIZE), mode="bicubic", antialias=True)
    return batch.permute(0, 2, 3, 1).contiguous().numpy()


def _train(pictures: Pictures, request: Request, tokenizer: Any, progress: Callable[[Step], None]) -> tuple[Any, list[float]]:
    torch.manual_seed(request.seed)
    model = nano.build().train()
    optimiser = torch.optim.AdamW(_groups(model, request.decay), betas=(0.9, 0.98))
    steps = request.visits // request.batch
    losses = []
    for number, chosen in enumerate(_batches(len(pictures.facts), request, steps)):
        for group in optimiser.param_groups:
            group["lr"] = request.rate * _schedule(number, steps)
        stream = np.random.default_rng([request.seed, 1, number])
        loss = _losses(model, tokenizer, pictures.pixels[chosen], [pictures.facts[i] for i in chosen], stream)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, _STEEPEST)
        losses.append(loss.item())
        progress(Step(number + 1, len(chosen), losses[-1]))
    return model, losses


def _losses(model: Any, tokenizer: Any, pixels: np.ndarray, facts: list[Facts], stream: np.random.Generator) -> torch.Tensor:
    """The loss of a batch, of its sentences and of its phrases."""
    drawn = [prompts.draw(known, stream) for known in facts]
    phrases, groups = prompts.phrases(facts, stream)
    with _quick():
        images = nano.embed_images(model, pixels)
        texts = nano.embed_texts(model, tokenizer([prompt.text for prompt in drawn + phrases]))
    logits = model.logit_scale.exp() * images @ texts.T  # (B, sentences and phrases)
    known, stated = prompts.codes(facts), prompts.codes(prompt.stated for prompt in drawn + phrases)
    true = torch.from_numpy(_truth(known, stated))
    own = len(facts)
    return _sentence_loss(logits[:, :own], true[:, :own]) + _phrase_loss(logits[:, own:], true[:, own:], groups)


def _sentence_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """CLIP's loss of logits (B pictures, B texts), without the texts that are `true`, bool (B, B), of a picture that is not theirs."""
    own = torch.arange(len(logits))
    logits = logits.masked_fill(true & ~torch.eye(len(logits), dtype=torch.bool), float("-inf"))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _phrase_loss(logits: torch.Tensor, true: torch.Tensor, groups: list[slice]) -> torch.Tensor:
    """The mean over all facts of all pictures of the cross entropy among the fact's values. A value counts by the root of how many
    pictures have it: rare ones count more, each of theirs, than common ones."""
    total, weights = torch.zeros(()), torch.zeros(())
    for group in groups:
        rows = true[:, group].any(dim=1)
        value = true[rows, group].float().argmax(dim=1)
        weight = torch.bincount(value).float().rsqrt()[value]
        total = total + (weight * F.cross_entropy(logits[rows, group], value, reduction="none")).sum()
        weights = weights + weight.sum()
    return total / weights.clamp(min=1)


def _truth(known: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Which texts are true of which pictures, from the codes (B, F) of both: bool (B pictures, B texts)."""
    return ((stated[None] == 0) | (stated[None] == known[:, None])).all(axis=2)


def _batches(count: int, request: Request, steps: int) -> Iterator[np.ndarray]:
    """So many batches of indices, every epoch in a new order; what is left of an epoch opens the next."""
    epoch, waiting = 0, np.empty(0, np.int64)
    for _ in range(steps):
        while len(waiting) < request.batch:
            waiting = np.concatenate([waiting, np.random.default_rng([request.seed, 0, epoch]).permutation(count)])
            epoch += 1
        yield waiting[: request.batch]
        waiting = waiting[request.batch :]


def _schedule(number: int, steps: int) -> float:
    """The share of the highest rate at a step: a linear warm-up, then half a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    return (number + 1) / warm if number < warm else 0.5 + 0.5 * math.cos(math.pi * (number - warm) / max(1, steps - warm))


def _groups(model: Any, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, embeddings and the scale do not."""
    parameters = dict(model.named_parameters())
    matrices = {name for name, value in parameters.items() if value.ndim >= 2 and "embedding" not in name}
    return [
        {"params": [parameters[name] for name in parameters if name in matrices], "weight_decay": decay},
        {"params": [parameters[name] for name in parameters if name not in matrices], "weight_decay": 0.0},
    ]


@contextmanager
def _reproducible(count: int) -> Iterator[None]:
    """So many threads, and only operators whose results do not vary."""
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)


@contextmanager
def _quick() -> Iterator[None]:
    """bf16 products, and attention by plain products: for so few tokens twice as quick as the fused kernel on CPUs."""
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        yield


def _command(request: Request) -> str:
    exam = [word for url in request.exam for word in ("--exam", url)]
    options = ["--out", request.out, "--seed", str(request.seed), "--visits", str(request.visits), "--threads", str(request.threads)]
    return shlex.join(["python", "-m", "caption", "fit-encoder", *request.shards, *exam, *options])


def _mean(numbers: list[float]) -> float:
    return round(sum(numbers) / len(numbers), 4)
