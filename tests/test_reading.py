"""Reading of facts: false texts, the closed form, and a run that knows colours and no directions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluate import reading
from evaluate.cli import app
from tests import kit_squares
from tests.kit import invoke, json_lines, refusal


def test_a_false_text_differs_from_the_true_one_in_one_fact() -> None:
    scenes = reading.drawn("scenes_flat", 6, 12, 16)
    assert scenes.pictures.shape == (12, 3, 16, 16)
    assert set(scenes.false) == {"backdrop", "colour", "kind", "relation"}
    for kind, (numbers, texts) in scenes.false.items():
        assert len(numbers) == len(texts) and numbers == sorted(set(numbers))
        for number, text in zip(numbers, texts, strict=True):
            true, false = scenes.texts[number].split(), text.split()
            if kind != "relation":  # "above" has one word, "left of" two
                assert sum(a != b for a, b in zip(true, false, strict=True)) in (1, 2)  # "a" or "an"
            assert true != false


def test_the_rise_of_a_denoiser_that_is_wrong_by_a_known_step() -> None:
    x, noise = torch.zeros(5, 3, 4, 4), torch.zeros(5, 3, 4, 4)

    def wrong(step: float) -> np.ndarray:
        def denoised(noised: Tensor, sigma: float, rows: list[int]) -> Tensor:
            return torch.full_like(noised, step)

        return reading._losses(denoised, x, noise, [0, 2, 4])

    row = reading.row("kind", wrong(0.1), wrong(0.2))
    weights = [(sigma**2 + 0.25) / (0.25 * sigma**2) for sigma in reading.LEVELS]
    assert list(row["by_level"].values()) == pytest.approx([0.03 * w for w in weights], abs=1e-4)
    assert row["value"] == row["low"] == row["high"] == pytest.approx(0.03 * np.mean(weights), abs=1e-4)

    # One scene has no interval.
    single = reading.row("kind", wrong(0.1)[:1], wrong(0.2)[:1])
    assert single["value"] == row["value"] and single["low"] is single["high"] is None


@pytest.mark.slow
def test_a_run_reads_the_words_that_it_knows_alone(tmp_path: Path) -> None:
    run = kit_squares.trained(tmp_path / "run")
    words = ("reading", str(run.path), "--n", "8", "--device", "cpu")
    first = {row["metric"]: row for row in json_lines(invoke(app, *words))}
    assert first["reading: relation"]["value"] == 0  # all its words are unknown to the run
    assert {row["facts_of_texts"] for row in first.values()} == {6}
    assert first["reading: colour"]["value"] != 0
    again = {row["metric"]: row for row in json_lines(invoke(app, *words, "--curve"))}
    assert again == first
    refused = refusal(app, "python -m evaluate", *words, "--curve", "--images-seen", "12")
    assert refused == "error: --curve measures every checkpoint, so --images-seen has no use; leave one out"
