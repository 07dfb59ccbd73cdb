"""Signals and kills at random moments, with one and two ranks: the same command gives the same numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.kit import children, start, together
from tests.kit_train import DENOISER, SETTINGS, losses, quiet, stream, weights
from train import log, runs
from train.start.request import TrainRequest

pytestmark = pytest.mark.slow

IMAGES = 480
GAN, DIFFUSION = "tiny-32", "diffusion-32"
PRESETS = {GAN: SETTINGS, DIFFUSION: DENOISER}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(
    ranks: int, shards: object, captions: object, out: object, *options: str, preset: str = GAN
) -> list[str]:
    run = ["-m", "train", "pretrain", preset, "--on", str(shards), "--captions", str(captions)]
    settings = [part for setting in PRESETS[preset] for part in ("--set", setting)]
    return [
        sys.executable,
        *(TORCHRUN if ranks == 2 else []),
        *run,
        *("--out", str(out), "--images", str(IMAGES)),
        *settings,
        *options,
    ]


def finish(words: list[str]) -> str:
    process = start(words, OMP_NUM_THREADS="1")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0 and "leaked" not in errors, errors
    return errors


def disturb(
    words: list[str], out: Path, images: int, action: Callable[[subprocess.Popen[str]], None]
) -> tuple[int, str]:
    """Applies an action to a run once its log has reached `images`. Returns its exit code and its stderr."""
    process = start(words, OMP_NUM_THREADS="1")
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if images_logged(out) >= images:
            break
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[1]
    action(process)
    _, errors = process.communicate(timeout=240)
    return process.returncode, errors


def images_logged(out: Path) -> int:
    """The images seen of the last whole line of a log."""
    lines = (out / log.LOG).read_text().splitlines() if (out / log.LOG).exists() else []
    return max([int(json.loads(line)["images_seen"]) for line in lines if line.endswith("}")], default=0)


def signalled(number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda process: process.send_signal(number)


def kill_all(process: subprocess.Popen[str]) -> None:
    for pid in [process.pid, *(pid for pid, _ in children(process.pid))]:
        os.kill(pid, signal.SIGKILL)


def kill_a_rank(process: subprocess.Popen[str]) -> None:
    ranks = [
        pid for pid, words in children(process.pid) if "-m train" in words and "multiprocessing" not in words
    ]
    os.kill(ranks[-1], signal.SIGKILL)


@pytest.fixture(scope="module", params=[GAN, pytest.param(DIFFUSION, marks=pytest.mark.soak)])
def preset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(
    preset: str, undisturbed: Path, captioned: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An undisturbed run by one rank, in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("expected") / "run"
    shards, tables, settings = (str(undisturbed),), (str(captioned),), PRESETS[preset]
    quiet(TrainRequest(preset, shards, str(run), tables, images=IMAGES, settings=settings))
    torch.set_num_threads(threads)
    return run


@pytest.mark.soak
def test_one_rank_stopped_and_killed_goes_on_to_the_same_end(
    preset: str, undisturbed: Path, captioned: Path, expected: Path, tmp_path: Path
) -> None:
    out, chance = tmp_path / "run", random.Random(1)
    words = command(1, undisturbed, captioned, out, "--set", "run.workers=1", preset=preset)
    for action, code in ((kill_all, -9), (signalled(signal.SIGINT), 130)):
        ended, errors = disturb(words, out, images_logged(out) + chance.randrange(20, 120), action)
        assert ended == code, errors
        assert "Traceback" not in errors and ("run the same command again to resume" in errors) == (code > 0)
    assert 0 < images_logged(out) < IMAGES
    finish(words)
    assert losses(out) == losses(expected)
    assert weights(out) == weights(expected)


@pytest.mark.soak
def test_two_ranks_stopped_and_killed_go_on_to_the_same_end(
    preset: str, undisturbed: Path, captioned: Path, expected: Path, tmp_path: Path
) -> None:
    finish(command(2, undisturbed, captioned, tmp_path / "quiet", preset=preset))
    for ours, alone in list(zip(losses(tmp_path / "quiet"), losses(expected), strict=True))[:3]:
        assert ours == pytest.approx(alone, rel=1e-4)  # two ranks and one are the same but for rounding
    out, chance = tmp_path / "run", random.Random(2)
    words = command(2, undisturbed, captioned, out, preset=preset)
    for action in (signalled(signal.SIGTERM), kill_a_rank):
        ended, errors = disturb(words, out, images_logged(out) + chance.randrange(20, 120), action)
        assert ended, errors
        assert (errors.count("run the same command again to resume") == 1) == (action is not kill_a_rank), (
            errors
        )
    finish(words)
    assert losses(out) == losses(tmp_path / "quiet")
    assert weights(out) == weights(tmp_path / "quiet")


def test_a_signal_during_the_start_leaves_no_obstacle(
    undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    process = start(command(1, undisturbed, captioned, tmp_path / "run", "--set", "run.workers=1"))
    while process.poll() is None and not (tmp_path / "run" / runs.CONFIG).exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130 and "run the same command again to resume" in errors, errors
    quiet(
        TrainRequest(
            "tiny-32",
            (str(undisturbed),),
            str(tmp_path / "run"),
            (str(captioned),),
            images=16,
            settings=SETTINGS,
        )
    )


def test_what_one_of_two_ranks_finds_is_told_once(finished: Path, captioned: Path, tmp_path: Path) -> None:
    tar = finished / "visual_atoms-000002.tar"
    tar.write_bytes(
        tar.read_bytes().replace(b"IDAT", b"IDAX", 1)
    )  # one picture, which one of the ranks comes to
    words = command(1, finished, captioned, tmp_path / "a")[2:]
    [(code, _, errors)] = together([words], ranks=2)
    [sentence] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code and "000002.tar does not decode" in sentence, errors


def test_loader_workers_are_born_deaf_to_signals(undisturbed: Path, captioned: Path) -> None:
    """A signal goes to the whole group of a terminal, also while a worker still starts."""
    before = {pid for pid, _ in children(os.getpid())}
    batches = stream(undisturbed, captioned).batches(0, 4, workers=1)
    next(batches)
    [pid] = {pid for pid, words in children(os.getpid()) if "spawn_main" in words} - before
    blocked = int(Path(f"/proc/{pid}/status").read_text().split("SigBlk:")[1].split()[0], 16)
    assert blocked & 1 << (signal.SIGTERM - 1) and blocked & 1 << (signal.SIGINT - 1)
    batches.close()
    assert not {pid for pid, words in children(os.getpid()) if "spawn_main" in words} - before
