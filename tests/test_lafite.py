"""The preset lafite-256 is LAFITE's program: whole steps in float64, and each of its laws."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from synth.errors import UserError
from tests import kit_lafite as kit
from train import config, presets
from train.models import latents, layers, losses, stylegan2
from train.models.latents import Square

FIXTURES = Path(__file__).parent / "fixtures/lafite_33_steps"
PHASES = {"g": "Gmain", "path": "Greg", "d": "Dmain", "r1": "Dreg"}
OTHER_VALUES = {  # the other value of each law of the program
    "model.mbstd_order": "consecutive",
    "loss.projection": "sample",
    "loss.contrast": "softmax",
    "loss.view": "whole",
    "loss.path_mean": "before",
    "loss.cond_weight": 5.0,
    "training.mixing_cutoff": "sample",
    "training.texts": "network",
    "training.path_samples": "even",
    "training.unreached": "skip",
    "training.ema_clock": "after",
    "training.ema_ramp_up": 0.0,
}
SHORT = ("training.texts",)  # the others are tried by `make soak`

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random numbers of the program's runs."""
    kit.draws_of_the_program(monkeypatch)


@cache
def golden(run: str) -> Any:
    return json.loads((FIXTURES / f"{run}.json").read_text())


def shapes(run: str) -> dict[str, dict[str, list[int]]]:
    names = golden(run).get("names") or golden("captions")["names"]
    return {network: dict(names[network]) for network in ("G", "D")}


def steps(
    run: str, count: int, changes: dict[str, Any] | None = None
) -> Iterator[tuple[kit.Recorded, dict[str, float]]]:
    """Yields the trainer and the losses of its phases after each step."""
    recipe = kit.RECIPES[run]
    trainer = kit.trainer(recipe, shapes(run), changes or {})
    for t in range(count):
        terms = trainer.step(kit.batch(recipe, t, trainer.model.wanted.vectors))
        yield trainer, kit.losses(terms, recipe)


def farthest(run: str, trainer: kit.Recorded, after: int) -> float:
    """Returns the largest deviation of a fingerprint of G, D or the average from the program's."""
    ours, theirs = kit.all_fingerprints(trainer, shapes(run)), golden(run)["after"][str(after)]
    return max(kit.deviation(ours[name], theirs[name]) for name in ("G", "D", "EMA"))


def require_the_programs(run: str, count: int) -> None:
    for t, (trainer, values) in enumerate(steps(run, count)):
        row = golden(run)["steps"][t]
        assert {PHASES[phase] for phase in values} == row.keys() - {"path_mean"}
        assert values == pytest.approx({p: row[PHASES[p]]["value"] for p in values}, rel=1e-10)
        norms = {p: row[PHASES[p]]["gradient"] for p in values}
        assert trainer.norms[t] == pytest.approx(norms, rel=1e-10)
        assert float(trainer.model.state["path_mean"]) == pytest.approx(row["path_mean"], rel=1e-10)
        if str(t + 1) in golden(run)["after"]:
            assert farthest(run, trainer, t + 1) < 1e-10


@pytest.mark.slow
@pytest.mark.usefixtures("draws")
def test_five_steps_are_those_of_lafites_program() -> None:
    require_the_programs("captions", 5)


@pytest.mark.soak
@pytest.mark.usefixtures("draws")
@pytest.mark.parametrize(
    ("run", "count"), [("captions", 33), ("pseudo", 8), ("half", 8), ("noramp", 8), ("crop", 5)]
)
def test_all_runs_of_lafites_program_are_taken_by_our_loop(run: str, count: int) -> None:
    require_the_programs(run, count)


@pytest.mark.usefixtures("draws")
@pytest.mark.parametrize(
    "setting",
    [pytest.param(s, marks=pytest.mark.slow if s in SHORT else pytest.mark.soak) for s in OTHER_VALUES],
)
def test_every_law_of_the_program_matters(setting: str) -> None:
    *_, (trainer, _) = steps("captions", 5, {setting: OTHER_VALUES[setting]})
    assert farthest("captions", trainer, 5) > 1e-3


