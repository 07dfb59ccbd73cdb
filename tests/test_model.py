"""The contract between the loop and a model, each rule on a model of one number."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synth.errors import UserError
from tests.kit import json_lines
from train import checkpoint, cli, config, distributed, log, machine, model, runs
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Grid, Step, Tick, Trainer
from train.model import Average, Context, Micro, Model, Needs, Phase, Terms, Wanted
from train.stream import captioned_sets
from train.stream.batches import Batch

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Sizes:
    resolution: int = 2


@dataclass(frozen=True)
class Training:
    batch: int = 4
    precision: str = "fp32"
    seed: int = 0


@dataclass(frozen=True)
class Config:
    model: Sizes = field(default_factory=Sizes)
    training: Training = field(default_factory=Training)


class Number(nn.Module):
    """One parameter, which begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))


def one_number(
    loss: Any = None,
    *,
    needs: Needs | None = None,
    rate: Any = None,
    parts: tuple[str, ...] = ("number",),
    **phase: Any,
) -> Any:
    """A model of one parameter a part, by plain gradient descent at rate 1, with one phase."""

    def build(networks: dict[str, Any], run_config: Config, context: Context) -> Model:
        optimisers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.SGD(part.parameters(), lr=1.0) for name, part in networks.items()
        }

        def minus_value(micro: Micro) -> Iterator[Terms]:
            yield {"minus": -networks["number"].value}

        phases = [Phase("p", parts, loss(networks) if loss else minus_value, **phase)]
        averages = {"slow": Average("number", lambda *_: 0.75), "fast": Average("number", lambda *_: 0.5)}
        return Model(optimisers, phases, averages, Wanted(vectors=()), {"seen": torch.zeros(())}, rate)

    return SimpleNamespace(
        Config=Config,
        needs=lambda _: needs or Needs(tables=False),
        build=build,
        parts=lambda *_: {name: Number() for name in parts},
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a trainer of such a model."""

    def make(module: Any, **run: Any) -> Trainer:
        monkeypatch.setattr(model, "find", lambda _: module)
        run_config = RunConfig.of("toy", {f"run.{name}": value for name, value in run.items()})
        return Trainer(run_config, Context(torch.device("cpu"), torch.float32), Ranks())

    return make


def batch() -> Batch:
    return Batch(torch.zeros(4, 1, 3, 2, 2, dtype=torch.uint8), {})


def value(trainer: Trainer, part: str = "number") -> float:
    return dict(trainer.parts[part].named_parameters())["value"].item()


def test_a_phase_comes_every_so_many_steps_once_it_has_begun(trained: Any) -> None:
    trainer, values = trained(one_number(every=2, begins=8)), []
    for _ in range(7):
        trainer.step(batch())
        values.append(value(trainer))
    assert values == [0, 0, 1, 1, 2, 2, 3]  # steps 2, 4 and 6: from 8 images seen, every second one


def test_gradients_are_clipped_to_a_norm(trained: Any) -> None:
    trainer = trained(one_number(clip=0.25))
    trainer.step(batch())
    assert value(trainer) == pytest.approx(0.25)


def test_rates_follow_the_images_seen(trained: Any) -> None:
    trainer, values = trained(one_number(rate=lambda part, seen: {"number": 1.0}[part] / (1 + seen))), []
    for _ in range(2):
        trainer.step(batch())
        values.append(value(trainer))
    assert values == pytest.approx([1, 1 + 1 / 5])


def test_several_averages_are_kept_and_the_first_stands_for_its_part(trained: Any) -> None:
    trainer = trained(one_number())
    trainer.step(batch())
    averages = {
        name: dict(average.named_parameters())["value"].item() for name, average in trainer.averages.items()
    }
    assert averages == {"slow": 0.25, "fast": 0.5}
    loaded = trainer.loaded()
    assert loaded.parts["number"] is trainer.averages["slow"] and set(loaded.averages) == {"slow", "fast"}


def test_yields_are_differentiated_one_after_another_and_other_parts_are_frozen(trained: Any) -> None:
    def loss(networks: Any) -> Any:
        def terms(micro: Micro) -> Iterator[Terms]:
            for _ in range(2):
                yield {"a": -networks["number"].value, "told": networks["number"].value.detach() + 7}

        return terms

    trainer = trained(one_number(loss))
    terms = trainer.step(batch())
    assert value(trainer) == 2 and terms["p/told"] == 7 and terms["p/a"] == 0


def test_a_phase_of_two_parts_steps_both(trained: Any) -> None:
    def loss(networks: Any) -> Any:
        return lambda micro: iter([{"sum": -(networks["number"].value + 2 * networks["other"].value)}])

    trainer = trained(one_number(loss, parts=("number", "other")))
    trainer.step(batch())
    assert (value(trainer), value(trainer, "other")) == (1, 2)


@pytest.mark.parametrize(("gradient", "skipped"), [(1e25, 0), (float("inf"), 1), (float("nan"), 1)])
def test_large_gradients_are_finite_and_others_are_skipped(
    trained: Any, gradient: float, skipped: int
) -> None:
    """The square of 1e25 is no float32, so a 2-norm would call it infinite."""

    def loss(networks: Any) -> Any:
        return lambda micro: iter([{"large": gradient * networks["number"].value}])

    trainer = trained(one_number(loss))
    trainer.step(batch())
    assert trainer.skipped == skipped and value(trainer) == (0 if skipped else pytest.approx(-gradient))


def test_settle_receives_the_means_over_the_batch(trained: Any) -> None:
    means: list[Terms] = []

    def loss(networks: Any) -> Any:
        return lambda micro: iter([{"first": -networks["number"].value + micro.numbers.start}])

    trainer = trained(one_number(loss, settle=means.append), micro_batch=2)
    trainer.step(batch())
    trainer.step(batch())
    assert [terms["first"].item() for terms in means] == [
        1,
        5 - 1,
    ]  # numbers 0 and 2; then 4 and 6, less the value of 1


def test_a_run_yields_a_step_each_batch_and_ticks_and_grids_when_due(trained: Any, tmp_path: Path) -> None:
    trainer = trained(one_number(), images=16, tick=8, samples=12, checkpoint=1000)
    events = list(trainer.run(iter([batch()] * 4), tmp_path))
    kinds = [
        (type(event), getattr(event, "images_seen", None)) for event in events if not isinstance(event, Step)
    ]
    assert (
        kinds == [(Tick, 8), (Grid, 12), (Tick, 16)] and sum(isinstance(event, Step) for event in events) == 4
    )
    assert trainer.ended_by == 0 and [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000000016"]


def test_a_checkpoint_restores_parts_averages_and_state(trained: Any, tmp_path: Path) -> None:
    first = trained(one_number())
    first.step(batch())
    first.model.state["seen"].fill_(5)
    first.save(tmp_path)
    second = trained(one_number())
    second.restore(tmp_path / "checkpoints/000000004")
    assert second.images_seen == 4 and value(second) == 1 and second.model.state["seen"] == 5
    assert {path.name for path in (tmp_path / "checkpoints/000000004").iterdir()} == {
        *("number.safetensors", "slow.safetensors", "fast.safetensors", "number.optimiser.safetensors"),
        *("state.safetensors", "state.json", "COMMITTED"),
    }
    part = runs.load_part(tmp_path / "checkpoints/000000004/fast.safetensors")
    assert dict(part.named_parameters())["value"].item() == 0.5


@pytest.mark.parametrize(
    ("needs", "run", "ranks", "sentence"),
    [
        pytest.param(
            Needs(whole=True),
            {"micro_batch": 2},
            1,
            "couples the whole batch; give --set run.micro_batch=0",
            id="whole",
        ),
        pytest.param(
            Needs(multiple=3), {}, 1, "4 samples at once are not divided by 3, as toy needs", id="multiple"
        ),
        pytest.param(
            Needs(groups=(4,)),
            {"micro_batch": 2},
            1,
            "2 samples at once are not divided by groups of 4",
            id="groups",
        ),
        pytest.param(Needs(), {}, 3, "a batch of 4 is not divided by 3 ranks", id="ranks"),
    ],
)
def test_batches_that_break_what_the_loss_couples_are_refused(
    monkeypatch: pytest.MonkeyPatch, needs: Needs, run: dict[str, int], ranks: int, sentence: str
) -> None:
    monkeypatch.setattr(model, "find", lambda _: one_number(needs=needs))
    run_config = RunConfig.of("toy", {f"run.{name}": value for name, value in run.items()})
    with pytest.raises(UserError, match=sentence):
        config.require_divisible(run_config, ranks)


def test_unknown_models_are_refused_and_the_known_listed() -> None:
    with pytest.raises(
        UserError, match="'layers'; known are autoencoder, contrastive, diffusion, mae, stylegan2"
    ):
        model.find("layers")  # a module that is no model


def test_a_setting_that_came_later_takes_the_value_that_reproduces_older_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_config = RunConfig.of("stylegan2")
    old = config.to_json(run_config)
    del old["loss"]["path_decay"]
    with pytest.raises(UserError, match=r"made by another version .*; use that version, the commit"):
        config.from_json(old, "stylegan2")
    monkeypatch.setitem(config.ADDED, "stylegan2 loss.path_decay", 0.5)
    groups = config.from_json(old, "stylegan2").groups
    assert groups.loss == dataclasses.replace(run_config.groups.loss, path_decay=0.5)


def test_a_gradient_through_gathered_rows_is_that_of_one_rank() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    gathered: Tensor = Ranks().gather(rows)
    gathered.sum().backward()
    assert gathered is rows and rows.grad is not None and rows.grad.sum() == 6  # two ranks: test_second_model


def test_a_gradient_through_gathered_rows_changes_no_other_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal ranks, so a reduction doubles. Both addends get one tensor as their gradient."""
    gather = lambda pieces, rows: [piece.copy_(rows) for piece in pieces]  # noqa: E731
    monkeypatch.setattr(distributed.dist, "all_gather", gather)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda tensor: tensor.mul_(2))
    other, rows = torch.ones(4, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    before = other * 5
    ((Ranks(0, 2).gather(rows) + before) * torch.full((4, 3), 7.0)).sum().backward()
    assert rows.grad is not None and other.grad is not None
    assert rows.grad.unique().tolist() == [14.0] and other.grad.unique().tolist() == [35.0]


@pytest.mark.slow  # imports TensorBoard
def test_the_time_of_embedding_is_divided_by_the_images_of_one_rank(tmp_path: Path) -> None:
    records = log.Log(tmp_path, 0, [], None, "cpu")
    for ranks in (1, 2):
        tick = Tick(16 * ranks, {}, 1.0, 1.0, 0.0, 0, 0.8)
        records.record(tick, SimpleNamespace(ranks=Ranks(count=ranks)))  # type: ignore[arg-type]
    records.close()
    assert [row["embedding_seconds_per_kimg"] for row in json_lines(tmp_path / log.LOG)] == [50.0, 100.0]


def test_ranks_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=r"has WORLD_SIZE and no LOCAL_RANK .*; start the ranks by torchrun"):
        Ranks.join("cpu")
    with pytest.raises(SystemExit) as ended:
        cli._refuse_once("a sentence")
    assert ended.value.code == 2


