"""A class while it is being written.

Takes names, lines and homes from those who lower the nodes of a graph, returns them when the class is
done. Invariant: a name is given once; what only one operand of a choice needs waits beside `forward` until
that choice asks for it; an operation instance keeps the home that it was given first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nasdsl.codegen.lowered import Home, Line, instances
from nasdsl.codegen.source import ATTRIBUTES, Namespace
from nasdsl.ir.graph import Graph
from nasdsl.ir.homes import Home as Option
from nasdsl.ir.homes import around, homes
from nasdsl.ir.nodes import AnyNode, Branch, Gather, Loc, Mix, Op, Select, Stack
from nasdsl.ops import PRIMITIVES
from nasdsl.types import TensorType

_RESERVED = (
    "self",
    "w",
    "own",
    "torch",
    "nn",
    "F",
    "super",
    "mix",
    "mix_running",
    "recomputed",
    "drop_path",
    "forward",
    "training",
    "owner",
    "at",
    "total",
)

Switch = Select | Branch | Gather
"""A node that the path of a step settles."""


class Draft:
    """What those who lower a graph share.

    Attributes:
        root: whether the class is the network itself, not a cell of it.
        locals: names in `forward`.
        attributes: names in the class.
        text: id of a node to the expression that reads its value.
        init: lines of `__init__`.
        forward: lines of `forward`, of the part that is being written.
        homes: id of a node to the option that alone needs it; empty where all of the graph runs.
        modules: name of an operation instance to its home in the class.
        calls: id of a call to the attribute that holds the called cell.
        sizes: the sizes of the graph that the class needs.
        runtime: `module:class` of what it uses of the runtime.
        helpers: classes of `nasdsl.runtime.standalone.blocks` that it uses.
        imports: Python modules whose operations it uses.
        drops: whether it uses drop-path.
        auxiliary: constructor and input of the auxiliary head.
    """

    def __init__(self, graph: Graph, root: bool) -> None:
        self.graph = graph
        self.root = root
        self.locals = Namespace(_RESERVED)
        self.attributes = Namespace(ATTRIBUTES)
        self.text: dict[str, str] = {}
        self.init: list[Line] = []
        self.forward: list[Line] = []
        self.homes = homes(graph) if any(_runs_one_of(n) for n in graph.nodes) else {}
        self.modules: dict[str, Home] = {}
        self.calls: dict[str, str] = {}
        self.sizes: set[str] = set()
        self.runtime: set[str] = set()
        self.helpers: set[str] = set()
        self.imports: set[str] = set()
        self.drops = False
        self.auxiliary: tuple[str, str] | None = None
        self._aside: dict[Option, list[Line]] = {}

    # --- names and lines -----------------------------------------------------

    def local(self, node: AnyNode, prefix: str = "", suffix: str = "") -> str:
        """A new name in `forward`, after the place of a node."""
        return self.locals.fresh(f"{prefix}{node.label or node.id}{suffix}")

    def attribute(self, node: AnyNode) -> str:
        """A new name in the class, after the place of a node."""
        return self.attributes.fresh(node.label or node.id)

    def build(self, text: str, loc: Loc | None = None) -> None:
        """Adds a line to `__init__`."""
        self.init.append((text, loc))

    def write(self, text: str, loc: Loc | None = None) -> None:
        """Adds a line to the part of `forward` that is being written."""
        self.forward.append((text, loc))

    @contextmanager
    def collecting(self) -> Iterator[list[Line]]:
        """Lines that are written meanwhile go into a list of their own."""
        before, self.forward = self.forward, []
        try:
            yield self.forward
        finally:
            self.forward = before

    # --- what may not run ----------------------------------------------------

    def place(self, node: AnyNode) -> list[Line]:
        """Where the lines of a node go: into `forward`, or beside it where only an option that may not run needs it."""
        if self.homes:
            for option in around(self.homes, node.id):
                if _runs_one_of(self.graph.by_id[option[0]]):
                    return self._aside.setdefault(option, [])
        return self.forward

    def only_for(self, choice: AnyNode, operand: str) -> list[Line]:
        """The lines that only an operand of a choice needs; they are handed out once."""
        return self._aside.pop((choice.id, operand), [])

    # --- operations ----------------------------------------------------------

    def types(self, node: AnyNode) -> tuple[TensorType, TensorType]:
        """What an operation on activations takes and returns."""
        source = self.graph.by_id[node.operands[0]].type
        if not isinstance(source, TensorType) or not isinstance(node.type, TensorType):
            raise TypeError(f"%{node.id} is not an operation on activations")
        return source, node.type

    def note_sizes(self, text: str) -> None:
        """Notes the sizes of the graph that a line of `__init__` names."""
        self.sizes |= set(re.findall(r"[A-Za-z_]\w*", text)) & set(self.graph.sizes)

    def house(self, node: Op, path: str, index: int = 0, count: int = 1) -> None:
        """Notes that the weights and the state of an operation are part `index` of `count` of a module."""
        for position, name in enumerate(node.operands[1:]):
            part = ".".join((path, *self._inner(node, position)))
            found = self.graph.by_id[name]
            members = [self.graph.by_id[o] for o in found.operands] if isinstance(found, Stack) else [found]
            for number, member in enumerate(members):
                self.settle(member, Home(part, index * len(members) + number, count * len(members)))

    def settle(self, member: AnyNode, home: Home) -> None:
        """Notes the home of a weight or a state."""
        for known in instances(member):
            self.modules.setdefault(known, home)

    def _inner(self, node: Op, position: int) -> list[str]:
        """Where in its module a weight of an operation that passes made lives: `conv` for `conv.weight`."""
        primitive = PRIMITIVES[node.op]
        if not primitive.internal:
            return []
        source, values = self.types(node)[0], dict(node.values)
        role = (*primitive.weights(source, values), *primitive.state(source, values))[position].role
        return role.split(".")[:-1]


def indented(lines: Iterable[Line], margin: str = "    ") -> list[Line]:
    """Lines inside a block."""
    return [(f"{margin}{text}", loc) for text, loc in lines]


def axis_of(node: AnyNode) -> int:
    """The axis of the features: tokens are (B, L, D), images (B, C, H, W)."""
    return -1 if isinstance(node.type, TensorType) and node.type.layout == "tokens" else 1


def _runs_one_of(node: AnyNode) -> bool:
    """Whether what only one operand needs is computed only where that operand is taken."""
    return isinstance(node, Switch) or (isinstance(node, Mix) and node.sparse)
