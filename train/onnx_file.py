"""The ONNX file of an exported model, for any number of samples: drawing, from vectors of texts and noise to
pictures, or the part of it that the model names (`onnx_call` of train/model.py).

Axes: N pictures, D dimensions of a vector, P values of noise, R resolution.
"""

import importlib.util
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from synth.errors import UserError
from train import model
from train.loop import parameters
from train.model import Context, Loaded, OnnxCall, Texts

_PACKAGES = ("onnx", "onnxscript")
_MOST_BYTES = 2_000_000_000  # of one file of the format


def require(run: str, name: str) -> None:
    """Raises UserError if the model draws no pictures, or if a package is missing."""
    model.require_drawing(name, run)
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--onnx needs {' and '.join(missing)}; run `make .venv/.export`")


def of(loaded: Loaded) -> bytes:
    """Returns a model as ONNX, with the defaults of its drawing options.

    Raises UserError if its weights are more than the format holds."""
    # Size.
    size = 4 * parameters(*loaded.parts.values())
    if size > _MOST_BYTES:
        problem = f"the weights have {size:,} bytes, and an ONNX file holds {_MOST_BYTES:,}"
        raise UserError(f"{problem}; leave --onnx out")

    # One call fills caches, which must not keep tensors of the tracer.
    call, batch = content(loaded), torch.export.Dim("batch")
    shapes = [{0: batch} for _ in call.inputs]
    for shape, name in zip(shapes, call.inputs, strict=True):
        if name in call.free:
            shape[1] = torch.export.Dim(call.free[name])
    with torch.no_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        call.call(*call.inputs.values())

        # The exporter warns of its own parts.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            call.call,
            tuple(call.inputs.values()),
            input_names=list(call.inputs),
            output_names=[call.output],
            dynamic_shapes=tuple(shapes),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        path = Path(folder) / "model.onnx"
        program.save(str(path), external_data=False)
        return path.read_bytes()


def content(loaded: Loaded) -> OnnxCall:
    """Returns the content of a model's ONNX file: its `onnx_call`, else drawing as a whole."""
    module, config = model.find(loaded.name), loaded.config
    if hasattr(module, "onnx_call"):
        call: OnnxCall = module.onnx_call(loaded.parts, config)
        return call
    vectors, noise = torch.zeros(2, config.model.text_dim), module.start(config, range(2), 0)
    words = f"`vectors` (N, {config.model.text_dim}) of unit length and normal `noise`"
    inputs = {"vectors": vectors, "noise": noise}
    return OnnxCall(_Drawing(module, loaded), inputs, "pictures", {}, words)


class _Drawing(nn.Module):
    """A model's `draw` as a module."""

    def __init__(self, module: ModuleType, loaded: Loaded) -> None:
        super().__init__()
        self._law: Any = module
        self._parts = nn.ModuleDict(loaded.parts)
        self._context = Context(torch.device("cpu"), torch.float32, loaded.survey)

    def forward(self, vectors: Tensor, noise: Tensor) -> Tensor:
        """(N, D), (N, P) -> (N, 3, R, R)."""
        parts, options = dict(self._parts.items()), self._law.Options()
        pictures: Tensor = self._law.draw(parts, noise, Texts(vectors), options, self._context)
        return pictures
