"""The mathematics of explicit topology.

Takes logits over subsets and 0/1 incidence matrices, returns marginals,
invalidity scores, penalties and steps. Invariant: everything depends on the logits
through their softmax alone, so adding a constant to them changes nothing.

The distribution over combinations and the marginals are those of ROME-v1 (Eq. 4
and 6) and of the DOTS code. The passive-aggressive penalty is a RECONSTRUCTION: the
abstract of TopoNAS 2020 names it, its formula was not found. All three variants,
the margin, the weight and both forms are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import attrs
import torch
from torch import Tensor, nn


@attrs.frozen(eq=False)
class NodeTopology:
    """One node that chooses its inputs.

    Attributes:
        name: of the node, `n[2]`; a source with this name is the same node.
        owner: cell whose decision it is.
        logits: topology variables, shape (C,).
        incidence: which combination holds which source, 0/1, shape (C, n).
        sources: names of the n sources.
    """

    name: str
    owner: str
    logits: nn.Parameter
    incidence: Tensor
    sources: tuple[str, ...]

    def probabilities(self, temperature: float) -> Tensor:
        """p(c), shape (C,)."""
        return torch.softmax(self.logits / temperature, -1)


def subsets(count: int, low: int, high: int) -> list[tuple[int, ...]]:
    """The allowed subsets of `count` sources, by size, then in lexicographic order."""
    return [c for size in range(low, high + 1) for c in combinations(range(count), size)]


def incidence(count: int, low: int, high: int) -> Tensor:
    """The 0/1 matrix of `subsets`, shape (C, count)."""
    chosen = subsets(count, low, high)
    return torch.tensor([[1.0 if i in c else 0.0 for i in range(count)] for c in chosen])


def marginals(p: Tensor, rows: Tensor) -> Tensor:
    """m_i, the sum of p(c) over the combinations c that hold i: (C,) and (C, n) to (n,)."""
    return p @ rows


def balanced_logits(rows: Tensor) -> Tensor:
    """Logits under which every size of subset has the same probability: -log C(n, |c|), shape (C,)."""
    count = rows.shape[1]
    return torch.tensor([-math.log(math.comb(count, int(r.sum()))) for r in rows], dtype=rows.dtype)


def temperature_at(schedule: str, start: float, end: float, epoch: int, epochs: int) -> float:
    """The temperature of an epoch, from `start` in the first to `end` in the last.

    `exponential` is the annealing of the DOTS code: T = start * (end / start)^(e / (E - 1)).
    """
    position = epoch / (epochs - 1) if epochs > 1 else 0.0
    if schedule == "linear":
        return start + (end - start) * position
    return float(start * (end / start) ** position) if schedule == "exponential" else start


# --- invalidity --------------------------------------------------------------


def unread(nodes: Sequence[NodeTopology], temperature: float) -> dict[tuple[str, str], Tensor]:
    """For every node but the last of its owner, the probability that nobody reads it.

    u_i = prod_{j > i} (1 - m_ij): exact, because nodes choose independently.
    """
    found: dict[tuple[str, str], Tensor] = {}
    for owner in dict.fromkeys(n.owner for n in nodes):
        members = [n for n in nodes if n.owner == owner]
        m = {n.name: marginals(n.probabilities(temperature), n.incidence) for n in members}
        for node in members[:-1]:
            factors = [
                1.0 - m[other.name][other.sources.index(node.name)]
                for other in members
                if node.name in other.sources
            ]
            if factors:
                found[owner, node.name] = torch.stack(factors).prod()
    return found


def scores(nodes: Sequence[NodeTopology], variant: str, temperature: float) -> Tensor:
    """Invalidity scores q_k in [0, 1], shape (K,); empty when there is nothing to score.

    `v1` loose node: u_i. `v2` inconsistent node: e(1-u) + (1-e)u, fed but unread or
    read but unfed, with e the probability of no input. `v3` residual mass:
    1 - max_c p(c).
    """
    if not nodes:
        return torch.zeros(0)
    if variant == "v3":
        return torch.stack([1.0 - n.probabilities(temperature).max() for n in nodes])
    loose = unread(nodes, temperature)
    if not loose:
        return nodes[0].logits.new_zeros(0)
    if variant == "v1":
        return torch.stack(list(loose.values()))
    by_name = {(n.owner, n.name): n for n in nodes}
    found = []
    for key, u in loose.items():
        node = by_name[key]
        empty = (node.incidence.sum(1) == 0).to(u.dtype)
        e = (node.probabilities(temperature) * empty).sum()
        found.append(e * (1.0 - u) + (1.0 - e) * u)
    return torch.stack(found)


def penalty(nodes: Sequence[NodeTopology], variant: str, delta: float, temperature: float) -> Tensor:
    """sum_k max(0, q_k - delta), shape (): exactly zero, with zero gradient, when all are tolerated."""
    return torch.relu(scores(nodes, variant, temperature) - delta).sum()


def passive_aggressive_step(
    nodes: Sequence[NodeTopology], variant: str, delta: float, aggressiveness: float, temperature: float
) -> float:
    """One PA-I step on the topology variables (Crammer et al., JMLR 2006, applied as a reconstruction).

    If the penalty l is positive: tau = min(C, l / ||g||^2), beta <- beta - tau g.

    Returns:
        tau, 0.0 when nothing was done.
    """
    logits = [n.logits for n in nodes]
    loss = penalty(nodes, variant, delta, temperature)
    if not nodes or float(loss.detach()) <= 0.0:
        return 0.0
    gradients = torch.autograd.grad(loss, logits, allow_unused=True, materialize_grads=True)
    norm = sum((float((g * g).sum()) for g in gradients), 0.0)
    if norm == 0.0:
        return 0.0
    tau = min(aggressiveness, float(loss.detach()) / norm)
    with torch.no_grad():
        for parameter, gradient in zip(logits, gradients, strict=True):
            parameter.sub_(gradient, alpha=tau)
    return tau


@attrs.define
class Regulariser:
    """The passive-aggressive regularisation of a run, in either form.

    Attributes:
        variant: `v1`, `v2`, `v3`, or `off`.
        form: `loss` adds `weight` times the penalty to the loss of the variables; `pa`
            takes a step of size at most `aggressiveness` after theirs.
        delta: invalidity that is tolerated.
        ramp: number of epochs after warm-up over which weight and step size grow linearly.
        strength: where on the ramp the present epoch is, 0 to 1.
    """

    variant: str
    form: str
    delta: float
    weight: float
    aggressiveness: float
    ramp: int
    strength: float = 1.0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Regulariser:
        """From the settings `regulariser*` and `pa_aggressiveness`."""
        return cls(
            settings["regulariser"],
            settings["regulariser_form"],
            settings["regulariser_delta"],
            settings["regulariser_weight"],
            settings["pa_aggressiveness"],
            settings["regulariser_ramp_epochs"],
        )

    def set_epoch(self, since_warmup: int) -> None:
        """Sets the strength of the epoch that is `since_warmup` epochs after warm-up."""
        self.strength = min(1.0, (since_warmup + 1) / self.ramp) if self.ramp else 1.0

    def loss(self, nodes: Sequence[NodeTopology], temperature: float) -> Tensor | None:
        """What is added to the loss of the variables, shape (); None in the other form."""
        if self.variant == "off" or self.form != "loss":
            return None
        return self.weight * self.strength * penalty(nodes, self.variant, self.delta, temperature)

    def step(self, nodes: Sequence[NodeTopology], temperature: float) -> float:
        """The step after the one of the variables; 0.0 where it does nothing, as in the other form."""
        if self.variant == "off" or self.form != "pa":
            return 0.0
        most = self.aggressiveness * self.strength
        return passive_aggressive_step(nodes, self.variant, self.delta, most, temperature)
