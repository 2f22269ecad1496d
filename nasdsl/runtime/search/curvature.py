"""The curvature of a loss in a few of its parameters.

Takes a function that computes the loss, returns an eigenvalue of its Hessian. Invariant: parameters are
afterwards what they were, to the last bit, and no gradient is left behind; buffers and generators are the
caller's (`nasdsl.runtime.search.undisturbed`).

Zela et al.: Understanding and Robustifying Differentiable Architecture Search. ICLR 2020, arXiv 1909.09656.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor, nn

from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.search.undisturbed import kept
from nasdsl.runtime.standalone.team import ALONE, Team

Product = Callable[[Tensor], Tensor]
"""Times the Hessian: (n,) to (n,), float64 on the CPU, all parameters side by side."""


@attrs.frozen(eq=False)
class Eigen:
    """An eigenvalue of largest magnitude, with its sign.

    Attributes:
        value: lambda; NaN where a product is not finite.
        vector: v of norm 1, shaped like the parameters: a start for the next measurement.
        residual: |H v - lambda v|; some eigenvalue lies within it of `value`.
    """

    value: float
    vector: tuple[Tensor, ...]
    residual: float


def dominant_eigenvalue(
    loss_of: Callable[[], Tensor],
    parameters: Sequence[nn.Parameter],
    start: Sequence[Tensor] | None,
    iterations: int,
    generator: torch.Generator,
    *,
    product: str = "finite",
    team: Team = ALONE,
) -> Eigen:
    """The dominant eigenvalue of the Hessian of a loss with respect to some parameters.

    Zela et al., section 4.1, with three departures from their code: the eigenvalue of largest magnitude,
    not the largest one; of the loss alone, without the weight decay of the variables on the diagonal; from
    `iterations` products instead of the whole matrix. Among everything that as many steps of the power
    iteration pass through, the best is taken (Lanczos, with full orthogonalisation): no farther off than
    the last one, and settled where the eigenvalues are a pair of opposite signs.

    Args:
        loss_of: computes the loss, shape (), always the same function: a caller sees to dropout, batch
            norm and generators (`batch_statistics`).
        parameters: the n numbers, in any number of tensors; those that the loss does not read count.
        start: shaped like the parameters, such as the vector of the last epoch; None draws it.
        iterations: products at most, n at most.
        generator: of the CPU.
        product: `finite` for central differences of gradients, or `exact` for second derivatives, which
            keep more than the operations of supernets do.
        team: the processes whose losses are averaged; products are linear in them.
    """
    own = {"finite": finite_product, "exact": exact_product}[product](loss_of, parameters)
    size = sum(p.numel() for p in parameters)
    basis: list[Tensor] = []
    images: list[Tensor] = []
    new = None if start is None else _flat(start)
    for _ in range(min(iterations, size)):
        direction = None if new is None else _orthonormal(new, basis)
        while direction is None:  # an invariant space holds all of `new`; another eigenvector may dominate
            drawn = torch.randn(size, generator=generator, dtype=torch.float64)
            direction = _orthonormal(drawn, basis)
        basis.append(direction)
        (new,) = team.means([own(direction)])
        images.append(new)
    q, hq = torch.stack(basis, 1), torch.stack(images, 1)  # (n, k)
    small = q.T @ hq
    if not bool(small.isfinite().all()):
        return Eigen(math.nan, _split(basis[0], parameters), math.nan)
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    best = int(values.abs().argmax())
    value, vector = float(values[best]), q @ vectors[:, best]
    residual = float((hq @ vectors[:, best] - value * vector).norm())
    return Eigen(value, _split(vector, parameters), residual)


def exact_product(loss_of: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> Product:
    """Hessian-vector products by differentiating the gradient again; the loss is computed once.

    Raises:
        RuntimeError: an operation on the way has a first derivative only.
    """
    with twice():
        first = _gradients(loss_of(), parameters, create_graph=True)
    _refuse_constants(first)

    def times(v: Tensor) -> Tensor:
        live = [(g, part) for g, part in zip(first, _split(v, parameters), strict=True) if g.requires_grad]
        with twice():  # what is computed again in the backward pass is so too
            total = sum(((g * part).sum() for g, part in live), torch.zeros(()))
            return _flat(_gradients(total, parameters, retain_graph=True))

    return times


def _refuse_constants(gradients: Sequence[Tensor]) -> None:
    """Where an operation refuses a second derivative, autograd hangs an error that leads nowhere.

    A backward pass to all leaves runs into it. One to some parameters goes around it and would be wrong
    without a word, so it is looked for. (Autograd hangs none where only linear functions follow.)
    """
    found = {g.grad_fn for g in gradients if g.grad_fn is not None}
    reached = list(found)
    while reached:
        node = reached.pop()
        if node.name() == "torch::autograd::Error":
            raise RuntimeError("an operation has no second derivative: measure with product='finite'")
        new = {n for n, _ in node.next_functions if n is not None} - found
        found |= new
        reached.extend(new)


def finite_product(
    loss_of: Callable[[], Tensor], parameters: Sequence[nn.Parameter], step: float | None = None
) -> Product:
    """Hessian-vector products by central differences of gradients: (g(x + h u) - g(x - h u)) / 2h, |u| = 1.

    First derivatives are enough. The error is of the order of h^2 plus rounding / h.

    Args:
        step: h = step * max(1, |x|); None: the cube root of the precision of the parameters, at which
            both parts of the error are alike.
    """
    relative = torch.finfo(parameters[0].dtype).eps ** (1 / 3) if step is None else step
    h = relative * max(1.0, float(_flat(parameters).norm()))

    def gradient(shift: Tensor) -> Tensor:
        with kept(parameters):
            with torch.no_grad():
                for parameter, part in zip(parameters, _split(shift, parameters), strict=True):
                    parameter.add_(part)
            return _flat(_gradients(loss_of(), parameters))

    def times(v: Tensor) -> Tensor:
        length = float(v.norm())
        if length == 0.0:
            return torch.zeros_like(v)
        shift = v * (h / length)
        return (gradient(shift) - gradient(-shift)) * (length / (2 * h))

    return times


def _gradients(
    loss: Tensor,
    parameters: Sequence[nn.Parameter],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of all parameters, zeros for those that the loss does not read."""
    if not loss.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(
        loss,
        parameters,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def _orthonormal(vector: Tensor, basis: Sequence[Tensor]) -> Tensor | None:
    """What of a vector is outside a space, of norm 1; None where that is nothing but rounding."""
    rest = vector
    for _ in range(2):  # once leaves what rounding put back; twice is enough
        for each in basis:
            rest = rest - (each @ rest) * each
    length = float(rest.norm())
    return None if length <= 1e-10 * float(vector.norm()) else rest / length


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten().cpu().double() for t in tensors])


def _split(flat: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    parts = torch.split(flat, [t.numel() for t in like])
    return tuple(part.view(t.shape).to(t) for part, t in zip(parts, like, strict=True))


__all__ = ["Eigen", "dominant_eigenvalue", "exact_product", "finite_product"]
