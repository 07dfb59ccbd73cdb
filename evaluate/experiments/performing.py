"""The task of a Ray worker: one step, run by a process of its own, which then waits for the next step.

A step leaves its output in steps/NAME, its log in logs/NAME.log, and last its record, steps/NAME.json: the
rows that it printed, and its times. A step counts as done if its record exists. Killed steps are run again:
the commands of the stages resume.
"""

import atexit
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from evaluate.experiments.table import FOLDER
from synth.sets import parallel
from synth.sets.storage import Folder

LOGS = "logs"

_REMOVED = ".removed"  # the end of the name of an output that is being removed

_KILLED = 128  # exit statuses of processes that a signal has ended begin here, or are negative
_PATIENCE = 60  # seconds for a process to stop
_CPUINFO = Path("/proc/cpuinfo")
# glibc keeps freed memory in all processes of a step: a detector does not fault it in again for each batch.
_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
_THREADS = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

Json = dict[str, Any]


class StepJob(NamedTuple):
    """A step to be run, as a worker needs it."""

    name: str
    command: tuple[str, ...]  # after `python -m`
    makes: str  # the output, relative to the folder; empty: none
    out: str  # the experiment's folder, on a file system that all nodes share
    path: tuple[str, ...]  # folders with the modules of the commands
    gpus: float


class Performed(NamedTuple):
    """The end of a step. An empty problem is success."""

    name: str
    problem: str
    seconds: float
    cpu_seconds: float


def perform(job: StepJob) -> Iterator[Performed]:
    """Runs a step, as the task of a worker. Yields its end."""
    begun, answer = time.perf_counter(), {"code": -1}
    for _ in range(1 + parallel.RETRIES):
        answer = _process_of(job).run(job)
        if 0 <= answer["code"] < _KILLED:
            break
    seconds = round(time.perf_counter() - begun, 2)
    problem = _problem(job, answer["code"])
    cpu_seconds = float(answer.get("cpu_seconds", 0.0))
    if not problem:
        _write_record(job, seconds, cpu_seconds)
    yield Performed(job.name, problem, seconds, cpu_seconds)


def record(out: Path, name: str) -> Json:
    """Returns the record of a step, or an empty one if it was never done or its record is damaged."""
    try:
        return dict(json.loads((out / FOLDER / f"{name}.json").read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def is_done(out: Path, name: str, makes: str) -> bool:
    """Returns True if a step is done and its output is still there. `makes` is empty if it has none."""
    content = record(out, name)
    return bool(content) and not content.get("removed") and (not makes or (out / makes).exists())


def remove(out: Path, name: str, makes: str) -> None:
    """Removes the output of a step, a folder. Its record keeps rows and times."""
    # The new name keeps a removal that is killed from leaving a part of the output.
    away = out / FOLDER / f".{name}{_REMOVED}"
    shutil.rmtree(away, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        (out / makes).rename(away)
    content = {**record(out, name), "removed": True}
    Folder(str(out / FOLDER)).write(f"{name}.json", json.dumps(content).encode())
    shutil.rmtree(away, ignore_errors=True)


def sweep(out: Path) -> None:
    """Removes what killed removals have left."""
    for away in (out / FOLDER).glob(f".*{_REMOVED}"):
        shutil.rmtree(away, ignore_errors=True)


def _write_record(job: StepJob, seconds: float, cpu_seconds: float) -> None:
    output = Path(job.out) / FOLDER / f"{job.name}.out"
    rows = [row for line in output.read_text(encoding="utf-8").splitlines() if (row := _row(line))]
    content = {"command": job.command, "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds}
    data = json.dumps({**content, "machine": _machine()}).encode()
    Folder(f"{job.out}/{FOLDER}").write(f"{job.name}.json", data)
    output.unlink()


def _row(line: str) -> Json | None:
    """Returns the JSON object of a printed line, or None if it is another text."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _problem(job: StepJob, code: int) -> str:
    """Returns the problem of a step as a sentence, which names the step. Empty: none."""
    log = Path(job.out) / LOGS / f"{job.name}.log"
    if code == 0:
        missing = job.makes and not (Path(job.out) / job.makes).exists()
        return f"the step {job.name} has left no {job.makes}; {log} has its output" if missing else ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and errors:
        return f"the step {job.name} ended: {errors[-1]}"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    return f"the step {job.name} {how}; {log} has its output"


def _machine() -> str:
    """Returns the name of this machine's processor, and its GPU's if the step could use one."""
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = " with a GPU" if os.environ.get("CUDA_VISIBLE_DEVICES") else ""
    return f"{names[0] if names else platform.machine()}{gpu}"


class _Process:
    """A process of worker.py, which takes one step after another."""

    def __init__(self, job: StepJob) -> None:
        environment = {**os.environ, **_MEMORY, **_THREADS, "PYTHONPATH": os.pathsep.join(job.path)}
        self.fits, self._ending = _surroundings(job), False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evaluate.experiments.worker"],
            cwd=job.out,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the command, which stops its workers
        )

    def run(self, job: StepJob) -> Json:
        """Runs a step. Returns the process's answer, or its exit status if it has ended."""
        assert self._process.stdin and self._process.stdout
        files = {"log": f"{LOGS}/{job.name}.log", "output": f"{FOLDER}/{job.name}.out"}
        line = json.dumps({"command": job.command, **files, "lock": f"{FOLDER}/{job.name}.lock"})
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer.endswith("\n"):
            return {"code": self._process.wait()}
        content: Json = json.loads(answer)
        self._ending = content["code"] >= _KILLED
        return content

    @property
    def alive(self) -> bool:
        """True if the process takes further steps. It ends after a step that a signal has ended."""
        return not self._ending and self._process.poll() is None

    def stop(self) -> None:
        """Ends the process. A training run writes a checkpoint before it ends."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            # A line that the process did not read is still in the buffer.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


_process: _Process | None = None  # of this worker


def _process_of(job: StepJob) -> _Process:
    """Returns this worker's process, or a new one if it has ended or has other surroundings."""
    global _process
    if _process and (not _process.alive or _process.fits != _surroundings(job)):
        stop()
    if not _process:
        _process = _Process(job)
    return _process


def _surroundings(job: StepJob) -> tuple[Any, ...]:
    """Returns what a process keeps from its first step to its last."""
    return job.out, job.path, os.environ.get("CUDA_VISIBLE_DEVICES")


@atexit.register
def stop() -> None:
    """Ends the process of this worker, if it has one."""
    global _process
    if _process:
        _process.stop()
        _process = None
