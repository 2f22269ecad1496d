"""From AST to text: the formatter.

Takes an AST node, returns its canonical text. Invariant: `parse(to_text(x)) == x`
and formatting twice changes nothing. Comments are not part of the AST and are
not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nasdsl.syntax import ast

WIDTH = 100
_OR, _AND, _COMPARE, _SUM, _PRODUCT, _UNARY, _AMBIENT, _POSTFIX, _ATOM = range(2, 11)
_LEVELS = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARE),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
}
_IF, _PIPE = 0, 1


def to_text(node: Any) -> str:
    """The text of any AST node."""
    if isinstance(node, ast.File):
        return "\n".join(to_text(s) for s in node.spaces)
    if isinstance(node, ast.Space):
        base = f" from {_string(node.base)}" if node.base is not None else ""
        items = "".join(_indent(_item(i)) for i in node.items)
        return f"space {node.name} {base.lstrip() + ' ' if base else ''}{{\n{items}}}\n"
    if isinstance(node, (ast.Doc, ast.Notation, ast.DistinctBy, ast.UsePython, ast.Input, ast.Param, ast.Bind)):
        return _item(node)
    if isinstance(node, (ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef, ast.SetExtend, ast.Network, ast.Limit)):
        return _item(node)
    return _expr(node)


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))


def _string(node: ast.String) -> str:
    return json.dumps(node.value, ensure_ascii=False)


def _formals(formals: ast.Formals) -> str:
    if not formals.own and not formals.ambient:
        return ""
    own = ", ".join(map(_formal, formals.own))
    ambient = ", ".join(map(_formal, formals.ambient))
    return f"({own}{'; ' if ambient and own else ';' if ambient else ''}{' ' if ambient and not own else ''}{ambient})"


def _formal(formal: ast.Formal) -> str:
    return formal.name.text if formal.default is None else f"{formal.name}={_expr(formal.default)}"


def _item(node: Any) -> str:
    match node:
        case ast.Doc():
            return f"doc {_string(node.text)}"
        case ast.Notation():
            return f"notation {node.name}"
        case ast.DistinctBy():
            return f"distinct by {node.name}"
        case ast.UsePython():
            return f"use python {_string(node.module)}"
        case ast.Input():
            return f"input {node.layout}({_arguments(node.arguments)})"
        case ast.Param():
            return f"param {node.name} = {_expr(node.value)}"
        case ast.Bind():
            return _bind(node)
        case ast.Limit():
            return f"limit {node.measure} {node.relation} {_expr(node.bound)}"
        case ast.OpDef():
            where = "".join(f"\n  where {w.name} = {_expr(w.value)}" for w in node.where)
            return f"op {node.name}{_formals(node.formals)} = {_expr(node.body)}{where}"
        case ast.CellAlias():
            return f"cell {node.name} = {node.base}({_arguments(node.arguments)})"
        case ast.SetDef():
            return f"set {node.name}{_formals(node.formals)} = {_options(node.options)}"
        case ast.SetExtend():
            return f"{node.name} += {_options(node.options)}"
        case ast.CellDef():
            formals = _formals(node.formals) or "()"
            lines = [*(_bind(b) for b in node.body), f"return {_expr(node.result)}"]
            return f"cell {node.name}{formals} {{\n" + "".join(map(_indent, lines)) + "}"
        case ast.Network():
            lines = [f"{s.label}: {_expr(s.value)}" for s in node.steps]
            return "network {\n" + "".join(map(_indent, lines)) + "}"
    raise TypeError(f"not an item: {type(node).__name__}")


def _bind(node: ast.Bind) -> str:
    family = f"[{_expr(node.family.low)}..{_expr(node.family.high)}]" if node.family is not None else ""
    return f"{node.name}{family} = {_expr(node.value)}"


def _arguments(arguments: Iterable[ast.Argument]) -> str:
    return ", ".join(_expr(a.value) if a.name is None else f"{a.name}={_expr(a.value)}" for a in arguments)


def _options(options: tuple[ast.Option, ...]) -> str:
    texts = [_option(o) for o in options]
    flat = f"{{ {', '.join(texts)} }}"
    if len(flat) <= WIDTH - 20 and "\n" not in flat:
        return flat
    return "{\n" + "".join(f"  {t},\n" for t in texts) + "}"


def _option(option: ast.Option) -> str:
    label = f"{option.label}: " if option.label is not None else ""
    to = f"..{_expr(option.to)}" if option.to is not None else ""
    step = f" step {_expr(option.step)}" if option.step is not None else ""
    return f"{label}{_expr(option.value)}{to}{step}"


def _expr(node: Any, level: int = _IF) -> str:
    """The text of an expression, in parentheses when it binds less tightly than `level`."""
    text, own = _shape(node)
    return f"({text})" if own < level else text


def _shape(node: Any) -> tuple[str, int]:
    """The text of an expression and how tightly it binds."""
    match node:
        case ast.Number():
            return node.text, _ATOM
        case ast.String():
            return _string(node), _ATOM
        case ast.Name():
            return node.text, _ATOM
        case ast.List():
            return f"[{', '.join(map(_expr, node.items))}]", _ATOM
        case ast.Group():
            return f"({', '.join(map(_expr, node.items))})", _ATOM
        case ast.Choose():
            chosen = node.options.text if isinstance(node.options, ast.Ident) else _options(node.options)
            return f"choose {chosen}", _ATOM
        case ast.Repeat():
            index = f" as {node.index}" if node.index is not None else ""
            return f"repeat {_expr(node.count, _SUM)}{index} {{ {_expr(node.body)} }}", _ATOM
        case ast.Independent():
            return f"independent {node.cell}", _ATOM
        case ast.Merge():
            return f"{node.kind}({_arguments(node.arguments)})", _ATOM
        case ast.Call():
            return f"{_expr(node.function, _POSTFIX)}({_arguments(node.arguments)})", _POSTFIX
        case ast.Index():
            return f"{_expr(node.target, _POSTFIX)}[{_expr(node.index)}]", _POSTFIX
        case ast.Attribute():
            return f"{_expr(node.target, _POSTFIX)}.{node.name}", _POSTFIX
        case ast.With():
            return f"{_expr(node.target, _AMBIENT)} with {node.name}={_expr(node.value, _POSTFIX)}", _AMBIENT
        case ast.Negate():
            return f"-{_expr(node.operand, _UNARY)}", _UNARY
        case ast.Binary():
            return _binary(node)
        case ast.Gather():
            return _gather(node), _PIPE
        case ast.Pipe():
            first = node.stages[0]
            head = _gather(first) if isinstance(first, ast.Gather) else _expr(first, _OR)
            return " >> ".join([head, *(_expr(s, _OR) for s in node.stages[1:])]), _PIPE
        case ast.If():
            return f"if {_expr(node.condition)} then {_expr(node.yes)} else {_expr(node.no)}", _IF
    raise TypeError(f"not an expression: {type(node).__name__}")


def _binary(node: ast.Binary) -> tuple[str, int]:
    level = _LEVELS[node.operator]
    # Comparisons do not chain; the others associate to the left.
    left = _expr(node.left, level + 1 if level == _COMPARE else level)
    return f"{left} {node.operator} {_expr(node.right, level + 1)}", level


def _gather(node: ast.Gather) -> str:
    sources = ", ".join(map(_source, node.sources))
    via = f" via {_expr(node.via, _AMBIENT)}" if node.via is not None else ""
    into = f" into {_expr(node.into, _POSTFIX)}" if node.into is not None else ""
    return f"{node.kind} of {_how(node.how)} from ({sources}){via}{into}"


def _how(how: ast.All | ast.Pick) -> str:
    if isinstance(how, ast.All):
        return "all"
    low = _expr(how.low, _SUM)
    high = _expr(how.high, _SUM) if how.high is not None else ""
    return f"choose {low}..{high}" if how.ranged else f"choose {low}"


def _source(source: ast.Source) -> str:
    place = "earlier" if isinstance(source.place, ast.Earlier) else _expr(source.place)
    bindings = "".join(f" with {n}={_expr(v, _POSTFIX)}" for n, v in source.bindings)
    via = f" via {_expr(source.via, _AMBIENT)}" if source.via is not None else ""
    return f"{place}{bindings}{via}"
