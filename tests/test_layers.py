import math

import pytest
import torch
from torch import Tensor

from train.models import layers
from train.models.layers import GAIN, Conv, DownConv, DownSkip, Linear, ModulatedConv, ModulatedUpConv, ToRGB

FIR = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


def correlated(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Each channel with a 2-D kernel, by a direct sum."""
    n, c, h, w = x.shape
    k = len(kernel)
    padded = torch.zeros(n, c, h + 2 * padding, w + 2 * padding)
    padded[:, :, padding : padding + h, padding : padding + w] = x
    out = torch.zeros(n, c, h + 2 * padding - k + 1, w + 2 * padding - k + 1)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = (padded[:, :, i : i + k, j : j + k] * kernel).sum((2, 3))
    return out


def with_zeros(x: Tensor) -> Tensor:
    """A zero after each pixel, in both directions."""
    n, c, h, w = x.shape
    out = torch.zeros(n, c, 2 * h, 2 * w)
    out[:, :, ::2, ::2] = x
    return out


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def test_a_linear_layer_is_scaled_by_its_fan_in_and_its_pace() -> None:
    layer, x = Linear(5, 3, bias=1.0, gain=2.0, pace=0.1), torch.randn(4, 5)
    plain = 2 * (x @ (layer.weight * 0.1 / math.sqrt(5)).t() + layer.bias * 0.1)
    assert layer.weight.std() > 4
    assert torch.allclose(layer(x), plain, atol=1e-5)
    assert torch.allclose(layer(torch.zeros(1, 5)), torch.full((1, 3), 2.0))


def test_a_convolution_is_scaled_by_its_fan_in_and_followed_by_lrelu_with_gain() -> None:
    layer, x = Conv(3, 2, 3), pictures(2, 3, 5, 5)
    layer.bias.data.normal_()
    plain = torch.nn.functional.conv2d(x, layer.weight / math.sqrt(27), layer.bias, padding=1)
    assert torch.allclose(layer(x), lrelu(plain), atol=1e-5)


@pytest.mark.parametrize("padding", [1, 2])
def test_blur_is_the_direct_sum(padding: int) -> None:
    x = pictures(2, 3, 6, 6)
    assert torch.allclose(layers.blur(x, padding, gain=4), 4 * correlated(x, FIR, padding), atol=1e-5)


def test_blur_has_its_gradients_to_the_second_order() -> None:
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layers.blur(x, 1), x)
    assert torch.autograd.gradgradcheck(lambda x: layers.blur(x, 2).pow(3), x)


def test_upsampling_is_the_direct_sum() -> None:
    x = pictures(2, 3, 4, 4)
    wide = torch.zeros(2, 3, 11, 11)
    wide[:, :, 2:10, 2:10] = with_zeros(x)
    assert torch.allclose(layers.upsample(x), 4 * correlated(wide, FIR, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_downsampling_is_the_direct_sum(dtype: torch.dtype, tolerance: float) -> None:
    x = pictures(2, 3, 8, 8)
    plain = correlated(x, FIR, 1)[:, :, ::2, ::2]
    assert torch.allclose(layers.downsample(x.to(dtype)).float(), plain, atol=tolerance)


def test_up_and_down_keep_a_constant_picture_within() -> None:
    x = torch.full((1, 1, 8, 8), 3.0)
    assert torch.allclose(layers.upsample(x)[:, :, 2:-2, 2:-2], torch.tensor(3.0))
    assert torch.allclose(layers.downsample(x)[:, :, 1:-1, 1:-1], torch.tensor(3.0))


def test_a_down_convolution_is_blur_then_stride_2() -> None:
    layer, x = DownConv(3, 2, gain=1.0), pictures(2, 3, 8, 8)
    plain = torch.nn.functional.conv2d(correlated(x, FIR, 2), layer.weight / math.sqrt(27))[:, :, ::2, ::2]
    assert torch.allclose(layer(x), lrelu(plain) / math.sqrt(2), atol=1e-5)


def test_a_skip_is_the_halved_picture_mixed() -> None:
    layer, x = DownSkip(3, 2), pictures(2, 3, 8, 8)
    halved = correlated(x, FIR, 1)[:, :, ::2, ::2]
    mixed = torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0] / math.sqrt(3), halved)
    assert torch.allclose(layer(x), mixed, atol=1e-5)


def modulated_by_sample(layer: ModulatedConv, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
    """SG2 equations 1 and 3, sample by sample, with weights of its own."""
    out = []
    for x_n, s, noise_n in zip(x, style, noise, strict=True):
        weight = layer.weight * s[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if isinstance(layer, ModulatedUpConv):
            # A transposed convolution of stride 2 inserts zeros and correlates with the reversed kernel.
            wide = with_zeros(x_n[None])[:, :, :-1, :-1]
            y = 4 * correlated(torch.nn.functional.conv2d(wide, weight.flip(2, 3), padding=2), FIR, 1)
        else:
            y = torch.nn.functional.conv2d(x_n[None], weight, padding=1)
        out.append(lrelu(y + layer.noise_strength * noise_n[None] + layer.bias[:, None, None]))
    return torch.cat(out)


@pytest.mark.parametrize(("kind", "side"), [(ModulatedConv, 6), (ModulatedUpConv, 12)])
def test_a_modulated_convolution_is_each_samples_own(kind: type[ModulatedConv], side: int) -> None:
    layer, x = kind(3, 4), pictures(2, 3, 6, 6)
    style, noise = torch.randn(2, 3), torch.randn(2, 1, side, side)
    layer.bias.data.normal_()
    layer.noise_strength.data.fill_(0.7)
    assert torch.allclose(layer(x, style, noise), modulated_by_sample(layer, x, style, noise), atol=1e-4)


def test_its_gradients_are_those_of_each_samples_own() -> None:
    layer, x = ModulatedUpConv(3, 4), pictures(2, 3, 4, 4)
    style, noise = torch.randn(2, 3), torch.randn(2, 1, 8, 8)
    layer.noise_strength.data.fill_(0.7)
    inputs = [x.requires_grad_(), style.requires_grad_(), *layer.parameters()]
    target = torch.randn(2, 4, 8, 8)
    ours = torch.autograd.grad((layer(x, style, noise) * target).sum(), inputs)
    theirs = torch.autograd.grad((modulated_by_sample(layer, x, style, noise) * target).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-3)


def test_demodulated_features_do_not_know_the_styles_scale() -> None:
    layer, x = ModulatedConv(3, 4), pictures(2, 3, 6, 6)
    style, noise = torch.randn(2, 3), torch.zeros(2, 1, 6, 6)
    assert torch.allclose(layer(x, style, noise), layer(x, 100 * style, noise), atol=1e-4)


def test_colours_are_each_samples_own_product() -> None:
    layer, x, style = ToRGB(5), pictures(2, 5, 4, 4), torch.randn(2, 5)
    layer.bias.data.normal_()
    plain = torch.einsum("ci,ni,nihw->nchw", layer.weight / math.sqrt(5), style, x)
    assert torch.allclose(layer(x, style), plain + layer.bias[:, None, None], atol=1e-5)


def test_the_deviation_of_a_group_by_hand() -> None:
    # group 0 holds 1 and 3 in every place: standard deviation 1; group 1 holds 0 and 10: 5
    x = torch.tensor([1.0, 3.0, 0.0, 10.0])[:, None, None, None].expand(4, 2, 3, 3)
    out = layers.minibatch_deviation(x, 2)
    assert out.shape == (4, 3, 3, 3)
    assert torch.allclose(out[:, 2, 0, 0], torch.tensor([1.0, 1.0, 5.0, 5.0]), atol=1e-4)
    assert torch.equal(out[:, :2], x)


def test_groups_must_divide_a_batch() -> None:
    assert layers.grouped(torch.arange(6), 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert layers.grouped(torch.arange(2), 3).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="a batch of 5 is no multiple of groups of 4"):
        layers.grouped(torch.arange(5), 4)


def test_bfloat16_is_float32_but_for_rounding() -> None:
    layer, x = ModulatedUpConv(16, 8), pictures(2, 16, 8, 8)
    style, noise = torch.randn(2, 16), torch.randn(2, 1, 16, 16)
    exact, rounded = layer(x, style, noise), layer(x.bfloat16(), style, noise)
    assert rounded.dtype == torch.bfloat16
    assert (exact - rounded.float()).abs().max() < 0.02 * exact.abs().max()


def test_lrelu_with_gain_keeps_the_mean_square_of_a_convolution() -> None:
    assert Conv(64, 64, 3)(pictures(4, 64, 16, 16)).square().mean().item() == pytest.approx(1.04, rel=0.2)
    assert pytest.approx(math.sqrt(2)) == GAIN


def test_the_kernel_of_a_picture_drawn_first_still_trains() -> None:
    layers._fir.cache_clear()
    with torch.inference_mode():
        layers.upsample(pictures(1, 3, 4, 4))
    layers.upsample(pictures(1, 3, 4, 4).requires_grad_()).sum().backward()
