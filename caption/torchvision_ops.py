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
    """The library of declared schemas, kept alive by the cache; None where torchvision needs no help, or is not there."""
    spec = importlib.util.find_spec("torchvision")  # finds, does not import
    if spec is None or spec.origin is None:
        return None
    try:
        torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(name + _SCHEMA)
        return library
