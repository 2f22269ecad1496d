"""Laws of shrinking: what every round's set is, what is asked for, and when it ends."""

from __future__ import annotations

import itertools
import json
import math
import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import pytest

import nasdsl
from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.scoring.regression import Regression
from nasdsl.shrinking import Round, Rules, Shrinking
from nasdsl.shrinking.baselines import operational_pruning
from nasdsl.shrinking.candidates import Scale, candidates
from nasdsl.subspace.files import restriction
from nasdsl.subspace.value import Balls, Both, Members
from tests.shrinking.common import (
    Landscape,
    additive,
    cells,
    constant,
    drive,
    figures,
    ground,
    independent,
    left,
    scores_of,
    seeds_of,
    shrink,
    space,
)
from tests.subspace.common import every, key

SPACES = ("row", "limited", "nested options", "three in one", "depths", "chosen inputs")
FEW = Rules(samples=12, fresh=6, least=4, bins=3, evaluations=60, top=0.3)
MORE = Rules(samples=80, fresh=30, least=16, evaluations=300)


def fitting(name: str) -> Rules:
    return MORE if name == "row" else FEW


def deeper(name: str, rules: Rules, score: Landscape, seed: int) -> list[Shrinking]:
    """The same shrinking, stopped after one round, two, ... : the sets of its rounds."""
    found: list[Shrinking] = []
    for rounds in range(1, 20):
        one = shrink(space(name), score, attrs.evolve(rules, rounds=rounds), seed)
        if sum(r.kept for r in one.rounds) <= rounds:
            return found
        found.append(one)
    return found


@pytest.mark.parametrize("predictor", [True, False], ids=["predictor", "all neighbours"])
@pytest.mark.parametrize("name", SPACES)
def test_a_set_is_the_neighbourhood_of_the_best_of_the_one_before(name: str, predictor: bool) -> None:
    rules = attrs.evolve(fitting(name), predictor=predictor, least=1)
    grown = 0
    for seed in range(3):
        before, told = None, None
        for one in deeper(name, rules, additive(seed), seed):
            sub = left(one)
            assert isinstance(sub, Members)
            grown += 1
            last = [r for r in one.rounds if r.kept][-1]
            seeds = seeds_of(one, before, told or one.rounds[0].evaluations)
            assert last.seeds == len(seeds)
            balls = one.ground.near(seeds, 1)
            candidates = one.ground.kept(balls.rows())
            if before is not None:
                assert before.contains_rows(sub.rows()).all()
                candidates = candidates[before.contains_rows(candidates)]
            assert last.candidates == len(candidates)
            assert last.size == len(sub.rows()) <= len(seeds) * max(balls.sizes)
            assert sub.contains_rows(seeds).all()
            inside = one.ground.codes.contained(sub.rows(), one.ground.codes.unique(candidates))
            assert inside.all()
            if not predictor:
                assert len(sub.rows()) == len(candidates)
            before, told = sub, last.evaluations
    assert grown > 3 or name != "row"  # of the smallest spaces the neighbours may be all there is


@pytest.mark.parametrize("name", SPACES)
def test_it_ends_with_ever_smaller_sets(name: str) -> None:
    for seed, score in itertools.product(range(2), (additive(1), independent(1), constant)):
        for rules in (fitting(name), attrs.evolve(fitting(name), seeds="whole", radius=2, rounds=2)):
            done = shrink(space(name), score, rules, seed)
            assert [r.number for r in done.rounds] == list(range(len(done.rounds)))
            assert len(done.rounds) <= rules.rounds + 1
            sizes = [r.size for r in done.rounds if r.kept]
            assert all(small < large for large, small in itertools.pairwise(sizes))
            assert all(r.kept for r in done.rounds[:-1])
            assert all(size >= rules.least for size in sizes)
            assert done.result is not None
            assert done.result.size == sizes[-1]
            sub = left(done)
            assert (sub is None) == (len(sizes) == 1)
            assert sub is None or len(sub.rows()) == sizes[-1]


