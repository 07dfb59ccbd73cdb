"""Runs of LAFITE's own program in float64, and the same runs by train.loop.Trainer.

The random numbers are those of the program's runs: every draw is a function of keys for NumPy's Philox.
Steps are numbered by t and phases by p (g, path, d, r1). k = 10000 + 10 t + p.

Axes: N samples, R resolution, D width of a caption, Z width of z.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caption.pseudo import pseudo_caption
from train import presets
from train.config import RunConfig
from train.distributed import Ranks
from train.loop import Trainer
from train.model import Context, Phase
from train.models import lafite_names, stylegan2
from train.models.latents import Latents, Square
from train.models.stylegan2_networks import Sizes
from train.stream.batches import Batch

N = 8  # samples of a step
PHASES = ("g", "path", "d", "r1")
CHANGES: dict[str, Any] = {  # to lafite-256, in every run
    **{f"model.{width}": 32 for width in ("z_dim", "w_dim", "channel_max")},
    "model.mapping_layers": 2,
    "model.channel_base": 512,
    "loss.contrastive_group": N,
    "training.batch": N,
    "training.precision": "fp64",
}
USES = {stylegan2._G: 0, stylegan2._PATH: 1, stylegan2._D: 2}

Fingerprints = dict[str, dict[str, tuple[float, float, float]]]  # by network or average, and tensor


@dataclass(frozen=True)
class Recipe:
    """A run: the side of its pictures, its texts and its further settings."""

    side: int
    text: str  # caption, picture or coin
    changes: Mapping[str, Any]

    def config(self, changes: Mapping[str, Any]) -> RunConfig:
        """Returns the config of lafite-256 with the recipe's settings and `changes`."""
        preset = presets.get("lafite-256")
        settings = {**preset.changes, **CHANGES, "model.resolution": self.side, **self.changes, **changes}
        return RunConfig.of(preset.model, settings)


RECIPES = {
    "captions": Recipe(32, "caption", {}),
    "pseudo": Recipe(32, "picture", {}),
    "half": Recipe(32, "coin", {}),
    "noramp": Recipe(32, "caption", {"loss.cond_weight": 5.0, "training.ema_ramp_up": 0.0}),
    "crop": Recipe(256, "picture", {}),
}


def normal(a: int, b: int, *shape: int) -> np.ndarray:
    """Returns the float64 numbers N(0, 1) of two keys."""
    return np.random.Generator(np.random.Philox(key=[a, b])).standard_normal(shape)


def uniform(a: int, b: int, count: int) -> np.ndarray:
    """Returns the float64 numbers in [0, 1) of two keys."""
    return np.random.Generator(np.random.Philox(key=[a, b])).random(count)


class StandIn:
    """Stands in for CLIP's image encoder of 224 pixels, in float64."""

    size = 224

    def __init__(self) -> None:
        mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        self._mean = torch.tensor(mean, dtype=torch.float64)[:, None, None]
        self._deviation = torch.tensor(deviation, dtype=torch.float64)[:, None, None]
        self._weights = torch.from_numpy(normal(9000, 0, 147, 512) / 12)

    def features(self, pictures: Tensor) -> Tensor:
        size = (self.size, self.size)
        sized = pictures
        if pictures.shape[-1] != self.size:
            sized = functional.interpolate(pictures, size, mode="bicubic", antialias=True)
        squares = functional.avg_pool2d((sized - self._mean) / self._deviation, 32)  # (N, 3, 7, 7)
        return torch.tanh(squares.flatten(1) @ self._weights)


def texts(recipe: Recipe, t: int, p: int) -> Tensor:
    """Returns the caption vectors of a phase: float64 (N, D), unit length."""
    k = 10_000 + 10 * t + p
    captions, pictures, noise = normal(2000 + t, 0, N, 512), normal(2200 + t, 0, N, 512), normal(k, 1, N, 512)
    by_picture = {"caption": np.zeros(N, bool), "picture": np.ones(N, bool)}
    chosen = by_picture[recipe.text] if recipe.text in by_picture else uniform(k, 70, N) < 0.5
    vectors = np.where(chosen[:, None], pictures, captions)
    config = recipe.config({})
    xi = np.where(chosen[:, None], presets.get("lafite-256").make().data.xi, config.data.caption_xi)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(pseudo_caption(unit, noise, xi))


