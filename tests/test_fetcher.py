"""The thread that fetches files of an object store into a bounded cache."""

import hashlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from synth.errors import UserError
from train.model import Wanted
from train.stream.cache import Cache, Fetcher, Needed, Remote, require_room
from train.stream.order import Order
from train.stream.reader import Reader, Slice
from train.stream.sources import Sources
from train.stream.visits import Text, Visit

STORE = "memory://fetcher"


@pytest.fixture
def files() -> Iterator[list[Remote]]:
    """Four files of 1,000 bytes in an object store."""
    memory = fsspec.filesystem("memory")
    kept = []
    for number in range(4):
        content = bytes([number]) * 1000
        memory.pipe(f"/fetcher/{number}.tar", content)
        kept.append(Remote(STORE, f"{number}.tar", hashlib.sha256(content).hexdigest(), len(content)))
    yield kept
    memory.rm("/fetcher", recursive=True)


def endless(files: list[Remote], samples: int = 10) -> Iterator[Needed]:
    """Yields blocks of one file and `samples` samples, epoch after epoch."""
    return (Needed(samples * n, [file]) for n, file in enumerate(itertools.cycle(files)))


def until(true: Callable[[], bool]) -> bool:
    """Waits at most 20 seconds for a condition."""
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def some(files: list[Remote], blocks: int = 8) -> list[Needed]:
    return list(itertools.islice(endless(files), blocks))


def test_the_cache_must_hold_all_blocks_that_one_batch_crosses(files: list[Remote]) -> None:
    require_room(some(files), 1000, 1)
    require_room(some(files), 2000, 11)
    for batch, least in ((2, 2000), (11, 2000), (12, 3000), (21, 3000)):
        with pytest.raises(UserError, match="are in use at a time; give --set run"):
            require_room(some(files), least - 1, batch)
        require_room(some(files), least, batch)
    # A file of two blocks takes its room once.
    require_room(some(files[:1]), 1000, 30)


def test_batches_that_cross_blocks_are_fetched_into_the_least_cache(
    files: list[Remote], tmp_path: Path
) -> None:
    cache, position = Cache(str(tmp_path)), 0
    fetcher = Fetcher(cache, endless(files), 2000, lambda: position)
    fetcher.start()
    for position in range(0, 200, 7):
        for block in {position // 10, (position + 6) // 10}:
            assert until(cache.place(files[block % 4]).exists), position
    fetcher.end()
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_another_run_removes_are_fetched_again(
    files: list[Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.stream.cache._LOOK", 0.05)
    cache = Cache(str(tmp_path))
    fetcher = Fetcher(cache, endless(files), 10**6, lambda: 0)
    fetcher.start()
    assert until(lambda: len(list(tmp_path.glob("*.tar"))) == 4)
    cache.place(files[2]).unlink()
    assert until(cache.place(files[2]).exists)
    fetcher.end()
    assert not fetcher.is_alive()


def test_runs_that_share_a_cache_have_failures_of_their_own(files: list[Remote], tmp_path: Path) -> None:
    ours, theirs = Cache(str(tmp_path), "1"), Cache(str(tmp_path), "2", ended := threading.Event())
    ours.stop("no more files")
    ours.fetch(files[0]._replace(file="gone.tar"))
    theirs.forget_failures()
    with pytest.raises(UserError, match="no more files"):
        ours.path(files[1])
    ended.set()
    with pytest.raises(UserError, match="was not fetched before the run ended"):
        theirs.path(files[1])
    for mark in tmp_path.glob("*.failed"):
        os.utime(mark, (0, 0))
    theirs.forget_failures()
    assert not list(tmp_path.iterdir())


def test_a_set_that_fits_is_not_looked_at_without_end(files: list[Remote], tmp_path: Path) -> None:
    taken = 0

    def counted() -> Iterator[Needed]:
        nonlocal taken
        for block in endless(files):
            taken += 1
            yield block

    fetcher = Fetcher(Cache(str(tmp_path)), counted(), 10**6, lambda: 0)
    fetcher.start()
    assert until(lambda: taken > 60)
    time.sleep(0.2)
    fetcher.end()
    assert taken < 70


def test_the_part_of_a_running_fetch_stays_and_an_abandoned_one_goes(
    files: list[Remote], tmp_path: Path
) -> None:
    running, abandoned = (tmp_path / f"{letter * 64}.1.part" for letter in "ab")
    for part in (running, abandoned):
        part.write_bytes(bytes(2000))
    hour_ago = time.time() - 3600
    os.utime(abandoned, (hour_ago, hour_ago))
    fetcher = Fetcher(Cache(str(tmp_path)), endless(files), 4000, lambda: 0)
    fetcher.start()
    assert until(lambda: len(list(tmp_path.glob("*.tar"))) == 4)
    fetcher.end()
    assert running.exists() and not abandoned.exists()


def test_only_files_of_the_cache_make_room(files: list[Remote], tmp_path: Path) -> None:
    """EXNIHILO_CACHE may name a folder with the user's own files."""
    cache, thesis = Cache(str(tmp_path)), tmp_path / "thesis.tar"
    thesis.write_bytes(bytes(5000))
    fetcher = Fetcher(cache, iter(some(files, 4)), 2000, lambda: 40)
    fetcher.start()
    assert until(cache.place(files[3]).exists)
    fetcher.end()
    assert thesis.exists() and not cache.place(files[0]).exists()


def test_a_removed_cache_is_filled_again(
    files: list[Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.stream.cache._LOOK", 0.05)
    cache = Cache(str(tmp_path / "cache"))
    fetcher = Fetcher(cache, endless(files), 2000, lambda: 0)
    fetcher.start()
    assert until(cache.place(files[1]).exists)
    shutil.rmtree(tmp_path / "cache")
    assert until(cache.place(files[0]).exists)
    fetcher.end()


def test_a_damaged_copy_is_to_be_removed_and_not_the_set(files: list[Remote], tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.fetch(files[0])
    copy = cache.place(files[0])
    copy.write_bytes(b"damaged")
    visit = Visit(16, 0, Text(), 0.25, 0.0, Wanted(vectors=()))
    read = Reader(Sources(cache, files, [], [0] * 4), visit, Slice(Order([1], 0), 0, 1))
    with pytest.raises(
        UserError, match=f"0.tar is damaged .*; remove its copy {copy} and run the same command"
    ):
        read(0)

    # The advice works.
    copy.unlink()
    cache.fetch(files[0])
    assert copy.stat().st_size == files[0].bytes
