"""Reading typed fields out of decoded JSON, with errors that say which field and what was expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ezadmin_wire import jsontext
from ezadmin_wire.errors import WireError

T = TypeVar("T")


def dump(value: object) -> bytes:
    """Canonical JSON of a dataclass or JSON value: UTF-8, no spaces, keys sorted; None members are left out.

    Raises WireError (``bad_value``) for what JSON does not have: NaN, infinity, halves of surrogate pairs.
    """
    plain = _without_none(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)
    try:
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    except ValueError as error:
        raise WireError("bad_value", f"cannot be written as JSON: {error}") from error


def load(kind: type[T], data: bytes) -> T:
    """Decode JSON bytes into the dataclass ``kind``. Raises WireError (``bad_value``) naming the field."""
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise WireError("bad_value", f"not JSON: {error}") from error
    return build(kind, value)


def dump_tagged(document: object, types: Mapping[str, type[Any]]) -> bytes:
    """:func:`dump` of a dataclass with a member ``type``: its name in ``types``."""
    name = next(name for name, kind in types.items() if kind is type(document))
    return dump({"type": name, **json.loads(dump(document))})


def load_tagged(data: bytes, types: Mapping[str, type[T]]) -> T:
    """The reverse of :func:`dump_tagged`. Raises WireError (``bad_value``, ``unknown_type``) naming the member."""
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise WireError("bad_value", f"not JSON: {error}") from error
    name = value.get("type") if isinstance(value, dict) else None
    kind = types.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError("unknown_type", f"type: {name!r} is none of {', '.join(types)}")
    return build(kind, value)


def build(kind: type[T], value: object, where: str = "") -> T:
    """Make the dataclass ``kind`` of a decoded JSON object; unknown members are ignored, so that older readers go on.

    Raises WireError (``bad_value``) that names the member and what it should have been.
    """
    if not isinstance(value, Mapping):
        raise WireError("bad_value", f"{where or kind.__name__}: expected an object, found {_kind_of(value)}")
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for member in fields(kind):  # type: ignore[arg-type]
        name = member.name
        path = f"{where}.{name}" if where else name
        if name in value:
            arguments[name] = _convert(hints[name], value[name], path)
        elif member.default is MISSING and member.default_factory is MISSING:
            raise WireError("bad_value", f"{path}: missing")
    return kind(**arguments)


def _convert(kind: Any, value: object, where: str) -> Any:
    origin = get_origin(kind)
    if origin is Union:  # Optional[X] is the only union in use
        if value is None:
            return None
        return _convert(next(arg for arg in get_args(kind) if arg is not type(None)), value, where)
    if origin is list:
        if not isinstance(value, list):
            raise WireError("bad_value", f"{where}: expected a list, found {_kind_of(value)}")
        return [_convert(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise WireError("bad_value", f"{where}: expected an object, found {_kind_of(value)}")
        for key in value:
            _check_text(key, where)
        return {key: _convert(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if kind is Any:
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise WireError("bad_value", f"{where}: a number of more than 64 bits")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):  # Python's JSON reads NaN and 1e999
        raise WireError("bad_value", f"{where}: not a finite number")
    if isinstance(value, str):
        _check_text(value, where)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise WireError("bad_value", f"{where}: expected {kind.__name__}, found {_kind_of(value)}")
    return value


def _check_text(text: str, where: str) -> None:
    # JSON can spell half a surrogate pair; no database, index or file could hold it
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise WireError("bad_value", f"{where}: not text that UTF-8 can hold") from error


def _kind_of(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
