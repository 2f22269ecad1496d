"""The engine of a search: it continues exactly, and every axis does what it says, on the smallest supernet."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.methods import METHODS
from nasdsl.runtime.search.engine import Engine, Penalties
from nasdsl.runtime.search.hypergradient import Unrolled
from nasdsl.runtime.search.regularise import beta_decay
from nasdsl.runtime.search.schedule import Informed
from nasdsl.runtime.supernet import SupernetBase
from tests.runtime.steps import STEPS, images, program, same, search, space, supernet

SPACE = "nasbench201"


def settings_of(method: str, given: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**program(SPACE, method, **given).compilation.settings, **changes}


def build(
    method: str, given: Mapping[str, Any] | None = None, seed: int = 0, **changes: Any
) -> tuple[SupernetBase, Engine]:
    """A supernet and its engine: settings that are compiled, and others."""
    given = given or {}
    changes = {"epochs": 6, "hessian_iterations": 1, **changes}
    net = supernet(program(SPACE, method, **given), seed)
    return net, Engine(net, settings_of(method, given, **changes), seed=seed)


# --- state -------------------------------------------------------------------

RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "v1": ("cbo", {"preset": "v1"}, {"admm_period": 2, "arch_lr": 0.1, "threshold_growth": 9.0}),
    "v1-proximity": ("cbo", {"preset": "v1-proximity"}, {"arch_lr": 0.1, "threshold_growth": 9.0}),
    "prime": ("cbo", {"preset": "prime"}, {"weight_steps": 1.0, "threshold_growth": 9.0}),
    "gdas": ("gdas", {}, {}),
    "drnas": ("drnas", {}, {"warmup_epochs": 1}),
    "snas": ("snas", {}, {}),
    "beta": ("beta", {}, {}),
    "pcdarts": ("pcdarts", {}, {"warmup_epochs": 1}),
    "finite": ("darts", {}, {"hypergradient": "finite"}),
    "exact": ("darts", {}, {"hypergradient": "exact"}),
    "stopping": ("darts", {}, {"early_stop": "ranking"}),
}
"""Method, what is compiled, what else is set."""
LENGTH = 3 * STEPS


def stored(net: SupernetBase, engine: Engine) -> bytes:
    file = io.BytesIO()
    parts = {"net": net.state_dict(), "search": engine.state_dict(), "torch": torch.get_rng_state()}
    torch.save(parts, file)
    return file.getvalue()


def restored(data: bytes) -> dict[str, Any]:
    parts: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return parts


@pytest.mark.parametrize(("name", "cut"), [("v1", STEPS), ("snas", STEPS), *((n, STEPS + 1) for n in RUNS)])
def test_a_run_that_was_stopped_takes_the_steps_that_it_would_have_taken(name: str, cut: int) -> None:
    """At the end of an epoch, and in the middle of one."""
    method, given, changes = RUNS[name]
    torch.manual_seed(0)
    net, engine = build(method, given, **changes)
    whole = search(engine, range(cut))
    middle = stored(net, engine)
    rest = search_on(engine, cut)
    whole_end = restored(stored(net, engine))

    torch.manual_seed(99)
    net, engine = build(method, given, seed=7, **changes)  # nothing is right before it is loaded
    parts = restored(middle)
    net.load_state_dict(parts["net"])
    engine.load_state_dict(parts["search"])
    torch.set_rng_state(parts["torch"])
    again = search_on(engine, cut)
    assert same(again, rest)
    assert same(restored(stored(net, engine)), whole_end)
    assert same(net.derive(), engine.found()) or engine.reason_to_stop
    assert not same(parts["net"], whole_end["net"])
    turns = {turn for turn, _ in (*whole, *rest)}
    assert turns == ({"both", "measured"} if name == "snas" else {"weights", "variables", "measured"})


def search_on(engine: Engine, cut: int) -> list[Any]:
    return search(engine, range(cut, LENGTH))


def test_a_run_continues_between_two_updates_of_its_duals() -> None:
    """The count of steps since the last one is part of the state."""
    given, changes = {"preset": "v1"}, {"schedule": "alternate", "admm_period": 3, "hessian_iterations": 0}
    net, engine = build("cbo", given, **changes)
    search(engine, range(2), measure=False)
    other, again = build("cbo", given, seed=7, **changes)
    parts = restored(stored(net, engine))
    assert parts["search"]["admm"]["steps"] == 2
    other.load_state_dict(parts["net"])
    again.load_state_dict(parts["search"])
    for each in (engine, again):
        search(each, [2], measure=False)
    assert same(engine.state_dict(), again.state_dict())
    assert engine.penalties.admm is not None
    assert any(bool(u.any()) for u in engine.penalties.admm.u.values())


def test_an_epoch_begins_with_its_rate_and_in_training() -> None:
    net, engine = build("darts", weight_lr=0.4, weight_lr_min=0.2)
    net.eval()
    rates = []
    for epoch in (0, 3, 6):
        engine.begin(epoch)
        rates.append(engine.weights.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 0.3, 0.2])
    assert net.training


def test_what_the_round_trips_hold() -> None:
    """Duals that moved, entries that were pruned, a schedule that decided both ways."""
    net, engine = build(*RUNS["v1"][:2], **RUNS["v1"][2])
    search(engine, range(LENGTH))
    state = engine.state_dict()
    assert any(bool(u.any()) for u in state["admm"]["u"].values())
    assert not bool(net.variables["infer"].op_alive.all())
    assert 0 < engine.schedule.taken < engine.schedule.steps
    assert len(state["variables"]["state"]) == 1
    assert all("momentum_buffer" in s for s in state["weights"]["state"].values())


# --- beta-decay --------------------------------------------------------------


def like_darts(method: str, **changes: Any) -> list[Any]:
    """A run of a method with every setting of DARTS but what is changed."""
    table = {s.name: s.table for s in METHODS.load("darts").settings}
    darts = program(SPACE, "darts").compilation.settings
    given = {n: v for n, v in darts.items() if table[n] in ("compile", "search")}
    given |= {"epochs": 6, "hessian_iterations": 0, **changes}
    torch.manual_seed(0)
    net = supernet(program(SPACE, method, **given))
    engine = Engine(net, program(SPACE, method, **given).compilation.settings)
    seen = search(engine, range(2 * STEPS), measure=False)
    return [seen, net.state_dict(), engine.state_dict()["variables"]]


def test_without_its_weight_beta_darts_is_darts_to_the_bit() -> None:
    darts = like_darts("darts")
    assert same(like_darts("beta"), darts)
    decayed = like_darts("beta", beta_decay=0.5)
    assert not same(decayed, darts)
    # In the first epoch its weight is zero.
    first = 2 * STEPS
    assert same(decayed[0][:first], darts[0][:first])


def test_its_weight_grows_with_the_epoch() -> None:
    net, engine = build("beta", beta_decay=0.5, arch_weight_decay=0.0)
    (op,) = net.architecture_parameters()
    for epoch in (0, 1, 5):
        engine.begin(epoch)
        total = engine.penalties.total()
        assert total is not None
        torch.testing.assert_close(total, 0.5 * epoch * beta_decay([op]))
        (gradient,) = torch.autograd.grad(total, op)
        torch.testing.assert_close(gradient, 0.5 * epoch * op.detach().softmax(1) / 6)


# --- gradients ---------------------------------------------------------------


def record(optimizer: torch.optim.Optimizer, monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The gradients that an optimiser steps with."""
    seen: list[list[Tensor]] = []
    step: Callable[[], Any] = optimizer.step

    def run() -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters])
        step()

    monkeypatch.setattr(optimizer, "step", run)
    return seen


