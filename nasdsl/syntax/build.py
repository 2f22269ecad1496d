"""What the parser calls when it has read a rule: builds the nodes of the syntax tree.

Takes the children of a rule, tokens included, returns a node. Invariant: a node's
span runs from its first token to its last.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from nasdsl.diagnostics import Span
from nasdsl.syntax import ast
from nasdsl.syntax.tokens import Token

Children = list[Any]
N = TypeVar("N")

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


@attrs.frozen
class _Many:
    """What a helper rule found: nodes that have no node of their own around them."""

    nodes: tuple[Any, ...]
    span: Span


def _span(children: Children) -> Span:
    span: Span = children[0].span
    return span if len(children) == 1 else span.to(children[-1].span)


def _ident(token: Token) -> ast.Ident:
    return ast.Ident(token.text, span=token.span)


def _nodes(children: Children) -> tuple[Any, ...]:
    return tuple(c for c in children if not isinstance(c, Token))


def _after(children: Children, word: str) -> Any:
    """The child that follows a word; None without the word."""
    for index, child in enumerate(children):
        if isinstance(child, Token) and child.text == word:
            return children[index + 1]
    return None


def _bindings(children: Children) -> tuple[tuple[ast.Ident, Any], ...]:
    """The `with NAME = value` among the children."""
    return tuple(
        (_ident(children[index + 1]), children[index + 3])
        for index, child in enumerate(children)
        if isinstance(child, Token) and child.type == "WITH"
    )


def _string(token: Token) -> ast.String:
    text = iter(token.text[1:-1])
    value = "".join(_ESCAPES[next(text)] if character == "\\" else character for character in text)
    return ast.String(value, span=token.span)


def _named(children: Children) -> ast.Ident | None:
    """The label or name in front of a value: `NAME :` or `NAME =`."""
    return _ident(children[0]) if isinstance(children[0], Token) else None


class Builder:
    """One method for each rule of the grammar, named like it."""

    # --- items -------------------------------------------------------------------

    def start(self, c: Children) -> ast.File:
        return ast.File(tuple(c), span=_span(c))

    def space(self, c: Children) -> ast.Space:
        base = _after(c, "from")
        return ast.Space(_ident(c[1]), base and _string(base), _nodes(c), span=_span(c))

    def doc(self, c: Children) -> ast.Doc:
        return ast.Doc(_string(c[1]), span=_span(c))

    def notation(self, c: Children) -> ast.Notation:
        return ast.Notation(_ident(c[1]), span=_span(c))

    def distinct(self, c: Children) -> ast.DistinctBy:
        return ast.DistinctBy(_ident(c[2]), span=_span(c))

    def use(self, c: Children) -> ast.UsePython:
        return ast.UsePython(_string(c[2]), span=_span(c))

    def input(self, c: Children) -> ast.Input:
        return ast.Input(_ident(c[1]), c[2].nodes, span=_span(c))

    def param(self, c: Children) -> ast.Param:
        return ast.Param(_ident(c[1]), c[3], span=_span(c))

    def limit(self, c: Children) -> ast.Limit:
        table = c[3] if len(c) > 4 else None
        return ast.Limit(_ident(c[1]), c[-2].text, c[-1], table and _string(table), span=_span(c))

    def duration(self, c: Children) -> ast.Duration:
        return ast.Duration(c[0].text, span=_span(c))

    def within(self, c: Children) -> ast.Within:
        return ast.Within(_string(c[1]), span=_span(c))

    def bind(self, c: Children) -> ast.Bind:
        family = c[1] if isinstance(c[1], ast.Family) else None
        return ast.Bind(_ident(c[0]), family, c[-1], span=_span(c))

    def family(self, c: Children) -> ast.Family:
        return ast.Family(c[1], c[3], span=_span(c))

    def opdef(self, c: Children) -> ast.OpDef:
        formals = c[2] if isinstance(c[2], ast.Formals) else ast.Formals()
        where = tuple(n for n in c if isinstance(n, ast.Where))
        return ast.OpDef(_ident(c[1]), formals, _after(c, "="), where, span=_span(c))

    def where(self, c: Children) -> ast.Where:
        return ast.Where(_ident(c[1]), c[3], span=_span(c))

    def celldef(self, c: Children) -> ast.CellDef:
        binds = tuple(n for n in c if isinstance(n, ast.Bind))
        return ast.CellDef(_ident(c[1]), c[2], binds, c[-2], span=_span(c))

    def cellalias(self, c: Children) -> ast.CellAlias:
        return ast.CellAlias(_ident(c[1]), _ident(c[3]), c[4].nodes, span=_span(c))

    def setdef(self, c: Children) -> ast.SetDef:
        formals = c[2] if isinstance(c[2], ast.Formals) else ast.Formals()
        return ast.SetDef(_ident(c[1]), formals, c[-1].nodes, span=_span(c))

    def setextend(self, c: Children) -> ast.SetExtend:
        return ast.SetExtend(_ident(c[0]), c[2].nodes, span=_span(c))

    def network(self, c: Children) -> ast.Network:
        return ast.Network(_nodes(c), span=_span(c))

    def step(self, c: Children) -> ast.Step:
        return ast.Step(_ident(c[0]), c[2], span=_span(c))

    def formals(self, c: Children) -> ast.Formals:
        ambient = _after(c, ";")
        own = c[1].nodes if isinstance(c[1], _Many) else ()
        return ast.Formals(own, ambient.nodes if isinstance(ambient, _Many) else ())

    def names(self, c: Children) -> _Many:
        return _Many(_nodes(c), _span(c))

    def formal(self, c: Children) -> ast.Formal:
        return ast.Formal(_ident(c[0]), _after(c, "="), span=_span(c))

    # --- expressions -------------------------------------------------------------

    def conditional(self, c: Children) -> ast.If:
        return ast.If(c[1], c[3], c[5], span=_span(c))

    def pipe(self, c: Children) -> ast.Pipe:
        return ast.Pipe(_nodes(c), span=_span(c))

    def binary(self, c: Children) -> ast.Expr:
        """`a - b - c` is `(a - b) - c`."""
        left: ast.Expr = c[0]
        for index in range(1, len(c), 2):
            operator, right = c[index], c[index + 1]
            left = ast.Binary(
                operator.text,
                left,
                right,
                span=left.span.to(right.span),
                operator_span=operator.span,
            )
        return left

    disjunction = conjunction = comparison = sum = product = binary

    def relation(self, c: Children) -> Token:
        token: Token = c[0]
        return token

    equality = relation

    def negate(self, c: Children) -> ast.Negate:
        return ast.Negate(c[1], span=_span(c))

    def bound(self, c: Children) -> ast.With:
        return ast.With(c[0], _ident(c[2]), c[4], span=_span(c))

    def call(self, c: Children) -> ast.Call:
        return ast.Call(c[0], c[1].nodes, span=_span(c))

    def index(self, c: Children) -> ast.Index:
        return ast.Index(c[0], c[2], span=_span(c))

    def attribute(self, c: Children) -> ast.Attribute:
        return ast.Attribute(c[0], _ident(c[2]), span=_span(c))

    def number(self, c: Children) -> ast.Number:
        return ast.Number(c[0].text, span=_span(c))

    def string(self, c: Children) -> ast.String:
        return _string(c[0])

    def name(self, c: Children) -> ast.Name:
        return ast.Name(c[0].text, span=_span(c))

    def group(self, c: Children) -> ast.Expr:
        items = _nodes(c)
        if len(items) > 1:
            return ast.Group(items, span=_span(c))
        # The parentheses belong to the value's place: carets below it cover them too.
        inner: ast.Expr = attrs.evolve(items[0], span=_span(c))
        return inner

    def list(self, c: Children) -> ast.List:
        return ast.List(_nodes(c), span=_span(c))

    def choose(self, c: Children) -> ast.Choose:
        options = _ident(c[1]) if isinstance(c[1], Token) else c[1].nodes
        return ast.Choose(options, span=_span(c))

    def repeat(self, c: Children) -> ast.Repeat:
        index = _after(c, "as")
        return ast.Repeat(c[1], index and _ident(index), c[-2], span=_span(c))

    def independent(self, c: Children) -> ast.Independent:
        return ast.Independent(_ident(c[1]), span=_span(c))

    def merge(self, c: Children) -> ast.Merge:
        return ast.Merge(c[0].text, c[1].nodes, span=_span(c))

    # --- parts of expressions ----------------------------------------------------

    def gather(self, c: Children) -> ast.Gather:
        sources = tuple(n for n in c if isinstance(n, ast.Source))
        return ast.Gather(c[0].text, c[2], sources, _after(c, "via"), _after(c, "into"), span=_span(c))

    def all(self, c: Children) -> ast.All:
        return ast.All(span=_span(c))

    def pick(self, c: Children) -> ast.Pick:
        return ast.Pick(c[1], c[3] if len(c) > 3 else None, len(c) > 2, span=_span(c))

    def source(self, c: Children) -> ast.Source:
        return ast.Source(c[0], _bindings(c), _after(c, "via"), span=_span(c))

    def place(self, c: Children) -> ast.Name | ast.Index | ast.Earlier:
        first: Token = c[0]
        if first.type == "EARLIER":
            return ast.Earlier(span=first.span)
        name = ast.Name(first.text, span=first.span)
        return name if len(c) == 1 else ast.Index(name, c[2], span=_span(c))

    def options(self, c: Children) -> _Many:
        return _Many(_nodes(c), _span(c))

    def option(self, c: Children) -> ast.Option:
        label = _named(c)
        value = c[2] if label else c[0]
        return ast.Option(label, value, _after(c, ".."), _after(c, "step"), span=_span(c))

    def arguments(self, c: Children) -> _Many:
        return _Many(_nodes(c), _span(c))

    def argument(self, c: Children) -> ast.Argument:
        return ast.Argument(_named(c), c[-1], span=_span(c))