@pytest.mark.parametrize("name", ["row", "depths", "chosen inputs"])
def test_nothing_is_left_out_of_a_constant_landscape(name: str) -> None:
    done = shrink(space(name), constant, fitting(name))
    assert left(done) is None
    assert len(done.rounds) <= 2
    assert not any(r.kept for r in done.rounds[1:])


def test_neighbours_gain_nothing_where_scores_are_independent() -> None:
    rules = Rules(samples=100, fresh=50, least=1, rounds=1, predictor=False, top=0.05)
    every_gain, neighbour_means = [], []
    for seed in range(16):
        score = independent(seed)
        done = shrink(space("row"), score, rules, seed)
        y, rows = figures(done.ground, score), done.ground.every
        assert rows is not None
        every_gain.append(done.rounds[1].mean - y.mean())
        seeds = seeds_of(done, None, 100)
        near = done.ground.near(seeds, 1).contains_rows(rows)
        near &= ~done.ground.codes.contained(rows, done.ground.codes.unique(seeds))
        assert y[~near].max() > y[near].mean()
        neighbour_means.append(y[near].mean() - y.mean())
        # Seeds themselves are lucky: that is why they are left out of both.
        assert np.mean(scores_of(score)([done.ground.choices(r) for r in seeds])) > y.mean() + 0.2
    for gains in (every_gain, neighbour_means):
        assert abs(np.mean(gains)) < 4 * np.std(gains) / math.sqrt(len(gains))
    # A bound of its own: 16 sets of about 50 fresh samples with a standard deviation of 12 ** -0.5.
    assert abs(np.mean(every_gain)) < 4 * 12**-0.5 / math.sqrt(16 * 50)


@pytest.mark.parametrize("name", ["row", "cells"])
def test_neighbours_keep_a_fixed_part_of_an_additive_lead(name: str) -> None:
    of, positions, options = (space("row"), 5, 4) if name == "row" else (cells(), 6, 5)
    kept = 1 - options / (positions * (options - 1))
    rules = Rules(samples=60, fresh=20, least=1, rounds=1, predictor=False)
    for seed in range(3):
        score = additive(seed)
        done = shrink(of, score, rules, seed)
        at = done.ground
        assert at.every is not None
        global_mean = math.fsum(figures(at, score)) / len(at.every)
        seeds = seeds_of(done, None, 60)
        means, own = [], []
        for row in seeds:
            near = at.near(row[None], 1).rows()
            others = [score(at.choices(r)) for r in near if (r != row).any()]
            assert len(others) == positions * (options - 1)
            means.append(math.fsum(others) / len(others))
            own.append(score(at.choices(row)))
        expected = global_mean + kept * (np.mean(own) - global_mean)
        assert np.mean(means) == pytest.approx(expected, abs=1e-11)
        assert len(seeds) == done.rounds[1].seeds


LOW, HIGH = "k1", "k7"


def hills(choices: Mapping[str, Choice]) -> float:
    """Two hills as high, round all of one kernel and round all of another."""
    return float(max(sum(v == peak for v in choices.values()) for peak in (LOW, HIGH)) ** 2)


def peaks_of(name: str) -> list[dict[str, Choice]]:
    return [{d.path: kernel for d in space(name).decisions} for kernel in (LOW, HIGH)]


@pytest.mark.parametrize("predictor", [True, False], ids=["predictor", "all neighbours"])
def test_both_peaks_are_kept(predictor: bool) -> None:
    rules = Rules(samples=250, fresh=80, least=24, evaluations=500, predictor=predictor, top=0.1)
    for seed in range(3):
        sub = left(shrink(space("row"), hills, rules, seed))
        assert sub is not None
        assert all(sub.contains(peak) for peak in peaks_of("row"))


