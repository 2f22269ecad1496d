"""One verifier a stage, run after every pass.

Takes a module, returns nothing. Invariant: a module that passes can be lowered;
what fails is a bug in a pass (or in hand-written IR text) and says which node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx

from nasdsl.cases import Cases
from nasdsl.errors import InternalError, VerifyError
from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import (
    ACTIVATIONS,
    AnyNode,
    ArchType,
    Arith,
    Blend,
    Branch,
    Call,
    Dist,
    Gather,
    Input,
    Marginal,
    Merge,
    Mix,
    Op,
    Select,
    Stack,
    State,
    Var,
    Weight,
    WeightType,
)
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.fused import BUNDLES
from nasdsl.types import Dim, TensorType

_COMMON = (Input, Op, Merge, Call, Weight, State)
ALLOWED: dict[Stage, tuple[type, ...]] = {
    Stage.SPACE: (*_COMMON, Select, Branch, Gather),
    Stage.RELAXED: (*_COMMON, Select, Branch, Gather, Stack, Blend, Var, Dist, Marginal, Arith, Mix),
    Stage.CONCRETE: _COMMON,
}


def verify(module: Module, after: str = "") -> None:
    """Checks every graph of a module against its stage.

    Args:
        after: the pass that made the module, for the message.

    Raises:
        VerifyError: naming pass, graph, node and rule.
    """
    sizes = _sizes(module)
    for graph in module.graphs:
        _Verifier(module, graph, after, sizes.get(graph.name, [])).run()
    calls: nx.DiGraph[str] = nx.DiGraph()
    for graph in module.graphs:
        calls.add_node(graph.name)
        calls.add_edges_from((graph.name, n.graph) for n in graph.nodes if isinstance(n, Call))
    if not nx.is_directed_acyclic_graph(calls):
        raise VerifyError(f"after {after or 'nothing'}: the graphs call each other in a circle")


def _sizes(module: Module) -> dict[str, list[Mapping[str, int]]]:
    """The different sizes that every graph is used with; nothing for a module whose calls do not fit."""
    found: dict[str, dict[tuple[tuple[str, int], ...], Mapping[str, int]]] = {}
    try:
        for use in module.uses():
            found.setdefault(use.graph.name, {})[tuple(sorted(use.sizes.items()))] = use.sizes
    except (InternalError, KeyError, ZeroDivisionError, RecursionError):
        return {}
    return {name: list(sizes.values()) for name, sizes in found.items()}


class _Verifier:
    def __init__(self, module: Module, graph: Graph, after: str, sizes: list[Mapping[str, int]]) -> None:
        self.module = module
        self.sizes = sizes
        self.graph = graph
        self.after = after

    def fail(self, rule: str, node: AnyNode | None = None) -> VerifyError:
        where = f" node %{node.id} ({node.kind})" if node is not None else ""
        place = f" from {node.loc.file}:{node.loc}" if node is not None and node.loc is not None else ""
        return VerifyError(f"after {self.after or 'nothing'}: graph {self.graph.name}{where}{place}: {rule}")

    def run(self) -> None:
        seen: set[str] = set()
        allowed = ALLOWED[self.module.stage]
        for node in self.graph.nodes:
            if node.id in seen:
                raise self.fail("its id is used twice", node)
            if not isinstance(node, allowed):
                raise self.fail(f"this kind does not belong to stage {self.module.stage.value}", node)
            for operand in node.operands:
                if operand not in seen:  # so a graph has no circle
                    raise self.fail(f"operand %{operand} does not stand before it", node)
            self._rules(node)
            seen.add(node.id)
        if self.graph.result not in seen:
            raise self.fail(f"the result %{self.graph.result} does not exist")

    def _rules(self, node: AnyNode) -> None:
        rule = _RULES.get(type(node))
        if rule is not None:
            broken = self._bundles(node) or rule(self, node)
            if broken:
                raise self.fail(broken, node)

    def types(self, node: AnyNode) -> list[object]:
        return [self.graph.by_id[o].type for o in node.operands]

    def acts(self, node: AnyNode) -> list[TensorType]:
        return [t for t in self.types(node) if isinstance(t, TensorType)]

    def same(self, a: tuple[Dim, ...], b: tuple[Dim, ...]) -> bool:
        """Whether two shapes are equal: as written, or at every use of the graph.

        The options of a choice agree at every use, not always as polynomials.
        """
        if a == b:
            return True
        try:
            values = [tuple(tuple(d.value(s) for d in dims) for dims in (a, b)) for s in self.sizes]
        except KeyError:
            return False
        # Tables over decisions agree where their place exists, which elaboration has proved.
        return bool(values) and all(
            m == n or isinstance(m, Cases) or isinstance(n, Cases)
            for x, y in values
            for m, n in zip(x, y, strict=True)
        )

    def _op(self, node: Op) -> str:
        primitive = PRIMITIVES.get(node.op)
        if primitive is None:
            return f"there is no operation {node.op!r}"
        types = self.types(node)
        if not types or not isinstance(types[0], TensorType):
            return "its first operand is not an activation"
        if primitive.opaque:
            return ""  # its weights depend on sizes as integers, which a graph does not have
        values = dict(node.values)
        specs = [WeightType(s.shape) for s in primitive.weights(types[0], values)]
        specs += [WeightType(s.shape, state=True) for s in primitive.state(types[0], values)]
        given = [t if isinstance(t, WeightType) else WeightType(()) for t in types[1:]]
        fits = len(given) == len(specs) and all(
            g.state == w.state and self.same(g.shape, w.shape) for g, w in zip(given, specs, strict=True)
        )
        if not fits:
            found, wanted = (", ".join(map(str, t)) or "none" for t in (types[1:], specs))
            return f"its weights are {found}, not {wanted}"
        return ""

    def _bundles(self, node: AnyNode) -> str:
        """What has several results is read by parts and lanes only, and by as many as it has."""
        for operand in node.operands:
            source = self.graph.by_id[operand]
            made = _makes(source)
            if made > 1 and not (isinstance(node, Op) and _reads(node)):
                return "only parts and lanes read what has several results"
            if isinstance(node, Op) and made and _reads(node) not in (0, made):
                return f"it is for {_reads(node)} results; what it reads has {made}"
        values = dict(node.values) if isinstance(node, Op) else {}
        if isinstance(node, Op) and node.op == "part" and not 0 <= int(str(values["index"])) < _reads(node):
            return "there is no such result"
        return ""

    def _stack(self, node: Stack) -> str:
        types = self.types(node)
        if not types or not all(isinstance(t, WeightType) and t.shape for t in types):
            return "it stacks weights, one at least"
        weights = [t for t in types if isinstance(t, WeightType)]
        if len({(t.shape[1:], t.state) for t in weights}) > 1:
            return "its operands differ in more than their first size"
        rows = Dim.of(0)
        for weight in weights:
            rows = rows + weight.shape[0]
        whole = WeightType((rows, *weights[0].shape[1:]), state=weights[0].state)
        return "" if node.type == whole else f"it is {whole}"

    def _blend(self, node: Blend) -> str:
        first, *weights = self.types(node)
        if not isinstance(first, ArchType) or len(weights) not in (first.length, 2 * first.length):
            return "it has not one weight for each entry of its vector"
        weights, biases = weights[: first.length], weights[first.length :]
        if node.normalise not in ("filter", "kernel", "none"):
            return f"there is no normalisation {node.normalise!r}"
        shape = getattr(node.type, "shape", ())
        alike = all(isinstance(t, WeightType) and not t.state and t.shape[:2] == shape[:2] for t in weights)
        alike = alike and all(isinstance(t, WeightType) and t.shape == shape[:1] for t in biases)
        return "" if alike and len(shape) == 4 else "its weights are no filters of one shape"

    def _merge(self, node: Merge) -> str:
        acts = self.acts(node)
        if len(acts) != len(node.operands) or not acts:
            return "it merges activations, one at least"
        if node.names and len(node.names) != len(acts):
            return "it names another number of operands"
        if len({t.layout for t in acts}) != 1:
            return "its operands have different layouts"
        return "" if node.merge in ("sum", "concat") else f"there is no merge {node.merge!r}"

    def _call(self, node: Call) -> str:
        target = self.module.by_name.get(node.graph)
        if target is None:
            return f"there is no graph {node.graph!r}"
        if len(target.inputs) != len(node.operands):
            return f"{node.graph} reads {len(target.inputs)} values"
        if tuple(n for n, _ in node.sizes) != target.sizes:
            return f"{node.graph} has the sizes {target.sizes}"
        if node.recompute and self.module.stage is not Stage.RELAXED:
            return "only a supernet computes a cell twice"
        sizes = dict(node.sizes)
        for given, wanted in zip(self.acts(node), target.inputs, strict=True):
            if isinstance(wanted.type, TensorType) and not self.same(
                wanted.type.substitute(sizes).dims, given.dims
            ):
                missing = [d for d in wanted.type.dims if not d.names <= set(sizes)]
                if not missing:
                    return (
                        f"input {wanted.id} of {node.graph} is {wanted.type.substitute(sizes)}, not {given}"
                    )
        return ""

    def _select(self, node: Select) -> str:
        if len(node.options) != len(node.operands) or not node.options:
            return "it has not one name for each option"
        return "" if len(set(node.options)) == len(node.options) else "an option is named twice"

    def _gather(self, node: Gather) -> str:
        if len(node.names) != len(node.operands):
            return "it has not one name for each source"
        return (
            ""
            if 0 <= node.low <= node.high <= len(node.names)
            else f"it cannot choose {node.low}..{node.high}"
        )

    def _var(self, node: Var) -> str:
        if node.role not in ("op", "inputs", "edges"):
            return f"there is no role {node.role!r}"
        return "" if node.type == ArchType(len(node.entries)) else "its type is not the number of its entries"

    def _dist(self, node: Dist) -> str:
        if node.form not in ACTIVATIONS:
            return f"there is no activation {node.form!r}"
        return "" if self.types(node) == [node.type] else "it is not as long as its variables"

    def _marginal(self, node: Marginal) -> str:
        types = self.types(node)
        if types != [ArchType(len(node.rows))]:
            return "it has not one row for each entry"
        widths = {len(r) for r in node.rows}
        return (
            ""
            if widths == {getattr(node.type, "length", -1)}
            else "its rows have another width than its type"
        )

    def _arith(self, node: Arith) -> str:
        types = self.types(node)
        if node.form in ("groups", "shares"):
            length = getattr(types[0], "length", 0) if len(types) == 1 else 0
            entries = [e for group in node.groups for e in group]
            known = all(0 <= e < length for e in (*entries, *node.over))
            fits = entries and len(set(entries)) == len(entries) and known
            fits = fits and (not node.over or set(entries) <= set(node.over))
            return "" if fits and node.type == ArchType(len(node.groups)) else "its groups are no entries"
        if node.form != "scale" or len(types) != 2 or types[0] != node.type:
            return "`scale` takes the vector it returns and a second vector"
        other = types[1]
        return (
            ""
            if isinstance(other, ArchType) and 0 <= node.index < other.length
            else "its index is out of range"
        )

    def _mix(self, node: Mix) -> str:
        types = self.types(node)
        vectors, acts = types[: node.vectors], types[node.vectors :]
        if not all(isinstance(t, ArchType) for t in vectors):
            return "its first operands are not architecture vectors"
        if not all(isinstance(t, TensorType) for t in acts) or len(acts) != len(node.terms):
            return "it has not one term for each activation"
        for term in node.terms:
            vector = vectors[term.vector] if term.vector < len(vectors) else None
            if not isinstance(vector, ArchType) or not 0 <= term.entry < vector.length:
                return "a term names no entry of a vector"
        if node.sparse and node.inside:
            return "what runs only where its weight says so is never accumulated"
        return self._inside(node)

    def _inside(self, node: Mix) -> str:
        acts = node.operands[node.vectors :]
        shapes = set()
        for index in node.inside:
            term = self.graph.by_id[acts[index]] if 0 <= index < len(acts) else None
            if not isinstance(term, Op) or term.op != "pointwise_norm" or dict(term.values)["relu"]:
                return "what it accumulates without forming it is no `pointwise_norm`"
            if len(self.graph.readers[term.id]) != 1 or dict(term.values)["groups"] != 1:
                return "what it accumulates without forming it is read by others, or has groups"
            weight = self.graph.by_id[term.operands[1]].type
            shapes.add((getattr(weight, "shape", ()), dict(term.values)["bias"]))
        return "" if len(shapes) <= 1 else "what it accumulates without forming it has several shapes"


def _makes(node: AnyNode) -> int:
    """How many results a node has; 0 for what is no activation."""
    if not isinstance(node, Op):
        return int(isinstance(node.type, TensorType))
    counted = "copies" if node.op in BUNDLES else "groups" if node.op == "pointwise_norm" else ""
    return int(str(dict(node.values)[counted])) if counted else 1


def _reads(node: Op) -> int:
    """How many results its source must have; 0 where an operation takes one value."""
    if node.op == "part":
        return int(str(dict(node.values)["count"]))
    lanes = node.op == "dwconv_lanes" or (node.op == "pointwise_norm" and _makes(node) > 1)
    return _makes(node) if lanes else 0


_Rule = Callable[[_Verifier, Any], str]
_RULES: dict[type, _Rule] = {
    Op: _Verifier._op,
    Stack: _Verifier._stack,
    Blend: _Verifier._blend,
    Merge: _Verifier._merge,
    Call: _Verifier._call,
    Select: _Verifier._select,
    Gather: _Verifier._gather,
    Var: _Verifier._var,
    Dist: _Verifier._dist,
    Marginal: _Verifier._marginal,
    Arith: _Verifier._arith,
    Mix: _Verifier._mix,
}
