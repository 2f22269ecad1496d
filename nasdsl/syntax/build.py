"""From Lark's parse tree to the AST.

Takes the tree of one item, returns the AST node. Invariant: one function a rule;
every node gets the span of its rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lark import Token, Tree

from nasdsl.diagnostics import Source, Span
from nasdsl.syntax import ast

MAX_DEPTH = 120


class TooDeep(Exception):
    """An expression nests deeper than MAX_DEPTH."""

    def __init__(self, span: Span) -> None:
        super().__init__()
        self.span = span


class Builder:
    """Converts trees of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._depth = 0

    def build(self, tree: Any) -> Any:
        """The AST of a tree. Raises TooDeep."""
        span = self.span(tree)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooDeep(span)
        try:
            return _RULES[tree.data](self, tree.children, span)
        finally:
            self._depth -= 1

    def span(self, item: Any) -> Span:
        meta = item.meta if isinstance(item, Tree) else item
        start = getattr(meta, "start_pos", 0) or 0
        return Span(self.source, start, getattr(meta, "end_pos", start) or start)

    def ident(self, token: Any) -> ast.Ident:
        return ast.Ident(str(token), span=self.span(token))

    def maybe(self, tree: Any) -> Any:
        return None if tree is None else self.build(tree)

    def string(self, token: Token) -> ast.String:
        try:
            value = json.loads(str(token))
        except ValueError:  # an escape that JSON does not know: taken as written
            value = str(token)[1:-1]
        return ast.String(str(value), span=self.span(token))

    def arguments(self, tree: Any) -> tuple[ast.Argument, ...]:
        return () if tree is None else tuple(self.build(t) for t in tree.children)

    def options(self, tree: Any) -> tuple[ast.Option, ...]:
        return tuple(self.build(t) for t in tree.children)

    def formals(self, tree: Any) -> ast.Formals:
        if tree is None:
            return ast.Formals()
        own, ambient = (() if t is None else tuple(self.build(f) for f in t.children) for t in tree.children)
        return ast.Formals(own, ambient)


_Rule = Callable[[Builder, list[Any], Span], Any]


def _binary(b: Builder, c: list[Any], s: Span) -> Any:
    left = b.build(c[0])
    for symbol, part in zip(c[1::2], c[2::2], strict=True):
        right = b.build(part)
        place = left.span.to(right.span)
        left = ast.Binary(str(symbol), left, right, span=place, operator_span=b.span(symbol))
    return left


def _logic(word: str) -> _Rule:
    def rule(b: Builder, c: list[Any], s: Span) -> Any:
        left = b.build(c[0])
        for part in c[1:]:
            right = b.build(part)
            left = ast.Binary(word, left, right, span=left.span.to(right.span), operator_span=s)
        return left

    return rule


def _gather(b: Builder, c: list[Any], s: Span) -> Any:
    sources = tuple(b.build(t) for t in c[2:-2])
    return ast.Gather(str(c[0]), b.build(c[1]), sources, b.maybe(c[-2]), b.maybe(c[-1]), span=s)


def _source(b: Builder, c: list[Any], s: Span) -> Any:
    pairs = c[1:-1]
    bindings = tuple((b.ident(pairs[i]), b.build(pairs[i + 1])) for i in range(0, len(pairs), 2))
    return ast.Source(b.build(c[0]), bindings, b.maybe(c[-1]), span=s)


def _place(b: Builder, c: list[Any], s: Span) -> Any:
    name = ast.Name(str(c[0]), span=b.span(c[0]))
    return name if c[1] is None else ast.Index(name, b.build(c[1]), span=s)


def _choose(b: Builder, c: list[Any], s: Span) -> Any:
    return ast.Choose(b.ident(c[0]) if isinstance(c[0], Token) else b.options(c[0]), span=s)


def _group(b: Builder, c: list[Any], s: Span) -> Any:
    return b.build(c[0]) if len(c) == 1 else ast.Group(tuple(map(b.build, c)), span=s)


def _cell(b: Builder, c: list[Any], s: Span) -> Any:
    binds = tuple(b.build(t) for t in c[2:-1])
    return ast.CellDef(b.ident(c[0]), b.formals(c[1]), binds, b.build(c[-1]), span=s)


def _option(b: Builder, c: list[Any], s: Span) -> Any:
    label = None if c[0] is None else b.ident(c[0])
    return ast.Option(label, b.build(c[1]), b.maybe(c[3]), b.maybe(c[4]), span=s)


