"""Losses and gradients of the four phases in float64, as the code of commit 2cbd3b2 computes them.

tests/fixtures/at_2cbd3b2/golden_fp64.json holds that commit's numbers. Inputs and weights follow from names
alone, by raw words of NumPy's Philox, so they are the same on every machine.

Axes: N samples, R resolution, Z width of z, P noise values of a sample, D width of a caption.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from train.config import RunConfig
from train.model import Context, Micro, Phase
from train.models import stylegan2
from train.models.latents import Latents

GOLDEN = json.loads((Path(__file__).parent / "fixtures/at_2cbd3b2/golden_fp64.json").read_text())
ABOUT = GOLDEN["about"]
USES = {stylegan2._G: "g", stylegan2._D: "d", stylegan2._PATH: "path"}

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(name: str, *shape: int) -> np.ndarray:
    """Returns uniform float64 numbers of mean 0 and variance 1 that follow from a name.

    They are sqrt(12) (u - 1/2), with u from Philox's raw words."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], "<u8")
    raw = np.random.Philox(key=key.astype(np.uint64)).random_raw(math.prod(shape))
    return (math.sqrt(12) * ((raw >> np.uint64(11)) * 2.0**-53 - 0.5)).reshape(shape)


def weight(network: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a parameter. Biases and noise strengths are small, and biases of styles are near 1.

    Slow layers hold values 100 times as large."""
    value = numbers(f"{network}/{name}", *shape)
    if not name.endswith(("weight", "constant")):
        value = 0.1 * value
    if "_styles." in name and name.endswith("bias") and "unconditional" not in name:
        value = value + 1
    return np.asarray(value / (0.01 if name.startswith(("mapping.", "synthesis.codes.")) else 1.0))


def inputs() -> dict[str, Tensor]:
    """Returns pictures (N, 3, R, R), unit captions (N, D), latents, noise, and the encoder's linear map."""
    n, sizes = ABOUT["samples"], ABOUT["model"]
    side, sides = sizes["resolution"], [2**k for k in range(2, sizes["resolution"].bit_length())]
    noise_size = sum(s**2 * (1 if s == 4 else 2) for s in sides)
    arrays = {
        "pictures": numbers("pictures", n, 3, side, side) / math.sqrt(3),
        "path/y": numbers("path/y", n, 3, side, side),
    }
    for name in ("for_d", "for_g"):
        texts = numbers(name, n, sizes["text_dim"])
        arrays[name] = texts / np.sqrt((texts**2).sum(1, keepdims=True))
    for shift, use in enumerate(("g", "d", "path")):
        arrays[f"{use}/z"] = numbers(f"{use}/z", n, 2, sizes["z_dim"])
        arrays[f"{use}/cutoff"] = 1 + (np.arange(n) + shift) % (2 * len(sides))
        arrays[f"{use}/noise"] = numbers(f"{use}/noise", n, noise_size)
    arrays["encoder"] = numbers("encoder", 3 * side * side, sizes["text_dim"]) / math.sqrt(3 * side * side)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Linear:
    """Stands in for the captions' encoder: a linear map of pictures in 0..1."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights

    def features(self, pictures: Tensor) -> Tensor:
        return pictures.flatten(1) @ self._weights


def configured(form: dict[str, dict[str, Any]]) -> RunConfig:
    groups = {
        "model": {**ABOUT["model"], **form["model"]},
        "training": {**ABOUT["training"], "precision": "fp64"},
        "loss": form["loss"],
    }
    return RunConfig.of(
        "stylegan2", {f"{g}.{k}": v for g, values in groups.items() for k, v in values.items()}
    )


@pytest.fixture(params=ABOUT["forms"])
def game(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, torch.nn.Module], list[Phase], Micro]:
    """The model in one of two forms, at the golden weights, with the golden inputs."""
    given = inputs()

    def draw_latents(_sizes: object, _seed: int, use: int, rows: range, **_: object) -> Latents:
        return Latents(*(given[f"{USES[use]}/{name}"][list(rows)] for name in ("z", "cutoff", "noise")))

    monkeypatch.setattr(stylegan2, "draw_latents", draw_latents)
    monkeypatch.setattr(
        stylegan2, "draw_path_noise", lambda _sizes, _seed, _use, rows, **_: given["path/y"][list(rows)]
    )
    groups = configured(ABOUT["forms"][request.param]).groups
    context = Context(torch.device("cpu"), torch.float64, encoder=Linear(given["encoder"]))
    parts = stylegan2.parts(groups, context)
    for network, part in parts.items():
        for name, parameter in part.named_parameters():
            parameter.data.copy_(torch.from_numpy(weight(network, name, tuple(parameter.shape))))
    model = stylegan2.build(parts, groups, context)
    model.state["path_mean"].fill_(ABOUT["path_mean"])
    vectors = {"d": given["for_d"], "g": given["for_g"]}
    return (
        request.param,
        parts,
        model.phases,
        Micro(given["pictures"][:, None], vectors, range(ABOUT["samples"]), 0),
    )


def test_losses_and_gradients_of_every_phase_are_those_of_2cbd3b2(
    game: tuple[str, dict[str, torch.nn.Module], list[Phase], Micro],
) -> None:
    form, parts, phases, micro = game
    assert [phase.name for phase in phases] == ["g", "path", "d", "r1"]
    for phase in phases:
        golden = GOLDEN["golden"][form][phase.name]
        for name, part in parts.items():
            part.zero_grad(set_to_none=True)
            part.requires_grad_(name in phase.parts)
        terms: dict[str, Tensor] = {}
        for row in phase.loss(micro):
            sum((term for term in row.values() if term.requires_grad), torch.zeros(())).backward()
            terms |= row
        assert all(term.dtype == torch.float64 for term in terms.values())
        if phase.name == "path":
            assert terms.pop("length").item() == pytest.approx(np.mean(golden["lengths"]), rel=1e-8)
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(
            golden["losses"], rel=1e-8
        )
        [network] = [parts[name] for name in phase.parts]
        require_gradients(network, golden["gradients"], phase.name)


def require_gradients(network: torch.nn.Module, golden: dict[str, list[float] | None], phase: str) -> None:
    """Compares the norm of each gradient, and its product with cos(0), cos(1), ..., relative to the norm."""
    assert golden.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        expected = golden[name]
        if expected is None:
            assert parameter.grad is None, f"{phase} {name}"
            continue
        assert parameter.grad is not None, f"{phase} {name}"
        flat = parameter.grad.numpy().ravel()
        norm, product = math.sqrt(float(flat @ flat)), float(flat @ np.cos(np.arange(flat.size)))
        assert norm == pytest.approx(expected[0], rel=1e-8, abs=1e-14), f"{phase} {name}"
        assert product == pytest.approx(expected[1], rel=1e-8, abs=1e-8 * norm), f"{phase} {name}"
