"""Lowering: one graph to one class.

Takes a graph, returns the lines of its `__init__` and `forward`. Invariant: every value is written once,
in the order of the graph, operations of one place that follow each other together; `none` is never
computed where it is an option; every line knows its `.nas` place.

What a node becomes is written by `operations.py`, `sums.py` and `switches.py`, each into the one draft
(`draft.py`); here is the walk, and what joins classes: merges and calls.
"""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.codegen.draft import Draft, Switch, axis_of, indented
from nasdsl.codegen.lowered import Lowered
from nasdsl.codegen.operations import Operations
from nasdsl.codegen.sizes import Sizes
from nasdsl.codegen.source import CLASSES, Namespace, class_name, literal
from nasdsl.codegen.sums import Sums, blends_of, never_formed
from nasdsl.codegen.switches import Switches
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.nodes import (
    AnyNode,
    Blend,
    Branch,
    Call,
    Gather,
    Input,
    Merge,
    Mix,
    Op,
    Select,
    State,
    Weight,
)
from nasdsl.ops import PRIMITIVES
from nasdsl.types import TensorType


def lower_module(
    module: Module, root_name: str, runtime: bool = False, sizes: Sizes | None = None
) -> tuple[Lowered, ...]:
    """Every graph as a class, callees before callers; the root under `root_name`.

    Args:
        runtime: whether classes of the runtime may be used: in supernets, not in `model.py`.
        sizes: collects the sizes that a path settles.
    """
    tables = Sizes() if sizes is None else sizes
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
        draft = Draft(graph, root)
        operations = Operations(draft, tables, runtime)
        made[graph.name] = _Lowering(draft, operations, Switches(draft, tables), made).run(name)

    visit(module.network)
    return tuple(made.values())


