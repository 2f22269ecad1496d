"""Topological simplification: candidates of one edge share modules.

Takes Graph[RELAXED], returns Graph[RELAXED]. **Approximating**: it changes what is learned,
never a variable. At a one-hot point the edge is the chosen candidate with the shared weights,
its filters normalised.

TopoNAS (2024). Its text was not available: rules and their definitions are a reconstruction
from the abstract and the authors' figure.

- R3, kernel merging: candidates that are alike but for the size of their filters become one,
  its filter `sum_k b_k pad(K_k / |K_k|)` with `b = p / s`, `s = sum p`; what else they hold is
  tied (R1 for prefixes, R2 for suffixes), and `s` stays outside, because batch norm would
  cancel it.
- R2 and R4, suffix and floating sharing: chains that end alike (at whatever depth) share that
  end: `s * suffix(sum_g (s_g / s) head_g)`. An end that holds a non-linearity is not shared.
- R1 for what has no weights is exact, and pass `share`.

A rewrite is made only if it lowers the modelled cost (multiply-accumulates, and eight for each
number written); rules are applied until none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.homes import Home, homes
from nasdsl.ir.nodes import (
    AnyNode,
    ArchType,
    Arith,
    Blend,
    Merge,
    Mix,
    MixTerm,
    Op,
    State,
    Type,
    Weight,
    WeightType,
)
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.ops.base import pad_of, same_pad
from nasdsl.types import Dim, TensorType

LINEAR = frozenset({"conv", "dwconv", "bn"})
"""What a shared suffix may hold."""
WRITTEN = 8
"""Multiply-accumulates that writing one number costs as much as."""


@attrs.frozen
class Simplify:
    """See the module.

    Attributes:
        normalise: whether filters are normalised before they are blended (kernel normalisation).
        suffixes: whether chains that end alike share their end.
    """

    name: ClassVar[str] = "simplify"
    summary: ClassVar[str] = (
        "candidates of an edge share modules and merge kernels (TopoNAS 2024); approximating"
    )
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = True

    normalise: bool = True
    suffixes: bool = True

    def __call__(self, module: Module) -> Module:
        return module.map(self._graph)

    def _graph(self, graph: Graph) -> Graph:
        found = homes(graph)
        made: dict[str, Rewritten] = {}
        for node in graph.nodes:
            if isinstance(node, Mix):
                rewritten = _Edge(graph, node, found, self).run()
                if rewritten is not None:
                    made[node.id] = rewritten
        if not made:
            return graph
        moved = {n.id for rewritten in made.values() for n in rewritten.nodes} - set(made)
        nodes: list[AnyNode] = []
        for node in graph.nodes:
            if node.id in made:
                nodes.extend(made[node.id].nodes)
            elif node.id not in moved:
                nodes.append(node)
        return prune(graph.with_nodes(nodes))


@attrs.frozen
class Rewritten:
    """An edge after simplification: its nodes, and what was done in words."""

    nodes: tuple[AnyNode, ...]
    rules: tuple[tuple[str, tuple[str, ...]], ...]


@attrs.frozen
class Stone:
    """One module of a chain, standing for one of each of the candidates that were merged.

    `members` are theirs, the representative first in size; `blended` says that the filters
    are blended, otherwise they are tied.
    """

    op: Op
    members: tuple[Op, ...]
    blended: bool = False


@attrs.frozen
class Chain:
    """A candidate, or several merged: `entries` of the edge's distribution, from source to end."""

    entries: tuple[int, ...]
    choices: tuple[tuple[tuple[str, str], ...], ...]
    source: str
    stones: tuple[Stone, ...]


@attrs.frozen
class Bundle:
    """Chains that share an end; one chain with an empty end is a bundle by itself."""

    chains: tuple[Chain, ...]
    end: tuple[Stone, ...] = ()

    @property
    def entries(self) -> tuple[int, ...]:
        return tuple(e for c in self.chains for e in c.entries)


