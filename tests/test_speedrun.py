"""Records of the speedrun: in time, better, and on as many prompts."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from evaluate.experiments import speedrun
from synth.errors import UserError
from tests.kit import json_lines

BEFORE = {"score": 0.445, "scores": [0.44, 0.45, 0.43, 0.46], "n": 128}


def rows(scores: list[float], *, seconds: float = 100.0, n: int = 128) -> list[dict[str, Any]]:
    """Returns a row for each score."""
    facts = dict.fromkeys(speedrun.FACTS, 0.5)
    return [{"score": score, **facts, "cpu_seconds": seconds, "n": n} for score in scores]


@pytest.mark.slow  # scipy
@pytest.mark.parametrize(
    ("scores", "changes", "reason"),
    [
        ([0.6, 0.61, 0.62], {}, ""),
        ([0.45, 0.44, 0.46], {}, "p is 0.29"),
        ([0.6, 0.61, 0.62], {"seconds": 121.0}, "a run took 121.0 CPU seconds, and 120 are allowed"),
        ([0.6, 0.61, 0.62], {"n": 8}, "the score is of 8 prompts of each number of facts, not 128"),
    ],
)
def test_a_record_is_in_time_better_and_on_as_many_prompts(
    scores: list[float], changes: dict[str, Any], reason: str
) -> None:
    result = speedrun.summary(rows(scores, **changes), BEFORE)
    assert result["reason"].startswith(reason) and result["is_record"] == (not reason)
    assert speedrun.summary(rows(scores, n=8), None)["is_record"]


def test_seeds_are_those_of_the_speedrun_and_runs_that_exist_are_refused_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speedrun, "_trained", lambda *arguments: pytest.fail("a run was trained"))
    command, words = typer.main.get_command(speedrun.app), ["--out", str(tmp_path)]
    with pytest.raises(UserError, match=r"--set training\.seed=5 has no use: each run has a seed of its own"):
        command([*words, "--set", "training.seed=5"], standalone_mode=False)
    (tmp_path / "2").mkdir()
    with pytest.raises(UserError, match="2 exists; remove it, or give another --out"):
        command(words, standalone_mode=False)


@pytest.mark.slow  # scipy
def test_a_record_is_added_and_anything_else_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps(BEFORE) + "\n")
    monkeypatch.setattr(speedrun, "RECORDS", records)
    command = typer.main.get_command(speedrun.app)
    for scores, kept in (([0.44, 0.45], 1), ([0.6, 0.601, 0.602], 2)):
        monkeypatch.setattr(speedrun, "_runs", lambda request, scores=scores: iter(rows(scores)))
        words = ["--out", str(tmp_path / "runs"), "--record", "a change"]
        if kept == 1:
            with pytest.raises(UserError, match=r"this is no record: p is .* leave --record out"):
                command(words, standalone_mode=False)
        else:
            command(words, standalone_mode=False)
        assert len(json_lines(records)) == kept
    assert json_lines(records)[1]["change"] == "a change" and json_lines(records)[1]["n"] == 128
