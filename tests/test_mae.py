"""The masked autoencoder: train/models/mae.py."""

import pytest
import torch
from torch import nn

from synth.errors import UserError
from train import config as configs
from train.config import RunConfig
from train.model import Context, Micro
from train.models import mae
from train.models.features import backbones
from train.models.mae import Config, Loss, Sizes, Training

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Sizes(
    resolution=16, patch=4, width=32, layers=2, heads=2, decoder_width=32, decoder_layers=1, decoder_heads=2
)
SETTINGS = Config(SMALL, training=Training(batch=4, lr=3e-3, warm_up=0, decay_to=100_000))
CONTEXT = Context(torch.device("cpu"), torch.float32)


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return mae.parts(SETTINGS, CONTEXT)


def batch(images_seen: int = 0) -> Micro:
    pictures = torch.rand(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Micro(pictures, {}, range(4), images_seen)


@pytest.mark.slow
def test_it_reconstructs_one_batch() -> None:
    parts = networks()
    training = mae.build(parts, SETTINGS, CONTEXT)
    losses = []
    for _ in range(150):
        [terms] = training.phases[0].loss(batch())
        losses.append(terms["hidden"].item())
        terms["hidden"].backward()
        for optimiser in training.optimisers.values():
            optimiser.step()
            optimiser.zero_grad()
    assert losses[-1] < 0.1 * losses[0]


def test_a_decoder_of_zeros_has_the_loss_of_normalised_patches() -> None:
    """Normalised values have variance 1: the mean of their squares is 1 - 1 / V."""
    parts = networks()
    for parameter in parts["decoder"].get_submodule("values").parameters():
        nn.init.zeros_(parameter)
    [terms] = mae.build(parts, SETTINGS, CONTEXT).phases[0].loss(batch())
    assert terms["hidden"].item() == pytest.approx(1 - 1 / 48, rel=1e-3)


def test_hidden_patches_do_not_reach_the_encoder() -> None:
    transformer = networks()["backbone"]
    pictures, kept = batch().pictures[:, 0].clone().requires_grad_(), torch.tensor([[5, 2]] * 4)
    mae.encoded(transformer, pictures, kept).square().sum().backward()
    assert pictures.grad is not None
    seen = mae.patches(pictures.grad.abs(), 4).sum(2) > 0
    assert seen.nonzero()[:, 1].view(4, 2).tolist() == [[2, 5]] * 4


def test_without_hidden_patches_the_encoder_is_the_transformer() -> None:
    transformer = networks()["backbone"].eval()
    pictures = batch().pictures[:, 0]
    states = mae.encoded(transformer, backbones.standardised(pictures), torch.arange(16).expand(4, -1))
    assert torch.allclose(states[:, 0], mae.features({"backbone": transformer}, pictures), atol=1e-5)


def test_patches_are_those_of_the_transformer() -> None:
    """The embedding of a patch is a product with its values."""
    embed = networks()["backbone"].get_submodule("patch_embed")
    weight = embed.get_parameter("proj.weight").flatten(1)
    pictures = batch().pictures[:, 0]
    ours = mae.patches(pictures, 4) @ weight.T + embed.get_parameter("proj.bias")
    assert torch.allclose(ours, embed(pictures), atol=1e-5)


def test_three_quarters_are_hidden_and_masks_depend_on_the_sample_alone() -> None:
    assert mae.visible(SETTINGS) == 4
    parts = networks()
    [whole] = mae.build(parts, SETTINGS, CONTEXT).phases[0].loss(batch())
    halves = []
    for start in (0, 2):
        micro = Micro(batch().pictures[start : start + 2], {}, range(start, start + 2), 0)
        [terms] = mae.build(parts, SETTINGS, CONTEXT).phases[0].loss(micro)
        halves.append(terms["hidden"].item())
    assert sum(halves) / 2 == pytest.approx(whole["hidden"].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("model.backbone=resnet18", "needs patches; give --set model.backbone=vit"),
        ("model.decoder_heads=5", "no 5 equal heads"),
        (
            "model.patch=32",
            "of 1 patches .* give --set model.patch=16 --set loss.hidden=0.75",
        ),
        ("loss.hidden=0.99", "of 64 patches leaves all or none; give --set loss.hidden=0.75"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _ = configs.with_settings(RunConfig.of("mae"), [setting]).needs


def test_a_share_of_1_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie between"):
        Loss(hidden=1)


def test_the_advice_about_patches_works() -> None:
    wrong = ["model.patch=32", "loss.hidden=0.99"]
    with pytest.raises(UserError) as refusal:
        _ = configs.with_settings(RunConfig.of("mae"), wrong).needs
    advice = [word for word in str(refusal.value).split() if "=" in word]
    assert not configs.with_settings(RunConfig.of("mae"), [*wrong, *advice]).needs.tables
