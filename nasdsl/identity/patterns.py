"""Cells too large to enumerate: patterns of opaque operations, coloured up to symmetry.

Takes the graph of a cell and its decisions, returns the exact number of distinct
cells and draws them uniformly. Invariant: equal to enumeration wherever that can be
carried out (a test does).

Most options of an edge are opaque: chains that end in one fresh vertex, so which of
them is taken changes one label and nothing else. So the cell is enumerated with
`some opaque option` as a single value of each choice; every pattern that comes out
is a graph with slots, and its colourings by the opaque options are counted up to the
automorphisms of the graph (Burnside's lemma). What is not opaque (`id`, `none`,
sums) stays in the enumeration, because it flattens and contracts.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from math import prod

import attrs

from nasdsl.cases import Choice
from nasdsl.identity.canonical import Expander, Form, Value, certificate, labelled, live, search
from nasdsl.identity.encodings import Encodings
from nasdsl.ir.graph import Graph, Module
from nasdsl.ir.homes import homes
from nasdsl.ir.nodes import AnyNode, Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.space.decisions import Decision, DecisionTable
from nasdsl.types import Integer, TensorType

MAX_PATTERNS = 120_000
MAX_SYMMETRIES = 50_000
OPAQUE = "\0opaque"
"""Stands for any of the opaque options of a choice."""


class NotByPatternsError(Exception):
    """The cell has no structure that this can use."""


@attrs.frozen
class Cell:
    """One use of a cell: what a count needs to know.

    Attributes:
        owner: path of its decisions.
        sizes: the sizes of the use.
    """

    module: Module
    graph: Graph
    owner: str
    sizes: Mapping[str, Integer]

    def form(self, choices: Mapping[str, Choice], expander: type[Expander] = Expander) -> Form:
        """The vertices of the cell, its inputs told apart."""
        form = Form()
        inputs = [form.add(("in", i)) for i, _ in enumerate(self.graph.inputs)]
        form.result = expander(self.module, choices, form).graph(self.graph, self.owner, inputs, self.sizes)
        return live(form)


@attrs.frozen
class Slots:
    """The opaque options of one choice: names by what they compute, and the node that all of them read."""

    source: str
    palette: tuple[tuple[Hashable, str], ...]


@attrs.frozen
class Class:
    """A pattern: one encoding of it, and its slots with the automorphisms that permute them."""

    choices: Mapping[str, Choice]
    slots: tuple[tuple[str, int], ...]
    symmetries: tuple[tuple[int, ...], ...]

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """For every symmetry, the number of colourings that it leaves alone."""
        return tuple(prod(self.slots[c[0]][1] for c in _cycles(s)) for s in self.symmetries)

    @property
    def count(self) -> int:
        """Colourings up to symmetry (Burnside's lemma)."""
        return sum(self.weights) // len(self.symmetries)


class Patterns:
    """The distinct cells of one set of decisions."""

    def __init__(self, cell: Cell, table: DecisionTable) -> None:
        self.cell = cell
        self.table = table
        self.slots = _opaque_options(cell)
        palettes = {tuple(k for k, _ in s.palette) for s in self.slots.values()}
        for one in palettes:
            for other in palettes:
                if one != other and set(one) & set(other):
                    raise NotByPatternsError("choices share some opaque options and not others")

    @cached_property
    def classes(self) -> tuple[Class, ...]:
        """One representative of every pattern. Raises NotByPatternsError when there are too many."""
        table = DecisionTable(tuple(self._folded(d) for d in self.table.decisions))
        encodings = Encodings(table)
        if encodings.count() > MAX_PATTERNS:
            raise NotByPatternsError("too many patterns")
        found: dict[Hashable, Class] = {}
        expander = _with_slots(self.slots, self.cell.owner)
        for choices in encodings.all():
            form = self.cell.form(choices, expander)
            graph = labelled(form)
            canonical = search(graph)
            if canonical.certificate not in found:
                found[canonical.certificate] = _class(choices, graph.labels, canonical.generators)
        return tuple(found.values())

    @property
    def count(self) -> int:
        """How many distinct cells there are."""
        return sum(c.count for c in self.classes)

    def sample(self, rng: random.Random) -> dict[str, Choice]:
        """An encoding of a cell that is uniform over the distinct ones."""
        ticket = rng.randrange(self.count)
        for found in self.classes:
            if ticket < found.count:
                return self._colour(found, rng)
            ticket -= found.count
        raise AssertionError("the counts of the patterns do not add up")

    def _folded(self, decision: Decision) -> Decision:
        """A choice with its opaque options as one."""
        slots = self.slots.get(self._local(decision.path))
        if slots is None:
            return decision
        opaque = {name for _, name in slots.palette}
        kept = tuple(o for o in decision.options if o not in opaque and not self._duplicate(decision, o))
        return attrs.evolve(decision, options=(*kept, OPAQUE))

    def _duplicate(self, decision: Decision, option: str) -> bool:
        """Whether an opaque option computes what another one does: then it is no colour of its own."""
        return option in duplicates(self.cell).get(self._local(decision.path), ())

    def _local(self, path: str) -> str:
        return path.removeprefix(f"{self.cell.owner}.") if self.cell.owner else path

    def _colour(self, found: Class, rng: random.Random) -> dict[str, Choice]:
        """A colouring whose orbit is uniform: one that a symmetry leaves alone, pairs drawn uniformly."""
        (symmetry,) = rng.choices(found.symmetries, weights=None) if len(found.symmetries) == 1 else (None,)
        if symmetry is None:
            ticket = rng.randrange(sum(found.weights))
            for candidate, weight in zip(found.symmetries, found.weights, strict=True):
                if ticket < weight:
                    symmetry = candidate
                    break
                ticket -= weight
        assert symmetry is not None  # the weights add up to the bound of the ticket
        choices = dict(found.choices)
        for cycle in _cycles(symmetry):
            path, size = found.slots[cycle[0]]
            colour = rng.randrange(size)
            for place in cycle:
                path = found.slots[place][0]
                choices[path] = self.slots[self._local(path)].palette[colour][1]
        return choices


def _class(
    choices: Mapping[str, Choice], labels: tuple[Hashable, ...], generators: tuple[tuple[int, ...], ...]
) -> Class:
    places = [i for i, label in enumerate(labels) if _slot(label) is not None]
    decisions = tuple(_slot(labels[i]) or ("", 0) for i in places)
    position = {vertex: n for n, vertex in enumerate(places)}
    # Automorphisms that leave every slot alone do nothing to a colouring.
    acting = {tuple(position[g[vertex]] for vertex in places) for g in generators}
    return Class(dict(choices), decisions, _generated(acting, len(places)))


def _generated(generators: Iterable[tuple[int, ...]], size: int) -> tuple[tuple[int, ...], ...]:
    """All permutations that the given ones generate, in order."""
    identity = tuple(range(size))
    found, stack = {identity}, [identity]
    while stack:
        one = stack.pop()
        for generator in generators:
            made = tuple(generator[i] for i in one)
            if made not in found:
                found.add(made)
                stack.append(made)
        if len(found) > MAX_SYMMETRIES:
            raise NotByPatternsError("a pattern has too many symmetries")
    return tuple(sorted(found))


def _cycles(permutation: tuple[int, ...]) -> Iterator[list[int]]:
    seen: set[int] = set()
    for start in range(len(permutation)):
        cycle = []
        at = start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = permutation[at]
        if cycle:
            yield cycle


@attrs.frozen
class _SlotLabel:
    """The label of a slot: equal for equal palettes; the decision rides along."""

    palette: tuple[Hashable, ...]
    decision: str = attrs.field(eq=False, repr=False)


def _slot(label: Hashable) -> tuple[str, int] | None:
    inner = label[1] if isinstance(label, tuple) and len(label) == 2 else None
    return (inner.decision, len(inner.palette)) if isinstance(inner, _SlotLabel) else None


def _with_slots(slots: Mapping[str, Slots], cell_owner: str) -> type[Expander]:
    """An expander for which OPAQUE is a value of a choice: one vertex, a slot."""

    class SlotExpander(Expander):
        def _open(self, node: AnyNode, owner: str) -> Slots | None:
            if not isinstance(node, Select) or owner != cell_owner or node.decision not in slots:
                return None
            return slots[node.decision] if self._choice(node.decision, owner) == OPAQUE else None

        def _reads(self, node: AnyNode, owner: str) -> tuple[str, ...]:
            found = self._open(node, owner)
            return super()._reads(node, owner) if found is None else (found.source,)

        def _node(
            self, graph: Graph, node: AnyNode, owner: str, parts: list[Value], sizes: Mapping[str, Integer]
        ) -> Value:
            found = self._open(node, owner)
            if found is None or not isinstance(node, Select):
                return super()._node(graph, node, owner, parts, sizes)
            if not parts[0]:
                return ()
            path = f"{owner}.{node.decision}" if owner else node.decision
            return self.form.add(_SlotLabel(tuple(k for k, _ in found.palette), path), (parts[0],))

    return SlotExpander


def _opaque_options(cell: Cell) -> dict[str, Slots]:
    """For every choice of an operation in the cell, the options that are opaque."""
    graph = cell.graph
    belongs = homes(graph)
    found: dict[str, Slots] = {}
    for node in graph.nodes:
        if not isinstance(node, Select):
            continue
        palette: dict[Hashable, str] = {}
        sources: set[str] = set()
        for option, operand in zip(node.options, node.operands, strict=True):
            source = _source(graph, belongs, node.id, operand)
            if source is None:
                continue
            key = _option_form(cell, node, operand, source)
            if key is not None and key not in palette:
                palette[key] = option
                sources.add(source)
        if len(sources) == 1 and palette:
            found[node.decision] = Slots(
                sources.pop(), tuple(sorted(palette.items(), key=lambda i: repr(i[0])))
            )
    return found


def duplicates(cell: Cell) -> dict[str, tuple[str, ...]]:
    """Opaque options that compute what an earlier one computes."""
    graph = cell.graph
    belongs = homes(graph)
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if isinstance(node, Select):
            seen: dict[Hashable, str] = {}
            again = []
            for option, operand in zip(node.options, node.operands, strict=True):
                source = _source(graph, belongs, node.id, operand)
                key = _option_form(cell, node, operand, source) if source is not None else None
                if key is not None and key in seen:
                    again.append(option)
                elif key is not None:
                    seen[key] = option
            found[node.decision] = tuple(again)
    return found


def _source(graph: Graph, belongs: Mapping[str, tuple[str, str]], select: str, operand: str) -> str | None:
    """The one value that an option reads, if it is a chain without choices that ends in an operation."""
    last = graph.by_id[operand]
    if not isinstance(last, Op) or PRIMITIVES[last.op].zero or belongs[operand] != (select, operand):
        return None
    outside: set[str] = set()
    stack = [operand]
    seen = set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.by_id[name]
        if name != operand and belongs[name] != (select, operand):
            outside.add(name)
        elif isinstance(node, Op) or node.kind == "merge":
            stack.extend(o for o in node.operands if isinstance(graph.by_id[o].type, TensorType))
        else:
            return None
    return outside.pop() if len(outside) == 1 else None


def _option_form(cell: Cell, select: Select, operand: str, source: str) -> Hashable | None:
    """What an option computes; None when it is not one fresh vertex."""
    form = Form()
    entry = form.add(("in",))
    expander = Expander(cell.module, {}, form)
    form.result = expander.value(cell.graph, cell.owner, operand, {source: entry}, cell.sizes)
    if len(form.result) != 1 or form.result == entry:
        return None
    return certificate(live(form))
