"""DOOR. Names and texts of other people's files: members of tars, originals, tables, shader programs."""

import codecs
import json
import posixpath
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The marks at the start of a text that Windows programs write.
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(path: Path) -> str:
    """Returns the content of a text file without its byte order mark.

    Bytes that are no text become U+FFFD. Line ends become newlines."""
    data = path.read_bytes()
    mark, encoding = next((pair for pair in _MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    text = data[len(mark) :].decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def escaped(name: str) -> str:
    """Returns a name that every file and terminal takes. Bytes that are not UTF-8 become \\udcXX, as in
    "caf\\udce9.jpg"."""
    return name.encode(errors="backslashreplace").decode()


def is_utf8(name: str) -> bool:
    """Returns True if a name can be stored as UTF-8."""
    return escaped(name) == name


def alike(name: str) -> str:
    """Returns the form that names have in common if they look equal to a person.

    Accents may be characters of their own or not (Unicode's NFC and NFD), extensions may be in capitals, and
    Windows separates folders by backslashes."""
    stem, extension = posixpath.splitext(posixpath.normpath(name.replace("\\", "/")))
    return unicodedata.normalize("NFC", stem) + extension.lower()


def locate(path: Path) -> Path | None:
    """Returns the path if it exists, else the only file of its folder with a name that looks equal, or
    None."""
    if path.exists() or not path.parent.is_dir():
        return path if path.exists() else None
    matched = matches([path.name], (entry.name for entry in path.parent.iterdir()))
    return path.with_name(matched[path.name]) if path.name in matched else None


def matches(names: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Returns the present name of each name: the same one, else the only one that looks equal.

    Names without one, or with several, are left out."""
    exact = set(present)
    look_alikes: dict[str, list[str]] = {}
    for name in exact:
        look_alikes.setdefault(alike(name), []).append(name)

    matched = {}
    for name in names:
        others = look_alikes.get(alike(name), [])
        if name in exact:
            matched[name] = name
        elif len(others) == 1:
            matched[name] = others[0]
    return matched


def parsed_json(data: bytes | str, **options: Any) -> Any:
    """Returns the value of other people's JSON. Raises ValueError if it is damaged or nested too deeply."""
    try:
        return json.loads(data, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
