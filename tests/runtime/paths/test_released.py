"""The setting `legacy`: every trap of Cream's released code, computed here by its formulas, and off by default.

The numbers are those of the list in docs/cream.md. The reference is another supernet with weights as plain
tensors and a torch optimiser of its own; it shares no line with what is tested.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import nasdsl
from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.paths.board import Board
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.engine import PathEngine
from nasdsl.runtime.paths.matching import Matching
from nasdsl.runtime.paths.released import Released
from nasdsl.runtime.paths.supernet import PathSupernet
from tests.runtime.paths import small
from tests.runtime.paths.small import (
    FIRST,
    IMAGES,
    OTHER,
    SPACE,
    batch,
    built,
    epoch_of,
    fill,
    space,
    used,
    values,
)
from tests.runtime.steps import same

LR, META_LR, MOMENTUM, DECAY = 0.1, 0.1, 0.9, 1e-2
EPOCH = 4
"""Of eight, so every rate is half of what it was."""


class Model:
    """The released trainer in formulas: weights by name, statistics, theta, one SGD over all."""

    def __init__(self, net: PathSupernet, theta: nn.Linear) -> None:
        self.net = copy.deepcopy(net).train()
        self.w = {n: p.detach().clone().requires_grad_() for n, p in self.net.named_parameters()}
        self.theta = {n: p.detach().clone().requires_grad_() for n, p in theta.named_parameters()}
        self.fixed = {n: b.clone() for n, b in self.net.named_buffers()}
        groups = [
            {"params": [p for p in self.w.values() if p.dim() > 1], "weight_decay": DECAY, "lr": LR / 2},
            {"params": [p for p in self.w.values() if p.dim() == 1], "weight_decay": 0.0, "lr": LR / 2},
            {"params": list(self.theta.values()), "weight_decay": 0.0, "lr": META_LR / 2},
        ]
        self.clipped = False
        self.sgd = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)

    def __call__(self, w: Mapping[str, Tensor], path: Choices, x: Tensor) -> Tensor:
        """Logits in training mode; statistics move."""
        self.net.set_architecture(path)
        logits: Tensor = functional_call(self.net, {**w, **self.fixed}, (x,))
        return logits

    def select(self, w: Mapping[str, Tensor], board: Board, path: Choices) -> tuple[Choices, Tensor]:
        scores = []
        for e in board.entries:
            difference = self(w, path, e.images).softmax(1) - e.probabilities
            scores.append((self.theta["weight"] * difference.flatten()).sum() + self.theta["bias"][0])
        best = max(range(len(scores)), key=lambda k: float(scores[k].detach()))
        return board.entries[best].choices, 1 / (1 + scores[-1].exp())  # the last one's, negated

    def parts(self, w: Mapping[str, Tensor], board: Board, path: Choices, x: Tensor) -> list[Tensor]:
        """Rho, logits, CE(teacher), and the teacher's probabilities."""
        teacher, rho = self.select(w, board, path)
        logits = self(w, path, x)
        taught = self(w, teacher, x).detach().softmax(1)
        return [rho, logits, -(taught * logits.log_softmax(1)).sum(1).mean(), taught]

    def loss(self, board: Board, path: Choices, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """That of the weights, and the teacher's probabilities."""
        rho, logits, kd, taught = self.parts(self.w, board, path, data[0])
        return (rho * kd + (2 - rho) * smooth(logits, data[1])) / 2, taught

    def step(self, gradients: Mapping[str, Tensor | None], clip: bool) -> None:
        named = {**self.w, **{f"theta.{n}": p for n, p in self.theta.items()}}
        given = [g.detach() for g in gradients.values() if g is not None]
        norm = float(torch.cat([g.flatten() for g in given]).norm())
        factor = min(1.0, 1 / (norm + 1e-6)) if clip else 1.0
        self.clipped |= factor < 1
        for name, parameter in named.items():
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else factor * gradient.detach()
        self.sgd.step()

    def ordinary(self, board: Board, path: Choices, data: tuple[Tensor, Tensor]) -> Tensor:
        loss, taught = self.loss(board, path, data)
        names = [*self.w, *(f"theta.{n}" for n in self.theta)]
        found = torch.autograd.grad(loss, [*self.w.values(), *self.theta.values()], allow_unused=True)
        self.step(dict(zip(names, found, strict=True)), clip=False)
        return taught

    def meta(self, board: Board, path: Choices, data: tuple[Tensor, Tensor]) -> None:
        """g = d (rho CE(teacher)) / d W; a real step along it; then theta by the first tensor of W - xi g."""
        x, y = data
        old = {n: p.detach().clone().requires_grad_() for n, p in self.w.items()}
        rho, _, kd, _ = self.parts(old, board, path, x[:IMAGES])
        g = torch.autograd.grad(rho * kd, list(old.values()), create_graph=True, allow_unused=True)
        self.step(dict(zip(self.w, g, strict=True)), clip=True)
        logits = self(self.w, path, x[IMAGES : 2 * IMAGES])
        (after,) = torch.autograd.grad(smooth(logits, y[IMAGES : 2 * IMAGES]), [self.w["stem.0.weight"]])
        g_first = g[list(old).index("stem.0.weight")]
        assert g_first is not None
        surrogate = (old["stem.0.weight"] - META_LR / 2 * g_first).mul(after).sum()
        slopes = torch.autograd.grad(surrogate, list(self.theta.values()))
        self.step({f"theta.{n}": s for n, s in zip(self.theta, slopes, strict=True)}, clip=True)


def smooth(logits: Tensor, labels: Tensor) -> Tensor:
    """Label smoothing of .1 as the released code has it."""
    logs = logits.log_softmax(1)
    return (-0.9 * logs[torch.arange(len(labels)), labels] - 0.1 * logs.mean(1)).mean()


def begun(preset: str = "legacy", **changes: Any) -> tuple[PathSupernet, PathEngine, Board, Matching]:
    given = {"weight_lr": LR, "meta_lr": META_LR, "weight_decay": DECAY, **changes}
    net, engine = built("cream", preset=preset, **given)
    board, matching = engine.board, engine.matching
    assert board is not None
    assert matching is not None
    with torch.no_grad():
        matching.network.weight.mul_(5)  # rho away from a half
    fill(board)
    engine.begin(EPOCH)
    return net, engine, board, matching


def close(net: PathSupernet, matching: Matching, model: Model) -> None:
    for name, value in net.state_dict().items():
        wanted = model.w[name].detach() if name in model.w else model.fixed[name]
        torch.testing.assert_close(value, wanted, rtol=1e-8, atol=1e-11, msg=name)
    for name, value in matching.network.named_parameters():
        torch.testing.assert_close(value, model.theta[name], rtol=1e-8, atol=1e-11, msg=name)


def moved(before: Mapping[str, Tensor], net: nn.Module) -> set[str]:
    return {n for n, v in values(net).items() if not torch.equal(v, before[n])}


def test_trap_1_rho_is_of_the_last_entry_and_negated() -> None:
    net, _, board, matching = begun()
    model = Model(net, matching.network)
    teacher, wanted = model.select(model.w, board, FIRST)
    best, rho = matching.teacher(board, FIRST)
    assert board.entries[best].choices == teacher
    torch.testing.assert_close(rho, wanted, rtol=1e-10, atol=0)
    *_, matching = begun("paper")
    _, plain = matching.teacher(board, FIRST)
    assert abs(float(plain.detach()) - float(rho.detach())) > 0.01


def test_traps_5_and_10_an_ordinary_step_trains_theta_and_the_weights_through_rho() -> None:
    """Weights, statistics, momentum and theta after two steps, by the formulas."""
    net, engine, board, matching = begun(meta="off")
    model = Model(net, matching.network)
    theta = values(matching.network)
    for number, path in enumerate((FIRST, OTHER)):
        engine.sampler.next = lambda p=path: [dict(p)]  # type: ignore[method-assign]
        before = Board(3, 5.0, repeats=True)
        before.entries = list(board.entries)
        engine.step(batch(number), 0.0)
        model.ordinary(before, path, batch(number))
        close(net, matching, model)
    assert moved(theta, matching.network) == {"weight", "bias"}
    # By default rho is a constant to both.
    net, engine, _, matching = begun("paper", meta="off")
    theta = values(matching.network)
    engine.step(batch(0), 0.0)
    assert moved(theta, matching.network) == set()
    rho = matching.teacher(Board(1, 5.0) if engine.board is None else engine.board, FIRST)[1]
    assert torch.autograd.grad(rho, list(net.parameters()), allow_unused=True) == (None,) * len(
        list(net.parameters())
    )


def test_the_gradient_through_rho_matters() -> None:
    """What the comparison above would not see if it were not so."""
    net, _, board, matching = begun()
    model = Model(net, matching.network)
    loss, _ = model.loss(board, FIRST, batch(0))
    rho, logits, kd, _ = model.parts(model.w, board, FIRST, batch(0)[0])
    constant = (rho.detach() * kd + (2 - rho.detach()) * smooth(logits, batch(0)[1])) / 2
    stem = model.w["stem.0.weight"]
    one, two = (torch.autograd.grad(each, stem)[0] for each in (loss, constant))
    assert float((one - two).norm() / two.norm()) > 1e-3


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_traps_3_and_11_the_meta_step_is_real_and_through_the_first_tensor(scale: float) -> None:
    net, engine, board, matching = begun()
    with torch.no_grad():
        net.get_parameter("head.weight").mul_(scale)
    before, theta = values(net), values(matching.network)
    model = Model(net, matching.network)
    engine._rate(EPOCH / 8)
    assert matching.optimizer.param_groups[-1]["lr"] == META_LR / 2
    for number, path in enumerate((FIRST, OTHER, FIRST)):
        matching.meta_step(board, dict(path), batch(number), META_LR / 2, "first", engine._loss)
        model.meta(board, path, batch(number))
        close(net, matching, model)
        assert all(p.grad is None for p in [*net.parameters(), *matching.network.parameters()])
    assert model.clipped == (scale > 1)
    assert moved(theta, matching.network) == {"weight", "bias"}
    # The weights of the paths took a step and no others.
    names = dict(net.named_parameters())
    assert moved(before, net) & set(names) == used(net, FIRST) | used(net, OTHER)


def test_the_meta_step_differentiates_activations_that_are_ours_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cream's own blocks have swish, which outside `derivatives.twice` has a first derivative only."""
    (tmp_path / "swish.nas").write_text(SPACE.replace("relu", "swish"))
    program = nasdsl.load(tmp_path / "swish.nas").compile("cream")
    monkeypatch.setattr(small, "supernet", lambda seed: program.supernet(seed=seed).double())
    net, engine, board, matching = begun()
    model = Model(net, matching.network)
    engine._rate(EPOCH / 8)
    matching.meta_step(board, dict(FIRST), batch(0), META_LR / 2, "first", engine._loss)
    with twice():
        model.meta(board, FIRST, batch(0))
    close(net, matching, model)


def test_trap_3_the_first_tensor_is_not_all() -> None:
    found = []
    for form in ("first", "full"):
        _, engine, board, matching = begun()
        matching.meta_step(board, dict(FIRST), batch(0), META_LR, form, engine._loss)
        found.append(values(matching.network))
    assert not same(*found)


def test_trap_4_the_board_keeps_what_the_teacher_made() -> None:
    for preset in ("legacy", "paper"):
        net, engine, board, matching = begun(preset, meta="off", board_size=9)
        engine.sampler.next = lambda: [dict(FIRST)]  # type: ignore[method-assign]
        model = Model(net, matching.network)
        teacher, _ = matching.teacher(board, FIRST)
        path = board.entries[teacher].choices if preset == "legacy" else FIRST
        wanted = model(model.w, path, batch(0)[0]).detach().softmax(1)[:IMAGES]
        engine.step(batch(0), 0.0)
        (mine,) = (e for e in board.entries if e.choices == FIRST)
        torch.testing.assert_close(mine.probabilities, wanted, rtol=1e-9, atol=1e-12)


def test_trap_10_the_board_and_the_teacher_move_the_statistics() -> None:
    for preset, passes in (("legacy", 3 + 1 + 1), ("paper", 1)):
        net, engine, *_ = begun(preset, meta="off")
        engine.step(batch(0), 0.0)
        assert int(net.state_dict()["stem.1.num_batches_tracked"]) == passes


def test_trap_7_and_repeats_the_student_goes_to_the_board_and_may_twice() -> None:
    _, engine, board, _ = begun(meta="off", board_size=9)
    engine.sampler.next = lambda: [dict(FIRST)]  # type: ignore[method-assign]
    for number in range(2):
        engine.step(batch(number), 0.0)
    assert [e.choices for e in board.entries].count(FIRST) == 2


def test_it_is_off_by_default_and_a_preset() -> None:
    assert type(begun("paper")[3]) is Matching
    assert type(begun()[3]) is Released
    plain, legacy = (
        space().compile("cream", settings=s).compilation.settings for s in ({}, {"preset": "legacy"})
    )
    assert (plain["preset"], plain["legacy"], plain["meta"]) == ("paper", False, "full")
    assert {n for n in plain if plain[n] != legacy[n]} == {"preset", "legacy", "meta"}
    assert legacy["meta"] == "first"


@pytest.mark.parametrize("preset", ["paper", "legacy"])
def test_a_run_continues_exactly(preset: str) -> None:
    """Weights, board, meta-network, both momenta, the sampler."""
    net, engine = built("cream", preset=preset)
    for epoch in range(3):
        epoch_of(engine, epoch)
    saved = copy.deepcopy((net.state_dict(), engine.state_dict()))
    rest = [epoch_of(engine, epoch) for epoch in (3, 4)]
    other, again = built("cream", seed=3, preset=preset)
    other.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    assert same(rest, [epoch_of(again, epoch) for epoch in (3, 4)])
    assert same(values(net), values(other))
    assert same(engine.state_dict(), again.state_dict())
    assert engine.teachers == again.teachers != []


def test_the_page_lists_fourteen_traps_and_the_tests_that_hold_them() -> None:
    root = Path(__file__).resolve().parents[3]
    rows = re.findall(r"^\| (\d+) \|.*\| (?:`(\w+)` )?\|$", (root / "docs/cream.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 15))
    texts = [
        p.read_text("utf-8") for p in (*root.glob("tests/runtime/paths/*.py"), *root.glob("tests/laws/*.py"))
    ]
    for number, test in rows:
        assert number == "13" or any(f"def {test}(" in text for text in texts), test
