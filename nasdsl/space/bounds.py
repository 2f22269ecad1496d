"""Bounds on the cost of any architecture, without looking at architectures.

Takes a module at stage SPACE, returns a lower and an upper bound. Invariant:
every architecture's cost lies between them; they are not claimed to be reached,
because decisions that are shared between uses are treated as if they were not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nasdsl.cases import Cases
from nasdsl.ir.cost import node_costs
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.homes import ALWAYS, Home, homes, required
from nasdsl.ir.nodes import AnyNode, Branch, Call, Gather, Select
from nasdsl.types import Integer

Bounds = tuple[int, int]


NodeBounds = Callable[[Graph, AnyNode, Mapping[str, Integer]], Bounds]
"""The least and the most that one node adds."""


def cost_bounds(module: Module, measure: str | NodeBounds) -> Bounds:
    """Lower and upper bound of `measure` (`params`, `macs`, or what each node adds) over all architectures."""
    return _Bounder(module, measure).graph(module.network, {})


class _Bounder:
    def __init__(self, module: Module, measure: str | NodeBounds) -> None:
        self.module = module
        self.measure = measure
        self.known: dict[tuple[str, tuple[tuple[str, Integer], ...]], Bounds] = {}
        self.required: dict[str, dict[str, int]] = {}

    def graph(self, graph: Graph, sizes: Mapping[str, Integer]) -> Bounds:
        """Cost of everything that is always there, plus the bounds of each choice."""
        key = (graph.name, tuple(sorted(sizes.items())))
        if key not in self.known:
            members: dict[Home, list[str]] = {}
            for node, home in homes(graph).items():
                members.setdefault(home, []).append(node)
            if graph.name not in self.required:
                self.required[graph.name] = required(graph)
            self.known[key] = self._all(graph, ALWAYS, members, sizes)
        return self.known[key]

    def _all(
        self, graph: Graph, home: Home, members: Mapping[Home, list[str]], sizes: Mapping[str, Integer]
    ) -> Bounds:
        needed = self.required[graph.name][home[1] or graph.result]
        costs = [(n, self._node(graph, n, members, sizes)) for n in members.get(home, [])]
        low = sum(c[0] for n, c in costs if needed >> graph.position[n] & 1)
        return low, sum(c[1] for _, c in costs)

    def _node(
        self, graph: Graph, node_id: str, members: Mapping[Home, list[str]], sizes: Mapping[str, Integer]
    ) -> Bounds:
        node = graph.by_id[node_id]
        if isinstance(node, Call):
            inner = {n: d.value(sizes) for n, d in node.sizes}
            return self.graph(self.module.by_name[node.graph], inner)
        if any(w in str(node.type) for w in self.open(graph)):
            return 0, 0  # a width that members share: not bounded here
        if isinstance(self.measure, str):
            value = getattr(node_costs(graph, node, sizes), self.measure)
            table = value.table if isinstance(value, Cases) else (value,)
            own = int(min(table)), int(max(table))
        else:
            own = self.measure(graph, node, sizes)
        if not isinstance(node, (Select, Branch, Gather)):
            return own
        parts = [self._all(graph, (node_id, operand), members, sizes) for operand in node.operands]
        lows, highs = sorted(p[0] for p in parts), sorted((p[1] for p in parts), reverse=True)
        if isinstance(node, (Select, Branch)):
            return own[0] + lows[0], own[1] + highs[0]
        return own[0] + sum(lows[: node.low]), own[1] + sum(highs[: node.high])

    @staticmethod
    def open(graph: Graph) -> tuple[str, ...]:
        return tuple(w for n in graph.nodes if isinstance(n, Gather) for w in n.widths)
