"""Architecture variables as classes.

Takes Graph[RELAXED], returns class texts and where the variables of a decision are.
Invariant: all variables of one shape and role of an owner are rows of one
parameter; the products that mixed operations need are made once a forward pass,
however often a cell is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import comb, log

import attrs

from nasdsl.codegen.source import ATTRIBUTES, CLASSES, Namespace, class_name, comment, identifier, literal
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import (
    AnyNode,
    ArchType,
    Arith,
    Blend,
    Dist,
    Marginal,
    Merge,
    Mix,
    Var,
)

_INITIAL = {
    "normal": "1e-3 * torch.randn({shape})",
    "zeros": "torch.zeros({shape})",
    "shares": "1 / {entries} + 1e-4 * torch.randn({shape})",
    "ones": "1.0 + 1e-2 * torch.randn({shape})",
}


@attrs.frozen
class Slot:
    """Where the variables of a decision are.

    Attributes:
        role: of the `Var`.
        row: of the parameter; None for a parameter that is one vector.
        rows: name of the buffer with the incidence of subsets, for role `inputs`.
    """

    role: str
    parameter: str
    row: int | None
    entries: tuple[str, ...]
    rows: str | None = None


@attrs.frozen
class VariableClass:
    """One class of variables: of a cell, or of the network.

    Attributes:
        slots: decision (local path) to where its variables are.
        runtime: names that the lines use, as `module:name`.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    slots: Mapping[str, Slot]
    runtime: frozenset[str]


@attrs.frozen
class Variables:
    """All variables of a supernet."""

    classes: tuple[VariableClass, ...]
    owners: Mapping[str, tuple[str, VariableClass]]
    """Owner path to its key in the module dict and its class."""
    activation: str
    """How operation variables become weights."""
    sparse: bool
    """Whether candidates that do not run are left out."""
    always: Mapping[tuple[str, str], tuple[str, ...]]
    """Of a choice of inputs, by form and decision, the sources that no variables switch off."""


def variables(module: Module, taken: tuple[str, ...] = ()) -> Variables:
    """The variable classes of a module, and which owner uses which; `taken` are the cells' class names."""
    by_form: dict[str, dict[str, AnyNode]] = {}
    for graph in module.graphs:
        nodes = {n.id: n for n in graph.nodes if isinstance(n.type, ArchType)}
        if nodes:
            by_form.setdefault(form_of(graph), {}).update(nodes)
    used = {form: _vectors(module, form) for form in by_form}
    mixes = [n for g in module.graphs for n in g.nodes if isinstance(n, Mix)]
    sparse = {v for m in mixes if m.sparse for v in m.operands[: m.vectors]}
    whole = {n.operands[0] for g in module.graphs for n in g.nodes if isinstance(n, Blend)}
    names = Namespace((*CLASSES, *taken))
    classes = {
        form: _variable_class(
            names.fresh(f"{class_name(form)}Variables"),
            form,
            tuple(nodes.values()),
            used[form],
            whole,
            sparse,
        )
        for form, nodes in by_form.items()
    }
    owners: dict[str, tuple[str, VariableClass]] = {}
    keys = Namespace(ATTRIBUTES)
    for use in module.uses():
        form = form_of(use.graph)
        if form in classes and use.owner not in owners:
            owners[use.owner] = (keys.fresh(use.owner or "network"), classes[form])
    forms = {d.form for nodes in by_form.values() for d in _of_operations(nodes)}
    activation = forms.pop() if len(forms) == 1 else "softmax"
    return Variables(tuple(classes.values()), owners, activation, bool(sparse), _always(module))


def _always(module: Module) -> dict[tuple[str, str], tuple[str, ...]]:
    """The sources of plain sums whose edge is more than a weighted sum: channels go round its candidates."""
    found = {}
    for graph in module.graphs:
        for node in graph.nodes:
            if isinstance(node, Merge) and node.decision is not None:
                pairs = zip(node.names, node.operands, strict=True)
                fixed = tuple(n for n, o in pairs if not isinstance(graph.by_id[o], Mix))
                found[form_of(graph), node.decision] = fixed
    return found