def test_pruning_of_operations_loses_a_peak_at_the_same_size() -> None:
    """What values are left of each decision are combined freely: both peaks are 64 combinations at least."""
    rules = Rules(samples=800, fresh=120, least=20, evaluations=1400, top=0.02, bins=2)
    peaks, lost = peaks_of("row of six"), 0
    for seed in range(5):
        done = shrink(space("row of six"), hills, rules, seed)
        sub = left(done)
        assert sub is not None
        assert all(sub.contains(peak) for peak in peaks)
        assert done.result is not None
        size, spent = done.result.size, len(done.result.scored)
        rows = operational_pruning(done.ground, scores_of(hills), size, spent, seed)
        kept = [done.ground.choices(r) for r in rows]
        lost += sum(peak in kept for peak in peaks) < 2
        if size < 64:
            assert sum(peak in kept for peak in peaks) < 2
    assert lost >= 3


@pytest.mark.parametrize("name", SPACES)
def test_the_seed_decides(name: str) -> None:
    one, same, other = (shrink(space(name), additive(3), fitting(name), seed) for seed in (5, 5, 6))
    assert one.result == same.result
    assert one.result is not None
    assert other.result is not None
    assert [s.choices for s in one.result.scored] != [s.choices for s in other.result.scored]


def test_no_network_is_asked_for_twice() -> None:
    done = shrink(cells(), additive(0), Rules(samples=120, fresh=60, evaluations=400, least=64))
    assert done.result is not None
    assert len(done.rounds) > 2
    scored = [s.choices for s in done.result.scored]
    networks = {cells().population.fingerprint(c) for c in scored}
    assert len(networks) == len(scored)
    # The law is not empty: this space has encodings that are one network.
    drawn = [a.choices for a in cells().sample(400, seed=0)]
    assert len({cells().population.fingerprint(c) for c in drawn}) < len({key(c) for c in drawn})


@pytest.mark.parametrize("evaluations", [1, 7, 80, 81, 100, 10_000])
def test_the_budget_is_a_bound(evaluations: int) -> None:
    done = shrink(space("row"), additive(2), attrs.evolve(MORE, evaluations=evaluations))
    assert done.result is not None
    assert len(done.result.scored) <= evaluations
    assert done.rounds[-1].evaluations == len(done.result.scored)
    assert all(s.cost == space("row").costs("macs").at(s.choices) for s in done.result.scored)
    if evaluations <= 80:
        assert len(done.result.scored) == evaluations


@pytest.mark.parametrize("name", ["pair", "nested options", "limited", "chosen inputs"])
def test_a_space_smaller_than_its_samples_is_scored_as_a_whole(name: str) -> None:
    done = shrink(space(name), additive(1), Rules())
    assert done.result is not None
    networks = {space(name).population.fingerprint(s.choices) for s in done.result.scored}
    known = {
        space(name).population.fingerprint(ground(name).choices(r))
        for r in ground(name).every  # type: ignore[union-attr]
    }
    assert networks == known
    assert left(done) is None


@pytest.mark.parametrize("least", [1, 16, 100, 400])
@pytest.mark.parametrize("predictor", [True, False], ids=["predictor", "all neighbours"])
def test_a_set_has_the_members_that_it_shall_have_at_least(least: int, predictor: bool) -> None:
    for seed in range(3):
        rules = attrs.evolve(MORE, least=least, predictor=predictor)
        done = shrink(space("row"), additive(seed), rules, seed)
        assert len(done.rounds) > 1
        assert all(r.size >= least for r in done.rounds)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_scores_that_are_no_numbers_do_no_harm(odd: float, share: float) -> None:
    def score(choices: Mapping[str, Choice]) -> float:
        return odd if independent(9)(choices) < share else additive(1)(choices)

    done = shrink(space("row"), score, MORE)
    assert all(math.isfinite(r.mean) and math.isfinite(r.error) for r in done.rounds)
    assert all(math.isfinite(r.best) for r in done.rounds)
    if share == 1:
        assert left(done) is None
    else:
        assert left(done) is not None


