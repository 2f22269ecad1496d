"""Balls against brute force: counts, shells, lists, draws; `edits` against `distance`."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.space.decisions import Choice, Decision, DecisionTable, Event
from nasdsl.subspace.balls import Ball
from nasdsl.subspace.codes import Codes
from tests.strategies import nas_spaces
from tests.subspace.common import TEXTS, check, checked, edits, every, key, nasbench201, uniform


def pairs(name: str) -> st.SearchStrategy[tuple[dict[str, Choice], dict[str, Choice]]]:
    return st.tuples(st.sampled_from(every(name)), st.sampled_from(every(name)))


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_edits_are_symmetric_and_0_exactly_for_equals(name: str, data: st.DataObject) -> None:
    a, b = data.draw(pairs(name))
    population = Population(checked(name))
    assert population.edits(a, b) == population.edits(b, a) <= population.distance(a, b)
    assert (population.edits(a, b) == 0) == (a == b)
    if all(d.when is None for d in checked(name).table.decisions):
        assert population.edits(a, b) == population.distance(a, b)


def test_edits_are_no_metric_where_decisions_come_and_go() -> None:
    """The page of `edits` says so: an encoding without the decisions is near to both."""
    name = "three in one"
    few = next(c for c in every(name) if len(c) == 2)
    full = [c for c in every(name) if len(c) == 8]
    assert any(edits(name, a, b) > edits(name, a, few) + edits(name, few, b) for a in full for b in full)


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_ball_is_what_edits_say(name: str, data: st.DataObject) -> None:
    centre, radius = data.draw(st.sampled_from(every(name))), data.draw(st.integers(0, 9))
    ball = Ball(checked(name).table, centre, radius)
    found = Counter(d for c in every(name) if (d := edits(name, centre, c)) <= radius)
    assert [ball.count_at(d) for d in range(12)] == [found[d] for d in range(12)]
    assert ball.count() == found.total()
    listed = [key(c) for c in ball.all()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {key(c) for c in every(name) if c in ball}


@given(text=nas_spaces(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_widest_ball_is_the_space(text: str, seed: int) -> None:
    table = check(text).table
    encodings = Encodings(table)
    centre = encodings.sample(random.Random(seed))
    ball = Ball(table, centre, 10_000)
    assert ball.count() == encodings.count()
    assert ball.count_at(0) == 1
    drawn = ball.sample(random.Random(seed))
    codes = Codes(table)
    assert codes.complete(codes.row(drawn)[None]).all()
    assert codes.choices(codes.row(drawn)) == drawn
    assert codes.edits(codes.row(drawn)[None], codes.row(centre))[0] <= ball.walks.most


def test_the_shells_of_nasbench201() -> None:
    space = nasbench201()
    ball = Ball(space.checked.table, space.sample(1)[0].choices, 6)
    assert [ball.count_at(d) for d in range(7)] == [1, 24, 240, 1280, 3840, 6144, 4096]


@pytest.mark.parametrize(
    ("name", "distance"), [("nested options", None), ("chosen inputs", 2), ("depths", None)]
)
def test_draws_are_uniform(name: str, distance: int | None) -> None:
    rng = random.Random(3)
    centre = every(name)[5]
    ball = Ball(checked(name).table, centre, 2)
    kinds = {key(c) for c in ball.all() if distance is None or edits(name, centre, c) == distance}
    draws = 12 * len(kinds)
    seen = Counter(key(ball.sample(rng, distance)) for _ in range(draws))
    assert uniform(seen, kinds, draws)


def test_a_shell_without_members_cannot_be_drawn_from() -> None:
    ball = Ball(checked("plain").table, every("plain")[0], 2)
    with pytest.raises(ValueError, match="no encoding"):
        ball.sample(random.Random(0), 3)


def test_a_deep_table_needs_no_deep_stack() -> None:
    """Each decision waits for the one before: more than the stack is deep."""
    first = Decision("d[0]", "op", ("a", "b"))
    later = (
        Decision(f"d[{i}]", "op", ("a", "b"), when=((Event(f"d[{i - 1}]", "a"),),)) for i in range(1, 1_100)
    )
    table = DecisionTable((first, *later))
    centre: dict[str, Choice] = {d.path: "a" for d in table.decisions}
    ball = Ball(table, centre, 1)
    assert ball.count() == 1 + 1_100  # one turn to `b`, after which nothing is made
    assert len(list(ball.all())) == 1_101
    assert ball.sample(random.Random(0))["d[0]"] in ("a", "b")


@pytest.mark.parametrize("name", TEXTS)
def test_rows_hold_what_choices_say(name: str) -> None:
    codes = Codes(checked(name).table)
    rows = codes.rows(every(name))
    assert [codes.choices(row) for row in rows] == list(every(name))
    assert codes.complete(rows).all()
    assert len(codes.unique(rows)) == len(rows)
    assert codes.contained(rows, codes.unique(rows)).all()
    assert not codes.contained(rows[1:], rows[:1]).any()
    broken = rows.copy()
    broken[:, 0] = -1  # the first decision is always made
    assert not codes.complete(broken).any()


def test_a_million_rows() -> None:
    import numpy as np

    space = nasbench201().checked
    codes = Codes(space.table)
    many = np.random.default_rng(0).integers(0, 5, (1_000_000, 6)).astype(np.int16)
    once = codes.unique(many)
    assert len(once) == 15_625
    assert codes.contained(many, once).all()
