"""What lowering makes: a class for each graph, and where every weight lives in it.

Takes graphs and their lines, returns module paths. Invariant: an operation instance has one home,
whatever passes have joined; a checkpoint of a supernet can be read operation by operation.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Call, Loc, State, Weight

Line = tuple[str, Loc | None]


@attrs.frozen
class Home:
    """Where the weights of an operation live: a module, and which of `count` equal parts of its first axis.

    `normalise` is how filters are normalised before they are used (`nasdsl.runtime.operators.blended`), or "".
    """

    path: str
    index: int = 0
    count: int = 1
    normalise: str = ""

    def under(self, prefix: str) -> Home:
        return attrs.evolve(self, path=f"{prefix}.{self.path}")


@attrs.frozen
class Lowered:
    """A class: its text in parts, and where each weight of the graph lives in it.

    Attributes:
        modules: name of an operation instance (`n1.a.sep.conv`) to its home in the class.
        calls: id of a call to the attribute that holds the called cell.
        mixes: whether its `forward` takes the weights of mixed operations.
        switches: whether the path of the step settles something in it.
        drops: whether it uses drop-path.
        imports: Python modules whose operations it uses.
        helpers: classes of `nasdsl.runtime.standalone.blocks` that it uses.
        runtime: `module:class` of what it uses of the runtime; supernets only.
    """

    graph: Graph
    name: str
    sizes: tuple[str, ...]
    init: tuple[Line, ...]
    forward: tuple[Line, ...]
    inputs: tuple[str, ...]
    modules: Mapping[str, Home]
    calls: Mapping[str, str]
    mixes: bool
    drops: bool
    helpers: frozenset[str] = frozenset()
    runtime: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    auxiliary: tuple[str, str] | None = None
    switches: bool = False


def instances(node: AnyNode) -> tuple[str, ...]:
    """The operation instances that a weight or a state belongs to."""
    if isinstance(node, (Weight, State)):
        return tuple(n.rpartition(".")[0] for n in (node.name, *node.aliases))
    return (node.id,)


def module_paths(lowered: tuple[Lowered, ...]) -> dict[tuple[str, ...], Home]:
    """Where every operation instance lives in the root class: (call ids..., instance) to its home."""
    by_graph = {item.graph.name: item for item in lowered}

    def walk(item: Lowered) -> dict[tuple[str, ...], Home]:
        found: dict[tuple[str, ...], Home] = {(name,): home for name, home in item.modules.items()}
        for node in item.graph.nodes:
            if isinstance(node, Call):
                attribute = item.calls[node.id]
                for key, home in walk(by_graph[node.graph]).items():
                    found[(node.id, *key)] = home.under(attribute)
        return found

    return walk(lowered[-1])
