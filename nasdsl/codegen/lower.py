"""Lowering: one graph to one class.

Takes a graph, returns the lines of its `__init__` and `forward`. Invariant:
chains of operations written in one place become one `nn.Sequential`, named by
that place; `none` is never computed where it is an option; every line knows its
`.nas` place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from nasdsl.codegen.source import ATTRIBUTES, CLASSES, Namespace, class_name, literal
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import AnyNode, Call, Input, Loc, Merge, Mix, Op, State, Weight
from nasdsl.ops import PRIMITIVES
from nasdsl.types import TensorType

Line = tuple[str, Loc | None]
_RESERVED = (
    "self",
    "w",
    "own",
    "torch",
    "nn",
    "F",
    "super",
    "mix",
    "drop_path",
    "forward",
    "training",
    "owner",
)


@attrs.frozen
class Lowered:
    """A class: its text in parts, and where each weight of the graph lives in it.

    Attributes:
        modules: name of an operation instance (`n1.a.sep.conv`) to its path in the class.
        calls: id of a call to the attribute that holds the called cell.
        mixes: whether its `forward` takes the weights of mixed operations.
        drops: whether it uses drop-path.
        imports: Python modules whose operations it uses.
        helpers: classes of `nasdsl.runtime.standalone.blocks` that it uses.
    """

    graph: Graph
    name: str
    sizes: tuple[str, ...]
    init: tuple[Line, ...]
    forward: tuple[Line, ...]
    inputs: tuple[str, ...]
    modules: Mapping[str, str]
    calls: Mapping[str, str]
    mixes: bool
    drops: bool
    helpers: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    auxiliary: tuple[str, str] | None = None


def lower_module(module: Module, root_name: str) -> tuple[Lowered, ...]:
    """Every graph as a class, callees before callers; the root under `root_name`."""
    names = Namespace((*CLASSES, root_name))
    made: dict[str, Lowered] = {}

    def visit(graph: Graph) -> None:
        if graph.name in made:
            return
        for node in graph.nodes:
            if isinstance(node, Call):
                visit(module.by_name[node.graph])
        root = graph.name == module.root
        name = root_name if root else names.fresh(class_name(graph.name))
        made[graph.name] = _Lowering(graph, name, made, root).run()

    visit(module.network)
    return tuple(made.values())


class _Lowering:
    def __init__(self, graph: Graph, name: str, made: Mapping[str, Lowered], root: bool) -> None:
        self.graph = graph
        self.name = name
        self.made = made
        self.root = root
        self.locals = Namespace(_RESERVED)
        self.attributes = Namespace(ATTRIBUTES)
        self.text: dict[str, str] = {}
        self.init: list[Line] = []
        self.forward: list[Line] = []
        self.modules: dict[str, str] = {}
        self.calls: dict[str, str] = {}
        self.used_sizes: set[str] = set()
        self.drops = False
        self.helpers: set[str] = set()
        self.imports: set[str] = set()
        self.auxiliary: tuple[str, str] | None = None

    def run(self) -> Lowered:
        inputs = []
        for node in self.graph.inputs:
            self.text[node.id] = self.locals.fresh(node.id)
            inputs.append(self.text[node.id])
        for chain in self._chains():
            self._emit(chain)
        self.forward.append((f"return {self.text[self.graph.result]}", None))
        mixes = any(isinstance(n, Mix) for n in self.graph.nodes)
        calls = [self.made[n.graph] for n in self.graph.nodes if isinstance(n, Call)]
        return Lowered(
            graph=self.graph,
            name=self.name,
            sizes=tuple(s for s in self.graph.sizes if s in self.used_sizes),
            init=tuple(self.init),
            forward=tuple(self.forward),
            inputs=tuple(inputs),
            modules=self.modules,
            calls=self.calls,
            mixes=mixes or any(c.mixes for c in calls),
            drops=self.drops or any(c.drops for c in calls),
            helpers=frozenset(self.helpers),
            imports=frozenset(self.imports),
            auxiliary=self.auxiliary,
        )

    # --- grouping ------------------------------------------------------------

    def _chains(self) -> list[tuple[AnyNode, ...]]:
        """The nodes to emit, operations of one place that follow each other joined."""
        chains: list[list[AnyNode]] = []
        open_at: dict[str, list[AnyNode]] = {}
        for node in self.graph.nodes:
            if isinstance(node, (Input, Weight, State)) or not isinstance(node.type, TensorType):
                continue
            chain = open_at.pop(node.operands[0], None) if isinstance(node, Op) else None
            if chain is not None and self._joins(chain[-1], node):
                chain.append(node)
            else:
                chain = [node]
                chains.append(chain)
            if isinstance(node, Op) and PRIMITIVES[node.op].module is not None:
                open_at[node.id] = chain
        position = {n.id: i for i, n in enumerate(self.graph.nodes)}
        return [tuple(c) for c in sorted(chains, key=lambda c: position[c[-1].id])]

    def _joins(self, before: AnyNode, after: AnyNode) -> bool:
        alone = len(self.graph.readers[before.id]) == 1 and before.id != self.graph.result
        same = before.label == after.label
        return alone and same and isinstance(after, Op) and PRIMITIVES[after.op].module is not None

    # --- emission ------------------------------------------------------------

    def _emit(self, chain: tuple[AnyNode, ...]) -> None:
        last = chain[-1]
        if isinstance(last, Op):
            self._assign(last, self._operations(chain))
        elif isinstance(last, Merge):
            self._merge(last)
        elif isinstance(last, Mix):
            self._mix(last)
        elif isinstance(last, Call):
            self._call(last)

    def _operations(self, chain: tuple[AnyNode, ...]) -> str:
        """The expression of a chain, after adding its modules to `__init__`."""
        ops = [n for n in chain if isinstance(n, Op)]
        source = self.text[ops[0].operands[0]]
        if len(ops) == 1 and len(ops[0].operands) == 1:
            primitive = PRIMITIVES[ops[0].op]
            if primitive.function is not None:
                self.drops |= ops[0].op == "drop_path"
                return primitive.function(*self._types(ops[0]), dict(ops[0].values)).format(x=source)
        attribute = self.attributes.fresh(ops[0].label or ops[0].id)
        texts = [(self._module(n), n) for n in ops]
        if self.graph.auxiliary and ops[-1].id == self.graph.auxiliary:
            attribute = "auxiliary_head"
            inner = ", ".join(t for t, _ in texts)
            self.auxiliary = (f"nn.Sequential({inner})", source)
        elif len(texts) == 1:
            self.init.append((f"self.{attribute} = {texts[0][0]}", ops[0].loc))
        else:
            self.init.append((f"self.{attribute} = nn.Sequential(", ops[0].loc))
            self.init.extend((f"    {text},", node.loc) for text, node in texts)
            self.init.append((")", None))
        for index, node in enumerate(ops):
            if len(node.operands) > 1:
                path = attribute if len(ops) == 1 else f"{attribute}.{index}"
                self.modules[_instance(self.graph, node)] = path
        return f"self.{attribute}({source})"

    def _module(self, node: Op) -> str:
        """The constructor of a module; notes which sizes it needs."""
        primitive = PRIMITIVES[node.op]
        if primitive.module is None:
            raise TypeError(f"{node.op} has no module")
        text = primitive.module(*self._types(node), dict(node.values))
        self.used_sizes |= set(re.findall(r"[A-Za-z_]\w*", text)) & set(self.graph.sizes)
        if primitive.helper:
            self.helpers.add(primitive.helper)
        if primitive.opaque:
            self.imports.add(primitive.opaque)
        return text

    def _types(self, node: AnyNode) -> tuple[TensorType, TensorType]:
        source = self.graph.by_id[node.operands[0]].type
        if not isinstance(source, TensorType) or not isinstance(node.type, TensorType):
            raise TypeError(f"%{node.id} is not an operation on activations")
        return source, node.type

    def _assign(self, node: AnyNode, expression: str) -> None:
        """Gives a value a name, unless its only reader is a sum that can hold the expression."""
        if self.graph.auxiliary and node.id == self.graph.auxiliary:
            return
        readers = self.graph.readers[node.id]
        inline = (
            len(readers) == 1
            and node.id != self.graph.result
            and isinstance(self.graph.by_id[readers[0]], (Mix, Merge))
        )
        if inline:
            self.text[node.id] = expression
            return
        name = self.locals.fresh(_short(node))
        self.text[node.id] = name
        self.forward.append((f"{name} = {expression}", node.loc))

    def _merge(self, node: Merge) -> None:
        parts = [self.text[o] for o in node.operands]
        if node.merge == "concat":
            # Tokens are (B, L, D): their features are the last axis.
            axis = -1 if isinstance(node.type, TensorType) and node.type.layout == "tokens" else 1
            opening, closing = "torch.cat((", f"), {axis})"
            joint = ","
        else:
            opening, closing, joint = "(", ")", " +"
        short = f"{opening}{(joint + ' ').join(parts)}{closing}"
        name = self.locals.fresh(_short(node))
        if len(short) <= 80:
            text = short[1:-1] if node.merge == "sum" else short
            self.forward.append((f"{name} = {text}", node.loc))
        else:
            self.forward.append((f"{name} = {opening}", node.loc))
            for index, part in enumerate(parts):
                tail = joint if index + 1 < len(parts) else ""
                self.forward.append((f"    {part}{tail}", self.graph.by_id[node.operands[index]].loc))
            self.forward.append((closing, None))
        self.text[node.id] = name

    def _mix(self, node: Mix) -> None:
        """`mix(weights, (outputs))`, the weights read from `own` by the id of their vector."""
        acts = node.operands[node.vectors :]
        groups: list[tuple[int, list[int]]] = []
        for term in node.terms:
            if groups and groups[-1][0] == term.vector:
                groups[-1][1].append(term.entry)
            else:
                groups.append((term.vector, [term.entry]))
        weights = []
        for vector, entries in groups:
            key = literal(node.operands[vector])
            length = getattr(self.graph.by_id[node.operands[vector]].type, "length", 0)
            if entries == list(range(length)):
                weights.append(f"*own[{key}]")
            elif entries == list(range(entries[0], length)):
                weights.append(f"*own[{key}][{entries[0]}:]")
            else:
                weights.extend(f"own[{key}][{e}]" for e in entries)
        name = self.locals.fresh(_short(node))
        self.forward.append((f"{name} = mix(", node.loc))
        joined = (
            weights[0][1:] if len(weights) == 1 and weights[0].startswith("*") else f"({', '.join(weights)},)"
        )
        self.forward.append((f"    {joined},", None))
        self.forward.append(("    (", None))
        for act in acts:
            self.forward.append((f"        {self.text[act]},", self.graph.by_id[act].loc))
        self.forward.append(("    ),", None))
        self.forward.append((")", None))
        self.text[node.id] = name

    def _call(self, node: Call) -> None:
        target = self.made[node.graph]
        attribute = self.attributes.fresh(node.label or node.id)
        sizes = dict(node.sizes)
        arguments = [f"{s}={sizes[s]}" for s in target.sizes]
        for s in target.sizes:
            self.used_sizes |= sizes[s].names
        values = [self.text[o] for o in node.operands]
        if target.mixes:
            owner = literal(node.owner)
            if node.independent and not self.root:
                owner = f'f"{{owner}}." + {owner}'
            arguments.append(f"owner={owner}")
            values.append("w")
        self.init.append((f"self.{attribute} = {target.name}({', '.join(arguments)})", node.loc))
        self.calls[node.id] = attribute
        self._assign(node, f"self.{attribute}({', '.join(values)})")


def _instance(graph: Graph, node: Op) -> str:
    """The name that an operation's weights and state share."""
    first = graph.by_id[node.operands[1]]
    if isinstance(first, (Weight, State)):
        return first.name.rpartition(".")[0]
    return node.id


def _short(node: AnyNode) -> str:
    """A name for a local variable: the place, without what the place already says."""
    return node.label if node.label and not isinstance(node, Op) else (node.label or node.id)


def module_paths(lowered: tuple[Lowered, ...]) -> dict[tuple[str, ...], str]:
    """Where every operation instance lives in the root class: (call ids..., instance) to module path."""
    by_graph = {item.graph.name: item for item in lowered}

    def walk(item: Lowered) -> dict[tuple[str, ...], str]:
        found: dict[tuple[str, ...], str] = {(name,): path for name, path in item.modules.items()}
        for node in item.graph.nodes:
            if isinstance(node, Call):
                attribute = item.calls[node.id]
                for key, path in walk(by_graph[node.graph]).items():
                    found[(node.id, *key)] = f"{attribute}.{path}"
        return found

    return walk(lowered[-1])