def test_lafite_256_has_every_law_and_the_default_has_none() -> None:
    lafite, paper = (presets.get(name).make().by_group for name in ("lafite-256", "paper-256"))
    for setting, other in OTHER_VALUES.items():
        group, _, key = setting.partition(".")
        if key != "ema_ramp_up":
            assert getattr(lafite[group], key) != other == getattr(paper[group], key), setting
    assert lafite["data"].mirror and not paper["data"].mirror


@pytest.mark.parametrize(("ranks", "changes"), [(2, {}), (1, {"run.micro_batch": 16})])
def test_laws_of_the_whole_batch_need_one_rank_and_one_pass(ranks: int, changes: dict[str, Any]) -> None:
    """The advice of the refusal is enough."""
    preset = presets.get("lafite-256")
    lafite = config.RunConfig.of(preset.model, {**preset.changes, **changes})
    with pytest.raises(UserError) as error:
        config.require_divisible(lafite, ranks)
    laws = ("model.mbstd_order=strided", "loss.path_mean=after", "training.path_samples=first")
    assert str(error.value).startswith(
        " and ".join(laws) + " need the whole batch in one pass; give one rank"
    )
    advice = str(error.value).partition(", or ")[2].split("--set ")[1:]
    free = config.with_settings(lafite, [setting.strip() for setting in advice])
    assert config.require_divisible(free, ranks) == 64 // ranks if ranks > 1 else 16
    without_path = config.with_settings(lafite, ["training.path_every=0", "model.mbstd_order=consecutive"])
    assert config.require_divisible(without_path, ranks)


def test_strided_groups_hold_every_gth_sample() -> None:
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # sample i is in group i mod 2
    strided = layers.minibatch_deviation(x, 4, strided=True)[order]
    assert torch.equal(strided, layers.minibatch_deviation(x[order], 4))
    assert not torch.equal(strided, layers.minibatch_deviation(x, 4)[order])


def test_a_small_picture_lies_on_white_and_a_large_one_is_cut() -> None:
    small, large = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    view = losses.viewed(small, Square(8, 3, 5), 16)
    assert torch.equal(view[:, :, 5:13, 3:11], small) and view.shape == (2, 3, 16, 16)
    view[:, :, 5:13, 3:11] = 1
    assert torch.equal(view, torch.ones_like(view))
    part = losses.viewed(large, Square(16, 7, 2), 16)
    assert torch.allclose(part, large[:, :, 2:18, 7:23], atol=1e-6)


def test_squares_are_uniform_and_lie_within_the_picture() -> None:
    drawn = [latents.draw_square(64, 16, 0, 4, batch) for batch in range(400)]
    assert {s.side for s in drawn} == set(range(32, 64))
    assert all(0 <= s.left <= 64 - s.side and 0 <= s.top <= 64 - s.side for s in drawn)
    assert abs(sum(s.side for s in drawn) / 400 - 47.5) < 1.5
    placed = [latents.draw_square(16, 64, 0, 4, batch) for batch in range(400)]
    assert {s.side for s in placed} == {16} and max(s.left for s in placed) < 48
    assert abs(sum(s.top for s in placed) / 400 - 23.5) < 2.5
    assert len({(s.side, s.left, s.top) for s in drawn}) > 350


def test_a_batch_has_one_cutoff_on_every_rank() -> None:
    sizes = stylegan2.Sizes(resolution=16, z_dim=8)
    parts = [latents.draw_latents(sizes, 0, 0, range(n, n + 4), batch=64) for n in (64, 68)]
    free = latents.draw_latents(sizes, 0, 0, range(64, 68))
    assert len({*parts[0].cutoff.tolist(), *parts[1].cutoff.tolist()}) == 1
    assert torch.equal(parts[0].z, free.z) and torch.equal(parts[0].noise, free.noise)
    cutoffs = [latents.draw_latents(sizes, 0, 0, [0], batch=b).cutoff.item() for b in range(200)]
    assert set(cutoffs) == {1, 2, 3, 4, 5, 6} and 8 <= cutoffs.count(6) <= 36
