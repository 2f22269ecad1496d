"""Limits on live edges: how many choices of inputs meet them, and uniform draws of those.

Takes the graph of the one cell that chooses inputs, returns numbers and choices. Invariant:
exact; an edge counts when the node it leads to is live, that is, when the result of
the cell depends on it.

Nodes are settled from the last to the first: what is chosen there settles which earlier nodes
are live, so the set of live nodes is all that matters of what has been settled.
"""

from __future__ import annotations

import random
from functools import lru_cache

from nasdsl.cases import Choice
from nasdsl.ir.graph import Graph, Module, call_owner
from nasdsl.ir.nodes import Branch, Call, Gather, Select
from nasdsl.space.decisions import DecisionTable
from nasdsl.space.presence import NotAdditiveError

Live = frozenset[str]


class LiveEdges:
    """The choices of inputs of one cell, by their number of live edges."""

    def __init__(self, module: Module, table: DecisionTable, least: int, most: int) -> None:
        graph, self.owner = _cell(module)
        self.least, self.most = least, most
        self.gathers = [n for n in graph.nodes if isinstance(n, Gather)]
        prefix = f"{self.owner}." if self.owner else ""
        self.decisions = [table.by_path[prefix + g.decision] for g in self.gathers]
        mine = {d.path for d in self.decisions}
        for decision in table.decisions:
            waits = {e.decision for guard in decision.when or () for e in guard}
            if (decision.kind == "inputs" and decision.path not in mine) or waits & mine:
                raise NotAdditiveError(f"`{decision.path}` and the number of live edges depend on each other")
        names = {g.id for g in self.gathers}
        self._upstream = {o: _upstream(graph, o, names) for g in self.gathers for o in g.operands}
        self._start = _upstream(graph, graph.result, names)
        self._count = lru_cache(maxsize=None)(self._ways)

    @property
    def paths(self) -> frozenset[str]:
        """The decisions that this settles."""
        return frozenset(d.path for d in self.decisions)

    def count(self) -> int:
        """The number of choices of inputs within the limit."""
        return self._count(len(self.gathers) - 1, self._start, self.most)

    def draw(self, rng: random.Random) -> dict[str, Choice]:
        """One of them, each with the same probability."""
        live, left = self._start, self.most
        choices: dict[str, Choice] = {}
        for index in range(len(self.gathers) - 1, -1, -1):
            decision = self.decisions[index]
            ticket = rng.randrange(self._count(index, live, left))
            for value in decision.values:
                after = self._after(index, live, left, value)
                ways = self._count(index - 1, *after) if after is not None else 0
                if ticket < ways and after is not None:
                    choices[decision.path] = value
                    live, left = after
                    break
                ticket -= ways
        return choices

    def _ways(self, index: int, live: Live, left: int) -> int:
        if index < 0:
            return int(self.most - left >= self.least)
        found = (self._after(index, live, left, v) for v in self.decisions[index].values)
        return sum(self._count(index - 1, *after) for after in found if after is not None)

    def _after(self, index: int, live: Live, left: int, value: Choice) -> tuple[Live, int] | None:
        """What is live and how many edges are left once a node has chosen; None beyond the limit."""
        gather = self.gathers[index]
        if gather.id not in live:
            return live, left
        if len(value) > left:
            return None
        read = [o for n, o in zip(gather.names, gather.operands, strict=True) if n in value]
        return live.union(*(self._upstream[o] for o in read)) - {gather.id}, left - len(value)


def _cell(module: Module) -> tuple[Graph, str]:
    """The one graph that chooses inputs, and the owner of its decisions."""
    owners = {}
    for use in module.uses():
        if any(isinstance(n, Gather) for n in use.graph.nodes):
            owners[use.owner] = use.graph
            inner = [n for n in use.graph.nodes if isinstance(n, Call)]
            if any(isinstance(n, Gather) for c in inner for n in module.by_name[c.graph].nodes):
                raise NotAdditiveError(f"cells inside `{call_owner('', inner[0])}` choose inputs too")
    if len(owners) != 1:
        raise NotAdditiveError("more than one cell chooses inputs")
    owner, graph = next(iter(owners.items()))
    return graph, owner


def _upstream(graph: Graph, name: str, gathers: set[str]) -> Live:
    """The nearest nodes with chosen inputs that a value depends on."""
    found, stack, seen = set(), [name], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in gathers:
            found.add(current)
            continue
        node = graph.by_id[current]
        if (
            isinstance(node, (Select, Branch))
            and len({_upstream(graph, o, gathers) for o in node.operands}) > 1
        ):
            raise NotAdditiveError("what is live depends on other choices too")
        stack.extend(node.operands)
    return frozenset(found)
