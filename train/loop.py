"""The one training loop: phases over batches, by the clock of images seen.

Everything that a step draws or decides follows from the config and the images seen. So a run that was stopped goes on as if it had not
been, bit for bit on a CPU, and with another number of ranks up to rounding.
"""

import copy
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from synth.errors import UserError
from train import checkpoint, config, ema
from train.config import Config
from train.distributed import FAILS, GOES_ON, STOPS, Ranks, attempt
from train.models.stylegan2 import Discriminator, Generator, save_generator
from train.phases import Encoder, Micro, Phase, Players, phases
from train.stream.stream import Batch

_NOT_FINITE = 20  # turns of a network in a row whose gradients are not finite, after which a run stops

Json = dict[str, Any]


@dataclass(frozen=True)
class Tick:
    """What is told of the images since the last tick."""

    images_seen: int
    losses: dict[str, float]  # means
    seconds: float
    waited: float  # of these, for data
    skipped: int  # phases of which gradients were not finite, of the whole run


@dataclass
class Watch:
    """What a run is told to tell, and when."""

    tick: Callable[[Tick], None]
    samples: Callable[["Trainer"], None]
    advance: Callable[[int], None]


class Trainer:
    """Networks, their optimisers and the clock. Weights are drawn from the seed, and are the same on every rank."""

    def __init__(self, settled: Config, encoder: Encoder | None, ranks: Ranks) -> None:
        self.config, self.ranks = settled, ranks
        self._micro = config.require_divisible(settled, ranks.count)
        torch.manual_seed(settled.training.seed)
        device = torch.device(ranks.device)
        g, d = Generator(settled.model).to(device), Discriminator(settled.model).to(device)
        self.players = Players(settled, g, d, encoder, torch.zeros((), device=device))
        self.average = copy.deepcopy(g).requires_grad_(False)
        self.phases = phases(self.players)
        self.optimisers = {id(n): self._adam(n) for n in (g, d)}
        self.images_seen = self.skipped = 0
        self._in_a_row = dict.fromkeys(self.optimisers, 0)  # turns without finite gradients
        self._untold = defaultdict[str, list[Tensor]](list)  # loss terms since the last tick

    def train(self, batches: Iterator[Batch], watch: Watch, run: Path) -> int:
        """Trains until the config's images are seen, or a signal comes; returns its number, or 0. Raises UserError where a batch
        cannot be had, a file cannot be written, or gradients stay not finite."""
        told, waited, begun = self.config.run, 0.0, time.perf_counter()
        with _signals() as stop:
            while self.images_seen < told.images:
                before = time.perf_counter()
                batch = self._next(batches, stop)
                if batch is None:
                    self.save(run)
                    return stop.number
                waited += time.perf_counter() - before
                for name, value in self.step(batch).items():
                    self._untold[name].append(value)
                watch.advance(self.config.training.batch)
                if self._reached(told.tick):
                    tick = Tick(self.images_seen, self._means(), time.perf_counter() - begun, waited, self.skipped)
                    self.ranks.together(partial(watch.tick, tick))
                    waited, begun = 0.0, time.perf_counter()
                if self._reached(told.samples):
                    self.ranks.together(lambda: watch.samples(self))
                if self._reached(told.checkpoint):
                    self.save(run)
        self.save(run)
        return 0

    def _means(self) -> dict[str, float]:
        """The means of the loss terms since the last tick over steps and ranks; they count as told."""
        self._join_untold()
        means = {name: float(torch.stack(values).mean()) for name, values in self._untold.items()}
        self._untold.clear()
        return means

    def _join_untold(self) -> None:
        """Replaces each rank's loss terms by their means over ranks, which doing so again does not change."""
        if self._untold:
            joined = torch.stack(list(chain.from_iterable(self._untold.values())))
            self.ranks.average([joined])
            pieces = joined.split([len(values) for values in self._untold.values()])
            self._untold.update({name: list(piece) for name, piece in zip(list(self._untold), pieces, strict=True)})

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One turn of every phase that is due; the means of its loss terms over this rank's samples."""
        training, number = self.config.training, self.images_seen // self.config.training.batch
        micros, terms = self._micros(batch), dict[str, Tensor]()
        for phase in self.phases:
            if number % phase.every == 0:
                terms.update(self._turn(phase, micros))
        self.images_seen += training.batch
        remains = ema.decay(training.batch, self.images_seen, half_life=training.ema_half_life, ramp_up=training.ema_ramp_up)
        ema.update(self.average, self.players.g, remains)
        return terms

    def save(self, run: Path) -> None:
        """Writes a checkpoint, on the first rank; the others wait. Raises UserError where it cannot be written."""
        self._join_untold()
        self.ranks.together(lambda: checkpoint.write(run, self.images_seen, self._files()) if self.ranks.rank == 0 else None)

    def _files(self) -> dict[str, Callable[[Path], None]]:
        """The files of a checkpoint, each with what writes it."""
        g, d = self.players.g, self.players.d
        state = {
            "images_seen": self.images_seen,
            "path_mean": float(self.players.path_mean),
            "skipped": self.skipped,
            "untold": {name: torch.stack(values).tolist() for name, values in self._untold.items()},
        }
        moments = {
            f"{name}.{key}": value
            for name, network in (("generator", g), ("discriminator", d))
            for key, value in checkpoint.optimiser_tensors(network, self.optimisers[id(network)]).items()
        }
        return {
            checkpoint.EMA: lambda path: save_generator(path, self.average),
            checkpoint.GENERATOR: lambda path: save_generator(path, g),
            checkpoint.DISCRIMINATOR: lambda path: checkpoint.save_tensors(path, d.state_dict()),
            checkpoint.OPTIMISERS: lambda path: checkpoint.save_tensors(path, moments),
            checkpoint.STATE: lambda path: checkpoint.save_state(path, state),
        }

    def restore(self, found: Path) -> None:
        """Goes on from a checkpoint. Raises UserError where it is damaged."""
        self.start_from(found)
        moments, state = checkpoint.tensors(found, checkpoint.OPTIMISERS), checkpoint.state(found)
        for name, network in (("generator.", self.players.g), ("discriminator.", self.players.d)):
            own = {key.removeprefix(name): value for key, value in moments.items() if key.startswith(name)}
            checkpoint.restore_optimiser(network, self.optimisers[id(network)], own)
        self.players.path_mean.fill_(state["path_mean"])
        self.images_seen, self.skipped = state["images_seen"], state["skipped"]
        device = self.ranks.device
        self._untold.update({name: list(torch.tensor(values, device=device)) for name, values in state["untold"].items()})

    def start_from(self, found: Path) -> None:
        """Takes the weights of a checkpoint, and nothing else. Raises UserError where it is damaged or of another size."""
        pairs = [
            (self.players.g, checkpoint.GENERATOR),
            (self.players.d, checkpoint.DISCRIMINATOR),
            (self.average, checkpoint.EMA),
        ]
        for network, name in pairs:
            try:
                network.load_state_dict(checkpoint.tensors(found, name))
            except RuntimeError:
                raise UserError(f"{found / name} is of another model than this run's; give the preset that it was made by") from None

    def _adam(self, network: Generator | Discriminator) -> torch.optim.Adam:
        training = self.config.training
        lr = training.g_lr if network is self.players.g else training.d_lr
        lazy = max((phase.every for phase in self.phases if phase.network is network and phase.every > 1), default=0)
        lr, betas = ema.lazy_adam(lr, (0.0, training.beta2), lazy)
        return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True)

    def _turn(self, phase: Phase, micros: list[Micro]) -> dict[str, Tensor]:
        for network in (self.players.g, self.players.d):
            network.requires_grad_(network is phase.network)
        terms = [phase.loss(self.players, micro, 1 / len(micros)) for micro in micros]
        self._apply(phase)
        return {f"{phase.name}/{name}": torch.stack([t[name] for t in terms]).mean() for name in terms[0]}

    def _apply(self, phase: Phase) -> None:
        """Takes the optimiser's step by the gradients of all ranks, or leaves it where these are not finite."""
        optimiser, gradients = self.optimisers[id(phase.network)], [p.grad for p in phase.network.parameters() if p.grad is not None]
        finite = bool(torch.isfinite(self.ranks.average(gradients)).all())
        if finite:
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if self.players.lengths:
            mean = torch.cat(self.players.lengths).mean()
            self.ranks.average([mean])
            if torch.isfinite(mean):
                self.players.path_mean.lerp_(mean, self.config.loss.path_decay)
            self.players.lengths.clear()
        network = id(phase.network)
        self.skipped += not finite
        self._in_a_row[network] = 0 if finite else self._in_a_row[network] + 1
        if self._in_a_row[network] >= _NOT_FINITE:  # on all ranks alike
            what = f"the gradients of {_NOT_FINITE} phases of a network in a row were not finite, lately of {phase.name},"
            sentence = f"{what} at {self.images_seen:,} images seen; lower the learning rates or raise loss.r1, and begin anew"
            self.ranks.end(UserError(sentence))

    def _micros(self, batch: Batch) -> list[Micro]:
        """A rank's samples, as many at once as are asked for."""
        device, first = self.ranks.device, self.images_seen + self.ranks.rank * len(batch.pictures)
        found = []
        for start in range(0, len(batch.pictures), self._micro):
            part = slice(start, start + self._micro)
            pictures = batch.pictures[part].to(device, non_blocking=True).float() / 127.5 - 1
            for_d, for_g = (t[part].to(device, non_blocking=True) for t in (batch.for_d, batch.for_g))
            found.append(Micro(pictures, for_d, for_g, range(first + start, first + start + len(pictures))))
        return found

    def _next(self, batches: Iterator[Batch], stop: "_Stop") -> Batch | None:
        """The next batch, or None where a rank was told to stop. Raises UserError where a rank cannot have its own."""
        failure, batch = attempt(lambda: next(batches))
        state, _ = self.ranks.agree(FAILS if failure else STOPS if stop.number else GOES_ON)
        if state == FAILS:
            self.ranks.end(failure)
        if state == STOPS:
            stop.number = stop.number or signal.SIGTERM
            return None
        return batch

    def _reached(self, period: int) -> bool:
        """Whether the clock has passed a multiple of a period in the step just taken."""
        return self.images_seen // period > (self.images_seen - self.config.training.batch) // period


@dataclass
class _Stop:
    number: int = 0  # of the signal that came; 0: none
    previous: dict[int, Any] = field(default_factory=dict)


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Notes SIGTERM and SIGINT, so that a step ends before the run does."""
    stop = _Stop()

    def note(number: int, frame: FrameType | None) -> None:
        stop.number = number

    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        stop.previous[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number in stop.previous:
            signal.signal(number, stop.previous[number])


def parameters(*networks: torch.nn.Module) -> int:
    """How many there are."""
    return sum(p.numel() for p in chain.from_iterable(n.parameters() for n in networks))
