"""Kills at random moments: whatever dies, the same command makes the same bytes."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.sets.shards import ShardSet
from synth.verify import damages
from tests.kit import kill_driver, kill_worker, make_small, start, tar_hashes

pytestmark = pytest.mark.slow

SAMPLES, SHARD_SIZE = 6000, 250
COMMAND = [sys.executable, "-m", "synth", "shards", "visual_atoms"]
COMMAND += ["--n", str(SAMPLES), "--shard-size", str(SHARD_SIZE)]
COMMAND += ["--size", "32", "--set", "canvas=64", "--set", "orbits=1,20"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("expected")
    make_small(out, samples=SAMPLES, shard_size=SHARD_SIZE)
    return tar_hashes(out)


def begin(out: Path, *options: str) -> subprocess.Popen[str]:
    return start([*COMMAND, "--out", str(out), *options])


def finish(out: Path, expected: dict[str, str], *, samples: int = SAMPLES, workers: int = 0) -> None:
    """Makes the rest, as the same command does, and checks the set."""
    make_small(out, samples=samples, shard_size=SHARD_SIZE, workers=workers)
    assert_whole(out, expected, samples)


def assert_whole(out: Path, expected: dict[str, str], samples: int = SAMPLES) -> None:
    assert tar_hashes(out) == expected
    assert len(ShardSet(str(out))) == samples
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def moments(seed: int, count: int, longest: float) -> Iterator[tuple[random.Random, float]]:
    chance = random.Random(seed)
    for _ in range(count):
        yield chance, chance.uniform(0, longest)


def kill_drivers(out: Path, *, seed: int, kills: int, longest: float, workers: str) -> None:
    for _, moment in moments(seed, kills, longest):
        process = begin(out, "--workers", workers)
        while process.poll() is None and not list(out.glob("*.json")):  # until the first file is written
            time.sleep(0.01)
        time.sleep(moment)
        kill_driver(process)


def kill_workers(out: Path, expected: dict[str, str], *, seed: int, kills: int) -> None:
    process = begin(out, "--workers", "2")
    for chance, moment in moments(seed, kills, 0.3):
        while process.poll() is None and not kill_worker(process, chance):
            time.sleep(0.05)
        time.sleep(moment)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "is made again" in errors and "raylet" not in errors
    assert json.loads(output)["retries"] >= 1  # and nothing else on standard output
    assert_whole(out, expected)


def interrupt(out: Path, *options: str) -> None:
    """Begins, presses Ctrl-C once more of the files are there, and checks what is left."""
    before = len(list(out.glob("*.json")))
    process = begin(out, *options)
    while process.poll() is None and len(list(out.glob("*.json"))) <= before:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "run the same command again to resume" in errors and "Traceback" not in errors
    assert not list(out.glob(".*"))


def test_a_driver_killed_and_interrupted_loses_nothing(tmp_path: Path, expected: dict[str, str]) -> None:
    kill_drivers(tmp_path / "set", seed=1, kills=2, longest=0.4, workers="0")
    interrupt(tmp_path / "set", "--workers", "0")
    finish(tmp_path / "set", expected)


@pytest.mark.soak
def test_a_driver_on_ray_killed_and_interrupted_and_workers_killed_lose_nothing(
    tmp_path: Path, expected: dict[str, str]
) -> None:
    kill_drivers(tmp_path / "set", seed=2, kills=1, longest=0.4, workers="2")
    interrupt(tmp_path / "set", "--workers", "2")
    kill_workers(tmp_path / "set", expected, seed=3, kills=1)


def test_a_disk_that_takes_no_more_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    # The kernel refuses larger files.
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))

    make_small(tmp_path / "expected", samples=500, shard_size=SHARD_SIZE)
    options = ["--n", "500", "--out", str(tmp_path / "set"), "--workers", "0"]
    run = subprocess.run([*COMMAND, *options], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert run.returncode == 2, run.stderr
    sentence = f"error: {tmp_path / 'set'} refuses files of this size; make room"
    assert run.stderr.splitlines()[-1].startswith(sentence)
    assert not list(tmp_path.glob("set/*.tar")) and not list(tmp_path.glob("set/.*"))
    finish(tmp_path / "set", tar_hashes(tmp_path / "expected"), samples=500)


@pytest.mark.soak
def test_a_lost_node_is_replaced(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    command = [sys.executable, "-m", "synth", "shards", "visual_atoms"]
    command += ["--n", "3000", "--shard-size", "1000", "--workers", "2"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        address = ["--out", str(tmp_path / "set"), "--ray-address", cluster.address]
        process = subprocess.Popen(
            [*command, *address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and len(list(tmp_path.glob("set/.*.tar.*.tmp"))) < 2:
            time.sleep(0.02)  # until both nodes are in their first shard, which takes seconds
        cluster.remove_node(node, allow_graceful=False)
        _, errors = process.communicate()
    finally:
        cluster.shutdown()
    assert process.returncode == 0, errors
    assert "is made again" in errors
    shard_set = ShardSet(str(tmp_path / "set"))
    assert len(shard_set) == 3000
    assert {damage for _, damage in damages(shard_set, 4)} == {None}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills(tmp_path: Path, expected: dict[str, str], seed: int) -> None:
    kill_drivers(tmp_path / "a", seed=100 + seed, kills=5, longest=0.75, workers="0")
    finish(tmp_path / "a", expected)
    kill_drivers(tmp_path / "b", seed=200 + seed, kills=2, longest=1.25, workers="2")
    finish(tmp_path / "b", expected, workers=2)
    kill_workers(tmp_path / "c", expected, seed=300 + seed, kills=3)
