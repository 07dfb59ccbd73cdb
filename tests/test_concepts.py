"""Concepts with a known answer: evaluate/judge/scene_concepts.py and evaluate/concepts.py."""

from pathlib import Path

import numpy as np
import pytest

from caption.sentences.scene_phrases import NOUNS
from evaluate import concepts
from evaluate.cli import app
from evaluate.judge import scene_concepts, scoring, seeing
from evaluate.judge.scene_concepts import Concept
from synth.errors import UserError
from tests.kit import invoke, json_lines
from train.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = {nouns[0] for nouns in NOUNS.values()}


def drawn(n: int = 8, nouns: set[str] = ALL, seed: int = 0) -> list[Concept]:
    words = {"pictures": 2, "facts": (3, 6), "prompts": 2}
    return scene_concepts.drawn("scenes_flat", nouns, n, 32, seed=seed, **words)  # type: ignore[arg-type]


def test_held_out_concepts_come_first_and_once() -> None:
    chosen = drawn()
    assert [concept.held_out for concept in chosen] == [True] * 6 + [False] * 2
    assert len({(concept.kind, concept.colour) for concept in chosen}) == 8
    assert [c.name for c in drawn(3)] == [c.name for c in chosen[:3]] != [c.name for c in drawn(3, seed=1)]


def test_pictures_show_the_concept_and_prompts_are_true_of_their_scenes() -> None:
    for concept in drawn(4):
        for [thing] in (seen.objects for seen in seeing.see(concept.pictures, "scenes_flat")):
            assert (thing.kind, thing.colour) == (concept.kind, concept.colour)
        for prompt, seen in zip(concept.prompts, seeing.see(concept.scenes, "scenes_flat"), strict=True):
            assert scoring.score(seen, prompt.facts, closed=True).whole
            assert [fact.value for fact in prompt.facts if scene_concepts.of_concept(fact)] == [
                concept.kind,
                concept.colour,
            ]


def test_a_phrase_stands_for_the_name_alone() -> None:
    for concept in drawn(4):
        for prompt, changed in zip(concept.prompts, concept.prompted("a <thing>"), strict=True):
            assert prompt.prompt.startswith(concept.name) and concept.name.endswith(concept.noun)
            assert changed == f"a <thing>{prompt.prompt.removeprefix(concept.name)}"


def test_too_many_concepts_or_too_few_facts_are_refused() -> None:
    with pytest.raises(UserError, match="has 11 concepts with nouns that the run knows; give --n of at most"):
        drawn(12, {"star"})
    with pytest.raises(UserError, match="--facts has 2; prompts of concepts state three facts or more"):
        scene_concepts.drawn("scenes_flat", ALL, 2, 32, pictures=2, facts=(2,), prompts=1)


def test_rows_are_means_over_concepts_with_paired_differences() -> None:
    outcomes = {
        method: {name: [value, value + 0.1, value + 0.5] for name in concepts.FIGURES}
        for method, value in ((concepts.INITIAL, 0.1), ("row", 0.3), ("keys", 0.2), ("renders", 0.5))
    }
    rows = concepts.table(outcomes, [True, False, True])
    values = {(r["metric"], r["method"], r["split"]): (r["value"], r["n"]) for r in rows if "minus" not in r}
    assert values["concepts: class", "row", "all"] == (pytest.approx(0.5), 3)
    assert values["concepts: class", "row", "held_out"] == (pytest.approx(0.55), 2)
    assert {row["split"] for row in rows} == {"all", "held_out"}  # one seen concept has no interval
    differences = {(r["metric"], r["method"]): r for r in rows if "minus" in r and r["split"] == "all"}
    row = differences["concepts: difference in fidelity", "row"]
    assert row["value"] == pytest.approx(0.2) and row["interval"] == pytest.approx([0.2, 0.2])


@pytest.mark.slow
def test_a_word_that_learns_nothing_is_its_initial_word(squares: Run, tmp_path: Path) -> None:
    command = [
        "concepts",
        squares.path,
        "--n",
        "2",
        "--facts",
        "3",
        "--prompts",
        "2",
        "--detector",
        "pixels:8",
    ]
    still = ("--set", "lr=1e-12", "--set", "steps=1", "--draw", "steps=2", "--out", tmp_path / "plot.png")
    rows = json_lines(invoke(app, *command, *still))
    figures = {
        (r["metric"], r["method"]): r["value"] for r in rows if r["split"] == "all" and "minus" not in r
    }
    methods = ("renders", "initial word", "name", "row", "keys")
    assert figures.keys() == {(f"concepts: {name}", each) for name in concepts.FIGURES for each in methods}
    for name in concepts.FIGURES:
        learned = [figures[f"concepts: {name}", method] for method in ("row", "keys")]
        assert learned == [figures[f"concepts: {name}", "initial word"]] * 2
    assert [row for row in json_lines(squares.path / "metrics.jsonl") if "concepts" in row["metric"]] == rows
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    # A word that learns is another one.
    taught = json_lines(invoke(app, *command, "--set", "lr=0.1", "--set", "steps=20", "--draw", "steps=2"))
    changes = [
        r["value"] for r in taught if r.get("minus") and r["metric"] == "concepts: difference in similarity"
    ]
    assert np.abs(changes).min() > 0
