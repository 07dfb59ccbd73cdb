"""Lists of names that others keep as pickles (AttnGAN's filenames.pickle), read by an unpickler that admits nothing else.

A pickle is a program; this one may make lists and strings, and whatever asks for a class or a function is refused before it gets it.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from data.originals import Source, require
from synth.errors import UserError

# What unpickling raises of a file that is damaged or is no pickle.
_DAMAGED = (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def read(path: Path, source: Source) -> list[str]:
    """The names of a pickled list. Raises UserError where the file is missing, damaged, or anything but a list of texts."""
    data = require(path, source).read_bytes()
    try:
        names = _Lists(io.BytesIO(data), encoding="utf-8").load()
    except _DAMAGED as error:
        raise UserError(f"{path} is not a pickled list of names ({error}){source.advice}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} is a pickle of something else than a list of names{source.advice}")
    return names


class _Lists(pickle.Unpickler):
    """Makes what needs no class: of that, `read` takes lists of strings."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a list of names does not need")

    def persistent_load(self, reference: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for something outside of itself")