def at_a_point(
    net: SupernetBase, batch: tuple[Tensor, Tensor], extra: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Plain gradients of weights and of variables."""
    w, a = net.weight_parameters(), net.architecture_parameters()
    loss = F.cross_entropy(net(batch[0]), batch[1])
    total = loss if extra is None else loss + extra
    found = torch.autograd.grad(total, [*w, *a], allow_unused=True, materialize_grads=True)
    return list(found[: len(w)]), list(found[len(w) :])


def norm(gradients: list[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


@pytest.mark.parametrize("clip", [0.0, 1e-2])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_at_a_single_level_both_gradients_are_of_one_point_and_weights_alone_are_clipped(
    monkeypatch: pytest.MonkeyPatch, decay: float, clip: float
) -> None:
    net, engine = build("darts", level="single", clip=clip, beta_decay=decay)
    engine.begin(2)
    assert engine.turns(0.0) == ("both",)
    w, a = at_a_point(net, images(3), engine.penalties.total())
    weights, variables = (record(o, monkeypatch) for o in (engine.weights, engine.variables))
    loss = engine.joint_step(images(3))
    factor = min(1.0, clip / (float(norm(w)) + 1e-6)) if clip else 1.0
    assert (factor < 1.0) == (clip > 0)
    torch.testing.assert_close(weights[0], [factor * g for g in w], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(variables[0], a, rtol=1e-10, atol=1e-14)
    assert float(norm(a)) > 2e-2  # which clipping would have changed
    assert len(weights) == len(variables) == 1
    assert float(loss) == pytest.approx(
        float(F.cross_entropy(supernet(program(SPACE, "darts"))(images(3)[0]), images(3)[1]).detach()),
        rel=1e-12,
    )


def test_the_unrolled_step_adds_the_gradient_of_the_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    net, engine = build("darts", hypergradient="exact", beta_decay=0.5)
    engine.begin(2)
    valid, train = images(1), images(2)
    _, wanted = Unrolled(net, engine.weights, F.cross_entropy, engine.cast).gradients(train, valid, "exact")
    (op,) = net.architecture_parameters()
    seen = record(engine.variables, monkeypatch)
    engine.turns(0.0)
    engine.variable_step(valid, train)
    before = supernet(program(SPACE, "darts")).architecture_parameters()[0].detach()
    torch.testing.assert_close(seen[0][0], wanted[0] + before.softmax(1) / 6, rtol=1e-12, atol=1e-14)
    assert op.grad is None
    assert all(p.grad is None for p in net.parameters())


# --- informed schedule -------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, 1e-2])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_observed_trace_is_the_sum_of_squared_gradients_before_clipping(clip: float, parts: int) -> None:
    net, engine = build("cbo", {"preset": "prime"}, clip=clip, accumulate=parts, fisher_smoothing=1.0)
    engine.begin(0)
    engine.turns(0.0)
    x, y = images(5)
    halves = [at_a_point(net, (x[i::1][s], y[s]))[0] for i, s in ((0, s) for s in slices(len(y), parts))]
    mean = [torch.stack(g).mean(0) for g in zip(*halves, strict=True)]
    engine.weight_step((x, y))
    assert isinstance(engine.schedule, Informed)
    assert engine.schedule.mean == pytest.approx(float(norm(mean)) ** 2, rel=1e-10)
    assert engine.schedule.mean > 1.0  # far above what clipping leaves
    assert engine.schedule.observed == 1


def slices(length: int, parts: int) -> list[slice]:
    size = length // parts
    return [slice(i * size, (i + 1) * size) for i in range(parts)]


def test_no_decision_is_taken_in_a_warm_up_but_the_weights_are_watched() -> None:
    _, engine = build("cbo", {"preset": "v1"}, warmup_epochs=2)
    seen = search(engine, range(2 * STEPS), measure=False)
    assert {turn for turn, _ in seen} == {"weights"}
    assert isinstance(engine.schedule, Informed)
    assert (engine.schedule.steps, engine.schedule.taken) == (0, 0)
    assert engine.schedule.theta == 1.0
    assert engine.schedule.observed == 2 * STEPS
    search(engine, [2 * STEPS], measure=False)
    assert engine.schedule.steps == 1


def test_alternate_steps_count_from_the_end_of_the_warm_up() -> None:
    _, engine = build("darts", warmup_epochs=1, weight_steps=2.0)
    turns = [turn for turn, _ in search(engine, range(2 * STEPS + 1), measure=False)]
    # Of the second epoch and the first step of the third, each other step has one of the variables, after it here.
    assert turns == ["weights"] * (STEPS + 1) + ["weights", "variables"] + ["weights"] + [
        "weights",
        "variables",
    ]
    assert engine.schedule.rate == 0.5


# --- early stop --------------------------------------------------------------


def point_at(net: SupernetBase, operation: str) -> None:
    with torch.no_grad():
        for decision in net.DECISIONS:
            logits = net.logits(decision)
            logits.zero_()
            logits[decision["entries"].index(operation)] = 1.0


def test_a_search_that_stops_early_ends_with_the_architecture_that_it_remembered() -> None:
    net, engine = build("darts", early_stop="skip")
    point_at(net, "nor_conv_3x3")
    engine.begin(0)
    engine.measure([images(1)])
    assert engine.reason_to_stop is None
    assert set(engine.found().values()) == {"nor_conv_3x3"}
    point_at(net, "skip_connect")
    engine.begin(1)
    engine.measure([images(1)])
    assert engine.reason_to_stop is not None
    assert "6 skip connections" in engine.reason_to_stop
    remembered = engine.found()
    assert set(remembered.values()) == {"skip_connect"}
    point_at(net, "nor_conv_1x1")
    assert engine.found() == remembered != net.derive()
    _, other = build("darts", early_stop="skip")
    other.load_state_dict(restored(stored(net, engine))["search"])
    assert other.reason_to_stop == engine.reason_to_stop
    assert other.found() == remembered


def test_without_a_rule_nothing_stops() -> None:
    net, engine = build("darts")
    point_at(net, "skip_connect")
    for epoch in range(3):
        engine.begin(epoch)
        engine.measure([images(1)])
    assert engine.reason_to_stop is None
    assert engine.found() == net.derive()


# --- penalties ---------------------------------------------------------------


def penalties(preset: str, **changes: Any) -> tuple[SupernetBase, Penalties]:
    given = {"preset": preset}
    net = supernet(program(SPACE, "cbo", **given))
    return net, Penalties(net, settings_of("cbo", given, **changes))


def value_and_gradient(made: Penalties, parameter: nn.Parameter) -> tuple[float, Tensor]:
    total = made.total()
    assert total is not None
    (gradient,) = torch.autograd.grad(total, parameter)
    return float(total.detach()), gradient


@pytest.mark.parametrize("norm", ["plain", "squared"])
@pytest.mark.parametrize("preset", ["v1-proximity", "prime"])
def test_proximity_is_zero_at_the_start_and_grows(preset: str, norm: str) -> None:
    net, made = penalties(preset, constraint_norm=norm)
    (op,) = net.architecture_parameters()
    value, gradient = value_and_gradient(made, op)
    assert value == 0.0
    assert not bool(gradient.any())
    found = []
    for position in (0.25, 0.5, 1.0):
        made.position = position
        found.append(value_and_gradient(made, op)[0] / position)
    assert found[0] > 0
    assert found == pytest.approx([found[0]] * 3, rel=1e-12)


def fed(number: int) -> list[dict[str, Any]]:
    """Architectures none of whose nodes is without an input: those that the projection can yield."""
    found = []
    for arch in space(SPACE).sample(200, seed=0):
        nodes: dict[str, list[Any]] = {}
        for path, option in arch.choices.items():
            nodes.setdefault(path.partition(".op")[0], []).append(option)
        if all(set(options) != {"none"} for options in nodes.values()):
            found.append(dict(arch.choices))
    assert any("none" in a.values() for a in found[:number])
    return found[:number]


@pytest.mark.parametrize("form", ["plain", "adjusted"])
@pytest.mark.parametrize("norm", ["plain", "squared"])
@pytest.mark.parametrize("preset", ["v1-proximity", "prime"])
def test_proximity_is_zero_at_every_architecture(preset: str, norm: str, form: str) -> None:
    net, made = penalties(preset, constraint_norm=norm, proximity=form)
    (op,) = net.architecture_parameters()
    made.position = 1.0
    assert value_and_gradient(made, op)[0] > 0
    for choices in fed(20):
        net.set_architecture(choices)
        value, gradient = value_and_gradient(made, op)
        assert value == 0.0
        assert not bool(gradient.any())


def test_the_position_of_a_penalty_is_that_of_the_search() -> None:
    _, engine = build("cbo", {"preset": "v1-proximity"})
    engine.begin(3)
    engine.turns(0.5)
    assert engine.penalties.position == pytest.approx(3.5 / 6)


def test_multipliers_begin_at_nothing_and_are_updated_only_after_steps_of_variables() -> None:
    net, engine = build("cbo", {"preset": "v1"}, schedule="alternate", weight_steps=2.0, admm_period=2)
    (op,) = net.architecture_parameters()
    assert engine.penalties.admm is not None
    assert value_and_gradient(engine.penalties, op)[0] == 0.0
    counts = []
    for number in range(4):
        search(engine, [number], measure=False)
        counts.append(engine.penalties.admm.steps)
    assert counts == [0, 1, 1, 0]


def test_a_method_without_penalties_has_none() -> None:
    _, engine = build("darts")
    assert engine.penalties.total() is None