class _Edge:
    """The rewriting of one weighted sum."""

    def __init__(self, graph: Graph, mix: Mix, found: Mapping[str, Home], settings: Simplify) -> None:
        self.graph = graph
        self.mix = mix
        self.homes = found
        self.settings = settings
        self.nodes: list[AnyNode] = []
        self.rules: list[tuple[str, tuple[str, ...]]] = []
        self.number = 0

    def run(self) -> Rewritten | None:
        """The nodes in the place of the mix, or None where nothing is worth it."""
        if self.mix.vectors != 1:
            return None
        chains = [c for i in range(len(self.mix.terms)) if (c := self._chain(i)) is not None]
        if len(chains) < 2:
            return None
        merged = self._merged(chains)
        bundles = self._bundled(merged) if self.settings.suffixes else [Bundle((c,)) for c in merged]
        changed = [b for b in bundles if len(b.entries) > 1]
        if not changed:
            return None
        return self._emit(changed)

    # --- reading -------------------------------------------------------------

    def _chain(self, index: int) -> Chain | None:
        """The modules of a candidate, when it is a plain chain with weights that nothing else reads."""
        operand = self.mix.operands[1 + index]
        stones: list[Stone] = []
        name = operand
        while self.homes[name] == (self.mix.id, operand):
            node = self.graph.by_id[name]
            if not isinstance(node, Op) or PRIMITIVES[node.op].opaque or name == self.graph.result:
                return None
            if len(self.graph.readers[name]) != 1 or not self._simple(node):
                return None
            stones.append(Stone(node, (node,)))
            name = node.operands[0]
        term = self.mix.terms[index]
        weighs = any(isinstance(self.graph.by_id[o], Weight) for s in stones for o in s.op.operands[1:])
        return Chain((term.entry,), (term.choices,), name, tuple(reversed(stones))) if weighs else None

    def _simple(self, node: Op) -> bool:
        operands = [self.graph.by_id[o] for o in node.operands[1:]]
        return all(isinstance(o, (Weight, State)) and len(self.graph.readers[o.id]) == 1 for o in operands)

    # --- rules ---------------------------------------------------------------

    def _signature(self, op: Op) -> object:
        """What candidates that merge have in common: all but the size of a filter that keeps the resolution."""
        values = dict(op.values)
        shapes = [getattr(self.graph.by_id[o].type, "shape", ()) for o in op.operands[1:]]
        if op.op in ("conv", "dwconv") and _centred(values):
            values = {n: v for n, v in values.items() if n not in ("k", "pad")}
            shapes = [s[:2] for s in shapes]
        return op.op, tuple(sorted(values.items())), op.type, tuple(shapes)

    def _exact(self, op: Op) -> object:
        return op.op, op.values, op.type, tuple(self.graph.by_id[o].type for o in op.operands[1:])

    def _merged(self, chains: Sequence[Chain]) -> list[Chain]:
        """R3: chains that differ in the size of filters only, as one."""
        groups: dict[object, list[Chain]] = {}
        for chain in chains:
            groups.setdefault((chain.source, tuple(self._signature(s.op) for s in chain.stones)), []).append(
                chain
            )
        found = []
        for group in groups.values():
            joined = _joined(group) if len(group) > 1 else None
            if joined is not None and self._cost(joined.stones) < sum(self._cost(c.stones) for c in group):
                self.rules.append(("R3 kernel merging", self._options(joined.entries)))
                found.append(joined)
            else:
                found.extend(group)
        return found

    def _bundled(self, chains: Sequence[Chain]) -> list[Bundle]:
        """R2 and R4: chains that end alike share the end, the longest one first."""
        bundles = [Bundle((c,)) for c in chains]
        while True:
            best: tuple[int, int, int] | None = None
            for i, left in enumerate(bundles):
                for j in range(i):
                    length = self._common_end(left, bundles[j])
                    if length and (best is None or length > best[0]) and self._pays(left, bundles[j], length):
                        best = (length, j, i)
            if best is None:
                return bundles
            length, j, i = best
            both = (bundles[j], bundles[i])
            bundles = [b for b in bundles if b not in both] + [self._sharing(both, length)]

    def _common_end(self, left: Bundle, right: Bundle) -> int:
        """Modules at the end that both have, with a weight among them; a bundle keeps its whole end."""
        mine, other = (b.end or b.chains[0].stones for b in (left, right))
        length = 0
        limit = min(len(b.end) if b.end else len(b.chains[0].stones) - 1 for b in (left, right))
        while length < limit:
            a, b = mine[-1 - length], other[-1 - length]
            if a.op.op not in LINEAR or a.blended or b.blended or self._exact(a.op) != self._exact(b.op):
                break
            length += 1
        if any(b.end and length != len(b.end) for b in (left, right)):
            return 0
        weighs = any(s.op.op != "bn" for s in mine[len(mine) - length :])
        return length if weighs else 0

    def _pays(self, left: Bundle, right: Bundle, length: int) -> bool:
        mine = (left.end or left.chains[0].stones)[-length:]
        chains = len(left.chains) + len(right.chains)
        kind = mine[-1].op.type
        written = self._number(kind.elements()) if isinstance(kind, TensorType) else 0
        return self._cost(mine) > chains * WRITTEN * written // 2

    def _sharing(self, both: Sequence[Bundle], length: int) -> Bundle:
        ends = [(b.end or b.chains[0].stones)[-length:] for b in both]
        chains: list[Chain] = []
        for bundle in both:
            if bundle.end:
                chains.extend(bundle.chains)
            else:
                chain = bundle.chains[0]
                chains.append(attrs.evolve(chain, stones=chain.stones[:-length]))
        depths = {len(c.stones) for c in chains}
        joined = Bundle(
            tuple(chains),
            tuple(
                Stone(stones[0].op, tuple(m for s in stones for m in s.members))
                for stones in zip(*ends, strict=True)
            ),
        )
        rule = "R4 floating sharing" if len(depths) > 1 else "R2 suffix sharing"
        self.rules.append((rule, self._options(joined.entries)))
        return joined

    # --- costs ---------------------------------------------------------------

    def _cost(self, stones: Sequence[Stone]) -> int:
        """Modelled cost of one pass: multiply-accumulates, and what is written."""
        total = 0
        for stone in stones:
            source = self.graph.by_id[stone.op.operands[0]].type
            kind = stone.op.type
            if not isinstance(source, TensorType) or not isinstance(kind, TensorType):
                continue
            macs = PRIMITIVES[stone.op.op].macs(source, kind, dict(stone.op.values))
            total += self._number(macs) + WRITTEN * self._number(kind.elements())
        return total

    def _number(self, size: Dim) -> int:
        """A size at a place in the middle of a network: every open size is 16."""
        return int(size.substitute({n: Dim.of(16) for n in size.names}).constant or 0)

    # --- writing -------------------------------------------------------------

    def _emit(self, bundles: Sequence[Bundle]) -> Rewritten:
        distribution = self.mix.operands[0]
        taken = {e for b in bundles for e in b.entries}
        vectors, operands, terms = [distribution], [], []
        for operand, term in zip(self.mix.operands[1:], self.mix.terms, strict=True):
            if term.entry not in taken:
                operands.append(operand)
                terms.append(term)
        for bundle in bundles:
            vectors.append(self._arith("groups", (bundle.entries,)))
            operands.append(self._bundle(bundle))
            terms.append(MixTerm(len(vectors) - 1, 0, bundle.chains[0].choices[0]))
        # Without a kept term nothing reads the distribution itself any more.
        if not any(t.vector == 0 for t in terms):
            vectors = vectors[1:]
            terms = [attrs.evolve(t, vector=t.vector - 1) for t in terms]
        mix = attrs.evolve(self.mix, operands=(*vectors, *operands), vectors=len(vectors), terms=tuple(terms))
        return Rewritten((*self.nodes, mix), tuple(self.rules))

    def _bundle(self, bundle: Bundle) -> str:
        inner = all(c.stones and c.stones[-1].blended for c in bundle.chains)
        over = bundle.entries if inner and len(bundle.chains) > 1 else ()
        heads = [self._walk(c.source, c.stones, c, "", over) for c in bundle.chains]
        if len(heads) == 1:
            return heads[0]
        kind = self.graph.by_id[bundle.chains[0].stones[-1].op.id].type
        joined = self._sum(heads, kind) if inner else self._weighted(bundle, heads, kind)
        self.nodes.append(joined)
        return self._walk(joined.id, bundle.end, bundle.chains[0], "shared")

    def _sum(self, heads: Sequence[str], kind: Type) -> Merge:
        """Heads whose blends hold their shares already."""
        name = self._name("heads")
        return Merge(
            id=name,
            operands=tuple(heads),
            type=kind,
            merge="sum",
            label=f"{self.mix.label}.heads",
            loc=self.mix.loc,
        )

    def _weighted(self, bundle: Bundle, heads: Sequence[str], kind: Type) -> Mix:
        shares = self._arith("shares", tuple(c.entries for c in bundle.chains))
        return Mix(
            id=self._name("heads"),
            operands=(shares, *heads),
            type=kind,
            vectors=1,
            terms=tuple(MixTerm(0, i, c.choices[0]) for i, c in enumerate(bundle.chains)),
            label=f"{self.mix.label}.heads",
            loc=self.mix.loc,
        )

    def _walk(
        self, source: str, stones: Sequence[Stone], chain: Chain, word: str, over: tuple[int, ...] = ()
    ) -> str:
        """Emits modules behind a value; returns the last. The last one's blend takes shares of `over`."""
        options = "_".join(dict.fromkeys(o.removeprefix("%") for o in self._options(chain.entries)))
        label = f"{self.mix.label}.{word or options}"
        for index, stone in enumerate(stones):
            source = self._stone(source, stone, chain, label, over if index == len(stones) - 1 else ())
        return source

    def _stone(self, source: str, stone: Stone, chain: Chain, label: str, over: tuple[int, ...]) -> str:
        weights: list[str] = []
        for position in range(1, len(stone.op.operands)):
            members = [self.graph.by_id[m.operands[position]] for m in stone.members]
            if stone.blended:
                # Filters are blended, and so are their biases, in the same module.
                if position == 1:
                    weights.append(self._blend(stone, chain, over))
                continue
            first = self.graph.by_id[stone.op.operands[position]]
            if not isinstance(first, (Weight, State)):
                raise TypeError(f"%{first.id} is no weight")
            others = [m for m in members if m.id != first.id and isinstance(m, (Weight, State))]
            aliases = tuple(n for m in others for n in (m.name, *m.aliases))
            tied = attrs.evolve(first, aliases=(*first.aliases, *aliases))
            if tied.id not in {n.id for n in self.nodes}:
                self.nodes.append(tied)
            weights.append(tied.id)
        values = {
            **dict(stone.op.values),
            **({"bias": False} if stone.blended and "bias" in dict(stone.op.values) else {}),
        }
        made = attrs.evolve(
            stone.op, operands=(source, *weights), values=tuple(sorted(values.items())), label=label
        )
        self.nodes.append(made)
        return made.id

    def _blend(self, stone: Stone, chain: Chain, over: tuple[int, ...]) -> str:
        self.nodes.extend(self.graph.by_id[o] for m in stone.members for o in m.operands[1:])
        kind = self.graph.by_id[stone.op.operands[1]].type
        how = "none"
        if self.settings.normalise:
            position = [s.op.id for s in chain.stones].index(stone.op.id)
            after = chain.stones[position + 1].op.op if position + 1 < len(chain.stones) else ""
            how = "filter" if after == "bn" else "kernel"
        made = Blend(
            id=self._name("blend"),
            operands=(
                self._arith("shares", tuple((e,) for e in chain.entries), over),
                *(m.operands[1] for m in stone.members),
                *(o for m in stone.members for o in m.operands[2:]),
            ),
            type=kind if isinstance(kind, WeightType) else WeightType(()),
            normalise=how,
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

    def _options(self, entries: Sequence[int]) -> tuple[str, ...]:
        """The names of the options behind entries of the distribution."""
        names = {t.entry: t.choices[-1][1] for t in self.mix.terms}
        return tuple(names[e] for e in entries)


def _centred(values: Mapping[str, Value]) -> bool:
    """Whether the padding is that of `same`, so that filters of several sizes agree on their middle."""
    kernel, dilation = values["k"], values["dilation"]
    if not isinstance(kernel, int) or not isinstance(dilation, int) or kernel % 2 == 0:
        return False
    return pad_of(values) == same_pad(kernel, dilation)


def _joined(group: Sequence[Chain]) -> Chain | None:
    """Candidates of one signature as one chain."""
    stones = []
    for column in zip(*(c.stones for c in group), strict=True):
        members = tuple(m for stone in column for m in stone.members)
        kernels = {dict(m.values).get("k") for m in members}
        blended = members[0].op in ("conv", "dwconv") and len(kernels) > 1
        largest = max(members, key=lambda m: int(str(dict(m.values).get("k", 0)))) if blended else members[0]
        stones.append(Stone(largest, members, blended))
    return Chain(
        tuple(e for c in group for e in c.entries),
        tuple(x for c in group for x in c.choices),
        group[0].source,
        tuple(stones),
    )
