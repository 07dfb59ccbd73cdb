"""Denoisers of pictures of twice or half the side begin with the weights of a trained one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from train.models import diffusion, growth
from train.models.denoiser import Denoiser, Noise, Sizes
from train.models.formulations import coefficients
from train.models.unet import UNet

SMALL = Sizes(
    resolution=16, channels=(32, 48), reads=(8, 16), itself=(8,), text_width=32, text_dim=8, tokens=12
)
LARGE = replace(SMALL, resolution=32, channels=(48, 32, 48))


def denoiser(sizes: Sizes, seed: int, *, trained: bool = False) -> Denoiser:
    """Returns a denoiser with first weights, or with others everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Denoiser(sizes, Noise(), 9, 0.5)
        if trained:
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
    return module


def pixels(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def enlarged(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def refitted(base: Denoiser, sizes: Sizes) -> Denoiser:
    module = denoiser(sizes, 1)
    module.load_state_dict(diffusion.grown(module, base.state_dict()))
    return module


def embedded(unet: UNet, sigma: float) -> Tensor:
    angles = coefficients("flow", torch.tensor([sigma]), 0.5).c_noise[:, None] * unet.frequencies
    return unet.embed(torch.cat([angles.cos(), angles.sin()], dim=1))


def test_sizes_fit_if_an_outer_level_alone_differs() -> None:
    assert growth.fits(SMALL, LARGE) and growth.fits(LARGE, SMALL)
    for other in (
        replace(LARGE, channels=(48, 32, 64)),
        replace(LARGE, embedding=64),
        replace(LARGE, resolution=64, reads=(16,), itself=()),
        replace(LARGE, latents="runs/kl", planes=4),
        SMALL,
    ):
        assert not growth.fits(SMALL, other)
    assert not growth.fits(replace(SMALL, channels=(32,), reads=(16,), itself=()), SMALL)


def test_a_larger_denoiser_reads_blocks_as_the_base_read_their_means() -> None:
    base = denoiser(SMALL, 0, trained=True)
    large = refitted(base, LARGE)
    x = pixels(16)
    read = large.unet.shrink[0](large.unet.first(enlarged(x)))
    assert torch.allclose(read, base.unet.first(x), atol=1e-5)
    for sigma in (0.1, 2.0, 40.0):
        assert torch.allclose(embedded(large.unet, 2 * sigma), embedded(base.unet, sigma), atol=1e-5)


def test_the_first_kernel_of_a_smaller_denoiser_does_what_both_kernels_did() -> None:
    base = denoiser(LARGE, 0, trained=True)
    small = refitted(base, SMALL)
    x = pixels(16)
    read = base.unet.shrink[0](base.unet.first(enlarged(x)))
    assert torch.allclose(small.unet.first(x)[..., 1:-1, 1:-1], read[..., 1:-1, 1:-1], atol=1e-5)
    assert torch.allclose(embedded(small.unet, 1.0), embedded(base.unet, 2.0), atol=1e-5)


def test_inner_levels_and_texts_keep_their_weights_there_and_back() -> None:
    base = denoiser(SMALL, 0, trained=True)
    back = refitted(refitted(base, LARGE), SMALL)
    anew = {name for name in base.state_dict() if name.startswith(("unet.norm", "unet.last"))}
    for name, tensor in base.state_dict().items():
        assert torch.allclose(back.state_dict()[name], tensor, atol=1e-5) == (name not in anew), name


@pytest.mark.parametrize(
    ("base", "sizes"), [pytest.param(SMALL, LARGE, id="larger"), pytest.param(LARGE, SMALL, id="smaller")]
)
def test_new_ends_begin_at_a_prediction_of_nothing(base: Sizes, sizes: Sizes) -> None:
    module = refitted(denoiser(base, 0, trained=True), sizes)
    states, present = module.states(torch.ones(2, 3, dtype=torch.int64), None, None, None)
    assert not module(pixels(sizes.resolution), torch.ones(2), states, present).any()


def test_other_sizes_are_left_alone() -> None:
    base = denoiser(SMALL, 0).state_dict()
    assert growth.refitted(base, base) == base
    config = diffusion.Config(SMALL)
    assert diffusion.grows(config, diffusion.Config(LARGE)) and not diffusion.grows(config, config)
