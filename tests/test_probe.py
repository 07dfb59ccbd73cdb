"""The command `probe`, and the features of runs as detectors: evaluate/probes/command.py."""

from pathlib import Path

import numpy as np
import pytest

from caption import encoders
from evaluate import detectors
from evaluate.cli import PROGRAM, app
from synth.errors import UserError
from tests.kit import invoke, json_lines, make_small, refusal, states, write_foreign
from tests.kit_train import quiet
from train import cli as train_cli
from train.start.request import TrainRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TINY = (
    *("model.resolution=16", "model.width=16", "model.layers=1", "model.heads=2", "model.head=32"),
    *("training.batch=16", "training.precision=fp32", "run.tick=16", "run.workers=0"),
    *("run.checkpoint=32", "run.samples=64"),
)


@pytest.fixture(scope="module")
def few_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set with two classes of twenty pictures."""
    out = tmp_path_factory.mktemp("few") / "set"
    make_small(out, settings=("classes=2",))
    return out


@pytest.fixture(scope="module")
def run(few_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of SimCLR."""
    out = tmp_path_factory.mktemp("run") / "run"
    quiet(TrainRequest("simclr-32", (str(few_classes),), str(out), images=32, settings=TINY))
    return out


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of features is below the working directory."""
    monkeypatch.chdir(tmp_path)


def test_a_run_is_probed_beside_its_baselines(run: Path, few_classes: Path) -> None:
    options = ["--train", few_classes, "--baselines", "random,pixels", "--epochs", 3]
    rows = json_lines(invoke(app, "probe", run, *options, raising=True))
    assert [row["features"] for row in rows[::6]] == [f"run:{run}", f"random:{run}", "pixels:16"]
    assert [row["metric"].partition(", ")[2].partition(",")[0] for row in rows[:6]] == [
        *("ridge", "sgd", "1-shot", "5-shot", "10-shot", "k-NN")
    ]
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= row["value"] <= high <= 1
        assert (row["n"], row["tests"], row["classes"]) == (32, 8, 2)
    assert json_lines(run / "metrics.jsonl")[-len(rows) :] == rows

    # The second time, features come from the cache, and the figures are the same.
    assert json_lines(invoke(app, "probe", run, *options, raising=True)) == rows


def test_a_run_is_a_detector_of_every_command(run: Path, few_classes: Path) -> None:
    names = ["--metrics", "kid", "--detector", f"run:{run}", "--n", 20]
    [row] = json_lines(invoke(app, "compare", few_classes, few_classes, *names, raising=True))
    assert row["value"] == pytest.approx(0, abs=1e-6) or row["value"] <= 0
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    learned, first = (detectors.load(f"{kind}:{run}") for kind in ("run", "random"))
    assert learned(pictures).features.shape == (3, 16) and learned.weights != first.weights
    assert not np.allclose(learned(pictures).features, first(pictures).features)


def test_a_run_is_an_encoder_by_its_folder(run: Path, tmp_path: Path) -> None:
    """open_clip's network has the features of the run, at unit length."""
    words = ["export", run, "--as-encoder", tmp_path / "encoder"]
    (tmp_path / "encoder").mkdir()
    [row] = json_lines(invoke(train_cli.app, *words, raising=True))
    encoder = encoders.load(encoders.find(str(tmp_path / "encoder")))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    features = detectors.load(f"run:{run}")(pictures).features
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.abs(encoder.images(pictures) - unit).max() < 1e-5
    assert row["dimensions"] == encoder.dimensions == 16
    assert encoder.texts(["a red star"]).shape == (1, 16)

    # Again, nothing changes. One of --out and --as-encoder is needed.
    before = states(tmp_path / "encoder")
    assert json_lines(invoke(train_cli.app, *words, raising=True)) == [row]
    assert states(tmp_path / "encoder") == before
    assert "give --out PATH or --as-encoder FOLDER" in refusal(
        train_cli.app, train_cli.PROGRAM, "export", run
    )


def test_what_cannot_be_probed_is_refused(run: Path, few_classes: Path, tmp_path: Path) -> None:
    def refused(*options: object) -> str:
        return refusal(app, PROGRAM, "probe", run, "--train", few_classes, "--baselines", "none", *options)

    assert "unknown probe 'svm'; known are ridge, sgd, few, knn, zero" in refused("--probes", "svm")
    foreign = write_foreign(tmp_path / "s", [{"txt": b"one"}] * 12)
    assert "labels of the test pictures are of no training picture" in refused(
        *("--test", foreign, "--label", "caption")
    )
    assert "has no colour; give another set, or another label" in refused("--label", "colour")
    with pytest.raises(UserError, match="give pixels:32"):
        detectors.load("pixels:none")
