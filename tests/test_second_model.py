"""A new model is a module and a preset: train/README.md, "Add a model", followed in a copy of the checkout.

The denoiser of the page, and a contrastive learner without texts, go through every command.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import kit
from tests.kit import ROOT, Step, children, copy_checkout, json_lines, run_in, steps, together

pytestmark = pytest.mark.slow

IMAGES = 320

CONTRASTIVE = '''"""A contrastive learner with one linear layer. It matches two views in the global batch."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from train.model import Model, Needs, Phase, Wanted


@dataclass(frozen=True)
class Sizes:
    resolution: int = 16


@dataclass(frozen=True)
class Training:
    batch: int = 16
    precision: str = "fp32"
    seed: int = 0


@dataclass(frozen=True)
class Config:
    model: Sizes = field(default_factory=Sizes)
    training: Training = field(default_factory=Training)


def flipped(picture, stream):
    return picture[:, :: stream.choice([-1, 1])]


def needs(config):
    return Needs(tables=False, whole=True)


def parts(config, context):
    return {"encoder": nn.Linear(3 * config.model.resolution**2, 8).to(context.device, context.weights)}


def build(parts, config, context):
    def loss(micro):
        rows = (parts["encoder"](micro.pictures[:, view].flatten(1)) for view in (0, 1))
        one, other = (context.gather(functional.normalize(row)) for row in rows)
        yield {"contrast": functional.cross_entropy(5 * one @ other.t(), torch.arange(len(one)))}

    sgd = torch.optim.SGD(parts["encoder"].parameters(), lr=0.1, momentum=0.9)
    wanted = Wanted(vectors=(), views=2, augment=flipped)
    return Model({"encoder": sgd}, [Phase("c", ("encoder",), loss)], wanted=wanted)
