"""How architecture variables become the weights of candidates.

Takes variables (R, K), returns weights (R, K). Invariant: at the mean (`At.random` off, as in
evaluation) weights are a deterministic function of the variables; `mean_weights` is that function.

| name | weights | source |
|---|---|---|
| softmax | softmax | DARTS, section 2.2 |
| clipped | clamp to [0, 1], nothing normalised | Maile et al. 2021, code: `crb` |
| gumbel | one-hot of the noisy logits, the gradient that of their softmax | GDAS, equations 5 and 6 |
| concrete | softmax of the noisy logits | SNAS, equation 6 |
| dirichlet | a draw from Dir(elu + 1), differentiated along its path | DrNAS, section 3 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-30
"""Least concentration of a Dirichlet distribution: zero where an architecture was set."""


@attrs.frozen
class At:
    """What weights depend on beside their variables.

    Attributes:
        temperature: of distributions over subsets of inputs.
        noise_temperature: of noisy logits (gumbel, concrete).
        random: whether distributions are drawn from; if not, their mean or mode is taken.
    """

    temperature: float = 1.0
    noise_temperature: float = 1.0
    random: bool = True


def clipped(logits: Tensor, alive: Tensor | None = None) -> Tensor:
    """`clamp(a, 0, 1)`, zero without a gradient where an entry was pruned.

    The derivative at 0 and at 1 is one, as in PyTorch.
    """
    weights = logits.clamp(0.0, 1.0)
    return weights if alive is None else torch.where(alive, weights, torch.zeros_like(weights))


def gumbel_noise(like: Tensor) -> Tensor:
    """Independent standard Gumbel noise, -log(-log U), as differences of exponential draws."""
    return -torch.empty_like(like).exponential_().log()


def concrete(logits: Tensor, at: At) -> Tensor:
    """A draw from the concrete distribution: softmax((log_softmax(a) + Gumbel) / tau)."""
    if not at.random:
        return torch.softmax(logits, -1)
    scores = torch.log_softmax(logits, -1) + gumbel_noise(logits)
    return torch.softmax(scores / at.noise_temperature, -1)


def gumbel(logits: Tensor, at: At) -> tuple[Tensor, list[list[bool]]]:
    """One entry a row, drawn from softmax(a): exact one-hot weights with the soft draw's gradient.

    Returns:
        Weights (R, K), and which entry runs, on the host: one transfer for all rows.
    """
    soft = concrete(logits, at)
    index = soft.argmax(-1, keepdim=True)
    hard = torch.zeros_like(soft).scatter_(-1, index, 1.0)
    chosen = index.squeeze(-1).tolist()
    return hard + (soft - soft.detach()), [[k == i for k in range(soft.shape[-1])] for i in chosen]


def concentration(logits: Tensor) -> Tensor:
    """elu(a) + 1, positive."""
    return (F.elu(logits) + 1.0).clamp_min(SMALLEST)


def dirichlet(logits: Tensor, at: At) -> Tensor:
    """A draw from Dir(elu(a) + 1); its mean where nothing is random."""
    parameters = concentration(logits)
    if not at.random:
        return parameters / parameters.sum(-1, keepdim=True)
    drawn: Tensor = torch.distributions.Dirichlet(parameters, validate_args=False).rsample()
    return drawn


def mean_weights(form: str, logits: Tensor, alive: Tensor | None = None) -> Tensor:
    """The weights of variables (R, K) without chance: what regularisers, projections and pictures see."""
    if form == "clipped":
        return clipped(logits, alive)
    return dirichlet(logits, At(random=False)) if form == "dirichlet" else torch.softmax(logits, -1)


# --- candidates that do not run ----------------------------------------------


@attrs.frozen(eq=False)
class Idle:
    """The weight, shape (), of a candidate that does not run.

    `counted` adds the weight itself to the sum, as the code of GDAS does on NAS-Bench-201: its value is
    zero, its gradient that of the sum of all outputs.
    """

    weight: Tensor
    counted: bool = False


Weights = Union[Tensor, tuple[Union[Tensor, Idle], ...]]
"""What a cell reads: a vector in one piece, or its entries one by one."""


def running(weights: Tensor, runs: Sequence[bool], counted: bool = False) -> tuple[Tensor | Idle, ...]:
    """Weights (K,) one by one, those of candidates that do not run marked."""
    pairs = zip(weights.unbind(), runs, strict=True)
    return tuple(w if run else Idle(w, counted) for w, run in pairs)


__all__ = [
    "At",
    "Idle",
    "Weights",
    "clipped",
    "concentration",
    "concrete",
    "dirichlet",
    "gumbel",
    "gumbel_noise",
    "mean_weights",
    "running",
]
