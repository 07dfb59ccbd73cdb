"""Concepts with a known answer: evaluate/judge/scene_concepts.py and evaluate/concepts.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate import concepts, prompts
from evaluate.cli import PROGRAM, app
from evaluate.concepts import ConceptsRequest, _Measuring
from evaluate.judge import scene_concepts, scoring, seeing
from evaluate.judge.scene_concepts import Concept
from synth.errors import UserError
from synth.families import scene_world
from tests import kit_squares
from tests.kit import invoke, json_lines, refusal
from train.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def everything(text: str) -> bool:
    """Knows all words."""
    return bool(text)


def drawn(n: int = 8, seed: int = 0, facts: tuple[int, ...] = (3, 6), **changes: Any) -> list[Concept]:
    sizes = {"pictures": 2, "facts": facts, "prompts": 2, "seed": seed, **changes}
    return scene_concepts.drawn(changes.pop("name", "scenes_flat"), everything, n, 32, **sizes)


def test_held_out_concepts_come_first_and_once() -> None:
    chosen = drawn()
    names = [concept.name for concept in chosen]
    assert [concept.held_out for concept in chosen] == [True] * 6 + [False] * 2
    assert len(set(names)) == 8
    assert [concept.name for concept in drawn(3)] == names[:3]
    assert [concept.name for concept in drawn(3, seed=1)] != names[:3]


def test_pictures_show_the_concept_and_prompts_are_true_of_their_scenes() -> None:
    for concept in drawn(4):
        for pixels in (concept.pictures, concept.others):
            for [thing] in (seen.objects for seen in seeing.see(pixels, "scenes_flat")):
                assert (thing.kind, thing.colour) == (concept.kind, concept.colour)
        assert (concept.pictures != concept.others).any()
        for prompt, seen in zip(concept.prompts, seeing.see(concept.scenes, "scenes_flat"), strict=True):
            assert scoring.score(seen, prompt.facts, closed=True).whole
            values = [fact.value for fact in prompt.facts if scene_concepts.of_concept(fact)]
            assert values == [concept.kind, concept.colour]


@pytest.mark.parametrize("facts", scene_concepts.FACTS)
def test_a_phrase_stands_for_the_name_alone(facts: int) -> None:
    for concept in drawn(2, facts=(facts,)):
        for prompt, changed in zip(concept.prompts, concept.prompted("a <thing>"), strict=True):
            assert prompt.prompt.startswith(concept.name) and concept.name.endswith(concept.noun)
            assert changed == f"a <thing>{prompt.prompt.removeprefix(concept.name)}"
            assert len(prompt.facts) == facts


@pytest.mark.slow
def test_the_rest_of_a_prompt_says_nothing_of_the_concept_and_keeps_to_its_split() -> None:
    held = scene_world.held_out(0)
    for concept in drawn(8, facts=(6,), prompts=12):
        for prompt in concept.prompts:
            others = {fact.value for fact in prompt.facts if fact.subject == 1}
            assert not others & {concept.kind, concept.colour}
            combinations = scene_concepts.scene_prompts.shows(prompt.facts) & held
            assert combinations == ({scene_world.Pair(concept.kind, concept.colour)} & held)


def test_concepts_have_names_that_the_run_knows() -> None:
    def of(*words: str) -> Any:
        return lambda text: set(text.split()) <= {"a", "an", "on", *words}

    colours = list(scene_world.PALETTE)
    sizes: dict[str, Any] = {"pictures": 2, "facts": (3,), "prompts": 1}
    chosen = scene_concepts.drawn("scenes_flat", of("star", *colours[:4]), 4, 32, **sizes)
    assert {concept.kind for concept in chosen} == {"star"}
    assert all(concept.prompts[0].prompt.split()[-1] in colours[:4] for concept in chosen)
    with pytest.raises(UserError, match="knows the names of 4 concepts of scenes_flat; give --n of at most"):
        scene_concepts.drawn("scenes_flat", of("star", *colours[:4]), 5, 32, **sizes)
    with pytest.raises(UserError, match="knows no names of concepts of scenes_flat; give a run that was"):
        scene_concepts.drawn("scenes_flat", of("dog"), 2, 32, **sizes)


# Figures.


class Learner:
    """Draws the renders of the concepts, whatever its prompts."""

    side = 32

    def __init__(self, chosen: list[Concept]) -> None:
        self._chosen = chosen

    def drawn(self, prompts: list[str], seed: int, first: int) -> np.ndarray:
        concept = self._chosen[first // len(prompts)]
        alone = concept.pictures[np.arange(len(prompts) - len(concept.scenes)) % len(concept.pictures)]
        return np.concatenate([alone, concept.scenes])


def test_a_copy_of_the_renders_has_their_figures() -> None:
    """Class and fidelity are 1, and a word that copies its pictures is no more similar than they are."""
    from evaluate import detectors

    chosen = drawn(2)
    request = ConceptsRequest("none", n=2, prompts=2, pictures=2)
    learner: Any = Learner(chosen)
    measuring = _Measuring(request, learner, detectors.load("pixels:32"))
    for number, concept in enumerate(chosen):
        renders = measuring._of_renders(concept)
        assert renders[1:] == (1.0, 1.0, 1.0) and 0 < renders[0] < 1
        copied = measuring._of_phrase(learner, number, concept, "a <thing>")
        assert copied == pytest.approx(renders)


def test_rows_are_means_over_concepts_with_paired_differences() -> None:
    outcomes = {
        method: {name: [value, value + 0.1, value + 0.5] for name in concepts.FIGURES}
        for method, value in ((concepts.INITIAL, 0.1), ("row", 0.3), ("keys", 0.2), ("renders", 0.5))
    }
    one, two, three = drawn(3)
    rows = concepts.table(outcomes, [one, replace(two, held_out=False), three])
    values = {(r["metric"], r["method"], r["split"]): (r["value"], r["n"]) for r in rows if "minus" not in r}
    assert values["concepts: class alone", "row", "all"] == (pytest.approx(0.5), 3)
    assert values["concepts: class alone", "row", "held_out"] == (pytest.approx(0.55), 2)
    assert {row["split"] for row in rows} == {"all", "held_out"}  # one seen concept has no interval
    differences = {
        (r["metric"], r["method"], r["minus"]): r for r in rows if "minus" in r and r["split"] == "all"
    }
    row = differences["concepts: difference in fidelity", "row", concepts.INITIAL]
    assert row["value"] == pytest.approx(0.2) and row["interval"] == pytest.approx([0.2, 0.2])
    row = differences["concepts: difference in fidelity", "keys", "row"]
    assert row["value"] == pytest.approx(-0.1)


def test_a_run_of_words_alone_was_trained_towards_no_encoder(scenes: Run) -> None:
    encoder = {"encoder": {"name": "nano", "digest": "0"}}
    alone = replace(scenes, metadata={**scenes.metadata, **encoder})
    config = {**scenes.metadata["config"]}
    config["training"] = {**config["training"], "drop_vector": 0.5}
    both = replace(alone, metadata={**alone.metadata, "config": config})
    assert [len(prompts.notes_of(run, "0")) for run in (scenes, alone, both)] == [0, 0, 1]
    assert not prompts.notes_of(both, "1")


# The command.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has seen squares, with a vocabulary that names some scenes."""
    words = ("a", "an", "on", "square", "star", *scene_world.PALETTE)
    return kit_squares.trained(tmp_path_factory.mktemp("scenes") / "run", survey=words, steps=2)


