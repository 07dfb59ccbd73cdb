"""Lists of names that other people keep as pickles (AttnGAN's filenames.pickle).

A pickle is a program. This unpickler makes lists and strings only: it refuses every class and function.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from data.originals import Source, require
from synth.errors import UserError

# The errors of unpickling a damaged file, or one that is no pickle.
DAMAGED = (
    *(pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError),
    *(AttributeError, OverflowError, MemoryError),
)


def read(path: Path, source: Source) -> list[str]:
    """Returns the names of a pickled list.

    Raises UserError if the file is missing, damaged, or anything but a list of texts."""
    data = require(path, source).read_bytes()
    try:
        names = _Lists(io.BytesIO(data), encoding="utf-8").load()
    except DAMAGED as error:
        raise UserError(f"{path} is not a pickled list of names ({error}){source.advice}") from None

    # Lists may contain anything that needs no class.
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} is a pickle, but not of a list of names{source.advice}")
    return names


class _Lists(pickle.Unpickler):
    """An unpickler of objects that need no class. `read` then admits lists of strings only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it requests {module}.{name}, which a list of names does not need")

    def persistent_load(self, reference: Any) -> NoReturn:
        raise pickle.UnpicklingError("it requests an object outside of the file")
