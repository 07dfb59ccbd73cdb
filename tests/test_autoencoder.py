from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from train.config import RunConfig, RunSettings
from train.distributed import Ranks
from train.loop import Trainer
from train.model import Context, Micro
from train.models import autoencoder
from train.models.autoencoder import CRITIC, DECODER, ENCODER, Config, Loss, Training
from train.models.autoencoder_networks import (
    AutoencoderSizes,
    LatentDecoder,
    LatentEncoder,
    PatchCritic,
    Posterior,
)
from train.stream.batches import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = AutoencoderSizes(
    resolution=16, channels=(16, 32), groups=8, planes=4, critic_channels=8, critic_layers=1
)


class Means:
    """Stands in for an encoder: the mean colours of quarters, of unit length."""

    def features(self, pictures: Tensor) -> Tensor:
        return functional.normalize(functional.adaptive_avg_pool2d(pictures, 2).flatten(1) + 0.1, dim=1)


def trainer(critic_begins: int = 0, *, context: Context | None = None, **loss: object) -> Trainer:
    config = Config(
        SIZES,
        Loss(critic_begins=critic_begins, **loss),  # type: ignore[arg-type]
        Training(batch=8, lr=3e-3, warm_up=0),
    )
    context = context or Context(torch.device("cpu"), torch.float32, encoder=Means())
    return Trainer(RunConfig("autoencoder", config, run=RunSettings()), context, Ranks.join("cpu"))


def batch(seed: int = 0) -> Batch:
    """Returns eight pictures, each of four plain quarters."""
    quarters = torch.randint(0, 256, (8, 1, 3, 2, 2), generator=torch.Generator().manual_seed(seed))
    return Batch(quarters.to(torch.uint8).repeat_interleave(8, 3).repeat_interleave(8, 4), {})


def micro(images_seen: int = 0) -> Micro:
    return Micro(batch().pictures / 127.5 - 1, {}, range(8), images_seen)


# Distributions.


def test_the_divergence_of_the_standard_normal_is_0() -> None:
    zero = torch.zeros(3, 4, 2, 2)
    assert torch.equal(Posterior(zero, zero).divergence(), torch.zeros(3))

    # By integration, for other distributions.
    mean, deviation = 0.7, 0.4
    q = torch.distributions.Normal(mean, deviation)
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    posterior = Posterior(torch.full((1, 2, 3, 3), mean), torch.full((1, 2, 3, 3), deviation).log() * 2)
    assert posterior.divergence() == pytest.approx(18 * float(expected), rel=1e-5)


