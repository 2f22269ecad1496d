"""Weighted sums: of outputs, of outputs that are never formed, and of filters.

Takes sums whose weights are learned, writes the lines that compute them. Invariant: weights are read from
`own` by the id of their vector; a term that has no weight at a step is not computed where its sum leaves
terms out.
"""

from __future__ import annotations

from collections.abc import Iterable

from nasdsl.codegen.draft import Draft, indented
from nasdsl.codegen.lowered import Home
from nasdsl.codegen.source import literal
from nasdsl.ir.graph import Graph
from nasdsl.ir.nodes import AnyNode, Blend, Loc, Mix, Op, Stack, WeightType
from nasdsl.ops.fused import BUNDLES


class Sums:
    """Lowers `Mix` and `Blend`."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.graph = draft.graph

    def mix(self, node: Mix) -> None:
        """`mix(weights, (outputs))`, or the module that forms some of the outputs only in their sum."""
        draft = self.draft
        acts = node.operands[node.vectors :]
        if node.inside:
            self._accumulated(node, acts)
            return
        name = draft.local(node)
        function = "mix_running" if node.sparse else "mix"
        draft.runtime.add(f"nasdsl.runtime.operators.mixed:{function}")
        if node.sparse:
            self._shared(node, acts)
        texts = [self._term(node, a) if node.sparse else draft.text[a] for a in acts]
        draft.write(f"{name} = {function}(", node.loc)
        draft.write(f"    {self._weights(node, range(len(acts)))},")
        self._values(texts, [self.graph.by_id[a].loc for a in acts])
        if node.sparse:
            draft.write("    self,")
        draft.write(")")
        draft.text[node.id] = name

    def blended(self, node: Op, blends: tuple[Blend, ...]) -> str:
        """`self.conv(x, own["..."])`, and for a fan one vector of weights a copy."""
        draft = self.draft
        first, fan = blends[0], node.op in BUNDLES
        length = self._length(first.operands[0])
        text = self._blended_module(node, blends, length)
        draft.note_sizes(text)
        draft.runtime.add(f"nasdsl.runtime.operators.blended:{'BlendedFan' if fan else 'BlendedConv'}")
        attribute = draft.attribute(node)
        draft.build(f"self.{attribute} = {text}", node.loc)
        for copy, blend in enumerate(blends):
            for index, name in enumerate(blend.operands[1 : 1 + length]):
                home = Home(f"{attribute}.convs.{index}", copy, len(blends), first.normalise)
                draft.settle(self.graph.by_id[name], home)
        vectors = ", ".join(f"own[{literal(b.operands[0])}]" for b in blends)
        source = draft.text[node.operands[0]]
        return f"self.{attribute}({source}, {f'({vectors},)' if fan else vectors})"

    def _blended_module(self, node: Op, blends: tuple[Blend, ...], length: int) -> str:
        """The constructor of a convolution whose filters are a weighted sum of `length` filters."""
        first, values = blends[0], dict(node.values)
        shapes = [self.graph.by_id[o].type for o in first.operands[1 : 1 + length]]
        kernels = f"({', '.join(str(s.shape[-1]) for s in shapes if isinstance(s, WeightType))},)"
        channels, result = (t.channels for t in self.draft.types(node))
        if node.op in BUNDLES:
            each = channels // len(blends) if node.op == "dwconv_lanes" else channels
            text = f"BlendedFan({each}, {kernels}, copies={len(blends)}"
        else:
            groups = channels if node.op == "dwconv" else values["groups"]
            text = f"BlendedConv({channels}, {result}, {kernels}, groups={groups}"
        text += "".join(f", {n}={values[n]}" for n in ("stride", "dilation") if values[n] != 1)
        text += ", bias=True" if len(first.operands) > 1 + length else ""
        return f"{text}, normalise={literal(first.normalise)})"

    def _shared(self, node: Mix, acts: tuple[str, ...]) -> None:
        """Writes what several terms of a sum are: one function could not hand it to the others."""
        for operand in dict.fromkeys(a for a in acts if acts.count(a) > 1):
            self.draft.forward.extend(self.draft.only_for(node, operand))

    def _term(self, node: Mix, operand: str) -> str:
        """A function that makes a term: what only it needs is computed inside."""
        draft = self.draft
        lines = draft.only_for(node, operand)
        if not lines:
            return f"lambda: {draft.text[operand]}"
        name = draft.local(self.graph.by_id[operand], prefix="make_")
        draft.write(f"def {name}() -> torch.Tensor:")
        draft.forward.extend(indented(lines))
        draft.write(f"    return {draft.text[operand]}")
        draft.write("")
        return name

    def _accumulated(self, node: Mix, acts: tuple[str, ...]) -> None:
        """`self.n(weights, plain terms, inputs of those that are never formed)`."""
        draft = self.draft
        inside = [self.graph.by_id[acts[i]] for i in node.inside]
        plain = [i for i in range(len(acts)) if i not in node.inside]
        first = inside[0]
        if not isinstance(first, Op):
            raise TypeError(f"%{first.id} is no operation")
        attribute = draft.attribute(node)
        source, result = draft.types(first)
        bias = ", bias=True" if dict(first.values)["bias"] else ""
        text = f"NormalisedMix({source.channels}, {result.channels}, {len(inside)}{bias})"
        draft.note_sizes(text)
        draft.runtime.add("nasdsl.runtime.operators.normalised:NormalisedMix")
        draft.build(f"self.{attribute} = {text}", node.loc)
        for index, term in enumerate(inside):
            if isinstance(term, Op):
                draft.house(term, attribute, index, len(inside))
        name = draft.local(node)
        draft.write(f"{name} = self.{attribute}(", node.loc)
        draft.write(f"    {self._weights(node, (*plain, *node.inside))},")
        self._values([draft.text[acts[i]] for i in plain], [self.graph.by_id[acts[i]].loc for i in plain])
        self._values([draft.text[t.operands[0]] for t in inside], [t.loc for t in inside])
        draft.write(")")
        draft.text[node.id] = name

    def _values(self, texts: list[str], locs: list[Loc | None]) -> None:
        """An argument that is a tuple, one value a line."""
        self.draft.write("    (")
        for text, loc in zip(texts, locs, strict=True):
            self.draft.write(f"        {text},", loc)
        self.draft.write("    ),")

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
            length = self._length(node.operands[vector])
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

    def _length(self, vector: str) -> int:
        return getattr(self.graph.by_id[vector].type, "length", 0)


def blends_of(graph: Graph, node: AnyNode) -> tuple[Blend, ...]:
    """The blends that an operation has for its filters: one, or one for each copy of a fan."""
    if not isinstance(node, Op) or len(node.operands) < 2:
        return ()
    found = graph.by_id[node.operands[1]]
    members = [graph.by_id[o] for o in found.operands] if isinstance(found, Stack) else [found]
    return tuple(m for m in members if isinstance(m, Blend))


def never_formed(graph: Graph) -> set[str]:
    """The terms that their sum computes itself."""
    sums = [n for n in graph.nodes if isinstance(n, Mix)]
    return {n.operands[n.vectors + i] for n in sums for i in n.inside}
