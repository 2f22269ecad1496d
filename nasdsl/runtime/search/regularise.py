"""Terms that the loss of operation variables gains.

Takes parameters and weights, shape (R, K) for each kind of cell, returns scalars of shape (). Invariant:
every term is finite and so is its gradient, also where a norm vanishes; a term sees each matrix once.

Proximity and the method of multipliers are those of "On Constrained Optimization in Differentiable NAS"
(Maile et al., 2021) as its PyTorch code has them; beta-decay is that of Ye et al. (CVPR 2022), the
divergence that of DrNAS (Chen et al., ICLR 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.distributions import Dirichlet, kl_divergence

from nasdsl.runtime.projection import project
from nasdsl.runtime.rows import Alive, Group, Matrices, parameters_of

Activation = Callable[[nn.Parameter, Tensor], Tensor]
"""A: which parameter and values for it, shape (R, K), to weights of operations, shape (R, K)."""

_NORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "plain": torch.linalg.vector_norm,  # its gradient at zero is zero; that of the root of a sum is not
    "squared": lambda x: x.square().sum(),
}
"""||x||_F, as the PyTorch code has it, and its square, as the Julia code has it."""


def proximity(
    weights: Matrices, projected: Matrices, position: float, weight: float, form: str, norm: str
) -> Tensor:
    """How far weights are from the architecture that they stand for.

    `plain` sums t/T rho/2 ||A - Pi|| over the matrices, zero at the start of the search and at any
    discrete architecture. `adjusted` (`proxadj` in the code) sums rho/2 ||(A - Pi) o h|| with
    h = (1 - t/T) g(A) + t/T, g(x) = 4 (max(x, 1e-4)^(ln 2 / ln K) - 1/2)^2: g(1/K) = 0 and g(1) = 1, so
    that equal weights are not pulled apart early on.

    Args:
        weights: A.
        projected: Pi(A), taken as constant.
        position: t/T, 0 at the start of the search and 1 at its end.
        weight: rho.
        form: `plain` or `adjusted`.
        norm: `plain` or `squared`.
    """
    pull = {"plain": _steady, "adjusted": _adjusted}[form]
    terms = []
    for parameter, target in projected.items():
        scale, factors = pull(weights[parameter], position)
        terms.append(scale * _NORMS[norm]((weights[parameter] - target.detach()) * factors))
    return weight / 2 * _total(terms)


def _steady(weights: Tensor, position: float) -> tuple[float, Tensor | float]:
    return position, 1.0


def _adjusted(weights: Tensor, position: float) -> tuple[float, Tensor | float]:
    power = math.log(2) / math.log(max(weights.shape[1], 2))
    g = 4 * (weights.clamp(min=1e-4) ** power - 0.5).square()
    return 1.0, (1 - position) * g + position


@attrs.define(eq=False)
class Admm:
    """The alternating direction method of multipliers: variables, a discrete copy, a dual.

    The variables see rho/2 ||(A(a) - Z + U) o mask||. Every `period` steps of theirs, Z becomes
    Pi(A(a + U)) and then U becomes (zeta U + a - Z) o mask. At the start Z = a and U = 0.

    Attributes:
        groups: which rows compete in Pi.
        activation: A.
        weight: rho.
        norm: `plain` or `squared`.
        period: steps of the variables between updates. The code asks for (n + 1) % 10 == 0 and starts
            its count anew, which is every ninth.
        decay: zeta, what is left of U; 1 in the published commands.
        dual: `raw` as published, which under a softmax mixes logits into U. `weights`, a RECONSTRUCTION,
            has A(a) wherever Z and U have a, so Z becomes Pi(A(a) + U): the method in its own terms.
        legacy: whether Pi chooses among pruned entries too.
        steps: of the variables since the last update.
        z: the discrete copy, shape (R, K) for each parameter.
        u: the dual variables, of the same shapes.
    """

    groups: tuple[Group, ...]
    activation: Activation
    weight: float
    norm: str = "plain"
    period: int = 9
    decay: float = 1.0
    dual: str = attrs.field(default="raw", validator=attrs.validators.in_(("raw", "weights")))
    legacy: bool = False
    steps: int = attrs.field(default=0, init=False)
    z: dict[nn.Parameter, Tensor] = attrs.field(init=False)
    u: dict[nn.Parameter, Tensor] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Z = a and U = 0."""
        self.z = {p: x.clone() for p, x in self._values().items()}
        self.u = {p: torch.zeros_like(x) for p, x in self.z.items()}

    def penalty(self, weights: Matrices, alive: Alive | None = None) -> Tensor:
        """What is added to the loss of the variables."""
        gaps = [_masked(weights[p] - z + self.u[p], alive, p) for p, z in self.z.items()]
        return self.weight / 2 * _total([_NORMS[self.norm](gap) for gap in gaps])

    @torch.no_grad()
    def step(self, alive: Alive | None = None) -> bool:
        """Counts one step of the variables, and updates Z and U where they are due.

        The code does so once the weights have taken their step and entries have been pruned.

        Returns:
            Whether they were.
        """
        self.steps = (self.steps + 1) % self.period
        if self.steps:
            return False
        values = self._values()
        shifted = {p: x + self.u[p] for p, x in values.items()}
        if self.dual == "raw":
            shifted = {p: self.activation(p, x) for p, x in shifted.items()}
        projected = project(self.groups, shifted, alive, legacy=self.legacy)
        for p, x in values.items():
            self.z[p].copy_(projected[p])
            self.u[p].copy_(_masked(self.decay * self.u[p] + x - self.z[p], alive, p))
        return True

    @torch.no_grad()
    def _values(self) -> dict[nn.Parameter, Tensor]:
        """What Z is a copy of: a, or A(a)."""
        raw = self.dual == "raw"
        return {p: p.detach() if raw else self.activation(p, p) for p in parameters_of(self.groups)}

    def state_dict(self) -> dict[str, Any]:
        """The count, and copies of Z and U by place of their parameter."""
        return {
            "steps": self.steps,
            "z": {i: z.clone() for i, z in enumerate(self.z.values())},
            "u": {i: u.clone() for i, u in enumerate(self.u.values())},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.steps = state["steps"]
        for name, matrices in (("z", self.z), ("u", self.u)):
            for index, matrix in enumerate(matrices.values()):
                matrix.copy_(state[name][index])


def beta_decay(parameters: Iterable[nn.Parameter]) -> Tensor:
    """R(alpha), the mean over rows of logsumexp alpha, every entry counted (beta-DARTS, its released code).

    Its gradient, softmax over the number of rows, lowers large variables most. The mean over several
    matrices is a RECONSTRUCTION: the released code takes one.
    """
    terms = [torch.logsumexp(p, 1).mean() for p in parameters]
    return _total(terms) / max(len(terms), 1)


def resource(groups: Iterable[Group], weights: Matrices) -> Tensor:
    """The logarithm of the expected multiply-accumulates of the chosen operations, for one example, in millions.

    SNAS, section 2.4, with multiply-accumulates as the cost and the logarithm of its released code; in
    millions, one added, is a RECONSTRUCTION (a constant that the gradient hardly sees). The expectation is
    exact: costs add up, so it is that of the mean weights. Weights of edges are not in it.

    Args:
        weights: A, of each parameter, shape (R, K).
    """
    terms = []
    for group in groups:
        for row in group.rows:
            costs = weights[row.parameter].new_tensor([m / 1e6 for m in row.macs])
            terms.append((weights[row.parameter][row.index] * costs).sum())
    return (1.0 + _total(terms)).log()


def dirichlet_kl(parameters: Iterable[nn.Parameter], concentration: Callable[[Tensor], Tensor]) -> Tensor:
    """KL(Dir(c(alpha)) || Dir(1)), summed over rows and over matrices.

    DrNAS, `_get_kl_reg` of its released code, where c(alpha) = elu(alpha) + 1. The code weighs the sum
    with 1e-3, and the variables then have no weight decay.

    Args:
        concentration: c, positive, of the distribution that weights are drawn from.
    """
    terms = []
    for parameter in parameters:
        found = concentration(parameter)
        q, p = (Dirichlet(c, validate_args=False) for c in (found, torch.ones_like(found)))
        terms.append(kl_divergence(q, p).sum())
    return _total(terms)


def _masked(values: Tensor, alive: Alive | None, parameter: nn.Parameter) -> Tensor:
    mask = None if alive is None else alive.get(parameter)
    return values if mask is None else values * mask


def _total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of scalars, shape (), also of none."""
    return torch.stack(tuple(terms)).sum() if terms else torch.zeros(())


__all__ = ["Activation", "Admm", "beta_decay", "dirichlet_kl", "proximity", "resource"]
