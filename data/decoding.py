"""Decoding of pictures from unknown sources, by Pillow.

Every failure on a damaged picture becomes one error, with the same words on every machine.
"""

import contextlib
import errno
import warnings
from collections.abc import Iterator

from PIL import UnidentifiedImageError

from synth.errors import UserError
from synth.images.conversion import DAMAGED


class UndecodableError(Exception):
    """The reason why a picture does not decode."""


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns the failures of a block that opens and decodes a picture into two errors.

    Raises UndecodableError if the picture is damaged or of no known kind. Raises UserError if the file cannot
    be read, because the picture may be whole."""
    try:
        # Pillow warns about many pixels and about damaged EXIF.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError:
        raise UndecodableError("its format is none that is known") from None
    except OSError as error:
        # EINVAL is a damaged file: it refers to a place before its start.
        if error.errno not in (None, errno.EINVAL):
            raise UserError(
                f"{name} cannot be read: {error.strerror}; make it readable and run the same command again"
            ) from None
        raise UndecodableError(_reason(error)) from None
    except DAMAGED as error:
        raise UndecodableError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
