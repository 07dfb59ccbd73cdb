"""Worker processes for the steps of a demo. Independent steps run in parallel.

A worker has one thread, so sums do not depend on the machine, and two workers fill two cores. Workers end
with this process, even if it is killed.
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
from evaluate.experiments.demo.plan import Step
from synth.checkout import ROOT
from synth.errors import UserError

AT_ONCE = 2

_PATIENCE = 60  # seconds for workers to stop
_TICK = 5.0  # seconds between two signs of life
# One thread. glibc keeps freed memory, so that a detector does not fault it in again for each batch.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}

Json = dict[str, Any]


class Alive(NamedTuple):
    """The running steps, every few seconds."""

    steps: list[Step]


class Ended(NamedTuple):
    """A step that has succeeded."""

    step: Step
    seconds: float


def environment() -> dict[str, str]:
    """Returns the environment of a command that finds the stages from any working directory."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}


def do(
    steps: Sequence[Step], journal: Journal, logs: Path, lock: int
) -> Generator[Alive | Ended, None, None]:
    """Runs the steps that are not done. Raises UserError with the last error of a step's command if it fails.

    Workers hold the lock, a file descriptor, as long as they live. They end with this generator."""
    done = {step.name for step in steps if journal.done(step)}
    waiting = [step for step in steps if step.name not in done]
    events: queue.Queue[tuple[Worker, Json]] = queue.Queue()
    with _workers(min(AT_ONCE, len(waiting)), events, lock) as idle:
        busy: dict[Worker, tuple[Step, float]] = {}
        while waiting or busy:
            while idle and (step := next((s for s in waiting if set(s.after) <= done), None)):
                waiting.remove(step)
                worker = idle.pop(0)
                busy[worker] = step, time.perf_counter()
                worker.give(step, logs)
            try:
                worker, answer = events.get(timeout=_TICK)
            except queue.Empty:
                for step, begun in busy.values():
                    journal.note(step.name, step.line, time.perf_counter() - begun)
                yield Alive([step for step, _ in busy.values()])
                continue
            if worker not in busy:
                raise UserError(
                    "a process that was waiting for a step has ended by itself; run the same command again to resume"
                )
            step, begun = busy.pop(worker)
            seconds, code = time.perf_counter() - begun, int(answer["code"]) if answer else worker.ended()
            journal.note(
                step.name, step.line, seconds, cpu_seconds=float(answer.get("cpu_seconds", 0)), code=code
            )
            if code or not step.left:
                raise UserError(_failure(step, code, logs))
            done.add(step.name)
            idle.append(worker)
            yield Ended(step, seconds)


class Worker:
    """A worker process."""

    def __init__(self, events: "queue.Queue[tuple[Worker, Json]]", lock: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evaluate.experiments.demo.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            pass_fds=[lock],
            start_new_session=True,  # only the demo gets Ctrl-C; it stops the workers
        )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def give(self, step: Step, logs: Path) -> None:
        """Sends a step to the worker."""
        assert self._process.stdin
        log = str(logs / f"{step.name.replace(' ', '-')}.log")
        with contextlib.suppress(BrokenPipeError):  # its end is an event, so do not raise
            self._process.stdin.write(json.dumps({"command": step.command, "log": log}) + "\n")
            self._process.stdin.flush()

    def ended(self) -> int:
        """Returns the exit status of a worker that has ended by itself."""
        return self._process.wait()

    def stop(self) -> None:
        """Sends SIGTERM. A run writes a checkpoint first."""
        self._process.terminate()

    def leave(self, patience: float) -> None:
        """Waits for the worker's end, then kills it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def _listen(self, events: "queue.Queue[tuple[Worker, Json]]") -> None:
        assert self._process.stdout
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in self._process.stdout:
                events.put((self, json.loads(line)))
        events.put((self, {}))


@contextlib.contextmanager
def _workers(count: int, events: "queue.Queue[tuple[Worker, Json]]", lock: int) -> Iterator[list[Worker]]:
    """Yields idle workers. They have ended when the block has."""
    made = [Worker(events, lock) for _ in range(count)]
    try:
        yield list(made)
    finally:
        for worker in made:
            worker.stop()
        until = time.monotonic() + _PATIENCE
        for worker in made:
            worker.leave(max(until - time.monotonic(), 0.1))


def _failure(step: Step, code: int, logs: Path) -> str:
    """Returns the error text of a failed step: the sentence in its log, if there is one."""
    log = logs / f"{step.name.replace(' ', '-')}.log"
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
    if code == 2 and said:
        return said[-1].removeprefix("error: ")
    how = (
        f"was killed by signal {-code}"
        if code < 0
        else f"ended with {code}"
        if code
        else f"has left no {step.makes}"
    )
    return f"the step {step.name!r} {how}; {log} has its output; run the same command again to resume"
