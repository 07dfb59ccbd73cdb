"""The course of an experiment: missing steps on Ray, a row for each finished (arm, seed), last the report.

A step runs when the steps before it are done. A step that fails leaves the others running; only the steps
after it are left out. Runs of finished arms are removed, unless an unfinished arm still reads them.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evaluate import inference
from evaluate.experiments import performing, registration, rows
from evaluate.experiments.performing import LOGS, Performed, StepJob
from evaluate.experiments.rows import Results
from evaluate.experiments.table import FOLDER, Arm, Experiment, Step, chain
from synth.checkout import ROOT, commit
from synth.errors import UserError
from synth.sets import locks, parallel
from synth.sets.parallel import Retry
from synth.sets.storage import Folder

REPORT, TABLE = "report.html", "report.md"
RESULTS = Path(__file__).parent / "results"  # of the shipped experiments

_CLAIM, _LOCK = "experiment.json", ".lock"
_PACKAGES = ("synth", "evaluate")  # that the nodes of a cluster need to find the task

Json = dict[str, Any]
Cell = tuple[Arm, int]  # an arm of a seed


@dataclass(frozen=True)
class ExperimentRequest:
    """The options of one `experiment` command."""

    experiment: Experiment
    out: Path
    seeds: int
    arms: tuple[str, ...] = ()  # empty: all
    workers: int | None = None
    ray_address: str | None = None
    fresh: bool = False
    shipped: bool = False  # True if its rows are kept in the repository
    path: tuple[str, ...] = ()  # folders with further modules of commands

    @property
    def rows(self) -> Path:
        """The file that new rows are added to."""
        return self.out / rows.NAME if self.fresh or not self.shipped else self.shipped_rows

    @property
    def shipped_rows(self) -> Path:
        """The file of rows in the repository."""
        return RESULTS / f"{self.experiment.name}.jsonl"

    @property
    def registered(self) -> Path:
        """The file of the registered hypotheses."""
        name = f"{self.experiment.name}.{registration.NAME}"
        return RESULTS / name if self.shipped else self.out / registration.NAME

    @property
    def cells(self) -> list[Cell]:
        """The requested arms of the requested seeds, seed by seed."""
        chosen = {self.experiment.arm(name).name for name in self.arms}
        pairs = self.experiment.pairs(self.seeds)
        return [(arm, seed) for arm, seed in pairs if not chosen or arm.name in chosen]


# Events.


class StepEnded(NamedTuple):
    """An event: a step is done, or has failed."""

    step: Step
    problem: str  # empty: it is done
    seconds: float
    left: int  # steps to go


class RowAdded(NamedTuple):
    """An event: an arm of a seed is finished."""

    row: Json
    before: Json | None  # the shipped row, if this one repeats it


class Note(NamedTuple):
    """An event: a line for a person."""

    text: str


class Foreseen(NamedTuple):
    """The cost of an experiment's missing part (--dry-run)."""

    cells: int  # arms of seeds
    missing: int
    steps: int  # to be done
    shared: int  # of these, the ones that several arms or seeds read
    hours: float  # of one worker: a core, or a GPU
    gigabytes: float


def foresee(request: ExperimentRequest) -> tuple[Foreseen, list[Step]]:
    """Returns the cost of the missing part of an experiment, and its steps. Writes nothing.

    Raises UserError as the experiment itself would."""
    missing = _missing(request, sort(request))
    steps = _to_do(request.out, missing)
    readers = [{step.address for step in arm.chain(seed)} for arm, seed in missing]
    shared = sum(1 for step in steps if sum(step.address in reader for reader in readers) > 1)
    hours, disk = sum(step.seconds for step in steps) / 3600, sum(step.megabytes for step in steps) / 1000
    cells = len(request.cells)
    return Foreseen(cells, len(missing), len(steps), shared, round(hours, 2), round(disk, 2)), steps


def sort(request: ExperimentRequest) -> Results:
    """Returns the rows of an experiment. Raises UserError for bad requests, before anything is written."""
    experiment = request.experiment
    if request.seeds < 2 and (experiment.hypotheses or experiment.exchanges):
        raise UserError(f"--seeds is {request.seeds}; an interval needs at least 2")
    if experiment.hypotheses and request.seeds > inference.MOST_PAIRS:
        raise UserError(f"--seeds is {request.seeds}; the exact test takes at most {inference.MOST_PAIRS}")
    if request.out.is_file():
        raise UserError(f"{request.out} is a file; give a folder as --out")
    claimed = _claimed(request.out)
    if claimed and claimed.get("experiment") != experiment.name:
        raise UserError(f"{request.out} holds the experiment {claimed.get('experiment')}; give another --out")
    if request.out.is_dir() and not claimed and _holds_other_files(request.out):
        raise UserError(f"{request.out} is not empty and holds no experiment; give another --out")
    if request.fresh and claimed and not claimed.get("fresh"):
        problem = f"{request.out} has steps from before --fresh, which would not be repeated"
        raise UserError(f"{problem}; give another --out")
    registered = registration.read(experiment, request.registered)
    _ = request.cells
    results = rows.sort(experiment, rows.read(request.rows), request.seeds)
    claims = experiment.hypotheses or experiment.exchanges or experiment.predictors
    if claims and not registered and (results.used or results.outdated):
        raise UserError(f"{request.rows} has rows, and {request.registered} is missing; restore that file")
    return results


