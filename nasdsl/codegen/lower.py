"""Lowering: one graph to one class.

Takes a graph, returns the lines of its `__init__` and `forward`. Invariant:
chains of operations written in one place become one `nn.Sequential`, named by
that place; `none` is never computed where it is an option; every line knows its
`.nas` place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nasdsl.codegen.lowered import Home, Line, Lowered, instances
from nasdsl.codegen.sizes import Sizes, SizesAt
from nasdsl.codegen.source import ATTRIBUTES, CLASSES, Namespace, class_name, literal
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.homes import ALWAYS, around, homes, required
from nasdsl.ir.homes import Home as Choice
from nasdsl.ir.nodes import (
    AnyNode,
    Blend,
    Branch,
    Call,
    Gather,
    Input,
    Loc,
    Merge,
    Mix,
    Op,
    Select,
    Stack,
    State,
    Weight,
    WeightType,
)
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.fused import BUNDLES
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
        made[graph.name] = _Lowering(graph, name, made, root, runtime, tables).run()

    visit(module.network)
    return tuple(made.values())


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        name: str,
        made: Mapping[str, Lowered],
        root: bool,
        runtime: bool,
        sizes: Sizes,
    ) -> None:
        self.graph = graph
        self.name = name
        self.made = made
        self.root = root
        self.runtime = runtime
        self.sizes = sizes
        self.used: set[str] = set()
        inside = [(n, i) for n in graph.nodes if isinstance(n, Mix) for i in n.inside]
        self.inside = {n.operands[n.vectors + i] for n, i in inside}
        self.locals = Namespace(_RESERVED)
        self.attributes = Namespace(ATTRIBUTES)
        self.text: dict[str, str] = {}
        self.init: list[Line] = []
        self.forward: list[Line] = []
        self.aside: dict[Choice, list[Line]] = {}
        self.homes = homes(graph) if any(_runs_one_of(n) for n in graph.nodes) else {}
        self.needs = _Needs(self) if any(_switches(n) for n in graph.nodes) else None
        self.modules: dict[str, Home] = {}
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
        whole = self.forward
        for chain in self._chains():
            self.forward = self._lines_of(chain[-1], whole)
            self._emit_if_needed(chain)
        self.forward = [*self.needs.lines, *whole] if self.needs is not None else whole
        self.forward.append((f"return {self.text[self.graph.result]}", None))
        mixes = any(isinstance(n, (Mix, Blend)) for n in self.graph.nodes)
        switches = any(_switches(n) for n in self.graph.nodes)
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
            switches=switches or any(c.switches for c in calls),
            drops=self.drops or any(c.drops for c in calls),
            helpers=frozenset(self.helpers),
            runtime=frozenset(self.used),
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
            if node.id in self.inside:
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
        readers = self.graph.readers[before.id]
        alone = len(readers) == 1 and before.id != self.graph.result
        same = before.label == after.label and not self._blends(before) and not self._blends(after)
        return alone and same and isinstance(after, Op) and PRIMITIVES[after.op].module is not None

    # --- emission ------------------------------------------------------------

    def _lines_of(self, node: AnyNode, whole: list[Line]) -> list[Line]:
        """Where the lines of a node go: into `forward`, or beside it where only a term that may not run needs it."""
        if self.homes:
            for home in around(self.homes, node.id):
                if _runs_one_of(self.graph.by_id[home[0]]):
                    return self.aside.setdefault(home, [])
        return whole

    def _emit_if_needed(self, chain: tuple[AnyNode, ...]) -> None:
        """`if needed:` around the lines of a value that some paths leave to nobody, though it lies in no one option."""
        need = self.needs.of(chain[-1].id) if self.needs is not None else ""
        lines, self.forward = self.forward, []
        self._emit(chain)
        if need and self.forward:
            lines.append((f"if {need}:", None))
            self.forward = [(f"    {text}", loc) for text, loc in self.forward]
        lines.extend(self.forward)
        self.forward = lines

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
        elif isinstance(last, (Select, Branch)):
            self._switch(last)
        elif isinstance(last, Gather):
            self._gather(last)

    def _operations(self, chain: tuple[AnyNode, ...]) -> str:
        """The expression of a chain, after adding its modules to `__init__`."""
        ops = [n for n in chain if isinstance(n, Op)]
        source = self.text[ops[0].operands[0]]
        blends = self._blends(ops[0])
        if blends:
            return self._blended(ops[0], blends, source)
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
                self._house(node, attribute if len(ops) == 1 else f"{attribute}.{index}")
        return f"self.{attribute}({source})"

    def _blends(self, node: AnyNode) -> tuple[Blend, ...]:
        """The blends that an operation has for its filters: one, or one for each copy of a fan."""
        if not isinstance(node, Op) or len(node.operands) < 2:
            return ()
        found = self.graph.by_id[node.operands[1]]
        members = [self.graph.by_id[o] for o in found.operands] if isinstance(found, Stack) else [found]
        return tuple(m for m in members if isinstance(m, Blend))

    def _blended(self, node: Op, blends: tuple[Blend, ...], source: str) -> str:
        """`self.conv(x, own["..."])`, and for a fan one vector of weights a copy."""
        first, fan = blends[0], node.op in BUNDLES
        values = dict(node.values)
        length = getattr(self.graph.by_id[first.operands[0]].type, "length", 0)
        shapes = [self.graph.by_id[o].type for o in first.operands[1 : 1 + length]]
        kernels = f"({', '.join(str(s.shape[-1]) for s in shapes if isinstance(s, WeightType))},)"
        channels, result = (t.channels for t in self._types(node))
        if fan:
            each = channels // len(blends) if node.op == "dwconv_lanes" else channels
            text = f"BlendedFan({each}, {kernels}, copies={len(blends)}"
        else:
            groups = channels if node.op == "dwconv" else values["groups"]
            text = f"BlendedConv({channels}, {result}, {kernels}, groups={groups}"
        text += "".join(f", {n}={values[n]}" for n in ("stride", "dilation") if values[n] != 1)
        text += ", bias=True" if len(first.operands) > 1 + length else ""
        text += f", normalise={literal(first.normalise)})"
        self.used_sizes |= set(re.findall(r"[A-Za-z_]\w*", text)) & set(self.graph.sizes)
        self.used.add(f"nasdsl.runtime.operators.blended:{'BlendedFan' if fan else 'BlendedConv'}")
        attribute = self.attributes.fresh(node.label or node.id)
        self.init.append((f"self.{attribute} = {text}", node.loc))
        for copy, blend in enumerate(blends):
            for index, name in enumerate(blend.operands[1 : 1 + length]):
                path = f"{attribute}.convs.{index}"
                for known in instances(self.graph.by_id[name]):
                    self.modules.setdefault(known, Home(path, copy, len(blends), first.normalise))
        vectors = ", ".join(f"own[{literal(b.operands[0])}]" for b in blends)
        return f"self.{attribute}({source}, {f'({vectors},)' if fan else vectors})"

    def _module(self, node: Op) -> str:
        """The constructor of a module; notes which sizes it needs."""
        primitive = PRIMITIVES[node.op]
        if primitive.module is None:
            raise TypeError(f"{node.op} has no module")
        if self._elastic(node):
            return self._elastic_module(node)
        make = primitive.module
        if self.runtime and primitive.runtime:
            make = primitive.runtime_module or make
        text = make(*self._types(node), dict(node.values))
        if text.startswith(f"{primitive.runtime.rpartition(':')[2]}("):
            self.used.add(primitive.runtime)
        self.used_sizes |= set(re.findall(r"[A-Za-z_]\w*", text)) & set(self.graph.sizes)
        if primitive.helper:
            self.helpers.add(primitive.helper)
        if primitive.opaque:
            self.imports.add(primitive.opaque)
        return text

    def _elastic(self, node: Op) -> bool:
        """Whether a weight of an operation has a size that the path settles."""
        weights = (self.graph.by_id[o].type for o in node.operands[1:])
        return any(d.cases for w in weights if isinstance(w, WeightType) for d in w.shape)

    def _elastic_module(self, node: Op) -> str:
        primitive = PRIMITIVES[node.op]
        if primitive.elastic is None:
            raise TypeError(f"{node.op} cannot take its size from a path")
        place = SizesAt(self.sizes, f"{node.label}.{node.op}")
        text = primitive.elastic(*self._types(node), dict(node.values), place)
        self.used.add(f"nasdsl.runtime.operators.elastic:{text.partition('(')[0]}")
        return text

    def _house(self, node: Op, path: str, index: int = 0, count: int = 1) -> None:
        """Notes where the weights and the state of an operation live."""
        for position, name in enumerate(node.operands[1:]):
            part = ".".join((path, *self._inner(node, position)))
            found = self.graph.by_id[name]
            members = [self.graph.by_id[o] for o in found.operands] if isinstance(found, Stack) else [found]
            for number, member in enumerate(members):
                home = Home(part, index * len(members) + number, count * len(members))
                for known in instances(member):
                    self.modules.setdefault(known, home)

    def _inner(self, node: Op, position: int) -> list[str]:
        """Where in its module a weight of an operation that passes made lives: `conv` for `conv.weight`."""
        primitive = PRIMITIVES[node.op]
        if not primitive.internal:
            return []
        source, values = self._types(node)[0], dict(node.values)
        role = (*primitive.weights(source, values), *primitive.state(source, values))[position].role
        return role.split(".")[:-1]

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
            and isinstance(self.graph.by_id[readers[0]], (Mix, Merge, Select, Branch, Gather))
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
        if node.inside:
            self._accumulated(node, acts)
            return
        name = self.locals.fresh(_short(node))
        function = "mix_running" if node.sparse else "mix"
        self.used.add(f"nasdsl.runtime.operators.mixed:{function}")
        texts = [self._term(node, a) if node.sparse else self.text[a] for a in acts]
        self.forward.append((f"{name} = {function}(", node.loc))
        weights = self._weights(node, range(len(acts)))
        self.forward.append((f"    {weights},", None))
        self._values("(", texts, [self.graph.by_id[a].loc for a in acts], "),")
        if node.sparse:
            self.forward.append(("    self,", None))
        self.forward.append((")", None))
        self.text[node.id] = name

    def _term(self, node: Mix, operand: str) -> str:
        """A function that makes a term: what only it needs is computed inside."""
        lines = self.aside.pop((node.id, operand), [])
        if not lines:
            return f"lambda: {self.text[operand]}"
        name = self.locals.fresh(f"make_{_short(self.graph.by_id[operand])}")
        self.forward.append((f"def {name}() -> torch.Tensor:", None))
        self.forward.extend((f"    {text}", loc) for text, loc in lines)
        self.forward.append((f"    return {self.text[operand]}", None))
        self.forward.append(("", None))
        return name

    def _switch(self, node: Select | Branch) -> None:
        """`if at[...] == "option":` and what makes it, for every operand; the last is the `else`."""
        name = self.locals.fresh(_short(node))
        tests = self._tests(node)
        for index, (operand, test) in enumerate(tests):
            last = index + 1 == len(tests)
            word = "if" if index == 0 else "else" if last else "elif"
            if len(tests) > 1:
                self.forward.append((f"{word}:" if word == "else" else f"{word} {test}:", None))
            self._option(node, operand, f"{name} = {{}}", 0 if len(tests) == 1 else 4)
        self.text[node.id] = name

    def _tests(self, node: Select | Branch) -> list[tuple[str, str]]:
        """Every operand, once, and the condition under which it is the value."""
        if isinstance(node, Branch):
            key = self.sizes.key(node.condition, f"{node.label} is there")
            return [(node.operands[0], f"self.path.sizes[{literal(key)}]"), (node.operands[1], "")]
        grouped: dict[str, list[str]] = {}
        for option, operand in zip(node.options, node.operands, strict=True):
            grouped.setdefault(operand, []).append(option)
        at = self._at(node.decision)
        return [
            (
                operand,
                f"{at} == {literal(names[0])}" if len(names) == 1 else f"{at} in {literal(tuple(names))}",
            )
            for operand, names in grouped.items()
        ]

    def _gather(self, node: Gather) -> None:
        """The chosen operands in a list, each made where it is chosen; then their sum or concatenation."""
        terms = self.locals.fresh(f"{_short(node)}_terms")
        self.forward.append((f"{terms} = []", node.loc))
        for operand in dict.fromkeys(node.operands):
            lines = self.aside.pop((node.id, operand), []) if node.operands.count(operand) > 1 else []
            if lines:  # one value under two names: made once, before either asks for it
                self.forward.append((f"if {self._taken(node, operand)}:", None))
                self.forward.extend((f"    {text}", loc) for text, loc in lines)
        for name, operand in zip(node.names, node.operands, strict=True):
            self.forward.append((f"if {literal(name)} in {self._at(node.decision)}:", None))
            self._option(node, operand, f"{terms}.append({{}})", 4)
        name = self.locals.fresh(_short(node))
        if node.merge == "sum":
            self.used.add("nasdsl.runtime.paths.supernet:total")
            self.forward.append((f"{name} = total({terms})", None))
        else:
            axis = -1 if isinstance(node.type, TensorType) and node.type.layout == "tokens" else 1
            self.forward.append((f"{name} = torch.cat({terms}, {axis})", None))
        self.text[node.id] = name

    def _option(self, node: AnyNode, operand: str, form: str, indent: int) -> None:
        """The lines that only an option needs, and what is done with its value."""
        margin = " " * indent
        lines = self.aside.pop((node.id, operand), [])
        self.forward.extend((f"{margin}{text}", loc) for text, loc in lines)
        self.forward.append((margin + form.format(self.text[operand]), self.graph.by_id[operand].loc))

    def _taken(self, node: Select | Branch | Gather, operand: str) -> str:
        """The condition under which a choice takes an operand; "" for always."""
        if set(node.operands) == {operand} and not isinstance(node, Gather):
            return ""
        if isinstance(node, Gather):
            named = [n for n, o in zip(node.names, node.operands, strict=True) if o == operand]
            return " or ".join(f"{literal(n)} in {self._at(node.decision)}" for n in named)
        tests = dict(self._tests(node))
        return tests[operand] or f"not {tests[node.operands[0]]}"

    def _at(self, decision: str) -> str:
        """The value of a decision under the path."""
        if self.root or decision.startswith("/"):
            return f"at[{literal(decision.removeprefix('/'))}]"
        return f"at[self.owner + {literal(decision)}]"

    def _accumulated(self, node: Mix, acts: tuple[str, ...]) -> None:
        """`self.n(weights, plain terms, inputs of those that are never formed)`."""
        inside = [self.graph.by_id[acts[i]] for i in node.inside]
        plain = [i for i in range(len(acts)) if i not in node.inside]
        first = inside[0]
        if not isinstance(first, Op):
            raise TypeError(f"%{first.id} is no operation")
        attribute = self.attributes.fresh(node.label or node.id)
        source, result = self._types(first)
        bias = ", bias=True" if dict(first.values)["bias"] else ""
        text = f"NormalisedMix({source.channels}, {result.channels}, {len(inside)}{bias})"
        self.used_sizes |= set(re.findall(r"[A-Za-z_]\w*", text)) & set(self.graph.sizes)
        self.used.add("nasdsl.runtime.operators.normalised:NormalisedMix")
        self.init.append((f"self.{attribute} = {text}", node.loc))
        for index, term in enumerate(inside):
            if isinstance(term, Op):
                self._house(term, attribute, index, len(inside))
        name = self.locals.fresh(_short(node))
        self.forward.append((f"{name} = self.{attribute}(", node.loc))
        self.forward.append((f"    {self._weights(node, (*plain, *node.inside))},", None))
        locs = [self.graph.by_id[acts[i]].loc for i in plain]
        self._values("(", [self.text[acts[i]] for i in plain], locs, "),")
        self._values("(", [self.text[t.operands[0]] for t in inside], [t.loc for t in inside], "),")
        self.forward.append((")", None))
        self.text[node.id] = name

    def _values(self, opening: str, texts: list[str], locs: list[Loc | None], closing: str) -> None:
        self.forward.append((f"    {opening}", None))
        for text, loc in zip(texts, locs, strict=True):
            self.forward.append((f"        {text},", loc))
        self.forward.append((f"    {closing}", None))

    def _weights(self, node: Mix, order: Iterable[int]) -> str:
        """The weights of some terms, in order, as an expression over `own`."""
        groups: list[tuple[int, list[int]]] = []
        for index in order:
            term = node.terms[index]
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
            elif len(entries) > 1 and entries == list(range(entries[0], entries[-1] + 1)):
                weights.append(f"*own[{key}][{entries[0]}:{entries[-1] + 1}]")
            else:
                weights.extend(f"own[{key}][{e}]" for e in entries)
        alone = len(weights) == 1 and weights[0].startswith("*")
        return weights[0][1:] if alone else f"({', '.join(weights)},)"

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
        elif target.switches:
            owner = literal(f"{node.owner}." if node.owner else "")
            arguments.append(f"owner={f'owner + {owner}' if node.independent and not self.root else owner}")
        self.init.append((f"self.{attribute} = {target.name}({', '.join(arguments)})", node.loc))
        self.calls[node.id] = attribute
        if node.recompute:
            self.used.add("nasdsl.runtime.operators.recompute:recomputed")
            self._assign(node, f"recomputed(self.{attribute}, {', '.join(values)})")
        else:
            self._assign(node, f"self.{attribute}({', '.join(values)})")


class _Needs:
    """When a value is needed that belongs to no one option, and yet not to every path.

    A node of a cell that other nodes may choose as an input is such a value: where none does, it must
    not run, though every reader of it may.
    """

    def __init__(self, lowering: _Lowering) -> None:
        self.lowering = lowering
        self.graph, self.homes = lowering.graph, lowering.homes
        self.position = {n.id: i for i, n in enumerate(self.graph.nodes)}
        self.required = required(self.graph)
        self.names: dict[str, str] = {}
        self.lines: list[Line] = []

    def of(self, name: str) -> str:
        """The variable that says whether a node is needed; "" where its surroundings say it."""
        home = self.homes[name]
        sink = self.graph.result if home == ALWAYS else home[1]
        if self.required[sink] >> self.position[name] & 1:
            return ""
        if name not in self.names:
            readers = (self.graph.by_id[r] for r in dict.fromkeys(self.graph.readers[name]))
            ways = dict.fromkeys(" and ".join(self._way(r, name)) for r in readers)
            found = " or ".join(ways)
            if found not in self.names.values():
                condition = found
                found = self.lowering.locals.fresh(f"need_{_short(self.graph.by_id[name])}")
                self.lines.append((f"{found} = {condition}", None))
            self.names[name] = found
        return self.names[name]

    def _way(self, reader: AnyNode, name: str) -> list[str]:
        """The conditions that must all hold for a value to be needed by a reader."""
        found = [self._takes(reader, name)] if isinstance(reader, (Select, Branch, Gather)) else []
        while True:
            found.append(self.of(reader.id))
            home = self.homes[reader.id]
            if found[-1] or home == ALWAYS:
                return [f for f in found if f] or ["True"]
            reader = self.graph.by_id[home[0]]
            found.append(self._takes(reader, home[1]))

    def _takes(self, choice: AnyNode, operand: str) -> str:
        if not isinstance(choice, (Select, Branch, Gather)):
            raise TypeError(f"%{choice.id} is no choice that a path settles")
        condition = self.lowering._taken(choice, operand)
        return f"({condition})" if " or " in condition else condition


def _switches(node: AnyNode) -> bool:
    """Whether the path of the step settles what a node is."""
    return isinstance(node, (Select, Branch, Gather))


def _runs_one_of(node: AnyNode) -> bool:
    """Whether what only one operand needs is computed only where that operand is taken."""
    return _switches(node) or (isinstance(node, Mix) and node.sparse)


def _short(node: AnyNode) -> str:
    """A name for a local variable: the place, without what the place already says."""
    return node.label if node.label and not isinstance(node, Op) else (node.label or node.id)
