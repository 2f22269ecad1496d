"""Graphs of nodes, and the module that holds them.

Takes nodes in topological order, returns frozen graphs. Invariant: a node's
operands stand before it; a module's calls name its own graphs; changing
anything makes a new graph. `networkx` views are made on demand by
`nasdsl.ir.analysis`, so that checking a file does not import it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

import attrs

from nasdsl.errors import InternalError
from nasdsl.ir.nodes import AnyNode, Call, Input
from nasdsl.types import TensorType


class Stage(enum.Enum):
    """What a graph still leaves open."""

    SPACE = "space"
    RELAXED = "relaxed"
    CONCRETE = "concrete"


@attrs.frozen(slots=False)
class Graph:
    """A cell or the network.

    Attributes:
        name: unique in its module.
        sizes: the symbolic sizes its types use; a call gives each a value.
        nodes: in topological order, inputs first.
        result: id of the value it returns.
        cell: the definition it came from (empty for the network).
        auxiliary: id of a second result that exists only in training, or "".
    """

    name: str
    sizes: tuple[str, ...]
    nodes: tuple[AnyNode, ...]
    result: str
    cell: str = ""
    auxiliary: str = ""

    @cached_property
    def by_id(self) -> Mapping[str, AnyNode]:
        return MappingProxyType({n.id: n for n in self.nodes})

    @cached_property
    def position(self) -> Mapping[str, int]:
        """For every node its place in `nodes`."""
        return MappingProxyType({n.id: i for i, n in enumerate(self.nodes)})

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """For every value, the ids of the nodes that read it, once per reading."""
        found: dict[str, list[str]] = {n.id: [] for n in self.nodes}
        for node in self.nodes:
            for operand in node.operands:
                found[operand].append(node.id)
        return MappingProxyType({k: tuple(v) for k, v in found.items()})

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(n for n in self.nodes if isinstance(n, Input))

    def activations(self, node: AnyNode) -> tuple[str, ...]:
        """The operands of `node` that are activations."""
        return tuple(o for o in node.operands if isinstance(self.by_id[o].type, TensorType))

    def with_nodes(self, nodes: Iterable[AnyNode], result: str | None = None) -> Graph:
        return attrs.evolve(self, nodes=tuple(nodes), result=self.result if result is None else result)


@attrs.frozen(slots=False)
class Module:
    """All graphs of a space at one stage; `network` is the root."""

    stage: Stage
    graphs: tuple[Graph, ...]
    root: str = "network"

    @cached_property
    def by_name(self) -> Mapping[str, Graph]:
        return MappingProxyType({g.name: g for g in self.graphs})

    @property
    def network(self) -> Graph:
        return self.by_name[self.root]

    def map(self, change: Callable[[Graph], Graph], stage: Stage | None = None) -> Module:
        """Every graph replaced by `change(graph)`."""
        return attrs.evolve(self, graphs=tuple(change(g) for g in self.graphs), stage=stage or self.stage)

    def uses(self) -> Iterator[Use]:
        """Every use of every graph, callers first, with its concrete sizes and its owner."""
        yield from _walk(self, Use(self.network, (), "", {}))


@attrs.frozen
class Use:
    """One use of a graph: `path` are the ids of the calls that lead to it.

    Sizes are integers, but for a space whose sizes depend on decisions.
    """

    graph: Graph
    path: tuple[str, ...]
    owner: str
    sizes: Mapping[str, int]

    def decision(self, local: str) -> str:
        """The full path of a decision of this graph; one that begins with `/` is full already."""
        if local.startswith("/"):
            return local[1:]
        return f"{self.owner}.{local}" if self.owner else local


def call_owner(caller: str, call: Call) -> str:
    """The owner of the decisions that a call uses."""
    return f"{caller}.{call.owner}" if call.independent and caller else call.owner


def _walk(module: Module, use: Use) -> Iterator[Use]:
    yield use
    for node in use.graph.nodes:
        if isinstance(node, Call):
            target = module.by_name.get(node.graph)
            if target is None:
                raise InternalError(f"call %{node.id} names no graph: {node.graph}")
            sizes = {name: dim.value(use.sizes) for name, dim in node.sizes}
            owner = call_owner(use.owner, node)
            # Tables over decisions only at stage SPACE, where nothing but proofs looks at them.
            yield from _walk(module, Use(target, (*use.path, node.id), owner, sizes))  # type: ignore[arg-type]
