"""Worker processes for the steps of a demo. Independent steps run in parallel.

A worker has one thread, so sums do not depend on the machine. Two workers occupy two cores. Workers end with
this process, even if it is killed.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluate.experiments.demo.journal import Journal
from evaluate.experiments.demo.plan import DemoStep
from synth.checkout import ROOT
from synth.errors import UserError

AT_ONCE = 2  # workers

_RESUME = "run the same command again to resume"
_PATIENCE = 60  # seconds for workers to stop
_TICK = 5.0  # seconds between two events of running steps
# One thread. glibc keeps freed memory, so a detector does not fault it in again for each batch.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}

Json = dict[str, Any]


class Alive(NamedTuple):
    """An event every few seconds: steps are running."""

    steps: list[DemoStep]


class StepEnded(NamedTuple):
    """An event: a step has succeeded."""

    step: DemoStep
    seconds: float


def environment() -> dict[str, str]:
    """Returns the environment of a command that finds the stages from any working directory."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}


def do(
    steps: Sequence[DemoStep], journal: Journal, logs: Path, lock: int
) -> Generator[Alive | StepEnded, None, None]:
    """Runs the steps that are not done. Yields events.

    Workers hold the lock, a file descriptor, as long as they live. They end with this generator. Raises
    UserError with the last error of a step's command if it fails."""
    done = {step.name for step in steps if journal.done(step)}
    waiting = [step for step in steps if step.name not in done]
    events: queue.Queue[tuple[Worker, Json]] = queue.Queue()
    with _workers(min(AT_ONCE, len(waiting)), events, lock) as idle:
        busy: dict[Worker, tuple[DemoStep, float]] = {}
        while waiting or busy:
            # Steps that may begin.
            while idle and (step := next((s for s in waiting if set(s.after) <= done), None)):
                waiting.remove(step)
                worker = idle.pop(0)
                busy[worker] = step, time.perf_counter()
                worker.give(step, logs)

            # The next answer.
            try:
                worker, answer = events.get(timeout=_TICK)
            except queue.Empty:
                for step, begun in busy.values():
                    journal.note(step.name, step.line, time.perf_counter() - begun)
                yield Alive([step for step, _ in busy.values()])
                continue
            if worker not in busy:
                raise UserError(f"a process that was waiting for a step has ended by itself; {_RESUME}")

            # The end of a step.
            step, begun = busy.pop(worker)
            seconds, code = time.perf_counter() - begun, int(answer["code"]) if answer else worker.status()
            cpu_seconds = float(answer.get("cpu_seconds", 0))
            journal.note(step.name, step.line, seconds, cpu_seconds=cpu_seconds, code=code)
            if code or not step.exists:
                raise UserError(_failure(step, code, logs))
            done.add(step.name)
            idle.append(worker)
            yield StepEnded(step, seconds)


class Worker:
    """A worker process."""

    def __init__(self, events: "queue.Queue[tuple[Worker, Json]]", lock: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evaluate.experiments.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment(),
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C reaches only the demo, which stops its workers
        )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def give(self, step: DemoStep, logs: Path) -> None:
        """Sends a step to the worker."""
        assert self._process.stdin
        log = str(logs / f"{step.name.replace(' ', '-')}.log")
        # A worker that has ended already is an event, not an error here.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"command": step.command, "log": log}) + "\n")
            self._process.stdin.flush()

    def status(self) -> int:
        """Returns the exit status of a worker that has ended by itself."""
        return self._process.wait()

    def stop(self) -> None:
        """Sends SIGTERM. A training run writes a checkpoint before it ends."""
        self._process.terminate()

    def leave(self, patience: float) -> None:
        """Waits for the worker's end, at most `patience` seconds. Then kills it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def _listen(self, events: "queue.Queue[tuple[Worker, Json]]") -> None:
        """Passes the worker's answers on, and an empty one at its end."""
        assert self._process.stdout
        with contextlib.suppress(ValueError):  # the pipe was closed
            for line in self._process.stdout:
                events.put((self, json.loads(line)))
        events.put((self, {}))


@contextlib.contextmanager
def _workers(count: int, events: "queue.Queue[tuple[Worker, Json]]", lock: int) -> Iterator[list[Worker]]:
    """Yields idle workers. Ends them at the end of the `with` block."""
    workers = [Worker(events, lock) for _ in range(count)]
    try:
        yield list(workers)
    finally:
        for worker in workers:
            worker.stop()
        until = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.leave(max(until - time.monotonic(), 0.1))


def _failure(step: DemoStep, code: int, logs: Path) -> str:
    """Returns the error text of a failed step: the error in its log if there is one."""
    # Bad input.
    log = logs / f"{step.name.replace(' ', '-')}.log"
    errors = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("error: ")
    ]
    if code == 2 and errors:
        return errors[-1].removeprefix("error: ")

    # Anything else.
    how = f"ended with {code}" if code else f"has left no {step.makes}"
    if code < 0:
        how = f"was killed by signal {-code}"
    return f"the step {step.name!r} {how}; {log} has its output; {_RESUME}"