def batch(recipe: Recipe, t: int, names: tuple[str, ...]) -> Batch:
    """Returns the pictures and caption vectors of a step."""
    stream = np.random.Generator(np.random.Philox(key=[1000 + t, 0]))
    pictures = stream.integers(0, 256, (N, 3, recipe.side, recipe.side), dtype=np.uint8)
    vectors = {name: texts(recipe, t, PHASES.index(name)) for name in names}
    return Batch(torch.from_numpy(pictures)[:, None], vectors)


def draws_of_the_program(patch: pytest.MonkeyPatch) -> None:
    """Replaces the draws of a step by those of the program's runs."""

    def draw_latents(
        sizes: Sizes, _seed: int, use: int, numbers: range, *, mixing: float, batch: int | None, device: str
    ) -> Latents:
        k = 10_000 + 10 * (numbers[0] // N) + USES[use]
        rows = [number % N for number in numbers]
        z = np.stack([normal(k, 0, N, sizes.z_dim)[rows], normal(k, 2, len(rows), sizes.z_dim)], 1)
        noise = [normal(k, 10 + i, len(rows), side * side) for i, side in enumerate(sizes.noise_sides)]
        decisions = [uniform(k, 3, 2)] if batch is not None else [uniform(k, 300 + row, 2) for row in rows]
        cutoffs = [1 + int(u[1] * (sizes.layers - 1)) if u[0] < mixing else sizes.layers for u in decisions]
        cutoff = torch.tensor(cutoffs).expand(len(rows))
        return Latents(torch.from_numpy(z), cutoff, torch.from_numpy(np.concatenate(noise, 1)))

    def draw_path_noise(sizes: Sizes, _seed: int, _use: int, numbers: range, *, device: str) -> Tensor:
        k, side = 10_000 + 10 * (numbers[0] // N) + 1, sizes.resolution
        return torch.from_numpy(normal(k, 50, len(numbers), 3, side, side))

    def draw_square(resolution: int, size: int, _seed: int, _use: int, first: int) -> Square:
        k = 10_000 + 10 * (first // N)
        if resolution < size:
            left, top = ((size - resolution) * uniform(k, 60, 2)).astype(int)
            return Square(resolution, int(left), int(top))
        u = uniform(k, 60, 3)
        side = int(resolution / 2 + resolution / 2 * u[0])
        return Square(side, int((resolution - side) * u[1]), int((resolution - side) * u[2]))

    for draw in (draw_latents, draw_path_noise, draw_square):
        patch.setattr(stylegan2, draw.__name__, draw)


class Recorded(Trainer):
    """A trainer that keeps the norm of each phase's gradient, and the gradients of the first step."""

    def __init__(self, *arguments: Any) -> None:
        self.norms: list[dict[str, float]] = []  # by step and phase
        self.first: dict[str, dict[str, Tensor]] = {}  # by phase and parameter
        super().__init__(*arguments)

    def _apply(self, phase: Phase) -> None:
        [part] = phase.parts
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in self.parts[part].named_parameters()
        }
        if phase.name == "g":
            self.norms.append({})
        self.norms[-1][phase.name] = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        if len(self.norms) == 1:
            self.first[phase.name] = gradients
        super()._apply(phase)


def trainer(
    recipe: Recipe, shapes: Mapping[str, Mapping[str, list[int]]], changes: Mapping[str, Any]
) -> Recorded:
    """Returns a trainer with the first weights of the program's runs. `shapes` are by network and tensor."""
    config = recipe.config(changes)
    context = Context(torch.device("cpu"), torch.float64, encoder=StandIn())
    recorded, sizes = Recorded(config, context, Ranks()), config.groups.model
    consts = {f"{name}.noise_const": [side, side] for name, side in noise_constants(sizes).items()}
    for g, (part, shapes_of, mapped) in enumerate(
        (
            ("generator", {**shapes["G"], **consts}, lafite_names.generator_state),
            ("discriminator", shapes["D"], lafite_names.discriminator_state),
        )
    ):
        tensors = {
            name: first_weight(name, normal(3000 + g, i, *shapes_of[name]))
            for i, name in enumerate(sorted(shapes_of))
        }
        recorded.parts[part].load_state_dict(mapped(tensors, sizes))
    recorded.averages["ema"].load_state_dict(recorded.parts["generator"].state_dict())
    return recorded


def noise_constants(sizes: Sizes) -> dict[str, int]:
    """Returns the side of the noise of each of the program's convolutions."""
    return dict(zip(lafite_names.convolutions(sizes), sizes.noise_sides, strict=True))


def first_weight(name: str, values: np.ndarray) -> Tensor:
    """Returns the first value of a tensor, from numbers N(0, 1)."""
    slow = name.startswith("mapping.") or ".pre_" in name  # its learning rate is a hundredth
    if name.endswith(("noise_strength", "affine_0.bias")):
        base, scale = float("affine" in name), 0.1
    elif name.endswith("bias"):
        base, scale = 0.0, 10.0 if slow else 0.1
    else:
        base, scale = 0.0, 100.0 if slow else 1.0
    return torch.from_numpy(np.asarray(base + scale * values))


def tensors_of_the_program(
    ours: Mapping[str, Tensor], shapes: Mapping[str, list[int]], network: str, sizes: Sizes
) -> dict[str, np.ndarray]:
    """Returns a network's tensors under the program's names, flat and sorted by name."""
    # Positions instead of values, mapped to our names, say where each value came from.
    offsets = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
    positions = {
        name: torch.arange(int(start), int(start) + math.prod(shape)).reshape(shape)
        for start, (name, shape) in zip(offsets[:-1], shapes.items(), strict=True)
    }
    mapped = {"G": lafite_names.generator_state, "D": lafite_names.discriminator_state}[network]
    values = np.empty(int(offsets[-1]))
    for name, places in mapped(positions, sizes).items():
        values[places.flatten().numpy()] = ours[name].detach().flatten().numpy()
    rows = np.split(values, offsets[1:-1])
    return dict(sorted(zip(shapes, rows, strict=True)))


def fingerprints(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Returns the sum, the sum of absolute values and a projection of each tensor."""
    return {
        name: (row.sum(), np.abs(row).sum(), row @ normal(5000, i, row.size))
        for i, (name, row) in enumerate(tensors.items())
    }


def all_fingerprints(trainer: Trainer, shapes: Mapping[str, Mapping[str, list[int]]]) -> Fingerprints:
    """Returns the fingerprints of G, D and the average."""
    sizes = trainer.config.groups.model
    modules = {
        "G": trainer.parts["generator"],
        "D": trainer.parts["discriminator"],
        "EMA": trainer.averages["ema"],
    }
    return {
        name: fingerprints(
            tensors_of_the_program(
                module.state_dict(), shapes["D" if name == "D" else "G"], "D" if name == "D" else "G", sizes
            )
        )
        for name, module in modules.items()
    }


def deviation(ours: Mapping[str, Any], golden: Mapping[str, Any]) -> float:
    """Returns the largest difference of fingerprints, in parts of a tensor's sum of absolute values."""
    assert list(ours) == list(golden)
    return max(
        float(np.abs(np.subtract(row, golden[name])).max()) / golden[name][1] for name, row in ours.items()
    )


def losses(terms: Mapping[str, Tensor], recipe: Recipe) -> dict[str, float]:
    """Returns the loss of each phase of a step, without the factor of a regulariser."""
    training = recipe.config({}).groups.training
    factors = {"path": training.path_every, "r1": training.r1_every}
    sums: dict[str, float] = {}
    for name, value in terms.items():
        phase, _, term = name.partition("/")
        if term != "length":
            sums[phase] = sums.get(phase, 0.0) + float(value) / factors.get(phase, 1)
    return sums
