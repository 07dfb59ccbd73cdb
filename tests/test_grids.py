"""Grids of real pictures beside those that a run draws of their captions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluate import prompts
from evaluate.cli import app
from evaluate.prompts import GridRequest
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import invoke, refusal

QUICK = ("--draw", "text=words", "--draw", "steps=1", "--device", "cpu")


def test_samples_are_spread_over_the_whole_set(undisturbed: Path) -> None:
    whole = ShardSet(str(undisturbed))
    every = [sample.key for shard in whole.shards for sample in whole.read(shard)]
    assert [sample.key for sample in prompts.spread(ShardSet(str(undisturbed)), 4)] == every[5::10]
    assert [sample.key for sample in prompts.spread(ShardSet(str(undisturbed)), len(every))] == every
    with pytest.raises(UserError, match="holds 40 pictures, so 41 cannot be shown; give another --n"):
        prompts.spread(ShardSet(str(undisturbed)), 41)


@pytest.mark.slow
def test_each_real_picture_stands_beside_the_drawn_one(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    words = ("grid", "formula-32", "--on", undisturbed, "--n", 5, *QUICK, "--out", out)
    assert '"pictures": 5' in invoke(app, *words).output
    sheet, first = np.asarray(Image.open(out)), out.read_bytes()
    real = prompts.spread(ShardSet(str(undisturbed)), 5)[0].pixels
    assert np.array_equal(sheet[8 : 8 + 96 : 3, 8 : 8 + 96 : 3], real)
    assert not np.array_equal(sheet[8 : 8 + 96 : 3, 112 : 112 + 96 : 3], real)
    invoke(app, *words)
    assert out.read_bytes() == first
    invoke(app, *words, "--seed", 1)
    assert out.read_bytes() != first


def test_a_grid_that_cannot_be_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    words = ("evaluate", "grid", "formula-32", "--on", undisturbed)
    assert "--out is grid.jpg; it must end in .png" in refusal(app, *words, "--out", "grid.jpg")
    with pytest.raises(UserError, match="holds 40 pictures"):
        list(prompts.pairs(GridRequest("formula-32", str(undisturbed), n=41)))
