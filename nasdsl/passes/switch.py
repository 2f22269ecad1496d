"""Decisions stay open until a path is set, at run time.

Takes Graph[SPACE], returns Graph[RELAXED]. Invariant: no node changes: a choice, a condition and a
gathering are what they were, read now as "what the path of this step says"; sizes that depend on
decisions stand in the graph of one use, never behind a symbolic size of a shared one.

A supernet of single paths (SPOS, section 3; Cream, section 3.1; once-for-all, section 3) has no
architecture variables: `specialise` takes a path out of it exactly as it takes one out of a space.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Call, Op
from nasdsl.passes.specialise import with_sizes
from nasdsl.types import Dim


@attrs.frozen
class Switch:
    """See the module."""

    name: ClassVar[str] = "switch"
    summary: ClassVar[str] = "decisions are settled by the path of a step, at run time"
    source: ClassVar[Stage] = Stage.SPACE
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    def __call__(self, module: Module) -> Module:
        return _Settler(module).run()


class _Settler:
    """Copies every graph whose sizes depend on decisions for each of its uses, sizes put in."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.made: dict[tuple[str, tuple[tuple[str, Dim], ...]], str] = {}
        self.order: list[Graph] = []

    def run(self) -> Module:
        root = self._graph(self.module.network)
        return Module(Stage.RELAXED, (root, *self.order), self.module.root)

    def _graph(self, graph: Graph) -> Graph:
        return graph.with_nodes(self._node(n) for n in graph.nodes)

    def _node(self, node: AnyNode) -> AnyNode:
        if not isinstance(node, Call):
            return node
        target = self.module.by_name[node.graph]
        sizes = node.sizes if any(d.cases for _, d in node.sizes) or self._elastic(target) else ()
        return attrs.evolve(node, graph=self._copy(target, sizes), sizes=() if sizes else node.sizes)

    def _copy(self, target: Graph, sizes: tuple[tuple[str, Dim], ...]) -> str:
        """The name of a graph with these sizes put in; without any, of the graph as it is."""
        key = (target.name, sizes)
        if key not in self.made:
            count = sum(1 for name, _ in self.made if name == target.name)
            name = f"{target.name}__at{count + 1}" if count else target.name
            self.made[key] = name
            settled = attrs.evolve(with_sizes(target, dict(sizes)), sizes=()) if sizes else target
            self.order.append(attrs.evolve(self._graph(settled), name=name))
        return self.made[key]

    def _elastic(self, graph: Graph) -> bool:
        """Whether a size in a graph, or in what it calls, depends on a decision."""
        return any(
            any(d.cases for d in sizes_of(n))
            or (isinstance(n, Call) and self._elastic(self.module.by_name[n.graph]))
            for n in graph.nodes
        )


def sizes_of(node: AnyNode) -> tuple[Dim, ...]:
    """Every size that a node says: of its type, its parameters, what it calls with."""
    dims = (*getattr(node.type, "dims", ()), *getattr(node.type, "shape", ()))
    if isinstance(node, Op):
        dims += tuple(v for _, v in node.values if isinstance(v, Dim))
    elif isinstance(node, Call):
        dims += tuple(d for _, d in node.sizes)
    return dims
