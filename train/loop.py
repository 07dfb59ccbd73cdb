"""The one training loop: phases over batches, by the clock of images seen. It names no network.

Everything random in a step follows from the config and the images seen. So a resumed run equals an
uninterrupted one, bit for bit on a CPU. With another number of ranks it is equal up to rounding.
"""

import copy
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn

from synth import console
from synth.errors import UserError
from train import checkpoint, config, ema, model
from train.checkpoint import Origin
from train.config import RunConfig
from train.distributed import FAILS, GOES_ON, STOPS, Ranks, attempt
from train.model import Context, Loaded, Micro, Model, Phase, Terms
from train.stream.batches import Batch

_NOT_FINITE = 20  # a run stops after this many consecutive phases of a part without finite gradients


T = TypeVar("T")


class Step(NamedTuple):
    """An event: a step was taken."""

    images: int


class Tick(NamedTuple):
    """An event: a log line is due. Its figures cover the images since the last tick."""

    images_seen: int
    losses: dict[str, float]  # means
    seconds: float
    cpu_seconds: float  # of this rank and its threads, without reader processes
    waited: float  # the part of these seconds that the loop waited for data
    skipped: int  # phases without finite gradients, of the whole run
    embedding: float = 0.0  # CPU seconds of this rank's readers for the vectors of drawn pictures


class Grid(NamedTuple):
    """An event: a sample grid is due."""

    images_seen: int


Event = Step | Tick | Grid


class Sizes(NamedTuple):
    """Bytes of a checkpoint."""

    full: int  # with all its files
    lasting: int  # after thinning


