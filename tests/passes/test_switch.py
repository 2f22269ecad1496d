"""What `switch` does to a graph: nothing to its choices, and sizes of paths into the graphs of single uses."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space
from nasdsl.errors import VerifyError
from nasdsl.ir.cost import module_count
from nasdsl.ir.graph import Module, Stage
from nasdsl.ir.nodes import Branch, Call, Gather, Select
from nasdsl.ir.text import parse_module, print_module
from nasdsl.ir.verify import verify
from nasdsl.passes.specialise import Specialise
from nasdsl.passes.switch import Switch, sizes_of
from nasdsl.types import Dim
from tests.laws.test_paths import SHIPPED
from tests.strategies import checked, nas_spaces
from tests.strategies_numeric import numeric_spaces

few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
CELLS = """space cells { input image(3, 8, 8)
  w = choose { 4, 6 }
  cell i(x; C) { n = x >> conv(choose { 1, 3 }, C) >> bn  return n }
  cell c(x; C) { a = x >> i(C=C)  b = a >> i(C=C) >> choose { id, relu }  return b }
  cell d(x; C) { a = x >> conv(1, C) >> choose { id, relu }  return a }
  network { stem: conv(3, 4)  a: c(C=4)  b: c(C=w)  c: c(C=w)  g: c(C=w)  d: c(C=8)  e: d(C=4)  f: d(C=8)
            head: global_pool >> linear(10) } }"""


def law(space: Space) -> Module:
    """Every law of the pass; returns what it made."""
    module = Switch()(space.checked.module)
    verify(module, "switch")
    assert module.stage is Stage.RELAXED
    shown = print_module(module)
    assert parse_module(shown) == module
    assert print_module(parse_module(shown)) == shown
    assert Switch()(space.checked.module) == module, "the same twice"
    for graph in module.graphs:
        for node in graph.nodes:
            if isinstance(node, Call):
                assert not any(d.cases for _, d in node.sizes), "a size of a path behind a name"
            if any(d.cases for d in sizes_of(node)):
                assert not graph.sizes, "a size of a path in a graph that several uses may share"
                assert not any(d.names for d in sizes_of(node))
    return module


def paths_cost_what_is_predicted(space: Space, module: Module, count: int) -> None:
    """A path cut out of the switched graph has the parameters and MACs that the space says."""
    for arch in space.sample(count, seed=1):
        stats = space.stats(arch)
        live = module_count(Specialise(arch.choices)(module))
        assert (live.params, live.macs) == (stats.live_params, stats.live_macs)
        written = module_count(Specialise(arch.choices, dead=True)(module))
        assert (written.params, written.macs) == (stats.params, stats.macs)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_spaces(name: str) -> None:
    space = nasdsl.load(name, **SHIPPED[name])
    module = law(space)
    paths_cost_what_is_predicted(space, module, 1)
    compiled = space.compile("spos").compilation
    assert compiled.optimised == module
    assert [n for n, _ in compiled.stages] == ["space", "switch"]


@few
@given(nas_spaces())
def test_random_spaces(text: str) -> None:
    space = Space(checked(text))
    paths_cost_what_is_predicted(space, law(space), 2)


@few
@given(numeric_spaces())
def test_random_sizes(text: str) -> None:
    space = Space(checked(text))
    paths_cost_what_is_predicted(space, law(space), 2)


def test_choices_stay_as_they_are() -> None:
    space = nasdsl.load("darts", layers=4, C=4)
    before, after = space.checked.module, Switch()(space.checked.module)
    kinds = (Select, Branch, Gather)
    for module in (before, after):
        assert sum(isinstance(n, kinds) for g in module.graphs for n in g.nodes) > 40
    assert [g.nodes for g in before.graphs] == [g.nodes for g in after.graphs], "no size depends on a path"


def test_a_graph_with_sizes_of_paths_is_copied_for_its_uses() -> None:
    """Uses with the same sizes share a copy; a graph without such sizes stays one, its size a name."""
    module = law(Space(checked(CELLS)))
    calls = {n.label: n for n in module.network.nodes if isinstance(n, Call)}
    assert calls["c"].graph == calls["g"].graph
    assert len({calls[name].graph for name in "abcd"}) == 4
    assert all(calls[name].sizes == () for name in "abcdg")
    assert calls["e"].graph == calls["f"].graph
    assert calls["e"].sizes != calls["f"].sizes
    for name in "abcdg":
        assert calls[name].owner == "c", "copies share their decisions"
    names = [g.name for g in module.graphs]
    assert len(names) == len(set(names))
    inner = {n.graph for g in module.graphs for n in g.nodes if isinstance(n, Call)} - {
        c.graph for c in calls.values()
    }
    assert len(inner) >= 3, "what a copy calls is copied with it"


@pytest.mark.parametrize("label", ["a", "e"])
def test_the_verifier_finds_a_use_that_is_not_as_its_graph(label: str) -> None:
    """A copy has its sizes put in, and wants none; a graph that stayed wants all of them."""
    module = law(Space(checked(CELLS)))
    sizes = (("C", Dim.of(4)),) if label == "a" else ()
    root = module.network.with_nodes(
        attrs.evolve(n, sizes=sizes) if isinstance(n, Call) and n.label == label else n
        for n in module.network.nodes
    )
    wrong = attrs.evolve(module, graphs=(root, *(g for g in module.graphs if g.name != root.name)))
    with pytest.raises(VerifyError, match="has the sizes"):
        verify(wrong, "switch")


@few
@given(numeric_spaces(), st.integers(0, 100))
def test_a_path_is_the_same_network_from_both(text: str, seed: int) -> None:
    """Cutting out of the space, and out of the switched graph, gives one network."""
    space = Space(checked(text))
    module = Switch()(space.checked.module)
    for arch in space.sample(2, seed=seed):
        left, right = (Specialise(arch.choices)(m) for m in (space.checked.module, module))
        verify(right, "specialise")
        assert print_module(left) == print_module(right)
