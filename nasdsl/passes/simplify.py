"""Topological simplification: candidates of one edge share modules.

Takes Graph[RELAXED], returns Graph[RELAXED]. **Approximating**: it changes what is learned,
never a variable. At a one-hot point the edge is the chosen candidate with the shared weights,
its filters normalised.

TopoNAS (2024); the rules, and what of them is a reconstruction, are in `nasdsl.passes.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import homes
from nasdsl.ir.nodes import (
    AnyNode,
    ArchType,
    Arith,
    Blend,
    Merge,
    Mix,
    MixTerm,
    State,
    Type,
    Weight,
    WeightType,
)
from nasdsl.passes.base import GraphRewrite
from nasdsl.passes.edges import Bundle, Chain, Edge, Stone
from nasdsl.passes.log import Log
from nasdsl.passes.rules import Applied, simplified


@attrs.frozen
class Simplify(GraphRewrite):
    """See the module.

    Attributes:
        kernel_norm: whether filters are normalised before they are blended (kernel normalisation).
        suffix_sharing: whether chains that end alike share their end (R2 and R4).
    """

    name: ClassVar[str] = "simplify"
    summary: ClassVar[str] = "candidates of an edge share modules and merge kernels (TopoNAS 2024)"
    exact: ClassVar[bool] = False

    kernel_norm: bool = True
    suffix_sharing: bool = True

    def graph(self, graph: Graph, log: Log) -> Graph:
        """See the module."""
        found = homes(graph)
        made: dict[str, tuple[AnyNode, ...]] = {}
        for node in graph.nodes:
            if isinstance(node, Mix) and node.vectors == 1:
                edge = Edge(graph, node, found)
                bundles, done = simplified(edge, self.suffix_sharing)
                if done:
                    made[node.id] = _Writer(graph, node, self.kernel_norm).run(bundles)
                    _tell(log, edge, bundles, done, made[node.id])
        if not made:
            return graph
        moved = {n.id for nodes in made.values() for n in nodes} - set(made)
        nodes: list[AnyNode] = []
        for node in graph.nodes:
            if node.id in made:
                nodes.extend(made[node.id])
            elif node.id not in moved:
                nodes.append(node)
        return prune(graph.with_nodes(nodes))


def _tell(
    log: Log, edge: Edge, bundles: Sequence[Bundle], done: Sequence[Applied], made: Sequence[AnyNode]
) -> None:
    """One record an edge: its candidates that changed before and after, and each rule that was applied."""
    stones = [s for b in _changed(bundles) for c in b.chains for s in (*c.prefix, *c.stones)]
    stones += [s for b in _changed(bundles) for s in b.end]
    operations = dict.fromkeys(m for s in stones for m in s.members)
    weights = dict.fromkeys(o for op in operations for o in op.operands[1:])
    steps = [f"{a.rule}: {', '.join(edge.options(a.entries))}" for a in done]
    rule = " and ".join(dict.fromkeys(a.rule for a in done))
    gone = (*(op.id for op in operations), *weights, edge.mix.id)
    log.add(rule, edge.graph.name, gone, (n.id for n in made), steps)


def _changed(bundles: Sequence[Bundle]) -> list[Bundle]:
    return [b for b in bundles if len(b.entries) > 1 or b.chains[0].prefix]


class _Writer:
    """The nodes in the place of one weighted sum."""

    def __init__(self, graph: Graph, mix: Mix, normalise: bool) -> None:
        self.graph = graph
        self.mix = mix
        self.normalise = normalise
        self.nodes: list[AnyNode] = []
        self.written: dict[tuple[str, Stone], str] = {}
        self.number = 0

    def run(self, bundles: Sequence[Bundle]) -> tuple[AnyNode, ...]:
        """The sum last; a candidate that no rule touched stays as it is."""
        changed = _changed(bundles)
        taken = {e for b in changed for e in b.entries}
        vectors, operands, terms = [self.mix.operands[0]], [], []
        for operand, term in zip(self.mix.operands[1:], self.mix.terms, strict=True):
            if term.entry not in taken:
                operands.append(operand)
                terms.append(term)
        for bundle in changed:
            operands.append(self._bundle(bundle))
            choices = bundle.chains[0].choices[0]
            if len(bundle.entries) == 1:
                terms.append(MixTerm(0, bundle.entries[0], choices))
            else:
                vectors.append(self._arith("groups", (bundle.entries,)))
                terms.append(MixTerm(len(vectors) - 1, 0, choices))
        # Without a kept term nothing reads the distribution itself any more.
        if not any(t.vector == 0 for t in terms):
            vectors = vectors[1:]
            terms = [attrs.evolve(t, vector=t.vector - 1) for t in terms]
        mix = attrs.evolve(self.mix, operands=(*vectors, *operands), vectors=len(vectors), terms=tuple(terms))
        return (*self.nodes, mix)

    def _bundle(self, bundle: Bundle) -> str:
        """Heads, their sum, the shared end. Blends that end a head hold its share; else the sum weighs."""
        inner = all(c.stones and c.stones[-1].blended for c in bundle.chains)
        over = bundle.entries if inner and len(bundle.chains) > 1 else ()
        heads = [self._chain(c, over) for c in bundle.chains]
        if len(heads) == 1:
            return heads[0]
        kind = self.graph.by_id[(*bundle.chains[0].prefix, *bundle.chains[0].stones)[-1].op.id].type
        made = self._sum(heads, kind) if inner else self._weighted(bundle, heads, kind)
        self.nodes.append(made)
        last = made.id
        for stone in bundle.end:
            last = self._stone(last, stone, f"{self.mix.label}.shared")
        return last

    def _sum(self, heads: Sequence[str], kind: Type) -> Merge:
        return Merge(
            id=self._name("heads"),
            operands=tuple(heads),
            type=kind,
            merge="sum",
            label=f"{self.mix.label}.heads",
            loc=self.mix.loc,
        )

    def _weighted(self, bundle: Bundle, heads: Sequence[str], kind: Type) -> Mix:
        return Mix(
            id=self._name("heads"),
            operands=(self._arith("shares", tuple(c.entries for c in bundle.chains)), *heads),
            type=kind,
            vectors=1,
            terms=tuple(MixTerm(0, i, c.choices[0]) for i, c in enumerate(bundle.chains)),
            label=f"{self.mix.label}.heads",
            loc=self.mix.loc,
        )

    def _chain(self, chain: Chain, over: tuple[int, ...]) -> str:
        """Modules behind a chain's source; the last one's blend takes shares of the entries `over`."""
        last = chain.source
        for stone in chain.prefix:
            if (last, stone) not in self.written:
                self.written[last, stone] = self._stone(last, stone, f"{self.mix.label}.prefix")
            last = self.written[last, stone]
        options = "_".join(dict.fromkeys(c[-1][1].removeprefix("%") for c in chain.choices))
        for index, stone in enumerate(chain.stones):
            blend = ""
            if stone.blended:
                after = chain.stones[index + 1].op.op if index + 1 < len(chain.stones) else ""
                shares = over if index + 1 == len(chain.stones) else ()
                blend = self._blend(stone, chain, shares, "filter" if after == "bn" else "kernel")
            last = self._stone(last, stone, f"{self.mix.label}.{options}", blend)
        return last

    def _stone(self, source: str, stone: Stone, label: str, blend: str = "") -> str:
        """One module behind a value: with blended filters, or with its members' weights tied."""
        values = dict(stone.op.values)
        if stone.blended:
            weights = [blend]
            values["bias"] = False  # blended biases come with the filters
        else:
            positions = range(1, len(stone.op.operands))
            weights = [self._tied([m.operands[p] for m in stone.members]) for p in positions]
        made = attrs.evolve(
            stone.op, operands=(source, *weights), values=tuple(sorted(values.items())), label=label
        )
        self.nodes.append(made)
        return made.id

    def _tied(self, names: Sequence[str]) -> str:
        """The first of weights or states, standing for all."""
        first, *others = (self.graph.by_id[n] for n in names)
        if not isinstance(first, (Weight, State)):
            raise TypeError(f"%{first.id} is no weight")
        aliases = [a for m in others if isinstance(m, (Weight, State)) for a in (m.name, *m.aliases)]
        self.nodes.append(attrs.evolve(first, aliases=(*first.aliases, *aliases)))
        return first.id

    def _blend(self, stone: Stone, chain: Chain, over: tuple[int, ...], how: str) -> str:
        self.nodes.extend(self.graph.by_id[o] for m in stone.members for o in m.operands[1:])
        kind = self.graph.by_id[stone.op.operands[1]].type
        made = Blend(
            id=self._name("blend"),
            operands=(
                self._arith("shares", tuple((e,) for e in chain.entries), over),
                *(m.operands[1] for m in stone.members),
                *(o for m in stone.members for o in m.operands[2:]),
            ),
            type=kind if isinstance(kind, WeightType) else WeightType(()),
            normalise=how if self.normalise else "none",
            loc=stone.op.loc,
        )
        self.nodes.append(made)
        return made.id

    def _arith(self, form: str, groups: tuple[tuple[int, ...], ...], over: tuple[int, ...] = ()) -> str:
        for node in self.nodes:
            if isinstance(node, Arith) and (node.form, node.groups, node.over) == (form, groups, over):
                return node.id
        made = Arith(
            id=self._name(form),
            operands=(self.mix.operands[0],),
            type=ArchType(len(groups)),
            form=form,
            groups=groups,
            over=over,
            label=self.mix.label,
            loc=self.mix.loc,
        )
        self.nodes.append(made)
        return made.id

    def _name(self, word: str) -> str:
        self.number += 1
        return f"{self.mix.id}.{word}{self.number}"
