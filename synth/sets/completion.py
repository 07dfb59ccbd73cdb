"""Completion of a set: missing parts are estimated, made one by one, compared with their records, and closed
by a manifest.

Every stage that makes a set (shards, caption tables) describes it as a `Work`. `complete` makes any Work
safely.

Long work is a generator of events: estimates and progress as they come, and last its outcome.
`console.watched` draws the events for a person. `finish` runs to the outcome silently.
"""

import contextlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

from synth.errors import UserError
from synth.sets import ledger, parallel
from synth.sets.ledger import Json
from synth.sets.records import Part, Record
from synth.sets.storage import Storage
from synth.settings import digest

_ROUNDS = 3  # of making parts that do not agree with their records
_MARGIN = 1.1  # factor of the preflight's estimate for which there must be space

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """The state of a target, and the parts that it lacks."""

    state: ledger.State
    missing: Sequence[Part]
    other: bool = False  # another set, which --overwrite replaces


class Estimate(NamedTuple):
    """The preflight's forecast for the missing parts."""

    pictures: int
    bytes: int
    seconds: float  # of wall clock, with every worker on a free core
    free_bytes: int | None


class Progress(NamedTuple):
    """A step of a run."""

    amount: int  # pictures or rows done since the last step; negative if a worker was lost
    retried: str | None = None  # the sentence that names the lost worker's part
    note: str | None = None  # another sentence for a person


class Probe(NamedTuple):
    """The measurements of the preflight."""

    bytes: float  # a sample
    seconds: float  # of CPU time a sample


class Outcome(NamedTuple):
    """The outcome of a run."""

    records: list[Record]  # of the parts that it made
    retries: int
    seconds: float


class Work(ABC):
    """A set to be made at a place: its parts, their tasks, and the statement of the finished set."""

    packages: Sequence[str] = ("synth",)  # that a cluster's nodes need
    companions: Sequence[str] = ()  # files next to the manifest; a set that replaces this one removes them
    gpus: float = 0  # that a task occupies; none: a core

    def __init__(self, storage: Storage, identity: Json, parts: Sequence[Part]) -> None:
        self.storage, self.identity, self.parts = storage, identity, parts

    @property
    @abstractmethod
    def task(self) -> parallel.Task:
        """The task of a worker for a job. It yields samples done since the last yield, and last the part's
        record."""

    @abstractmethod
    def probe(self) -> Probe:
        """Makes some samples, to estimate the cost of all. Writes nothing."""

    @abstractmethod
    def jobs(self, parts: Sequence[Part]) -> list[Any]:
        """Returns the jobs of these parts, each with its `part`."""

    @abstractmethod
    def statement(self, records: Sequence[Record]) -> Json:
        """Returns further entries for the manifest of these parts: title, licence and the like.

        Raises UserError if the parts, each of them whole, do not form a set."""

    def done(self, state: ledger.State, part: Part, fingerprint: str) -> bool:
        """Returns True if a part of this set exists, whole and as planned."""
        return state.done(part, fingerprint)

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        """Returns the companions of the finished set by name."""
        return {}

    def close(self, state: ledger.State, run: Json) -> None:
        """Writes the companions and, last, the manifest of a set that has all its parts. Removes parts that
        are no longer planned."""
        # The manifest and its companions.
        records = [state.records[p.file] for p in self.parts]
        manifest = ledger.manifest(records, self.identity, self.statement(records), run)
        for name, data in self.documents(manifest).items():
            self.storage.write(name, data)

        # Parts of an earlier plan, such as a partial last shard.
        planned = {p.file for p in self.parts}
        obsolete = [r for r in state.records.values() if r.file not in planned]
        files = [] if ledger.adopted(self.identity) else [r.file for r in obsolete]
        self.storage.remove([*files, *(r.name for r in obsolete)])

        ledger.write_manifest(self.storage, manifest)

    @property
    def places(self) -> int:
        """The number of tasks that this machine can run at once."""
        return len(os.sched_getaffinity(0))

    def is_closed(self, manifest: Json) -> bool:
        """Returns True if a manifest over the requested parts need not be written again."""
        return True


@dataclass(frozen=True)
class Execution:
    """The terms of making a set, independent of its content."""

    workers: int | None = None  # None: one a core (or GPU), as far as there are parts; 0: this process
    ray_address: str | None = None
    overwrite: bool = False


def foresee(work: Work, terms: Execution) -> Estimate:
    """Returns the estimate of the preflight (--dry-run). Raises UserError if the set cannot be made at its
    place."""
    _require_ray(terms)
    return _foresee(work, _examine(work, terms), terms)


def require_place(work: Work, terms: Execution) -> None:
    """Raises UserError if the files at a set's place are neither its beginning nor replaceable."""
    _examine(work, terms)


def complete(work: Work, terms: Execution) -> Generator[Estimate | Progress | Outcome, None, None]:
    """Makes the missing parts of a set and closes it.

    Yields the estimate before anything is written, then the progress, and last the outcome. A finished set is
    left alone: it yields the outcome only. Raises UserError."""
    # A finished set is left alone, without a lock.
    begun = time.perf_counter()
    if _finished(work, _examine(work, terms)):
        yield Outcome([], 0, time.perf_counter() - begun)
        return
    _require_ray(terms)
    records: list[Record] = []
    retries = 0
    with work.storage.exclusive() as note:
        if note:
            yield Progress(0, note=note)

        # Another run may have changed the place before the lock was taken.
        target = _examine(work, terms)
        yield _foresee(work, target, terms)

        # Ray starts before the first change, so that a failure to start leaves the place as it is.
        workers = _workers(work, terms, target)
        with _engine(workers, terms, work):
            # The claim, which makes the place this set's.
            claim = ledger.claim(work.parts[0].file, work.identity, len(work.parts))
            if target.other:
                ledger.replace_by(target.state, work.storage, claim, work.companions)
                target = Target(ledger.load(work.storage), target.missing)

            # Missing parts, until all of them agree with their records.
            for _ in range(_ROUNDS):
                ledger.begin(target.state, work.storage, claim, [p.file for p in target.missing])
                for event in _make(work, target.missing, workers, terms):
                    if isinstance(event, Record):
                        records.append(event)
                        continue
                    retries += event.retried is not None
                    yield event
                target = _compare(work, ledger.load(work.storage))
                if not target.missing:
                    break
            else:
                _give_up(work, target)

        # The manifest.
        seconds = time.perf_counter() - begun
        _remove_strays(work, target.state)
        work.close(target.state, {"seconds": round(seconds, 3), "retries": retries, "finished": _now()})
    yield Outcome(records, retries, seconds)


