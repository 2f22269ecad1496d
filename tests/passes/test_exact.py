"""Exact passes change how a supernet is computed, never what it computes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space, UserError
from tests.laws.common import small
from tests.passes.twins import EXACT, NONE, compare, only
from tests.strategies import checked, nas_spaces

FORMS = [
    only("fold"),
    only("share"),
    only("normalise"),
    only("normalise", "accumulate"),
    only("share", "fan"),
    only("share", "normalise", "fan"),
    only(*EXACT),
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


WIDE = [("darts", "toponas"), ("nasbench201", "darts"), ("nasbench201", "toponas")]
"""Where every form is tried; elsewhere all passes together, and the rest is slow."""


def tiny(name: str) -> Space:
    return nasdsl.load("darts", layers=3, C=4, resolution=8) if name == "darts" else small(name)


@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201", "hierarchical", "cream"])
def test_exact_passes_leave_all_numbers(name: str, method: str) -> None:
    compare(tiny(name), method, FORMS if (name, method) in WIDE else FORMS[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["darts", "toponas"])
@pytest.mark.parametrize("name", ["darts", "nasbench201", "hierarchical", "cream"])
def test_every_exact_pass_leaves_all_numbers(name: str, method: str) -> None:
    compare(small(name), method, FORMS)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [*(("nasbench201", c) for c in SETTINGS), ("darts", "bias"), ("darts", "affine, bias")],
)
def test_under_every_setting_of_the_form(name: str, chosen: str) -> None:
    compare(tiny(name), "darts", FORMS[-1:], SETTINGS[chosen])


def test_the_forms_differ() -> None:
    """The laws above would hold for nothing if a pass had nothing to do."""
    space = tiny("darts")
    texts = [space.compile("toponas", passes=form).compilation.supernet.source for form in (NONE, *FORMS)]
    assert len(set(texts)) == len(texts)


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
    compare(space, method, FORMS[-1:], chosen)


@pytest.mark.slow
@many
@pytest.mark.parametrize("method", ["darts", "toponas"])
@given(text=nas_spaces(), chosen=FORM, form=st.sampled_from(FORMS))
def test_every_exact_pass_on_random_spaces(
    method: str, text: str, chosen: dict[str, object], form: str
) -> None:
    space = compiled(text, method)
    assume(space is not None)
    assert space is not None
    compare(space, method, [form], chosen)
