"""DOOR. Settings: frozen dataclasses from `--set key=value` and from JSON; canonical JSON and its digest."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from synth.errors import UserError

T = TypeVar("T")


def with_settings(config: T, settings: Iterable[str], prefix: str = "") -> T:
    """Returns the config with the value of each `key=value`, the last one of a key. Numbers are written
    plainly, ranges as `low,high`. `prefix` stands before the keys in messages.

    The order of the settings does not matter. Raises UserError for an unknown key (with the list of keys), a
    value of the wrong type, or values that the config refuses."""
    hints = typing.get_type_hints(type(config))
    types_of = {field.name: hints[field.name] for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    texts, values = dict[str, str](), dict[str, Any]()
    for setting in settings:
        key, equals, text = setting.partition("=")

        # The key.
        if key not in types_of:
            known = ", ".join(prefix + name for name in sorted(types_of))
            raise UserError(f"unknown setting {prefix + key!r}; known are {known}")
        default = written(getattr(config, key))
        if not equals:
            advice = f"write {prefix}{key}=VALUE"
            if default is not None:
                advice += f", as in {prefix}{key}={default}"
            raise UserError(f"setting {prefix + key!r} has no value; {advice}")

        # The value.
        try:
            texts[key], values[key] = text, _parse(types_of[key], text)
        except ValueError as error:
            raise _refused(config, prefix, {key: text}, error) from None

    # All at once, as the config's own checks may join several values. A fault names the fewest of them.
    fault = _fault(config, values)
    if fault is None:
        return dataclasses.replace(config, **values)  # type: ignore[type-var]
    for key in list(values):
        rest = {name: value for name, value in values.items() if name != key}
        if other := _fault(config, rest):
            values, fault = rest, other
    raise _refused(config, prefix, {key: texts[key] for key in values}, fault)


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """Returns a dataclass from its JSON, with tuples for lists, also of dataclasses. Fields that the class
    names in ADDED may be missing. Raises ValueError if other names differ."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if names != set(values) | (names & set(getattr(kind, "ADDED", ()))):
        wanted, given = ", ".join(sorted(names)), ", ".join(sorted(values))
        raise ValueError(f"{kind.__name__} has the fields {wanted}, not {given}")
    types_of = typing.get_type_hints(kind)
    return kind(**{name: _from_json(types_of[name], value) for name, value in values.items()})


def canonical(value: Any) -> bytes:
    """Returns JSON with sorted keys, no spaces and no NaN: the same bytes for the same value. A dataclass
    becomes its `stated`, or else its fields."""
    return _ENCODER.encode(value).encode()


def digest(value: Any) -> str:
    """Returns the sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _fault(config: Any, values: dict[str, Any]) -> ValueError | None:
    """Returns the error of a config that refuses these values, or None if it takes them."""
    try:
        dataclasses.replace(config, **values)
    except ValueError as error:
        return error
    return None


def _refused(config: Any, prefix: str, texts: dict[str, str], error: ValueError) -> UserError:
    """Returns the sentence about values that a config refuses, with its defaults."""
    reason = str(error) or "wrong type"
    defaults = {prefix + key: written(getattr(config, key)) or "the shipped one" for key in texts}
    if len(texts) == 1:
        [(key, default)], [text] = defaults.items(), texts.values()
        return UserError(f"setting {key} cannot be {text!r}: {reason}; the default is {default}")
    given = " and ".join(f"{prefix}{key}={text}" for key, text in texts.items())
    usual = " and ".join(f"{key}={default}" for key, default in defaults.items())
    return UserError(f"settings {given} do not go together: {reason}; the defaults are {usual}")


def _plain(value: Any) -> Any:
    """Returns the JSON of a dataclass: its `stated`, or else its fields."""
    return value.stated if hasattr(value, "stated") else vars(value)


def _from_json(kind: Any, value: Any) -> Any:
    """Returns a value of this type from its JSON, with tuples for lists."""
    if isinstance(value, dict):
        return from_json(kind, value)
    if isinstance(value, list):
        inner = (typing.get_args(kind) or (Any,))[0]
        return tuple(_from_json(inner, item) for item in value)
    return value


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False, default=_plain
)


def _parse(kind: Any, text: str) -> Any:
    """Returns the value of a setting of this type. Raises ValueError with the reason."""
    # Types with their own parser, such as class tables.
    if hasattr(kind, "parse"):
        # An empty path would be the working directory.
        if not text:
            raise ValueError("it is empty; give a folder")
        return kind.parse(text)

    # Lists and ranges.
    if typing.get_origin(kind) is tuple:
        parts, kinds = text.split(","), typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            return tuple(_parse(kinds[0], part) for part in parts)
        if len(parts) != len(kinds):
            raise ValueError(f"it takes {len(kinds)} values with commas between them")
        values = tuple(_parse(k, p) for k, p in zip(kinds, parts, strict=True))
        if values[0] > values[1]:
            raise ValueError("the range ends before it starts")
        return values

    # Optional values: the type comes first, None second.
    if isinstance(kind, types.UnionType):
        return None if text == "none" else _parse(typing.get_args(kind)[0], text)

    # Plain values.
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError("it must be true or false")
        return text == "true"
    try:
        value = kind(text)
    except ValueError:
        reasons = {int: "it must be a whole number", float: "it must be a number"}
        raise ValueError(reasons.get(kind, "wrong type")) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it must be finite")
    return value


def require_within(values: Any, least: float, most: float, *names: str) -> None:
    """Raises ValueError if a number or range of one of these names lies outside of least..most."""
    for name in names:
        value = getattr(values, name)
        low, high = value if isinstance(value, tuple) else (value, value)
        if not least <= low <= high <= most:
            raise ValueError(f"{name} is {written(value)}; it must lie in {least:,}..{most:,}")


def written(value: Any) -> str | None:
    """Returns a value as a user types it after `key=`, or None for one that is read from files."""
    if value is None:
        return "none"
    if hasattr(value, "parse"):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
