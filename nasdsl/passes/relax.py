"""Discrete decisions become weighted sums.

Takes Graph[SPACE], returns Graph[RELAXED]. Invariant: every decision of the
space has one `Var`; an option that computes nothing has an entry in the
variables and no term in the sum, so no zero is ever computed.

A choice of operation becomes `sum_o softmax(alpha)_o o(x)` (DARTS, section 2.2), or the same with
another activation than the softmax. A choice of inputs becomes

- with `topology="sum"` the sum of all of them (DARTS);
- with `topology="softmax"` their sum weighed by a softmax over the node's edges, which also weighs
  sums of edges where nothing is chosen (PC-DARTS, edge normalisation);
- with `topology="subsets"` their sum weighed by the marginals of a distribution over the allowed
  subsets: `p(c) = softmax(beta / T)`, `m_i = sum of p(c) over the c that hold i` (explicit topology:
  ROME-v1 Eq. 4 and 6, DOTS code; that TopoNAS 2020 does the same is a reconstruction).
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import (
    AnyNode,
    ArchType,
    Dist,
    Gather,
    Marginal,
    Merge,
    Mix,
    MixTerm,
    Op,
    Select,
    Var,
)
from nasdsl.ops import PRIMITIVES


@attrs.frozen
class Relax:
    """See the module.

    Attributes:
        topology: `sum`, `softmax` or `subsets`.
        none: whether an edge that a choice of inputs may leave out gets one more
            entry in its softmax that computes nothing (DARTS).
        activation: how operation variables become weights, one of `ACTIVATIONS`.
        zeros: whether options that compute nothing have an entry; without one they are what is
            left where all other weights are small (the clipped activation).
        sparse: whether candidates that do not run are skipped (one is drawn, or some are pruned).
        bare: whether their weights are added all the same (GDAS on NAS-Bench-201); then options that
            compute nothing have a term, because their weights count too.
        op_init: initial operation variables; see `Var.init`.
        inputs_init: initial topology variables.
    """

    name: ClassVar[str] = "relax"
    summary: ClassVar[str] = "decisions become softmax-weighted sums with variables"
    source: ClassVar[Stage] = Stage.SPACE
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    topology: str = "sum"
    none: bool = False
    activation: str = "softmax"
    zeros: bool = True
    sparse: bool = False
    bare: bool = False
    op_init: str = "normal"
    inputs_init: str = "zeros"

    def __call__(self, module: Module) -> Module:
        return module.map(self._graph, Stage.RELAXED)

    def _graph(self, graph: Graph) -> Graph:
        nodes: list[AnyNode] = []
        for node in graph.nodes:
            if isinstance(node, Select):
                nodes.extend(self._select(graph, node))
            elif isinstance(node, Gather):
                nodes.extend(self._gather(node))
            elif self.topology == "softmax" and isinstance(node, Merge) and _edges_only(graph, node):
                nodes.extend(self._edges(node, node.names, ((),) * len(node.names)))
            else:
                nodes.append(node)
        return prune(graph.with_nodes(nodes))

    def _select(self, graph: Graph, node: Select) -> list[AnyNode]:
        zero = [_is_zero(graph, o) for o in node.operands]
        extra: tuple[str, ...] = ()
        if self.none and _optional(graph, node):
            extra = (none_entry(node.options),)
        if self.zeros or all(zero):
            entries = (*extra, *node.options)
        else:
            kept_options = (o for o, nothing in zip(node.options, zero, strict=True) if not nothing)
            entries = (*extra, *kept_options)
        kind = ArchType(len(entries))
        base = _identifier(node.decision)
        var = Var(
            id=f"{base}.var",
            type=kind,
            decision=node.decision,
            role="op",
            entries=entries,
            init=self.op_init,
            label=node.label,
            loc=node.loc,
        )
        dist = Dist(
            id=f"{base}.dist",
            operands=(var.id,),
            type=kind,
            form=self.activation,
            bare=self.bare,
            label=node.label,
            loc=node.loc,
        )
        kept = [
            (operand, MixTerm(0, entries.index(option), ((node.decision, option),)))
            for option, operand, nothing in zip(node.options, node.operands, zero, strict=True)
            if self.bare or not nothing
        ]
        if not kept:  # every option computes nothing
            kept = [(node.operands[0], MixTerm(0, len(extra), ((node.decision, node.options[0]),)))]
        mix = Mix(
            id=node.id,
            operands=(dist.id, *(o for o, _ in kept)),
            type=node.type,
            vectors=1,
            terms=tuple(t for _, t in kept),
            sparse=self.sparse,
            label=node.label,
            loc=node.loc,
        )
        return [var, dist, mix]

    def _edges(
        self, node: Gather | Merge, names: tuple[str, ...], choices: tuple[tuple[tuple[str, str], ...], ...]
    ) -> list[AnyNode]:
        """A node's edges weighed by a softmax over them."""
        decision = node.decision or f"{node.label}.edges"
        base = f"{_identifier(decision)}.edges"
        kind = ArchType(len(names))
        var = Var(
            id=f"{base}.var",
            type=kind,
            decision=decision,
            role="edges",
            entries=names,
            init="normal",
            label=node.label,
            loc=node.loc,
        )
        dist = Dist(id=f"{base}.dist", operands=(var.id,), type=kind, label=node.label, loc=node.loc)
        mix = Mix(
            id=node.id,
            operands=(dist.id, *node.operands),
            type=node.type,
            vectors=1,
            terms=tuple(MixTerm(0, i, chosen) for i, chosen in enumerate(choices)),
            label=node.label,
            loc=node.loc,
        )
        return [var, dist, mix]

    def _gather(self, node: Gather) -> list[AnyNode]:
        if self.topology == "sum":
            return [
                Merge(
                    id=node.id,
                    operands=node.operands,
                    type=node.type,
                    merge=node.merge,
                    decision=node.decision,
                    names=node.names,
                    label=node.label,
                    loc=node.loc,
                )
            ]
        if self.topology == "softmax":
            return self._edges(node, node.names, tuple(((node.decision, n),) for n in node.names))
        chosen = subsets(len(node.names), node.low, node.high)
        entries = tuple("+".join(node.names[i] for i in c) or "(empty)" for c in chosen)
        rows = tuple("".join("1" if i in c else "0" for i in range(len(node.names))) for c in chosen)
        base = _identifier(node.decision)
        kind, weights = ArchType(len(rows)), ArchType(len(node.names))
        var = Var(
            id=f"{base}.var",
            type=kind,
            decision=node.decision,
            role="inputs",
            entries=entries,
            init=self.inputs_init,
            label=node.label,
            loc=node.loc,
        )
        dist = Dist(
            id=f"{base}.dist", operands=(var.id,), type=kind, temperature=True, label=node.label, loc=node.loc
        )
        marginal = Marginal(
            id=f"{base}.marginal",
            operands=(dist.id,),
            type=weights,
            rows=rows,
            label=node.label,
            loc=node.loc,
        )
        terms = tuple(MixTerm(0, i, ((node.decision, name),)) for i, name in enumerate(node.names))
        mix = Mix(
            id=node.id,
            operands=(marginal.id, *node.operands),
            type=node.type,
            vectors=1,
            terms=terms,
            label=node.label,
            loc=node.loc,
        )
        return [var, dist, marginal, mix]