@pytest.mark.parametrize("name", ["row", "three in one", "chosen inputs"])
def test_told_one_by_one_and_continued_anywhere_it_ends_the_same(name: str) -> None:
    def score(choices: Mapping[str, Choice]) -> float:
        return math.nan if independent(4)(choices) < 0.05 else additive(2)(choices)

    rules = fitting(name)
    whole = shrink(space(name), score, rules, 3)
    assert whole.result is not None
    total = len(whole.result.scored)
    first = Shrinking(space(name), rules, 3)
    for cut in sorted({0, 1, rules.samples - 1, rules.samples, rules.samples + 1, total - 1, total}):
        while len(first.state_dict()["told"]) < cut:
            first.tell([score(first.ask()[0])])
        state = json.loads(json.dumps(first.state_dict()))
        second = Shrinking(space(name), rules, 3)
        second.load_state_dict(state)
        assert second.ask() == first.ask()
        drive(second, score)
        assert second.rounds == whole.rounds
        assert second.result is not None
        assert second.result.subspace == whole.result.subspace
        assert [s.choices for s in second.result.scored] == [s.choices for s in whole.result.scored]
    assert first.ask() == []


def test_more_scores_than_asked_for_are_a_mistake_and_change_nothing() -> None:
    shrinking = Shrinking(space("pair"), FEW)
    asked = shrinking.ask()
    with pytest.raises(ValueError, match=f"{len(asked) + 1} scores for {len(asked)}"):
        shrinking.tell([0.0] * (len(asked) + 1))
    assert shrinking.ask() == asked


