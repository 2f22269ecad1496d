"""Random syntax trees, of the form that the parser gives: whatever it can read, it can also draw."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nasdsl.diagnostics import Source, Span
from nasdsl.syntax import ast
from nasdsl.syntax.grammar import words

NOWHERE = Span(Source("drawn", ""), 0, 0)
OPERATORS = ("+", "-", "*", "//", "/", "%", "<", "<=", ">", ">=", "==", "!=", "and", "or")


def build(kind: Any, *parts: Any, **more: Any) -> st.SearchStrategy[Any]:
    """Nodes of a class from strategies for its fields."""
    return st.builds(kind, *parts, span=st.just(NOWHERE), **more)


def some(node: st.SearchStrategy[Any], least: int = 1, most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(node, min_size=least, max_size=most).map(tuple)


words_free = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True).filter(
    lambda w: w not in words().keywords
)
idents = build(ast.Ident, words_free)
names = build(ast.Name, words_free)
numbers = build(ast.Number, st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?[kMG]?", fullmatch=True))
characters = st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from('\n\t\r"\\')
strings = build(ast.String, st.text(characters, max_size=6))
maybe_ident = st.none() | idents


def arguments(expr: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return some(build(ast.Argument, maybe_ident, expr), least=0)


def options(expr: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = build(ast.Option, maybe_ident, expr, st.none(), st.none())
    span = build(ast.Option, maybe_ident, expr, expr, st.none() | expr)
    return some(one | span)


def gathers(expr: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    picks = build(ast.Pick, expr, st.none(), st.booleans()) | build(ast.Pick, expr, expr, st.just(True))
    places = names | build(ast.Index, names, expr) | build(ast.Earlier)
    bindings = some(st.tuples(idents, expr), least=0, most=2)
    sources = build(ast.Source, places, bindings, st.none() | expr)
    kinds = st.sampled_from(["sum", "concat"])
    return build(ast.Gather, kinds, build(ast.All) | picks, some(sources), st.none() | expr, st.none() | expr)


def larger(expr: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Every expression that holds expressions."""
    place = st.just(NOWHERE)
    return st.one_of(
        build(ast.List, some(expr)),
        build(ast.Group, some(expr, least=2)),
        build(ast.Negate, expr),
        build(ast.Binary, st.sampled_from(OPERATORS), expr, expr, operator_span=place),
        build(ast.If, expr, expr, expr),
        build(ast.Pipe, some(expr, least=2, most=4)),
        build(ast.With, expr, idents, expr),
        build(ast.Call, expr, arguments(expr)),
        build(ast.Index, expr, expr),
        build(ast.Attribute, expr, idents),
        build(ast.Choose, options(expr) | idents),
        build(ast.Repeat, expr, maybe_ident, expr),
        build(ast.Merge, st.sampled_from(["sum", "concat"]), arguments(expr)),
        gathers(expr),
    )


expressions = st.recursive(names | numbers | strings | build(ast.Independent, idents), larger, max_leaves=10)

formals = st.builds(ast.Formals, *[some(build(ast.Formal, idents, st.none() | expressions), least=0)] * 2)
binds = build(ast.Bind, idents, st.none() | build(ast.Family, expressions, expressions), expressions)
wheres = some(build(ast.Where, idents, expressions), least=0, most=2)
steps = build(ast.Step, idents, expressions)
items = st.one_of(
    build(ast.Doc, strings),
    build(ast.Notation, idents),
    build(ast.DistinctBy, idents),
    build(ast.UsePython, strings),
    build(ast.Input, idents, arguments(expressions)),
    build(ast.Param, idents, expressions),
    binds,
    build(ast.OpDef, idents, formals, expressions, wheres),
    build(ast.CellDef, idents, formals, some(binds, least=0), expressions),
    build(ast.CellAlias, idents, idents, arguments(expressions)),
    build(ast.SetDef, idents, formals, options(expressions)),
    build(ast.SetExtend, idents, options(expressions)),
    build(ast.Network, some(steps)),
    build(
        ast.Limit,
        idents,
        st.sampled_from(["<", "<=", ">", ">="]),
        expressions | build(ast.Duration, st.sampled_from(["5ms", "0.5s", "300us"])),
        st.none() | strings,
    ),
    build(ast.Within, strings),
)
spaces = build(ast.Space, idents, st.none() | strings, some(items, least=0))
files = build(ast.File, spaces.map(lambda space: (space,)))
