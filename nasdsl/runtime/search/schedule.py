"""When the variables take a step.

Takes what was decided and what was observed of the weights, returns whether a step is due. Invariant: a
decision depends on the past alone, and `state_dict` holds all of it, so a resumed run decides alike.

A loop asks `due`, steps or does not, and tells `decided`; then the weights take their step, and
`Informed` is told their gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.precision import wide


@attrs.define
class _Decisions:
    """Decisions counted. Fields that are no arguments are the state.

    Attributes:
        steps: how many decisions there were, one for each minibatch of the weights.
        taken: how many of them were for a step of the variables.
    """

    steps: int = attrs.field(default=0, init=False)
    taken: int = attrs.field(default=0, init=False)

    @property
    def rate(self) -> float:
        """Steps of the variables for each step of the weights, as measured; 0.0 before the first."""
        return self.taken / self.steps if self.steps else 0.0

    def decided(self, stepped: bool) -> None:
        """Notes whether the variables took their step."""
        self.steps += 1
        self.taken += stepped

    def state_dict(self) -> dict[str, float]:
        """Everything that later decisions depend on, as numbers."""
        return {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if not f.init}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores what `state_dict` returned."""
        for name in self.state_dict():
            setattr(self, name, state[name])


@attrs.define
class Alternate(_Decisions):
    """A step of the variables with every `every`-th one of the weights, counted over the whole run."""

    every: int = 1

    def due(self) -> bool:
        """Whether (step + 1) % s == 0."""
        return (self.steps + 1) % self.every == 0


@attrs.define
class Informed(_Decisions):
    """A step of the variables while the weights learn little.

    The dynamic schedule of "On Constrained Optimization in Differentiable NAS" (Maile et al., 2021; its
    code). F is the trace of the Fisher information of the weights, estimated on one minibatch; Fbar its
    running mean. A step is due iff 0 < Fbar < theta; theta is divided by m^s after a step and multiplied
    by m without one. While log Fbar stays bounded so does log theta, hence the rate tends to 1/(1 + s),
    whatever the scale of F: F squares the gradient of a mean, so its scale falls with the size of the
    batch, and theta follows.

    Nothing is known at the first minibatch, so no step is due. In the code Fbar is at first another name
    of the tensor that F is accumulated in: the second F replaces the first one, whatever the smoothing.
    So it is here.

    Attributes:
        ratio: s; the weights take 1 + s steps for each one of the variables.
        growth: m.
        smoothing: e, the part of the newest F in the mean: 1 at first, .2 in the last published commands.
        threshold: theta at the start.
        theta: the threshold now.
        mean: Fbar, 0.0 before anything was observed.
        observed: how many F there were.
    """

    ratio: float
    growth: float = 1.05
    smoothing: float = 1.0
    threshold: float = 1.0
    theta: float = attrs.field(init=False)
    mean: float = attrs.field(default=0.0, init=False)
    observed: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """The threshold starts where it was asked to."""
        self.theta = self.threshold

    def due(self) -> bool:
        """Whether 0 < Fbar < theta."""
        return 0.0 < self.mean < self.theta

    def decided(self, stepped: bool) -> None:
        """Notes whether the variables took their step, and moves theta."""
        super().decided(stepped)
        self.theta *= self.growth ** (-self.ratio if stepped else 1.0)

    def observe(self, trace: float) -> None:
        """Takes F, `fisher_trace` of the weights after their backward pass and before clipping."""
        self.observed += 1
        self.mean = (
            trace if self.observed <= 2 else self.smoothing * trace + (1.0 - self.smoothing) * self.mean
        )


def split(ratio: float) -> float:
    """The part of the data for the weights, s / (1 + s)."""
    return ratio / (1.0 + ratio)


@torch.no_grad()
def fisher_trace(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The sum of the squares of all gradients, shape (), in float32 at least and where the gradients are.

    The trace of the empirical Fisher information at one sample, which is the minibatch mean. A parameter
    without a gradient, as that of an operation which was pruned, adds nothing.
    """
    gradients = [p.grad.to(wide(p.grad.dtype)) for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm(gradients).square()


__all__ = ["Alternate", "Informed", "fisher_trace", "split"]
