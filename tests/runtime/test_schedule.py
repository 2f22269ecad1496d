"""Laws of schedules: the rate of steps follows from the ratio alone, and a resumed run decides alike."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasdsl.runtime.search.schedule import Alternate, Informed, fisher_trace, split

RATIOS = (0.25, 1.0, 4.0, 10.0)


def drifting(seed: int, drift: float = 0.0) -> Callable[[int], float]:
    """F of a long run: heavy noise about a level that wanders by orders of magnitude."""
    source = random.Random(seed)
    level = 0.0

    def trace(step: int) -> float:
        nonlocal level
        level = 0.999 * level + 0.05 * source.gauss(0.0, 1.0)
        return math.exp(level + source.gauss(0.0, 1.0) + drift * step)

    return trace


def run(schedule: Informed, traces: Iterable[float]) -> list[bool]:
    taken = []
    for trace in traces:
        due = schedule.due()
        schedule.decided(due)
        schedule.observe(trace)
        taken.append(due)
    return taken


@pytest.mark.parametrize("smoothing", [1.0, 0.2])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_rate_is_one_in_one_plus_s_at_any_scale(ratio: float, scale: float, smoothing: float) -> None:
    schedule = Informed(ratio, smoothing=smoothing)
    run(schedule, [scale] * 40_000)
    assert schedule.rate == pytest.approx(1 / (1 + ratio), rel=0.01)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("drift", [0.0, -2e-3, 2e-3])
def test_the_rate_holds_for_noisy_drifting_information(ratio: float, drift: float) -> None:
    schedule = Informed(ratio, smoothing=0.2)
    trace = drifting(int(ratio * 4), drift)
    run(schedule, (trace(t) for t in range(60_000)))
    # A drift d of log F each step is one of log theta: r = (1 - d / ln m) / (1 + s).
    assert schedule.rate == pytest.approx((1 - drift / math.log(1.05)) / (1 + ratio), rel=0.01)


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200),
    st.floats(0.1, 12),
    st.floats(1.01, 1.5),
    st.floats(0.05, 1),
)
def test_the_rate_is_told_by_how_far_the_threshold_went(
    traces: list[float], ratio: float, growth: float, smoothing: float
) -> None:
    schedule = Informed(ratio, growth, smoothing, threshold=3.0)
    run(schedule, traces)
    steps = math.log(schedule.theta / 3.0) / math.log(growth)
    assert steps == pytest.approx(schedule.steps - schedule.taken * (1 + ratio), abs=1e-6)
    assert schedule.steps == len(traces)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60), st.integers(-20, 20), st.sampled_from(RATIOS))
def test_scaling_information_and_threshold_changes_no_decision(
    traces: list[float], power: int, ratio: float
) -> None:
    scale = 2.0**power  # exact in floating point
    plain, scaled = Informed(ratio, smoothing=0.2), Informed(ratio, smoothing=0.2, threshold=scale)
    assert run(plain, traces) == run(scaled, [scale * f for f in traces])


def test_no_step_is_due_before_anything_is_known_nor_where_nothing_is_learnt() -> None:
    schedule = Informed(1.0)
    assert not schedule.due()
    schedule.observe(0.0)
    assert not schedule.due()
    schedule.observe(0.999)
    assert schedule.due()
    schedule.observe(1.0)
    assert not schedule.due()


@given(st.lists(st.floats(0.1, 10.0), min_size=3, max_size=40), st.floats(0.05, 1.0))
def test_the_mean_begins_as_one_name_of_the_tensor_that_information_is_summed_in(
    traces: list[float], smoothing: float
) -> None:
    schedule = Informed(4.0, smoothing=smoothing)
    total = mean = torch.zeros((), dtype=torch.float64)
    for count, trace in enumerate(traces):
        total.zero_().add_(trace)
        mean = total if count == 0 else smoothing * total + (1 - smoothing) * mean
        schedule.observe(trace)
        assert schedule.mean == pytest.approx(float(mean), rel=1e-9)
    assert count + 1 == schedule.observed


def test_a_step_not_taken_although_due_raises_the_threshold() -> None:
    schedule = Informed(2.0)
    schedule.observe(0.5)
    assert schedule.due()
    schedule.decided(False)
    assert schedule.theta == pytest.approx(1.05)
    schedule.decided(True)
    assert schedule.theta == pytest.approx(1.05 * 1.05**-2)
    assert (schedule.steps, schedule.taken, schedule.rate) == (2, 1, 0.5)


@given(st.integers(1, 12), st.integers(0, 60))
def test_alternate_takes_every_sth(every: int, count: int) -> None:
    schedule = Alternate(every)
    taken = []
    for step in range(count):
        if schedule.due():
            taken.append(step)
        schedule.decided(schedule.due())
    assert taken == [t for t in range(count) if (t + 1) % every == 0]
    assert schedule.taken == count // every
    assert schedule.rate == (len(taken) / count if count else 0.0)


@given(st.lists(st.floats(1e-2, 10.0), min_size=2, max_size=60), st.integers(0, 60))
def test_a_resumed_run_decides_alike(traces: list[float], cut: int) -> None:
    whole, first, second = (Informed(1.0, smoothing=0.2) for _ in range(3))
    expected = run(whole, traces)
    begun = run(first, traces[:cut])
    second.load_state_dict(through_a_file(first.state_dict()))
    assert begun + run(second, traces[cut:]) == expected
    assert second == whole


def test_alternate_resumes_within_a_period() -> None:
    first, second = Alternate(3), Alternate(3)
    first.decided(first.due())
    first.decided(first.due())
    second.load_state_dict(through_a_file(first.state_dict()))
    assert second.due()
    assert second == first


def through_a_file(state: dict[str, float]) -> dict[str, float]:
    held = io.BytesIO()
    torch.save(state, held)
    held.seek(0)
    loaded: dict[str, float] = torch.load(held, weights_only=True)
    return loaded


@given(st.sampled_from(RATIOS))
def test_the_split_serves_one_step_of_the_variables_with_one_plus_s_of_the_weights(ratio: float) -> None:
    assert split(ratio) / (1 - split(ratio)) == pytest.approx(ratio)


# --- the trace ---------------------------------------------------------------


def test_the_trace_is_the_sum_of_squares_over_parameters_that_have_a_gradient() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    pruned = nn.Parameter(torch.ones(5))
    net(torch.randn(6, 3, dtype=torch.float64)).square().mean().backward()
    found = fisher_trace([*net.parameters(), pruned])
    assert found.shape == ()
    assert found.dtype == torch.float64
    expected = sum(float((p.grad * p.grad).sum()) for p in net.parameters() if p.grad is not None)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    net.zero_grad(set_to_none=True)
    assert float(fisher_trace(net.parameters())) == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_formats_are_summed_in_float32(dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.zeros(4099, dtype=dtype))
    weight.grad = torch.full_like(weight, 256.0)  # 256^2 is no float16, and the sum no bfloat16
    found = fisher_trace([weight])
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(4099 * 256.0**2, rel=1e-6)


def test_parameters_may_differ_in_format() -> None:
    parts = [nn.Parameter(torch.zeros(2, dtype=t)) for t in (torch.float32, torch.float64, torch.bfloat16)]
    for part in parts:
        part.grad = torch.ones_like(part)
    assert float(fisher_trace(parts)) == pytest.approx(6.0, rel=1e-6)


def test_twice_the_gradient_is_four_times_the_trace() -> None:
    weight = nn.Parameter(torch.zeros(3, 3))
    weight.grad = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    once = float(fisher_trace([weight]))
    weight.grad *= 2
    assert float(fisher_trace([weight])) == pytest.approx(4 * once, rel=1e-6)
