"""Name resolution: every use of a name checked, before anything is evaluated.

Takes a parsed space, returns its definitions by name. Invariant: reports each
unknown name, wrong argument, duplicate, shadowing, recursion and unused
declaration once, in definitions that are never used as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import attrs

from nasdsl.diagnostics import Diagnostics, Label, Span, did_you_mean
from nasdsl.ops import Primitive
from nasdsl.space.amend import library
from nasdsl.space.names import (
    CONSTANTS,
    FUNCTIONS,
    LANGUAGE,
    WORDS,
    Definition,
    Names,
    check_arguments,
    signature,
)
from nasdsl.syntax import ast


def resolve(
    space: ast.Space,
    diagnostics: Diagnostics,
    *,
    partial: bool = False,
    python: Mapping[str, Primitive] | None = None,
) -> Names:
    """Builds the table of definitions and checks every use of a name.

    Args:
        partial: some items could not be parsed, so a missing definition proves nothing.
        python: operations that come from Python, by name.
    """
    definitions: dict[str, Definition] = {}
    for item in space.items:
        if isinstance(item, (ast.Param, ast.Bind, ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef)):
            _define(item, definitions, diagnostics)
    names = Names(space, definitions, python or {})
    _Resolver(names, diagnostics, partial).run()
    return names


def _define(item: Definition, table: dict[str, Definition], diagnostics: Diagnostics) -> None:
    name = item.name.text
    if name in table:
        diagnostics.error(
            "NAS103",
            f"`{name}` is defined twice",
            item.name.span,
            "again here",
            secondary=(Label(table[name].name.span, "first defined here"),),
            help="give one of them another name",
        )
        return
    if name in LANGUAGE or name in FUNCTIONS or name in CONSTANTS or name in WORDS:
        diagnostics.error(
            "NAS105",
            f"`{name}` is a word of the language and cannot be defined again",
            item.name.span,
            "choose another name",
        )
    table[name] = item


@attrs.define
class _Local:
    """A name of a formal, a bind or an index, with whether anything reads it."""

    span: Span
    what: str
    used: bool = False


_Locals = dict[str, _Local]


def _maybe_defined(text: str) -> frozenset[str]:
    """Names that items which could not be parsed may define: what follows a word, or stands before `=`."""
    found = re.findall(r"\b\w+[ \t]+(\w+)|\b(\w+)[ \t]*(?:\[[^\]\n]*\])?[ \t]*=", text)
    return frozenset(name for pair in found for name in pair if name)


class _Resolver:
    """One walk over a space; see `resolve`."""

    def __init__(self, names: Names, diagnostics: Diagnostics, partial: bool) -> None:
        self.names = names
        self.diagnostics = diagnostics
        self.partial = partial
        self.lost = _maybe_defined(names.space.span.source.text) if partial else frozenset()
        self.used: set[str] = set()
        self.edges: dict[str, dict[str, Span]] = {n: {} for n in names.definitions}
        self.current = ""

    def run(self) -> None:
        for item in self.names.space.items:
            self.current = item.name.text if hasattr(item, "name") else ""
            if self.current not in self.edges:
                self.current = ""
            self._item(item)
        self._recursion()
        if not self.partial:
            self._unused()

    def _item(self, item: ast.Item) -> None:
        if isinstance(item, (ast.Param, ast.Bind)):
            if isinstance(item, ast.Bind) and item.family is not None:
                self._walk(item.family.low, {})
                self._walk(item.family.high, {})
            self._walk(item.value, {})
        elif isinstance(item, ast.Input):
            for argument in item.arguments:
                self._walk(argument.value, {})
        elif isinstance(item, ast.Limit):
            if not isinstance(item.bound, ast.Duration):
                self._walk(item.bound, {})
        elif isinstance(item, ast.OpDef):
            local = self._formals(item.formals, f"operation `{item.name}`")
            for where in item.where:
                self._bind(local, where.name, f"operation `{item.name}`")
            for where in item.where:
                self._walk(where.value, local)
            self._walk(item.body, local)
            self._unread(local)
        elif isinstance(item, ast.SetDef):
            local = self._formals(item.formals, f"set `{item.name}`")
            self._options(item.options, local)
            self._unread(local)
        elif isinstance(item, ast.CellDef):
            self._cell(item)
        elif isinstance(item, ast.CellAlias):
            self._alias(item)
        elif isinstance(item, ast.Network):
            self._network(item)

    def _formals(self, formals: ast.Formals, what: str) -> _Locals:
        local: _Locals = {}
        for formal in (*formals.own, *formals.ambient):
            if formal.default is not None:
                self._walk(formal.default, dict(local))
            self._bind(local, formal.name, what)
        return local

    def _bind(self, local: _Locals, name: ast.Ident, what: str) -> None:
        shadowed = self.names.definitions.get(name.text)
        if name.text in local:
            self.diagnostics.error(
                "NAS103",
                f"`{name}` is defined twice in {what}",
                name.span,
                "again here",
                secondary=(Label(local[name.text].span, "first defined here"),),
            )
        elif name.text in LANGUAGE or name.text in FUNCTIONS or name.text in CONSTANTS | WORDS:
            self.diagnostics.error(
                "NAS105", f"`{name}` is a word of the language", name.span, "choose another name"
            )
        elif shadowed is not None and not isinstance(shadowed, ast.Param):
            self.diagnostics.error(
                "NAS105",
                f"`{name}` hides a definition of the space",
                name.span,
                "choose another name",
                secondary=(Label(shadowed.name.span, "defined here"),),
            )
        local[name.text] = _Local(name.span, what)

    def _cell(self, item: ast.CellDef) -> None:
        what = f"cell `{item.name}`"
        local = self._formals(item.formals, what)
        for bind in item.body:
            inside = dict(local)
            if bind.family is not None:
                self._walk(bind.family.low, local)
                self._walk(bind.family.high, local)
                inside[bind.name.text] = _Local(bind.name.span, what, used=True)
            self._walk(bind.value, inside)
            self._bind(local, bind.name, what)
        self._walk(item.result, local)
        self._unread(local)

    def _alias(self, item: ast.CellAlias) -> None:
        self._reference(item.base.text, item.base.span, {})
        base = self.names.definitions.get(item.base.text)
        if base is not None and not isinstance(base, (ast.CellDef, ast.CellAlias)):
            self.diagnostics.error(
                "NAS201",
                f"`{item.base}` is not a cell",
                item.base.span,
                "a cell is needed here",
                secondary=(Label(base.name.span, "defined here"),),
            )
            return
        for argument in item.arguments:
            self._walk(argument.value, {})
        known = signature(self.names, item.name.text)
        if known is not None and base is not None:
            check_arguments(known, item.arguments, item.span, self.diagnostics)

    def _network(self, item: ast.Network) -> None:
        seen: dict[str, Span] = {}
        for step in item.steps:
            if step.label.text in seen:
                self.diagnostics.error(
                    "NAS103",
                    f"the label `{step.label}` is used twice in the network",
                    step.label.span,
                    "again here",
                    secondary=(Label(seen[step.label.text], "first used here"),),
                )
            seen[step.label.text] = step.label.span
            self._walk(step.value, {})

    def _options(self, options: tuple[ast.Option, ...], local: _Locals) -> None:
        for option in options:
            for value in (option.value, option.to, option.step):
                if value is not None:
                    self._walk(value, local)

    def _reference(self, name: str, span: Span, local: _Locals) -> None:
        """A use of `name`: marks it used, reports it when nothing has that name."""
        if name in local:
            local[name].used = True
        elif name in self.names.definitions:
            self.used.add(name)
            if self.current:
                self.edges[self.current].setdefault(name, span)
            self._ambients(name, local)
        elif (
            name in LANGUAGE
            or name in CONSTANTS
            or name in WORDS
            or name in FUNCTIONS
            or name in self.names.python
        ):
            return
        elif name not in self.lost:
            visible = [
                *local,
                *self.names.definitions,
                *self.names.python,
                *sorted(LANGUAGE),
                *library(),
                "earlier",
            ]
            self.diagnostics.error(
                "NAS101", f"nothing here is called `{name}`", span, f"not known{did_you_mean(name, visible)}"
            )

    def _ambients(self, name: str, local: _Locals) -> None:
        """The ambient names of a definition are read from the place of use."""
        found = self.names.definitions[name]
        if isinstance(found, (ast.CellDef, ast.CellAlias)):
            cell = self.names.cell(name)
            formals = cell[0].formals if cell else ast.Formals()
        elif isinstance(found, (ast.OpDef, ast.SetDef)):
            formals = found.formals
        else:
            return
        for formal in formals.ambient:
            if formal.name.text in local:
                local[formal.name.text].used = True
            elif isinstance(self.names.definitions.get(formal.name.text), ast.Param):
                self.used.add(formal.name.text)

    def _walk(self, node: Any, local: _Locals) -> None:
        """Visits every name of an expression; `local` are the names of the scope it stands in."""
        if isinstance(node, ast.Name):
            self._reference(node.text, node.span, local)
            self._bare(node, local)
        elif isinstance(node, ast.Call):
            self._call(node, local)
        elif isinstance(node, ast.Independent):
            self._reference(node.cell.text, node.cell.span, local)
        elif isinstance(node, ast.Choose) and isinstance(node.options, ast.Ident):
            self._reference(node.options.text, node.options.span, local)
            self._bare(ast.Name(node.options.text, span=node.options.span), local)
        elif isinstance(node, ast.Choose) and not isinstance(node.options, ast.Ident):
            self._options(node.options, local)
        elif isinstance(node, ast.Repeat):
            self._walk(node.count, local)
            inside = dict(local)
            if node.index is not None:
                inside[node.index.text] = _Local(node.index.span, "this repetition")
            self._walk(node.body, inside)
            if node.index is not None:
                self._unread({node.index.text: inside[node.index.text]})
        elif isinstance(node, ast.With):
            self._walk(node.value, local)
            self._walk(node.target, {**local, node.name.text: _Local(node.name.span, "", used=True)})
        elif isinstance(node, ast.Gather):
            self._gather(node, local)
        else:
            for child in children(node):
                self._walk(child, local)

    def _bare(self, node: ast.Name, local: _Locals) -> None:
        """A name without parentheses is a use without arguments: those it needs are missing."""
        if node.text in local or node.text in FUNCTIONS:
            return
        known = signature(self.names, node.text)
        if known is not None:
            check_arguments(known, (), node.span, self.diagnostics)

    def _call(self, node: ast.Call, local: _Locals) -> None:
        target = node.function
        for argument in node.arguments:
            self._walk(argument.value, local)
        if isinstance(target, ast.Independent):
            name, span = target.cell.text, target.cell.span
        elif isinstance(target, ast.Name):
            name, span = target.text, target.span
        else:
            self._walk(target, local)
            return
        self._reference(name, span, local)
        known = None if name in local else signature(self.names, name)
        if known is not None:
            check_arguments(known, node.arguments, node.span, self.diagnostics)
        elif name in FUNCTIONS and FUNCTIONS[name] not in (None, len(node.arguments)):
            self.diagnostics.error("NAS102", f"`{name}` takes one number", node.span, "not one")

    def _gather(self, node: ast.Gather, local: _Locals) -> None:
        into: list[Any] = [node.into]
        if isinstance(node.into, ast.Call) and isinstance(node.into.function, ast.Name):
            # `split` is a word here and nowhere else; that it is `split` is checked with the shapes.
            into = [a.value for a in node.into.arguments]
        for bound in (getattr(node.how, "low", None), getattr(node.how, "high", None), *into):
            if bound is not None:
                self._walk(bound, local)
        bound_names: _Locals = {}
        for source in node.sources:
            if not isinstance(source.place, ast.Earlier):
                self._walk(source.place, local)
            inside = dict(local)
            for name, value in source.bindings:
                self._walk(value, local)
                inside[name.text] = bound_names[name.text] = _Local(name.span, "", used=True)
            if source.via is not None:
                self._walk(source.via, inside)
        if node.via is not None:
            self._walk(node.via, {**local, **bound_names})

    def _unread(self, local: _Locals) -> None:
        if self.partial:
            return
        for name, entry in local.items():
            if not entry.used and entry.what:
                self.diagnostics.warning(
                    "NAS106", f"`{name}` of {entry.what} is never used", entry.span, "not read"
                )

    def _unused(self) -> None:
        for name, item in self.names.definitions.items():
            if name not in self.used:
                kind = {
                    ast.Param: "parameter",
                    ast.OpDef: "operation",
                    ast.SetDef: "set",
                    ast.Bind: "decision",
                }.get(type(item), "cell")
                self.diagnostics.warning(
                    "NAS106",
                    f"{kind} `{name}` is never used",
                    item.name.span,
                    "declared here",
                    help="remove it, or use it",
                )

    def _recursion(self) -> None:
        """Reports each cycle of the definition graph once, at the definition that closes it."""
        state: dict[str, int] = {}
        for start in self.edges:
            stack: list[tuple[str, Iterator[str]]] = []
            if state.get(start):
                continue
            state[start] = 1
            stack.append((start, iter(self.edges[start])))
            while stack:
                name, rest = stack[-1]
                following = next(rest, None)
                if following is None:
                    state[name] = 2
                    stack.pop()
                elif state.get(following) == 1:
                    trail = [n for n, _ in stack]
                    self._report_cycle(trail[trail.index(following) :])
                elif not state.get(following):
                    state[following] = 1
                    stack.append((following, iter(self.edges[following])))

    def _report_cycle(self, trail: list[str]) -> None:
        closed = [*trail, trail[0]]
        text = " -> ".join(f"`{n}`" for n in closed)
        labels = tuple(Label(self.edges[a][b], f"`{a}` uses `{b}`") for a, b in pairwise(closed))
        self.diagnostics.error(
            "NAS104",
            f"a definition may not use itself: {text}",
            self.names.definitions[trail[0]].name.span,
            "defined by way of itself",
            secondary=labels,
            help="use `repeat` for repetition; "
            "what is nested takes its inner part as an argument: `op level(inner) = ...`",
        )


def children(node: Any) -> Iterator[Any]:
    """The sub-expressions of an expression, in the order they were written."""
    for field in attrs.fields(type(node)):
        if field.name in ("span", "operator_span"):
            continue
        value = getattr(node, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, ast.Argument):
                yield part.value
            elif attrs.has(type(part)) and not isinstance(part, ast.Ident):
                yield part
