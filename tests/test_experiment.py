"""The engine of experiments on a toy: shared steps, rows, resuming, the report, and bad input."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evaluate.cli import app
from evaluate.experiments import command, findings, performing, registration, rows, running, table
from evaluate.experiments.rows import MOST_BYTES
from evaluate.experiments.running import ExperimentRequest, RowAdded, StepEnded
from evaluate.experiments.table import OUT, Arm, Contrast, Experiment, Hypothesis, Reading, step
from synth.errors import UserError
from tests.kit import BROWSER, ROOT, invoke, json_lines, kill_driver, shown_in_browser, start, states
from tests.kit_experiment import calls, toy

SEEDS = 2


def request(file: Path, out: Path, **changes: Any) -> ExperimentRequest:
    experiment, shipped, path = command.load(str(file))
    given = {"experiment": experiment, "out": out, "seeds": SEEDS, "workers": 0, "shipped": shipped}
    return ExperimentRequest(**{**given, "path": path, **changes})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished toy."""
    out = tmp_path_factory.mktemp("done") / "out"
    list(running.run(request(file, out)))
    return out


def stated(out: Path) -> list[dict[str, Any]]:
    """Returns the rows without times, dates and machines, in one order."""
    plain = [{k: v for k, v in row.items() if k != "run"} for row in json_lines(out / rows.NAME)]
    return sorted(plain, key=lambda row: (row["arm"], row["seed"]))


def page(out: Path) -> str:
    """Returns the page without its element of times."""
    return re.sub(r'<section id="times">.*?</section>', "", (out / running.REPORT).read_text(), flags=re.S)


def test_steps_that_arms_share_run_once(done: Path) -> None:
    words = calls(done)
    assert [words.count(f"render {seed}") for seed in range(SEEDS)] == [1] * SEEDS
    assert len(words) == len(set((done / "calls").iterdir())) == SEEDS * (1 + 5 * 2 + 2)


def test_a_row_has_its_figures_address_and_origin_in_a_kilobyte(done: Path) -> None:
    kept = json_lines(done / rows.NAME)
    assert len(kept) == 5 * SEEDS
    assert all(len(json.dumps(row)) <= MOST_BYTES for row in kept)
    first = kept[0]
    assert first["figures"] == {
        "lowest loss": 1.0,
        "at": 20,
        "curve": [[0, 1.4], [10, 1.1], [20, 1.0], [30, 1.1]],
    }
    assert (first["experiment"], first["arm"], first["seed"]) == ("toy", "scratch-32", 0)
    assert re.fullmatch("[0-9a-f]{64}", first["address"])
    assert set(first["run"]) == {"commit", "machine", "cpu_seconds", "date"}


def test_figures_without_a_number_do_not_count(tmp_path: Path) -> None:
    """A figure may be None, as one without an interval's pictures is, or nan."""
    figure = Reading("lowest loss", "loss")
    printed = [{"metric": "loss", "value": value, "images_seen": 0} for value in (None, float("nan"), 2.0)]
    assert rows.reduced(figure, printed)["lowest loss"] == 2.0
    assert rows.reduced(figure, printed[:2]) == {}


@pytest.mark.parametrize(
    ("lacking", "what"), [("arm", "arm"), ("run", "run"), ("date", "date in its run"), ("figures", "figures")]
)
def test_a_row_that_no_experiment_added_is_refused(tmp_path: Path, lacking: str, what: str) -> None:
    origin = {"commit": "c", "machine": "m", "cpu_seconds": 1, "date": "2026-12-01"}
    row = {"arm": "a", "seed": 0, "address": "b", "figures": {}, "run": origin}
    (tmp_path / rows.NAME).write_text(json.dumps(row) + "\n")
    assert rows.read(tmp_path / rows.NAME) == [row]
    for part in (row, origin):
        part.pop(lacking, None)
    with (tmp_path / rows.NAME).open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(
        UserError, match=rf"row 2 of .* has no {what}, so no experiment added it; remove this"
    ):
        rows.read(tmp_path / rows.NAME)


def test_a_finished_experiment_does_nothing(file: Path, done: Path) -> None:
    before = states(done)
    [note] = running.run(request(file, done))
    assert isinstance(note, running.Note) and "nothing to do" in note.text and states(done) == before


