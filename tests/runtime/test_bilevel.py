"""First-order steps against plain autograd; derivation from variables."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.search import bilevel
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.topology import penalty
from tests.runtime.toy import SOURCES, ToyDarts, ToySupernet, batch


def supernet() -> ToySupernet:
    torch.manual_seed(0)
    net = ToySupernet()
    with torch.no_grad():  # away from uniform logits, where penalties have ties
        for variable in net.architecture_parameters():
            variable.normal_()
    return net.eval()  # no dropout: both sides must see the same function


def values(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


def record(parameters: list[nn.Parameter]) -> list[str]:
    """Grows by one entry whenever a gradient reaches one of the parameters."""
    seen: list[str] = []
    for p in parameters:
        p.register_post_accumulate_grad_hook(lambda _: seen.append("gradient"))
    return seen


def test_the_architecture_step_is_plain_gradient_descent_on_the_variables_alone() -> None:
    net, data = supernet(), batch(1)
    reference = copy.deepcopy(net)
    loss = F.cross_entropy(reference(data[0]), data[1]) + 0.7 * penalty(reference.topology(), "v3", 0.1, 1.0)
    gradients = torch.autograd.grad(loss, reference.architecture_parameters())
    weights, reached = values(net.weight_parameters()), record(net.weight_parameters())
    optimizer = torch.optim.SGD(net.architecture_parameters(), 0.5)
    extra = 0.7 * penalty(net.topology(), "v3", 0.1, 1.0)
    returned = bilevel.architecture_step(net, data, optimizer, penalty=extra)
    for new, old, g in zip(
        net.architecture_parameters(), reference.architecture_parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(new.detach(), old.detach() - 0.5 * g)
        assert bool((g != 0).any())
    assert all(torch.equal(a, b) for a, b in zip(weights, net.weight_parameters(), strict=True))
    assert reached == []
    assert float(returned) == pytest.approx(F.cross_entropy(reference(data[0]), data[1]).item())


@pytest.mark.parametrize("clip", [0.0, 1e-3, 5.0])
def test_the_weight_step_is_clipped_gradient_descent_on_the_weights_alone(clip: float) -> None:
    net, data = supernet(), batch(2)
    reference = copy.deepcopy(net)
    loss = F.cross_entropy(reference(data[0]), data[1])
    gradients = torch.autograd.grad(loss, reference.weight_parameters())
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    factor = min(1.0, clip / float(norm)) if clip else 1.0
    variables, reached = values(net.architecture_parameters()), record(net.architecture_parameters())
    optimizer = torch.optim.SGD(net.weight_parameters(), 0.5)
    bilevel.weight_step(net, data, optimizer, clip=clip)
    for new, old, g in zip(net.weight_parameters(), reference.weight_parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old.detach() - 0.5 * factor * g, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(variables, net.architecture_parameters(), strict=True))
    assert reached == []


def test_steps_leave_no_gradient_and_no_frozen_parameter_behind() -> None:
    net = supernet()
    bilevel.architecture_step(net, batch(1), torch.optim.Adam(net.architecture_parameters()))
    bilevel.weight_step(net, batch(2), torch.optim.SGD(net.weight_parameters(), 0.1))
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_a_step_that_fails_leaves_no_frozen_parameter_behind() -> None:
    net = supernet()
    with pytest.raises(RuntimeError):
        bilevel.weight_step(
            net, (torch.zeros(2, 9), torch.zeros(2).long()), torch.optim.SGD(net.weight_parameters(), 0.1)
        )
    assert all(p.requires_grad for p in net.parameters())


def test_what_the_user_froze_stays_frozen() -> None:
    net = supernet()
    net.head.weight.requires_grad_(False)
    frozen = net.head.weight.detach().clone()
    bilevel.architecture_step(net, batch(1), torch.optim.Adam(net.architecture_parameters()))
    bilevel.weight_step(
        net, batch(2), torch.optim.SGD([p for p in net.weight_parameters() if p.requires_grad], 0.1)
    )
    assert not net.head.weight.requires_grad
    assert torch.equal(frozen, net.head.weight)


def search_settings(**changes: Any) -> dict[str, Any]:
    return {
        "epochs": 50,
        "warmup_epochs": 15,
        "weight_lr": 0.025,
        "weight_momentum": 0.9,
        "weight_decay": 3e-4,
        "nesterov": False,
        "arch_lr": 3e-4,
        "arch_beta1": 0.5,
        "arch_beta2": 0.999,
        "arch_weight_decay": 1e-3,
    } | changes


def test_optimisers_take_every_setting() -> None:
    net = supernet()
    sgd = bilevel.weight_optimizer(net, search_settings(nesterov=True)).param_groups[0]
    adam = bilevel.variable_optimizer(net, search_settings()).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"], sgd["nesterov"]) == (0.025, 0.9, 3e-4, True)
    assert (adam["lr"], adam["betas"], adam["weight_decay"]) == (3e-4, (0.5, 0.999), 1e-3)
    assert {id(p) for p in sgd["params"]}.isdisjoint({id(p) for p in adam["params"]})
    with pytest.raises(Mistake, match="momentum"):
        bilevel.weight_optimizer(net, search_settings(nesterov=True, weight_momentum=0.0))


def test_a_warm_up_that_leaves_no_search_is_shortened_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert bilevel.warmup_length(search_settings()) == 15
    assert capsys.readouterr().out == ""
    assert bilevel.warmup_length(search_settings(epochs=4)) == 2
    assert "2 epochs instead of 15" in capsys.readouterr().out


def test_accuracy_counts_over_all_batches_in_evaluation_mode() -> None:
    net = supernet().train()
    batches = [batch(i, 5 + i) for i in range(3)]
    found = bilevel.accuracy(net, batches)
    assert net.training
    net.eval()
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches)
    assert found == right / sum(len(y) for _, y in batches)


# --- derivation ----------------------------------------------------------------


def test_inputs_come_from_the_best_combination_not_from_the_largest_marginals() -> None:
    net = supernet()
    decision = net.DECISIONS[0]
    with torch.no_grad():
        # {a, b} is the best single pair, but c is in three good ones.
        p = {("a", "b"): 0.3, ("a", "c"): 0.2, ("b", "c"): 0.2, ("c", "d"): 0.28}
        for i, entry in enumerate(decision["entries"]):
            net.logits(decision)[i] = torch.tensor(p.get(entry, 0.01)).log()
    node = net.topology()[0]
    m = node.probabilities(1.0) @ node.incidence
    assert SOURCES[int(m.argmax())] == "c"
    choices = net.derive()
    assert choices["inputs"] == ("a", "b")
    assert set(choices) == {"inputs", "op[a]", "op[b]"}


def test_an_added_none_is_never_derived() -> None:
    net = supernet()
    with torch.no_grad():
        net.variables["network"].op[:, 2] = 9.0  # type: ignore[index]
        net.variables["network"].op[:, 1] = 1.0  # type: ignore[index]
    derived = net.derive()
    assert {v for k, v in derived.items() if k.startswith("op")} == {"narrow"}


def test_darts_keeps_the_inputs_with_the_strongest_operation_beside_none() -> None:
    torch.manual_seed(0)
    net = ToyDarts()
    with torch.no_grad():
        net.variables["network"].op.copy_(  # type: ignore[operator]
            torch.tensor([[2.0, 0, 9], [1.0, 0, 0], [0, 1.5, 0], [0, 0, 0.0]])
        )
    # Edge a has the largest logit beside none, but nearly no probability is left for it.
    assert net.derive() == {"inputs": ("b", "c"), "op[b]": "wide", "op[c]": "narrow"}
    assert net.topology() == []
