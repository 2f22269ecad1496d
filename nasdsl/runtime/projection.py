"""Pi: from weights of operations to the nearest discrete architecture.

Takes weights in any real numbers, shape (R, K) for each parameter, returns matrices of zeros and ones
of the same shapes. Invariant: Pi chooses among live entries only, ties go to the lowest index, and
Pi(Pi(A)) = Pi(A).

Pi is the rule by which "On Constrained Optimization in Differentiable NAS" (Maile et al., 2021, and
its code) derives an architecture and also what its regularisers pull towards. It is the Euclidean
projection onto the architectures that the groups describe. What it is under `optional` is a
RECONSTRUCTION: the paper has no space whose edges may end without an operation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from nasdsl.runtime.rows import Alive, Group, Matrices, Row


@torch.no_grad()
def project(
    groups: Iterable[Group], weights: Matrices, alive: Alive | None = None, *, legacy: bool = False
) -> dict[nn.Parameter, Tensor]:
    """Pi(A), 0 or 1, for every parameter of the groups; it carries no gradient.

    A row is represented by its largest live entry other than `none`, and its strength is the weight of
    that entry, times that of its edge where edges are weighed (PC-DARTS, section 3.3: its rule of
    derivation and no longer the nearest point). A group keeps the `keep` strongest rows, or all; where it
    is `optional`, of these only the ones above 1/2, nearer to their entry than to zero, and in any case
    the strongest, so that its node is fed. A row that is kept is one at its entry; everything else is
    zero, and so is a row of which nothing lives.

    Args:
        groups: which rows compete.
        weights: A, of each parameter, shape (R, K).
        alive: entries that have not been pruned.
        legacy: what the released code does: pruned entries are candidates, so a row of which nothing
            lives may come out as its first entry.
    """
    groups = tuple(groups)
    rows: dict[nn.Parameter, list[Row]] = {}
    for group in groups:
        for row in group.rows:
            rows.setdefault(row.parameter, []).append(row)
    masks = {} if alive is None or legacy else alive
    found = {p: _entries(weights[p], masks.get(p), members) for p, members in rows.items()}
    projected = {p: torch.zeros_like(chosen) for p, (_, chosen) in found.items()}
    for group in groups:
        kept = _kept(group, torch.stack([_weighed(row, found[row.parameter][0]) for row in group.rows]))
        for row, keeps in zip(group.rows, kept, strict=True):
            projected[row.parameter][row.index] = found[row.parameter][1][row.index] * keeps
    return projected


def _entries(weights: Tensor, alive: Tensor | None, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Strengths of rows, shape (R,), and a one at the entry of each, shape (R, K)."""
    candidates = torch.ones_like(weights, dtype=torch.bool) if alive is None else alive.clone()
    for row in rows:
        if row.none is not None:
            candidates[row.index, row.none] = False
    strengths, best = weights.masked_fill(~candidates, -math.inf).max(1, keepdim=True)
    return strengths[:, 0], torch.zeros_like(weights).scatter_(1, best, 1.0) * (strengths > -math.inf)


def _weighed(row: Row, strengths: Tensor) -> Tensor:
    """The strength of a row times the weight of its edge, shape (); a row of which nothing lives stays last."""
    strength = strengths[row.index]
    if row.edge is None:
        return strength
    variables, index = row.edge
    return torch.where(strength > -math.inf, strength * torch.softmax(variables, -1)[index], strength)


def _kept(group: Group, strengths: Tensor) -> Tensor:
    """Which of the n rows of a group are kept, boolean (n,)."""
    ranks = strengths.argsort(descending=True, stable=True).argsort()
    kept = ranks < (len(group.rows) if group.keep is None else group.keep)
    return kept & ((strengths > 0.5) | (ranks == 0)) if group.optional else kept


__all__ = ["project"]
