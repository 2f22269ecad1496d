"""How the network that is searched differs from the one that is trained.

Takes Graph[RELAXED], returns Graph[RELAXED]. Invariant: only what is searched
changes: cells that hold decisions, and options of decisions elsewhere; stem,
fixed blocks and head keep their form.

Sources: batch norm without scale and shift, and a batch norm after pooling, are
those of quark0/darts `model_search.py`; the convolution bias where batch norm has
none is D-X-Y/AutoDL-Projects' NAS-Bench-201 search cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from nasdsl.errors import InternalError
from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.homes import searched
from nasdsl.ir.nodes import AnyNode, Call, Mix, Op, State, Weight, WeightType
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.types import TensorType


@attrs.frozen
class SearchForm:
    """See the module.

    Attributes:
        affine: whether batch norm keeps its scale and shift.
        pool_norm: whether pooling options get a batch norm without scale and shift.
        conv_bias: whether convolutions get a bias.
    """

    name: ClassVar[str] = "search_form"
    summary: ClassVar[str] = "non-affine batch norm, batch norm after pooling, convolution bias"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    affine: bool = False
    pool_norm: bool = False
    conv_bias: bool = False

    def __call__(self, module: Module) -> Module:
        inside = _cells_with_decisions(module)
        return module.map(lambda g: self._graph(g, whole=g.name in inside))

    def _graph(self, graph: Graph, whole: bool) -> Graph:
        names = {n.id for n in graph.nodes} if whole else searched(graph)
        nodes: list[AnyNode] = []
        renamed: dict[str, str] = {}
        for node in graph.nodes:
            if isinstance(node, Mix):
                nodes.append(attrs.evolve(node, operands=tuple(renamed.get(o, o) for o in node.operands)))
            elif isinstance(node, Op) and node.id in names:
                nodes.extend(self._op(graph, node, renamed))
            else:
                nodes.append(node)
        return prune(graph.with_nodes(nodes))

    def _op(self, graph: Graph, node: Op, renamed: dict[str, str]) -> list[AnyNode]:
        values = dict(node.values)
        if node.op == "bn" and not self.affine and values["affine"]:
            values["affine"] = False
            state = node.operands[-1]
            return [_with(node, values, (node.operands[0], state))]
        if node.op in ("conv", "dwconv") and self.conv_bias and not values["bias"]:
            return self._biased(graph, node)
        if PRIMITIVES[node.op].pooling and self.pool_norm and _is_option(graph, node.id):
            running, norm = batch_norm(node)
            renamed[node.id] = norm.id
            return [node, running, norm]
        return [node]

    def _biased(self, graph: Graph, node: Op) -> list[AnyNode]:
        values = {**dict(node.values), "bias": True}
        source = graph.by_id[node.operands[0]].type
        if not isinstance(source, TensorType):
            return [node]
        spec = PRIMITIVES[node.op].weights(source, values)[1]
        bias = Weight(
            id=f"{node.id}.bias",
            type=WeightType(spec.shape),
            name=f"{node.id}.bias",
            init=spec.init,
            label=node.label,
            loc=node.loc,
        )
        return [bias, _with(node, values, (*node.operands, bias.id))]


def _with(node: Op, values: Mapping[str, Value], operands: tuple[str, ...]) -> Op:
    return attrs.evolve(node, values=tuple(sorted(values.items())), operands=operands)


def batch_norm(node: AnyNode) -> tuple[State, Op]:
    """A batch norm without scale and shift behind `node`, whose type is an image or a vector."""
    if not isinstance(node.type, TensorType):
        raise InternalError(f"%{node.id} is not an activation")
    base = f"{node.id}.bn"
    state = State(
        id=f"{base}.running",
        type=WeightType((node.type.channels,), state=True),
        name=f"{base}.running",
        label=node.label,
        loc=node.loc,
    )
    norm = Op(
        id=base,
        operands=(node.id, state.id),
        type=node.type,
        op="bn",
        values=(("affine", False),),
        label=node.label,
        loc=node.loc,
    )
    return state, norm


def _is_option(graph: Graph, name: str) -> bool:
    return any(isinstance(graph.by_id[r], Mix) for r in graph.readers[name])


def _cells_with_decisions(module: Module) -> set[str]:
    """Cells that hold decisions themselves or in what they call; never the network."""
    calls = {g.name: {n.graph for n in g.nodes if isinstance(n, Call)} for g in module.graphs}
    holding = {g.name for g in module.graphs if any(isinstance(n, Mix) for n in g.nodes)}
    while True:
        more = {name for name, targets in calls.items() if targets & holding} - holding
        if not more:
            return holding - {module.root}
        holding |= more