def test_latents_have_the_mean_and_deviation_of_their_posterior() -> None:
    normal = torch.randn(20_000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    posterior = Posterior(torch.tensor(0.5), torch.tensor(0.25).log() * 2)
    latents = posterior.drawn(normal)
    assert float(latents.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(latents.std()) == pytest.approx(0.25, abs=0.01)


# Training.


def error(model: Trainer) -> float:
    x = micro().pictures[:, 0]
    with torch.no_grad():
        return float((autoencoder.reconstruct(model.parts, x) - x).abs().mean())


@pytest.mark.slow
def test_a_short_training_reconstructs_its_pictures() -> None:
    model = trainer(critic_begins=10**9)
    before = error(model)
    for _ in range(60):
        model.step(batch())
    assert error(model) < 0.4 * before


def test_the_critic_begins_late_and_reaches_the_decoder() -> None:
    model = trainer(critic_begins=16)
    weights = [p.detach().clone() for p in model.parts[CRITIC].parameters()]
    names = [set(model.step(batch())) for _ in range(3)]
    assert not any(name.startswith("critic/") for name in names[0] | names[1])
    assert names[2] >= {"autoencode/critic", "autoencode/weight", "critic/real", "critic/drawn"}
    assert any(not torch.equal(a, b) for a, b in zip(weights, model.parts[CRITIC].parameters(), strict=True))


def test_the_weight_balances_the_gradients_of_the_last_layer() -> None:
    model = trainer(divergence=0.0, perceptual=0.0, critic=0.5)
    terms = next(model.model.phases[0].loss(micro()))
    last = cast(LatentDecoder, model.parts[DECODER]).conv_out.weight
    error, critic = (
        torch.autograd.grad(terms[name], last, retain_graph=True)[0].norm() for name in ("error", "critic")
    )
    # Equation 7 makes them equal, and the loss has half of that.
    assert float(critic) == pytest.approx(0.5 * float(error), rel=1e-2)


def test_a_batch_on_two_ranks_has_the_weight_of_the_whole_one() -> None:
    """Each half sees the gradients of the other one, by Context.gather."""
    whole = trainer(perceptual=0.0)
    gradients: list[list[Tensor]] = []
    halves = [replace(micro(), pictures=micro().pictures[r], numbers=range(8)[r]) for r in HALVES]
    expected = float(next(whole.model.phases[0].loss(micro()))["weight"])

    def note(rows: Tensor) -> Tensor:
        gradients[-1].append(rows)
        return rows

    for half in halves:
        gradients.append([])
        context = replace(whole.context, gather=note)
        phase = autoencoder.build(whole.parts, whole.config.groups, context).phases[0]
        next(phase.loss(half))
    pairs = [torch.cat(rows).mean(dim=0).norm() for rows in zip(*gradients, strict=True)]
    assert float(pairs[0] / pairs[1]) == pytest.approx(expected, rel=2e-3)


HALVES = (slice(0, 4), slice(4, 8))


def test_the_perceptual_term_is_0_for_equal_embeddings() -> None:
    class Same:
        def features(self, pictures: Tensor) -> Tensor:
            return torch.ones(len(pictures), 4) + 0 * pictures.mean()

    model = trainer(context=Context(torch.device("cpu"), torch.float32, encoder=Same()))
    terms = next(model.model.phases[0].loss(micro()))
    assert float(terms["perceptual"].detach()) == pytest.approx(0, abs=1e-6)
    plain = trainer(context=Context(torch.device("cpu"), torch.float32), network="none")
    assert "perceptual" not in next(plain.model.phases[0].loss(micro()))


def test_a_verdict_depends_on_its_picture_alone() -> None:
    torch.manual_seed(0)
    critic, pictures = PatchCritic(SIZES), torch.randn(3, 3, 16, 16)
    assert torch.allclose(critic(pictures)[1:2], critic(pictures[1:2]), atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed, first = (trainer(critic_begins=8) for _ in range(3))
    for seed in range(4):
        whole.step(batch(seed))
    for seed in range(2):
        first.step(batch(seed))
    first.save(tmp_path)
    [folder] = (tmp_path / "checkpoints").iterdir()
    resumed.restore(folder)
    for seed in range(2, 4):
        resumed.step(batch(seed))
    for name, module in {**whole.parts, **whole.averages}.items():
        others = {**resumed.parts, **resumed.averages}[name].state_dict()
        assert all(torch.equal(value, others[key]) for key, value in module.state_dict().items()), name


def test_an_autoencoder_needs_neither_tables_nor_an_encoder_that_it_does_not_use() -> None:
    needs = autoencoder.needs(Config())
    assert not needs.tables and needs.network == "nano" and needs.whole
    bare = autoencoder.needs(Config(loss=Loss(network="none", critic=0.0)))
    assert not bare.network and not bare.whole
    parts = autoencoder.parts(Config(SIZES, Loss(critic=0.0)), Context(torch.device("cpu"), torch.float32))
    assert list(parts) == [ENCODER, DECODER]


# Sizes.


def test_latents_have_their_factor_and_planes() -> None:
    for channels, factor in (((16, 32), 2), ((16, 32, 32), 4), ((16, 16, 16, 16), 8)):
        sizes = replace(SIZES, channels=channels)
        posterior = LatentEncoder(sizes)(torch.zeros(2, 3, 16, 16))
        assert sizes.factor == factor and sizes.side == 16 // factor
        assert posterior.mean.shape == (2, 4, sizes.side, sizes.side)


IMPOSSIBLE: dict[str, tuple[type, dict[str, object]]] = {
    "channels": (AutoencoderSizes, {"channels": (20,)}),
    "many channels": (AutoencoderSizes, {"channels": (1 << 17,)}),
    "resolution": (AutoencoderSizes, {"resolution": 18}),
    "planes": (AutoencoderSizes, {"planes": 0}),
    "weight": (Loss, {"critic": -1.0}),
    "network": (Loss, {"network": ""}),
    "batch": (Training, {"batch": 0}),
    "precision": (Training, {"precision": "fp8"}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_settings_are_refused(name: str) -> None:
    kind, settings = IMPOSSIBLE[name]
    with pytest.raises(ValueError, match="must"):
        kind(**settings)
