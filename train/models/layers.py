"""Shared layers of the models: equalised layers, modulated convolution, resampling, minibatch deviation.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, here "SG2", and Progressive
Growing of GANs, ICLR 2018, here "PG".

Equalised (PG 4.1): a weight is stored as N(0, 1) and multiplied by 1 / sqrt(fan in) in use. The leaky ReLU
has slope 0.2 and a gain of sqrt(2) after it. Since lrelu(g x) = g lrelu(x), weights and biases contain that
gain at no cost. Feature maps are channels-last, in float32 or bfloat16. Styles, demodulation and the standard
deviation have at least float32. Tests use float64.

Axes: N samples, C channels (I of the input, O of the output), H rows, W columns, K features, k side of the
kernel.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
GAIN = math.sqrt(2)  # of the leaky ReLU

_EPSILON = 1e-8


class Linear(nn.Module):
    """A fully connected layer, equalised. It learns `pace` times as fast as the optimiser's rate."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, gain: float = 1.0, pace: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / pace)
        self.bias = nn.Parameter(torch.full((outputs,), bias / pace))
        self.scale, self.bias_scale = gain * pace / math.sqrt(inputs), gain * pace

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        # x has fewer values than the weight, so the scale is applied to x.
        return torch.addmm(self.bias, x * self.scale, self.weight.t(), beta=self.bias_scale)


class DenseLrelu(Linear):
    """A fully connected layer and its leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, pace: float = 1.0) -> None:
        super().__init__(inputs, outputs, gain=GAIN, pace=pace)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return lrelu_(super().forward(x))


class Conv(nn.Module):
    """An equalised convolution that keeps height and width, with its leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, gain: float = GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.bias_scale = gain / math.sqrt(inputs * kernel**2), gain

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W)."""
        padding = self.weight.shape[-1] // 2
        return lrelu_(functional.conv2d(x, self._weight(x), self._bias(x), padding=padding))

    def _weight(self, x: Tensor) -> Tensor:
        return (self.weight * self.scale).to(x.dtype)

    def _bias(self, x: Tensor) -> Tensor:
        return (self.bias * self.bias_scale).to(x.dtype)


class DownConv(Conv):
    """Blur, convolution 3 x 3 with stride 2, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, gain: float = GAIN) -> None:
        super().__init__(inputs, outputs, 3, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H/2, W/2)."""
        return lrelu_(functional.conv2d(blur(x, 2), self._weight(x), self._bias(x), stride=2))


class DownSkip(nn.Module):
    """Downsampling to half the side, then a convolution 1 x 1 without bias."""

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H/2, W/2)."""
        return functional.conv2d(downsample(x), (self.weight * self.scale).to(x.dtype))


class ModulatedConv(nn.Module):
    """A convolution 3 x 3 with demodulated weights (SG2 equations 1 and 3), noise, bias and leaky ReLU.

    It scales input and output instead of every sample's weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """(N, I, H, W), style (N, I), noise (N, 1, H, W) -> (N, O, H, W).

        A ModulatedUpConv has noise and output of twice the side."""
        # Modulation (SG2 equation 1), convolution, demodulation (SG2 equation 3).
        demodulation = GAIN * demodulate(self.weight, style)  # (N, O)
        y = self.convolve(x * per_channel(style, x))  # (N, O, H, W)
        y = y * per_channel(demodulation, y)

        # Bias, noise, leaky ReLU.
        bias, strength = (self.bias * GAIN).to(y.dtype), (self.noise_strength * GAIN).to(y.dtype)
        return lrelu_(y.add_(bias[:, None, None]).add_(noise.to(y.dtype) * strength))

    def convolve(self, x: Tensor) -> Tensor:
        """Returns the bare convolution: (N, I, H, W) -> (N, O, H, W)."""
        return functional.conv2d(x, self.weight.to(x.dtype), padding=1)


class ModulatedUpConv(ModulatedConv):
    """A modulated, transposed convolution with stride 2, and a blur.

    Its kernel (O, I, 3, 3) has the orientation of a transposed convolution."""

    def convolve(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, 2H, 2W)."""
        kernel = self.weight.to(x.dtype).transpose(0, 1)  # (I, O, 3, 3)
        y = functional.conv_transpose2d(x, kernel, stride=2)  # (N, O, 2H + 1, 2W + 1)
        return blur(y, 1, gain=4)


