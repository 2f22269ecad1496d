"""How deep a syntax tree is.

Takes a node, returns the place where it is too deep. Invariant: does not recurse,
so that every later stage may.
"""

from __future__ import annotations

from typing import Any

import attrs

from nasdsl.diagnostics import Span
from nasdsl.syntax import ast

_CHILDREN: dict[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in attrs.fields(kind) if f.eq)
    for kind in vars(ast).values()
    if isinstance(kind, type) and attrs.has(kind) and kind is not Span
}
"""For each class of nodes the fields that may hold nodes."""


def too_deep(node: Any, limit: int) -> Span | None:
    """The place of a node more than `limit` levels below `node`, None when there is none."""
    stack = [(node, 0)]
    while stack:
        inner, depth = stack.pop()
        if isinstance(inner, tuple):
            stack.extend((part, depth) for part in inner)
        elif type(inner) in _CHILDREN:
            if depth > limit:
                return _place(inner)
            stack.extend((getattr(inner, name), depth + 1) for name in _CHILDREN[type(inner)])
    return None


def _place(node: Any) -> Span:
    span: Span = node.operator_span if isinstance(node, ast.Binary) else node.span
    return span
