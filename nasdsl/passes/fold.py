"""A sum of weighted sums becomes one weighted sum.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: exact. A node that is
`sum_i m_i (sum_o p_io o(x_i))` becomes `sum_io (m_i p_io) o(x_i)`: the products are
of a few scalars, once a step, instead of a pass over each edge's tensor; so
explicit topology costs what DARTS costs.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Arith, Mix, MixTerm


@attrs.frozen
class Fold:
    """See the module."""

    name: ClassVar[str] = "fold"
    summary: ClassVar[str] = "multiplies edge weights into operation weights, so no edge is formed by itself"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = True

    def __call__(self, module: Module) -> Module:
        return module.map(_fold)


def _fold(graph: Graph) -> Graph:
    nodes: list[AnyNode] = []
    for node in graph.nodes:
        if isinstance(node, Mix) and any(_inner(graph, o) for o in node.operands[node.vectors :]):
            nodes.extend(_flatten(graph, node))
        else:
            nodes.append(node)
    return prune(graph.with_nodes(nodes))


def _inner(graph: Graph, operand: str) -> Mix | None:
    """The weighted sum behind an operand, when nothing else reads it."""
    found = graph.by_id[operand]
    alone = len(graph.readers[operand]) == 1 and operand != graph.result
    return found if isinstance(found, Mix) and alone and found.vectors == 1 else None


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
        source = graph.by_id[inner.operands[0]]
        product = Arith(
            id=f"{inner.id}.scaled",
            operands=(source.id, weight),
            type=source.type,
            form="scale",
            index=term.entry,
            label=inner.label,
            loc=inner.loc,
        )
        scaled.append(product)
        vectors.append(product.id)
        for nested, activation in zip(inner.terms, inner.operands[1:], strict=True):
            operands.append(activation)
            terms.append(MixTerm(len(vectors) - 1, nested.entry, (*term.choices, *nested.choices)))
    # When every edge was folded nothing reads the edge weights by themselves any more.
    used = sorted({t.vector for t in terms})
    vectors = [vectors[i] for i in used]
    terms = [attrs.evolve(t, vector=used.index(t.vector)) for t in terms]
    flat = attrs.evolve(outer, operands=(*vectors, *operands), vectors=len(vectors), terms=tuple(terms))
    return [*scaled, flat]
