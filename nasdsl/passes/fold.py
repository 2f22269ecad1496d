"""A sum of weighted sums becomes one weighted sum.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. A node that is
`sum_i m_i (sum_o p_io o(x_i))` becomes `sum_io (m_i p_io) o(x_i)`: the products are
of a few scalars, once a step, instead of a pass over each edge's tensor; so
explicit topology costs what DARTS costs. A plain sum of weighted sums is one as well.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Arith, Merge, Mix, MixTerm
from nasdsl.passes.log import Log


@attrs.frozen
class Fold:
    """See the module."""

    name: ClassVar[str] = "fold"
    summary: ClassVar[str] = "multiplies edge weights into operation weights, so no edge is formed by itself"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = True
    optimises: ClassVar[bool] = True

    def __call__(self, module: Module) -> Module:
        return self.rewrite(module, Log())

    def rewrite(self, module: Module, log: Log) -> Module:
        """The pass, telling what it did."""
        return module.map(lambda graph: _fold(graph, log))


def _fold(graph: Graph, log: Log) -> Graph:
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if isinstance(node, Mix) and any(_inner(graph, o) for o in node.operands[node.vectors :]):
            flat = _flatten(graph, node)
            _note(log, "edge weights multiplied into operation weights", graph, node, flat)
            nodes.extend(flat)
        elif isinstance(node, Merge) and node.merge == "sum" and all(_inner(graph, o) for o in node.operands):
            joined = _joined(graph, node)
            _note(log, "a sum of weighted sums made one weighted sum", graph, node, [joined])
            nodes.append(joined)
        else:
            nodes.append(node)
    return prune(graph.with_nodes(nodes))


def _note(log: Log, rule: str, graph: Graph, outer: Mix | Merge, made: list[AnyNode]) -> None:
    inner = (i.id for o in graph.activations(outer) if (i := _inner(graph, o)) is not None)
    log.add(rule, graph.name, (outer.id, *inner), (n.id for n in made))


def _inner(graph: Graph, operand: str) -> Mix | None:
    """The weighted sum behind an operand, when nothing else reads it."""
    found = graph.by_id[operand]
    alone = len(graph.readers[operand]) == 1 and operand != graph.result
    return found if isinstance(found, Mix) and alone else None


def _joined(graph: Graph, outer: Merge) -> Mix:
    """A sum of weighted sums as one, the vectors side by side."""
    inner = [m for m in (_inner(graph, o) for o in outer.operands) if m is not None]
    vectors: list[str] = []
    terms: list[MixTerm] = []
    for mix in inner:
        terms += [attrs.evolve(t, vector=len(vectors) + t.vector) for t in mix.terms]
        vectors += mix.operands[: mix.vectors]
    return Mix(
        id=outer.id,
        operands=(*vectors, *(o for m in inner for o in m.operands[m.vectors :])),
        type=outer.type,
        vectors=len(vectors),
        terms=tuple(terms),
        label=outer.label,
        loc=outer.loc,
    )


def _flatten(graph: Graph, outer: Mix) -> list[AnyNode]:
    if outer.vectors != 1:
        return [outer]
    weight = outer.operands[0]
    scaled: list[AnyNode] = []
    vectors = [weight]
    operands: list[str] = []
    terms: list[MixTerm] = []
    for term, operand in zip(outer.terms, outer.operands[1:], strict=True):
        inner = _inner(graph, operand)
        if inner is None:
            operands.append(operand)
            terms.append(term)
            continue
        first = len(vectors)
        for number, vector in enumerate(inner.operands[: inner.vectors]):
            product = Arith(
                id=f"{inner.id}.scaled{number or ''}",
                operands=(vector, weight),
                type=graph.by_id[vector].type,
                form="scale",
                index=term.entry,
                label=inner.label,
                loc=inner.loc,
            )
            scaled.append(product)
            vectors.append(product.id)
        for nested, activation in zip(inner.terms, inner.operands[inner.vectors :], strict=True):
            operands.append(activation)
            terms.append(MixTerm(first + nested.vector, nested.entry, (*term.choices, *nested.choices)))
    # When every edge was folded nothing reads the edge weights by themselves any more.
    used = sorted({t.vector for t in terms})
    vectors = [vectors[i] for i in used]
    terms = [attrs.evolve(t, vector=used.index(t.vector)) for t in terms]
    flat = attrs.evolve(outer, operands=(*vectors, *operands), vectors=len(vectors), terms=tuple(terms))
    return [*scaled, flat]
