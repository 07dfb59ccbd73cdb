"""Samples of img2dataset (KEY.jpg, KEY.txt and KEY.json), and a tally of the samples of a tar."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from data.decoding import UndecodableError, decoding
from synth.foreign import escaped, is_utf8, parsed_json
from synth.images import codecs
from synth.images.conversion import GREY, rgb

# A JPEG is examined at an eighth of its size. This reads all of its stream, but computes few pixels.
_FINEST = 8

Json = dict[str, Any]


class UnusableError(ValueError):
    """The reason why a sample cannot be used."""


class RawSample(NamedTuple):
    """A sample that can be used."""

    picture: bytes
    size: tuple[int, int]  # width and height
    grey: bool
    captions: Sequence[str]
    metadata: Json  # its JSON; empty if it has none


class Tally:
    """Counts of the samples of a tar that a task has read so far."""

    def __init__(self) -> None:
        self.keys: list[str] = []  # of samples that can be used
        self.unusable: list[tuple[str, str]] = []  # key and reason
        self._grey = self._captions = self._bare = 0

    @property
    def total(self) -> int:
        """The number of samples so far."""
        return len(self.keys) + len(self.unusable)

    def take(self, key: str, sample: RawSample) -> None:
        """Counts a sample that can be used."""
        self.keys.append(key)
        self._grey, self._captions = self._grey + sample.grey, self._captions + len(sample.captions)
        self._bare += not sample.captions

    def refuse(self, key: str, reason: UnusableError) -> None:
        """Counts a sample that cannot be used. Its key may be any bytes."""
        self.unusable.append((escaped(key), str(reason)))

    def content(self) -> Json:
        """Returns the counts for the tar's record, and its least and greatest key.

        At least one sample must be usable."""
        counts = {"grey": self._grey, "captions": self._captions, "without_captions": self._bare}
        return {**counts, "keys": [min(self.keys), max(self.keys)]}


def examined(key: str, files: dict[str, bytes], *, whole: bool) -> RawSample:
    """Returns the sample of these members. Raises UnusableError.

    With `whole` it reads the picture to its end, else only its header."""
    # Key. Records and tables are UTF-8.
    if not is_utf8(key):
        raise UnusableError("its name is not UTF-8")

    # Number of pictures.
    try:
        data = codecs.only_picture(files)
    except ValueError as error:
        raise UnusableError(f"it {error}") from None

    # Text files. NaN is no JSON, but common.
    try:
        metadata = parsed_json(files.get("json", b"{}"), parse_constant=lambda _: None)
        lines = files.get("txt", b"").decode("utf-8-sig").split("\n")
    except ValueError as error:
        raise UnusableError(f"its .txt or .json is damaged: {error}") from None
    if not isinstance(metadata, dict):
        raise UnusableError("its .json is no object")

    # Captions of the .txt, else of the .json.
    captions = [caption for line in lines if (caption := line.strip())]
    captions = captions or _captions(metadata.get("caption") or [])

    # Picture.
    try:
        with decoding("a sample"), Image.open(io.BytesIO(data)) as picture:
            size, grey = picture.size, picture.mode in GREY
            if whole:
                picture.draft(None, (size[0] // _FINEST, size[1] // _FINEST))
                picture.load()
                # Other modes may have no defined white.
                if picture.mode not in ("L", "RGB"):
                    rgb(picture)
    except UndecodableError as error:
        raise UnusableError(f"its picture does not decode: {error}") from None
    return RawSample(data, size, grey, captions, metadata)


def _captions(value: object) -> list[str]:
    """Returns the captions of a sample's JSON. Raises UnusableError if they are not texts."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UnusableError("the caption in its .json is no text")

    # JSON may contain half a surrogate pair, which UTF-8 cannot store.
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise UnusableError(f"the caption in its .json cannot be stored: {error}") from None
    return [" ".join(text.split("\n")).strip() for text in texts if text.strip()]
