"""Spaces whose sizes depend on decisions: what is proved for the table holds for every network."""

from __future__ import annotations

import random
from collections.abc import Hashable

from hypothesis import HealthCheck, assume, given, settings

from nasdsl.codegen.load import load_class
from nasdsl.compiler import network_source
from nasdsl.diagnostics import Source, render
from nasdsl.identity.canonical import certificate, form_of
from nasdsl.identity.costs import cost_tree
from nasdsl.identity.distinct import tally
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.identity.within import cost_of
from nasdsl.ir.cost import module_count
from nasdsl.ir.text import parse_module, print_module
from nasdsl.ir.verify import verify
from nasdsl.passes.specialise import Specialise
from nasdsl.space.architecture import Architecture
from nasdsl.space.checked import CheckedSpace, check_source
from tests.strategies import nas_spaces
from tests.strategies_numeric import numeric_spaces

LAW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def checked(text: str) -> CheckedSpace:
    space, found = check_source(Source("drawn.nas", text))
    assert space is not None, f"{render(found.items)}\n{text}"
    return space


@LAW
@given(numeric_spaces())
def test_every_drawn_network_runs_and_costs_what_is_predicted(text: str) -> None:
    import torch

    space = checked(text)
    verify(space.module, "elaboration")
    assert parse_module(print_module(space.module)) == space.module
    encodings, rng = Encodings(space.table), random.Random(0)
    trees = {m: cost_tree(space.module, space.table, m) for m in ("params", "macs")}
    for _ in range(2):
        choices = encodings.sample(rng)
        module = Specialise(choices)(space.module)
        verify(module, "specialise")
        written = module_count(Specialise(choices, dead=True)(space.module))
        assert {m: cost_of(t, choices) for m, t in trees.items()} == {
            "params": written.params,
            "macs": written.macs,
        }
        arch = Architecture(space.name, space.fingerprint, choices)
        net = load_class(network_source(space, arch)[0], "drawn_network", "Network")()
        sizes = [d.settle(choices).evaluate({}) for d in space.input.dims]
        with torch.no_grad():
            assert net.eval()(torch.randn(2, *sizes)).shape == (2, 3)
        assert sum(p.numel() for p in net.parameters()) == module_count(module).params


@LAW
@given(numeric_spaces())
def test_distinct_networks_of_numeric_spaces_equal_brute_force(text: str) -> None:
    _distinct_equals_brute_force(checked(text))


@LAW
@given(nas_spaces())
def test_distinct_networks_of_random_spaces_equal_brute_force(text: str) -> None:
    _distinct_equals_brute_force(checked(text))


def _distinct_equals_brute_force(space: CheckedSpace) -> None:
    encodings = Encodings(space.table)
    assume(encodings.count() <= 400)
    every: dict[Hashable, object] = {}
    population = Population(space)
    for choices in encodings.all():
        key = certificate(form_of(Specialise(choices)(space.module)))
        # The fast way, from the space itself, sees the same networks as the slow one.
        fast = population.fingerprint(choices)
        assert every.setdefault(key, fast) == fast
    assert len(set(every.values())) == len(every)
    found = tally(space.module, space.table)
    if found.exact:
        assert found.low == len(every), found.how
    else:
        assert found.low <= len(every) <= found.high
    if found.draw is not None:
        drawn = certificate(form_of(Specialise(found.draw(random.Random(0)))(space.module)))
        assert drawn in every
