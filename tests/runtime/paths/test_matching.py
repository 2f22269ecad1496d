"""Cream's meta-network: its gradient against autograd through the inner step, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from nasdsl.runtime.paths.board import Board
from nasdsl.runtime.paths.matching import Matching, probabilities, still
from nasdsl.runtime.paths.supernet import PathSupernet
from tests.runtime.paths.small import (
    CLASSES,
    FIRST,
    IMAGES,
    OTHER,
    SECOND,
    batch,
    built,
    entry,
    epoch_of,
    fill,
    supernet,
    used,
    values,
)
from tests.runtime.steps import same

RATE = 0.7
"""Of the inner step: large, so that W' is elsewhere."""


def prepared(seed: int = 0, scale: float = 1.0) -> tuple[PathSupernet, Matching, Board]:
    """A supernet away from its start, a meta-network, a board with three entries."""
    torch.manual_seed(seed)
    net = supernet(seed)
    net.train()
    matching = Matching(net, IMAGES, CLASSES, 0.1)
    with torch.no_grad():
        for parameter in matching.network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, dtype=parameter.dtype))
    board = Board(3, 5.0)
    fill(board)
    return net, matching, board


def smooth(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


class Functions:
    """The supernet as a function of its weights; statistics are copies."""

    def __init__(self, net: PathSupernet) -> None:
        self.net = net
        self.w = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}

    def __call__(self, w: Mapping[str, Tensor], path: Mapping[str, Any], x: Tensor) -> Tensor:
        self.net.set_architecture(path)
        fixed = {n: b.clone() for n, b in self.net.named_buffers()}
        logits: Tensor = functional_call(self.net, {**w, **fixed}, (x,))
        return logits


def reference(
    net: PathSupernet,
    matching: Matching,
    board: Board,
    path: Mapping[str, Any],
    form: str,
    rate: float = RATE,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
    """Rho, L(x_val; W'), its gradient by theta through W'(theta) = W - rate rho(theta) g, and <grad L(W'), g>."""
    f, (x, y) = Functions(net), batch(5)
    theta = {n: p.detach().clone().requires_grad_() for n, p in matching.network.named_parameters()}
    found = f(f.w, path, torch.cat([e.images for e in board.entries])).detach().softmax(1)
    known = torch.cat([e.probabilities for e in board.entries])
    scores = functional_call(matching.network, theta, ((found - known).view(len(board), -1),)).squeeze(1)
    best = int(scores.argmax())
    rho = scores[best].sigmoid()
    taught = f(f.w, board.entries[best].choices, x[:IMAGES]).detach().softmax(1)
    inner = -(taught * f(f.w, path, x[:IMAGES]).log_softmax(1)).sum(1).mean()
    g = torch.autograd.grad(
        inner, list(f.w.values()), create_graph=True, allow_unused=True, materialize_grads=True
    )
    carried = f.w if form == "full" else [n for n in f.w if n in used(net, path)][:1]
    stepped = {
        n: w - rate * (rho if n in carried else rho.detach()) * d
        for (n, w), d in zip(f.w.items(), g, strict=True)
    }
    loss = smooth(f(stepped, path, x[IMAGES : 2 * IMAGES]), y[IMAGES : 2 * IMAGES])
    slopes = torch.autograd.grad(loss, list(theta.values()), retain_graph=True)
    after = torch.autograd.grad(loss, list(stepped.values()), allow_unused=True, materialize_grads=True)
    inner_product = torch.stack([(a * d).sum() for a, d in zip(after, g, strict=True)]).sum()
    return rho.detach(), loss.detach(), list(slopes), inner_product.detach()


def stepped(
    net: PathSupernet, matching: Matching, board: Board, path: Mapping[str, Any], form: str
) -> tuple[float, list[Tensor]]:
    """The loss that `meta_step` returns and the gradient that it steps with."""
    before = [p.detach().clone() for p in matching.network.parameters()]
    loss = matching.meta_step(board, dict(path), batch(5), RATE, form, smooth)
    lr = matching.optimizer.param_groups[0]["lr"]
    return loss, [(b - p.detach()) / lr for b, p in zip(before, matching.network.parameters(), strict=True)]


def gap(mine: list[Tensor], theirs: list[Tensor]) -> float:
    one, two = (torch.cat([t.flatten() for t in ts]) for ts in (mine, theirs))
    return float((one - two).abs().max() / two.abs().max())


@pytest.mark.parametrize("path", [FIRST, OTHER])
@pytest.mark.parametrize("form", ["full", "first"])
@pytest.mark.parametrize("seed", range(3))
def test_the_meta_gradient_is_autograd_through_the_inner_step(
    seed: int, form: str, path: Mapping[str, Any]
) -> None:
    net, matching, board = prepared(seed)
    _, loss, wanted, _ = reference(net, matching, board, path, form)
    value, found = stepped(net, matching, board, path, form)
    assert value == pytest.approx(float(loss), rel=1e-12)
    assert gap(found, wanted) < 1e-9
    # What would be wrong: the sign of the released code until 2021, the other set of tensors.
    assert gap([-g for g in found], wanted) > 1.9
    net, matching, board = prepared(seed)
    assert gap(found, reference(net, matching, board, path, "first" if form == "full" else "full")[2]) > 0.01
    assert gap(found, reference(net, matching, board, path, form, -RATE)[2]) > 0.01


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 3.0]))
def test_rho_falls_where_its_step_goes_uphill(seed: int, scale: float) -> None:
    """sign dL/drho = -sign <grad L(W'), g>: the step lowers rho exactly where the lesson hurts."""
    net, matching, board = prepared(seed, scale)
    rho, _, _, product = reference(net, matching, board, FIRST, "full")
    assert 0 < float(rho) < 1
    _, (_, bias) = stepped(net, matching, board, FIRST, "full")
    slope = float(bias) / float(rho * (1 - rho))
    assert slope == pytest.approx(-RATE * float(product), rel=1e-6, abs=1e-12)
    assert 0 < float(matching.teacher(board, FIRST)[1].detach()) < 1


