"""Caption files in the usual forms.

They are one .txt per picture, a table (CSV with a header), or one JSON object per line. A caption is one
line: line breaks within it become spaces. Blank captions are dropped.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data import originals
from data.originals import Source
from synth.errors import UserError

NAMES, TEXTS = ("file_name", "filename", "image"), ("caption", "text")  # columns of pictures and of captions

Captions = Mapping[str, Sequence[str]]  # by the picture's name in the file, in the file's order

_BREAK = re.compile(r"\s*[\r\n\u2028\u2029\x0b\x0c\x85]+\s*")


def one_line(text: str) -> str:
    """Returns a caption without line breaks and surrounding spaces.

    Raises UserError if it contains half a surrogate pair, as JSON may."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the caption {text[:60]!a} contains half a character, which no file can store; correct it"
        ) from None
    return _BREAK.sub(" ", text.strip())


def beside(path: Path, source: Source) -> tuple[str, ...]:
    """Returns the captions of a .txt, one per line.

    Raises UserError if the file is missing, not UTF-8, or blank."""
    captions = tuple(one_line(line) for line in originals.lines(path, source))
    if not captions:
        raise UserError(f"{path} holds no caption; write one per line, or remove the file and its picture")
    return captions


def table(path: Path, source: Source) -> Captions:
    """Returns the captions of a .csv, .txt (comma-separated, with a header) or .jsonl.

    Raises UserError with file and line if the file is damaged."""
    # Reader.
    rows = READERS.get(path.suffix.lower())
    if rows is None:
        raise UserError(f"{path} is of no known kind of caption file; known are {', '.join(READERS)}")

    # Captions, without blank ones.
    captions: dict[str, list[str]] = {}
    for name, texts in rows(path, originals.text(path, source)):
        captions.setdefault(name, []).extend(line for text in texts if (line := one_line(text)))
    return captions


def _csv(path: Path, text: str) -> Iterator[tuple[str, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        # Header.
        header = next(reader, [])
        image, caption = _columns(path, [h.strip().lower() for h in header])

        # Rows. Blank lines are skipped.
        for row in reader:
            if len(row) != len(header) and row:
                counts = f"has {len(row)} columns, but the header has {len(header)}"
                raise UserError(
                    f"{path}, line {reader.line_num:,} {counts}; put texts with commas in double quotes"
                )
            if row:
                yield row[image].strip(), [row[caption]]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num:,} is no comma-separated text: {error}") from None


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Returns the numbers of the picture column and of the caption column.

    Without a known name, the pictures are in the first column. Raises UserError if no column has captions."""
    image = next((header.index(name) for name in NAMES if name in header), 0)
    caption = next((header.index(name) for name in TEXTS if name in header), None)
    if caption is None or caption == image:
        columns = repr(",".join(header)[:80])
        raise UserError(
            f"{path} has no column {' or '.join(TEXTS)}; its first line, {columns}, must name the columns"
        )
    return image, caption


def _jsonl(path: Path, text: str) -> Iterator[tuple[str, Sequence[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _entry(f"{path}, line {number:,}", line)


def _entry(place: str, line: str) -> tuple[str, Sequence[str]]:
    """Returns name and texts of a line. Raises UserError, which names the place, if it has none."""
    # Object.
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON: {error}") from None

    # Its values. The first known key counts.
    name, texts = (
        next((entry[k] for k in keys if k in entry), None) if isinstance(entry, dict) else None
        for keys in (NAMES, TEXTS)
    )
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise UserError(
            f"{place} is no object with {NAMES[0]} and {' or '.join(TEXTS)} (a text, or a list of texts)"
        )
    return name, texts


READERS: dict[str, Callable[[Path, str], Iterator[tuple[str, Sequence[str]]]]] = {
    ".csv": _csv,
    ".txt": _csv,
    ".jsonl": _jsonl,
}
