"""The candidates of one weighted sum, as chains of modules.

Takes Graph[RELAXED] and a mix, returns chains. Invariant: nothing here changes a graph; a chain's
modules are read by nothing else, so a rewrite of it is seen by this sum alone.

What `simplify` rewrites is said in these terms: a `Stone` is one module, standing for one of each
candidate that was merged; a `Chain` is a candidate, or several merged; a `Bundle` is chains that
share an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs

from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import Home
from nasdsl.ir.nodes import Mix, Op, State, Weight
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.ops.base import pad_of, same_pad
from nasdsl.types import Dim, TensorType

WRITTEN = 8
"""Multiply-accumulates that writing one number costs as much as."""
PLACE = 16
"""What every open size is taken for: a place in the middle of a network."""


@attrs.frozen
class Stone:
    """One module of a chain.

    Attributes:
        op: the operation that stays; the largest of those that were merged.
        members: one of each candidate it stands for.
        blended: whether the filters of the members are blended; otherwise they are tied.
    """

    op: Op
    members: tuple[Op, ...]
    blended: bool = False


@attrs.frozen
class Chain:
    """A candidate, or several merged.

    Attributes:
        entries: of the sum's distribution.
        choices: decision and option of each entry.
        source: the value it reads.
        prefix: modules that it shares with other chains, each computed once.
        stones: its own modules behind those, first to last.
    """

    entries: tuple[int, ...]
    choices: tuple[tuple[tuple[str, str], ...], ...]
    source: str
    stones: tuple[Stone, ...]
    prefix: tuple[Stone, ...] = ()


@attrs.frozen
class Bundle:
    """Chains that share an end; one chain with an empty end is a bundle by itself."""

    chains: tuple[Chain, ...]
    end: tuple[Stone, ...] = ()

    @property
    def entries(self) -> tuple[int, ...]:
        return tuple(e for c in self.chains for e in c.entries)


@attrs.frozen
class Edge:
    """One weighted sum of a graph; `homes` are the graph's own (`nasdsl.ir.homes`)."""

    graph: Graph
    mix: Mix
    homes: Mapping[str, Home]

    def chains(self) -> list[Chain]:
        """The candidates that are plain chains with weights of their own."""
        return [c for i in range(len(self.mix.terms)) if (c := self._chain(i)) is not None]

    def _chain(self, index: int) -> Chain | None:
        operand = self.mix.operands[self.mix.vectors + index]
        stones: list[Stone] = []
        name = operand
        while self.homes[name] == (self.mix.id, operand):
            node = self.graph.by_id[name]
            if not isinstance(node, Op) or PRIMITIVES[node.op].opaque or name == self.graph.result:
                return None
            if len(self.graph.readers[name]) != 1 or not self._plain(node):
                return None
            stones.append(Stone(node, (node,)))
            name = node.operands[0]
        term = self.mix.terms[index]
        found = tuple(reversed(stones))
        return Chain((term.entry,), (term.choices,), name, found) if self.weighs(found) else None

    def _plain(self, node: Op) -> bool:
        operands = [self.graph.by_id[o] for o in node.operands[1:]]
        return all(isinstance(o, (Weight, State)) and len(self.graph.readers[o.id]) == 1 for o in operands)

    def weighs(self, stones: Sequence[Stone]) -> bool:
        """Whether there is a weight among modules."""
        return any(isinstance(self.graph.by_id[o], Weight) for s in stones for o in s.op.operands[1:])

    def options(self, entries: Sequence[int]) -> tuple[str, ...]:
        """The names of the options behind entries of the distribution."""
        names = {t.entry: t.choices[-1][1] for t in self.mix.terms}
        return tuple(names[e] for e in entries)

    # --- what is alike ---------------------------------------------------------

    def exact(self, stone: Stone) -> object:
        """What modules that can be tied have in common: everything but their weights."""
        op = stone.op
        return op.op, op.values, op.type, tuple(self.graph.by_id[o].type for o in op.operands[1:])

    def signature(self, stone: Stone) -> object:
        """What modules that can be merged have in common: filters may differ in size around one middle."""
        op, values = stone.op, dict(stone.op.values)
        shapes = [getattr(self.graph.by_id[o].type, "shape", ()) for o in op.operands[1:]]
        if op.op in ("conv", "dwconv") and _centred(values):
            values = {n: v for n, v in values.items() if n not in ("k", "pad")}
            shapes = [s[:2] for s in shapes]
        return op.op, tuple(sorted(values.items())), op.type, tuple(shapes)

    # --- costs -----------------------------------------------------------------

    def cost(self, stones: Sequence[Stone]) -> int:
        """Modelled cost of one pass through modules: multiply-accumulates, and what is written."""
        total = 0
        for stone in stones:
            source, kind = self.graph.by_id[stone.op.operands[0]].type, stone.op.type
            if isinstance(source, TensorType) and isinstance(kind, TensorType):
                total += _cost(stone.op.op, stone.op.values, source, kind)
        return total

    def adding(self, stone: Stone, terms: int) -> int:
        """Modelled cost of a weighted sum of `terms` values like a module's result."""
        kind = stone.op.type
        return terms * WRITTEN * _number(kind.elements) // 2 if isinstance(kind, TensorType) else 0


@lru_cache(maxsize=1024)
def _cost(name: str, values: tuple[tuple[str, Value], ...], source: TensorType, kind: TensorType) -> int:
    """The same for one operation; a space has few kinds of them and many of each."""
    return _number(PRIMITIVES[name].macs(source, kind, dict(values))) + WRITTEN * _number(kind.elements)


def _number(size: Dim) -> int:
    return int(size.substitute({n: Dim.of(PLACE) for n in size.names}).constant or 0)


def _centred(values: Mapping[str, Value]) -> bool:
    """Whether the padding is that of `same`, so that filters of several sizes agree on their middle."""
    kernel, dilation = values["k"], values["dilation"]
    if not isinstance(kernel, int) or not isinstance(dilation, int) or kernel % 2 == 0:
        return False
    return pad_of(values) == same_pad(kernel, dilation)
