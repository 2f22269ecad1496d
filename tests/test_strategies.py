"""What the random spaces promise to every law that draws them, and the passes one by one."""

from __future__ import annotations

import contextlib

import networkx as nx
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from nasdsl.ir.analysis import digraph
from nasdsl.ir.cost import outputs_zero
from nasdsl.ir.text import parse_module, print_module
from nasdsl.ir.verify import verify
from nasdsl.passes.fold import Fold
from nasdsl.passes.relax import Relax
from nasdsl.passes.search_form import SearchForm
from nasdsl.passes.specialise import Specialise
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice
from tests.strategies import checked, nas_spaces, with_architecture

some = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


CONSTRUCTS = (
    "n[1..4]",
    "sum of all",
    "choose 2 from",
    "choose 1..2 from",
    "choose 2.. from",
    "earlier via choose",
    "via choose options_of_one",
    "none }",
    "with stride=s",
    "cell two = one()",
    "cell half = one(s=2)",
    "independent one",
    "(a, b;",
    "z = n[",
    ">> choose { relu, id }",
    "block: repeat N",
    "nested: either",
)


def test_every_construct_is_drawn() -> None:
    missing = set(CONSTRUCTS)

    def nothing_is_missing(text: str) -> bool:
        missing.difference_update([each for each in CONSTRUCTS if each in text])
        return not missing

    drawing = settings(
        max_examples=4000,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    with contextlib.suppress(NoSuchExample):
        find(nas_spaces(), nothing_is_missing, settings=drawing)
    assert not missing


@some
@given(nas_spaces())
@pytest.mark.parametrize("topology", ["sum", "subsets"])
def test_every_pass_keeps_a_verified_graph_that_reads_back(topology: str, text: str) -> None:
    module = checked(text).module
    forms = SearchForm(pool_norm=True, conv_bias=True)
    for step in (None, Relax(topology=topology, none=topology == "sum"), forms, Fold()):
        module = module if step is None else step(module)
        verify(module)
        assert parse_module(print_module(module)) == module


@some
@given(with_architecture())
def test_an_encoding_assigns_exactly_the_active_decisions(
    drawn: tuple[CheckedSpace, dict[str, Choice]],
) -> None:
    space, choices = drawn
    assert list(choices) == [d.path for d in space.table.active(choices)]


@some
@given(with_architecture())
def test_an_architecture_is_acyclic_and_connected(drawn: tuple[CheckedSpace, dict[str, Choice]]) -> None:
    space, choices = drawn
    for start in (space.module, Relax(topology="subsets")(space.module)):
        module = Specialise(choices)(start)
        verify(module)
        assert parse_module(print_module(module)) == module
        zero = outputs_zero(module)
        for graph in module.graphs:
            view = digraph(graph)
            assert nx.is_directed_acyclic_graph(view)
            reached = any(nx.has_path(view, i.id, graph.result) for i in graph.inputs)
            assert reached or zero
