"""Dictionaries with arrays of numbers that other people keep as pickles (CIFAR-10's Python version).

A pickle is a program. This unpickler makes numbers, texts, lists and dictionaries. For NumPy's arrays it
makes stand-ins, which hold the bytes and run no code of NumPy. It refuses every other class and function.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from data.originals import Source, require
from data.pickled_names import DAMAGED
from synth.errors import UserError

Json = dict[str, Any]


def read(path: Path, source: Source) -> Json:
    """Returns the entries of a pickled dictionary by name. Arrays of bytes are uint8, texts are strings.

    Raises UserError if the file is missing, damaged, or requests anything else."""
    data = require(path, source).read_bytes()
    try:
        # Python 2 pickled texts as bytes, which latin-1 keeps as they are.
        content = _Arrays(io.BytesIO(data), encoding="latin-1").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        return {_text(key): _plain(value) for key, value in content.items()}
    except DAMAGED as error:
        fault = f"{path} is not a pickled dictionary of arrays, numbers and texts"
        raise UserError(f"{fault} ({error}){source.advice}") from None


class _Dtype:
    """A stand-in for NumPy's dtype, which holds its name."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = _text(name)

    def __setstate__(self, state: object) -> None:
        """Ignores byte order and fields, which bytes do not have."""


class _Array:
    """A stand-in for NumPy's array, which holds the shape and the bytes."""

    def __init__(self, shape: object = (0,), dtype: object = None, data: object = b"") -> None:
        self._shape, self._dtype, self._data, self._fortran = shape, dtype, data, False

    def __setstate__(self, state: Any) -> None:
        _, self._shape, self._dtype, self._fortran, self._data = state

    def pixels(self) -> np.ndarray:
        """Returns the array of bytes. Raises ValueError if it is of another kind."""
        if not isinstance(self._dtype, _Dtype) or self._dtype.name not in ("u1", "|u1", "uint8"):
            raise ValueError("an array does not hold bytes")
        data = self._data.encode("latin-1") if isinstance(self._data, str) else self._data
        if self._fortran or not isinstance(data, bytes | bytearray) or not isinstance(self._shape, tuple):
            raise ValueError("an array is not stored row by row")
        return np.frombuffer(bytes(data), np.uint8).reshape(self._shape)


class _Arrays(pickle.Unpickler):
    """An unpickler that knows the few names of a pickled array."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise pickle.UnpicklingError(f"it requests {module}.{name}, which arrays of bytes do not need")

    def persistent_load(self, reference: Any) -> Any:
        raise pickle.UnpicklingError("it requests an object outside of the file")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    if order != "C":
        raise ValueError("an array is not stored row by row")
    return _Array(shape, dtype, data)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Returns the bytes that Python 3 stores as a text in old forms of pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text is not stored in latin-1")
    return text.encode("latin-1")


# Names of NumPy 1 and 2, and of Python's codecs, in pickles of arrays.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


def _text(value: Any) -> str:
    """Returns a text that may be stored as bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """Returns a value with arrays and texts in place of what the pickle holds."""
    if isinstance(value, _Array):
        return value.pixels()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _text(value) if isinstance(value, bytes) else value
