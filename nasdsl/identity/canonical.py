"""Identity: the canonical form of a network.

Takes a network, or a space and an architecture of it; returns certificates and hashes.
Invariant: two architectures have one fingerprint exactly when their networks are the same
by construction, that is, when they compute the same family of functions as read off
their structure:

- instances of operations are the vertices (a network, not a tree: an operation that
  is read twice is one operation);
- a sum is a multiset of values, and nested sums flatten; `id` has no vertex;
- an operation applied to a zero counts as zero; what nobody reads is gone;
- concatenation order does not count, and nodes have no names.

Vertices are coloured by their operation and refined by what they read and who reads
them; where colours do not tell vertices apart, each is tried in turn (one of those that
a symmetry exchanges) and the smallest certificate wins: canonical, not a heuristic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise

import attrs

from nasdsl.cases import Choice, at
from nasdsl.errors import InternalError
from nasdsl.ir.graph import Graph, Module, call_owner
from nasdsl.ir.nodes import AnyNode, Branch, Call, Gather, Merge, Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.specialise import Specialise
from nasdsl.types import Dim, Integer, TensorType

Choices = Mapping[str, Choice]

Value = tuple[int, ...]
"""A value: the sorted multiset of the vertices that it sums; empty for zero."""


@attrs.frozen
class Vertex:
    """One instance of an operation. `reads` is a multiset of values."""

    label: Hashable
    reads: tuple[Value, ...]


@attrs.define
class Form:
    """A network as vertices in topological order, and the value it returns."""

    vertices: list[Vertex] = attrs.Factory(list)
    result: Value = ()

    def add(self, label: Hashable, reads: tuple[Value, ...] = ()) -> Value:
        self.vertices.append(Vertex(label, reads))
        return (len(self.vertices) - 1,)


def form_of(module: Module, choices: Choices | None = None) -> Form:
    """The vertices of a network, calls expanded.

    Args:
        module: at stage CONCRETE, or at stage SPACE with `choices`.
    """
    if choices is not None and has_splits(module):
        module, choices = Specialise(choices)(module), None
    form = Form()
    root = module.network
    expander = Expander(module, choices or {}, form)
    values = [form.add(("input", str(expander.settled(n.type)))) for n in root.inputs]
    form.result = expander.graph(root, "", values, {})
    return live(form)


def has_splits(module: Module) -> bool:
    """Whether widths follow from which inputs are chosen (`into split`): known only for a whole architecture."""
    return any(isinstance(n, Gather) and n.widths for g in module.graphs for n in g.nodes)


class Expander:
    """Adds the vertices of graphs to a form, the decisions made on the way.

    Only what the result depends on is visited, so an option that is not taken costs nothing.
    """

    def __init__(self, module: Module, choices: Choices, form: Form) -> None:
        self.module = module
        self.choices = choices
        self.form = form

    def graph(self, graph: Graph, owner: str, inputs: Sequence[Value], sizes: Mapping[str, Integer]) -> Value:
        """The value that a graph returns for the values of its inputs."""
        made = dict(zip((n.id for n in graph.inputs), inputs, strict=True))
        return self.value(graph, owner, graph.result, made, sizes)

    def value(
        self, graph: Graph, owner: str, name: str, made: dict[str, Value], sizes: Mapping[str, Integer]
    ) -> Value:
        """The value of a node. `made` holds what is known and is added to."""
        stack = [name]
        while stack:
            current = stack[-1]
            if current in made:
                stack.pop()
                continue
            node = graph.by_id[current]
            reads = self._reads(node, owner)
            waiting = [r for r in reads if r not in made]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            made[current] = self._node(graph, node, owner, [made[r] for r in reads], sizes)
            stack.pop()
        return made[name]

    def _choice(self, local: str, owner: str) -> str | tuple[str, ...]:
        path = local[1:] if local.startswith("/") else f"{owner}.{local}" if owner else local
        return self.choices[path]

    def _reads(self, node: AnyNode, owner: str) -> tuple[str, ...]:
        """The activations that a node reads under the choices."""
        if isinstance(node, Select):
            return (node.operands[node.options.index(str(self._choice(node.decision, owner)))],)
        if isinstance(node, Branch):
            return (node.operands[0 if node.condition.at(self.choices) else 1],)
        if isinstance(node, Gather):
            chosen = self._choice(node.decision, owner)
            return tuple(o for n, o in zip(node.names, node.operands, strict=True) if n in chosen)
        if isinstance(node, Op):
            return node.operands[:1]
        return node.operands

    def _node(
        self, graph: Graph, node: AnyNode, owner: str, parts: list[Value], sizes: Mapping[str, Integer]
    ) -> Value:
        if isinstance(node, (Select, Branch)):
            return parts[0]
        if isinstance(node, Call):
            inner = {n: at(d.value(sizes), self.choices) for n, d in node.sizes}
            target = self.module.by_name[node.graph]
            return self.graph(target, call_owner(owner, node), parts, inner)
        if isinstance(node, (Merge, Gather)):
            return self._merge(node, parts, sizes)
        if isinstance(node, Op):
            zero = PRIMITIVES[node.op].zero or not parts[0]
            return () if zero else self.form.add(self.label(node, sizes), (parts[0],))
        raise InternalError(f"canonical: %{node.id} is no activation of a space or of a network")

    def _merge(self, node: Merge | Gather, parts: list[Value], sizes: Mapping[str, Integer]) -> Value:
        if node.merge == "sum":
            return tuple(sorted(v for part in parts for v in part))
        if len(parts) == 1:
            return parts[0]
        if not any(parts):
            return ()
        return self.form.add(("concat", self._width(node, sizes)), tuple(sorted(parts)))

    def label(self, node: Op, sizes: Mapping[str, Integer]) -> Hashable:
        """What an operation is: its name, its parameters and the width it gives, as numbers."""
        values = tuple((n, self._number(v, sizes) if isinstance(v, Dim) else v) for n, v in node.values)
        return (node.op, values, self._width(node, sizes))

    def _width(self, node: AnyNode, sizes: Mapping[str, Integer]) -> int:
        return self._number(node.type.channels, sizes) if isinstance(node.type, TensorType) else 0

    def _number(self, dim: Dim, sizes: Mapping[str, Integer]) -> int:
        return int(at(dim.value(sizes), self.choices))

    def settled(self, type_: object) -> object:
        """A type with its sizes as numbers."""
        if not isinstance(type_, TensorType):
            return type_
        return attrs.evolve(type_, dims=tuple(d.settle(self.choices) for d in type_.dims))


def live(form: Form) -> Form:
    """Without the vertices that the result does not depend on; inputs stay."""
    alive = set(form.result)
    for index in range(len(form.vertices) - 1, -1, -1):
        if index in alive:
            alive.update(v for value in form.vertices[index].reads for v in value)
    alive |= {i for i, v in enumerate(form.vertices) if not v.reads}
    order = sorted(alive)
    rank = {old: new for new, old in enumerate(order)}

    def moved(value: Value) -> Value:
        return tuple(rank[v] for v in value)

    kept = [Vertex(form.vertices[o].label, tuple(moved(r) for r in form.vertices[o].reads)) for o in order]
    return Form(kept, moved(form.result))


# --- canonical labelling -----------------------------------------------------

Edges = list[dict[int, int]]


@attrs.frozen
class Labelled:
    """A directed graph with coloured vertices and counted edges."""

    labels: tuple[Hashable, ...]
    into: tuple[Mapping[int, int], ...]
    out: tuple[Mapping[int, int], ...]


def labelled(form: Form) -> Labelled:
    """The form as a coloured graph: a vertex an operation, one a member of a concatenation, one the result."""
    labels: list[Hashable] = []
    into: Edges = []
    position: list[int] = []
    for vertex in form.vertices:
        members = []
        if len(vertex.reads) > 1:
            for value in vertex.reads:
                labels.append(("member",))
                into.append(dict(Counter(position[v] for v in value)))
                members.append(len(labels) - 1)
        labels.append(("vertex", vertex.label))
        single = Counter(position[v] for v in vertex.reads[0]) if len(vertex.reads) == 1 else Counter(members)
        into.append(dict(single))
        position.append(len(labels) - 1)
    labels.append(("result",))
    into.append(dict(Counter(position[v] for v in form.result)))
    out: Edges = [{} for _ in labels]
    for reader, reads in enumerate(into):
        for read, count in reads.items():
            out[read][reader] = count
    return Labelled(tuple(labels), tuple(into), tuple(out))


def certificate(form: Form) -> tuple[Hashable, ...]:
    """The canonical form: equal for two networks exactly when they are isomorphic."""
    return search(labelled(form)).certificate


def fingerprint(module: Module, choices: Choices | None = None) -> str:
    """A hash of the canonical form of a network (see `form_of`)."""
    return sha256(repr(certificate(form_of(module, choices))).encode()).hexdigest()[:32]


@attrs.frozen
class Canonical:
    """The outcome of a search.

    Attributes:
        certificate: equal for two graphs exactly when they are isomorphic.
        generators: automorphisms (images by vertex) that generate all of them.
    """

    certificate: tuple[Hashable, ...]
    generators: tuple[tuple[int, ...], ...]


def search(graph: Labelled) -> Canonical:
    """The canonical form of a coloured graph: the least labelling that refinement leads to.

    Individualisation and refinement (McKay 1981), after twins were told apart. Two leaves with one certificate give an
    automorphism, and automorphisms prune: of vertices that one of them exchanges, while it
    leaves those individualised above alone, one is tried; and where a leaf is the image of an
    earlier one, so is the whole branch in which it lies. Many equal parts side by side would
    otherwise take the factorial of their number.
    """
    ranks = {label: i for i, label in enumerate(sorted(set(graph.labels), key=repr))}
    leaves: dict[tuple[Hashable, ...], tuple[list[int], tuple[int, ...]]] = {}
    generators: list[tuple[int, ...]] = []

    def visit(colours: list[int], path: tuple[int, ...]) -> int:
        """Explores a branch; returns how many vertices of the path may stay individualised."""
        cell = _first_cell(colours)
        if cell is None:
            made = _certify(graph, colours)
            if made not in leaves:
                leaves[made] = (colours, path)
                return len(path)
            earlier, other = leaves[made]
            back = {colour: vertex for vertex, colour in enumerate(colours)}
            generators.append(tuple(back[colour] for colour in earlier))
            return next(i for i, (a, b) in enumerate(zip(path, other, strict=True)) if a != b)
        tried: list[int] = []
        for vertex in cell:
            if tried and vertex in _orbits(tried, [g for g in generators if all(g[v] == v for v in path)]):
                continue
            tried.append(vertex)
            split = [2 * c for c in colours]
            split[vertex] -= 1
            kept = visit(_refine(graph, split), (*path, vertex))
            if kept < len(path):
                return kept
        return len(path)

    colours, twins = _apart(graph, _refine(graph, [ranks[label] for label in graph.labels]))
    generators.extend(twins)
    visit(_refine(graph, colours) if twins else colours, ())
    return Canonical(min(leaves, key=repr) if len(leaves) > 1 else next(iter(leaves)), tuple(generators))


def _apart(graph: Labelled, colours: list[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Twins numbered, and the exchanges of neighbours among them.

    Twins read the same and are read by the same, so that any order of theirs is an image of any other: there
    is nothing to try. A network of many cells has some in each.
    """
    groups: dict[Hashable, list[int]] = {}
    for vertex, colour in enumerate(colours):
        key = (colour, frozenset(graph.into[vertex].items()), frozenset(graph.out[vertex].items()))
        groups.setdefault(key, []).append(vertex)
    found = [group for group in groups.values() if len(group) > 1]
    if not found:
        return colours, []
    most = max(map(len, found))
    numbered = [most * c for c in colours]
    exchanges = []
    for group in found:
        for place, vertex in enumerate(group):
            numbered[vertex] += place
        for left, right in pairwise(group):
            image = list(range(len(colours)))
            image[left], image[right] = right, left
            exchanges.append(tuple(image))
    return numbered, exchanges