class Trainer:
    """A model's parts, their optimisers and averages, and the clock.

    The first weights follow from the seed alone."""

    def __init__(self, run_config: RunConfig, context: Context, ranks: Ranks) -> None:
        self.config, self.context, self.ranks = run_config, context, ranks
        self._training = run_config.groups.training
        self._micro = config.require_divisible(run_config, ranks.count)  # samples

        # Parts, averages and optimisers.
        module = model.find(run_config.name)
        torch.manual_seed(self._training.seed)
        self.parts: dict[str, nn.Module] = module.parts(run_config.groups, context)
        self.model: Model = module.build(self.parts, run_config.groups, context)
        self.averages = {
            n: copy.deepcopy(self.parts[a.part]).requires_grad_(False) for n, a in self.model.averages.items()
        }
        self._rates = {part: [g["lr"] for g in o.param_groups] for part, o in self.model.optimisers.items()}

        # Clock and counters.
        self.images_seen = self.skipped = 0
        self.ended_by = 0  # number of the signal that ends `run`
        self._in_a_row = Counter[str]()  # phases without finite gradients, by part
        self._divergence: UserError | None = None  # ends the run after its step
        self._terms = defaultdict[str, list[Tensor]](list)  # loss terms since the last tick

    def run(self, batches: Iterator[Batch], place: Path) -> Generator[Event]:
        """Trains until the config's images are seen, or a signal arrives. Yields its events.

        Raises UserError if a batch fails, a file cannot be written, or gradients stay non-finite. Writes a
        checkpoint first."""
        run, waited, embedding = self.config.run, 0.0, 0.0
        begun, cpu = time.perf_counter(), time.process_time()
        with self._signals():
            while self.images_seen < run.images:
                # Batch.
                before = time.perf_counter()
                batch = self._next(batches, place)
                if batch is None:
                    break
                waited += time.perf_counter() - before
                embedding += batch.embedding

                # Step.
                for name, value in self.step(batch).items():
                    self._terms[name].append(value)
                if self._divergence:
                    self._end(self._divergence, place)
                yield Step(self._training.batch)

                # Log, grid and checkpoint, if due.
                if self._reached(run.tick):
                    means = self._means()
                    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
                    figures = (seconds, cpu_seconds, waited, self.skipped, embedding)
                    yield Tick(self.images_seen, means, *figures)
                    waited, embedding, begun, cpu = 0.0, 0.0, time.perf_counter(), time.process_time()
                if self._reached(run.samples):
                    yield Grid(self.images_seen)
                if self._reached(run.checkpoint):
                    self.save(place)
            self.save(place)

    def together(self, action: Callable[[], T], place: Path) -> T:
        """Runs an action on every rank and returns its result.

        If it fails on a rank, all write a checkpoint and exit: see `Ranks.end`."""
        failure, result = attempt(action)
        if self.ranks.agree(FAILS if failure else GOES_ON)[0] == FAILS:
            self._end(failure, place)
        return cast(T, result)

    def step(self, batch: Batch) -> Terms:
        """Takes every due phase. Returns the means of its loss terms over this rank's samples."""
        number, before, terms = self.images_seen // self._training.batch, self.images_seen, Terms()
        micros = list(self._micros(batch))

        # Phases.
        for phase in self.model.phases:
            if number % phase.every == 0 and before >= phase.begins:
                terms.update(self._take(phase, micros))

        # Clock and averages.
        self.images_seen += self._training.batch
        for name, average in self.model.averages.items():
            ema.update(self.averages[name], self.parts[average.part], average.keep(before, self.images_seen))
        return terms

    def sizes(self) -> "Sizes":
        """Returns the sizes of a checkpoint, with two moments of each trained weight."""
        names = self.config.needs.frozen
        averages, trained, frozen = (
            sum(p.numel() * p.element_size() for m in modules for p in m.state_dict().values())
            for modules in (
                self.averages.values(),
                [part for name, part in self.parts.items() if name not in names],
                [self.parts[name] for name in names],
            )
        )
        return Sizes(averages + 3 * trained + frozen, (averages or trained) + frozen)

    def loaded(self) -> Loaded:
        """Returns the current model, averages in place, to draw from."""
        parts = dict(self.parts)
        for name, average in reversed(self.model.averages.items()):
            parts[average.part] = self.averages[name]
        return Loaded(self.config.name, self.config.groups, self.context.survey, parts, dict(self.averages))

    # Phases.

    def _take(self, phase: Phase, micros: list[Micro]) -> Terms:
        """Takes one optimiser step. Returns the means of the phase's terms over this rank's samples."""
        # Gradients of this rank.
        for name, part in self.parts.items():
            part.requires_grad_(name in phase.parts)
        rows = [self._backward(phase, micro, 1 / len(micros)) for micro in micros]
        terms = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}

        # Step.
        self._apply(phase)
        if phase.settle:
            phase.settle(self._over_ranks(terms))
        return {f"{phase.name}/{name}": value for name, value in terms.items()}

    def _backward(self, phase: Phase, micro: Micro, share: float) -> Terms:
        """Adds the gradients of a micro-batch, weighted by its share of the batch.

        Returns the terms without their graph."""
        detached = Terms()
        for terms in phase.loss(micro):
            differentiable = [term for term in terms.values() if term.requires_grad]
            (sum(differentiable, torch.zeros((), device=self.context.device)) * share).backward()
            detached.update({name: term.detach() for name, term in terms.items()})
        return detached

    def _apply(self, phase: Phase) -> None:
        """Steps the optimisers by the gradients of all ranks. Skips the step if a gradient is not finite."""
        # Gradients of all ranks.
        parameters = [p for part in phase.parts for p in self.parts[part].parameters()]
        for parameter in parameters if phase.zeros else ():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.ranks.average(gradients)
        finite = _finite(gradients)
        if finite and phase.clip is not None:
            nn.utils.clip_grad_norm_(parameters, phase.clip)

        # Optimisers.
        for part in phase.parts:
            optimiser = self.model.optimisers[part]
            if self.model.rate:
                for group, rate in zip(optimiser.param_groups, self._rates[part], strict=True):
                    group["lr"] = rate * self.model.rate(part, self.images_seen)
            if finite:
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            self._in_a_row[part] = 0 if finite else self._in_a_row[part] + 1
        self.skipped += not finite

        # Divergence. The averaged gradients are the same on all ranks.
        if max(self._in_a_row[part] for part in phase.parts) >= _NOT_FINITE and not self._divergence:
            names = " and ".join(phase.parts)
            problem = f"the gradients of the {names} were not finite in {_NOT_FINITE} phases in a row"
            clock = f"lately in {phase.name}, at {self.images_seen:,} images seen"
            advice = "lower the learning rates and begin again with another --out"
            self._divergence = UserError(f"{problem}, {clock}; {advice}")

    def _end(self, failure: UserError | None, place: Path) -> NoReturn:
        """Exits on all ranks, see `Ranks.end`. Writes a checkpoint first, if a step has been taken."""
        if self.images_seen:
            self._join_terms()
            also, _ = attempt(lambda: self._write(place))
            if failure and also:
                failure = UserError(f"{failure}; no checkpoint was written either: {also}")
        self.ranks.end(failure)

    def _micros(self, batch: Batch) -> Iterator[Micro]:
        """Yields a rank's samples in micro-batches."""
        device, dtype, size = self.context.device, self.context.weights, len(batch.pictures)
        first = self.images_seen + self.ranks.rank * size
        for start in range(0, size, self._micro):
            rows = slice(start, start + self._micro)
            pictures = batch.pictures[rows].to(device, non_blocking=True).to(dtype)
            if batch.pictures.dtype == torch.uint8:
                pictures = pictures / 127.5 - 1
            vectors = {n: v[rows].to(device, non_blocking=True).to(dtype) for n, v in batch.vectors.items()}
            tokens, labels = (
                None if values is None else values[rows].to(device, non_blocking=True)
                for values in (batch.tokens, batch.labels)
            )
            numbers = range(first + start, first + start + len(pictures))
            yield Micro(pictures, vectors, numbers, self.images_seen, tokens, labels)

    def _next(self, batches: Iterator[Batch], place: Path) -> Batch | None:
        """Returns the next batch, or None if a rank received a signal.

        Raises UserError if a rank's batch fails. Writes a checkpoint first."""
        failure, batch = attempt(lambda: next(batches, None))
        state, _ = self.ranks.agree(FAILS if failure else STOPS if self.ended_by else GOES_ON)
        if state == FAILS:
            self._end(failure, place)
        if state == STOPS:
            self.ended_by = self.ended_by or signal.SIGTERM
            return None
        return batch

    def _reached(self, period: int) -> bool:
        """Returns True if the clock passed a multiple of a period in the last step."""
        return self.images_seen // period > (self.images_seen - self._training.batch) // period

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Catches the signals that end a run within the block, so that a step ends before the run does."""

        # The handler only notes the signal. The loop looks at it between two steps.
        def note(number: int, frame: FrameType | None) -> None:
            self.ended_by = number

        self.ended_by = 0
        previous = console.on_ending(note)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # Loss terms.

    def _means(self) -> dict[str, float]:
        """Returns the mean of each loss term since the last tick, over steps and ranks. Clears the buffer."""
        self._join_terms()
        means = {name: float(torch.stack(values).mean()) for name, values in self._terms.items()}
        self._terms.clear()
        return means

    def _join_terms(self) -> None:
        """Replaces each rank's buffered loss terms by their means over ranks. Idempotent."""
        if self._terms:
            joined = torch.stack(list(chain.from_iterable(self._terms.values())))
            self.ranks.average([joined])
            pieces = joined.split([len(values) for values in self._terms.values()])
            for name, piece in zip(list(self._terms), pieces, strict=True):
                self._terms[name] = list(piece)

    def _over_ranks(self, terms: Terms) -> Terms:
        joined = torch.stack(list(terms.values()))
        self.ranks.average([joined])
        return dict(zip(terms, joined.unbind(), strict=True))

    # Checkpoints.

    def save(self, run: Path) -> None:
        """Writes a checkpoint, on rank 0. The other ranks wait. Raises UserError if it cannot be written."""
        self._join_terms()
        self.ranks.together(lambda: self._write(run))

    def _write(self, run: Path) -> None:
        """Writes a checkpoint, on rank 0."""
        names = {*(self.averages or self.parts), *self.config.needs.frozen}
        lasting = [checkpoint.part_file(name) for name in names]
        if self.ranks.rank == 0:
            checkpoint.write(run, self.images_seen, self._files(), lasting)

    def _files(self) -> checkpoint.Writers:
        """Returns the files of a checkpoint, each with its writer."""
        files: dict[str, Callable[[Path], None]] = {}

        # Averages, then parts.
        for name, module in {**self.averages, **self.parts}.items():
            part = self.model.averages[name].part if name in self.averages else name
            origin = Origin(self.config.name, self.config.groups, self.context.survey, part)
            files[checkpoint.part_file(name)] = partial(checkpoint.save_part, module=module, origin=origin)

        # Optimisers.
        for part, optimiser in self.model.optimisers.items():
            save = partial(checkpoint.save_optimiser, module=self.parts[part], optimiser=optimiser)
            files[checkpoint.optimiser_file(part)] = save

        # The model's further tensors, and the clock.
        if self.model.state:
            files[checkpoint.STATE_TENSORS] = partial(checkpoint.save_tensors, values=self.model.state)
        clock = {
            "images_seen": self.images_seen,
            "skipped": self.skipped,
            "terms": {name: torch.stack(values).tolist() for name, values in self._terms.items()},
        }
        return {**files, checkpoint.STATE: partial(checkpoint.save_state, values=clock)}

    def restore(self, folder: Path) -> None:
        """Resumes from a checkpoint. Raises UserError if it is damaged."""
        # Weights and optimisers.
        self.start_from(folder)
        for part, optimiser in self.model.optimisers.items():
            checkpoint.restore_optimiser(self.parts[part], optimiser, checkpoint.optimiser(folder, part))

        # The model's further tensors, and the clock.
        clock, tensors = checkpoint.state(folder)
        for name, tensor in tensors.items():
            self.model.state[name].copy_(tensor)
        self.images_seen, self.skipped = clock["images_seen"], clock["skipped"]

        # Loss terms since the last log line.
        device, dtype = self.context.device, self.context.weights
        for name, values in clock["terms"].items():
            self._terms[name] = list(torch.tensor(values, device=device, dtype=dtype))

    def start_from(self, folder: Path) -> None:
        """Loads the weights of a checkpoint or an export, and nothing else.

        An export holds averages in the place of parts, so averages begin at the part's weights. Raises
        UserError if a file is damaged or of another size."""
        grown = getattr(model.find(self.config.name), "grown", lambda _, tensors: tensors)
        averaged = {name: average.part for name, average in self.model.averages.items()}
        for name, module in {**self.parts, **self.averages}.items():
            file = checkpoint.part_file(name)
            if not checkpoint.holds(folder, file):
                file = checkpoint.part_file(averaged.get(name, name))
            try:
                module.load_state_dict(grown(module, checkpoint.tensors(folder, file)))
            except RuntimeError:
                problem = f"{folder / file} is of another model than this run's"
                raise UserError(f"{problem}; give the preset that it was made by") from None


def _finite(gradients: list[Tensor]) -> bool:
    """Returns True if all values are finite, by the extremes of each tensor: a 2-norm of 1e25 overflows."""
    if gradients[0].is_cuda:
        return bool(torch.stack(torch._foreach_norm(gradients, torch.inf)).isfinite().all())
    # On a CPU that norm takes 14 times as long as both extremes.
    extremes = [torch.stack(torch.aminmax(gradient)) for gradient in gradients]
    return bool(torch.stack(extremes).isfinite().all())


def parameters(*modules: nn.Module) -> int:
    """Returns the number of parameters."""
    return sum(p.numel() for p in chain.from_iterable(m.parameters() for m in modules))
