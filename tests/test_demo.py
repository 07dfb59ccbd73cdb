"""The demo: the length of its arms, its table, its page, bad input, and the whole of it at its smallest."""

import importlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.emoji import font
from evaluate.experiments import demo, pace, page, rows, running
from evaluate.experiments.demo import app
from evaluate.experiments.pace import ARMS, LEAST, LOOKS, WHOLE, Pace
from evaluate.experiments.running import ExperimentRequest
from synth.errors import UserError
from tests.kit import ROOT, json_lines, kill_driver, parse, refusal, start, states

FONT = any(Path(place).is_file() for place in font.PLACES)
MODULE = "evaluate.experiments.demo"
USUAL = Pace(0.01, 2, None, 16_384)


def rounds(workers: int) -> int:
    return -(-ARMS // min(max(workers, 1), ARMS))


# The length of the arms.


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4, 64])
@pytest.mark.parametrize("seconds", [0.003, 0.01, 0.02])
def test_a_demo_of_the_chosen_length_fits_its_time(seconds: float, workers: int) -> None:
    chosen = pace.chosen(seconds, workers, None)
    foreseen = pace._ONCE + rounds(workers) * (pace._EACH + chosen.images)
    assert 0.9 * WHOLE < foreseen * seconds <= WHOLE
    assert chosen.images % LEAST == 0 and 1 <= chosen.workers <= ARMS


def test_a_machine_of_half_the_speed_trains_less_and_the_slowest_trains_the_least() -> None:
    fast, slow = pace.chosen(0.01, 2, None), pace.chosen(0.02, 2, None)
    assert 4 * LEAST < slow.images < fast.images / 2  # all else takes its share too
    assert pace.chosen(1.0, 2, None).images == LEAST


@pytest.mark.parametrize("workers", [0, 2, 4])
def test_given_minutes_are_those_of_all_training(workers: int) -> None:
    chosen = pace.chosen(0.01, workers, 8.0)
    assert 0.9 * 8 < rounds(workers) * chosen.images * 0.01 / 60 <= 8


def test_the_speed_is_that_of_training_without_its_first_step_and_without_waiting() -> None:
    lines = [(90.0, 0.5), (20.0, 0.0), (40.0, 0.5)]
    log = "\n".join(json.dumps({"seconds_per_kimg": s, "waited": w}) for s, w in lines)
    assert pace._seconds(log) == pytest.approx(0.020)


def test_the_choice_is_a_sentence() -> None:
    assert str(USUAL) == (
        "A run trains 100 images a second here, with 2 at once. So each arm sees 16,384, in 2.7 minutes."
    )


@pytest.mark.parametrize("minutes", [9.96, 99.6, 1250])
def test_a_long_demo_states_whole_minutes(minutes: float) -> None:
    images = round(minutes * 60 / 0.0005)
    choice = str(pace.Pace(0.0005, 4, minutes, images))
    assert choice.startswith("A run trains 2,000 images") and choice.endswith(f" in {minutes:,.0f} minutes.")


@pytest.mark.slow
def test_the_arms_have_the_sizes_of_the_shipped_model() -> None:
    from train import runs
    from train.config import with_settings
    from train.presets import PRESETS

    resolved = with_settings(PRESETS[pace.PRESET].make(), pace.sizes()).groups.model
    shipped = runs.find(pace.SHIPPED).config.groups.model
    assert replace(resolved, text_dim=1) == replace(shipped, text_dim=1)


