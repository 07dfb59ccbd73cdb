"""Caption files in the usual forms.

They are one .txt per picture, a table with a header, Flickr8k's tokens, or one JSON object per line. The
columns of a table are separated by commas, semicolons, tabs or bars. A caption is one line: line breaks
within it become spaces. Blank captions are dropped.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data import originals
from data.originals import Source
from synth.errors import UserError
from synth.foreign import parsed_json

# Columns of pictures and of captions.
NAMES, TEXTS = ("file_name", "filename", "image", "image_name"), ("caption", "text", "comment")
_TEXTS = "caption or text"  # the columns to recommend

# Captions of one picture at a time, without a header: Flickr8k's and Flickr30k's NAME#NUMBER<tab>CAPTION.
_NUMBERED = re.compile(r"([^\t]+)#\d+\t(.*)")
_EDGES = " \r"  # around such a line; its tab stays if the caption is blank
_SEPARATOR = re.compile(r"sep=([^\"\r])\s*")  # a first line by spreadsheet programs
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

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


def by_stem(folder: Path, source: Source) -> dict[str, str]:
    """Returns the .txt files below a folder by their names without the extension, which may be in capitals.

    Raises UserError if two files differ in the case of their extension alone."""
    files = originals.sizes(folder, source, suffixes={".txt"})
    by_stem = {name[: -len(".txt")]: name for name in files}
    if twins := files.keys() - by_stem.values():
        raise UserError(
            f"{folder} holds {min(twins)} and {by_stem[min(twins)[:-4]]}; keep one{source.advice}"
        )
    return by_stem


def beside(path: Path, source: Source) -> tuple[str, ...]:
    """Returns the captions of a .txt, one per line.

    Raises UserError if the file is missing, not UTF-8, or blank."""
    captions = tuple(one_line(line) for line in originals.lines(path, source))
    if not captions:
        raise UserError(f"{path} holds no caption; write one per line, or remove the file and its picture")
    return captions


def table(path: Path, source: Source) -> Captions:
    """Returns the captions of a table with a header, of Flickr8k's tokens, or of a .jsonl.

    Raises UserError with file and line if the file is damaged."""
    # Reader.
    rows = READERS.get(path.suffix.lower())
    if rows is None:
        raise UserError(f"{path} is of no known kind of caption file; known are {', '.join(READERS)}")

    # Captions, without blank ones.
    captions: dict[str, list[str]] = {}
    for name, texts in rows(path, originals.text(path, source)):
        captions.setdefault(name, []).extend(line for text in texts if (line := one_line(text)))
    if bare := captions.pop("", None):
        raise UserError(f"{path} has the caption {bare[0][:60]!r} of no picture; add the picture's name")
    return captions


def _table(path: Path, text: str) -> Iterator[tuple[str, Sequence[str]]]:
    # Flickr8k's tokens have no header.
    first, _, rest = text.partition("\n")
    if _NUMBERED.fullmatch(first.strip(_EDGES)):
        yield from _tokens(path, text)
        return

    # Spreadsheet programs may name the separator.
    separator = _separator(first)
    if match := _SEPARATOR.fullmatch(first):
        separator, text = match[1], rest
    yield from _rows(path, text, separator)


def _separator(header: str) -> str:
    """Returns the separator that gives a header a column of captions, else the comma."""
    for separator in _SEPARATORS:
        columns = [cell.strip().strip('"').lower() for cell in header.split(separator)]
        if len(columns) > 1 and set(TEXTS).intersection(columns):
            return separator
    return ","


def _tokens(path: Path, text: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields name and caption of each line NAME#NUMBER<tab>CAPTION."""
    for number, line in enumerate(text.split("\n"), 1):
        match = _NUMBERED.fullmatch(line.strip(_EDGES))
        if line.strip() and not match:
            raise UserError(f"{path}, line {number:,} is no NAME#NUMBER, tab, CAPTION; correct it")
        if match:
            yield match[1].strip(), [match[2]]


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yields name and caption of each row of a table with a header."""
    # Captions between tabs or bars may hold quotes, which then mean nothing.
    bare, word = separator in "\t|", _SEPARATORS.get(separator, repr(separator))
    advice = f"columns are separated by {word}" if bare else f"put texts with {word} in double quotes"

    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        delimiter=separator,
        quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL,
    )
    try:
        # Header.
        header = next(reader, [])
        image, caption = _columns(path, [h.strip().lower() for h in header])

        # Rows. Blank lines are skipped.
        for row in reader:
            if len(row) != len(header) and row:
                counts = f"has {len(row)} columns, but the header has {len(header)}"
                raise UserError(f"{path}, line {reader.line_num:,} {counts}; {advice}")
            if row:
                yield row[image].strip(), [row[caption]]
    except csv.Error as error:
        kind = f"no {word.removesuffix('s')}-separated text"
        raise UserError(f"{path}, line {reader.line_num:,} is {kind}: {error}") from None


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Returns the numbers of the picture column and of the caption column.

    Without a known name, the pictures are in the first column. Raises UserError if no column has captions."""
    image = next((header.index(name) for name in NAMES if name in header), 0)
    caption = next((header.index(name) for name in TEXTS if name in header), None)
    if caption is None or caption == image:
        columns = repr(",".join(header)[:80])
        separators = "separated by commas, semicolons, tabs or bars"
        fault = f"has no column {_TEXTS}; its first line, {columns}, must name the columns"
        raise UserError(f"{path} {fault}, {separators}")
    return image, caption


def _jsonl(path: Path, text: str) -> Iterator[tuple[str, Sequence[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _entry(f"{path}, line {number:,}", line)


def _entry(place: str, line: str) -> tuple[str, Sequence[str]]:
    """Returns name and texts of a line. Raises UserError, which names the place, if it has none."""
    # Object.
    try:
        entry: Any = parsed_json(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON: {error}") from None

    # Its values. The first known key counts.
    name, texts = (
        next((entry[k] for k in keys if k in entry), None) if isinstance(entry, dict) else None
        for keys in (NAMES, TEXTS)
    )
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise UserError(f"{place} is no object with {NAMES[0]} and {_TEXTS} (a text, or a list of texts)")
    return name, texts


READERS: dict[str, Callable[[Path, str], Iterator[tuple[str, Sequence[str]]]]] = {
    ".csv": _table,
    ".txt": _table,
    ".jsonl": _jsonl,
    ".tsv": _table,
    ".token": _table,
}