def subsets(count: int, low: int, high: int) -> tuple[tuple[int, ...], ...]:
    """The allowed subsets of `count` sources, by size, then in lexicographic order."""
    return tuple(c for size in range(low, high + 1) for c in combinations(range(count), size))


def none_entry(options: tuple[str, ...]) -> str:
    """The name of the entry that stands for no connection."""
    return "none" if "none" not in options else "(none)"


def _identifier(decision: str) -> str:
    kept = [c if c.isalnum() or c in "_." else "_" for c in decision.replace("]", "").replace("[", "")]
    return "".join(kept)


def _is_zero(graph: Graph, name: str) -> bool:
    node = graph.by_id[name]
    return isinstance(node, Op) and PRIMITIVES[node.op].zero


def _edges_only(graph: Graph, node: Merge) -> bool:
    """Whether a sum is of several chosen operations, each read by it alone: the node of a cell."""
    chosen = [graph.by_id[o] for o in node.operands]
    several = node.merge == "sum" and len(chosen) > 0 and len(node.names) == len(chosen)
    return several and all(isinstance(c, Select) and graph.readers[c.id] == (node.id,) for c in chosen)


def _optional(graph: Graph, node: Select) -> bool:
    """Whether a choice of inputs can leave this choice out."""
    readers = [graph.by_id[r] for r in graph.readers[node.id]]
    return bool(readers) and all(isinstance(r, Gather) for r in readers)