@pytest.mark.slow
def test_a_word_that_learns_nothing_is_its_initial_word(scenes: Run, tmp_path: Path) -> None:
    command = [
        "concepts",
        scenes.path,
        "--n",
        "3",
        "--facts",
        "3",
        "--prompts",
        "2",
        "--detector",
        "pixels:8",
    ]
    command += ["--draw", "steps=2"]
    still = ("--set", "lr=1e-12", "--set", "steps=1", "--out", tmp_path / "plot.png")
    rows = json_lines(invoke(app, *command, *still))
    figures = {
        (r["metric"], r["method"]): r["value"] for r in rows if r["split"] == "all" and "minus" not in r
    }
    methods = ("renders", "initial word", "name", "row", "keys")
    assert figures.keys() == {(f"concepts: {name}", each) for name in concepts.FIGURES for each in methods}
    for name in concepts.FIGURES:
        initial = figures[f"concepts: {name}", "initial word"]
        assert [figures[f"concepts: {name}", method] for method in ("row", "keys")] == [initial] * 2
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    # The run keeps the rows, and they follow from the request.
    kept = [row for row in json_lines(scenes.path / "metrics.jsonl") if "concepts" in row["metric"]]
    assert kept == rows == json_lines(invoke(app, *command, *still))
    assert rows[0]["inversion"]["steps"] == 1 and len(rows[0]["values"]) == 3

    # A word that learns is another one.
    learned = json_lines(invoke(app, *command, "--set", "lr=0.1", "--set", "steps=20"))
    difference = next(row for row in learned if row.get("minus") == concepts.INITIAL)
    assert difference["value"] != 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--facts", "2,3"], "--facts has 2; prompts of concepts state 3 to 6 facts"),
        (["--facts", "7"], "--facts has 7; prompts of concepts state 3 to 6 facts"),
        (["--set", "method=keys"], "--set method=keys has no use: both methods are measured"),
        (["--n", "40"], "knows the names of 22 concepts of scenes_flat; give --n of at most that"),
        (["--on", "fractals"], "the judge was not examined on fractals; give scenes or scenes_flat"),
        (["--draw", "guidance=1e300"], "it must lie in 0..100"),
        (["--draw", "guidance=-1"], "it must lie in 0..100"),
        (["--draw", "least-guided=x"], "it must be a number"),
        (["--out", "plot.jpg"], "--out is plot.jpg; it must end in .png"),
    ],
    ids=[
        "two facts",
        "seven facts",
        "a method",
        "too many",
        "another family",
        "guidance above",
        "guidance below",
        "a name with a dash",
        "no PNG",
    ],
)
def test_what_cannot_be_measured_is_refused(scenes: Run, options: list[str], sentence: str) -> None:
    command = ["concepts", scenes.path, "--detector", "pixels:8", "--facts", "3", *options]
    assert sentence in refusal(app, PROGRAM, *command)