def run(request: ExperimentRequest) -> Generator[StepEnded | RowAdded | Note, None, None]:
    """Runs the missing part of an experiment and writes its report. Yields events.

    Raises UserError for bad input, or after everything else is done if a step has failed."""
    from evaluate.experiments import page

    results = sort(request)
    missing = _missing(request, results)
    if not missing and page.is_current(request, results):
        yield Note(f"{request.experiment.name} is finished: nothing to do")
        return
    # Rows of hours must not be lost at the end.
    if missing and request.rows == request.shipped_rows and not os.access(RESULTS, os.W_OK):
        raise UserError(f"{RESULTS} takes no rows; change its rights, or give --fresh to keep them in --out")
    with held(request.out) as without_locks:
        if without_locks:
            yield Note(without_locks)
        claim(request)
        # Another command may have added rows before this one had the lock.
        results = sort(request)
        missing = _missing(request, results)
        if not request.registered.exists():
            registration.write(request.experiment, request.registered)
            if request.shipped:
                yield Note(f"registered: {request.registered}; commit it before the first row")
        course = _Course(request, missing, _unfinished(request))
        course.clear_finished(results)
        yield from course.steps()
        page.write(request, sort(request))
    if course.failed:
        others = len(course.failed) - 1
        more = f" (and {others} more)" if others else ""
        raise UserError(f"{next(iter(course.failed.values()))}{more}; run the command again to resume")


def claim(request: ExperimentRequest) -> None:
    """Marks the folder as that of an experiment, unless it is marked already."""
    if not _claimed(request.out):
        content = {"experiment": request.experiment.name, "fresh": request.fresh}
        Folder(str(request.out)).write(_CLAIM, json.dumps(content).encode())


