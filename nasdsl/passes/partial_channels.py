"""Candidates see a part of the channels; the others go round them.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: variables, decisions and terms stay as they
are; a weighted sum of candidates of `x` with C channels becomes the same sum over the first C/K
channels of `x`, with candidates that are K times narrower, joined with the other channels of `x`
(max-pooled where the candidates have stride 2) and shuffled.

PC-DARTS (Xu et al., ICLR 2020, arXiv 1907.05737), section 3.2 and its code; the shuffle is over K
groups, as there. The retrained network has all channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from nasdsl.errors import UserError
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.homes import around, homes
from nasdsl.ir.nodes import AnyNode, Call, Dist, Merge, Mix, Op, Var, Weight, WeightType
from nasdsl.ops import PRIMITIVES, Misfit, Value
from nasdsl.passes.base import Rename
from nasdsl.types import Dim, TensorType


@attrs.frozen
class PartialChannels:
    """See the module.

    Attributes:
        parts: K, the candidates see one of K parts of the channels.
    """

    name: ClassVar[str] = "partial_channels"
    summary: ClassVar[str] = "candidates see a part of the channels, the others go round them (PC-DARTS)"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    parts: int = 4

    def __call__(self, module: Module) -> Module:
        """Raises UserError (NAS504) where channels cannot be divided or go round."""
        sizes: dict[str, list[Mapping[str, int]]] = {}
        for use in module.uses():
            sizes.setdefault(use.graph.name, []).append(use.sizes)
        return module.map(lambda graph: _Narrowing(graph, self.parts, sizes.get(graph.name, [])).run())


class _Narrowing:
    def __init__(self, graph: Graph, parts: int, sizes: list[Mapping[str, int]]) -> None:
        self.graph = graph
        self.parts = parts
        self.sizes = sizes
        self.homes = homes(graph)
        self.rename = Rename()
        self.made: dict[str, AnyNode] = {}

    def run(self) -> Graph:
        mixes = [n for n in self.graph.nodes if isinstance(n, Mix) and self._of_operations(n)]
        inside = {n.id: mix for mix in mixes for n in self._candidates(mix)}
        sources = {mix.id: self._source(mix, inside) for mix in mixes}
        for node in self.graph.nodes:
            if node.id in sources:
                self._join(node, sources[node.id])
            elif node.id in inside:
                mix = inside[node.id]
                self._narrow(node, mix, sources[mix.id])
            else:
                self.made[node.id] = self.rename.node(node)
        return self.graph.with_nodes(self.made.values(), self.rename(self.graph.result))

    def _of_operations(self, mix: Mix) -> bool:
        dist = self.graph.by_id[mix.operands[0]]
        var = self.graph.by_id[dist.operands[0]] if isinstance(dist, Dist) else None
        return isinstance(var, Var) and var.role == "op"

    def _candidates(self, mix: Mix) -> list[AnyNode]:
        """The nodes that only the terms of a sum need and that stand in its options.

        What leads to a choice belongs to it too where a single term reads it; by its place it is outside.
        """
        found: list[AnyNode] = []
        for node in self.graph.nodes:
            alone = any(home[0] == mix.id for home in around(self.homes, node.id))
            if alone and node.label.startswith(f"{mix.label}."):
                if isinstance(node, (Call, Mix)):
                    raise self._unfit(mix, "a candidate is a cell or holds a choice")
                if isinstance(node.type, (TensorType, WeightType)):
                    found.append(node)
        return found

    def _source(self, mix: Mix, inside: Mapping[str, Mix]) -> AnyNode:
        """What all candidates read."""
        mine = [n for n in self.graph.nodes if inside.get(n.id) is mix]
        read = {o for n in mine for o in self.graph.activations(n)}
        read |= set(self.graph.activations(mix))
        outside = [o for o in read if o not in inside]
        source = self.graph.by_id[outside[0]]
        if len(outside) != 1:
            raise self._unfit(mix, "its candidates read different values")
        if not isinstance(source.type, TensorType) or source.type.layout != "image":
            raise self._unfit(mix, "it is no image")
        return source

    def _unfit(self, mix: Mix, why: str) -> UserError:
        place = f" ({mix.loc.file}:{mix.loc.line})" if mix.loc is not None else ""
        return UserError.plain(
            "NAS504",
            f"the channels of {mix.label or mix.id}{place} cannot go round its candidates: {why}",
            help="partial_channels=1 gives candidates all channels",
        )

    def _types(self, mix: Mix, source: AnyNode) -> tuple[TensorType, TensorType]:
        wide, made = source.type, mix.type
        if not isinstance(wide, TensorType) or not isinstance(made, TensorType):
            raise self._unfit(mix, "it is no image")
        return wide, made

    def _head(self, mix: Mix, source: AnyNode) -> str:
        """The channels that candidates see, made once for each sum."""
        name = f"{mix.id}.part"
        if name not in self.made:
            wide, _ = self._types(mix, source)
            for sizes in self.sizes:
                channels = wide.channels.evaluate(sizes)
                if channels % self.parts:
                    raise self._unfit(mix, f"{channels} channels are no multiple of {self.parts}")
            self._slice(name, mix, source, Dim.of(0), wide.channels // self.parts)
        return name

    def _slice(self, name: str, mix: Mix, source: AnyNode, start: Dim, count: Dim) -> None:
        wide, _ = self._types(mix, source)
        self.made[name] = Op(
            id=name,
            operands=(self.rename(source.id),),
            type=TensorType("image", (count, *wide.dims[1:])),
            op="channels",
            values=(("count", count), ("start", start)),
            label=mix.label,
            loc=mix.loc,
        )

    # --- candidates ----------------------------------------------------------

    def _narrow(self, node: AnyNode, mix: Mix, source: AnyNode) -> None:
        if isinstance(node, Op):
            self._narrow_op(node, mix, source)
        elif isinstance(node, Merge):
            self._narrow_merge(node, mix, source)
        elif node.id not in self.made:  # a weight; the operation that reads it gives it its shape
            self.made[node.id] = node

    def _read(self, name: str, mix: Mix, source: AnyNode) -> str:
        return self._head(mix, source) if name == source.id else self.rename(name)

    def _narrow_op(self, node: Op, mix: Mix, source: AnyNode) -> None:
        primitive = PRIMITIVES[node.op]
        if primitive.opaque:
            raise self._unfit(mix, f"nasdsl does not know the channels inside {node.op}")
        first = self._read(node.operands[0], mix, source)
        given = self.made[first].type
        values: dict[str, Value] = {}
        for name, value in node.values:
            parameter = primitive.parameter(name)
            sized = parameter is not None and parameter.kind == "size"
            values[name] = Dim.of(value) // self.parts if sized and isinstance(value, (Dim, int)) else value
        if not isinstance(given, TensorType):
            raise self._unfit(mix, "it is no image")
        try:
            made = primitive.infer(given, values, self._first_use)
        except Misfit as misfit:
            raise self._unfit(mix, misfit.message) from None
        specs = (*primitive.weights(given, values), *primitive.state(given, values))
        for operand, spec in zip(node.operands[1:], specs, strict=True):
            weight = self.graph.by_id[operand]
            state = not isinstance(weight, Weight)
            self.made[operand] = attrs.evolve(weight, type=WeightType(spec.shape, state=state))
        self.made[node.id] = attrs.evolve(
            node, operands=(first, *node.operands[1:]), type=made, values=tuple(sorted(values.items()))
        )

    def _first_use(self, dim: Dim) -> int:
        return dim.evaluate(self.sizes[0] if self.sizes else {})

    def _narrow_merge(self, node: Merge, mix: Mix, source: AnyNode) -> None:
        operands = tuple(self._read(o, mix, source) for o in node.operands)
        kinds = [t for o in operands if isinstance(t := self.made[o].type, TensorType)]
        channels = kinds[0].channels
        if node.merge == "concat":
            channels = sum((k.channels for k in kinds), Dim.of(0))
        kind = TensorType("image", (channels, *kinds[0].dims[1:]))
        self.made[node.id] = attrs.evolve(node, operands=operands, type=kind)

    # --- the sum -------------------------------------------------------------

    def _join(self, node: AnyNode, source: AnyNode) -> None:
        """The sum over narrow candidates, the channels beside it, both joined and shuffled."""
        if not isinstance(node, Mix):
            raise TypeError(f"%{node.id} is no weighted sum")
        wide, made = self._types(node, source)
        head = self._head(node, source)
        narrow = wide.channels // self.parts
        for operand in self.graph.activations(node):
            self._same_channels(node, self.made[self._read(operand, node, source)].type, narrow, made)
        operands = tuple(head if o == source.id else self.rename(o) for o in node.operands)
        kind = TensorType("image", (narrow, *made.dims[1:]))
        self.made[node.id] = attrs.evolve(node, operands=operands, type=kind)
        rest = self._round(node, source)
        joined = Merge(
            id=f"{node.id}.joined",
            operands=(node.id, rest),
            type=made,
            merge="concat",
            label=node.label,
            loc=node.loc,
        )
        shuffled = Op(
            id=f"{node.id}.shuffled",
            operands=(joined.id,),
            type=made,
            op="shuffle",
            values=(("groups", self.parts),),
            label=node.label,
            loc=node.loc,
        )
        self.made.update({n.id: n for n in (joined, shuffled)})
        self.rename.set(node.id, shuffled.id)

    def _same_channels(self, mix: Mix, kind: object, narrow: Dim, made: TensorType) -> None:
        for sizes in self.sizes:
            found = kind.channels.evaluate(sizes) if isinstance(kind, TensorType) else -1
            part = narrow.evaluate(sizes)
            if found != part or made.channels.evaluate(sizes) != self.parts * part:
                raise self._unfit(mix, "a candidate changes their number, or they cannot be divided")

    def _round(self, mix: Mix, source: AnyNode) -> str:
        """The channels that candidates do not see, at the resolution of the sum."""
        wide, made = self._types(mix, source)
        narrow = wide.channels // self.parts
        name = f"{mix.id}.rest"
        self._slice(name, mix, source, narrow, wide.channels - narrow)
        if wide.dims[1:] == made.dims[1:]:
            return name
        values: dict[str, Value] = {"k": 2, "stride": 2, "pad": 0}
        sliced = self.made[name].type
        pooled = PRIMITIVES["max_pool"].infer(sliced, values, self._first_use)  # type: ignore[arg-type]
        for sizes in self.sizes:
            if pooled.evaluate(sizes)[1:] != made.evaluate(sizes)[1:]:
                raise self._unfit(mix, "its stride is neither 1 nor 2, or the resolution is odd")
        self.made[f"{name}.pooled"] = Op(
            id=f"{name}.pooled",
            operands=(name,),
            type=TensorType("image", (pooled.channels, *made.dims[1:])),
            op="max_pool",
            values=tuple(sorted(values.items())),
            label=mix.label,
            loc=mix.loc,
        )
        return f"{name}.pooled"