@pytest.mark.slow
def test_a_further_figure_of_the_table_gets_its_column_without_new_rows(
    file: Path, done: Path, tmp_path: Path
) -> None:
    text = file.read_text().replace("hypotheses=", 'others=(Reading("last", "loss", "last"),), hypotheses=')
    (tmp_path / "wider.py").write_text(text)
    wider = request(tmp_path / "wider.py", tmp_path / "out")
    shutil.copytree(done, wider.out)
    list(running.run(wider))
    assert "<th>last</th>" in page(wider.out) and "| last |" in (wider.out / running.TABLE).read_text()
    assert calls(wider.out) == calls(done)


def test_runs_of_finished_arms_are_removed_and_pictures_stay(done: Path) -> None:
    kept = [path.name for path in (done / "steps").iterdir() if path.is_dir() or path.suffix == ".png"]
    assert (
        sorted(name.rpartition("-")[0] for name in kept) == ["toy-draw"] * 2 * SEEDS + ["toy-render"] * SEEDS
    )


@pytest.mark.slow
def test_a_trial_of_few_seeds_keeps_the_runs_that_registered_seeds_read(tmp_path: Path) -> None:
    file = toy(tmp_path / "toy")
    text = file.read_text().replace('toy("render", seed, OUT,', 'toy("render", 0, OUT, lasts=False,')
    file.write_text(text.replace("seeds=5", "seeds=3"))
    out = tmp_path / "out"
    for seeds, kept in ((2, 1), (3, 0)):
        list(running.run(request(file, out, seeds=seeds)))
        assert len([path for path in (out / "steps").glob("toy-render-*") if path.is_dir()]) == kept
    assert calls(out).count("render 0") == 1


@pytest.mark.slow
def test_runs_that_a_killed_command_left_are_removed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = request(file, tmp_path / "out", arms=("scratch-32",))
    with monkeypatch.context() as patch:
        patch.setattr(performing, "remove", lambda *words: None)  # killed before
        list(running.run(whole))
    runs = [path for path in (whole.out / "steps").glob("toy-train-*") if path.is_dir()]
    (whole.out / "steps/.toy-train-0123.removed").mkdir()  # killed meanwhile
    assert len(runs) == SEEDS
    (whole.out / running.REPORT).unlink()
    list(running.run(whole))
    assert not [path for path in (whole.out / "steps").iterdir() if path.is_dir()]


def test_a_command_that_was_killed_before_it_marked_the_folder_may_go_on(file: Path, tmp_path: Path) -> None:
    killed = request(file, tmp_path / "out")
    with running.held(killed.out):
        (killed.out / ".experiment.json.0123abcd.tmp").touch()
    assert not running.sort(killed).used
    (killed.out / "logs/letter.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no experiment"):
        running.sort(killed)


@pytest.mark.parametrize("content", ["{", "[1]", "5", ""])
def test_a_step_with_a_damaged_record_is_not_done(content: str, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/toy-measure-0.json").write_text(content)
    assert performing.record(tmp_path, "toy-measure-0") == {}
    assert not performing.is_done(tmp_path, "toy-measure-0", "")


def test_a_process_that_ended_before_its_step_is_stopped_quietly(tmp_path: Path) -> None:
    process = performing._Process.__new__(performing._Process)
    words = [sys.executable, "-c", "import sys; sys.exit(3)"]
    process._process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    )
    process._ending = False
    process._process.wait()
    job = performing.StepJob("toy", ("toy",), "", str(tmp_path), (), 0.0)
    assert process.run(job) == {"code": 3} and not process.alive
    process.stop()


@pytest.mark.slow
def test_lost_rows_are_measured_again_and_a_lost_page_is_written_again(
    file: Path, done: Path, tmp_path: Path
) -> None:
    whole = request(file, tmp_path / "out")
    shutil.copytree(done, whole.out)
    kept = (whole.out / rows.NAME).read_text().splitlines(keepends=True)
    (whole.out / rows.NAME).write_text("".join(kept[:-1]) + kept[-1][:20])  # torn by a crash
    (whole.out / running.REPORT).unlink()
    before = len(calls(whole.out))
    events = list(running.run(whole))
    assert len(calls(whole.out)) == before  # the records of its steps are still there
    assert [event.row["arm"] for event in events if isinstance(event, RowAdded)] == ["formulas-64"]
    assert stated(whole.out) == stated(done) and page(whole.out) == page(done)