@pytest.mark.parametrize("field", ["samples", "fresh", "top", "bins", "least", "evaluations", "rounds"])
def test_rules_that_make_no_sense_are_refused(field: str) -> None:
    with pytest.raises(UserError, match=field):
        Rules(**{field: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("predictor", [True, False], ids=["predictor", "all neighbours"])
def test_limits_are_kept(predictor: bool) -> None:
    rules = attrs.evolve(FEW, predictor=predictor, samples=12, fresh=8)
    shrunk = 0
    for seed in range(4):
        done = shrink(space("limited"), additive(seed), rules, seed)
        assert done.result is not None
        assert all(space("limited").allows(s.choices) for s in done.result.scored)
        sub = left(done)
        if sub is not None:
            shrunk += 1
            assert all(space("limited").allows(sub.member(i)) for i in range(len(sub.rows())))
    assert shrunk > 0


def test_a_part_is_shrunk_inside_itself() -> None:
    whole = space("row")
    first = left(shrink(whole, additive(1), MORE))
    assert first is not None
    part = restriction(whole.checked, {whole.decisions[0].path: ["k3", "k5"]})
    for inside in (part, first & whole.balls(whole.sample(8, seed=1), 3)):
        done = shrink(whole.within(inside), additive(2), attrs.evolve(FEW, evaluations=150))
        assert done.result is not None
        assert all(inside.contains(s.choices) for s in done.result.scored)
        sub = left(done)
        assert sub is not None
        assert inside.contains_rows(sub.rows()).all()
        assert done.rounds[0].size == inside.tally().high


# --- sets that are too large to be listed ------------------------------------------

LARGE = Rules(samples=160, fresh=80, least=16, evaluations=800, bins=2, top=0.04, radius=5, predictor=False)
"""With the regression the balls would be looked at one by one."""


@pytest.fixture(scope="module")
def large() -> Shrinking:
    return Shrinking(space("long row"), LARGE)


def long_shrunk(rules: Rules, base: Shrinking, of: nasdsl.Space | None = None, seed: int = 0) -> Shrinking:
    known = None if of is not None else base.ground
    return drive(Shrinking(of or space("long row"), rules, seed, known), additive(4))


@pytest.mark.parametrize(("rounds", "kind"), [(1, Balls), (2, Both)])
def test_neighbourhoods_that_cannot_be_listed(
    rounds: int, kind: type[Balls | Both], large: Shrinking, tmp_path: Path
) -> None:
    done = long_shrunk(attrs.evolve(LARGE, rounds=rounds), large)
    assert [r.kept for r in done.rounds] == [True] * (rounds + 1)
    sub = left(done)
    assert isinstance(sub, kind)
    assert not sub.explicit
    last: Round = done.rounds[-1]
    tally = sub.tally()
    assert (tally.low + tally.high) // 2 == last.size < done.rounds[-2].size
    assert last.exact == tally.exact
    path = tmp_path / "sub.json"
    sub.write(path)
    inner = space("long row").within(path)
    assert inner.subspace == sub
    drawn = inner.sample(12, seed=1)
    assert all(sub.contains(a.choices) for a in drawn)
    # About as large as it says: the part of uniform draws of the space that are members.
    rng = random.Random(1)
    rows = done.ground.draws(rng, 4_000)
    share = float(sub.contains_rows(rows).mean())
    size = share * done.ground.tally.high
    slack = 5 * math.sqrt(share / 4_000) * done.ground.tally.high
    assert tally.low - slack <= size <= tally.high + slack


def test_a_part_that_cannot_be_listed_is_shrunk_inside_itself() -> None:
    whole = space("long row")
    path = whole.decisions[0].path
    part = restriction(whole.checked, {path: ["k3", "k5", "k7"]})
    done = drive(Shrinking(whole.within(part), attrs.evolve(LARGE, rounds=1)), additive(4))
    sub = left(done)
    assert sub is not None
    assert not sub.explicit
    assert all(part.contains(s.choices) for s in done.result.scored)  # type: ignore[union-attr]
    drawn = done.ground.codes.rows([sub.tally().draw(random.Random(i)) for i in range(200)])  # type: ignore[misc]
    assert part.contains_rows(drawn).all()
    assert done.rounds[1].size < done.rounds[0].size


def test_balls_are_looked_at_one_by_one_where_all_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows are kept as from one list, or the best expected of them."""
    at = ground("row of six")
    known = Shrinking(at.space, Rules(samples=120), 3, at)
    known.tell([additive(4)(c) for c in known.ask()])
    rows, figures = known.known.rows, known.known.scores
    order = np.argsort(-figures, kind="stable")
    model = Regression(at.codes)
    model.fit(rows, figures.tolist())
    near = at.near(rows[order[:9]], 2)
    bars = np.full(at.bins, figures[order[8]])
    scale = Scale(at, model, bars, near.seeds, 12)
    once, count = candidates(at, near, None, scale, 12)
    assert count == len(near.rows())
    for where in ("candidates", "ground"):
        monkeypatch.setattr(f"nasdsl.shrinking.{where}.MAX_LISTED", max(near.sizes))
    found, untold = candidates(at, near, None, scale, 12)
    assert untold is None
    assert found == once
    before = at.members(np.concatenate([once.rows()[::2], near.seeds]))
    assert set(map(bytes, candidates(at, near, before, scale, 12)[0].rows())) <= set(
        map(bytes, before.rows())
    )
    monkeypatch.setattr("nasdsl.shrinking.candidates.MOST_KEPT", 20)
    few, _ = candidates(at, near, None, scale, 12)
    best = scale.best(once.rows(), 20)
    assert few == at.members(best)
    assert few.contains_rows(near.seeds).all()


@pytest.mark.slow
def test_a_space_of_10_to_the_18_takes_little_memory() -> None:
    of = nasdsl.load("darts")
    costs = of.costs("macs")
    target = costs.at(of.sample(1, seed=3)[0].choices)

    def score(choices: Mapping[str, Choice]) -> float:
        return -abs(costs.at(choices) - target) / 1e6

    tracemalloc.start()
    try:
        done = shrink(of, score, Rules(samples=60, fresh=30, evaluations=180, seeds="whole"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 2**20
    assert done.result is not None
    assert len(done.result.scored) <= 180
    sub = left(done)
    assert sub is not None
    assert done.result.size < of.count()
    assert all(sub.contains(a.choices) for a in of.within(sub).sample(3, seed=0))


def test_every_encoding_is_of_the_small_spaces() -> None:
    """What `depths` lists is what its ground lists: rounds look at no others."""
    listed = ground("depths").every
    assert listed is not None
    assert {key(ground("depths").choices(r)) for r in listed} == {key(c) for c in every("depths")}