def _of_operations(nodes: Mapping[str, AnyNode]) -> list[Dist]:
    """The distributions over candidates."""
    found = [n for n in nodes.values() if isinstance(n, Dist)]
    return [d for d in found if isinstance(v := nodes[d.operands[0]], Var) and v.role == "op"]


def form_of(graph: Graph) -> str:
    """Structural variants of one cell share their variables."""
    return graph.name.split("__")[0]


def _vectors(module: Module, form: str) -> list[str]:
    """Ids of the vectors that mixed operations read, in order of use."""
    found: dict[str, None] = {}
    for graph in module.graphs:
        if form_of(graph) == form:
            for node in graph.nodes:
                if isinstance(node, Mix):
                    found.update(dict.fromkeys(node.operands[: node.vectors]))
                elif isinstance(node, Blend):
                    found[node.operands[0]] = None
    return list(found)


_ACTIVATION = "nasdsl.runtime.activation"


def _variable_class(
    name: str, title: str, nodes: tuple[AnyNode, ...], used: list[str], whole: set[str], sparse: set[str]
) -> VariableClass:
    """The class of one form.

    Args:
        used: the vectors that are returned.
        whole: of these, what blends read, which stays in one piece.
        sparse: of these, what tells candidates that do not run.
    """
    made = _Writing(nodes, prunes=bool(sparse))
    for group in made.groups():
        if group[0].role == "op":
            made.operations(group)
        else:
            made.inputs(group[0])
    for node in nodes:
        if isinstance(node, Arith):
            made.arithmetic(node)
    made.hosted(v for v in used if v in sparse and v not in whole)
    made.body.append("return {")
    made.body.extend(f"    {literal(v)}: {made.returned(v, v in whole, v in sparse)}," for v in used)
    made.body.append("}")
    lines = ["def __init__(self) -> None:", "    super().__init__()", *(f"    {i}" for i in made.init), ""]
    lines += ["def forward(self, at: At) -> dict[str, Weights]:"]
    lines += [f"    {b}" for b in made.body]
    return VariableClass(name, title, tuple(lines), made.slots, frozenset(made.runtime))


