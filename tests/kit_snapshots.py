"""Network snapshots like those of LAFITE's program, by stand-in classes of the same names."""

import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train.models import lafite_names
from train.models.stylegan2_networks import Sizes

SMALL = Sizes(
    resolution=16,
    text_dim=32,
    z_dim=16,
    w_dim=24,
    mapping_layers=2,
    text_width=32,
    channel_base=128,
    channel_max=16,
    style="w",
    mbstd_order="strided",
)

Json = dict[str, Any]


class Persistent(nn.Module):
    """A module that is pickled with its source code instead of a reference to its class."""

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
        source = "import os; os.abort()"
        name = type(self).__name__
        facts = {"type": "class", "version": 6, "module_src": source, "class_name": name}
        return rebuild, ({**facts, "state": dict(vars(self))},)


class Generator(Persistent): ...


class Discriminator(Persistent): ...


class FullyConnectedLayer(Persistent): ...


class MinibatchStdLayer(Persistent): ...


class Layer(Persistent): ...


def stand_ins(patch: pytest.MonkeyPatch) -> None:
    """Makes the modules that a snapshot names importable."""

    def _reconstruct_persistent_obj(meta: Json) -> None:
        raise AssertionError("this code of a snapshot is never run")

    class EasyDict(dict[str, Any]): ...

    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")
    for module, thing in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(sys.modules, module.__name__.partition(".")[0], ModuleType("package"))


def generator_tensors(sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """Returns random tensors of the program's generator, by name."""
    c, shapes = sizes.channels, dict[str, tuple[int, ...]]()
    shapes["synthesis.b4.const"] = (c(4), 4, 4)
    for i in range(sizes.mapping_layers):
        inputs = sizes.z_dim if i == 0 else sizes.w_dim
        shapes |= dense(f"mapping.fc{i}", sizes.w_dim, inputs)
    inputs, conv_sides = c(4), sizes.noise_sides
    for name, side in zip(lafite_names.convolutions(sizes), conv_sides, strict=True):
        shapes |= {f"{name}.weight": (c(side), inputs, 3, 3), f"{name}.bias": (c(side),)}
        shapes |= {f"{name}.noise_strength": (), f"{name}.noise_const": (side, side)}
        shapes |= styles(name, inputs, sizes)
        inputs = c(side)
    for side in sizes.sides:
        name = f"synthesis.b{side}.torgb"
        shapes |= {f"{name}.weight": (3, c(side), 1, 1), f"{name}.bias": (3,)} | styles(name, c(side), sizes)
    return random_tensors(shapes, seed)


def discriminator_tensors(sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """Returns random tensors of the program's discriminator, by name."""
    c, top, shapes = sizes.channels, sizes.resolution, dict[str, tuple[int, ...]]()
    shapes |= {f"b{top}.fromrgb.weight": (c(top), 3, 1, 1), f"b{top}.fromrgb.bias": (c(top),)}
    for side in sizes.sides[:0:-1]:
        for name, outputs in (("conv0", c(side)), ("conv1", c(side // 2))):
            shapes |= {f"b{side}.{name}.weight": (outputs, c(side), 3, 3), f"b{side}.{name}.bias": (outputs,)}
        shapes[f"b{side}.skip.weight"] = (c(side // 2), c(side), 1, 1)
    shapes |= {"b4.conv.weight": (c(4), c(4) + 1, 3, 3), "b4.conv.bias": (c(4),)}
    shapes |= (
        dense("b4.fc", c(4), 16 * c(4)) | dense("b4.out", 1, c(4)) | dense("b4.fts", sizes.text_dim, c(4))
    )
    return random_tensors(shapes, seed)


def dense(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def styles(name: str, channels: int, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    width = sizes.text_width
    first, second = dense(f"{name}.pre_0", width, sizes.text_dim), dense(f"{name}.pre_1", width, width)
    return first | second | dense(f"{name}.affine_0", channels, width + sizes.w_dim)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def network(root: Persistent, tensors: Mapping[str, Tensor], architecture: str) -> Persistent:
    """Returns a network of nested modules with these tensors."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        module: nn.Module = root
        for part in path.split("."):
            if part not in module._modules:
                module.add_module(part, submodule(part, path, taps, architecture))
            module = module._modules[part]  # type: ignore[assignment]
        if leaf == "noise_const":
            module.register_buffer(leaf, tensor)
        else:
            module.register_parameter(leaf, nn.Parameter(tensor))
    return root


def submodule(part: str, path: str, taps: Tensor, architecture: str) -> Persistent:
    """Returns an empty module with the attributes of its kind."""
    if part.startswith(("fc", "pre_", "affine_", "out", "fts")):
        module: Persistent = FullyConnectedLayer()
        slow = "mapping" in path or part.startswith("pre_")
        return with_attributes(module, bias_gain=0.01 if slow else 1, weight_gain=np.float64(0.01))
    module = Layer()
    module.register_buffer("resample_filter", torch.outer(taps, taps))
    if part.startswith(("conv", "torgb")) and architecture == "skip":
        return with_attributes(module, structure=2)
    return with_attributes(module, architecture=architecture) if part.startswith("b") else module


def with_attributes(module: Persistent, **values: Any) -> Persistent:
    vars(module).update(values)
    return module


def snapshot(sizes: Sizes = SMALL) -> dict[str, Any]:
    """Returns the content of a snapshot."""
    easy = sys.modules["dnnlib.util"].EasyDict
    networks: dict[str, Any] = {}
    for seed, name in enumerate(("G", "G_ema")):
        g = network(Generator(), generator_tensors(sizes, seed), "skip")
        with_attributes(g, mani=None, c_dim=0, img_channels=3, init_kwargs=easy(z_dim=sizes.z_dim))
        g.get_submodule("mapping").register_buffer("w_avg", torch.zeros(sizes.w_dim))
        networks[name] = g
    d = network(Discriminator(), discriminator_tensors(sizes, 2), "resnet")
    with_attributes(d, use_norm=False, use_fts=True, c_dim=0, img_channels=3)
    deviation = with_attributes(MinibatchStdLayer(), group_size=4, num_channels=1)
    d.get_submodule("b4").add_module("mbstd", deviation)
    return {"training_set_kwargs": easy(path="train.zip"), "augment_pipe": None, **networks, "D": d}


def write(path: Path, content: Any, *, protocol: int = 4) -> Path:
    """Writes a pickle."""
    buffer = io.BytesIO()
    pickle.dump(content, buffer, protocol=protocol)
    path.write_bytes(buffer.getvalue())
    return path