def finish(events: Iterable[Estimate | Progress | T]) -> T:
    """Runs a generator of events to its end and returns its outcome."""
    [outcome] = [event for event in events if not isinstance(event, Estimate | Progress)]
    return outcome


def _examine(work: Work, terms: Execution) -> Target:
    """Returns the state of the target. Raises UserError if it is another set that may not be replaced."""
    state = ledger.load(work.storage)
    ledger.require_kind(state, work.storage, work.identity)

    # The same set, or another one that --overwrite may replace.
    samples = sum(p.count for p in work.parts) if all(p.counted for p in work.parts) else None
    try:
        ledger.require_same(state, work.storage, work.identity, samples)
    except UserError:
        if not (terms.overwrite and state.records):
            raise
        ledger.require_replaceable(state, work.storage, work.identity)
        return Target(state, work.parts, other=True)
    return _compare(work, state)


def _compare(work: Work, state: ledger.State) -> Target:
    """Returns the target of the requested set, with the parts that are not done."""
    fingerprint = digest(work.identity)
    return Target(state, [p for p in work.parts if not work.done(state, p, fingerprint)])


def _finished(work: Work, target: Target) -> bool:
    manifest = target.state.manifest
    return not target.missing and manifest is not None and work.is_closed(manifest)


def _give_up(work: Work, target: Target) -> NoReturn:
    """Raises UserError, which names a part that does not agree with its record after all rounds."""
    file = target.missing[0].file
    path = work.storage.join(file)
    if file not in target.state.sizes:
        question = "is this folder shared by all nodes of the cluster?"
        raise UserError(f"{path} was written and is not there; {question}")
    raise UserError(f"{path} differs from its record each time; does another program write there?")


def _foresee(work: Work, target: Target, terms: Execution) -> Estimate:
    """Returns the estimate for the missing parts. Raises UserError if there is too little space."""
    # Only the manifest may be missing.
    if not target.missing:
        return Estimate(0, 0, 0.0, work.storage.free_bytes())
    probe = work.probe()
    pictures = sum(p.count for p in target.missing)

    # Space, with that of a set which is replaced.
    needed, free = int(pictures * probe.bytes), work.storage.free_bytes()
    state = target.state
    freed = sum(state.sizes.get(r.file, 0) for r in state.records.values()) if target.other else 0
    if free is not None and needed * _MARGIN > free + freed:
        space = f"{work.storage.url} has {free:,} bytes free and needs about {int(needed * _MARGIN):,}"
        raise UserError(f"{space}; make room or give another --out")

    # Time.
    seconds = pictures * probe.seconds / (_workers(work, terms, target) or 1)
    return Estimate(pictures, needed, round(seconds, 1), free)


def _workers(work: Work, terms: Execution, target: Target) -> int | None:
    """Returns the number of tasks at once: the requested one, else the smaller of this machine's places and
    the missing parts. None is all of a cluster. Without missing parts, this process is enough."""
    if not target.missing:
        return 0
    if terms.workers is not None or terms.ray_address:
        return terms.workers
    workers = min(work.places, len(target.missing))
    # One worker is this process, without Ray.
    return workers if workers > 1 else 0


def _require_ray(terms: Execution) -> None:
    if terms.workers != 0:
        parallel.require_reachable(terms.ray_address)


def _engine(workers: int | None, terms: Execution, work: Work) -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which Ray is up, or an empty one if the run needs no Ray."""
    if workers == 0:
        return contextlib.nullcontext()
    return parallel.ray_session(workers, terms.ray_address, work.packages)


def _make(
    work: Work, parts: Sequence[Part], workers: int | None, terms: Execution
) -> Generator[Progress | Record, None, None]:
    """Makes parts. Yields the progress and, as each is finished, its record."""
    jobs, address = work.jobs(parts), terms.ray_address
    values = parallel.run(
        work.task, jobs, workers=workers, ray_address=address, packages=work.packages, gpus=work.gpus
    )
    # Closing the generator ends the tasks of a run that is interrupted.
    with contextlib.closing(values):
        for job, value in values:
            if isinstance(value, Record):
                yield value
            elif isinstance(value, parallel.Retry):
                yield Progress(-value.lost, f"{job.part.file} is made again ({value.reason})")
            else:
                yield Progress(value)


def _remove_strays(work: Work, state: ledger.State) -> None:
    """Removes files that are named like parts and that no record names. Removes none of an adopted set: any
    may be its owner's."""
    if ledger.adopted(work.identity):
        return
    # The set's name, a number of at least five digits, and the ending.
    stem, _, suffix = work.parts[0].file.rpartition(".")
    like = re.compile(rf"{re.escape(stem.rstrip('0123456789'))}\d{{5,}}\.{re.escape(suffix)}")
    work.storage.remove(f for f in state.sizes if like.fullmatch(f) and f not in state.records)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
