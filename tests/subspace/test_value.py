"""The algebra of sub-spaces: membership, sizes, draws, supports, intersections; estimates against the truth."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.identity.distinct import Tally
from nasdsl.identity.encodings import Encodings
from nasdsl.subspace import value
from nasdsl.subspace.files import balls, members, restriction
from nasdsl.subspace.value import Both, Members, Restriction
from tests.subspace.common import (
    TEXTS,
    basic,
    checked,
    every,
    inside,
    key,
    listed,
    nasbench201,
    subspaces,
    uniform,
)


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_members_are_those_it_contains(name: str, data: st.DataObject) -> None:
    sub = data.draw(subspaces(name))
    truth = inside(name, sub)
    tally = sub.tally()
    assert (tally.low, tally.high) == (len(truth), len(truth))
    assert listed(sub) == truth
    assert sub.listed == len(truth)
    assert {key(sub.member(i)) for i in range(len(truth))} == truth
    if truth:
        assert tally.draw is not None
        assert key(tally.draw(random.Random(0))) in truth
    else:
        assert tally.draw is None


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_an_intersection_is_and(name: str, data: st.DataObject) -> None:
    a, b = data.draw(basic(name)), data.draw(basic(name))
    both = a & b
    assert inside(name, both) == inside(name, a) & inside(name, b)
    assert listed(both) == listed(b & a)
    assert (a & a) == a
    assert (both & a & b) == both
    if not isinstance(a, Members) and not isinstance(b, Members):
        assert both == b & a
    if isinstance(a, Restriction) and isinstance(b, Restriction):
        assert isinstance(both, Restriction)


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_support_is_what_members_take(name: str, data: st.DataObject) -> None:
    sub = data.draw(subspaces(name))
    support = sub.support()
    truth = [c for c in every(name) if sub.contains(c)]
    for decision in checked(name).table.decisions:
        taken = {c[decision.path] for c in truth if decision.path in c}
        assert support[decision.path] == tuple(v for v in decision.values if v in taken)


def test_what_is_no_encoding_is_in_none() -> None:
    sub = balls(checked("plain"), every("plain")[:1], 9)
    assert every("plain")[3] in sub
    assert {"body[1].op": "nonsense"} not in sub


def test_two_spaces_have_nothing_in_common() -> None:
    with pytest.raises(nasdsl.UserError, match="NAS404"):
        _ = balls(checked("plain"), every("plain")[:1], 1) & balls(checked("depths"), every("depths")[:1], 1)


# --- estimates: the same sub-spaces, as if they were too large to list ---------


@pytest.fixture
def unlisted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of more than ten encodings is listed."""
    monkeypatch.setattr(value, "MAX_LISTED", 10)


def near_one(name: str, number: int) -> list[dict[str, object]]:
    """Encodings that are close together: their balls overlap a lot."""
    ordered = sorted(every(name), key=lambda c: sum(c.get(p) != v for p, v in every(name)[0].items()))
    return list(ordered[:number])


@pytest.mark.usefixtures("unlisted")
@pytest.mark.parametrize(("name", "radius"), [("chosen inputs", 1), ("nested options", 1), ("plain", 2)])
def test_draws_from_overlapping_balls_are_uniform(name: str, radius: int) -> None:
    sub = balls(checked(name), near_one(name, 6), radius)
    assert not sub.explicit
    truth = inside(name, sub)
    assert len(truth) < 0.6 * sum(sub.sizes)
    rng, draws = random.Random(5), 12 * len(truth)
    draw = sub.tally().draw
    assert draw is not None
    assert uniform(Counter(key(draw(rng)) for _ in range(draws)), truth, draws)


@pytest.mark.usefixtures("unlisted")
def test_the_interval_covers_the_size_of_a_union() -> None:
    """In 19 of 20 cases: three misses of twelve have a probability of 2 %; and no side is favoured."""
    space = nasbench201()
    whole = list(Encodings(space.checked.table).all())
    covered, ratios = 0, []
    for seed, radius in product(range(4), (1, 2, 3)):
        some = [a.choices for a in space.sample(12, seed=seed)]
        near = [a.choices for s in space.sample(2, seed=seed) for a in space.neighbours(s)[:10]]
        sub = balls(space.checked, [*some, *near], radius)
        truth = int(sub.contains_rows(sub.codes.rows(whole)).sum())
        tally = sub.tally()
        assert not tally.exact
        assert "estimated" in tally.how
        assert tally.high - tally.low < 0.15 * truth
        covered += tally.low <= truth <= tally.high
        ratios.append((tally.low + tally.high) / 2 / truth)
    assert covered >= 10
    assert abs(sum(ratios) / len(ratios) - 1) < 0.015


@pytest.mark.usefixtures("unlisted")
def test_balls_that_do_not_meet_are_counted_exactly() -> None:
    one, *rest = every("plain")
    far = next(c for c in rest if all(c[p] != v for p, v in one.items()))
    sub = balls(checked("plain"), [one, far], 1)
    assert sub.tally() == Tally(18, 18, "by structure: no two balls meet")
    assert len(inside("plain", sub)) == 18


@pytest.mark.usefixtures("unlisted")
def test_a_large_intersection_is_estimated_and_drawn_uniformly() -> None:
    name = "chosen inputs"
    space = checked(name)
    path = space.table.decisions[-1].path
    narrow = restriction(space, {path: space.table.decisions[-1].values[:1]})
    both = balls(space, near_one(name, 3), 2) & narrow
    assert isinstance(both, Both)
    assert not both.explicit
    truth = inside(name, both)
    tally = both.tally()
    assert tally.low <= len(truth) <= tally.high
    assert tally.low < tally.high
    assert tally.draw is not None
    rng, draws = random.Random(2), 12 * len(truth)
    assert uniform(Counter(key(tally.draw(rng)) for _ in range(draws)), truth, draws)
    with pytest.raises(nasdsl.UserError, match="NAS310"):
        both.rows()


def test_what_is_too_large_is_never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balls in a space of 10^18, in bounded memory."""
    space = nasdsl.load("darts")
    monkeypatch.setattr(value, "ESTIMATES", 500)  # memory is watched, which is slow
    near = space.neighbours(space.sample(1, seed=9)[0])[:10]
    sub = space.balls(near, 3)
    tracemalloc.start()
    tally = sub.tally()
    assert tally.draw is not None
    drawn = [tally.draw(random.Random(i)) for i in range(20)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert not sub.explicit
    assert max(sub.sizes) <= tally.low < tally.high < sum(sub.sizes)
    assert all(c in sub for c in drawn)
    assert all(min(space.population.edits(c, n.choices) for n in near) <= 3 for c in drawn)


def test_an_unrestricted_space_is_all_of_it() -> None:
    space = nasdsl.load("darts")
    whole = space.restriction({})
    assert whole.tally().low == space.count()
    half = space.restriction({"normal.n[1].op[a]": space.decisions[1].options[:1]})
    assert half.tally().low < space.count()
    assert (whole & half) == half


def test_members_are_sorted_and_once() -> None:
    some = [*every("plain")[5:9], *every("plain")[3:7]]
    assert members(checked("plain"), some) == members(checked("plain"), reversed(every("plain")[3:9]))
