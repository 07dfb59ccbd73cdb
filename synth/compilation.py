"""Compiled kernels, with a cache on disk if there is a place for it."""

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

_UNUSABLE = (OSError, EOFError, pickle.UnpicklingError)  # failures of a cache's files


def cached_jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Returns the decorator of a kernel: numba's `njit` with these options.

    The compiled code is kept beside the source, else in the user's cache, else in memory alone."""

    def decorated(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        # Without a folder that can be written, every process compiles for itself.
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorated


class _Cache(FunctionCache):
    """A cache that a kernel can do without: a full disk or a cut file costs a compilation and no more."""

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return super().load_overload(signature, context)
        except _UNUSABLE:
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        with contextlib.suppress(*_UNUSABLE):
            super().save_overload(signature, code)
