"""Pictures of strangers, decoded by Pillow: whatever it raises of a damaged one is one error, with the same words on every machine."""

import contextlib
import errno
import struct
import warnings
import zlib
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError

from synth.errors import UserError

# What Pillow raises of damaged files; it promises none of them.
_DAMAGED = (
    *(SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, NotImplementedError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


class UndecodableError(Exception):
    """Why a picture does not decode."""


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Where a picture is opened and decoded. Raises UndecodableError where it is damaged or of no known kind, and UserError where its
    file cannot be read, which says nothing of the picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, of damaged EXIF
            yield
    except UnidentifiedImageError:
        raise UndecodableError("its format is none that is known") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: a damaged file leads to before its start
            raise UserError(f"{name} cannot be read: {error.strerror}; when it can, give the same command again") from None
        raise UndecodableError(_reason(error)) from None
    except _DAMAGED as error:
        raise UndecodableError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