def test_a_path_that_teaches_itself_teaches_nothing() -> None:
    net, matching, board = prepared()
    board.entries = [entry(0, FIRST)]
    loss, found = stepped(net, matching, board, FIRST, "full")
    assert loss > 0
    assert all(float(g.abs().max()) < 1e-12 for g in found)


def test_a_slope_by_differences() -> None:
    """W' is linear in rho, so a central difference along g is the derivative up to its square."""
    net, matching, board = prepared(1)
    rho, _, _, product = reference(net, matching, board, FIRST, "full")
    eps = 1e-5
    up, down = (
        float(reference(net, matching, board, FIRST, "full", RATE * (1 + s * eps / float(rho)))[1])
        for s in (1, -1)
    )
    assert (up - down) / (2 * eps) == pytest.approx(-RATE * float(product), rel=1e-5)


def test_the_teacher_is_the_entry_that_scores_highest_and_rho_its_sigmoid() -> None:
    net, matching, board = prepared(2)
    w, b = (p.detach() for p in matching.network.parameters())
    f = Functions(net)
    made = f(f.w, FIRST, torch.cat([e.images for e in board.entries])).softmax(1).view(3, -1)
    scores = [
        float((w @ (m - e.probabilities.flatten()) + b).detach())
        for m, e in zip(made, board.entries, strict=True)
    ]
    best, rho = matching.teacher(board, FIRST)
    assert best == max(range(3), key=scores.__getitem__)
    assert float(rho.detach()) == pytest.approx(float(torch.tensor(max(scores)).sigmoid()), rel=1e-6)
    assert len({round(s, 6) for s in scores}) == 3


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["teacher", "lesson", "full", "first"]))
def test_nothing_of_the_supernet_moves(seed: int, what: str) -> None:
    """Weights, statistics, counts, modes, momenta and gradients, to the bit."""
    net, matching, board = prepared(seed)
    for number, parameter in enumerate(net.parameters()):
        if number % 2:
            parameter.grad = torch.full_like(parameter, 3.0)
    for norm in matching.norms[::2]:
        norm.momentum = 0.3

    def state() -> list[Any]:
        gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        return [
            values(net),
            gradients,
            [m.training for m in net.modules()],
            [n.momentum for n in matching.norms],
        ]

    before, theta = state(), values(matching.network)
    if what == "teacher":
        matching.teacher(board, FIRST)
    elif what == "lesson":
        assert not matching.lesson(board, 0, batch(1)[0]).requires_grad
    else:
        matching.meta_step(board, FIRST, batch(5), RATE, what, smooth)
    assert same(before, state())
    assert same(theta, values(matching.network)) == (what in ("teacher", "lesson"))


def test_nothing_moves_where_it_fails() -> None:
    net, matching, board = prepared()
    before = values(net)

    def fails(logits: Tensor, labels: Tensor) -> Tensor:
        raise KeyError

    with pytest.raises(KeyError):
        matching.meta_step(board, FIRST, batch(5), RATE, "full", fails)
    assert same(before, values(net))
    assert all(n.momentum == 0.1 for n in matching.norms)


def test_still_batch_norms_compute_what_training_computes() -> None:
    norm = nn.BatchNorm2d(2)
    x = torch.randn(4, 2, 3, 3)
    with still([norm]):
        found = norm(x)
    assert torch.equal(found, norm(x))
    assert int(norm.num_batches_tracked) == 1


def test_probabilities_are_single_precision_at_least() -> None:
    logits = torch.randn(2, 3)
    assert probabilities(logits.bfloat16()).dtype == torch.float32
    assert probabilities(logits.double()).dtype == torch.float64


# --- in the engine -----------------------------------------------------------