def test_a_restored_optimiser_counts_the_steps_of_a_single_number_on_the_cpu() -> None:
    module = Number().to("meta")
    optimiser: Any = SimpleNamespace(state=defaultdict(dict))
    saved = {"value:step": torch.tensor(3.0), "value:exp_avg": torch.tensor(0.5)}
    checkpoint.restore_optimiser(module, optimiser, saved)
    state = optimiser.state[module.value]
    assert (state["step"].device.type, state["exp_avg"].device.type) == ("cpu", "meta")


def test_a_rank_has_one_thread_on_a_cpu_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    machine.use_one_thread("cpu")
    assert torch.get_num_threads() == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    machine.use_one_thread("cuda")
    assert torch.get_num_threads() == 2
    machine.use_one_thread("cpu")
    assert torch.get_num_threads() == 1


def test_captions_of_a_model_without_texts_are_refused() -> None:
    with pytest.raises(UserError, match="this model reads no captions; leave --captions and --encoder out"):
        captioned_sets.find(["shards"], ["tables"], tables=False)


def test_a_model_that_draws_nothing_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "find", lambda _: one_number())
    with pytest.raises(
        UserError, match="runs/toy is a run of toy, which draws no pictures; give a run of another model"
    ):
        model.require_drawing("toy", "runs/toy")