def _bind(b: Builder, c: list[Any], s: Span) -> Any:
    return ast.Bind(b.ident(c[0]), b.maybe(c[1]), b.build(c[2]), span=s)


def _operation(b: Builder, c: list[Any], s: Span) -> Any:
    where = tuple(b.build(t) for t in c[3:])
    return ast.OpDef(b.ident(c[0]), b.formals(c[1]), b.build(c[2]), where, span=s)


_RULES: dict[str, _Rule] = {
    "doc": lambda b, c, s: ast.Doc(b.string(c[0]), span=s),
    "notation": lambda b, c, s: ast.Notation(b.ident(c[0]), span=s),
    "distinct": lambda b, c, s: ast.DistinctBy(b.ident(c[0]), span=s),
    "use": lambda b, c, s: ast.UsePython(b.string(c[0]), span=s),
    "input": lambda b, c, s: ast.Input(b.ident(c[0]), b.arguments(c[1]), span=s),
    "param": lambda b, c, s: ast.Param(b.ident(c[0]), b.build(c[1]), span=s),
    "bind": _bind,
    "family": lambda b, c, s: ast.Family(b.build(c[0]), b.build(c[2]), span=s),
    "limit": lambda b, c, s: ast.Limit(b.ident(c[0].children[0]), str(c[1]), b.build(c[2]), span=s),
    "opdef": _operation,
    "where": lambda b, c, s: ast.Where(b.ident(c[0]), b.build(c[1]), span=s),
    "celldef": _cell,
    "cellalias": lambda b, c, s: ast.CellAlias(b.ident(c[0]), b.ident(c[1]), b.arguments(c[2]), span=s),
    "setdef": lambda b, c, s: ast.SetDef(b.ident(c[0]), b.formals(c[1]), b.options(c[2]), span=s),
    "setplus": lambda b, c, s: ast.SetExtend(b.ident(c[0]), b.options(c[1]), span=s),
    "network": lambda b, c, s: ast.Network(tuple(map(b.build, c)), span=s),
    "step": lambda b, c, s: ast.Step(b.ident(c[0]), b.build(c[1]), span=s),
    "formal": lambda b, c, s: ast.Formal(b.ident(c[0]), b.maybe(c[1]), span=s),
    "cond": lambda b, c, s: ast.If(b.build(c[0]), b.build(c[1]), b.build(c[2]), span=s),
    "pipe": lambda b, c, s: ast.Pipe(tuple(map(b.build, c)), span=s),
    "disj": _logic("or"),
    "conj": _logic("and"),
    "comparison": _binary,
    "sum": _binary,
    "product": _binary,
    "neg": lambda b, c, s: ast.Negate(b.build(c[0]), span=s),
    "with_": lambda b, c, s: ast.With(b.build(c[0]), b.ident(c[1]), b.build(c[2]), span=s),
    "call": lambda b, c, s: ast.Call(b.build(c[0]), b.arguments(c[1]), span=s),
    "index": lambda b, c, s: ast.Index(b.build(c[0]), b.build(c[1]), span=s),
    "attr": lambda b, c, s: ast.Attribute(b.build(c[0]), b.ident(c[1]), span=s),
    "number": lambda b, c, s: ast.Number(str(c[0]), span=s),
    "string": lambda b, c, s: b.string(c[0]),
    "name": lambda b, c, s: ast.Name(str(c[0]), span=s),
    "group": _group,
    "list": lambda b, c, s: ast.List(tuple(map(b.build, c)), span=s),
    "choose": _choose,
    "repeat": lambda b, c, s: ast.Repeat(
        b.build(c[0]), None if c[1] is None else b.ident(c[1]), b.build(c[2]), span=s
    ),
    "independent": lambda b, c, s: ast.Independent(b.ident(c[0]), span=s),
    "merge": lambda b, c, s: ast.Merge(str(c[0]), b.arguments(c[1]), span=s),
    "gather": _gather,
    "all": lambda b, c, s: ast.All(span=s),
    "pick": lambda b, c, s: ast.Pick(b.build(c[0]), b.maybe(c[2]), c[1] is not None, span=s),
    "source": _source,
    "earlier": lambda b, c, s: ast.Source(ast.Earlier(span=s), (), b.maybe(c[0]), span=s),
    "place": _place,
    "option": _option,
    "arg": lambda b, c, s: ast.Argument(None if c[0] is None else b.ident(c[0]), b.build(c[1]), span=s),
}