def _orbits(start: list[int], generators: list[tuple[int, ...]]) -> set[int]:
    """All vertices that the generated group leads the given ones to."""
    found, stack = set(start), list(start)
    while stack:
        vertex = stack.pop()
        for generator in generators:
            if generator[vertex] not in found:
                found.add(generator[vertex])
                stack.append(generator[vertex])
    return found


def _refine(graph: Labelled, colours: list[int]) -> list[int]:
    count = len(set(colours))
    into, out = graph.into, graph.out
    while True:
        shared = Counter(colours)
        keys: list[tuple[Hashable, ...]] = [
            (
                c,
                tuple(sorted((colours[u], m) for u, m in into[v].items())),
                tuple(sorted((colours[u], m) for u, m in out[v].items())),
            )
            if shared[c] > 1  # a colour of its own splits no further
            else (c,)
            for v, c in enumerate(colours)
        ]
        order = {key: i for i, key in enumerate(sorted(set(keys)))}
        colours = [order[k] for k in keys]
        if len(order) == count:
            return colours
        count = len(order)


def _first_cell(colours: list[int]) -> list[int] | None:
    """The vertices of the smallest colour that more than one vertex has."""
    if len(set(colours)) == len(colours):
        return None
    counts = Counter(colours)
    colour = min(c for c, n in counts.items() if n > 1)
    return [v for v, c in enumerate(colours) if c == colour]


def _certify(graph: Labelled, colours: list[int]) -> tuple[Hashable, ...]:
    order = sorted(range(len(colours)), key=colours.__getitem__)
    return tuple(
        (graph.labels[v], tuple(sorted((colours[u], m) for u, m in graph.into[v].items()))) for v in order
    )


__all__ = [
    "Expander",
    "Form",
    "Labelled",
    "Vertex",
    "certificate",
    "fingerprint",
    "form_of",
    "labelled",
    "live",
    "search",
]
