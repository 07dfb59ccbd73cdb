import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.errors import UserError
from synth.sets import parallel
from tests.kit import make_small, pictures, tar_hashes

pytestmark = pytest.mark.usefixtures("ray_session")


def count(job: int) -> Iterator[Any]:
    yield 2
    yield 3
    yield f"job {job}"


def fail_at_two(job: int) -> Iterator[Any]:
    yield 1
    if job == 2:
        raise UserError("no room")
    time.sleep(0.2)
    yield f"job {job}"


def die_once(mark: str) -> Iterator[Any]:
    yield 5
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield "lived"


def die_always(_: int) -> Iterator[Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield 0


def look_around(_: int) -> Iterator[Any]:
    from synth import pipeline

    pipeline.recipe_of(pipeline.RenderRequest("visual_atoms", 1, "-", size=16)).encode(0)
    loaded = [name for name in ("torch", "webdataset", "moderngl") if name in sys.modules]
    yield {
        "loaded": loaded,
        "threads": os.environ.get("NUMBA_NUM_THREADS"),
        "blas": os.environ.get("OMP_NUM_THREADS"),
    }


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_job_says_its_steps_and_its_result(workers: int) -> None:
    values = [value for _, value in parallel.run(count, range(5), workers=workers)]
    assert sorted(v for v in values if isinstance(v, str)) == [f"job {i}" for i in range(5)]
    assert sum(v for v in values if isinstance(v, int)) == 25


def test_jobs_are_pulled_one_by_one() -> None:
    pulled: list[int] = []

    def jobs() -> Iterator[int]:
        for i in range(6):
            pulled.append(i)
            yield i

    run = parallel.run(count, jobs(), workers=2)
    next(run)
    assert len(pulled) == 2
    assert len(list(run)) == 6 * 3 - 1


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_failure_ends_the_run_after_what_is_under_way(workers: int) -> None:
    pulled: list[int] = []

    def jobs() -> Iterator[int]:
        for i in range(50):
            pulled.append(i)
            yield i

    done = []
    with pytest.raises(UserError, match="no room"):
        for _, value in parallel.run(fail_at_two, jobs(), workers=workers):
            done.append(value)
    # How many jobs start before the failure arrives is a race between the workers. All of them finish.
    results = {v for v in done if isinstance(v, str)}
    assert results == {f"job {i}" for i in pulled if i != 2}
    assert len(pulled) < 50


def test_a_job_whose_worker_died_is_given_out_again(tmp_path: Path) -> None:
    values = [value for _, value in parallel.run(die_once, [str(tmp_path / "mark")], workers=1)]
    retries = [v for v in values if isinstance(v, parallel.Retry)]
    assert len(retries) == 1 and values[-1] == "lived"
    assert sum(v for v in values if isinstance(v, int)) - retries[0].lost == 5


def test_a_job_that_always_dies_is_given_up() -> None:
    with pytest.raises(UserError, match="lost its worker 4 times"):
        list(parallel.run(die_always, [0], workers=1))


def test_workers_have_one_thread_and_no_torch() -> None:
    [(_, seen)] = parallel.run(look_around, [0], workers=1)
    assert seen == {"loaded": [], "threads": "1", "blas": "1"}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_byte(undisturbed: Path, tmp_path: Path, workers: int) -> None:
    make_small(tmp_path, workers=workers)
    assert tar_hashes(tmp_path) == tar_hashes(undisturbed)
    assert pictures(tmp_path) == pictures(undisturbed)


def test_an_address_without_a_cluster_is_told() -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        parallel.require_reachable("127.0.0.1:1")
    with pytest.raises(UserError, match="is the address of a Ray client"):
        parallel.require_reachable("ray://127.0.0.1:1")
    parallel.require_reachable(None)
    parallel.require_reachable("auto")


def test_an_interrupt_that_a_destructor_swallows_ends_the_command_later() -> None:
    class Swallowing:
        def __del__(self) -> None:
            # Python prints and ignores what a destructor raises. Here nothing is printed.
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with parallel.signals_noted() as end_again:
            end_again()
            Swallowing()
            with pytest.raises(KeyboardInterrupt):
                end_again()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, previous)
