"""Faults of field reports, by kind: lost batches, signals, late refusals, failed writes, drawn texts."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import console
from synth.errors import UserError
from synth.sets.storage import Folder
from tests.kit import children, make_tables, write_foreign
from tests.kit_train import PSEUDO, SETTINGS, quiet, refused, stream, weights
from train import checkpoint, log
from train.start import Step, TrainRequest, train
from train.stream import readers
from train.stream.stream import Text

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def request_of(undisturbed: Path, captioned: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    """Returns requests of a small run in tmp_path/run."""
    return partial(
        TrainRequest,
        preset="tiny-32",
        shards=(str(undisturbed),),
        out=str(tmp_path / "run"),
        captions=(str(captioned),),
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


# What can be known before the first step, and what ends a run (row 6).


@pytest.fixture(scope="module")
def captioned_in_part(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> tuple[str, str]:
    """A foreign set with one sample without caption, and its tables."""
    out = tmp_path_factory.mktemp("in-part")
    texts = [{"txt": f"picture {i}".encode()} if i != 7 else {} for i in range(24)]
    make_tables(write_foreign(out / "s", texts, sizes=(32,)), out / "t", tiny_encoder)
    return str(out / "s"), str(out / "t")


def test_a_missing_caption_is_refused_before_the_first_step_and_the_advice_works(
    captioned_in_part: tuple[str, str], tmp_path: Path
) -> None:
    shards, tables = captioned_in_part
    request = TrainRequest(
        "tiny-32", (shards,), str(tmp_path / "run"), (tables,), images=16, settings=SETTINGS
    )
    sentence = r"1 of 24 samples have no caption, such as \S+7 of .*00000\.tar; give --text mix:1, which"
    refused(replace(request, text="caption"), sentence)
    refused(replace(request, settings=(*SETTINGS, "data.text=caption")), sentence)
    assert quiet(replace(request, text="mix:1")) == 0


def test_only_samples_that_are_shown_need_a_caption(captioned_in_part: tuple[str, str]) -> None:
    def refused_at(seed: int) -> bool:
        visit = replace(PSEUDO, text=Text.parse("caption"), seed=seed)
        source = stream(*captioned_in_part, visit, fraction=0.5)
        try:
            source.require_whole()
        except UserError:
            return True
        return False

    def shows(seed: int) -> bool:
        source = stream(*captioned_in_part, replace(PSEUDO, seed=seed), fraction=0.5)
        return 7 in {place.row for place in source.order.places(0, source.order.samples)}

    assert [refused_at(seed) for seed in range(8)] == [shows(seed) for seed in range(8)]
    assert len({shows(seed) for seed in range(8)}) == 2


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda s, t: next(s.glob("*2.tar")).unlink(), "is missing though", id="tar missing"),
        pytest.param(lambda s, t: os.truncate(next(s.glob("*2.tar")), 512), "has 512 bytes", id="tar cut"),
        pytest.param(lambda s, t: next(t.glob("*1.parquet")).unlink(), "is missing though", id="no table"),
        pytest.param(lambda s, t: os.truncate(next(t.glob("*1.parquet")), 9), "has 9 bytes", id="table cut"),
    ],
)
def test_missing_and_cut_files_are_refused_before_the_first_step(
    finished: Path, captioned: Path, tmp_path: Path, spoil: Callable[[Path, Path], None], sentence: str
) -> None:
    tables = Path(shutil.copytree(captioned, tmp_path / "t"))
    spoil(finished, tables)
    out = str(tmp_path / "run")
    refused(TrainRequest("tiny-32", (str(finished),), out, (str(tables),), settings=SETTINGS), sentence)


def test_a_full_disk_is_known_before_the_first_step_and_the_advice_works(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quiet(request_of(images=8)) == 0
    [written] = checkpoint.committed(Path(request_of().out))
    full = sum(path.stat().st_size for path in written.iterdir())
    monkeypatch.setattr(Folder, "free_bytes", lambda self: int(3.5 * full))
    settings = (*SETTINGS, "run.checkpoint=8")
    with pytest.raises(UserError, match="the checkpoints of this run take .* free; make room, or") as error:
        quiet(request_of(images=400, settings=settings))
    advice = str(error.value).rsplit("--set ", 1)[1]
    assert quiet(request_of(images=48, settings=(*SETTINGS, advice))) == 0
    monkeypatch.setattr(Folder, "free_bytes", lambda self: full)
    with pytest.raises(UserError, match="free; make room, or give another --out"):
        quiet(request_of(images=400, settings=settings))


def test_a_run_that_fails_writes_a_checkpoint_and_goes_on_to_the_same_end(
    request_of: Callable[..., TrainRequest], finished: Path, tmp_path: Path
) -> None:
    undisturbed = request_of(shards=(str(finished),), out=str(tmp_path / "undisturbed"))
    assert quiet(undisturbed) == 0
    tar = finished / "visual_atoms-000001.tar"
    whole = tar.read_bytes()
    at = whole.rindex(b"IDAT")
    tar.write_bytes(whole[:at] + b"IDAX" + whole[at + 4 :])
    disturbed = request_of(shards=(str(finished),))
    with pytest.raises(UserError, match="does not decode"):
        quiet(disturbed)
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) in range(8, 64)
    tar.write_bytes(whole)
    assert quiet(disturbed) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")


@pytest.mark.parametrize("event", ["_tick", "_grid"])
def test_a_log_that_cannot_be_written_ends_a_run_after_a_checkpoint(
    request_of: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, event: str
) -> None:
    whole = getattr(log.Log, event)

    def failing(self: log.Log, *arguments: Any) -> Any:
        if self._last or (event == "_grid" and (tmp_path / "run" / "samples").exists()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, *arguments)

    monkeypatch.setattr(log.Log, event, failing)
    with pytest.raises(UserError, match="run .*is full"):
        quiet(request_of(settings=(*SETTINGS, "run.samples=32")))
    assert checkpoint.images_seen(checkpoint.require(tmp_path / "run")) == 32
