"""Laws of what the loss of operation variables gains: proximity, multipliers, beta-decay, divergence."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nasdsl.runtime.projection import project
from nasdsl.runtime.rows import Group, Row, parameters_of
from nasdsl.runtime.search.regularise import Admm, beta_decay, dirichlet_kl, proximity

FORMS = ("plain", "adjusted")
NORMS = ("plain", "squared")
seeds = st.integers(0, 2**31)


def cells(seed: int = 0, owners: int = 2) -> tuple[list[Group], list[nn.Parameter]]:
    """Cells with nodes of 2, 3 and 4 in-edges and five operations; variables of the clipped kind."""
    generator = torch.Generator().manual_seed(seed)
    groups, parameters = [], []
    for owner in ("normal", "reduce")[:owners]:
        alpha = nn.Parameter(torch.rand(9, 5, generator=generator, dtype=torch.float64))
        parameters.append(alpha)
        for node, start, fan in ((0, 0, 2), (1, 2, 3), (2, 5, 4)):
            rows = tuple(Row(f"op[{i}]", alpha, i, tuple("abcde")) for i in range(start, start + fan))
            groups.append(Group(f"n[{node}]", owner, rows, keep=2))
    return groups, parameters


def clip(_: nn.Parameter, values: Tensor) -> Tensor:
    return values.clamp(0.0, 1.0)


def soften(_: nn.Parameter, values: Tensor) -> Tensor:
    return values.softmax(1)


def weights_of(parameters: list[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    return {p: clip(p, p) for p in parameters}


def number(scalar: Tensor) -> float:
    return float(scalar.detach())


def discretise(groups: list[Group], parameters: list[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """Moves the variables to the architecture they stand for."""
    found = project(groups, {p: p.detach() for p in parameters})
    with torch.no_grad():
        for p in parameters:
            p.copy_(found[p])
    return found


# --- proximity ---------------------------------------------------------------


@given(seeds, st.floats(0, 1), st.floats(1e-3, 10))
def test_proximity_is_half_rho_times_the_share_of_the_search_times_the_distances(
    seed: int, position: float, rho: float
) -> None:
    groups, parameters = cells(seed)
    weights = weights_of(parameters)
    projected = project(groups, weights)
    distances = [number((weights[p] - projected[p]).detach().square().sum()) for p in parameters]
    plain = proximity(weights, projected, position, rho, "plain", "plain")
    squared = proximity(weights, projected, position, rho, "plain", "squared")
    assert plain.shape == squared.shape == ()
    assert number(plain) == pytest.approx(position * rho / 2 * sum(d**0.5 for d in distances))
    assert number(squared) == pytest.approx(position * rho / 2 * sum(distances))


@pytest.mark.parametrize("norm", NORMS)
def test_proximity_does_nothing_at_the_start(norm: str) -> None:
    groups, parameters = cells()
    weights = weights_of(parameters)
    term = proximity(weights, project(groups, weights), 0.0, 1.0, "plain", norm)
    term.backward()
    assert number(term) == 0.0
    assert not any(p.grad.any() for p in parameters if p.grad is not None)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_proximity_vanishes_at_an_architecture_and_its_gradient_is_zero(
    form: str, norm: str, position: float
) -> None:
    groups, parameters = cells()
    discretise(groups, parameters)
    weights = weights_of(parameters)
    term = proximity(weights, project(groups, weights), position, 1.0, form, norm)
    term.backward()
    assert number(term) == 0.0
    for p in parameters:
        assert p.grad is not None
        assert not p.grad.any()
        assert p.grad.isfinite().all()


@given(seeds, st.sampled_from(NORMS))
def test_the_gradient_of_proximity_points_away_from_the_architecture(seed: int, norm: str) -> None:
    groups, parameters = cells(seed, owners=1)
    weights = weights_of(parameters)
    projected = project(groups, weights)
    term = proximity(weights, projected, 1.0, 2.0, "plain", norm)
    (gradient,) = torch.autograd.grad(term, parameters)
    gap = (parameters[0] - projected[parameters[0]]).detach()
    expected = 2 * gap if norm == "squared" else gap / gap.norm()
    torch.testing.assert_close(gradient, expected)


def test_no_gradient_passes_through_the_target() -> None:
    _, (alpha,) = cells(owners=1)
    target = torch.zeros_like(alpha).requires_grad_()
    proximity({alpha: alpha * 1}, {alpha: target}, 1.0, 1.0, "plain", "plain").backward()
    assert target.grad is None


@pytest.mark.parametrize("entries", [2, 5, 8])
def test_adjusted_proximity_leaves_equal_weights_alone_at_first_and_is_proximity_at_the_end(
    entries: int,
) -> None:
    alpha = nn.Parameter(torch.full((3, entries), 1 / entries, dtype=torch.float64))
    groups = [Group("n", "", tuple(Row("op", alpha, i, ("a",) * entries) for i in range(3)), 2)]
    weights = {alpha: alpha * 1}
    projected = project(groups, weights)
    for norm in NORMS:
        early, late = (proximity(weights, projected, t, 1.0, "adjusted", norm) for t in (0.0, 1.0))
        assert number(early) == pytest.approx(0.0, abs=1e-15)
        assert number(late) == pytest.approx(
            number(proximity(weights, projected, 1.0, 1.0, "plain", norm)), rel=1e-12
        )


@given(seeds, st.floats(0, 1))
def test_adjusted_proximity_weighs_each_entry_by_its_own_pull(seed: int, position: float) -> None:
    groups, (alpha,) = cells(seed, owners=1)
    weights = {alpha: clip(alpha, alpha)}
    projected = project(groups, weights)
    total = 0.0
    for a, pi in zip(alpha.detach().flatten().tolist(), projected[alpha].flatten().tolist(), strict=True):
        g = 4 * (max(a, 1e-4) ** (math.log(2) / math.log(5)) - 0.5) ** 2
        total += ((a - pi) * ((1 - position) * g + position)) ** 2
    found = proximity(weights, projected, position, 3.0, "adjusted", "plain")
    assert number(found) == pytest.approx(1.5 * total**0.5)


def test_a_row_with_one_entry_is_no_division_by_zero() -> None:
    alpha = nn.Parameter(torch.ones(2, 1))
    term = proximity({alpha: alpha * 0.5}, {alpha: torch.ones(2, 1)}, 0.5, 1.0, "adjusted", "plain")
    assert term.isfinite()


@pytest.mark.parametrize(("form", "norm"), [("proximity", "plain"), ("plain", "euclidean")])
def test_an_unknown_word_is_refused(form: str, norm: str) -> None:
    alpha = nn.Parameter(torch.ones(1, 2))
    with pytest.raises(KeyError):
        proximity({alpha: alpha * 1}, {alpha: torch.ones(1, 2)}, 0.5, 1.0, form, norm)


# --- the method of multipliers -----------------------------------------------


def test_it_starts_at_the_variables_with_no_dual() -> None:
    groups, parameters = cells()
    admm = Admm(groups, clip, 1.0)
    for p in parameters:
        assert torch.equal(admm.z[p], p)
        assert not admm.u[p].any()
    term = admm.penalty(weights_of(parameters))
    term.backward()
    assert number(term) == 0.0
    assert not any(p.grad is None or p.grad.any() for p in parameters)


def test_z_is_a_copy_of_the_variables_and_not_another_name() -> None:
    groups, parameters = cells()
    admm = Admm(groups, clip, 1.0)
    with torch.no_grad():
        parameters[0].zero_()
    assert admm.z[parameters[0]].any()


@given(seeds, st.sampled_from(("raw", "weights")))
def test_at_an_architecture_the_dual_stays_zero(seed: int, dual: str) -> None:
    groups, parameters = cells(seed)
    discretise(groups, parameters)
    admm = Admm(groups, clip, 1.0, period=1, dual=dual)
    for _ in range(5):
        assert admm.step()
        assert not any(u.any() for u in admm.u.values())
        assert number(admm.penalty(weights_of(parameters))) == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_with_variables_and_copy_fixed_the_dual_grows_by_their_difference(norm: str) -> None:
    alpha = nn.Parameter(torch.tensor([[0.02, 0.05], [0.95, 0.03]], dtype=torch.float64))
    groups = [Group("n", "", tuple(Row("op", alpha, i, ("a", "b")) for i in range(2)), keep=1)]
    admm = Admm(groups, clip, 4.0, norm=norm, period=1)
    target = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    gap = alpha.detach() - target
    for n in range(1, 8):  # the tenth would move the architecture
        admm.step()
        assert torch.equal(admm.z[alpha], target)
        torch.testing.assert_close(admm.u[alpha], n * gap)
        size = number(((n + 1) * gap).norm())
        found = admm.penalty({alpha: alpha * 1})
        assert number(found) == pytest.approx(2.0 * (size if norm == "plain" else size**2))


@given(seeds, st.floats(0, 1), st.sampled_from(("raw", "weights")), st.sampled_from((clip, soften)))
def test_an_update_is_what_the_formulas_say(seed: int, zeta: float, dual: str, activation: Any) -> None:
    groups, parameters = cells(seed)
    admm = Admm(groups, activation, 1.0, period=1, decay=zeta, dual=dual)
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        admm.u[p].copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    before = {p: u.clone() for p, u in admm.u.items()}
    admm.step()
    a = {p: p.detach() for p in parameters}
    if dual == "raw":
        shifted = {p: activation(p, a[p] + before[p]) for p in parameters}
    else:
        a = {p: activation(p, a[p]) for p in parameters}
        shifted = {p: a[p] + before[p] for p in parameters}
    z = project(groups, shifted)
    for p in parameters:
        assert torch.equal(admm.z[p], z[p])
        torch.testing.assert_close(admm.u[p], zeta * before[p] + a[p] - z[p])


@given(st.integers(1, 12), st.integers(0, 40))
def test_an_update_comes_every_period_steps(period: int, count: int) -> None:
    admm = Admm(cells()[0], clip, 1.0, period=period)
    assert [admm.step() for _ in range(count)] == [(n + 1) % period == 0 for n in range(count)]


def test_as_published_an_update_comes_every_nine_steps_and_nothing_moves_between() -> None:
    groups, parameters = cells()
    admm = Admm(groups, clip, 1.0)
    for _ in range(8):
        assert not admm.step()
        assert torch.equal(admm.z[parameters[0]], parameters[0])
    assert admm.step()
    assert int(admm.z[parameters[0]].sum()) == 6


def test_pruned_entries_have_no_dual_no_penalty_and_no_gradient() -> None:
    groups, (alpha,) = cells(owners=1)
    alive = torch.rand(alpha.shape, generator=torch.Generator().manual_seed(1)) > 0.4
    admm = Admm(groups, clip, 1.0, period=1)
    for _ in range(3):
        admm.step({alpha: alive})
    assert not admm.u[alpha][~alive].any()
    assert not admm.z[alpha][~alive].any()
    admm.u[alpha].add_(1.0)
    admm.penalty({alpha: clip(alpha, alpha)}, {alpha: alive}).backward()
    assert alpha.grad is not None
    assert not alpha.grad[~alive].any()
    assert alpha.grad[alive].all()
    free, bound = Admm(groups, clip, 1.0, period=1, legacy=True), Admm(groups, clip, 1.0, period=1)
    dead = {alpha: torch.zeros_like(alive)}
    assert free.step(dead)
    assert bound.step(dead)
    assert int(free.z[alpha].sum()) == 6
    assert not bound.z[alpha].any()


def test_its_state_survives_a_file_and_a_resumed_run_goes_on_alike() -> None:
    groups, parameters = cells(3)
    whole, other = (Admm(groups, clip, 1.0, period=3) for _ in range(2))
    for _ in range(5):
        whole.step()
    state = whole.state_dict()
    held = io.BytesIO()
    torch.save(state, held)
    for _ in range(4):
        whole.step()
    held.seek(0)
    other.load_state_dict(torch.load(held, weights_only=True))
    assert (other.steps, state["steps"]) == (2, 2)
    assert torch.equal(other.u[parameters[1]], state["u"][1]), (
        "a state must not move with what it was taken of"
    )
    assert [other.step() for _ in range(4)] == [True, False, False, True]
    for p in parameters_of(groups):
        assert torch.equal(other.z[p], whole.z[p])
        assert torch.equal(other.u[p], whole.u[p])


def test_an_unknown_dual_is_refused() -> None:
    with pytest.raises(ValueError, match="dual"):
        Admm(cells()[0], clip, 1.0, dual="logits")


# --- beta-decay --------------------------------------------------------------


@given(seeds, st.integers(1, 8), st.integers(2, 8))
def test_the_gradient_of_beta_decay_is_softmax_over_the_number_of_rows(
    seed: int, rows: int, entries: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    alpha = nn.Parameter(3 * torch.randn(rows, entries, generator=generator, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(beta_decay([alpha]), [alpha])
    torch.testing.assert_close(gradient, alpha.detach().softmax(1) / rows)


@given(seeds)
def test_one_step_lowers_every_variable_and_the_largest_of_a_row_most(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    alpha = nn.Parameter(torch.randn(6, 5, generator=generator, dtype=torch.float64))
    before = alpha.detach().clone()
    optimiser = torch.optim.SGD([alpha], lr=0.1)
    beta_decay([alpha]).backward()
    optimiser.step()
    fall = before - alpha.detach()
    assert (fall > 0).all()
    assert torch.equal(fall.argmax(1), before.argmax(1))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(-5, 5))
def test_rows_of_equal_entries_have_their_value_plus_the_logarithm_of_their_number(
    rows: int, entries: int, value: float
) -> None:
    alpha = nn.Parameter(torch.full((rows, entries), value, dtype=torch.float64))
    assert number(beta_decay([alpha])) == pytest.approx(value + math.log(entries))


def test_beta_decay_of_two_matrices_is_the_mean_of_theirs() -> None:
    first, second = (nn.Parameter(torch.randn(n, 4, dtype=torch.float64)) for n in (2, 7))
    expected = (number(beta_decay([first])) + number(beta_decay([second]))) / 2
    assert number(beta_decay([first, second])) == pytest.approx(expected)


# --- the divergence ----------------------------------------------------------


def published(alpha: Tensor) -> Tensor:
    return F.elu(alpha) + 1.0


def closed_form(c: list[float]) -> float:
    """KL(Dir(c) || Dir(1)) of a row of two, by quadrature of the densities."""
    count = 200_000
    x = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    log_norm = math.lgamma(sum(c)) - sum(math.lgamma(k) for k in c)
    log_density = log_norm + (c[0] - 1) * x.log() + (c[1] - 1) * (1 - x).log()
    return number((log_density.exp() * log_density).mean())


def test_the_divergence_is_zero_at_zero_and_its_gradient_too() -> None:
    alpha = nn.Parameter(torch.zeros(4, 5, dtype=torch.float64))
    term = dirichlet_kl([alpha], published)
    term.backward()
    assert number(term) == pytest.approx(0.0, abs=1e-12)
    assert alpha.grad is not None
    assert number(alpha.grad.abs().max()) < 1e-12


@pytest.mark.parametrize("row", [[0.7, 1.5], [2.0, 0.1], [0.5, -0.2]])
def test_the_divergence_is_the_integral_of_its_definition(row: list[float]) -> None:
    alpha = nn.Parameter(torch.tensor([row], dtype=torch.float64))
    expected = closed_form(published(alpha.detach())[0].tolist())
    assert number(dirichlet_kl([alpha], published)) == pytest.approx(expected, rel=1e-3)


@given(seeds)
def test_the_divergence_is_positive_and_adds_up_over_rows_and_matrices(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    term = number(dirichlet_kl([nn.Parameter(whole)], published))
    parts = [nn.Parameter(part) for part in whole.split([1, 2, 3])]
    assert term > 0
    assert number(dirichlet_kl(parts, published)) == pytest.approx(term)


def test_nothing_to_regularise_is_zero() -> None:
    assert number(beta_decay([])) == 0.0
    assert number(dirichlet_kl([], published)) == 0.0
    assert number(proximity({}, {}, 1.0, 1.0, "plain", "plain")) == 0.0
    assert number(Admm([], clip, 1.0).penalty({})) == 0.0