class _Writing:
    """The lines of one class while they are written.

    Attributes:
        where: the expression of every vector, by node id.
        runs: of some, which entries run, as an expression too.
        bare: those whose weights count where their candidates do not run.
        pruned: names of what runs to the buffer that it is read from, where entries are pruned.
        joint: names of what runs to those of single entries, and the groups of them that run together.
        prunes: whether clipped entries whose weight reaches zero are off for ever.
    """

    def __init__(self, nodes: tuple[AnyNode, ...], prunes: bool) -> None:
        self.nodes = nodes
        self.prunes = prunes
        self.attributes = Namespace(ATTRIBUTES)
        self.init: list[str] = []
        self.body: list[str] = []
        self.slots: dict[str, Slot] = {}
        self.where: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        self.pruned: dict[str, str] = {}
        self.joint: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {}
        self.bare: set[str] = set()
        self.runtime = {f"{_ACTIVATION}:At", f"{_ACTIVATION}:Weights"}
        self.marginals = {m.operands[0]: m for m in nodes if isinstance(m, Marginal)}
        self.dists = {d.operands[0]: d for d in nodes if isinstance(d, Dist)}
        self.sums = _Sums(self.attributes, self.init, self.body, {n.id: n for n in nodes})

    def groups(self) -> list[list[Var]]:
        """Variables that are rows of one parameter."""
        found: dict[tuple[object, ...], list[Var]] = {}
        for node in self.nodes:
            if isinstance(node, Var):
                key = (node.role, node.decision)
                if node.role == "op":
                    key = (node.role, node.entries, node.init)  # type: ignore[assignment]
                found.setdefault(key, []).append(node)
        return list(found.values())

    def operations(self, group: list[Var]) -> None:
        """Operation variables: one row a decision."""
        first = group[0]
        parameter = self.attributes.fresh("op")
        self.init.append("# rows: " + comment(", ".join(v.decision for v in group)))
        self.init.append("# columns: " + comment(", ".join(first.entries)))
        shape = (len(group), len(first.entries))
        self.init.append(f"self.{parameter} = nn.Parameter({_initial(first, shape)})")
        runs = self._weights(parameter, self.dists[first.id].form, shape)
        for row, var in enumerate(group):
            self.slots[var.decision] = Slot("op", parameter, row, var.entries)
            dist = self.dists[var.id].id
            self.where[dist] = f"{parameter}[{row}]"
            self.runs[dist] = f"{runs}[{row}]"
            if self.dists[var.id].bare:
                self.bare.add(dist)

    def _weights(self, parameter: str, form: str, shape: tuple[int, int]) -> str:
        """Writes the line that makes weights of a parameter; returns the name of what runs."""
        runs = f"{parameter}_runs"
        if form != "softmax":
            self.runtime.add(f"{_ACTIVATION}:{form}")
        if form == "softmax":
            self.body.append(f"{parameter} = torch.softmax(self.{parameter}, -1)")
        elif form == "gumbel":
            self.body.append(f"{parameter}, {runs} = gumbel(self.{parameter}, at)")
        elif form == "clipped" and not self.prunes:
            self.body.append(f"{parameter} = clipped(self.{parameter})")
        elif form == "clipped":
            alive = f"{parameter}_alive"
            self.init.append("# entries that were not pruned")
            text = f"torch.ones({shape[0]}, {shape[1]}, dtype=torch.bool)"
            self.init.append(f"self.register_buffer({literal(alive)}, {text})")
            self.body.append(f"{parameter} = clipped(self.{parameter}, self.{alive})")
            self.pruned[runs] = alive
        else:
            self.body.append(f"{parameter} = {form}(self.{parameter}, at)")
        return runs

    def inputs(self, var: Var) -> None:
        """Topology variables of one node: over subsets of its inputs, or over its edges."""
        dist = self.dists[var.id]
        parameter = self.attributes.fresh(identifier(var.decision))
        marginal = self.marginals.get(dist.id)
        rows = marginal.rows if marginal is not None else ()
        what = "combinations" if rows else "edges"
        self.init.append(f"# {what} of " + comment(f"{var.decision}: {', '.join(var.entries)}"))
        self.init.append(f"self.{parameter} = nn.Parameter({_initial(var, (len(var.entries),), rows)})")
        if marginal is None:
            self.body.append(f"{parameter} = torch.softmax(self.{parameter}, -1)")
            self.slots[var.decision] = Slot("edges", parameter, None, var.entries)
            self.where[dist.id] = parameter
            return
        buffer = self.attributes.fresh(f"{parameter}_rows")
        matrix = "[" + ", ".join("[" + ", ".join(f"{c}.0" for c in r) + "]" for r in rows) + "]"
        self.init.append(f"self.register_buffer({literal(buffer)}, torch.tensor({matrix}), persistent=False)")
        self.body.append(
            f"{parameter} = torch.softmax(self.{parameter} / at.temperature, -1) @ self.{buffer}"
        )
        self.slots[var.decision] = Slot("inputs", parameter, None, var.entries, buffer)
        self.where[marginal.id] = parameter

    def arithmetic(self, node: Arith) -> None:
        """Products and sums of vectors; a product runs where its first factor does."""
        first = self.where[node.operands[0]]
        if node.form != "scale":
            self.where[node.id] = self.sums.add(node, first)
            if node.form == "groups" and node.operands[0] in self.runs:
                self._groups(node)
            return
        self.where[node.id] = f"({first} * {self.where[node.operands[1]]}[{node.index}])"
        if node.operands[0] in self.runs:
            self.runs[node.id] = self.runs[node.operands[0]]
        if node.operands[0] in self.bare:
            self.bare.add(node.id)

    def _groups(self, node: Arith) -> None:
        """Candidates that were joined run where any of them does."""
        name, bracket, row = self.where[node.id].partition("[")
        source, before = node.operands[0], self.runs[node.operands[0]].partition("[")[0]
        self.joint[f"{name}_runs"] = (before, node.groups)
        self.runs[node.id] = f"{name}_runs{bracket}{row}"
        if source in self.bare:
            self.bare.add(node.id)

    def hosted(self, vectors: Iterable[str]) -> None:
        """Writes the lines that tell which candidates run: of what was pruned one transfer for all rows."""
        read = dict.fromkeys(self.runs[v].partition("[")[0] for v in vectors if v in self.runs)
        single = dict.fromkeys(self.joint[n][0] if n in self.joint else n for n in read)
        self.body.extend(f"{n} = self.{self.pruned[n]}.tolist()" for n in single if n in self.pruned)
        for name in (n for n in read if n in self.joint):
            before, groups = self.joint[name]
            self.body.append(f"{name} = [[any(row[e] for e in g) for g in {groups}] for row in {before}]")

    def returned(self, vector: str, whole: bool, sparse: bool) -> str:
        """A vector as cells read it."""
        text = self.where[vector]
        if whole:
            return text
        if not sparse or vector not in self.runs:
            return f"{text}.unbind()"
        self.runtime.add(f"{_ACTIVATION}:running")
        runs = self.runs[vector]
        tail = ", counted=True" if vector in self.bare else ""
        return f"running({text[1:-1] if text.startswith('(') else text}, {runs}{tail})"


