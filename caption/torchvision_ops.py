"""The two operator schemas that torchvision demands and a torch without CUDA lacks; `declare` comes before anything that imports it.

torchvision's wheels hold CUDA builds, whose C++ library does not load beside a CPU build of torch: its operators are then unknown, and the
import fails where their meta functions are registered. Declared without an implementation they let it pass; nothing here calls them.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def declare() -> Any:
    """The library of declared schemas, kept alive by the cache; None where torchvision needs no help, got it already, or is not there."""
    spec = importlib.util.find_spec("torchvision")  # finds, does not import
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, _OPERATORS[0]):
        return None
    # _C.so in a wheel; a build of one's own may have the platform in the name.
    built = next(Path(spec.origin).parent.glob("_C.*so"), Path("_C.so"))
    try:
        torch.ops.load_library(built)
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(name + _SCHEMA)
        return library
