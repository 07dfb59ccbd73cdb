"""The two operator schemas that torchvision requires and a torch without CUDA lacks.

Call `declare` before any import that needs torchvision. Its wheels hold CUDA builds, and their C++ library
does not load with a CPU build of torch. Then its operators are unknown, and the import fails when it
registers their meta functions. Schemas without an implementation let the import pass. exnihilo calls none of
them.
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
    """Returns the library of declared schemas, kept alive by the cache.

    Returns None if torchvision is not installed, its own library loads, or the operators exist already."""
    # The package is located without an import.
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, _OPERATORS[0]):
        return None

    # The file is _C.so in a wheel. A local build may have the platform in its name.
    binary = next(Path(spec.origin).parent.glob("_C.*so"), Path("_C.so"))
    try:
        torch.ops.load_library(binary)
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(name + _SCHEMA)
        return library
