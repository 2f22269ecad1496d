"""Architecture variables as classes, and what the runtime must know of them.

Takes Graph[RELAXED] and the decision table, returns class texts and plain data.
Invariant: all variables of one shape and role of an owner are rows of one
parameter; the products that mixed operations need are made once a forward pass,
however often a cell is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb, log
from typing import Any

import attrs

from nasdsl.codegen.source import ATTRIBUTES, CLASSES, Namespace, class_name, comment, identifier, literal
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import AnyNode, ArchType, Arith, Blend, Dist, Gather, Marginal, Mix, Select, Var
from nasdsl.passes.relax import subsets
from nasdsl.space.decisions import DecisionTable

_INITIAL = {"normal": "1e-3 * torch.randn({shape})", "zeros": "torch.zeros({shape})"}


@attrs.frozen
class VariableClass:
    """One class of variables: of a cell, or of the network.

    Attributes:
        slots: decision (local path) to (parameter, row or None, entries, rows buffer or None).
    """

    name: str
    title: str
    lines: tuple[str, ...]
    slots: Mapping[str, tuple[str, int | None, tuple[str, ...], str | None]]


@attrs.frozen
class Variables:
    """All variables of a supernet."""

    classes: tuple[VariableClass, ...]
    owners: Mapping[str, tuple[str, VariableClass]]
    """Owner path to its key in the module dict and its class."""


def variables(module: Module, taken: tuple[str, ...] = ()) -> Variables:
    """The variable classes of a module, and which owner uses which; `taken` are the cells' class names."""
    by_form: dict[str, dict[str, AnyNode]] = {}
    for graph in module.graphs:
        nodes = {n.id: n for n in graph.nodes if isinstance(n.type, ArchType)}
        if nodes:
            by_form.setdefault(_form(graph), {}).update(nodes)
    used = {form: _vectors(module, form) for form in by_form}
    whole = {n.operands[0] for g in module.graphs for n in g.nodes if isinstance(n, Blend)}
    names = Namespace((*CLASSES, *taken))
    classes = {
        form: _variable_class(
            names.fresh(f"{class_name(form)}Variables"), form, tuple(nodes.values()), used[form], whole
        )
        for form, nodes in by_form.items()
    }
    owners: dict[str, tuple[str, VariableClass]] = {}
    keys = Namespace(ATTRIBUTES)
    for use in module.uses():
        form = _form(use.graph)
        if form in classes and use.owner not in owners:
            owners[use.owner] = (keys.fresh(use.owner or "network"), classes[form])
    return Variables(tuple(classes.values()), owners)


def _form(graph: Graph) -> str:
    """Structural variants of one cell share their variables."""
    return graph.name.split("__")[0]


def _vectors(module: Module, form: str) -> list[str]:
    """Ids of the vectors that mixed operations read, in order of use."""
    found: dict[str, None] = {}
    for graph in module.graphs:
        if _form(graph) == form:
            for node in graph.nodes:
                if isinstance(node, Mix):
                    found.update(dict.fromkeys(node.operands[: node.vectors]))
                elif isinstance(node, Blend):
                    found[node.operands[0]] = None
    return list(found)


