"""Names of the tensors of LAFITE's program -> names of train/models/stylegan2_networks.py.

The program's networks have flat names, such as synthesis.b8.conv0.weight. Both functions only move, join and
transpose tensors, without factors, so they map weights as well as gradients. Style is "w".

Axes: M modulated layers, T width of text layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from train.models.stylegan2_networks import Sizes

_PAIR = ("weight", "bias")


def generator_state(tensors: Mapping[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Returns the state of a Generator. Its `fixed_noise` is missing if the program's noise_const are."""
    convs = convolutions(sizes)
    colours = [f"synthesis.b{side}.torgb" for side in sizes.sides]
    state = {"synthesis.constant": tensors["synthesis.b4.const"]}

    # Mapping network.
    for i in range(sizes.mapping_layers):
        state |= {f"mapping.{i}.{key}": tensors[f"mapping.fc{i}.{key}"] for key in _PAIR}

    # Condition codes, in the order of modulated layers: (M T, D), (M T,), (M, T, T), (M, T).
    for key in _PAIR:
        joined = torch.cat([tensors[f"{name}.pre_0.{key}"] for name in convs + colours])
        state[f"synthesis.codes.first.{key}"] = joined
    second = [tensors[f"{name}.pre_1.weight"].t() for name in convs + colours]
    state["synthesis.codes.weight"] = torch.stack(second)
    state["synthesis.codes.bias"] = torch.stack([tensors[f"{name}.pre_1.bias"] for name in convs + colours])

    # Convolutions, colours, and their styles.
    for kind, styles, names in (("convs", "conv_styles", convs), ("colours", "colour_styles", colours)):
        for i, name in enumerate(names):
            for key in (*_PAIR, "noise_strength") if kind == "convs" else _PAIR:
                state[f"synthesis.{kind}.{i}.{key}"] = tensors[f"{name}.{key}"]
            for key in _PAIR:
                state[f"synthesis.{styles}.{i}.{key}"] = tensors[f"{name}.affine_0.{key}"]
    for i in range(len(colours)):
        name = f"synthesis.colours.{i}.weight"
        state[name] = state[name].flatten(1)

    # Noise of pictures that are drawn without their own.
    if f"{convs[0]}.noise_const" in tensors:
        state["fixed_noise"] = torch.cat([tensors[f"{name}.noise_const"].flatten() for name in convs])
    return state


def discriminator_state(tensors: Mapping[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Returns the state of a Discriminator."""
    state = {f"colours.{key}": tensors[f"b{sizes.resolution}.fromrgb.{key}"] for key in _PAIR}

    # Blocks, from the picture down.
    for i, side in enumerate(sizes.sides[:0:-1]):
        for ours, theirs in (("conv", "conv0"), ("down", "conv1")):
            state |= {f"blocks.{i}.{ours}.{key}": tensors[f"b{side}.{theirs}.{key}"] for key in _PAIR}
        state[f"blocks.{i}.skip.weight"] = tensors[f"b{side}.skip.weight"]

    # The deviation's convolution and both heads.
    for ours, theirs in (("conv", "conv"), ("dense", "fc"), ("score", "out"), ("meaning", "fts")):
        state |= {f"{ours}.{key}": tensors[f"b4.{theirs}.{key}"] for key in _PAIR}
    return state


def convolutions(sizes: Sizes) -> list[str]:
    """Returns the program's names of the modulated convolutions, in order."""
    pairs = [(side, name) for side in sizes.sides for name in ("conv0", "conv1")]
    return [f"synthesis.b{side}.{name}" for side, name in pairs if (side, name) != (4, "conv0")]
