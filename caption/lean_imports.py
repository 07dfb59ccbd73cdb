"""DOOR. Imports of torchvision and open_clip that work on any machine, and take a second instead of six.

- torchvision's wheels hold CUDA builds, and their C++ library does not load with a CPU build of torch. Then
  its operators are unknown, and the import fails when it registers their meta functions. Schemas without an
  implementation let the import pass. exnihilo calls none of these operators.
- torchvision imports torch's compiler (2.3 CPU-seconds) for one question of one operator.
- open_clip imports transformers (2.2) and timm (.3) for towers that few of its models have.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_COMPILER = "torch._dynamo"
_TOWERS = {"hf_model": "transformers", "timm_model": "timm"}  # module of open_clip -> package that it tries


def import_torchvision() -> None:
    """Imports torchvision. Call this before any import that needs it.

    Does nothing if torchvision is not installed."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    _declare_operators()
    _imported("torchvision", _compiler())


def import_open_clip() -> Any:
    """Returns open_clip, imported without transformers and timm unless the process has them already."""
    import_torchvision()
    return _imported("open_clip", dict.fromkeys(_TOWERS.values()))


def complete_towers(open_clip: Any) -> None:
    """Imports transformers and timm, where they are installed, for towers of open_clip that need them."""
    for name, package in _TOWERS.items():
        module = importlib.import_module(f"{open_clip.__name__}.{name}")
        if getattr(module, package) is None:
            # Its classes find the package among the module's globals, which a reload keeps in place.
            importlib.reload(module)


@functools.cache
def _declare_operators() -> Any:
    """Returns the library of declared schemas, kept alive by the cache.

    Returns None if torchvision's own library loads, or the operators exist already."""
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


def _compiler() -> dict[str, ModuleType]:
    """Returns stand-ins for the modules of torch's compiler: no device compiles."""
    package, utils = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    vars(utils)["is_compile_supported"] = lambda _: False
    return {package.__name__: package, utils.__name__: utils}


def _imported(name: str, stand_ins: Mapping[str, ModuleType | None]) -> ModuleType:
    """Returns a module, imported with stand-ins, or plainly if its version needs more than these have."""
    try:
        with _stand_ins(stand_ins):
            return importlib.import_module(name)
    except ImportError:
        return importlib.import_module(name)


@contextlib.contextmanager
def _stand_ins(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Imports stand-ins, within the block, in the place of modules that the process does not have yet.

    The import of a module with None fails."""
    absent = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # None is allowed, and documented
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
