"""The text form of the IR: one line a node.

Takes a module, returns its text; takes the text, returns an equal module.
Invariant: `parse_module(print_module(m)) == m`, places included.

    module space {
    graph "normal" cell "normal" sizes [C, c_p2] {
      %p2 = input() : image[c_p2, h_p2, w_p2] label "p2" at "darts.nas" 12:15
      %n1.a = select "n[1].op[a]" ("skip": %a, "sep": %n1.a.sep.bn) : image[C, h_p2, w_p2]
      return %result
    }
    }
"""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

from nasdsl.cases import Axis, Cases
from nasdsl.errors import UserError
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import (
    KINDS,
    AnyNode,
    ArchType,
    Branch,
    Call,
    Loc,
    Mix,
    MixTerm,
    Op,
    Select,
    Type,
    WeightType,
)
from nasdsl.types import Dim, TensorType, parse_dim

_COMMON = {"id", "operands", "type", "label", "loc"}
_IF_SET = {"recompute", "sparse", "bare"}
"""Fields that are printed only where they say yes."""
_AT_OPERANDS = {"select": ("options",), "gather": ("names",), "merge": ("names",)}
"""By kind, the field that is printed as names of the operands."""
_IN_BRACES = {
    kind: tuple(f.name for f in attrs.fields(sort) if f.name not in {*_COMMON, *_AT_OPERANDS.get(kind, ())})
    for kind, sort in KINDS.items()
}
"""By kind, the fields that are printed in braces."""


# --- printing ----------------------------------------------------------------


def print_module(module: Module, *, places: bool = True, known: dict[int, str] | None = None) -> str:
    """The text of a module; `places=False` leaves out where nodes come from.

    Args:
        known: lines by the identity of their node, filled and used again where several modules that
            share nodes are printed, all of them alive and with the same `places`.
    """
    tables = sorted(set().union(*(_tables(n) for g in module.graphs for n in g.nodes)), key=lambda c: c.name)
    lines = [f"cases {c.name} = {_axes(c)} {json.dumps(c.table)}" for c in tables]
    lines += [print_graph(g, places=places, known=known) for g in module.graphs]
    return f"module {module.stage.value} {{\n" + "\n".join(lines) + "\n}\n"


def _axes(cases: Cases) -> str:
    return json.dumps([[a.decision, list(a.values)] for a in cases.axes])


def _tables(node: AnyNode) -> set[Cases]:
    """The tables over decisions that a node's text names."""
    dims: list[object] = list(getattr(node.type, "dims", ())) + list(getattr(node.type, "shape", ()))
    if isinstance(node, Op):
        dims += [v for _, v in node.values]
    elif isinstance(node, Call):
        dims += [d for _, d in node.sizes]
    elif isinstance(node, Branch):
        return {node.condition}.union(*(d.cases for d in dims if isinstance(d, Dim)))
    return set().union(*(d.cases for d in dims if isinstance(d, Dim)))


def print_graph(graph: Graph, *, places: bool = True, known: dict[int, str] | None = None) -> str:
    """The text of one graph; `known` as for a module."""
    known = {} if known is None else known
    cell = f" cell {_quoted(graph.cell)}" if graph.cell else ""
    lines = [f"graph {_quoted(graph.name)}{cell} sizes [{', '.join(graph.sizes)}] {{"]
    for node in graph.nodes:
        if id(node) not in known:
            known[id(node)] = f"  {print_node(node, places=places)}"
        lines.append(known[id(node)])
    auxiliary = f" auxiliary %{graph.auxiliary}" if graph.auxiliary else ""
    lines.append(f"  return %{graph.result}{auxiliary}")
    return "\n".join([*lines, "}"])