# A demo's folder.


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine that trains 100 images a second. The list has the runs of each measurement."""
    measurements: list[int] = []

    def measured(runs: int) -> float:
        measurements.append(runs)
        return 0.01

    monkeypatch.setattr(pace, "measured", measured)
    monkeypatch.setattr(demo, "_require_font", lambda: None)
    return measurements


@pytest.mark.slow
def test_the_speed_is_measured_once_and_kept(speed: list[int], tmp_path: Path) -> None:
    out = tmp_path / "new" / "demo"
    first = demo._pace(out, None, 2)
    assert first == demo._pace(out, None, 0) == pace.read(out) == pace.chosen(0.01, 2, None)
    assert speed == [2]


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "has"), [(None, "the default of --minutes"), (3.0, "--minutes 3")])
def test_other_minutes_at_the_same_place_are_refused(
    minutes: float | None, has: str, speed: list[int], tmp_path: Path
) -> None:
    demo._pace(tmp_path, minutes, 2)
    assert demo._pace(tmp_path, minutes, 2).minutes == minutes
    with pytest.raises(UserError, match=f"holds a demo with {has}; leave --minutes out, or give another"):
        demo._pace(tmp_path, 5.0, 2)


@pytest.mark.slow
def test_a_folder_of_something_else_is_left_alone(speed: list[int], tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no experiment"):
        demo._pace(tmp_path, None, 2)
    with pytest.raises(UserError, match="is a file"):
        demo._pace(tmp_path / "letter.txt", None, 2)
    assert not speed and [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("content", ["{", "[1]", '{"images": 256}'])
def test_a_damaged_choice_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(content)
    with pytest.raises(UserError, match=r"demo.json is damaged; remove it, or give another --out"):
        pace.read(tmp_path)


@pytest.mark.slow
def test_a_missing_font_is_refused_before_minutes_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(font, "PLACES", ("/no/font.ttf",))
    words = (MODULE, "--out", tmp_path / "demo")
    assert "this machine has no emoji font; as root: apt-get install" in refusal(app, *words)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "10001", "many"])
def test_minutes_that_cannot_be_are_refused(minutes: str, tmp_path: Path) -> None:
    assert "--minutes" in refusal(app, MODULE, "--minutes", minutes, "--out", tmp_path / "demo")


def test_a_trial_run_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('note\\nerror: no room', file=sys.stderr); sys.exit(2)"

    def start(place: Path, settings: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, encoding="utf-8")

    monkeypatch.setattr(pace, "_start", start)
    with pytest.raises(UserError, match=r"^the trial run ended with 2: no room$"):
        pace.measured(2)


def test_trial_runs_end_with_the_command_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Interrupted(subprocess.Popen[str]):
        def communicate(self, *words: Any, **more: Any) -> tuple[str, str]:
            raise KeyboardInterrupt

    def start(place: Path, settings: Sequence[str]) -> "subprocess.Popen[str]":
        script = "import time; time.sleep(60)"
        started.append(Interrupted([sys.executable, "-c", script], stderr=subprocess.PIPE, encoding="utf-8"))
        return started[-1]

    monkeypatch.setattr(pace, "_start", start)
    monkeypatch.setattr(pace, "sizes", lambda: ())
    with pytest.raises(KeyboardInterrupt):
        pace.measured(2)
    assert [run.returncode for run in started] == [-signal.SIGKILL] * 2


# The table and the page.


@pytest.mark.slow
def test_its_steps_are_commands_and_the_arms_of_a_pair_differ_in_their_source_alone() -> None:
    table = demo.table(USUAL)
    steps = {step.address: step for arm in table.arms for step in arm.chain(0)}
    for step in steps.values():
        parse(importlib.import_module(f"{step.words[0]}.cli").app, list(step.command[1:]))
    # A sheet, the emoji and their captions are made once.
    assert len(steps) == 3 + ARMS * 3

    runs = {
        arm.name: next(s for s in arm.chain(0) if s.words[:2] == ("train", "finetune")) for arm in table.arms
    }
    for contrast in table.contrasts:
        a, b = runs[contrast.arm].words, runs[contrast.other].words
        assert [pair for pair in zip(a, b, strict=True) if pair[0] != pair[1]] == [("formula-32", "none")]
    fractions = {run.command[run.command.index("--fraction") + 1] for run in runs.values()}
    assert fractions == {"0.037769", "1.000000"} and round(0.037769 * 3_389) == 128


@pytest.mark.slow
def test_the_weights_of_the_shipped_model_are_part_of_its_steps_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluate.experiments import laws

    words = ("train", "sample", "formula-32", "a red star")
    before = laws.of(words)
    (tmp_path / "data/formula-32").mkdir(parents=True)
    (tmp_path / "data/formula-32/COMMITTED").write_text("other weights")
    monkeypatch.setattr(laws, "ROOT", tmp_path)
    assert laws.of(words) != before and "models" not in laws.of(
        ("train", "sample", "runs/mine", "a red star")
    )
    assert "models" in laws.of(("train", "finetune", "emoji-32-diffusion", "--from", "formula-32"))


@pytest.mark.slow
def test_the_page_has_the_sentence_the_choice_and_the_link(tmp_path: Path) -> None:
    request = ExperimentRequest(demo.table(USUAL), tmp_path, seeds=1)
    losses = dict(zip((arm.name for arm in request.experiment.arms), (0.24, 0.3, 0.21, 0.2), strict=True))
    for arm in request.experiment.arms:
        printed = [{"metric": "held-out loss", "value": losses[arm.name], "images_seen": 64}]
        origin = {"date": "", "machine": "", "commit": "", "cpu_seconds": 1}
        rows.add(request.rows, rows.make(request.experiment, arm, 0, printed, origin))
    running.claim(request)
    page.write(request, running.sort(request))
    text = (tmp_path / running.REPORT).read_text()
    assert (
        "The best held-out loss of formula-32 on 128 emoji is 0.240, 0.80 of that of scratch on 128 emoji "
        "(0.300). The best held-out loss of formula-32 on 3,389 emoji is 0.210, 1.05 of that of scratch on "
        "3,389 emoji (0.200). One seed decides nothing." in text
    )
    assert str(USUAL) in text
    [link] = re.findall(r'<a href="([^"#]+)#', text)
    assert (tmp_path / link).resolve() == ROOT / "evaluate/README.md"


# The whole.


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", MODULE, "--minutes", "0.01", "--workers", "0", "--out", str(out)]


def finish(out: Path) -> str:
    """Runs a demo to its end. Returns its lines for a person."""
    process = start(command(out), cwd=ROOT)
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors
    return errors


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest demo, done without a stop."""
    out = tmp_path_factory.mktemp("demo") / "done"
    finish(out)
    return out


