"""JSON and TOML of somebody else's making, read with its kinds checked.

Takes a text and the shape that it must have, returns plain data. Invariant: what does not have the shape is a
`ValueError` that names the place; nothing in the text is ever executed, no text takes more than its size, and what
is returned nests no deeper than any code that walks it can go.

A shape is a type (`str`, `int`, `float`, `bool`, `dict`, `list`, `type(None)`), a tuple of shapes of which one
must fit, a list of one shape (a list of such things), a mapping from names to shapes (an object that has at
least these; a name that ends in `?` may be absent), or `Each(shape)` (an object of any names).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

MAX_BYTES = 64 << 20
"""A larger file is none of the records that this package writes."""
MAX_DEPTH = 100
"""So is one that nests deeper."""
_KINDS = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


@attrs.frozen
class Each:
    """An object of any names, whose values all have one shape."""

    shape: Any


def read_record(path: Path, shape: Any) -> Any:
    """The data of a JSON file. Raises OSError, ValueError saying what is wrong and where in it."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    return record_of(text, shape)


def record_of(text: str, shape: Any) -> Any:
    """The data of a JSON text. Raises ValueError saying what is wrong and where in it."""
    if not text.strip():
        raise ValueError("it is empty")
    try:
        data = json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON, or not all of it (line {error.lineno}: {error.msg})") from None
    _refuse_deep(data)
    check(data, shape)
    return data


def toml_of(text: str) -> dict[str, Any]:
    """The data of a TOML text. Raises ValueError for what is none, or nests too deep."""
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    _refuse_deep(data)
    return data


def is_plain(data: Any) -> bool:
    """Whether data from elsewhere, such as a checkpoint, are what a JSON text could hold: to be compared and shown."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        if not all(_is_value(item) for item in level):
            return False
        level = _inner(level)
        if not level:
            return True
    return False


def _is_value(item: Any) -> bool:
    if type(item) is dict:
        return all(type(name) is str for name in item)
    if type(item) is int:
        return abs(item) < 1 << 64  # Python refuses to show very long ones
    return item is None or type(item) in (str, float, bool, list)


def _refuse_deep(data: Any) -> None:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = _inner(level)
        if not level:
            return
    raise ValueError("it nests too deep")


def _inner(level: list[Any]) -> list[Any]:
    """What lies one level deeper; here, since recursion would be what is guarded against."""
    holders = (item for item in level if isinstance(item, (dict, list)))
    return [inner for item in holders for inner in (item.values() if isinstance(item, dict) else item)]


def check(data: Any, shape: Any, place: str = "") -> None:
    """Raises ValueError naming the first place where data have not the shape."""
    if isinstance(shape, tuple):
        _check_one_of(data, shape, place)
    elif isinstance(shape, list):
        _check_kind(data, list, place)
        for index, item in enumerate(data):
            check(item, shape[0], f"{place}[{index}]")
    elif isinstance(shape, Each):
        _check_kind(data, dict, place)
        for name, item in data.items():
            check(item, shape.shape, _inside(place, name))
    elif isinstance(shape, Mapping):
        _check_kind(data, dict, place)
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name in data:
                check(data[name], inner, _inside(place, name))
            elif name == key:
                raise ValueError(f"it has no `{_inside(place, name)}`")
    else:
        _check_kind(data, shape, place)


def _check_one_of(data: Any, shapes: tuple[Any, ...], place: str) -> None:
    for shape in shapes:
        try:
            check(data, shape, place)
        except ValueError as error:
            problem = error
        else:
            return
    plain = [_KINDS[s] for s in shapes if isinstance(s, type)]
    if len(plain) < len(shapes):
        raise problem
    raise ValueError(f"`{place}` is not {' or '.join(plain)}")


def _check_kind(data: Any, kind: type, place: str) -> None:
    # In Python a truth value is an integer; in a record it is not. A whole number is a number.
    good = type(data) is kind or (kind is float and type(data) is int)
    if not good:
        raise ValueError(f"`{place}` is not {_KINDS[kind]}" if place else f"it is not {_KINDS[kind]}")


def _inside(place: str, name: str) -> str:
    shown = name if name.isprintable() and len(name) <= 60 else ascii(name[:60])
    return f"{place}.{shown}" if place else shown


def _refused(word: str) -> Any:
    raise ValueError(f"it holds {word}, which JSON has not")


__all__ = ["Each", "check", "is_plain", "read_record", "record_of", "toml_of"]
