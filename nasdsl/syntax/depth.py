"""How deep a syntax tree is.

Takes a node, returns the place where it is too deep. Invariant: does not recurse,
so that every later stage may.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import attrs

from nasdsl.diagnostics import Span
from nasdsl.syntax import ast


@cache
def _children(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in attrs.fields(kind) if f.eq)


def too_deep(node: Any, limit: int) -> Span | None:
    """The place of a node more than `limit` levels below `node`, None when there is none."""
    stack = [(node, 0)]
    while stack:
        inner, depth = stack.pop()
        if isinstance(inner, tuple):
            stack.extend((part, depth) for part in inner)
        elif attrs.has(type(inner)):
            if depth > limit:
                return _place(inner)
            stack.extend((getattr(inner, name), depth + 1) for name in _children(type(inner)))
    return None


def _place(node: Any) -> Span:
    span: Span = node.operator_span if isinstance(node, ast.Binary) else node.span
    return span
