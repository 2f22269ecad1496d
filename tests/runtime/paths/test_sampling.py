"""Which paths a step trains, and that it trains no more than these."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from nasdsl.runtime.paths.choices import Choices, values_of
from nasdsl.runtime.paths.engine import PathEngine
from nasdsl.runtime.paths.finding import make_finder
from nasdsl.runtime.paths.sampling import Bins, Draw, Fair, Sandwich, Uniform, make_sampler
from nasdsl.runtime.standalone.basics import Mistake
from tests.runtime.paths.small import CLASSES, batch, built, epoch_of, settings_of, supernet, used, values
from tests.runtime.steps import same


def decision(path: str, options: int, when: Any = None) -> dict[str, Any]:
    """One of `options` values, called 0, 1, ..."""
    return {
        "path": path,
        "kind": "op",
        "options": tuple(map(str, range(options))),
        "low": 1,
        "high": 1,
        "numbers": (),
        "when": when,
    }


def weight(path: Mapping[str, Any]) -> int:
    """A cost: the sum of the values."""
    return sum(int(v) for v in path.values())


def draw(*options: int, seed: int = 0, **given: Any) -> Draw:
    return Draw([decision(f"d{i}", n) for i, n in enumerate(options)], seed, weight, **given)


# --- uniform -----------------------------------------------------------------


def test_uniform_paths_are_all_alike() -> None:
    """Chi-square over all 24 paths; independent decisions follow."""
    sampler = Uniform(draw(2, 3, 4), 8)
    counts = Counter(tuple(p.values()) for _ in range(600) for p in sampler.next())
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_limits_leave_all_that_keep_them_alike() -> None:
    sampler = Uniform(draw(3, 3, 3, allowed=lambda p: weight(p) <= 2), 1)
    counts = Counter(tuple(p.values()) for _ in range(2000) for p in sampler.next())
    assert set(counts) == {
        (a, b, c) for a in "012" for b in "012" for c in "012" if int(a) + int(b) + int(c) <= 2
    }
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_a_limit_that_nothing_keeps_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdsl.runtime.paths.sampling.MOST_DRAWS", 100)
    with pytest.raises(Mistake, match="none of 100 random paths is within the limits"):
        draw(3, allowed=lambda p: False).one()


def test_tight_limits_are_drawn_from_exactly_where_that_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdsl.runtime.paths.sampling.FEW_DRAWS", 3)
    inside = [{"d0": "9", "d1": "9", "d2": v} for v in "01"]
    calls: list[int] = []

    def exact(generator: random.Random) -> Choices:
        calls.append(1)
        return generator.choice(inside)

    made = draw(10, 10, 10, allowed=lambda p: p in inside, exact=exact)
    counts = Counter(made.one()["d2"] for _ in range(200))
    assert len(calls) == 200
    assert stats.chisquare(list(counts.values())).pvalue > 0.01
    again = draw(10, 10, 10, seed=3, allowed=lambda p: p in inside, exact=exact)
    again.load_state_dict(made.state_dict())
    assert [again.one() for _ in range(20)] == [made.one() for _ in range(20)]
    assert len(calls) == 240

    def cannot(generator: random.Random) -> Choices:
        raise ValueError("several limits at once")

    slow = draw(10, 10, 10, allowed=lambda p: p in inside, exact=cannot)
    assert all(slow.one() in inside for _ in range(3))
    monkeypatch.setattr("nasdsl.runtime.paths.sampling.MOST_DRAWS", 10)
    with pytest.raises(Mistake, match="within the limits"):
        draw(10, allowed=lambda p: False, exact=cannot).one()


def test_decisions_that_are_not_made_are_not_there() -> None:
    inner = decision("inner", 3, when=((("outer", "1"),),))
    made = Draw([decision("outer", 2), inner], 0, weight)
    paths = [made.one() for _ in range(300)]
    assert all(("inner" in p) == (p["outer"] == "1") for p in paths)
    assert {p["inner"] for p in paths if "inner" in p} == {"0", "1", "2"}
    assert made.extreme(1) == {"outer": "1", "inner": "2"}
    assert made.extreme(-1) == {"outer": "0"}
    for path in paths[:50]:
        for other in (made.neighbour(path), made.mutant(path, 0.5), made.child(path, paths[0])):
            assert made.path({"inner": "0", **other}) == other


def test_the_largest_path_has_an_inner_choice_beyond_a_first_step_down() -> None:
    """`extreme` changes one decision at a time: the cost may depend on them together."""
    table = {("0", "0"): 1, ("0", "1"): 2, ("1", "0"): 5, ("1", "1"): 9}
    made = Draw([decision("a", 2), decision("b", 2)], 0, lambda p: table[str(p["a"]), str(p["b"])])
    assert made.extreme(1) == {"a": "1", "b": "1"}
    assert made.extreme(-1) == {"a": "0", "b": "0"}


# --- bins --------------------------------------------------------------------


def test_a_path_of_a_bin_is_in_it_and_bins_are_alike() -> None:
    """Sums of six dice pile up in the middle; the bins do not."""
    sampler = Bins(draw(6, 6, 6, 6, 6, 6), 1, 6.0, 24.0, 6)
    at: list[int] = []
    plain = sampler.draw.random.randrange
    sampler.draw.random.randrange = lambda n: at.append(plain(n)) or at[-1]  # type: ignore[assignment, func-returns-value]
    found = Counter[int]()
    for _ in range(600):
        (path,) = sampler.next()
        low = 6 + 3 * at[-1]
        assert low <= weight(path) < low + 3
        found[at[-1]] += 1
    assert len(found) == 6
    assert stats.chisquare(list(found.values())).pvalue > 0.01


def test_an_empty_bin_takes_any_path_and_a_reversed_one_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sampler = Bins(draw(2, 2), 1, 100.0, 200.0, 1)
    (path,) = sampler.next()
    assert set(path) == {"d0", "d1"}
    assert "none of 500 paths costs 100 to 200" in capsys.readouterr().out
    sampler.next()
    assert not capsys.readouterr().out, "it is said once"
    assert [len(Bins(draw(2), n, 0.0, 2.0, 1).next()) for n in (1, 3)] == [1, 3]
    with pytest.raises(Mistake, match="bin_low < bin_high"):
        Bins(draw(2), 1, 2.0, 2.0, 1)


# --- fair --------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 99))
def test_fair_counts_are_equal_after_any_number_of_steps(options: list[int], steps: int, seed: int) -> None:
    made = draw(*options, seed=seed)
    sampler = Fair(made)
    paths = [p for _ in range(steps) for p in sampler.next()]
    for name, alternatives in made.values.items():
        counts = Counter(p[name] for p in paths)
        assert {counts[v] for v in alternatives} == {len(paths) / len(alternatives)}
    if len(set(options)) == 1:  # the paper's case: each value in exactly one path
        assert len(paths) == steps * options[0]


def test_fair_permutations_are_independent_and_all_alike() -> None:
    sampler = Fair(draw(3, 3))
    counts = Counter(tuple(sorted((str(p["d0"]), str(p["d1"])) for p in sampler.next())) for _ in range(600))
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_too_many_fair_paths_are_refused() -> None:
    with pytest.raises(Mistake, match="would train 420 paths a step"):
        Fair(draw(3, 4, 5, 7))


# --- sandwich ----------------------------------------------------------------


def test_a_sandwich_has_the_largest_first_and_the_smallest_last() -> None:
    sampler = Sandwich(draw(3, 4, 2, allowed=lambda p: weight(p) <= 3), 5)
    for _ in range(20):
        first, *middle, last = sampler.next()
        assert list(first.values()) == ["2", "3", "1"]  # a teacher need not keep limits
        assert set(last.values()) == {"0"}
        assert all(weight(p) <= 3 for p in middle)
        assert len(middle) == 3
    with pytest.raises(Mistake, match="two paths a step"):
        Sandwich(draw(3), 1)


def test_the_sampler_is_the_one_that_is_named() -> None:
    base = settings_of("spos", bin_low=0.0, bin_high=4.0)
    kinds = {"uniform": Uniform, "bins": Bins, "fair": Fair, "sandwich": Sandwich}
    for name, kind in kinds.items():
        assert type(make_sampler({**base, "sampler": name, "paths": 3}, draw(2, 3))) is kind


@settings(max_examples=30)
@given(st.sampled_from(["uniform", "bins", "fair", "sandwich"]), st.integers(0, 9), st.integers(0, 9))
def test_a_sampler_continues_from_its_state(kind: str, before: int, seed: int) -> None:
    given_ = {**settings_of("spos", bin_low=0.0, bin_high=4.0), "sampler": kind, "paths": 3}
    one, two = (make_sampler(given_, draw(2, 3, 2, seed=s)) for s in (seed, seed + 1))
    for _ in range(before):
        one.next()
    two.draw.load_state_dict(one.draw.state_dict())  # type: ignore[attr-defined]
    assert [one.next() for _ in range(3)] == [two.next() for _ in range(3)]


@pytest.mark.parametrize("kind", ["random", "evolution", "aging", "nsga2"])
@pytest.mark.parametrize("seed", range(2))
def test_finders_keep_limits(kind: str, seed: int) -> None:
    made = draw(3, 3, 3, 3, seed=seed, allowed=lambda p: 2 <= weight(p) <= 4)
    given_ = {**settings_of("spos"), "search": kind, "evaluations": 30, "population": 6, "parents": 3}
    finder = make_finder(given_, made, [])
    while (path := finder.ask()) is not None:
        assert 2 <= weight(path) <= 4
        finder.tell(weight(path) / 8)
    assert len(finder.judged) == 30


def test_paths_of_the_board_that_break_a_limit_are_not_judged() -> None:
    made = draw(3, 3, allowed=lambda p: weight(p) <= 2)
    board: list[Choices] = [{"d0": "2", "d1": "2"}, {"d0": "1", "d1": "1"}, {"d0": "1", "d1": "1"}]
    finder = make_finder({**settings_of("cream"), "search": "board"}, made, board)
    assert finder.ask() == board[1]
    finder.tell(0.5)
    assert finder.ask() is None


# --- what a step does --------------------------------------------------------


def loss_of(net: Any, path: Choices, data: tuple[Tensor, Tensor], taught: Tensor | None = None) -> Tensor:
    net.set_architecture(path)
    logits = net(data[0])
    if taught is None:
        return F.cross_entropy(logits, data[1], label_smoothing=0.1)
    return -(taught * logits.log_softmax(1)).sum(1).mean()


def stepped(
    engine: PathEngine, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Choices], dict[str, Tensor | None]]:
    """One step: its paths and the gradients that the optimiser steps with."""
    paths: list[Choices] = []
    draws, plain = engine.sampler.next, engine.optimizer.step
    seen: dict[str, Tensor | None] = {}

    def record() -> None:
        seen.update({n: None if p.grad is None else p.grad.clone() for n, p in engine.net.named_parameters()})
        plain()

    monkeypatch.setattr(engine.sampler, "next", lambda: paths.extend(draws()) or paths)
    monkeypatch.setattr(engine.optimizer, "step", record)
    engine.step(batch(3), 0.0)
    return paths, seen


@pytest.mark.parametrize(
    ("method", "share", "changes"),
    [
        ("fairnas", 1.0, {}),
        ("spos", 1 / 3, {"paths": 3}),
        ("spos", 1 / 2, {"paths": 2, "sampler": "bins", "bin_low": 0.0, "bin_high": 1e9, "bins": 3}),
        ("sandwich", 1.0, {}),
        ("sandwich", 1.0, {"distillation": "off"}),
    ],
)
def test_the_gradient_of_a_step_is_that_of_its_paths(
    monkeypatch: pytest.MonkeyPatch, method: str, share: float, changes: dict[str, Any]
) -> None:
    """Fair and sandwich: the sum; uniform and bins: the mean. One batch, one step, each path its own loss."""
    _, engine = built(method, **changes)
    paths, found = stepped(engine, monkeypatch)
    assert len(paths) == {"fairnas": 3, "sandwich": 4}.get(method, changes.get("paths"))
    other, taught = supernet(), None
    for number, path in enumerate(paths):
        loss = loss_of(other, path, batch(3), taught)
        (share * loss).backward()
        if method == "sandwich" and number == 0 and not changes:
            other.set_architecture(path)
            taught = other(batch(3)[0]).detach().softmax(1)  # labels teach the largest, it teaches the others
    for name, parameter in other.named_parameters():
        gradient = found[name]
        assert (gradient is None) == (parameter.grad is None), name
        if gradient is not None and parameter.grad is not None:
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)
    if method == "fairnas":
        assert all(g is not None for g in found.values())


def test_clipping_is_of_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, engine), (_, clipped) = built("fairnas"), built("fairnas", clip=0.01)
    _, plain = stepped(engine, monkeypatch)
    _, found = stepped(clipped, monkeypatch)
    norms = [
        float(torch.cat([g.flatten() for g in each.values() if g is not None]).norm())
        for each in (plain, found)
    ]
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_fair_steps_of_one_path_are_plain_training() -> None:
    """Decisions of one value: nothing but SGD on that network, to the bit."""
    net = supernet()
    alone = [{**d, "options": (d["options"][1],)} for d in net.DECISIONS]
    made = Draw(alone, 0, lambda p: 0)
    engine = PathEngine(net, settings_of("fairnas"), made, CLASSES)
    assert isinstance(engine.sampler, Fair)
    assert engine.sampler.count == 1
    for epoch in range(2):
        epoch_of(engine, epoch)
    other = supernet().train()
    other.set_architecture({d["path"]: d["options"][0] for d in alone})
    sgd = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9, weight_decay=4e-5)
    for number in range(6):
        epoch, step = divmod(number, 3)
        sgd.param_groups[0]["lr"] = 0.1 * (1.0 - (epoch + step / 3) / 8)
        sgd.zero_grad()
        x, y = batch(epoch * 10 + step)
        F.cross_entropy(other(x), y, label_smoothing=0.1).backward()
        sgd.step()
    assert same(values(net), values(other))


@pytest.mark.parametrize("method", ["spos", "cream", "random"])
def test_weights_off_the_path_stay_to_the_bit(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Under momentum and decay, after all of them were trained."""
    net, engine = built(method, weight_decay=0.1, weight_momentum=0.9, decay_norms=True)
    for epoch in range(3):
        epoch_of(engine, epoch, 6)
    assert all("momentum_buffer" in engine.optimizer.state[p] for p in net.parameters())
    for number in range(6):
        before = values(net)
        path = engine.draw.one()
        monkeypatch.setattr(engine.sampler, "next", lambda p=path: [p])
        engine.step(batch(50 + number), 0.5)
        moved = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
        assert moved == used(net, path)
        # Statistics too: those off the path are of other paths.
        counted = {n for n, b in net.named_buffers() if not torch.equal(b, before[n])}
        assert {n.split(".")[0] for n in counted} == {n.split(".")[0] for n in used(net, path)} - {"head"}