class _Sums:
    """Sums over groups of entries, one product for all rows of a parameter."""

    def __init__(
        self, attributes: Namespace, init: list[str], body: list[str], nodes: Mapping[str, AnyNode]
    ) -> None:
        self.attributes, self.init, self.body, self.nodes = attributes, init, body, nodes
        self.known: dict[tuple[object, ...], str] = {}

    def add(self, node: Arith, source: str) -> str:
        """The expression of a node whose operand is `parameter` or `parameter[row]`."""
        parameter, bracket, index = source.partition("[")
        key = (parameter, node.form, node.groups, node.over)
        if key not in self.known:
            self.known[key] = self._made(node, parameter)
        return f"{self.known[key]}{bracket}{index}"

    def _made(self, node: Arith, parameter: str) -> str:
        name = self.attributes.fresh(f"{parameter}_{node.form}")
        buffer = self.attributes.fresh(f"{name}_rows")
        length = getattr(self.nodes[node.operands[0]].type, "length", 0)
        matrix = [[float(e in group) for e in range(length)] for group in node.groups]
        self.init.append(f"self.register_buffer({literal(buffer)}, torch.tensor({matrix}), persistent=False)")
        self.body.append(f"{name} = {parameter} @ self.{buffer}.t()")
        if node.form == "shares":
            entries = sorted(node.over or (e for group in node.groups for e in group))
            total = f"{parameter}[..., {entries}]" if len(entries) < length else parameter
            self.body.append(f"{name} = {name} / {total}.sum(-1, True).clamp_min(1e-30)")
        return name


def _initial(var: Var, shape: tuple[int, ...], rows: tuple[str, ...] = ()) -> str:
    if var.init == "balanced":
        # -log C(n, |c|) gives every size of subset the same probability (explicit-topology, tests 10).
        values = [-log(comb(len(r), r.count("1"))) for r in rows]
        return f"torch.tensor({[round(v, 12) + 0.0 for v in values]})"
    return _INITIAL[var.init].format(shape=", ".join(map(str, shape)), entries=shape[-1])
