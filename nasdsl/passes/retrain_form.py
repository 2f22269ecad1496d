"""What retraining adds to a network: drop-path on its edges and an auxiliary head.

Takes Graph[CONCRETE], returns Graph[CONCRETE]. Invariant: in evaluation mode the
network computes what it computed before; both additions act in training only.

Source: quark0/darts `model.py`. Drop-path acts on every edge whose operation is
not the identity; the auxiliary head reads the output of the last step that lowers
the resolution, and needs 8 pixels there (a 5x5 pooling, then a 2x2 convolution).
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode, Merge, Op, State, Type, Weight, WeightType
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.types import Dim, TensorType


@attrs.frozen
class RetrainForm:
    """See the module.

    Attributes:
        drop_path: whether edges get a drop-path.
        auxiliary: whether the network gets an auxiliary head, where one fits.
    """

    name: ClassVar[str] = "retrain_form"
    summary: ClassVar[str] = "drop-path on edges and an auxiliary head, in training only"
    source: ClassVar[Stage] = Stage.CONCRETE
    target: ClassVar[Stage] = Stage.CONCRETE
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    drop_path: bool = True
    auxiliary: bool = True

    def __call__(self, module: Module) -> Module:
        if self.drop_path:
            module = module.map(_drop_path)
        if self.auxiliary and auxiliary_problem(module) is None:
            module = module.map(lambda g: _with_auxiliary(g) if g.name == module.root else g)
        return module


def _drop_path(graph: Graph) -> Graph:
    nodes: list[AnyNode] = []
    renamed: dict[str, str] = {}
    edges = _edges(graph)
    for node in graph.nodes:
        moved = attrs.evolve(node, operands=tuple(renamed.get(o, o) for o in node.operands))
        nodes.append(moved)
        if node.id in edges:
            dropped = Op(
                id=f"{node.id}.drop_path",
                operands=(node.id,),
                type=node.type,
                op="drop_path",
                label=f"{node.label}.drop_path",
                loc=node.loc,
            )
            nodes.append(dropped)
            renamed[node.id] = dropped.id
    return graph.with_nodes(nodes, renamed.get(graph.result, graph.result))


def _edges(graph: Graph) -> set[str]:
    """Ends of operation chains on the edges of a cell: labelled `node.source.option`."""
    if not graph.cell:
        return set()
    found = set()
    for node in graph.nodes:
        if isinstance(node, Op) and node.op != "none" and node.label.count(".") >= 2:
            last = all(graph.by_id[r].label != node.label for r in graph.readers[node.id])
            if last and not PRIMITIVES[node.op].identity:
                found.add(node.id)
        merged = isinstance(node, Merge) and node.label.count(".") >= 2
        if merged and all(graph.by_id[r].label != node.label for r in graph.readers[node.id]):
            found.add(node.id)
    return found


def _anchor(graph: Graph) -> AnyNode | None:
    """The value of the network's last step that lowers the resolution."""
    best = None
    area: int | None = None
    for node in graph.nodes:
        if isinstance(node.type, TensorType) and node.type.layout == "image":
            pixels = node.type.dims[1].evaluate({}) * node.type.dims[2].evaluate({})
            if area is None or pixels < area:
                best, area = node, pixels
            elif pixels == area and best is not None and node.label == best.label:
                best = node
    return best


def auxiliary_problem(module: Module) -> str | None:
    """Why no auxiliary head can be placed, or None."""
    graph = module.network
    anchor = _anchor(graph)
    if anchor is None or not isinstance(anchor.type, TensorType):
        return "the network has no image to put an auxiliary head on"
    height, width = (d.evaluate({}) for d in anchor.type.dims[1:])
    if min(height, width) < 8:
        return f"the auxiliary head needs 8 x 8 pixels after `{anchor.label}`, there are {height} x {width}"
    return None


def _with_auxiliary(graph: Graph) -> Graph:
    """ReLU, 5x5 average pooling at stride 3, 1x1 to 128, 2x2 to 768, and a classifier."""
    anchor = _anchor(graph)
    result = graph.by_id[graph.result].type
    if anchor is None or not isinstance(anchor.type, TensorType) or not isinstance(result, TensorType):
        return graph
    builder = _Chain(anchor)
    builder.add("relu", {})
    builder.add("avg_pool", {"k": 5, "stride": 3, "pad": 0})
    conv = {"stride": 1, "pad": 0, "dilation": 1, "groups": 1, "bias": False}
    builder.add("conv", {"k": 1, "out": Dim.of(128), **conv})
    builder.add("bn", {"affine": True})
    builder.add("relu", {})
    builder.add("conv", {"k": 2, "out": Dim.of(768), **conv})
    builder.add("bn", {"affine": True})
    builder.add("relu", {})
    builder.add("flatten", {})
    builder.add("linear", {"out": result.dims[0], "bias": True})
    return attrs.evolve(graph.with_nodes([*graph.nodes, *builder.nodes]), auxiliary=builder.last)


class _Chain:
    """Operations one after another behind a value of the network."""

    def __init__(self, anchor: AnyNode) -> None:
        self.nodes: list[AnyNode] = []
        self.last = anchor.id
        self.type: Type = anchor.type
        self.loc = anchor.loc

    def add(self, op: str, values: dict[str, Value]) -> None:
        primitive = PRIMITIVES[op]
        source = self.type
        if not isinstance(source, TensorType):
            return
        base = f"auxiliary.{len(self.nodes)}.{op}"
        operands = [self.last]
        for spec in primitive.weights(source, values):
            name = f"{base}.{spec.role}"
            kind = WeightType(spec.shape)
            self.nodes.append(
                Weight(id=name, type=kind, name=name, init=spec.init, label="auxiliary", loc=self.loc)
            )
            operands.append(name)
        for spec in primitive.state(source, values):
            name = f"{base}.{spec.role}"
            kind = WeightType(spec.shape, state=True)
            self.nodes.append(State(id=name, type=kind, name=name, label="auxiliary", loc=self.loc))
            operands.append(name)
        type_ = primitive.infer(source, values, lambda d: d.evaluate({}))
        self.nodes.append(
            Op(
                id=base,
                operands=tuple(operands),
                type=type_,
                op=op,
                values=tuple(sorted(values.items())),
                label="auxiliary",
                loc=self.loc,
            )
        )
        self.last, self.type = base, type_