def test_decay_is_of_what_the_setting_says() -> None:
    for norms in (True, False):
        net, engine = built("spos", decay_norms=norms, weight_decay=0.5)
        decays = {id(p): g["weight_decay"] for g in engine.optimizer.param_groups for p in g["params"]}
        assert len(decays) == len(list(net.parameters()))
        for parameter in net.parameters():
            assert decays[id(parameter)] == (0.5 if norms or parameter.dim() > 1 else 0.0)


def test_the_rate_falls_to_zero_in_a_line() -> None:
    _, engine = built("spos")
    rates = []
    for number in range(24):
        epoch, step = divmod(number, 3)
        engine.begin(epoch)
        engine.step(batch(number), step / 3)
        rates.append(engine.record()["learning_rate"])
    assert rates == pytest.approx([0.1 * (1 - n / 24) for n in range(24)])


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(Mistake, match="batch_size must be 6 at least"):
        built("cream", batch_size=5)
    with pytest.raises(Mistake, match="needs sampler=sandwich"):
        built("spos", distillation="inplace")


def test_values_of_a_choice_of_inputs_are_its_subsets() -> None:
    made = {**decision("in", 3), "kind": "inputs", "low": 1, "high": 2}
    assert values_of(made) == (("0",), ("1",), ("2",), ("0", "1"), ("0", "2"), ("1", "2"))