def stated(out: Path) -> list[dict[str, Any]]:
    """Returns the rows without times, dates and machines."""
    return [{k: v for k, v in row.items() if k != "run"} for row in json_lines(out / rows.NAME)]


@pytest.mark.soak
@pytest.mark.skipif(not FONT, reason="there is no emoji font here; `make test` installs it")
def test_the_smallest_demo_has_its_rows_its_pictures_and_does_nothing_a_second_time(done: Path) -> None:
    kept = stated(done)
    assert len(kept) == ARMS and all(len(row["figures"]["curve"]) == LOOKS for row in kept)
    text = (done / running.REPORT).read_text()
    assert text.count('<img class="pixels"') == 1 + ARMS and "formula-32 before it has seen an emoji" in text
    before = states(done)
    assert "demo is finished: nothing to do" in finish(done) and states(done) == before


@pytest.mark.soak
@pytest.mark.skipif(not FONT, reason="there is no emoji font here; `make test` installs it")
def test_killed_at_random_points_it_resumes_to_the_same_rows_and_pictures(done: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "demo", random.Random(0)
    for name in ("data-emoji", "caption-captions"):  # the set is made already
        for path in (done / "steps").glob(f"{name}-*"):
            target = out / "steps" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)
    for name in ("demo.json", "experiment.json"):
        shutil.copy2(done / name, out)
    for _ in range(3):
        process = start(command(out), cwd=ROOT)
        time.sleep(chance.uniform(5, 40))
        kill_driver(process)
    finish(out)
    assert stated(out) == stated(done)
    drawn = [{p.name: p.read_bytes() for p in (o / "steps").glob("*.png")} for o in (out, done)]
    assert drawn[0] == drawn[1]
