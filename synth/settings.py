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


def with_settings(config: T, settings: Iterable[str]) -> T:
    """Returns the config with the value of each `key=value`. Numbers are written plainly, ranges as
    `low,high`.

    Raises UserError for an unknown key (with the list of keys), a value of the wrong type, or one that the
    config refuses."""
    hints = typing.get_type_hints(type(config))
    types_of = {field.name: hints[field.name] for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    for setting in settings:
        key, equals, text = setting.partition("=")

        # The key.
        if key not in types_of:
            raise UserError(f"unknown setting {key!r}; known are {', '.join(sorted(types_of))}")
        default = _written(getattr(config, key))
        if not equals:
            raise UserError(f"setting {key!r} has no value; write {key}=VALUE, as in {key}={default}")

        # The value. The config's own checks raise ValueError too.
        try:
            config = dataclasses.replace(config, **{key: _parse(types_of[key], text)})  # type: ignore[type-var]
        except ValueError as error:
            reason = str(error) or "wrong type"
            raise UserError(f"setting {key} cannot be {text!r}: {reason}; the default is {default}") from None
    return config


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


def _written(value: Any) -> str:
    """Returns a value as a user types it after `key=`."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