@pytest.mark.slow
def test_rows_of_an_older_law_are_outdated_and_not_used(file: Path, done: Path, tmp_path: Path) -> None:
    newer = request(toy(tmp_path / "toy", law=2), tmp_path / "out", arms=("scratch-32",), seeds=2)
    newer.out.mkdir()
    (newer.out / "experiment.json").write_text('{"experiment": "toy"}')
    (newer.out / rows.NAME).write_text((done / rows.NAME).read_text())
    with pytest.raises(UserError, match=r"rows.jsonl has rows, and .*registered.json is missing; restore"):
        running.sort(newer)
    shutil.copy(done / registration.NAME, newer.out)
    assert len(running.sort(newer).outdated) == 10 and not running.sort(newer).used
    list(running.run(newer))
    assert list(running.sort(newer).used) == [("scratch-32", 0), ("scratch-32", 1)]
    assert "Outdated rows" in (newer.out / running.REPORT).read_text()
    assert "Outdated rows" not in page(done)


@pytest.mark.slow
def test_a_step_that_fails_names_itself_and_leaves_the_rest_usable(
    file: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("TOY_FAILS", "none")  # training from scratch at n = 64
    events = running.run(request(file, out))
    seen: list[Any] = []
    with pytest.raises(
        UserError, match=r"the step toy-train-\w+ ended with 1; .*log has its output \(and 1 more"
    ):
        seen.extend(events)
    failed = [event.step.command[2:4] for event in seen if isinstance(event, StepEnded) and event.problem]
    assert failed == [("0", "64"), ("1", "64")]
    assert len(stated(out)) == 4 * SEEDS and "H1" in page(out) and "not tested" in page(out)
    monkeypatch.delenv("TOY_FAILS")
    performing.stop()
    list(running.run(request(file, out)))
    assert stated(out) == stated(done) and page(out) == page(done)


@pytest.mark.slow
def test_shipped_rows_are_not_done_again_and_fresh_ones_stand_beside_them(
    file: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/toy.jsonl").write_text((done / rows.NAME).read_text())
    shutil.copy(done / registration.NAME, tmp_path / f"results/toy.{registration.NAME}")
    shipped = request(file, tmp_path / "out", shipped=True)
    assert running.foresee(shipped)[0].missing == 0
    events = list(running.run(shipped))
    assert not [event for event in events if isinstance(event, StepEnded)]
    assert not (shipped.out / rows.NAME).exists() and (shipped.out / running.REPORT).exists()

    (tmp_path / "results/toy.jsonl").write_text("")
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="results takes no rows; change its rights, or give --fresh"),
    ):
        patch.setattr(running.os, "access", lambda path, mode: False)
        list(running.run(request(file, tmp_path / "third", shipped=True)))
    (tmp_path / "results/toy.jsonl").write_text((done / rows.NAME).read_text())

    fresh = request(file, tmp_path / "fresh", shipped=True, fresh=True, arms=("scratch-32",))
    [new, _] = [event for event in running.run(fresh) if isinstance(event, RowAdded)]
    assert new.before and new.before["figures"] == new.row["figures"]
    assert len(json_lines(fresh.out / rows.NAME)) == 2
    assert len(json_lines(tmp_path / "results/toy.jsonl")) == 5 * SEEDS
    with pytest.raises(UserError, match="has steps from before --fresh, which would not be repeated"):
        running.sort(request(file, shipped.out, shipped=True, fresh=True))


@pytest.mark.slow
def test_an_arm_without_its_endpoint_leaves_the_others_their_rows(file: Path, tmp_path: Path) -> None:
    text = file.read_text().replace(
        'return [toy("measure", run), *', 'return [*([] if n == 64 else [toy("measure", run)]), run, *'
    )
    (tmp_path / "odd.py").write_text(text)
    odd = request(tmp_path / "odd.py", tmp_path / "out", path=(str(file.parent),))
    with pytest.raises(
        UserError, match=r"print no row of the metric 'loss' with 'value'; correct the table .*\(and 3 more"
    ):
        list(running.run(odd))
    assert len(stated(odd.out)) == 3 * SEEDS and "H1" in page(odd.out)