class _Lowering:
    """The walk over one graph.

    Attributes:
        made: the classes of the graphs that it calls, by their names.
    """

    def __init__(
        self, draft: Draft, operations: Operations, switches: Switches, made: Mapping[str, Lowered]
    ) -> None:
        self.draft = draft
        self.graph = draft.graph
        self.operations = operations
        self.sums = Sums(draft)
        self.switches = switches
        self.made = made

    def run(self, name: str) -> Lowered:
        """The class of the graph, under a name."""
        draft = self.draft
        inputs = []
        for node in self.graph.inputs:
            draft.text[node.id] = draft.locals.fresh(node.id)
            inputs.append(draft.text[node.id])
        for chain in self._chains():
            self._place(chain)
        draft.write(f"return {draft.text[self.graph.result]}")
        calls = [self.made[n.graph] for n in self.graph.nodes if isinstance(n, Call)]
        return Lowered(
            graph=self.graph,
            name=name,
            sizes=tuple(s for s in self.graph.sizes if s in draft.sizes),
            init=tuple(draft.init),
            forward=(*self.switches.needs, *draft.forward),
            inputs=tuple(inputs),
            modules=draft.modules,
            calls=draft.calls,
            mixes=self._has(Mix, Blend) or any(c.mixes for c in calls),
            switches=self._has(Select, Branch, Gather) or any(c.switches for c in calls),
            drops=draft.drops or any(c.drops for c in calls),
            helpers=frozenset(draft.helpers),
            runtime=frozenset(draft.runtime),
            imports=frozenset(draft.imports),
            auxiliary=draft.auxiliary,
        )

    def _has(self, *kinds: type[AnyNode]) -> bool:
        return any(isinstance(n, kinds) for n in self.graph.nodes)

    # --- grouping ------------------------------------------------------------

    def _chains(self) -> list[tuple[AnyNode, ...]]:
        """The nodes to write, operations of one place that follow each other joined."""
        chains: list[list[AnyNode]] = []
        open_at: dict[str, list[AnyNode]] = {}
        inside = never_formed(self.graph)
        for node in self.graph.nodes:
            if isinstance(node, (Input, Weight, State)) or not isinstance(node.type, TensorType):
                continue
            if node.id in inside:
                continue  # its mix computes it
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
        """Whether an operation belongs into the `nn.Sequential` of the one before it."""
        readers = self.graph.readers[before.id]
        alone = len(readers) == 1 and before.id != self.graph.result
        plain = not blends_of(self.graph, before) and not blends_of(self.graph, after)
        same = before.label == after.label and plain
        return alone and same and isinstance(after, Op) and PRIMITIVES[after.op].module is not None

    # --- writing -------------------------------------------------------------

    def _place(self, chain: tuple[AnyNode, ...]) -> None:
        """Writes a chain where it belongs.

        `if needed:` stands around a value that some paths leave to nobody, though it lies in no one option.
        """
        lines = self.draft.place(chain[-1])
        need = self.switches.need(chain[-1].id)
        with self.draft.collecting() as written:
            self._write(chain)
        if need and written:
            lines.append((f"if {need}:", None))
            written = indented(written)
        lines.extend(written)

    def _write(self, chain: tuple[AnyNode, ...]) -> None:
        last = chain[-1]
        if isinstance(last, Op):
            blends = blends_of(self.graph, last)
            ops = [n for n in chain if isinstance(n, Op)]
            self._assign(last, self.sums.blended(last, blends) if blends else self.operations.chain(ops))
        elif isinstance(last, Merge):
            self._merge(last)
        elif isinstance(last, Mix):
            self.sums.mix(last)
        elif isinstance(last, Call):
            self._call(last)
        elif isinstance(last, (Select, Branch)):
            self.switches.switch(last)
        elif isinstance(last, Gather):
            self.switches.gather(last)

    def _assign(self, node: AnyNode, expression: str) -> None:
        """Gives a value a name, unless its only reader can hold the expression."""
        if self.graph.auxiliary and node.id == self.graph.auxiliary:
            return
        readers = self.graph.readers[node.id]
        inline = (
            len(readers) == 1
            and node.id != self.graph.result
            and isinstance(self.graph.by_id[readers[0]], (Mix, Merge, Switch))
        )
        if inline:
            self.draft.text[node.id] = expression
            return
        name = self.draft.local(node)
        self.draft.text[node.id] = name
        self.draft.write(f"{name} = {expression}", node.loc)

    def _merge(self, node: Merge) -> None:
        """A sum or a concatenation of all operands; one a line where they are long."""
        draft = self.draft
        parts = [draft.text[o] for o in node.operands]
        if node.merge == "concat":
            opening, closing, joint = "torch.cat((", f"), {axis_of(node)})", ","
        else:
            opening, closing, joint = "(", ")", " +"
        short = f"{opening}{(joint + ' ').join(parts)}{closing}"
        name = draft.local(node)
        if len(short) <= 80:
            text = short[1:-1] if node.merge == "sum" else short
            draft.write(f"{name} = {text}", node.loc)
        else:
            draft.write(f"{name} = {opening}", node.loc)
            for index, part in enumerate(parts):
                tail = joint if index + 1 < len(parts) else ""
                draft.write(f"    {part}{tail}", self.graph.by_id[node.operands[index]].loc)
            draft.write(closing)
        draft.text[node.id] = name

    def _call(self, node: Call) -> None:
        """A cell in `__init__`, with what it does not know of itself: its sizes and its owner."""
        draft, target = self.draft, self.made[node.graph]
        attribute = draft.attribute(node)
        sizes = dict(node.sizes)
        arguments = [f"{s}={sizes[s]}" for s in target.sizes]
        for s in target.sizes:
            draft.sizes |= sizes[s].names
        values = [draft.text[o] for o in node.operands]
        if target.mixes:
            owner = literal(node.owner)
            if node.independent and not draft.root:
                owner = f'f"{{owner}}." + {owner}'
            arguments.append(f"owner={owner}")
            values.append("w")
        elif target.switches:
            owner = literal(f"{node.owner}." if node.owner else "")
            arguments.append(f"owner={f'owner + {owner}' if node.independent and not draft.root else owner}")
        draft.build(f"self.{attribute} = {target.name}({', '.join(arguments)})", node.loc)
        draft.calls[node.id] = attribute
        if node.recompute:
            draft.runtime.add("nasdsl.runtime.operators.recompute:recomputed")
            self._assign(node, f"recomputed(self.{attribute}, {', '.join(values)})")
        else:
            self._assign(node, f"self.{attribute}({', '.join(values)})")
