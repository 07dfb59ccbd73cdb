"""Reader processes: the results of a function at successive positions, in order, read ahead.

A result returns through a pipe, as bytes. So it needs no shared memory, and a small /dev/shm loses none. A
result that cannot be sent comes back as its error, and a process that ends is noticed at once.
"""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from synth import console
from synth.errors import UserError

T = TypeVar("T")
Read = Callable[[int], T]

WITHOUT = "--set run.workers=0 reads without other processes"

_PULSE = 0.5  # seconds between two looks at the signals while a result is awaited
_AHEAD = 2  # results that each process reads before they are needed
_SHM = "/dev/shm"

# The function of this reader process.
_read: Read[Any]


def ahead(
    read: Read[T], positions: Iterable[int], workers: int, stopped: Callable[[], bool] = lambda: False
) -> Generator[T, None, None]:
    """Yields read(position) for each position, by `workers` processes.

    With 0 workers, a thread of this process reads. Ends early if `stopped` returns True while a result is
    awaited. Raises the errors of `read`, and UserError if a process ends."""
    with _submitter(read, workers) as submit:
        coming: deque[Future[T]] = deque()
        for position in positions:
            coming.append(submit(position))
            while len(coming) > _AHEAD * workers:
                if not _arrived(coming[0], stopped):
                    return
                yield _result(coming.popleft())
        for future in coming:
            if not _arrived(future, stopped):
                return
            yield _result(future)


def _arrived(future: "Future[T]", stopped: Callable[[], bool]) -> bool:
    """Waits for a result. Returns False if `stopped` returns True before it arrives."""
    while not future.done():
        if stopped():
            return False
        # A signal does not end this wait, so it is short.
        wait([future], _PULSE)
    return True


def _result(future: "Future[T]") -> T:
    """Returns the result of a position. Raises UserError if its process has ended."""
    try:
        return future.result()
    except BrokenProcessPool:
        problem = "a reader process has ended, perhaps because memory is short"
        raise UserError(f"{problem}; run the same command again to resume, or {WITHOUT}") from None
    except MemoryError:
        problem = "memory is too short for a batch"
        raise UserError(f"{problem}; run the same command again to resume, or {WITHOUT}") from None


@contextmanager
def _submitter(read: Read[T], workers: int) -> Iterator[Callable[[int], "Future[T]"]]:
    """Yields a function that begins to read a position. Ends all processes at the end of the `with` block."""
    if not workers:
        yield lambda position: _in_thread(read, position)
        return

    # Processes. They share semaphores, which are small files in /dev/shm.
    others = multiprocessing.active_children()
    try:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(read,))
    except (OSError, ImportError, NotImplementedError) as error:
        raise UserError(_no_processes(error)) from None

    def submit(position: int) -> "Future[T]":
        # The first positions start the processes.
        with _signals_kept_from_workers():
            try:
                return pool.submit(_read_here, position)
            except BrokenProcessPool as error:
                broken: Future[T] = Future()
                broken.set_exception(error)
                return broken
            except OSError as error:
                raise UserError(_no_processes(error)) from None

    # A process that still starts would not see a request to end, and one may wait for its disk.
    try:
        yield submit
    finally:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.kill()
        pool.shutdown()


def _no_processes(error: Exception) -> str:
    """Returns the sentence about processes that do not start, with the size of /dev/shm."""
    size = f"{_SHM} is missing"
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(_SHM)
        size = f"{_SHM} has {usage.total / 1e6:,.1f} MB, {usage.free / 1e6:,.1f} MB of them free"
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        size = "raise `ulimit -n`"
    return f"reader processes cannot start ({reason}); {size}; {WITHOUT}"


def _in_thread(read: Read[T], position: int) -> "Future[T]":
    """Begins to read a position in a thread. The thread does not hold up the end of this process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = read(position)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True, name="reader").start()
    return future


# In a reader process.


def _begin(read: Read[Any]) -> None:
    """Leaves signals to the run, and ends this process with the run.

    A reader that ended by itself on a signal would end the run before its checkpoint."""
    global _read
    _read = read
    for number in console.ENDING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_run, daemon=True).start()


def _end_with_run() -> None:
    """Waits for the end of the run, and ends this process even while it reads."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)


def _read_here(position: int) -> Any:
    return _read(position)


@contextmanager
def _signals_kept_from_workers() -> Iterator[None]:
    """Blocks the signals that end a run within the `with` block.

    Workers that start within it inherit this. Signals to this process are delayed."""
    # Python starts its resource tracker with the first worker, and that would unblock the signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, console.ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
