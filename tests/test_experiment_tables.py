"""The shipped experiments: their tables, their registered hypotheses, and their rows."""

import json
import re
from pathlib import Path

import pytest

from evaluate.experiments import command, laws, registration, rows, running
from evaluate.experiments.running import ExperimentRequest
from synth.errors import UserError
from synth.settings import canonical
from tests.kit import ROOT

NAMES = command.names()


def test_every_table_is_one_short_module_with_a_question() -> None:
    assert {
        "captions",
        "families",
        "guidance",
        "predict",
        "worth",
        "worth-rates",
        "words-rates",
        "worth-words",
        "xi",
        "paper-coco",
    } <= set(NAMES)
    for name in NAMES:
        experiment, shipped, _ = command.load(name)
        assert shipped and experiment.name == name and experiment.question.endswith("?")
        assert len((command.TABLES / f"{name.replace('-', '_')}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_its_registration_is_that_of_its_table_and_its_rows_fit(name: str) -> None:
    experiment, _, _ = command.load(name)
    assert registration.read(experiment, running.RESULTS / f"{name}.{registration.NAME}")
    kept = rows.read(running.RESULTS / f"{name}.jsonl")
    assert all(row["experiment"] == name and len(json.dumps(row)) <= rows.MOST_BYTES for row in kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_steps_are_commands_with_known_options(name: str) -> None:
    """Every command of one seed is parsed as if it was typed. Arms of a seed share their real set."""
    import importlib

    from tests.kit import parse

    experiment, _, _ = command.load(name)
    request = ExperimentRequest(experiment, ROOT / "runs/no-such-experiment", 2, fresh=True)
    foreseen, steps = running.foresee(request)
    assert foreseen.missing == foreseen.cells == len(request.cells) and foreseen.hours > 0
    assert len({step.address for step in steps}) == len(steps) == len({step.name for step in steps})
    assert len(canonical([step.line for step in steps])) > 0 and not request.out.exists()
    for step in experiment.arms[-1].chain(0):
        parse(importlib.import_module(f"{step.words[0]}.cli").app, list(step.command[1:]))


@pytest.mark.slow
def test_the_experiment_of_the_readme_is_one(tmp_path: Path) -> None:
    [code] = re.findall(
        r"```python\n(.*?)```", (ROOT / "evaluate/experiments/README.md").read_text(), re.DOTALL
    )
    (tmp_path / "mine.py").write_text(code)
    assert len(code.splitlines()) <= 80
    experiment, shipped, path = command.load(str(tmp_path / "mine.py"))
    request = ExperimentRequest(experiment, tmp_path / "out", experiment.seeds, path=path)
    foreseen, _ = running.foresee(request)
    # Emoji, waves, captions of both, then for each seed pre-training, two runs and two losses.
    assert not shipped and (foreseen.steps, foreseen.shared) == (4 + 5 * 5, 4)


def test_a_file_that_is_no_experiment_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for text, sentence in (
        ("x = 1", "mine.py holds no EXPERIMENT"),
        ("import nothing_like_it", "mine.py does not load: ModuleNotFoundError: No module named"),
    ):
        (tmp_path / "mine.py").write_text(text)
        with pytest.raises(UserError, match=sentence):
            command.load(str(tmp_path / "mine.py"))
    with pytest.raises(UserError, match=r"there is no file .*none.py; give a Python file"):
        command.load(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ('step("toy", law=1)', "'Step' object is not iterable; correct the table"),
        ("[1 / 0]", "ZeroDivisionError: division by zero; correct the table"),
        ("[]", "return a list of steps"),
    ],
)
def test_an_arm_without_steps_is_refused_in_a_sentence(steps: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from evaluate.experiments.table import Arm, Experiment, Reading, step\n"
        f"ARM = Arm('odd', lambda seed: {steps})\n"
        "EXPERIMENT = Experiment('mine', '', (ARM,), Reading('loss', 'loss'), seeds=1)\n"
    )
    experiment, *_ = command.load(str(tmp_path / "mine.py"))
    with pytest.raises(UserError, match=f"odd gives no steps for seed 0.*{sentence}"):
        running.foresee(ExperimentRequest(experiment, tmp_path / "out", 1))


@pytest.mark.parametrize("measure", ["obedience", "edits", "concepts", "reading"])
def test_the_law_of_a_measurement_on_scenes_has_that_of_the_scenes(
    measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", measure, "formula-32", "--on", "scenes_flat")
    before = laws.of(words)
    monkeypatch.setattr("synth.families.scenes.LAW", 2)
    assert laws.of(words) == {**before, "scenes": 2}
    assert "scenes" not in laws.of(("evaluate", "loss", "formula-32", "--on", "fractals"))


def test_the_law_of_a_measurement_has_the_weights_of_all_its_shipped_encoders() -> None:
    words = ("evaluate", "metrics", "formula-32", "--metrics", "kid,clip", "--detector", "nano")
    assert set(laws.of((*words, "--clip", "nano-emoji"))["weights"]) == {"nano", "nano-emoji"}
