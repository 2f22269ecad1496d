"""Exact passes change how a supernet is computed, never what it computes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasdsl import Space, UserError
from tests.laws.common import small
from tests.passes.short import named
from tests.passes.twins import EXACT, SIMPLE, compare, only
from tests.strategies import checked, nas_spaces
from tests.thinned import thinned

FORMS: list[tuple[str, ...]] = [
    ("fold",),
    ("share",),
    ("normalise",),
    ("normalise", "accumulate"),
    ("share", "fan"),
    ("share", "normalise", "fan"),
    EXACT,
]
"""Each pass with what it needs and nothing else; the last is all of them."""

SETTINGS: dict[str, dict[str, object]] = {
    "affine": {"affine": True},
    "no norm after pooling": {"pool_norm": False},
    "norm after pooling": {"pool_norm": True},
    "bias": {"conv_bias": True},
    "no none": {"none": False},
    "affine, bias": {"affine": True, "pool_norm": True, "conv_bias": True},
}


@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["cells", "nasbench201"])
def test_every_exact_pass_leaves_all_numbers(name: str, method: str) -> None:
    compare(named(name), method, FORMS)


@pytest.mark.parametrize(
    ("name", "method"), [("darts", "toponas"), ("hierarchical", "darts"), ("cream", "toponas")]
)
def test_all_exact_passes_leave_all_numbers(name: str, method: str) -> None:
    compare(named(name), method, [EXACT])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201", "hierarchical", "cream"])
def test_every_exact_pass_leaves_all_numbers_of_every_space(name: str, method: str) -> None:
    compare(small(name), method, FORMS)


@pytest.mark.parametrize("name", ["cells", "nasbench201"])
@pytest.mark.parametrize("chosen", SETTINGS)
def test_under_every_setting_of_the_form(name: str, chosen: str) -> None:
    compare(named(name), "darts", [EXACT], SETTINGS[chosen])


def test_the_forms_differ() -> None:
    """The laws above would hold for nothing if a pass had nothing to do."""
    space = named("cells")
    forms = ((), *FORMS)
    texts = [space.compile("toponas", passes=only(*form)).compilation.supernet.source for form in forms]
    assert len(set(texts)) == len(texts)


RELAXATIONS: dict[str, dict[str, object]] = {
    f"{activation}, {topology}": {"activation": activation, "topology": topology}
    for activation in ("softmax", "clipped", "gumbel", "concrete", "dirichlet")
    for topology in ("sum", "softmax", "subsets")
}
MIXTURES: dict[str, dict[str, object]] = {
    "gumbel, bare weights": {"activation": "gumbel", "bare_weights": True, "topology": "subsets"},
    "clipped, never pruned": {"activation": "clipped", "prune": False},
    "clipped, part of the channels": {
        "activation": "clipped",
        "partial_channels": 2,
        "topology": "softmax",
    },
    "gumbel, part of the channels": {"activation": "gumbel", "partial_channels": 2, "conv_bias": True},
    "softmax, part of the channels": {"partial_channels": 4, "topology": "softmax", "node_norm": True},
}


@pytest.mark.parametrize(("chosen", "name"), thinned(product(RELAXATIONS, ("cells", "nasbench201")), 3))
def test_under_every_activation_and_topology(name: str, chosen: str) -> None:
    """In training an activation that is drawn is drawn, and candidates that do not run are left out."""
    forms = [EXACT] if name == "cells" else [("fold",), ("share",), ("normalise",), EXACT]
    compare(named(name), "darts", forms, RELAXATIONS[chosen])


@pytest.mark.parametrize("name", ["cells", "nasbench201"])
@pytest.mark.parametrize("chosen", MIXTURES)
def test_under_mixtures(name: str, chosen: str) -> None:
    compare(named(name), "darts", [EXACT], MIXTURES[chosen])


@pytest.mark.slow
@pytest.mark.parametrize("base", ["-simplify,-tie", SIMPLE])
@pytest.mark.parametrize("chosen", [*RELAXATIONS, *MIXTURES])
@pytest.mark.parametrize("name", ["darts", "cells"])
def test_every_exact_pass_under_every_relaxation(name: str, chosen: str, base: str) -> None:
    compare(named(name), "darts", FORMS, (RELAXATIONS | MIXTURES)[chosen], base)


def test_candidates_that_may_not_run_are_neither_joined_nor_computed_for_others() -> None:
    space = named("cells")
    drawn = space.compile("gdas", passes="-simplify,+accumulate,+fan").compilation.supernet.source
    all_run = space.compile("darts", passes="-simplify").compilation.supernet.source
    for joint in ("NormalisedMix(", "DepthwiseFan("):
        assert joint not in drawn
        assert joint in all_run
    assert drawn.count("nn.AvgPool2d(") == 6  # one an edge
    assert all_run.count("nn.AvgPool2d(") == 3  # one a source
    assert drawn.count("F.relu(") == all_run.count("F.relu(") == 3


@pytest.mark.parametrize("base", [SIMPLE, "+tie", "+tie,+simplify"])
@pytest.mark.parametrize("name", ["cells", "nasbench201", pytest.param("darts", marks=pytest.mark.slow)])
def test_exact_passes_are_exact_behind_those_that_are_not(name: str, base: str) -> None:
    compare(named(name), "toponas", [EXACT], base=base)


def compiled(text: str, method: str) -> Space | None:
    space = Space(checked(text))
    try:
        space.compile(method)
    except UserError:  # a choice that the method does not weigh
        return None
    return space


few = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
many = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
FORM = st.sampled_from([{}, {"conv_bias": True}, {"affine": True}, {"pool_norm": False}])


@few
@pytest.mark.parametrize("method", ["darts", "toponas"])
@given(text=nas_spaces(), chosen=FORM)
def test_exact_passes_on_random_spaces(method: str, text: str, chosen: dict[str, object]) -> None:
    space = compiled(text, method)
    assume(space is not None)
    assert space is not None
    compare(space, method, [EXACT], chosen)


@pytest.mark.slow
@many
@pytest.mark.parametrize("method", ["darts", "toponas"])
@given(text=nas_spaces(), chosen=FORM, form=st.sampled_from(FORMS))
def test_every_exact_pass_on_random_spaces(
    method: str, text: str, chosen: dict[str, object], form: tuple[str, ...]
) -> None:
    space = compiled(text, method)
    assume(space is not None)
    assert space is not None
    compare(space, method, [form], chosen)