def print_node(node: AnyNode, *, places: bool = True) -> str:
    """One line: `%id = kind "decision" (operands) {fields} : type label "..." at "file" line:column`."""
    names = _operand_names(node)
    operands = ", ".join(
        f"{_quoted(n)}: %{o}" if n is not None else f"%{o}" for n, o in zip(names, node.operands, strict=True)
    )
    fields = ((name, getattr(node, name)) for name in _IN_BRACES[node.kind])
    shown = ", ".join(
        f"{k}={_value(v)}" for k, v in fields if v not in (None, (), "") and (v or k not in _IF_SET)
    )
    text = f"%{node.id} = {node.kind}({operands})"
    if shown:
        text += f" {{{shown}}}"
    text += f" : {node.type}"
    if node.label:
        text += f" label {_quoted(node.label)}"
    if places and node.loc is not None:
        text += f" at {_quoted(node.loc.file)} {node.loc.line}:{node.loc.column}"
    return text


def _operand_names(node: AnyNode) -> tuple[str | None, ...]:
    for field in _AT_OPERANDS.get(node.kind, ()):
        names: tuple[str, ...] = getattr(node, field)
        if names:
            return names
    return (None,) * len(node.operands)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _value(value: Any) -> str:
    if isinstance(value, Dim):
        return f"<{value}>"
    if isinstance(value, Cases):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, MixTerm):
        return _value((value.vector, value.entry, value.choices))
    return f"[{', '.join(_value(v) for v in value)}]"


# --- reading -----------------------------------------------------------------

_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<id>%[\w.]+)|(?P<dim><[^<>]*>)'
    r"|(?P<cases>\$[0-9a-f]+)|(?P<number>-?\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<mark>[][(){}:=,+*%/-]))"
)