'''

STEPS = steps(ROOT / "train" / "README.md", "Add a model")
PRETRAIN, SAMPLE, TESTS = [line for step in STEPS if not step.kind for line in step.commands]
TWINS = 'Preset("twins-16", "twins", {}, "a toy", "0", "0")'
SHORT = {"run.images": IMAGES, "run.tick": 16, "run.checkpoint": 160, "run.samples": 160, "run.workers": 0}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path, captioned: Path) -> Path:
    """A copy of the checkout with two models more, and the set and tables that the page names."""
    place = copy_checkout(tmp_path_factory.mktemp("house") / "checkout")
    for step in STEPS:
        if step.kind:
            step.follow(place)
    (place / "train/models/twins.py").write_text(CONTRASTIVE)
    twins = Step("diff", "train/presets.py", f"     for p in [\n+        {TWINS},\n")
    twins.follow(place)
    for link, target in (
        ("data/shards/visual_atoms", undisturbed),
        ("data/captions/visual_atoms/nano", captioned),
    ):
        (place / link).parent.mkdir(parents=True)
        (place / link).symlink_to(target)
    return place


class Toy:
    """Commands about a toy, in the copied checkout."""

    def __init__(self, house: Path, pretrain: str) -> None:
        self._house, self._pretrain = house, shlex.split(pretrain)[1:]
        if "--encoder" in self._pretrain:
            # The tables in the place of the page's are of a smaller encoder, and the only ones.
            encoder = self._pretrain.index("--encoder")
            del self._pretrain[encoder : encoder + 2]

    def command(self, out: Path, *options: str, ranks: int = 1) -> list[str]:
        torchrun = (
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
            if ranks > 1
            else []
        )
        short = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
        # The options that come last hold.
        pretrain = [*self._pretrain, "--out", str(out), "--device", "cpu", *short]
        return [sys.executable, *torchrun, *pretrain, *options]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return kit.start(command, cwd=self._house, OMP_NUM_THREADS="1", PYTHONPATH=str(self._house))

    def trained(self, out: Path, *options: str, ranks: int = 1) -> Path:
        process = self.start(self.command(out, *options, ranks=ranks))
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        return out

    def stopped(self, out: Path, images: int, number: int) -> int:
        """Sends a signal to a run once its log has come so far; returns its exit code."""
        process = self.start(self.command(out))
        while process.poll() is None and seen(out) < images:
            time.sleep(0.002)
        for pid in [process.pid, *(pid for pid, _ in children(process.pid))]:
            os.kill(pid, number)
        process.communicate(timeout=240)
        return process.returncode


def seen(run: Path) -> int:
    lines = (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []
    return max([int(json.loads(line)["images_seen"]) for line in lines if line.endswith("}")], default=0)


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / f"checkpoints/{IMAGES:09d}").iterdir())}


def losses(run: Path) -> list[dict[str, float]]:
    rows = json_lines(run / "log.jsonl")
    return [{key: value for key, value in row.items() if "/" in key or key == "images_seen"} for row in rows]


@pytest.fixture(scope="module")
def linear(house: Path) -> Toy:
    return Toy(house, PRETRAIN)


@pytest.fixture(scope="module")
def twins(house: Path) -> Toy:
    return Toy(house, "python -m train pretrain twins-16 --on visual_atoms")


@pytest.fixture(scope="module")
def ended(
    linear: Toy, twins: Toy, house: Path, undisturbed: Path, captioned: Path, tiny_encoder: Path
) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of the page's commands and of others, by name."""
    run, twin = house / "runs" / "linear", house / "runs" / "twins"
    sizes = ["--n", "30", "--detector", str(tiny_encoder), "--metrics", "kid", "--device", "cpu"]
    small = ["--steps", "3", "--encoder", str(tiny_encoder), "--device", "cpu"]
    measure = ["evaluate", "metrics", str(run), "--on", str(undisturbed), "--captions", str(captioned)]
    commands = {
        "pretrain": linear.command(run)[2:],
        "sample": [*shlex.split(SAMPLE)[2:], *small],
        "export": ["train", "export", str(run), "--out", str(house / "exported")],
        "measure": [*measure, *sizes],
        "twins": twins.command(twin)[2:],
        "draw twins": ["train", "sample", str(twin), "a star"],
        "tests": shlex.split(TESTS)[2:],
    }
    modules = ("torch", "train.cli", "train.start.prepared", "evaluate.cli")
    return dict(zip(commands, together(list(commands.values()), cwd=house, modules=modules), strict=True))


def succeeded(ended: dict[str, tuple[int, str, str]], name: str) -> list[dict[str, Any]]:
    """Returns the rows that a command printed."""
    code, output, errors = ended[name]
    assert code == 0, errors
    return json_lines(output)


@pytest.fixture(scope="module")
def quiet(ended: dict[str, tuple[int, str, str]], house: Path) -> Path:
    """A run of the denoiser that nobody disturbed, in the folder that the page names."""
    succeeded(ended, "pretrain")
    return house / "runs" / "linear"


def test_it_trains_and_keeps_what_it_surveyed(quiet: Path) -> None:
    rows = losses(quiet)
    assert [row["images_seen"] for row in rows] == list(range(16, IMAGES + 1, 16))
    assert rows[-1]["d/mse"] < 0.7 * rows[0]["d/mse"]
    metadata = json.loads((quiet / "config.json").read_text())
    assert metadata["model"] == "linear" and 0.05 < metadata["survey"]["sigma"] < 1
    assert len(list((quiet / "samples").iterdir())) == 3


@pytest.mark.soak
def test_killed_it_goes_on_to_the_same_bytes(linear: Toy, quiet: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert linear.stopped(run, 176, signal.SIGKILL) == -9 and seen(run) < IMAGES
    linear.trained(run)
    assert weights(run) == weights(quiet) and losses(run) == losses(quiet)


@pytest.mark.soak
def test_two_ranks_give_what_one_gives(linear: Toy, quiet: Path, tmp_path: Path) -> None:
    two = linear.trained(tmp_path / "run", ranks=2)
    for ours, alone in zip(losses(two), losses(quiet), strict=True):
        assert ours == pytest.approx(alone, rel=1e-5)
    name = f"checkpoints/{IMAGES:09d}/ema.safetensors"
    averages = [load_file(run / name) for run in (two, quiet)]
    assert all(torch.allclose(averages[0][key], value, atol=1e-5) for key, value in averages[1].items())


def test_it_is_sampled_by_the_command_of_the_page(ended: dict, house: Path) -> None:
    [row] = succeeded(ended, "sample")
    assert row["pictures"] == 4 and (house / "linear.png").exists()


def test_it_is_handed_over_and_draws_without_the_checkout(ended: dict, house: Path) -> None:
    assert succeeded(ended, "export")
    lines = """
import model, torch

drawer, texts = model.load(), model.Texts(torch.eye(4, 32))
two, three = (drawer.draw(texts, seed=0, steps=steps) for steps in (2, 3))
print(two.shape == (4, 3, 16, 16), torch.equal(two, three))
"""
    command = [sys.executable, "-c", lines]
    drawn = subprocess.run(command, cwd=house / "exported", env={}, capture_output=True, text=True)
    assert (drawn.stdout, drawn.stderr) == ("True False\n", "")


def test_the_test_of_the_page_passes(ended: dict, house: Path) -> None:
    code, output, _ = ended["tests"]
    assert code == 0 and "1 passed" in output, output
    run_in(house, "python -m ruff check train/models/linear.py train/presets.py tests/test_linear.py")


def test_it_is_measured(ended: dict) -> None:
    [row] = succeeded(ended, "measure")
    assert row["metric"] == "KD (tiny)" and row["n"] == 30 and row["images_seen"] == IMAGES


def test_a_model_without_texts_trains_without_tables(ended: dict, house: Path) -> None:
    succeeded(ended, "twins")
    run = house / "runs" / "twins"
    metadata = json.loads((run / "config.json").read_text())
    assert metadata["captions"] is None and metadata["encoder"] is None
    assert losses(run)[-1]["c/contrast"] < losses(run)[0]["c/contrast"]
    assert not (run / "samples").exists()
    kept = {path.stem for path in (run / f"checkpoints/{IMAGES:09d}").iterdir()}
    assert kept == {"encoder", "encoder.optimiser", "state", "COMMITTED"}


@pytest.mark.soak
@pytest.mark.usefixtures("ended")
def test_its_gradient_of_the_gathered_batch_is_that_of_the_whole(
    twins: Toy, house: Path, tmp_path: Path
) -> None:
    two = twins.trained(tmp_path / "two", ranks=2)
    for ours, theirs in zip(losses(two), losses(house / "runs" / "twins"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_model_that_draws_nothing_is_refused_in_one_sentence(ended: dict, house: Path) -> None:
    sentence = "is a run of twins, which draws no pictures; give a run of another model"
    assert ended["draw twins"] == (2, "", f"error: {house / 'runs' / 'twins'} {sentence}\n")
