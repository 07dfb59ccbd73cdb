"""One task a shard: on Ray, or in this process.

A task is a generator: it yields integers as its work advances and its result last. `run` yields (job, value)
as values arrive, in any order. Tasks write to the target themselves, so only these small values travel. Jobs
are started one by one, at most one a worker. A task is retried if its worker died or its node was lost. A
task that raises is not.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple, TypeVar

from synth import caches
from synth.checkout import ROOT
from synth.errors import UserError

Job = TypeVar("Job")
Task = Callable[[Job], Iterator[Any]]

RETRIES = 3  # of one job, after lost workers

# Environment of a task: one thread, as Ray runs a task a core.
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMBA", "LP")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}

# Variables that a cluster's workers get. Credentials are the nodes' own.
_FORWARDED = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")

# The least that Ray accepts is 75 MB. Results are small.
_OBJECT_STORE_BYTES = 100_000_000

_LOST = (
    "a task lost its worker {} times ({}); if memory is short, give fewer --workers, else see the log of Ray;"
    " what is done is kept"
)


class Retry(NamedTuple):
    """A job that was started again."""

    lost: int  # the progress that the lost try had yielded
    reason: str


class _Running(NamedTuple):
    """A job that a worker has, with the progress that it has yielded."""

    job: Any
    retries: int
    advance: list[int]


def run(
    task: Task[Job],
    jobs: Iterable[Job | None],
    *,
    workers: int | None,
    ray_address: str | None = None,
    packages: Iterable[str] = ("synth",),
    gpus: float | Callable[[Job], float] = 0,
) -> Generator[tuple[Job, Any], None, None]:
    """Runs the task on every job. Yields (job, integer), (job, Retry) and finally (job, result) for each.

    workers = 0 is this process, without Ray. None is one worker a core, or one for each `gpus` GPUs. With a
    `ray_address` the workers are that cluster's, and its nodes get the named packages. A worker lives on from
    task to task. So the state that a task keeps in its modules (a loaded model) serves the next one.

    A job of None means that no job is ready yet: the next one is taken after the next result. If `gpus` is a
    function of the job, None is one worker a core, and a cluster without GPUs runs every job on a core.

    After the first failure no job is started. Running jobs finish and are yielded, then the failure is
    raised."""
    if workers == 0:
        for job in jobs:
            if job is not None:
                for value in task(job):
                    yield job, value
        return
    with ray_session(workers, ray_address, packages) as ray:
        resources = ray.cluster_resources()
        if callable(gpus):
            places, share = workers or _places(resources, 0), gpus if resources.get("GPU") else _no_gpu
        else:
            places, share = workers or _places(resources, gpus), lambda job: gpus
        yield from _run_on_ray(ray, task, iter(jobs), places, share)


def _no_gpu(job: Any) -> float:
    return 0.0


def _places(resources: dict[str, float], gpus: float) -> int:
    """Returns the number of tasks that a cluster can run at once. Raises UserError if it is 0."""
    places = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 0)
    if places < 1:
        fault = f"the Ray cluster has no {'GPU' if gpus else 'core'} for a task"
        raise UserError(f"{fault}; give another --device, or start the cluster with some")
    return int(places)


@contextlib.contextmanager
def signals_noted() -> Iterator[Callable[[], None]]:
    """Notes the signals that arrive within the block. Yields a function that ends the command again.

    If a signal arrives while Python runs a destructor, as Ray has some, or a function that C calls, as numba
    has some, Python ignores the exception of its handler. The yielded function calls the handler of a noted
    signal once more."""
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        handlers[number](number, frame)  # type: ignore[index, operator, misc]

    def end_again() -> None:
        if arrived:
            handlers[arrived[0]](arrived[0], None)  # type: ignore[index, operator, misc]

    # Only the main thread has handlers, and ignored signals stay ignored.
    main = threading.current_thread() is threading.main_thread()
    numbers = [number for number, handler in handlers.items() if main and callable(handler)]
    for number in numbers:
        signal.signal(number, note)
    try:
        yield end_again
    finally:
        for number in numbers:
            signal.signal(number, handlers[number])


def _run_on_ray(
    ray: Any, task: Task[Job], jobs: Iterator[Job | None], workers: int, gpus: Callable[[Job], float]
) -> Iterator[tuple[Job, Any]]:
    """Runs the task on a cluster, with at most `workers` jobs at once. Yields and raises as `run` does."""
    with signals_noted() as end_again:
        yield from _results(ray, task, jobs, workers, gpus, end_again)


def _results(
    ray: Any,
    task: Task[Job],
    jobs: Iterator[Job | None],
    workers: int,
    gpus: Callable[[Job], float],
    end_again: Callable[[], None],
) -> Iterator[tuple[Job, Any]]:
    """Yields the results of the jobs on a cluster."""
    # max_calls=0 keeps a worker alive. Otherwise Ray ends it after each task that had a GPU.
    remote = ray.remote(num_cpus=1, max_calls=0, max_retries=0, num_returns="streaming")(task)

    def start(job: Job) -> Any:
        return remote.options(num_gpus=gpus(job)).remote(job)

    running: dict[Any, _Running] = {}
    failure: BaseException | None = None
    try:
        while True:
            end_again()

            # New jobs, until each worker has one or a job has failed.
            while failure is None and len(running) < workers and (job := next(jobs, None)) is not None:
                running[start(job)] = _Running(job, 0, [])
            if not running:
                break

            # The next value of any job: its end, its failure, a lost worker, or progress.
            [stream], _ = ray.wait(list(running), num_returns=1)
            current = running[stream]
            try:
                value = ray.get(next(stream))
            except StopIteration:
                del running[stream]
            except ray.exceptions.RayTaskError as error:
                del running[stream]
                failure = failure or error.cause or error
            except ray.exceptions.RayError as error:
                del running[stream]
                if failure is None and current.retries < RETRIES:
                    running[start(current.job)] = _Running(current.job, current.retries + 1, [])
                    yield current.job, Retry(sum(current.advance), type(error).__name__)
                else:
                    failure = failure or UserError(_LOST.format(RETRIES + 1, type(error).__name__))
            else:
                if isinstance(value, int):
                    current.advance.append(value)
                yield current.job, value
    finally:
        for stream in running:
            ray.cancel(stream, force=True)
    if failure is not None:
        raise failure


@contextlib.contextmanager
def ray_session(workers: int | None, address: str | None, packages: Iterable[str]) -> Iterator[Any]:
    """Starts Ray for this block, or joins a cluster. Uses a running Ray as it is. Ray is quiet, without usage
    statistics, with one thread a task. Raises UserError if the address leads to no cluster."""
    # Ray reads its environment when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return

    # Options: a Ray of this machine, or a cluster that gets the packages.
    environment: dict[str, Any] = {"env_vars": dict(_ONE_THREAD)}
    options: dict[str, Any] = {
        "address": "local",
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    if address:
        environment["env_vars"].update({name: os.environ[name] for name in _FORWARDED if name in os.environ})
        environment["py_modules"] = [str(ROOT / package) for package in packages]
        options = {"address": address}

    # A folder for Ray's files, which are sockets too: their paths must be short.
    if not address and (folder := caches.scratch_of_ray()):
        options["_temp_dir"] = folder

    # Without a token in the environment, Ray of a user without a home ends.
    if not address and not caches.home_holds(".ray"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))

    # The start.
    logging.getLogger("ray").setLevel(logging.ERROR)
    on_end = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        ray.shutdown()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if address:
            raise UserError(f"cannot join the Ray cluster at {address}: {reason}") from None
        raise UserError(f"Ray does not start here: {reason}; --workers 0 does without it") from None

    # ray.init replaces the handler of SIGTERM by one that prints a stack.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_end)

    # Ray prints the failures of workers to standard output, which is for results. `run` yields them as Retry.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield ray
        finally:
            ray.shutdown()


def require_reachable(address: str | None) -> None:
    """Raises UserError if no Ray cluster answers at host:port. Ray itself waits minutes for a missing one."""
    if (address or "").startswith("ray://"):
        raise UserError(f"{address} is the address of a Ray client; give the cluster's own, HOST:6379")

    # Addresses such as "auto" have no port to try.
    host, _, port = (address or "").rsplit("/", 1)[-1].rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        fault = f"no Ray cluster answers at {address} ({error})"
        raise UserError(f"{fault}; start it, correct --ray-address, or leave it out") from None