class ToRGB(nn.Module):
    """A modulated convolution 1 x 1 to colours, not demodulated (SG2 appendix B).

    It multiplies features with one weight matrix per sample."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, inputs))
        self.bias = nn.Parameter(torch.zeros(3))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, I, H, W), style (N, I) -> float32 (N, 3, H, W)."""
        n, c, h, w = x.shape
        weight = self.weight * (self.scale * style)[:, None]  # (N, 3, I)
        pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, c)  # (N, HW, I)
        y = torch.bmm(pixels, weight.to(x.dtype).transpose(1, 2))  # (N, HW, 3)
        return at_least_float32(y).add(self.bias).reshape(n, h, w, 3).permute(0, 3, 1, 2)


def at_least_float32(x: Tensor) -> Tensor:
    """Returns x in float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lrelu_(x: Tensor) -> Tensor:
    """Applies the leaky ReLU in place. The layer before it multiplies by the gain."""
    return functional.leaky_relu_(x, SLOPE)


def per_channel(scales: Tensor, x: Tensor) -> Tensor:
    """Returns scales (N, C) as (N, C, 1, 1) in the dtype of x."""
    return scales.to(x.dtype)[:, :, None, None]


def demodulate(weight: Tensor, style: Tensor) -> Tensor:
    """Returns 1 / the norm of every sample's modulated weights (SG2 equation 3).

    weight (O, I, k, k), style (N, I) -> float32 (N, O)."""
    return (style.square() @ weight.square().sum((2, 3)).t() + _EPSILON).rsqrt()


def blur(x: Tensor, padding: int, *, gain: float = 1.0) -> Tensor:
    """Convolves with the FIR [1, 3, 3, 1] in both directions.

    (N, C, H, W) -> (N, C, H + 2 padding - 3, W + 2 padding - 3)."""
    return _Blur.apply(x, padding, gain)


def upsample(x: Tensor) -> Tensor:
    """Inserts zeros between pixels, then applies the FIR with gain 4: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return functional.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])


def downsample(x: Tensor) -> Tensor:
    """Applies the FIR, then takes every second pixel: (N, C, H, W) -> (N, C, H/2, W/2)."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        # A strided depthwise convolution in bfloat16 is slow on a CPU.
        return blur(x, 1)[:, :, ::2, ::2]
    return functional.conv2d(x, _kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])


def minibatch_deviation(x: Tensor, group: int, *, strided: bool = False) -> Tensor:
    """Appends a channel with the mean standard deviation of the group: (N, C, H, W) -> (N, C + 1, H, W).

    PG section 3. Groups are consecutive samples, or every G-th sample if `strided`. A batch smaller than a
    group is one group."""
    n, _, h, w = x.shape

    # One number for each of G groups.
    groups = grouped(x, group, strided=strided)  # (G, group, C, H, W)
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)  # (G, C, H, W)
    deviation = (variance + _EPSILON).sqrt().mean((1, 2, 3))  # (G,)

    # The same number at every pixel of the group's samples.
    size = groups.shape[1]
    numbers = deviation.repeat(size) if strided else deviation.repeat_interleave(size)  # (N,)
    return torch.cat([x, numbers[:, None, None, None].expand(n, 1, h, w)], 1)


def grouped(x: Tensor, group: int, *, strided: bool = False) -> Tensor:
    """Returns groups of consecutive samples: (N, ...) -> (G, group, ...), G = N / group.

    If `strided`, sample i is in group i mod G. A batch smaller than a group is one group. Raises ValueError
    if the groups do not divide the batch."""
    group = min(group, len(x))
    if len(x) % group:
        raise ValueError(f"a batch of {len(x)} is no multiple of groups of {group}")
    return x.unflatten(0, (group, -1)).transpose(0, 1) if strided else x.unflatten(0, (-1, group))


class _Blur(torch.autograd.Function):
    """The FIR. Its gradient is the FIR with the complementary padding, faster than autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int, gain: float) -> Tensor:
        ctx.padding, ctx.gain = padding, gain
        return functional.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return blur(gradient, 3 - ctx.padding, gain=ctx.gain), None, None


def _kernel(x: Tensor, gain: float) -> Tensor:
    return _fir(gain, x.dtype, x.device).expand(x.shape[1], 1, 4, 4)


@cache
def _fir(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The first call may be under inference_mode, and training uses the cached tensor later.
    with torch.inference_mode(False):
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8  # sums to 1
        return (gain * torch.outer(taps, taps)).to(device, dtype)
