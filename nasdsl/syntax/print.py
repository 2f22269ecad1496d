"""Syntax tree -> text.

Takes any node, returns its text: items and whole files on lines of at most 100
columns where that can be, everything smaller on one line (the canonical text of
an option, for one). Invariant: parse(to_text(x)) == x, with no parentheses but the
needed ones; printing what was printed changes nothing.

Comments are not in the tree, so they are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nasdsl.syntax import ast
from nasdsl.syntax.layout import Doc, Group, Line, Nest, fill, lay_out

WIDTH = 100

# How tightly an expression holds together, as in the grammar.
_EXPR, _PIPE, _OR, _AND, _COMPARISON, _SUM, _PRODUCT, _UNARY, _AMBIENT, _POSTFIX, _ATOM = range(11)

_OPERATORS = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def to_text(node: Any) -> str:
    """The text of a node of the syntax tree. Comments are not part of the tree and are lost."""
    if isinstance(node, ast.File):
        return "\n".join(f"{to_text(space)}\n" for space in node.spaces)
    if isinstance(node, _WRAPPED):
        return lay_out(_doc(node), WIDTH)
    return lay_out(_doc(node), None)


def _doc(node: Any) -> Doc:
    return _DOCS[type(node)](node)


def _level(node: Any) -> int:
    if isinstance(node, ast.Binary):
        return _OPERATORS[node.operator]
    return _LEVELS.get(type(node), _ATOM)


def _at(node: Any, level: int) -> Doc:
    """An expression where the grammar asks for one that holds together at least this tightly."""
    doc = _doc(node)
    return ("(", Nest(1, doc), ")") if _level(node) < level else doc


# --- expressions -----------------------------------------------------------------


def _string(node: ast.String) -> Doc:
    return f'"{node.value.translate(_ESCAPES)}"'


def _list(node: ast.List) -> Doc:
    return Group(("[", Nest(4, fill((_doc(i) for i in node.items), ",")), "]"))


def _group(node: ast.Group) -> Doc:
    return Group(("(", Nest(4, fill((_doc(i) for i in node.items), ",")), ")"))


def _negate(node: ast.Negate) -> Doc:
    return ("-", _at(node.operand, _UNARY))


def _binary(node: ast.Binary) -> Doc:
    level = _OPERATORS[node.operator]
    # Comparisons do not chain; the others group to the left.
    left = _at(node.left, level + 1 if level == _COMPARISON else level)
    right = _at(node.right, level + 1)
    if level == _PRODUCT:
        return (left, node.operator, right)
    return (left, f" {node.operator}", Group(Nest(4, (Line(), right))))


def _if(node: ast.If) -> Doc:
    yes, no = (Line(), "then ", _doc(node.yes)), (Line(), "else ", _doc(node.no))
    return Group(("if ", _at(node.condition, _PIPE), Nest(2, (yes, no))))


def _pipe(node: ast.Pipe) -> Doc:
    head, *rest = node.stages
    parts: list[Doc] = [_at(head, _PIPE if isinstance(head, ast.Gather) else _OR)]
    parts.extend(Group((Line(), ">> ", _at(stage, _OR))) for stage in rest)
    return Nest(4, tuple(parts))


def _with(node: ast.With) -> Doc:
    return (_at(node.target, _AMBIENT), _binding(node.name, node.value))


def _binding(name: ast.Ident, value: ast.Expr) -> Doc:
    return Nest(4, Group((Line(), f"with {name}=", _at(value, _POSTFIX))))


def _arguments(arguments: Sequence[ast.Argument]) -> Doc:
    if not arguments:
        return "()"
    return Group(("(", Nest(4, fill((_argument(a) for a in arguments), ",")), ")"))


def _argument(node: ast.Argument) -> Doc:
    return _doc(node.value) if node.name is None else (f"{node.name}=", _doc(node.value))


def _call(node: ast.Call) -> Doc:
    return (_at(node.function, _POSTFIX), _arguments(node.arguments))


def _index(node: ast.Index) -> Doc:
    return (_at(node.target, _POSTFIX), "[", _doc(node.index), "]")


def _attribute(node: ast.Attribute) -> Doc:
    return (_at(node.target, _POSTFIX), f".{node.name}")


def _options(options: Sequence[ast.Option]) -> Doc:
    inner = fill((_option(o) for o in options), ",")
    return Group(("{", Nest(2, (Line(), inner)), Line(), "}"))


def _option(node: ast.Option) -> Doc:
    label = "" if node.label is None else f"{node.label}: "
    if node.to is None:
        return (label, _doc(node.value))
    step: Doc = "" if node.step is None else (" step ", _doc(node.step))
    return (label, _doc(node.value), "..", _doc(node.to), step)


def _choose(node: ast.Choose) -> Doc:
    return ("choose ", str(node.options) if isinstance(node.options, ast.Ident) else _options(node.options))


def _repeat(node: ast.Repeat) -> Doc:
    index = "" if node.index is None else f" as {node.index}"
    body = (Nest(2, (Line(), _doc(node.body))), Line())
    return Group(("repeat ", _at(node.count, _SUM), f"{index} {{", body, "}"))


def _merge(node: ast.Merge) -> Doc:
    return (node.kind, _arguments(node.arguments))


def _pick(node: ast.Pick) -> Doc:
    high: Doc = "" if node.high is None else _at(node.high, _SUM)
    return ("choose ", _at(node.low, _SUM), ".." if node.ranged else "", high)


def _source(node: ast.Source) -> Doc:
    bindings = tuple(_binding(name, value) for name, value in node.bindings)
    via: Doc = "" if node.via is None else (" via ", _at(node.via, _AMBIENT))
    return (_doc(node.place), bindings, via)


def _gather(node: ast.Gather) -> Doc:
    parts: list[Doc] = [f"{node.kind} of ", _doc(node.how), " from ("]
    parts += [Nest(4, fill((_source(s) for s in node.sources), ",")), ")"]
    if node.via is not None:
        parts.append(Nest(4, (Line(), "via ", _at(node.via, _AMBIENT))))
    if node.into is not None:
        parts.append(Nest(4, (Line(), "into ", _at(node.into, _POSTFIX))))
    return Group(tuple(parts))


# --- items -----------------------------------------------------------------------


def _formal(node: ast.Formal) -> Doc:
    return str(node.name) if node.default is None else (f"{node.name}=", _doc(node.default))


def _formals(node: ast.Formals) -> Doc:
    own: Doc = fill((_formal(f) for f in node.own), ",") if node.own else ""
    ambient: Doc = ("; ", fill((_formal(f) for f in node.ambient), ",")) if node.ambient else ""
    return Group(("(", Nest(4, (own, ambient)), ")"))


def _head(word: str, name: ast.Ident, formals: ast.Formals) -> Doc:
    return (f"{word} {name}", _formals(formals) if formals.own or formals.ambient else "")


def _bind(node: ast.Bind) -> Doc:
    family: Doc = "" if node.family is None else _doc(node.family)
    return (str(node.name), family, " = ", _doc(node.value))


def _where(node: ast.Where) -> Doc:
    return (f"where {node.name} = ", _doc(node.value))


def _op(node: ast.OpDef) -> Doc:
    where = tuple(Nest(2, (Line(), _where(w))) for w in node.where)
    # Further lines of the body stay clear of the `where` lines.
    body = Nest(2, _doc(node.body)) if where else _doc(node.body)
    return (_head("op", node.name, node.formals), " = ", body, where)


def _cell(node: ast.CellDef) -> Doc:
    lines = [*map(_doc, node.body), ("return ", _doc(node.result))]
    return (f"cell {node.name}", _formals(node.formals), " ", _block(lines))


def _set(node: ast.SetDef) -> Doc:
    return (_head("set", node.name, node.formals), " = ", _options(node.options))


def _network(node: ast.Network) -> Doc:
    return ("network ", _block([_doc(s) for s in node.steps]))


def _space(node: ast.Space) -> Doc:
    base: Doc = "" if node.base is None else (" from ", _string(node.base))
    lines: list[Doc] = []
    for index, item in enumerate(node.items):
        if index and _apart(node.items[index - 1], item):
            lines.append("")
        lines.append(_doc(item))
    return (f"space {node.name}", base, " ", _block(lines))


def _apart(above: ast.Item, below: ast.Item) -> bool:
    """Whether a blank line stands between two items: around blocks, and where the subject changes."""
    if isinstance(above, _BLOCKS) or isinstance(below, _BLOCKS):
        return True
    return any(isinstance(above, kinds) != isinstance(below, kinds) for kinds in (_HEAD, _SETTINGS))


def _block(lines: Sequence[Doc]) -> Doc:
    # Outside of any Group a Line always ends the line.
    return ("{", tuple(Nest(2, (Line(), line)) for line in lines), Line(), "}")


def _limit(node: ast.Limit) -> Doc:
    table: Doc = "" if node.table is None else ("(", _string(node.table), ")")
    bound = node.bound.text if isinstance(node.bound, ast.Duration) else _at(node.bound, _SUM)
    return (f"limit {node.measure}", table, f" {node.relation} ", bound)


_LEVELS: dict[type, int] = {
    ast.If: _EXPR,
    ast.Pipe: _PIPE,
    ast.Gather: _PIPE,
    ast.Negate: _UNARY,
    ast.With: _AMBIENT,
    ast.Call: _POSTFIX,
    ast.Index: _POSTFIX,
    ast.Attribute: _POSTFIX,
}
_BLOCKS = (ast.CellDef, ast.Network)
_HEAD = (ast.Doc, ast.Notation, ast.DistinctBy, ast.UsePython)
_SETTINGS = (ast.Input, ast.Param, ast.Bind, ast.Limit, ast.Within)
_WRAPPED = (ast.Space, *_BLOCKS, *_HEAD, *_SETTINGS, ast.OpDef, ast.CellAlias, ast.SetDef, ast.SetExtend)

_DOCS: dict[type, Callable[[Any], Doc]] = {
    ast.Ident: lambda n: n.text,
    ast.Number: lambda n: n.text,
    ast.String: _string,
    ast.Name: lambda n: n.text,
    ast.List: _list,
    ast.Group: _group,
    ast.Negate: _negate,
    ast.Binary: _binary,
    ast.If: _if,
    ast.Pipe: _pipe,
    ast.With: _with,
    ast.Argument: _argument,
    ast.Call: _call,
    ast.Index: _index,
    ast.Attribute: _attribute,
    ast.Option: _option,
    ast.Choose: _choose,
    ast.Repeat: _repeat,
    ast.Independent: lambda n: f"independent {n.cell}",
    ast.Merge: _merge,
    ast.All: lambda _: "all",
    ast.Pick: _pick,
    ast.Earlier: lambda _: "earlier",
    ast.Source: _source,
    ast.Gather: _gather,
    ast.Formal: _formal,
    ast.Formals: _formals,
    ast.Doc: lambda n: ("doc ", _string(n.text)),
    ast.Notation: lambda n: f"notation {n.name}",
    ast.DistinctBy: lambda n: f"distinct by {n.name}",
    ast.UsePython: lambda n: ("use python ", _string(n.module)),
    ast.Input: lambda n: (f"input {n.layout}", _arguments(n.arguments)),
    ast.Param: lambda n: (f"param {n.name} = ", _doc(n.value)),
    ast.Limit: _limit,
    ast.Duration: lambda n: n.text,
    ast.Within: lambda n: ("within ", _string(n.file)),
    ast.Family: lambda n: ("[", _doc(n.low), "..", _doc(n.high), "]"),
    ast.Bind: _bind,
    ast.Where: _where,
    ast.OpDef: _op,
    ast.CellDef: _cell,
    ast.CellAlias: lambda n: (f"cell {n.name} = {n.base}", _arguments(n.arguments)),
    ast.SetDef: _set,
    ast.SetExtend: lambda n: (f"{n.name} += ", _options(n.options)),
    ast.Step: lambda n: (f"{n.label}: ", _doc(n.value)),
    ast.Network: _network,
    ast.Space: _space,
}
