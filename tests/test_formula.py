"""The making of the shipped model formula-32."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from evaluate.experiments import formula


def parsed(words: tuple[str, ...]) -> str:
    """Parses a command of a stage without running it. Returns its name."""
    group: Any = typer.main.get_command(importlib.import_module(f"{words[0]}.cli").app)
    command = group.commands[words[1]]
    command.make_context(words[1], list(words[2:]))
    return f"{words[0]} {words[1]}"


def test_every_step_is_a_command_of_its_stage() -> None:
    names = [parsed(step.words) for step in formula.steps("runs/x", "runs/y", 64, 8)]
    sets = 4 * ["synth shards", "caption captions"]
    assert names == [
        *sets,
        *("train pretrain", "train finetune", "evaluate obedience", "evaluate obedience"),
        *("evaluate agreement", "train export"),
    ]
    assert all(sum(shares.values()) < 1 for shares in (formula._MIXTURE, formula._PLAIN))


def test_figures_are_measured_once_at_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert formula._measured(str(run)) == set()
    (run / "checkpoints" / "000000016").mkdir(parents=True)
    (run / "checkpoints" / "000000016" / "COMMITTED").write_text("{}")
    metadata: dict[str, Any] = {"config": {}, "shards": {}, "captions": None, "encoder": None}
    (run / "config.json").write_text(json.dumps(metadata))
    rows = [
        {"images_seen": 8, "metric": "a", "value": 1},
        {"images_seen": 16, "metric": "b", "set": "scenes"},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert formula._measured(str(run)) == {("b", "scenes")}

    # A finished figure is left out, every other step is run.
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(formula, "_run", ran.append)
    monkeypatch.setattr(formula, "_measured", lambda out: {("obedience: whole prompts of 6 facts", "scenes")})
    formula.formula(str(run), None, None, 8)
    assert [words[3] for words in ran if words[1] == "obedience"] == ["--on"]
    assert len(ran) == len(list(formula.steps(str(run), "", None, 8))) - 1