def _claimed(out: Path) -> Json:
    """Returns the mark of an experiment's folder, or nothing. Raises UserError if it is damaged."""
    try:
        return dict(json.loads((out / _CLAIM).read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):
        raise UserError(f"{out / _CLAIM} is damaged; give another --out") from None


def _holds_other_files(out: Path) -> bool:
    """Returns True if a folder has more than a command leaves that was killed before it marked the folder."""

    def begun(path: Path) -> bool:
        empty = path.name in (FOLDER, LOGS) and not any(path.iterdir())
        return empty or path.name == _LOCK or path.name.startswith(f".{_CLAIM}.")

    return not all(map(begun, out.iterdir()))


@contextlib.contextmanager
def held(out: Path) -> Iterator[str | None]:
    """Locks the folder of an experiment for one command. Yields a sentence if it has no locks.

    Raises UserError if another command holds it."""
    for folder in (FOLDER, LOGS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with (out / _LOCK).open("wb") as lock:
        try:
            yield None if locks.lock(lock.fileno()) else locks.note(str(out))
        except BlockingIOError:
            raise UserError(f"another command runs in {out}; wait for it, or give another --out") from None


def _missing(request: ExperimentRequest, results: Results) -> list[Cell]:
    """Returns the requested cells without a row."""
    return [(arm, seed) for arm, seed in request.cells if (arm.name, seed) not in results.used]


def _unfinished(request: ExperimentRequest) -> set[tuple[str, int]]:
    """Returns the arms and seeds without a row: those requested, and all that are registered.

    So a trial of few seeds keeps the runs that the other seeds read, such as a shared pre-training."""
    experiment = request.experiment
    seeds = max(request.seeds, experiment.seeds)
    used = rows.sort(experiment, rows.read(request.rows), seeds).used
    return {(arm.name, seed) for arm, seed in experiment.pairs(seeds)} - used.keys()


def _to_do(out: Path, cells: Sequence[Cell]) -> list[Step]:
    """Returns the missing steps of cells, each once, in order. A step is needed if a missing one reads it."""
    steps = chain([step for arm, seed in cells for step in arm.last(seed)])
    needed = {step.address for arm, seed in cells for step in arm.last(seed)}
    missing = []
    for step in reversed(steps):
        if step.address in needed and not performing.is_done(out, step.name, step.makes):
            missing.append(step)
            needed |= {earlier.address for earlier in step.before}
    return missing[::-1]


@dataclass
class _Course:
    """The steps of one start: waiting, running, done and failed ones."""

    request: ExperimentRequest
    missing: list[Cell]
    unfinished: set[tuple[str, int]]  # arms and seeds without a row, requested or registered
    failed: dict[str, str] = field(default_factory=dict)  # name -> problem
    running: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        out = self.request.out
        self._steps = {step.name: step for step in chain([s for a, n in self.missing for s in a.last(n)])}
        self.waiting = [step.name for step in _to_do(out, self.missing)]
        self.done |= self._steps.keys() - set(self.waiting)
        shipped = rows.read(self.request.shipped_rows) if self.request.shipped else []
        self._before = {(row["arm"], row["seed"]): row for row in shipped} if self.request.fresh else {}

    def clear_finished(self, results: Results) -> None:
        """Removes the runs of arms with a row, which a killed command may have left."""
        performing.sweep(self.request.out)
        for name, seed in results.used:
            self._clear(self.request.experiment.arm(name), seed)

    def steps(self) -> Generator[StepEnded | RowAdded | Note, None, None]:
        """Runs the steps. Yields events."""
        yield from self._collect()
        request = self.request
        if not self.waiting:
            return
        values = parallel.run(
            performing.perform,
            self._jobs(),
            workers=request.workers,
            ray_address=request.ray_address,
            packages=_PACKAGES,
            gpus=lambda job: job.gpus,
        )
        # Closing the generator ends the tasks of a command that is interrupted.
        with contextlib.closing(values):
            for job, value in values:
                if isinstance(value, Retry):
                    yield Note(f"{job.name} is run again ({value.reason})")
                elif isinstance(value, Performed):
                    yield self._ended(value)
                    yield from self._collect()
        if request.workers == 0:
            performing.stop()

    def _jobs(self) -> Iterator[StepJob | None]:
        """Yields the steps that may run, and None while all others wait for running ones."""
        path = tuple(dict.fromkeys([str(ROOT), *self.request.path, *filter(None, sys.path)]))
        while self.waiting:
            step = next((s for s in map(self._steps.__getitem__, self.waiting) if self._ready(s)), None)
            if step is None and not self.running:
                return  # the others wait for failed ones
            if step is None:
                yield None
                continue
            self.waiting.remove(step.name)
            self.running.add(step.name)
            gpus = self.request.experiment.gpus if step.gpu else 0.0
            out = str(self.request.out.resolve())
            yield StepJob(step.name, step.command, step.makes, out, path, gpus)

    def _ready(self, step: Step) -> bool:
        return all(earlier.name in self.done for earlier in step.before)

    def _ended(self, value: Performed) -> StepEnded:
        self.running.discard(value.name)
        if value.problem:
            self.failed[value.name] = value.problem
        else:
            self.done.add(value.name)
        left = len(self.waiting) + len(self.running)
        return StepEnded(self._steps[value.name], value.problem, value.seconds, left)

    def _collect(self) -> Iterator[RowAdded]:
        """Adds the rows of arms with finished steps, and removes runs that no other arm reads."""
        for arm, seed in list(self.missing):
            last = arm.last(seed)
            if all(step.name in self.done for step in last):
                self.missing.remove((arm, seed))
                try:
                    row = self._row(arm, seed)
                except UserError as error:
                    self.failed[f"{arm.name}, seed {seed}"] = str(error)
                    continue
                rows.add(self.request.rows, row)
                self.unfinished.discard((arm.name, seed))
                self._clear(arm, seed)
                yield RowAdded(row, self._before.get((arm.name, seed)))

    def _row(self, arm: Arm, seed: int) -> Json:
        """Returns the row of a finished arm. Raises UserError if its steps print no endpoint, or too much."""
        out = self.request.out
        steps = arm.chain(seed)
        records = [performing.record(out, step.name) for step in steps]
        printed = [
            {**row, "step": step.label}
            for step, record in zip(steps, records, strict=True)
            for row in record.get("rows", ())
        ]
        origin = {
            "commit": (commit() or "unknown")[:12],
            "machine": records[-1].get("machine", ""),
            "cpu_seconds": round(sum(record.get("cpu_seconds", 0) for record in records)),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        try:
            return rows.make(self.request.experiment, arm, seed, printed, origin)
        except KeyError as error:
            metric = self.request.experiment.endpoint.metric
            problem = f"the steps of {arm.name} print no row of the metric {metric!r} with {error.args[0]!r}"
            raise UserError(f"{problem}; correct the table of the experiment") from None
        except ValueError as error:
            problem = f"{error}, and {rows.MOST_BYTES:,} are the most"
            raise UserError(f"{problem}; shorten names in the table of the experiment") from None

    def _clear(self, arm: Arm, seed: int) -> None:
        """Removes the runs of a finished arm that no unfinished one reads."""
        if self.request.experiment.keep:
            return
        others = [(self.request.experiment.arm(name), n) for name, n in self.unfinished]
        needed = {step.name for other, n in others for step in other.chain(n)}
        for step in arm.chain(seed):
            done = performing.is_done(self.request.out, step.name, step.makes)
            if done and not step.lasts and step.name not in needed:
                performing.remove(self.request.out, step.name, step.makes)
