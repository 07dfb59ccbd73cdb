"""Faults of field reports, by kind: lost batches, signals, late refusals, failed writes, drawn texts."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import console
from synth.errors import UserError
from tests.kit import children
from tests.kit_train import SETTINGS, quiet
from train import checkpoint
from train.start import Step, TrainRequest, train
from train.stream import readers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def request_of(undisturbed: Path, captioned: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    """Returns requests of a small run in tmp_path/run."""
    return partial(
        TrainRequest,
        "tiny-32",
        (str(undisturbed),),
        str(tmp_path / "run"),
        (str(captioned),),
        images=64,
        settings=SETTINGS,
    )


# A batch that is lost, and waits without an end (row 2).


def _squares(position: int) -> np.ndarray:
    return np.full(4_000_000, position * position, np.uint8)


def _unsendable(position: int) -> Any:
    return threading.Lock() if position == 3 else position


def _killed(position: int) -> int:
    if position == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return position


def _stuck(position: int) -> int:
    while position == 1:
        time.sleep(0.1)
    return position


def _short_of_memory(position: int) -> int:
    if position == 1:
        raise MemoryError
    return position


@pytest.mark.slow
def test_batches_pass_without_shared_memory() -> None:
    before = set(os.listdir("/dev/shm"))
    coming = readers.ahead(_squares, range(6), 1)
    for position, squares in enumerate(coming):
        assert (squares == position * position).all()
        # Semaphores of Python are 32 bytes each; torch's batches were files of this size.
        new = [Path("/dev/shm") / name for name in set(os.listdir("/dev/shm")) - before]
        assert all(path.stat().st_size < 4096 for path in new if path.name.startswith(("sem.mp", "torch")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "last", "kind", "sentence"),
    [
        pytest.param(_unsendable, 2, TypeError, "cannot pickle", id="unsendable"),
        pytest.param(_killed, 1, UserError, "a reader process has ended.*again.*workers=0", id="killed"),
        pytest.param(_short_of_memory, 0, UserError, "memory is too short.*workers=0", id="no memory"),
    ],
)
def test_a_batch_that_is_lost_is_noticed(
    read: readers.Read[int], last: int, kind: type[Exception], sentence: str
) -> None:
    arrived, before = [-1], {pid for pid, _ in children(os.getpid())}
    with pytest.raises(kind, match=sentence):
        for position in readers.ahead(read, range(9), 1):
            arrived.append(position)
    assert arrived == list(range(-1, arrived[-1] + 1)) and arrived[-1] <= last
    assert not {pid for pid, words in children(os.getpid()) if "spawn_main" in words} - before


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_wait_for_a_batch_ends_with_a_signal(workers: int) -> None:
    stopped = threading.Event()
    timer = threading.Timer(0.2 if not workers else 3, stopped.set)
    timer.start()
    assert list(readers.ahead(_stuck, range(3), workers, stopped.is_set)) in ([0], [])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), id="full"),
        pytest.param(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), id="forbidden"),
        pytest.param(ImportError("this platform lacks sem_open"), id="without semaphores"),
    ],
)
def test_reader_processes_that_cannot_start_are_explained(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(readers, "ProcessPoolExecutor", failing)
    with pytest.raises(UserError, match=r"/dev/shm has [0-9.,]+ MB.*--set run\.workers=0"):
        next(readers.ahead(_squares, range(3), 1))
    assert (next(readers.ahead(_squares, range(3), 0)) == 0).all()


def test_a_run_that_waits_for_data_ends_with_a_signal_and_a_checkpoint(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.stream.stream import Reader

    whole = Reader.__call__

    def slow(self: Reader, position: int) -> Any:
        while position >= 24:
            time.sleep(0.05)
        return whole(self, position)

    monkeypatch.setattr(Reader, "__call__", slow)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert quiet(request_of()) == signal.SIGTERM
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 24


# Signals of terminals and schedulers (row 23).


@pytest.mark.parametrize("number", [pytest.param(n, id=n.name) for n in console.ENDING if n != signal.SIGINT])
def test_every_signal_that_ends_a_run_leaves_a_checkpoint(
    request_of: Callable[..., TrainRequest], tmp_path: Path, number: int
) -> None:
    events = train(request_of())
    for event in events:
        if isinstance(event, Step):
            os.kill(os.getpid(), number)
            break
    last = list(events)[-1]
    assert getattr(last, "signal", 0) == number
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 8


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        replaced = console.on_ending(lambda number, frame: None)
        assert signal.SIGHUP not in replaced and signal.SIGTERM in replaced
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def flush(self) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sys, "stderr", Closed())
    with console.Bar("images") as bar:
        bar.start(10)
        bar.advance(5)
        console.note("a line")


# Leaked semaphores (row 24). Besides, every end of two ranks in test_training.py is quiet.


def test_semaphores_that_still_exist_at_the_end_of_a_rank_are_released() -> None:
    script = (
        "import multiprocessing; from train.cli import _end_at_once; "
        "lock = multiprocessing.get_context('spawn').Lock(); _end_at_once(3)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 3 and run.stderr == "", run.stderr