def parse_module(text: str) -> Module:
    """Reads what `print_module` writes. Raises UserError (NAS001) with the line of the mistake."""
    return _Reader(text).module()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.cases: dict[str, Cases] = {}

    def fail(self, expected: str) -> UserError:
        line = self.text.count("\n", 0, self.position) + 1
        return UserError.plain("NAS001", f"line {line} of the IR text: expected {expected}")

    def peek(self) -> str:
        match = _TOKEN.match(self.text, self.position)
        return match.group().strip() if match else ""

    def take(self, kind: str | None = None, expected: str = "") -> str:
        match = _TOKEN.match(self.text, self.position)
        if match is None or (kind is not None and match.lastgroup != kind):
            raise self.fail(expected or kind or "more text")
        self.position = match.end()
        return match.group().strip()

    def expect(self, word: str) -> None:
        if self.peek() != word:
            raise self.fail(f"`{word}`")
        self.take()

    def accept(self, word: str) -> bool:
        if self.peek() != word:
            return False
        self.take()
        return True

    def string(self) -> str:
        loaded = json.loads(self.take("string", "a quoted string"))
        return str(loaded)

    def module(self) -> Module:
        self.expect("module")
        word = self.take("word", "a stage")
        if word not in {s.value for s in Stage}:
            raise self.fail("one of the stages space, relaxed, concrete")
        self.expect("{")
        while self.accept("cases"):
            self.table()
        graphs = []
        while not self.accept("}"):
            graphs.append(self.graph())
        if self.text[self.position :].strip():
            raise self.fail("the end of the text")
        return Module(Stage(word), tuple(graphs), graphs[0].name if graphs else "network")

    def table(self) -> None:
        """`cases $name = [[decision, [option, ...]], ...] [value, ...]`."""
        name = self.take("cases", "a name `$...`")
        self.expect("=")
        axes, table = self.value(), self.value()
        try:
            made = Cases(tuple(Axis(path, values) for path, values in axes), table)
        except (TypeError, ValueError):
            raise self.fail("a table over decisions") from None
        if made.name != name:
            raise self.fail(f"the table of {name}; this is the table of {made.name}")
        self.cases[name] = made

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.string()
        cell = self.string() if self.accept("cell") else ""
        self.expect("sizes")
        self.expect("[")
        sizes: list[str] = []
        while not self.accept("]"):
            sizes.append(self.take("word", "a size"))
            self.accept(",")
        self.expect("{")
        nodes = []
        while not self.accept("return"):
            nodes.append(self.node())
        result = self.take("id", "a value")[1:]
        auxiliary = self.take("id", "a value")[1:] if self.accept("auxiliary") else ""
        self.expect("}")
        return Graph(name, tuple(sizes), tuple(nodes), result, cell, auxiliary)

    def node(self) -> AnyNode:
        identifier = self.take("id", "a node `%name = ...`")[1:]
        self.expect("=")
        word = self.take("word", "a kind of node")
        kind = KINDS.get(word)
        if kind is None:
            raise self.fail(f"a kind of node, one of {', '.join(KINDS)}")
        operands, names = self.operands()
        given: dict[str, Any] = self.fields() if self.accept("{") else {}
        self.expect(":")
        given.update(id=identifier, operands=operands, type=self.type())
        if self.accept("label"):
            given["label"] = self.string()
        if self.accept("at"):
            file, line = self.string(), int(self.take("number", "a line"))
            self.expect(":")
            given["loc"] = Loc(file, line, int(self.take("number", "a column")))
        if names:
            given["options" if kind is Select else "names"] = names
        return self._build(kind, given)

    def _build(self, kind: type[Any], given: dict[str, Any]) -> AnyNode:
        if kind is Mix:
            given["terms"] = tuple(MixTerm(*t) for t in given.get("terms", ()))
        fields = {f.name: f for f in attrs.fields(kind)}
        unknown = [k for k in given if k not in fields]
        missing = [n for n, f in fields.items() if n not in given and f.default is attrs.NOTHING]
        for name in list(missing):
            if fields[name].type in ("str", str):
                given[name] = ""
                missing.remove(name)
            elif str(fields[name].type).startswith("tuple"):
                given[name] = ()
                missing.remove(name)
        if unknown or missing:
            raise self.fail(f"the fields of `{kind.kind}`; wrong or missing: {', '.join(unknown + missing)}")
        node: AnyNode = kind(**given)
        return node

    def operands(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        self.expect("(")
        operands, names = [], []
        while not self.accept(")"):
            if self.peek().startswith('"'):
                names.append(self.string())
                self.expect(":")
            operands.append(self.take("id", "an operand")[1:])
            self.accept(",")
        return tuple(operands), tuple(names)

    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.accept("}"):
            name = self.take("word", "a field")
            self.expect("=")
            found[name] = self.value()
            self.accept(",")
        return found

    def value(self) -> Any:
        token = self.peek()
        if token.startswith('"'):
            return self.string()
        if token.startswith("<"):
            return self.dim(self.take()[1:-1])
        if token in self.cases:
            return self.cases[self.take()]
        if token == "[":
            self.take()
            items = []
            while not self.accept("]"):
                items.append(self.value())
                self.accept(",")
            return tuple(items)
        if token in ("true", "false"):
            return self.take() == "true"
        number = self.take("number", "a value")
        return float(number) if "." in number or "e" in number else int(number)

    def dim(self, text: str) -> Dim:
        try:
            return parse_dim(text, self.cases)
        except (ValueError, ZeroDivisionError):
            raise self.fail("a size") from None

    def type(self) -> Type:
        word = self.take("word", "a type")
        self.expect("[")
        start, depth = self.position, 1
        while depth:
            if self.position >= len(self.text):
                raise self.fail("`]`")
            depth += {"[": 1, "]": -1}.get(self.text[self.position], 0)
            self.position += 1
        inner = self.text[start : self.position - 1].strip()
        dims = tuple(self.dim(d) for d in inner.split(",")) if inner else ()
        if word == "arch":
            if len(dims) != 1 or dims[0].constant is None:
                raise self.fail("a length")
            return ArchType(dims[0].constant)
        if word in ("weight", "state"):
            return WeightType(dims, state=word == "state")
        return TensorType(word, dims)
