"""Edits of scenes with their truth: evaluate/judge/scene_edits.py and evaluate/edits.py."""

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate import edits
from evaluate.cli import app
from evaluate.distances.psnr import psnr
from evaluate.judge import fresh, scene_edits, scene_prompts, seeing
from synth.errors import UserError
from tests.kit import invoke, json_lines
from train.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawn() -> list[scene_edits.SceneEdit]:
    return list(islice(scene_edits.drawn("scenes_flat", (3, 6), 32), 18))


def test_an_edit_changes_one_fact_of_its_prompt_and_its_render(drawn: list[scene_edits.SceneEdit]) -> None:
    for edit in drawn:
        before, after = ((picture.params, picture.facts) for picture in (edit.before, edit.after))
        fact = edit.changed._replace(subject=edit.numbers.get(edit.changed.subject, -1))
        assert fact not in before[1] and before[0] != after[0]

        # The truth at the size of prompts, in which small objects are seen.
        assert fact in fresh.rendered(after[0], scene_prompts.SIDE).facts
        assert str(fact.value) in edit.edited.split() and str(fact.value) not in edit.source.split()
        assert 0 < edit.mask.mean() < 1


def test_kinds_of_edits_come_in_turn(drawn: list[scene_edits.SceneEdit]) -> None:
    assert [edit.kind for edit in drawn[::2]] == [edit.kind for edit in drawn[1::2]]
    assert [edit.kind for edit in drawn[:6:2]] == list(scene_edits.KINDS)
    for edit in drawn:
        added = len(edit.edited.split()) - len(edit.source.split())
        assert added in (-1, 0, 1) if edit.kind == "replace" else added in (1, 2)
        assert bool(edit.weights) == (edit.kind == "reweight")


def test_edits_follow_from_the_seed(drawn: list[scene_edits.SceneEdit]) -> None:
    def prompts(seed: int) -> list[str]:
        return [edit.edited for edit in islice(scene_edits.drawn("scenes_flat", (3, 6), 32, seed=seed), 4)]

    assert prompts(0) == [edit.edited for edit in drawn[:4]] != prompts(1)
    with pytest.raises(UserError, match="have no edit of kind refine; give more --facts"):
        list(islice(scene_edits.drawn("scenes_flat", (1,), 32), 2))


# Figures.


def test_psnr_is_that_of_the_kept_pixels() -> None:
    before, after, kept = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 10, np.uint8), np.eye(4) > 0
    assert psnr(before[kept], after[kept]) == pytest.approx(20 * math.log10(25.5))
    after[kept] = 0
    assert psnr(before[kept], after[kept]) == pytest.approx(10 * math.log10(255**2 * 12))


def test_a_mean_of_one_edit_has_no_interval() -> None:
    assert edits._mean_row("m", np.array([3.0, math.nan]), {})["interval"] is None
    assert edits._mean_row("m", np.array([3.0, 5.0]), {})["interval"] == [2.04, 5.96]


def test_words_of_one_scene_count_as_one() -> None:
    by_scene = [[value] for value in np.random.default_rng(0).random(40)]
    alone = edits._row_by_scene("m", by_scene)
    mean = edits._mean_row("m", np.concatenate(by_scene), {})
    assert alone == mean
    repeated = edits._row_by_scene("m", [each * 3 for each in by_scene])
    assert repeated["interval"] == alone["interval"] and repeated["n"] == 120
    assert edits._row_by_scene("m", [[0.5, 0.7]])["interval"] is None


def test_auc_counts_ordered_pairs() -> None:
    inside, outside = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    pairs = [(i > o) + 0.5 * (i == o) for i in inside for o in outside]
    assert edits.auc(inside, outside) == pytest.approx(np.mean(pairs))


@pytest.mark.slow
def test_what_stays_of_a_drawn_picture_lies_outside_of_the_changed_object(
    drawn: list[scene_edits.SceneEdit],
) -> None:
    """A render stands for a drawn picture: its true mask is known."""
    for edit in drawn:
        [seen] = seeing.see(edit.before.pixels[None], "scenes_flat")
        kept = edits.kept_of_drawn(edit, edit.before.pixels, seen, {})
        assert kept is not None
        if edit.changed.type in ("colour", "backdrop"):
            assert edit.mask[kept].mean() < 0.1
        assert kept.mean() > 0.01


# The command.


def figures(rows: list[dict[str, Any]], **wanted: object) -> dict[str, float]:
    """Returns the values of rows by metric, of the rows with these entries and without a `minus`."""
    return {
        row["metric"]: row["value"]
        for row in rows
        if "minus" not in row and all(row.get(name) == value for name, value in wanted.items())
    }


def test_no_injection_is_the_noise_under_the_new_prompt(squares: Run) -> None:
    command = ["edits", squares.path, "--n", "3", "--facts", "3", "--draw", "steps=2"]
    rows = json_lines(invoke(app, *command))
    none = figures(rows, method=edits.EDITED, kind="all", cross=0.0)
    assert none == pytest.approx(figures(rows, method=edits.INVERTED, kind="all"), abs=0.02)
    assert none.keys() == {"edits: background PSNR", "edits: changed fact", "edits: unchanged facts"}

    # The judge sees the facts of renders; shares are those of the table; the run keeps its figures.
    assert all(value > 0.5 for value in figures(rows, method=edits.RENDERS, kind="all").values())
    assert {row["cross"] for row in rows if "cross" in row} == set(edits.SHARES)
    differences = [row for row in rows if row["metric"] == "edits: difference in background PSNR"]
    assert {(row["minus"], row["kind"]) for row in differences} == {
        (method, kind) for method in (edits.INVERTED, edits.SEEDED) for kind in ("all", *scene_edits.KINDS)
    }
    assert [row for row in json_lines(squares.path / "metrics.jsonl") if "edits" in row["metric"]] == rows


@pytest.mark.soak
def test_edits_of_drawn_pictures_are_compared_with_them(squares: Run) -> None:
    command = ["edits", squares.path, "--n", "3", "--facts", "3", "--source", "drawn", "--draw", "steps=2"]
    rows = json_lines(invoke(app, *command))
    assert {row["method"] for row in rows if "method" in row} == {edits.EDITED, edits.SEEDED}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--source", "x"], "--source is x; it must be rendered or drawn"),
        (["--source", "drawn", "--on", "scenes"], "--source drawn needs flat scenes"),
        (["--facts", "9"], "--facts is 9"),
    ],
)
def test_other_requests_are_refused(tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        invoke(app, "edits", tmp_path, *words, raising=True)