def _variable_class(
    name: str, title: str, nodes: tuple[AnyNode, ...], used: list[str], whole: set[str]
) -> VariableClass:
    """The class of one form; `whole` are the vectors that blends read, which stay in one piece."""
    groups: dict[tuple[object, ...], list[Var]] = {}
    for node in nodes:
        if isinstance(node, Var):
            key = (node.role, node.entries, node.init) if node.role == "op" else (node.decision,)
            groups.setdefault(key, []).append(node)
    attributes = Namespace(ATTRIBUTES)
    init: list[str] = []
    slots: dict[str, tuple[str, int | None, tuple[str, ...], str | None]] = {}
    where: dict[str, str] = {}
    marginals = {m.operands[0]: m for m in nodes if isinstance(m, Marginal)}
    dists = {d.operands[0]: d for d in nodes if isinstance(d, Dist)}
    body: list[str] = []
    for group in groups.values():
        first = group[0]
        hint = "op" if first.role == "op" else identifier(first.decision)
        parameter = attributes.fresh(hint)
        if first.role == "op":
            init.append("# rows: " + comment(", ".join(v.decision for v in group)))
            init.append("# columns: " + comment(", ".join(first.entries)))
            init.append(
                f"self.{parameter} = nn.Parameter({_initial(first, (len(group), len(first.entries)))})"
            )
            body.append(f"{parameter} = torch.softmax(self.{parameter}, -1)")
            for row, var in enumerate(group):
                slots[var.decision] = (parameter, row, var.entries, None)
                where[dists[var.id].id] = f"{parameter}[{row}]"
            continue
        dist = dists[first.id]
        marginal = marginals[dist.id]
        rows = attributes.fresh(f"{parameter}_rows")
        matrix = "[" + ", ".join("[" + ", ".join(f"{c}.0" for c in r) + "]" for r in marginal.rows) + "]"
        init.append("# combinations of " + comment(f"{first.decision}: {', '.join(first.entries)}"))
        init.append(
            f"self.{parameter} = nn.Parameter({_initial(first, (len(first.entries),), marginal.rows)})"
        )
        init.append(f"self.register_buffer({literal(rows)}, torch.tensor({matrix}), persistent=False)")
        body.append(f"{parameter} = torch.softmax(self.{parameter} / temperature, -1) @ self.{rows}")
        slots[first.decision] = (parameter, None, first.entries, rows)
        where[marginal.id] = parameter
    sums = _Sums(attributes, init, body, {n.id: n for n in nodes})
    for node in nodes:
        if isinstance(node, Arith) and node.form != "scale":
            where[node.id] = sums.add(node, where[node.operands[0]])
        elif isinstance(node, Arith):
            where[node.id] = f"({where[node.operands[0]]} * {where[node.operands[1]]}[{node.index}])"
    body.append("return {")
    body.extend(f"    {literal(v)}: {where[v]}{'' if v in whole else '.unbind()'}," for v in used)
    body.append("}")
    lines = ["def __init__(self) -> None:", "    super().__init__()", *(f"    {i}" for i in init), ""]
    lines += ["def forward(self, temperature: float) -> dict[str, tuple[torch.Tensor, ...]]:"]
    lines += [f"    {b}" for b in body]
    return VariableClass(name, title, tuple(lines), slots)


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
    return _INITIAL[var.init].format(shape=", ".join(map(str, shape)))


def decision_data(table: DecisionTable, space: Module, made: Variables) -> tuple[dict[str, Any], ...]:
    """One mapping a decision, for `SupernetBase.DECISIONS`; `space` is the module before it was relaxed."""
    edges = _edge_decisions(space)
    data: list[dict[str, Any]] = []
    for decision in table.decisions:
        owner = max(
            (o for o in made.owners if o == "" or decision.path.startswith(f"{o}.")), key=len, default=None
        )
        local = decision.path[len(owner) + 1 :] if owner else decision.path
        slot = made.owners[owner][1].slots.get(local) if owner is not None else None
        entry: dict[str, Any] = {
            "path": decision.path,
            "kind": decision.kind,
            "options": decision.options,
            "when": None
            if decision.when is None
            else tuple((e.decision, e.option) for (e,) in decision.when),
            "owner": owner,
            "parameter": slot[0] if slot else None,
            "row": slot[1] if slot else None,
            "entries": slot[2] if slot else decision.options,
            "none": None,
        }
        if decision.kind == "op":
            extra = [i for i, e in enumerate(entry["entries"]) if e not in decision.options]
            entry["none"] = extra[0] if extra else None
        else:
            prefix = f"{owner}." if owner else ""
            named = edges.get((_owner_form(made, owner), local), {})
            entry["edges"] = {s: prefix + named[s] if named.get(s) else None for s in decision.options}
            entry["high"] = decision.high
            entry["node"] = local.rpartition(".")[0]
            if slot:
                entry["rows"] = slot[3]
                chosen = subsets(len(decision.options), decision.low, decision.high)
                entry["entries"] = tuple(tuple(decision.options[i] for i in c) for c in chosen)
        data.append(entry)
    return tuple(data)


def _owner_form(made: Variables, owner: str | None) -> str:
    return made.owners[owner][1].title if owner is not None else ""


def _edge_decisions(space: Module) -> dict[tuple[str, str], dict[str, str]]:
    """For every choice of inputs, the decision of the operation on each of its edges."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for graph in space.graphs:
        for node in graph.nodes:
            if not isinstance(node, Gather):
                continue
            for name, operand in zip(node.names, node.operands, strict=True):
                chosen = graph.by_id[operand]
                if isinstance(chosen, Select):
                    found.setdefault((_form(graph), node.decision), {})[name] = chosen.decision
    return found
