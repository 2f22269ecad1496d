"""One architecture cut out of a space or a supernet.

Takes Graph[SPACE] or Graph[RELAXED] and the value of every active decision;
returns Graph[CONCRETE]. Invariant: weights keep their names, so the network of
an architecture and the supernet's own path share checkpoints; a chosen `none`
adds nothing to a sum, and nothing else is propagated: outputs are those of the
supernet at the one-hot point, to the last bit of arithmetic order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Union

import attrs

from nasdsl.errors import InternalError
from nasdsl.ir.analysis import prune
from nasdsl.ir.graph import Graph, Module, Stage, call_owner
from nasdsl.ir.homes import Home, around, homes
from nasdsl.ir.nodes import AnyNode, ArchType, Branch, Call, Gather, Merge, Mix, Op, Select, Var, WeightType
from nasdsl.ops import PRIMITIVES, Value
from nasdsl.passes.base import Rename
from nasdsl.types import Dim, TensorType

Choices = Mapping[str, Union[str, tuple[str, ...]]]


@attrs.frozen
class Specialise:
    """See the module.

    Attributes:
        choices: full decision path to option name, or to the tuple of chosen inputs.
        dead: whether operations that were chosen stay although nothing reads them
            (benchmarks count them; networks that run leave them out).
    """

    name: ClassVar[str] = "specialise"
    summary: ClassVar[str] = "keeps what one architecture chooses"
    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.CONCRETE
    exact: ClassVar[bool] = False
    optimises: ClassVar[bool] = False

    choices: Choices
    dead: bool = False

    def __call__(self, module: Module) -> Module:
        return _Cutter(module, self.choices, self.dead).run()


class _Cutter:
    def __init__(self, module: Module, choices: Choices, dead: bool) -> None:
        self.module = module
        self.choices = choices
        self.dead = dead
        self.made: dict[tuple[str, str], Graph] = {}
        self.order: list[Graph] = []

    def run(self) -> Module:
        root = self.graph(self.module.network, "")
        return Module(Stage.CONCRETE, (root, *(g for g in self.order if g.name != root.name)), root.name)

    def graph(self, graph: Graph, owner: str) -> Graph:
        """The graph under the decisions of `owner`; equal results share one graph."""
        key = (graph.name, owner)
        if key not in self.made:
            cut = _CutGraph(self, graph, owner).run()
            for known in self.order:
                if attrs.evolve(known, name=cut.name) == cut:
                    self.made[key] = known
                    return known
            taken = {g.name for g in self.order}
            name, count = graph.name, 1
            while name in taken:
                count += 1
                name = f"{graph.name}__{count}"
            self.made[key] = attrs.evolve(cut, name=name)
            self.order.append(self.made[key])
        return self.made[key]


class _CutGraph:
    def __init__(self, cutter: _Cutter, graph: Graph, owner: str) -> None:
        self.cutter = cutter
        self.graph = graph
        self.owner = owner
        self.rename = Rename()
        self.made: dict[str, AnyNode] = {}
        self.split: dict[str, Dim | None] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self._node(settled(node, self.cutter.choices))
        nodes = tuple(self.made.values())
        graph = self.graph.with_nodes(nodes, self.rename(self.graph.result))
        # A member that nothing reads has no width, so it is never built (NAS-Bench-101).
        split = any(isinstance(n, Gather) and n.widths for n in self.graph.nodes)
        graph = prune(graph, self._kept() if self.cutter.dead and not split else ())
        if self.split:
            graph = settle_widths(graph, self.split)
        return graph.with_nodes(self._call(n) for n in graph.nodes)

    def _kept(self) -> list[str]:
        """What is built: all that the result leads back to, of a choice what it takes.

        A value that no node chooses as an input is built all the same; the edge to it is not.
        """
        built = {self.graph.result}
        for node in reversed(self.graph.nodes):
            if node.id not in built:
                continue
            if isinstance(node, Select):
                built.add(node.operands[node.options.index(str(self._choice(node.decision)))])
            elif isinstance(node, Branch):
                built.add(node.operands[0 if node.condition.at(self.cutter.choices) else 1])
            else:
                built.update(node.operands)
        chosen = (Select, Branch, Gather, Mix, Merge)
        found = homes(self.graph)
        return [
            self.rename(n.id)
            for n in self.graph.nodes
            if n.id in built and isinstance(n, chosen) and not self._on_left_edge(n.id, found)
        ]

    def _on_left_edge(self, name: str, found: Mapping[str, Home]) -> bool:
        """Whether only an edge that a choice of inputs leaves out needs a node."""
        for choice, operand in around(found, name):
            node = self.graph.by_id[choice]
            if isinstance(node, Gather):
                taken = self._choice(node.decision)
                pairs = zip(node.names, node.operands, strict=True)
                if not any(o == operand and n in taken for n, o in pairs):
                    return True
        return False

    def _node(self, node: AnyNode) -> None:
        if isinstance(node, Select):
            chosen = node.options.index(str(self._choice(node.decision)))
            self.rename.set(node.id, node.operands[chosen])
        elif isinstance(node, Branch):
            self.rename.set(node.id, node.operands[0 if node.condition.at(self.cutter.choices) else 1])
        elif isinstance(node, Gather):
            chosen_names = self._choice(node.decision)
            if node.widths:
                self.split = shares(node, chosen_names)
            kept = [o for n, o in zip(node.names, node.operands, strict=True) if n in chosen_names]
            self._sum(node, node.merge, kept, node.operands)
        elif isinstance(node, Mix):
            acts = node.operands[node.vectors :]
            kept = [o for t, o in zip(node.terms, acts, strict=True) if all(map(self._holds, t.choices))]
            self._sum(node, "sum", kept, acts)
            if self._weighs_edges(node) and len(kept) > 1:
                self._scale(node, 1.0 / len(kept))
        elif isinstance(node, Merge) and node.merge == "sum":
            kept = list(node.operands)
            if node.decision is not None:
                chosen_names = self._choice(node.decision)
                kept = [o for n, o in zip(node.names, node.operands, strict=True) if n in chosen_names]
            self._sum(node, "sum", kept, node.operands)
        elif not isinstance(node.type, ArchType):
            self.made[node.id] = attrs.evolve(node, operands=self.rename.all(node.operands))

    def _choice(self, local: str) -> str | tuple[str, ...]:
        path = (
            f"{self.owner}.{local}" if self.owner and not local.startswith("/") else local.removeprefix("/")
        )
        if path not in self.cutter.choices:
            # An inactive decision: any value will do, because nothing reads the result.
            return self._any(local)
        return self.cutter.choices[path]

    def _any(self, local: str) -> str | tuple[str, ...]:
        for node in self.graph.nodes:
            if isinstance(node, Select) and node.decision == local:
                return node.options[0]
            if isinstance(node, Gather) and node.decision == local:
                return node.names[: node.low]
            if isinstance(node, Merge) and node.decision == local:
                return node.names
        return ()

    def _holds(self, choice: tuple[str, str]) -> bool:
        taken = self._choice(choice[0])
        return choice[1] == taken if isinstance(taken, str) else choice[1] in taken

    def _sum(self, node: AnyNode, merge: str, kept: list[str], every: tuple[str, ...]) -> None:
        """The merge of what is kept, without zeros; one of them is kept when nothing else is."""
        operands = [self.rename(o) for o in kept]
        real = [o for o in operands if not self._zero(o)] if merge == "sum" else operands
        if len(real) == 1:
            self.rename.set(node.id, real[0])
        elif real:
            self.made[node.id] = Merge(
                id=node.id, operands=tuple(real), type=node.type, label=node.label, loc=node.loc, merge=merge
            )
        else:
            self._nothing(node, operands[0] if operands else self.rename(every[0]))

    def _weighs_edges(self, node: Mix) -> bool:
        """Whether a softmax over edges weighs the terms: at an architecture all that are kept alike."""
        roots = (self.graph.by_id[self.graph.by_id[v].operands[0]] for v in node.operands[: node.vectors])
        return any(isinstance(r, Var) and r.role == "edges" for r in roots)

    def _scale(self, node: Mix, by: float) -> None:
        """What stands for `node` by now, times a constant."""
        source = self.rename(node.id)
        if self._zero(source):
            return
        scaled = Op(
            id=f"{node.id}.scale",
            operands=(source,),
            type=node.type,
            op="scale",
            values=(("by", by),),
            label=node.label,
            loc=node.loc,
        )
        self.made[scaled.id] = scaled
        self.rename.set(node.id, scaled.id)

    def _nothing(self, node: AnyNode, like: str) -> None:
        if self._zero(like):
            self.rename.set(node.id, like)
            return
        if isinstance(node, Gather) and node.merge == "concat":
            self._no_members(node)
            return
        base = self.made.get(like)
        while isinstance(base, Op) and base.operands and self._same_shape(base.operands[0], node):
            like = base.operands[0]
            base = self.made.get(like)
        if not isinstance(node.type, TensorType):
            raise InternalError(f"specialise: %{node.id} has no activation to take its shape from")
        self.made[node.id] = Op(
            id=node.id, operands=(like,), type=node.type, op="none", label=node.label, loc=node.loc
        )

    def _no_members(self, node: Gather) -> None:
        """A concatenation of nothing: zeros, made from an input of the cell, whose resolution is right."""
        if not isinstance(node.type, TensorType):
            raise InternalError(f"specialise: %{node.id} is not an activation")
        self.made[node.id] = Op(
            id=node.id,
            operands=(self.graph.inputs[0].id,),
            type=node.type,
            op="zeros",
            values=(("out", node.type.channels),),
            label=node.label,
            loc=node.loc,
        )

    def _same_shape(self, name: str, node: AnyNode) -> bool:
        found = self.made.get(name)
        return found is not None and found.type == node.type

    def _zero(self, name: str) -> bool:
        found = self.made.get(name)
        return isinstance(found, Op) and PRIMITIVES[found.op].zero

    def _call(self, node: AnyNode) -> AnyNode:
        if not isinstance(node, Call):
            return node
        target = self.cutter.module.by_name[node.graph]
        made = self.cutter.graph(target, call_owner(self.owner, node))
        return attrs.evolve(node, graph=made.name, owner="", independent=False)


def settled(node: AnyNode, choices: Choices) -> AnyNode:
    """The node with every size that depends on decisions as it is under `choices`."""
    type_ = node.type
    if isinstance(type_, TensorType):
        type_ = attrs.evolve(type_, dims=tuple(d.settle(choices) for d in type_.dims))
    elif isinstance(type_, WeightType):
        type_ = attrs.evolve(type_, shape=tuple(d.settle(choices) for d in type_.shape))
    if isinstance(node, Op):
        values = tuple((n, _settled_value(node.op, n, v, choices)) for n, v in node.values)
        return attrs.evolve(node, type=type_, values=values)
    if isinstance(node, Call):
        return attrs.evolve(node, type=type_, sizes=tuple((n, d.settle(choices)) for n, d in node.sizes))
    return node if type_ == node.type else attrs.evolve(node, type=type_)


def _settled_value(op: str, name: str, value: Value, choices: Choices) -> Value:
    if not isinstance(value, Dim):
        return value
    plain = value.settle(choices)
    parameter = PRIMITIVES[op].parameter(name)
    fixed = plain.constant
    return fixed if parameter is not None and parameter.kind == "integer" and fixed is not None else plain


def shares(node: Gather, chosen: str | tuple[str, ...]) -> dict[str, Dim | None]:
    """The width of every chosen member of a concatenation `into split(C)`; None for the others.

    k members share C: each gets C // k, the first C mod k one more (NAS-Bench-101, appendix S.1).
    """
    if not isinstance(node.type, TensorType):
        raise InternalError(f"specialise: %{node.id} is not an activation")
    total = node.type.channels
    ranks = {n: i for i, n in enumerate(n for n in node.names if n in chosen)}
    count = max(1, len(ranks))
    return {
        width: (total + (count - 1 - ranks[name])) // count if name in ranks else None
        for name, width in zip(node.names, node.widths, strict=True)
    }


def settle_widths(graph: Graph, split: Mapping[str, Dim | None]) -> Graph:
    """Gives every open width its size: its share, or that of the widest of its readers.

    Shares fall from the first member to the last, so the widest reader is the one whose share
    comes first.
    """
    order = [w for w, share in split.items() if share is not None]
    share_of: dict[str, str] = {w: w for w in order}
    readers: dict[str, set[str]] = {}
    for node in graph.nodes:
        wide = _open(node.type, split)
        for operand in node.operands:
            narrow = _open(graph.by_id[operand].type, split)
            if wide is not None and narrow is not None and wide != narrow:
                readers.setdefault(narrow, set()).add(wide)
    for width in reversed(tuple(split)):
        if width not in share_of:
            found = [share_of[r] for r in readers.get(width, ()) if r in share_of]
            if found:
                share_of[width] = min(found, key=order.index)
    return with_sizes(graph, {w: Dim.of(split[s] or 0) for w, s in share_of.items()})


def with_sizes(graph: Graph, sizes: Mapping[str, Dim]) -> Graph:
    """The graph with polynomials in the place of symbolic sizes."""
    return graph.with_nodes(_substituted(n, sizes) for n in graph.nodes)


def _open(type_: object, split: Mapping[str, Dim | None]) -> str | None:
    if not isinstance(type_, TensorType):
        return None
    name = str(type_.channels)
    return name if name in split else None


def _substituted(node: AnyNode, sizes: Mapping[str, Dim]) -> AnyNode:
    if isinstance(node.type, TensorType):
        node = attrs.evolve(node, type=node.type.substitute(sizes))
    elif isinstance(node.type, WeightType):
        node = attrs.evolve(
            node, type=attrs.evolve(node.type, shape=tuple(d.substitute(sizes) for d in node.type.shape))
        )
    if isinstance(node, Op):
        values = ((n, v.substitute(sizes) if isinstance(v, Dim) else v) for n, v in node.values)
        return attrs.evolve(node, values=tuple(values))
    if isinstance(node, Call):
        return attrs.evolve(node, sizes=tuple((n, d.substitute(sizes)) for n, d in node.sizes))
    return node
