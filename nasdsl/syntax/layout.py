"""Lays text out in lines of a given width.

Takes a document of words, possible line ends and groups; returns text. Invariant:
a group whose text fits on the rest of its line stays on it; the words and their
order never depend on the width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Union

import attrs


@attrs.frozen
class Line:
    """A place where a line may end; on one line it reads `flat`."""

    flat: str = " "


@attrs.frozen
class Nest:
    """Lines that start inside are indented further."""

    by: int
    inner: Doc


@attrs.frozen
class Group:
    """Stays on one line if it fits; otherwise each Line directly inside ends the line."""

    inner: Doc


Doc = Union[str, Line, Nest, Group, tuple["Doc", ...]]

_Entry = tuple[int, bool, Doc]  # indentation, whether on one line, what


def fill(docs: Iterable[Doc], separator: str) -> Doc:
    """The documents with a separator behind each but the last, as many on a line as fit."""
    first, *rest = docs
    parts: list[Doc] = [first]
    for doc in rest:
        parts.append(separator)
        parts.append(Group((Line(), doc)))
    return tuple(parts)


def lay_out(doc: Doc, width: int | None) -> str:
    """The text of a document; `width` None keeps it on one line."""
    out: list[str] = []
    column = 0
    stack: list[_Entry] = [(0, width is None, doc)]
    while stack:
        indent, flat, part = stack.pop()
        if isinstance(part, str):
            out.append(part)
            column += len(part)
        elif isinstance(part, Line):
            if flat:
                out.append(part.flat)
                column += len(part.flat)
            else:
                out.append("\n" + " " * indent)
                column = indent
        elif isinstance(part, Nest):
            stack.append((indent + part.by, flat, part.inner))
        elif isinstance(part, Group):
            fits = flat or (width is not None and _fits(width - column, part.inner, stack))
            stack.append((indent, fits, part.inner))
        else:
            stack.extend((indent, flat, p) for p in reversed(part))
    # Indentation in front of an empty line is not wanted.
    return re.sub(r" +(?=\n)", "", "".join(out)) if width is not None else "".join(out)


def _fits(room: int, doc: Doc, behind: Sequence[_Entry]) -> bool:
    """Whether `doc` on one line, and what follows it up to the next line end, fits in `room` columns."""
    stack: list[tuple[bool, Doc]] = [(True, doc)]
    following = len(behind)
    while room >= 0:
        if not stack:
            if following == 0:
                return True
            following -= 1
            _, flat, part = behind[following]
        else:
            flat, part = stack.pop()
        if isinstance(part, str):
            room -= len(part)
        elif isinstance(part, Line):
            if not flat:
                return True
            room -= len(part.flat)
        elif isinstance(part, (Nest, Group)):
            stack.append((flat, part.inner))
        else:
            stack.extend((flat, p) for p in reversed(part))
    return False
