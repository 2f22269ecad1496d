"""What nodes cost in a whole network.

Takes a module, returns figures of nodes, added up over every use of their graph. Invariant: the
figures of all nodes add up to those of the network; parameters and multiply-accumulates are those
of the cost rules (`nasdsl.ir.cost`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Union

import attrs

from nasdsl.ir.cost import node_count
from nasdsl.ir.graph import Graph, Module, Use
from nasdsl.ir.nodes import Merge, Mix, Op, Weight
from nasdsl.ops import PRIMITIVES

VIEWS = frozenset({"part", "crop", "flatten", "as_image", "tokens"})
"""Operations that only look at what they read in another way."""
FP32 = 4

Costly = Union[Weight, Op, Merge, Mix]
Sizes = list[tuple[Mapping[str, int], int]]
"""Sizes that a graph is used with, and how often."""


@attrs.frozen
class Figures:
    """Sums over nodes.

    Attributes:
        modules: operations, but for identities, zeros and views.
        params: learnable numbers.
        macs: multiply-accumulates of one example.
        operators: modules, merges and weighted sums.
        bytes: activations that operators write, one example, fp32.
    """

    modules: int = 0
    params: int = 0
    macs: int = 0
    operators: int = 0
    bytes: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures.total((self, other))

    @staticmethod
    def total(parts: Iterable[Figures]) -> Figures:
        rows = [NOTHING._numbers(), *(f._numbers() for f in parts)]
        return Figures(*map(sum, zip(*rows, strict=True)))

    def _numbers(self) -> tuple[int, ...]:
        return self.modules, self.params, self.macs, self.operators, self.bytes

    @staticmethod
    def names() -> tuple[str, ...]:
        return "modules", "params", "MACs", "operators", "bytes"

    def texts(self) -> tuple[str, ...]:
        return tuple(f"{number:,}" for number in self._numbers())

    def change(self, after: Figures) -> tuple[str, ...]:
        """`before -> after` of each, once where they are the same."""
        pairs = zip(self.texts(), after.texts(), strict=True)
        return tuple(a if a == b else f"{a} -> {b}" for a, b in pairs)


NOTHING = Figures()
Known = dict[object, dict[object, Figures]]
"""Figures of nodes that are alike, by graph and its uses: a cell has a thousand nodes of a few dozen sorts."""


class Ledger:
    """The figures of a module's nodes; ledgers of one network share what is `known`."""

    def __init__(self, module: Module, known: Known) -> None:
        self.module = module
        self.uses: dict[str, list[Use]] = {g.name: [] for g in module.graphs}
        for use in module.uses():
            self.uses[use.graph.name].append(use)
        self._known = known
        self._nodes = {g.name: self._graph(g) for g in module.graphs}

    def node(self, graph: str, name: str) -> Figures:
        """A node of a graph, in all its uses; nothing if it is not there."""
        return self._nodes[graph].get(name, NOTHING)

    def of(self, graph: str, names: Iterable[str]) -> Figures:
        """Several nodes."""
        return Figures.total(self.node(graph, name) for name in names)

    @cached_property
    def total(self) -> Figures:
        """The whole network."""
        return Figures.total(f for nodes in self._nodes.values() for f in nodes.values())

    def _graph(self, graph: Graph) -> dict[str, Figures]:
        """The nodes of a graph that cost something."""
        inside, sizes = _inside(graph), _distinct(self.uses[graph.name])
        key = (graph.name, tuple((tuple(each.items()), times) for each, times in sizes))
        known = self._known.setdefault(key, {})
        found = {}
        for node in graph.nodes:
            if isinstance(node, (Weight, Op, Merge, Mix)):
                sort = _sort(graph, node, node.id in inside)
                figures = known.get(sort)
                if figures is None:
                    figures = known[sort] = _count(graph, node, node.id in inside, sizes)
                found[node.id] = figures
        return found


def _sort(graph: Graph, node: Costly, inside: bool) -> tuple[object, ...]:
    """What nodes that cost alike have in common."""
    what: object = None
    if isinstance(node, Op):
        what = node.op, node.values, graph.by_id[node.operands[0]].type
    elif isinstance(node, Mix):
        what = bool(node.inside)
    elif isinstance(node, Merge):
        what = len(node.operands) > 1
    return node.kind, what, node.type, inside


def _inside(graph: Graph) -> set[str]:
    """Terms that their weighted sum computes without forming them."""
    mixes = [n for n in graph.nodes if isinstance(n, Mix)]
    return {m.operands[m.vectors + i] for m in mixes for i in m.inside}


def _distinct(uses: Iterable[Use]) -> Sizes:
    """The sizes that a graph is used with, and how often."""
    found: dict[tuple[tuple[str, int], ...], int] = {}
    for use in uses:
        key = tuple(use.sizes.items())
        found[key] = found.get(key, 0) + 1
    return [(dict(key), times) for key, times in found.items()]


def _count(graph: Graph, node: Costly, inside: bool, sizes: Sizes) -> Figures:
    """A node, in all uses of its graph."""
    acts = _computes(node)
    joint = isinstance(node, Mix) and bool(node.inside)
    module = int((isinstance(node, Op) and acts and not inside) or joint)
    formed = acts and not inside
    total = NOTHING
    for each, times in sizes:
        count = node_count(graph, node, each)
        written = count.activations * FP32 if formed else 0
        numbers = (module, count.params, count.macs, int(formed), written)
        total = total + Figures(*(times * n for n in numbers))
    return total


def _computes(node: Costly) -> bool:
    if not isinstance(node, Op):
        return isinstance(node, Mix) or (isinstance(node, Merge) and len(node.operands) > 1)
    primitive = PRIMITIVES[node.op]
    return not (primitive.identity or primitive.zero or node.op in VIEWS)
