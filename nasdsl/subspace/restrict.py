"""A space without what no member of a sub-space takes: what supernets inside a sub-space are made from.

Takes a checked space and, for each decision, the values that members take (`Subspace.support`); returns a
checked space. Invariant: every encoding whose values are in the support is one of the result, and is the same
network there; options and inputs that no member takes are gone from the graphs, the table and its guards, and
with them the decisions that nobody can make. Decisions that sizes depend on keep all their values.

A decision that no member makes, but a mixture of members can, keeps its first value. A graph that is used under
two owners whose decisions differ now is one graph for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import InternalError
from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Use, call_owner
from nasdsl.ir.nodes import AnyNode, Branch, Call, Gather, Select
from nasdsl.ir.verify import verify
from nasdsl.passes.base import Rename
from nasdsl.passes.switch import sizes_of
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Decision, DecisionTable, Event

Support = Mapping[str, Collection[Choice]]


def restricted(checked: CheckedSpace, support: Support) -> CheckedSpace:
    """The space whose decisions take the values of the support; see the module.

    Args:
        support: decision to values; what it does not name, or names without a value, no member makes.
    """
    table = restricted_table(checked.table, support, fixed_decisions(checked))
    module = _Cutter(checked.module, table).run()
    verify(module, "restricted")
    return attrs.evolve(checked, module=module, table=table)


def fixed_decisions(checked: CheckedSpace) -> frozenset[str]:
    """Decisions that keep all their values: sizes, conditions or shared widths depend on them."""
    found = {d.path for d in checked.table.decisions if d.kind == "number"}
    found |= {p for dim in checked.input.dims for table in dim.cases for p in table.decisions}
    for use in checked.module.uses():
        for node in use.graph.nodes:
            found |= {p for dim in sizes_of(node) for table in dim.cases for p in table.decisions}
            if isinstance(node, Branch):
                found |= set(node.condition.decisions)
            elif isinstance(node, Gather) and node.widths:
                found |= _members(use, node)
    return frozenset(found)


def _members(use: Use, node: Gather) -> set[str]:
    """A choice of members that share a width, and the choices of inputs in the same graph: widths meet in them."""
    gathers = (n for n in use.graph.nodes if isinstance(n, Gather))
    return {use.decision(node.decision), *(use.decision(g.decision) for g in gathers)}


def restricted_table(table: DecisionTable, support: Support, fixed: Collection[str] = ()) -> DecisionTable:
    """The decisions that can still be made, with the options that are left.

    Args:
        fixed: decisions that keep all their values.
    """
    kept: list[Decision] = []
    left: set[Event] = set()
    for decision in table.decisions:
        guards = decision.when
        if guards is not None:
            guards = tuple(g for g in guards if all(e in left for e in g))
            if not guards:
                continue
        values: Collection[Choice] = decision.values
        if decision.path not in fixed:
            values = support.get(decision.path, ()) or decision.values[:1]
        narrow = attrs.evolve(_narrowed(decision, values), when=guards)
        left |= {Event(decision.path, option) for option in narrow.options}
        kept.append(narrow)
    return DecisionTable(tuple(kept))


def _narrowed(decision: Decision, values: Collection[Choice]) -> Decision:
    """A decision with the options that some value holds, in their order."""
    if decision.kind == "inputs":
        sizes = {len(v) for v in values}
        options = tuple(o for o in decision.options if any(o in v for v in values))
        return attrs.evolve(decision, options=options, low=min(sizes), high=max(sizes))
    kept = [i for i, option in enumerate(decision.options) if option in values]
    numbers = tuple(decision.numbers[i] for i in kept) if decision.numbers else ()
    return attrs.evolve(decision, options=tuple(decision.options[i] for i in kept), numbers=numbers)


class _Cutter:
    """Makes the graphs of a table, one for each owner whose decisions differ from those of others."""

    def __init__(self, module: Module, table: DecisionTable) -> None:
        self.module = module
        self.table = table.by_path
        self.made: dict[tuple[str, str], Graph] = {}
        self.graphs: list[tuple[int, Graph]] = []
        """With the place of what each was made from."""
        self.forms: dict[str, dict[tuple[object, ...], str]] = {}
        self.places = {g.name: i for i, g in enumerate(module.graphs)}

    def run(self) -> Module:
        self.graph(self.module.network, "")
        ordered = sorted(self.graphs, key=lambda pair: pair[0])
        return attrs.evolve(self.module, graphs=tuple(g for _, g in ordered))

    def graph(self, graph: Graph, owner: str) -> Graph:
        """The graph under the decisions of an owner; equal results share one graph."""
        key = (graph.name, owner)
        if key not in self.made:
            self.made[key] = self._named(self._cut(graph, owner), graph, owner)
        return self.made[key]

    def _named(self, cut: Graph, graph: Graph, owner: str) -> Graph:
        form, mark, variant = graph.name.partition("__")
        # Variants of one form share the class of their variables, so forms are one for each set of decisions.
        base = f"{self._form(form, owner)}{mark}{variant}"
        taken = {g.name: g for _, g in self.graphs}
        name, count = base, 1
        while name in taken and taken[name] != attrs.evolve(cut, name=name):
            count += 1
            name = f"{base}__{count}"
        named = attrs.evolve(cut, name=name)
        if name not in taken:
            self.graphs.append((self.places[graph.name], named))
        return named

    def _form(self, form: str, owner: str) -> str:
        """The name of a form under the decisions of an owner; the first owner's keeps the name it has."""
        decisions = tuple(self._decisions(form, owner))
        known = self.forms.setdefault(form, {})
        if decisions not in known:
            taken = {name.partition("__")[0] for name in self.places}
            taken |= {name for forms in self.forms.values() for name in forms.values()}
            name, count = form, 1
            while known and name in taken:
                count += 1
                name = f"{form}_{count}"
            known[decisions] = name
        return known[decisions]

    def _decisions(self, form: str, owner: str) -> Iterator[object]:
        """What the decisions of a form are under an owner."""
        for graph in self.module.graphs:
            if graph.name.partition("__")[0] == form:
                for node in graph.nodes:
                    if isinstance(node, (Select, Gather)):
                        found = self.table.get(_path(owner, node.decision))
                        yield None if found is None else (found.options, found.low, found.high)

    def _cut(self, graph: Graph, owner: str) -> Graph:
        rename = Rename()
        nodes: list[AnyNode] = []
        for node in graph.nodes:
            decision = (
                self.table.get(_path(owner, node.decision)) if isinstance(node, (Select, Gather)) else None
            )
            if isinstance(node, Select) and decision is None:
                rename.set(node.id, rename(node.operands[0]))  # nobody makes it, so nothing will read it
                continue
            node = attrs.evolve(node, operands=rename.all(node.operands))
            nodes.append(node if decision is None else _chosen(node, decision))
        result = rename(graph.result)
        kept = [n.id for n in nodes if self._made(n, owner)]
        whole = attrs.evolve(
            graph, nodes=tuple(nodes), result=result, auxiliary=graph.auxiliary and rename(graph.auxiliary)
        )
        left = prune(whole, kept)
        for node in left.nodes:
            if isinstance(node, Gather) and not self._made(node, owner):
                raise InternalError(f"restricted: {graph.name} reads %{node.id}, which no member chooses")
        return left.with_nodes(self._call(n, owner) for n in left.nodes)

    def _made(self, node: AnyNode, owner: str) -> bool:
        """Whether a node is a decision that can be made; one keeps its variables although nothing reads it."""
        return isinstance(node, (Select, Gather)) and _path(owner, node.decision) in self.table

    def _call(self, node: AnyNode, owner: str) -> AnyNode:
        if not isinstance(node, Call):
            return node
        target = self.graph(self.module.by_name[node.graph], call_owner(owner, node))
        return attrs.evolve(node, graph=target.name)


def _chosen(node: AnyNode, decision: Decision) -> AnyNode:
    """A choice with the options that are left."""
    if isinstance(node, Select):
        pairs = [p for p in zip(node.options, node.operands, strict=True) if p[0] in decision.options]
        return attrs.evolve(node, options=tuple(o for o, _ in pairs), operands=tuple(o for _, o in pairs))
    if isinstance(node, Gather):
        pairs = [p for p in zip(node.names, node.operands, strict=True) if p[0] in decision.options]
        return attrs.evolve(
            node,
            names=tuple(n for n, _ in pairs),
            operands=tuple(o for _, o in pairs),
            low=decision.low,
            high=decision.high,
        )
    return node


def _path(owner: str, local: str) -> str:
    """As `Use.decision`."""
    if local.startswith("/"):
        return local[1:]
    return f"{owner}.{local}" if owner else local


__all__ = ["fixed_decisions", "restricted", "restricted_table"]
