"""The canonical form is canonical: equal exactly for isomorphic networks, as networkx finds them."""

from __future__ import annotations

import random

import networkx as nx
import pytest

import nasdsl
from nasdsl.identity.canonical import Form, Vertex, certificate, form_of, labelled, search


def view(form: Form) -> nx.DiGraph:  # type: ignore[type-arg]
    graph = labelled(form)
    found: nx.DiGraph = nx.DiGraph()  # type: ignore[type-arg]
    for index, label in enumerate(graph.labels):
        found.add_node(index, label=repr(label))
    for reader, reads in enumerate(graph.into):
        for read, count in reads.items():
            found.add_edge(read, reader, count=count)
    return found


def isomorphic(left: Form, right: Form) -> bool:
    return bool(
        nx.is_isomorphic(
            view(left),
            view(right),
            node_match=lambda a, b: a["label"] == b["label"],
            edge_match=lambda a, b: a["count"] == b["count"],
        )
    )


def drawn(rng: random.Random, size: int) -> Form:
    """A random network of few labels, so that many are alike."""
    form = Form([Vertex("in", ())])
    for _ in range(size):
        many = 2 if rng.random() < 0.3 else 1
        reads = []
        for _ in range(many):
            chosen = rng.choices(range(len(form.vertices)), k=rng.randint(1, 2))
            reads.append(tuple(sorted(chosen)))
        form.add("cat" if many > 1 else rng.choice("ab"), tuple(sorted(reads)))
    form.result = tuple(sorted(rng.choices(range(1, size + 1), k=2)))
    return form


@pytest.mark.parametrize("seed", range(6))
def test_certificates_are_equal_exactly_for_isomorphic_networks(seed: int) -> None:
    rng = random.Random(seed)
    forms = [drawn(rng, 2 + seed % 2) for _ in range(60)]
    alike = 0
    for i, left in enumerate(forms):
        for right in forms[:i]:
            same = isomorphic(left, right)
            alike += same
            assert (certificate(left) == certificate(right)) == same
    assert alike > 3 or seed % 2


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_vertices_does_not_count(seed: int) -> None:
    rng = random.Random(seed)
    form = drawn(rng, 7)
    order = list(range(len(form.vertices)))
    for _ in range(30):  # swap neighbours that do not read each other
        at = rng.randrange(1, len(order) - 1)
        a, b = order[at], order[at + 1]
        if not any(a in value for value in form.vertices[b].reads):
            order[at], order[at + 1] = b, a
    rank = {old: new for new, old in enumerate(order)}

    def moved(value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(rank[v] for v in value))

    shuffled = Form(
        [
            Vertex(form.vertices[o].label, tuple(sorted(moved(r) for r in form.vertices[o].reads)))
            for o in order
        ],
        moved(form.result),
    )
    assert certificate(shuffled) == certificate(form)


@pytest.mark.parametrize("seed", range(40))
def test_the_generators_generate_every_symmetry(seed: int) -> None:
    form = drawn(random.Random(seed), 6)
    graph = view(form)
    matcher = nx.isomorphism.DiGraphMatcher(
        graph,
        graph,
        node_match=lambda a, b: a["label"] == b["label"],
        edge_match=lambda a, b: a["count"] == b["count"],
    )
    size = len(graph)
    expected = {tuple(found[v] for v in range(size)) for found in matcher.isomorphisms_iter()}
    found, stack = {tuple(range(size))}, [tuple(range(size))]
    while stack:
        one = stack.pop()
        for generator in search(labelled(form)).generators:
            made = tuple(generator[v] for v in one)
            if made not in found:
                found.add(made)
                stack.append(made)
    assert found == expected


def test_many_equal_parts_take_no_factorial_time() -> None:
    """Twelve equal branches of three equal leaves: 12! * 6^12 labellings, one certificate."""
    form = Form([Vertex("in", ())])
    tops = [form.add("branch", ((0,),)) for _ in range(12)]
    leaves = [form.add("leaf", (top,)) for top in tops for _ in range(3)]
    form.result = tuple(sorted(v for leaf in leaves for v in leaf))
    other = Form([Vertex("in", ())])
    tops = [other.add("branch", ((0,),)) for _ in range(12)]
    other.result = tuple(sorted(other.add("leaf", (top,))[0] for _ in range(3) for top in tops))
    assert certificate(form) == certificate(other)


def test_certificates_of_the_benchmark_agree_with_isomorphism() -> None:
    space = nasdsl.load("nasbench201", N=1)
    forms = [form_of(space.checked.module, a.choices) for a in space.sample(60, seed=5)]
    for i, left in enumerate(forms):
        for right in forms[:i]:
            assert (certificate(left) == certificate(right)) == isomorphic(left, right)