def test_a_dry_run_counts_and_writes_nothing(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = invoke(app, "experiment", file, "--out", out, "--seeds", 3, "--dry-run")
    *steps, last = json_lines(ended)
    assert (last["missing"], last["steps"], last["shared"]) == (15, 3 * (1 + 5 * 2 + 2), 3)
    assert last["hours"] == pytest.approx(3 * (60 + 5 * 600) / 3600, abs=0.005)
    assert len(steps) == last["steps"] and all(row["command"].startswith("python -m toy") for row in steps)
    with pytest.raises(UserError, match=r"--fresh repeats shipped rows, and .*\.py has none; leave it out"):
        invoke(app, "experiment", file, "--out", out, "--fresh", raising=True)
    assert not out.exists()


# The report.


class Reader(HTMLParser):
    """Reads a page: the tags that are open, and everything that it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.pictures += tag == "img" and (values["src"] or "").startswith("data:image/png;base64,")
        self.fetched += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(done: Path) -> None:
    reader = Reader()
    reader.feed((done / running.REPORT).read_text())
    reader.close()
    assert not reader.open and not reader.fetched
    assert reader.pictures == 2 + 2  # dots and curves; the grids of two arms
    assert "<script" not in page(done) and "url(" not in page(done)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here; Debian's package is called chromium")
def test_a_browser_shows_it_with_all_its_pictures(done: Path, tmp_path: Path) -> None:
    assert shown_in_browser(done / running.REPORT, tmp_path) == (4, 4)


def test_the_sentence_comes_first_and_admits_a_smaller_run(file: Path, done: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page(done), flags=re.S))
    question = text.index("Do formulas help the toy?")
    sentence = text.index("This run is smaller than the registered one: it has 10 of 25 rows.")
    assert question < sentence < text.index("Every figure") < text.index("Registered hypotheses")
    assert "p = 0.250, 0.250 after Holm). Not confirmed." in text
    assert "is not known: three seeds with all its arms are needed, not 2" in text
    stored = registration.read(command.load(str(file))[0], done / registration.NAME)
    assert stored and stored["sha256"] in text
    assert (done / running.TABLE).read_text().count("\n| ") == 2 + 5


def made_up(arms: dict[str, list[float]], **changes: Any) -> findings.Findings:
    """Returns the findings of an experiment from its endpoints by seed."""
    named = tuple(
        Arm(name, lambda seed: [], int(name.rpartition("-")[2]), name.rpartition("-")[0]) for name in arms
    )
    given = {"endpoint": Reading("loss", "loss"), "hypotheses": (Hypothesis("H1", "a-64", "b-64"),)}
    experiment = Experiment("made-up", "?", named, **{**given, **changes})
    used = {
        (name, seed): {"figures": {"loss": value}}
        for name, values in arms.items()
        for seed, value in enumerate(values)
    }
    return findings.read(experiment, rows.Results(used, []), 5)


def test_the_sentence_follows_the_figures_whichever_way_they_fall() -> None:
    b = [1.0, 1.1, 1.2, 1.3, 1.4]
    better = made_up(
        {"a-64": [v * f for v, f in zip(b, (0.9, 0.91, 0.92, 0.9, 0.91), strict=True)], "b-64": b}
    )
    assert (
        "the loss of a-64 is 0.908 [0.898, 0.918] of that of b-64 (5 pairs, p = 0.031, 0.031"
        in better.sentence
    )
    assert better.sentence.endswith("Confirmed.") and better.comparisons[0].confirmed
    worse = made_up({"a-64": [v * 1.1 for v in b[:4]] + [1.55], "b-64": b})
    assert worse.sentence.endswith("Not confirmed: the figures show the opposite.")
    level = made_up({"a-64": [1.01, 1.09, 1.21, 1.29, 1.4], "b-64": b})
    assert level.sentence.endswith("Not confirmed.")
    turned = made_up(
        {"a-64": b, "b-64": [v / 2 for v in b]}, hypotheses=(Hypothesis("H1", "a-64", "b-64", "higher"),)
    )
    assert turned.comparisons[0].confirmed


def test_holm_counts_every_registered_hypothesis_and_too_few_pairs_are_admitted() -> None:
    hypotheses = tuple(Hypothesis(f"H{i}", "a-64", "b-64") for i in range(2))
    both = made_up({"a-64": [0.9] * 5, "b-64": [1.0] * 5}, hypotheses=hypotheses)
    assert [c.adjusted for c in both.comparisons] == [2 / 32, 2 / 32]
    assert "p = 0.062 after Holm is the least that 5 pairs can reach" in both.sentence


def test_a_run_is_larger_by_its_rows_and_not_by_its_request() -> None:
    values = {"a-64": [0.9] * 3, "b-64": [1.0] * 3}
    assert "larger" not in made_up(values, seeds=3).sentence
    assert "larger than the registered one: 3 seeds, not 2." in made_up(values, seeds=2).sentence


def test_a_comparison_of_too_few_pairs_says_so_in_a_larger_experiment() -> None:
    begun = made_up({"a-64": [0.9] * 3, "b-64": [1.0] * 5})
    least = "p = 0.125 after Holm is the least that 3 pairs can reach"
    assert f"H1 cannot be confirmed yet: {least}." in begun.sentence
    whole = made_up({"a-64": [0.9] * 5, "b-64": [1.0] * 5})
    assert "cannot be confirmed" not in whole.sentence
    three = tuple(Hypothesis(f"H{i}", "a-64", "b-64") for i in range(3))
    one_short = made_up({"a-64": [0.9] * 5, "b-64": [1.0] * 5}, hypotheses=three, seeds=6)
    assert one_short.comparisons[0].p == 1 / 32
    least = "p = 0.094 after Holm is the least that 5 pairs can reach"
    assert f"H2 cannot be confirmed yet: {least}." in one_short.sentence


def test_a_larger_run_says_so_and_figures_below_0_have_no_ratio() -> None:
    larger = made_up({"a-64": [0.9] * 5, "b-64": [1.0] * 5}, seeds=3)
    assert larger.sentence.startswith("This run is larger than the registered one: 5 seeds, not 3.")
    assert "p = 0.031 after Holm is the least" not in larger.sentence
    with pytest.raises(UserError, match="some are not above 0; give the endpoint ratio=False"):
        made_up({"a-64": [-0.1] * 5, "b-64": [1.0] * 5})


def test_a_difference_is_above_or_below() -> None:
    plain = Reading("loss", "loss", ratio=False)
    values = {"a-64": [0.1, 0.2, 0.2], "b-64": [0.3, 0.3, 0.4]}
    below = made_up(values, endpoint=plain)
    assert "the loss of a-64 is 0.167 [0.023, 0.310] below that of b-64" in below.sentence
    values = {"a-64": values["b-64"], "b-64": values["a-64"]}
    above = made_up(values, endpoint=plain)
    assert "the loss of a-64 is 0.167 [0.023, 0.310] above that of b-64" in above.sentence


def test_arms_side_by_side_get_their_figures_and_no_verdict() -> None:
    contrasts = (Contrast("a-64", "b-64"), Contrast("b-64", "c-64"))
    sides = {"hypotheses": (), "contrasts": contrasts}
    one = made_up({"a-64": [0.9], "b-64": [1.0], "c-64": []}, **sides)
    assert one.sentence == (
        "This run is smaller than the registered one: it has 2 of 15 rows. "
        "The loss of a-64 is 0.900, 0.90 of that of b-64 (1.000). "
        "The loss of b-64 and c-64 cannot be compared yet: a row is missing. One seed decides nothing."
    )
    two = made_up({"a-64": [0.9] * 2, "b-64": [1.0] * 2, "c-64": []}, **sides)
    assert "One seed" not in two.sentence
    plain = Reading("loss", "loss", ratio=False)
    assert (
        "is 0.900, 0.100 below that of b-64"
        in made_up({"a-64": [0.9], "b-64": [1.0], "c-64": []}, endpoint=plain, **sides).sentence
    )
    with pytest.raises(UserError, match="two figures of made-up have one name; give each a name of its own"):
        made_up({"a-64": [0.9], "b-64": [1.0]}, others=(plain,))
    with pytest.raises(UserError, match="made-up has no arm 'c-64'; known are a-64, b-64"):
        made_up({"a-64": [0.9], "b-64": [1.0]}, **sides)


def foreseen(x: list[float], loss: list[float]) -> findings.Findings:
    """Returns the findings of arms with a figure x and a loss each, of two equal seeds."""
    arms = tuple(Arm(f"arm-{i}", lambda seed: []) for i in range(len(x)))
    figures = Reading("loss", "loss"), (Reading("edges", "edges"),)
    experiment = Experiment("made-up", "?", arms, *figures, predictors=("edges",))
    pairs = zip(arms, x, loss, strict=True)
    used = {(arm.name, s): {"figures": {"edges": a, "loss": b}} for arm, a, b in pairs for s in (0, 1)}
    return findings.read(experiment, rows.Results(used, []), 2)


@pytest.mark.slow  # scipy
def test_a_figure_foresees_the_order_of_arms_if_few_permutations_relate_as_closely() -> None:
    straight = foreseen([1, 2, 3, 4, 5, 6], [0.9, 0.8, 0.7, 0.65, 0.6, 0.5])
    assert straight.sentence.endswith(
        "The figure 'edges' foresees the loss over 6 arms: "
        "rank correlation -1.00 [-1.00, -1.00], p = 0.003, 0.003 after Holm."
    )
    assert straight.predictions[0].p == straight.predictions[0].adjusted == 2 / 720
    mixed = foreseen([1, 2, 3, 4, 5, 6], [0.9, 0.5, 0.7, 0.6, 0.95, 0.8])
    assert "is not shown to foresee the loss over 6 arms" in mixed.sentence
    few = foreseen([1, 2], [0.9, 0.8])
    assert few.predictions[0].correlation is None and "it takes 5 arms" in few.sentence
    assert foreseen([1, 2, 3, 3, 3], [0.5] * 5).predictions[0].correlation == (0, 0, 0)
    with pytest.raises(UserError, match="has no other figure 'hue'; known are none"):
        Experiment("made-up", "?", (), Reading("loss", "loss"), predictors=("hue",))


# Tables.


def test_an_address_follows_from_words_law_and_the_steps_before() -> None:
    first = step("toy", "render", 0, OUT, law=1, seconds=5)
    assert first.address == step("toy", "render", "0", OUT, law=1, seconds=9).address
    others = [
        step("toy", "render", 1, OUT, law=1),
        step("toy", "render", 0, OUT, law=2),
        step("toy", "render", 0, table.PICTURE, law=1),
    ]
    assert len({first.address, *(other.address for other in others)}) == 4
    readers = [step("toy", "train", source, OUT, law=1) for source in (first, others[0], first / "train")]
    assert len({reader.address for reader in readers}) == 3
    assert readers[2].line == f"python -m toy train {first.makes}/train {readers[2].makes}"
    assert table.chain([readers[0], readers[2]]) == [first, readers[0], readers[2]]


def test_the_name_of_a_step_leaves_places_and_outputs_out() -> None:
    first = step("toy", "render", OUT, law=1)
    assert first.name == f"toy-render-{first.address[:12]}"
    for second in (first, OUT, "/data/set.json"):
        later = step("toy", second, law=1)
        assert later.name == f"toy-{later.address[:12]}"


def test_a_command_of_a_stage_has_the_laws_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    from synth.families import fractals

    before = step("synth", "shards", "fractals", "--n", 10, "--out", OUT).address
    monkeypatch.setattr(fractals, "LAW", fractals.LAW + 1)
    assert step("synth", "shards", "fractals", "--n", 10, "--out", OUT).address != before
    with pytest.raises(
        UserError, match="'toy render' is no command of synth, data, caption, train, evaluate"
    ):
        step("toy", "render")
    with pytest.raises(UserError, match="evaluate table measures nothing; a step may have agreement, "):
        step("evaluate", "table", 1)


@pytest.mark.slow
def test_the_law_of_a_run_has_the_resolved_settings_of_its_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    from train import presets

    def address(*more: str) -> str:
        return step("train", "pretrain", "diffusion-32", "--live", "fractals", *more, "--out", OUT).address

    before = address()
    assert address(*table.settings("run.workers=0")) != before != address(*table.settings("training.seed=1"))
    preset = presets.PRESETS["diffusion-32"]
    changes = {**preset.changes, "training.lr": 1e-3}
    monkeypatch.setitem(
        presets.PRESETS, "diffusion-32", presets.Preset(**{**vars(preset), "changes": changes})
    )
    assert address() != before


# Bad input.


def test_bad_requests_are_refused_before_anything_is_written(file: Path, done: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/experiment.json").write_text('{"experiment": "worth"}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").touch()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/experiment.json").write_text("{")
    out = tmp_path / "out"
    for refused, sentence in (
        (request(file, out, seeds=1), "--seeds is 1; an interval needs at least 2"),
        (request(file, out, arms=("scratch-31",)), "toy has no arm 'scratch-31'; known are scratch-32, scr"),
        (request(file, tmp_path / "other"), "other holds the experiment worth; give another --out"),
        (request(file, tmp_path / "full"), "is not empty and holds no experiment"),
        (request(file, tmp_path / "torn"), "torn/experiment.json is damaged; give another --out"),
        (request(file, out, seeds=25), "--seeds is 25; the exact test takes at most 24"),
        (request(file, file), "is a file; give a folder as --out"),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            list(running.run(refused))
    assert not out.exists() and len(list((tmp_path / "full").iterdir())) == 1
    with pytest.raises(UserError, match="there is no experiment 'nothing'; known are "):
        command.load("nothing")
    with pytest.raises(UserError, match="has no arm 'scratch-65'"):
        command.load(str(toy(tmp_path / "wrong", other="scratch-65")))
    with pytest.raises(UserError, match="the claim of H1 is 'less'; give lower or higher"):
        Hypothesis("H1", "a", "b", "less")
    with pytest.raises(UserError, match="best of the figure 'loss' is 'least'; give lowest or highest"):
        Reading("loss", "loss", "least")
    (tmp_path / "five.py").write_text("EXPERIMENT = 5")
    with pytest.raises(UserError, match=r"five\.py holds no EXPERIMENT"):
        command.load(str(tmp_path / "five.py"))


def test_a_hypothesis_that_was_changed_afterwards_is_refused_with_the_difference(
    file: Path, done: Path, tmp_path: Path
) -> None:
    changed = request(toy(tmp_path, other="scratch-128"), done)
    with pytest.raises(UserError, match=r'hypotheses was .*"scratch-64".* and is .*"scratch-128".*; restore'):
        list(running.run(changed))
    path = tmp_path / registration.NAME
    path.write_text((done / registration.NAME).read_text().replace("scratch-64", "scratch-32"))
    with pytest.raises(UserError, match="was changed after its registration: its sha256 differs"):
        registration.read(command.load(str(file))[0], path)


# Ray, kills, and an experiment of several workers.


def begin(file: Path, out: Path, workers: int, seconds: float) -> Any:
    words = [sys.executable, "-m", "evaluate", "experiment", str(file), "--out", str(out)]
    words += ["--seeds", str(SEEDS), "--workers", str(workers)]
    return start(words, cwd=ROOT, TOY_SECONDS=str(seconds))


@pytest.mark.soak
def test_two_workers_on_ray_give_the_rows_and_the_page_of_one(file: Path, done: Path, tmp_path: Path) -> None:
    process = begin(file, tmp_path / "out", 2, 0)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert stated(tmp_path / "out") == stated(done) and page(tmp_path / "out") == page(done)
    assert json.loads(output.splitlines()[-1])["shows"]


@pytest.mark.soak
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_points_it_ends_with_the_same_rows_and_page(
    file: Path, done: Path, tmp_path: Path, workers: int
) -> None:
    out, chance = tmp_path / "out", random.Random(workers)
    for _ in range(6):
        before, process = len(list((out / "steps").glob("*.json"))), begin(file, out, workers, 0.15)
        while process.poll() is None and len(list((out / "steps").glob("*.json"))) <= before:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1.5))
        kill_driver(process)
    process = begin(file, out, workers, 0)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert stated(out) == stated(done) and page(out) == page(done)


@pytest.fixture(autouse=True, scope="module")
def ended() -> Iterator[None]:
    yield
    performing.stop()