def gradients_of_a_step(
    engine: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> dict[str, Tensor | None]:
    """What the optimiser of the weights steps with, by name."""
    seen: dict[str, Tensor | None] = {}
    plain = engine.optimizer.step

    def record() -> None:
        seen.update({n: None if p.grad is None else p.grad.clone() for n, p in engine.net.named_parameters()})
        plain()

    monkeypatch.setattr(engine.optimizer, "step", record)
    engine.step(batch(number), 0.0)
    monkeypatch.undo()
    return seen


def test_the_lesson_is_a_constant_and_the_teacher_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    net, engine = built("cream", meta="off")
    board, matching = engine.board, engine.matching
    assert board is not None
    assert matching is not None
    board.offer(entry(0, SECOND))
    monkeypatch.setattr(engine.sampler, "next", lambda: [dict(FIRST)])
    engine.begin(engine.start + 1)
    assert engine.teachers == [SECOND]
    assert engine.teaching

    f, (x, y) = Functions(net), batch(7)
    _, rho = matching.teacher(board, FIRST)
    rho = rho.detach()
    taught = f(f.w, SECOND, x).detach().softmax(1)
    logits = f(f.w, FIRST, x)
    kd = -(taught * logits.log_softmax(1)).sum(1).mean()
    loss = (rho * kd + (2 - rho) * smooth(logits, y)) / 2
    wanted = dict(zip(f.w, torch.autograd.grad(loss, list(f.w.values()), allow_unused=True), strict=True))

    theta = values(matching.network)
    with monkeypatch.context() as patch:
        found = gradients_of_a_step(engine, patch, 7)
    assert {n for n, g in found.items() if g is not None} == used(net, FIRST)
    for name, gradient in found.items():
        other = wanted[name]
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-12)
    assert same(theta, values(matching.network))  # rho is a constant to it
    assert all(p.grad is None for p in matching.network.parameters())
    # The board keeps what the path itself made of its images.
    mine = next(e for e in board.entries if e.choices == FIRST)
    torch.testing.assert_close(mine.probabilities, logits.detach().softmax(1)[:IMAGES])
    assert torch.equal(mine.images, x[:IMAGES])
    assert mine.accuracy == pytest.approx(100 * float((logits.argmax(1) == y).double().mean()))


def test_before_the_board_opens_a_step_is_a_plain_one_to_the_bit() -> None:
    """Cream until its start, and SPOS with the same settings."""
    (net, engine), (other, plain) = built("cream"), built("cream", distillation="off", search="random")
    assert engine.start == 1
    for epoch in (0, 1):
        assert same(epoch_of(engine, epoch), epoch_of(plain, epoch))
        assert engine.teachers == []
        assert not engine.teaching
    assert same(values(net), values(other))
    first = epoch_of(engine, 2)[0], epoch_of(plain, 2)[0]
    assert torch.equal(*first)  # the board is still empty then
    assert len(engine.teachers) > 0
    assert not same(values(net), values(other))


def test_a_taught_step_moves_the_statistics_of_its_path_once() -> None:
    net, engine = built("cream")
    assert engine.board is not None
    fill(engine.board)
    engine.begin(3)
    counts = {n: int(v) for n, v in values(net).items() if n.endswith("num_batches_tracked")}
    engine.steps = 2  # the meta step too
    before = values(net)
    engine.step(batch(1), 0.0)
    after = values(net)
    assert int(after["stem.1.num_batches_tracked"]) == counts["stem.1.num_batches_tracked"] + 1
    with torch.no_grad():
        net.load_state_dict(before)
        seen = net.stem[0](batch(1)[0])
    mean = 0.9 * before["stem.1.running_mean"] + 0.1 * seen.mean((0, 2, 3))
    torch.testing.assert_close(after["stem.1.running_mean"], mean)


@pytest.mark.parametrize(
    ("epochs", "asked", "last"), [(120, 20, 20), (8, 20, 3), (2, 20, 0), (1, 20, -1), (8, 1, 1)]
)
def test_the_board_opens_for_half_of_a_short_run(
    epochs: int, asked: int, last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _, engine = built("cream", epochs=epochs, meta_start=asked)
    assert engine.start == last
    assert (f"instead of {asked + 1}" in capsys.readouterr().out) == (last < asked)
    epoch_of(engine, epochs - 1)
    assert engine.teachers


def test_the_meta_step_comes_in_time_and_at_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule, wanted in (("meta", 0.1), ("weights", 0.1 * 0.5)):
        _, engine = built("cream", meta_rate=rule, meta_interval=3)
        assert engine.board is not None
        fill(engine.board)
        seen = []
        monkeypatch.setattr(
            engine.matching, "meta_step", lambda *given, s=seen, e=engine: s.append((e.steps, given[3]))
        )
        engine.begin(4)
        for _ in range(7):
            engine.step(batch(1), 0.0)
        assert seen == [(n, pytest.approx(wanted)) for n in (0, 3, 6)]
        _, engine = built("cream", meta="off")
        monkeypatch.setattr(engine.matching, "meta_step", None)
        epoch_of(engine, 4)
