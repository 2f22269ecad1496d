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
    that entry, in comparisons times that of its edge where edges are weighed (PC-DARTS, section 3.3: its
    rule of derivation and no longer the nearest point). A group keeps the `keep` strongest rows, or all;
    of these one that is `optional` only if its entry is above 1/2, nearer to one than to zero, or if it is
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
        strengths = torch.stack([found[row.parameter][0][row.index] for row in group.rows])
        kept = _kept(group, strengths)
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


def _kept(group: Group, strengths: Tensor) -> Tensor:
    """Which of the n rows of a group are kept, boolean (n,)."""
    ranks = _weighed(group, strengths).argsort(descending=True, stable=True).argsort()
    kept = ranks < (len(group.rows) if group.keep is None else group.keep)
    must_pass = [group.may_end(i) for i in range(len(group.rows))]
    needs_half = torch.tensor(must_pass, device=strengths.device) & (ranks > 0)
    return kept & ~(needs_half & (strengths <= 0.5))


def _weighed(group: Group, strengths: Tensor) -> Tensor:
    """Strengths times the weights of edges, (n,); a row of which nothing lives stays last."""
    if all(row.edge is None for row in group.rows):
        return strengths
    one = strengths.new_ones(())
    shares = (one if r.edge is None else torch.softmax(r.edge[0], -1)[r.edge[1]] for r in group.rows)
    return torch.where(strengths > -math.inf, strengths * torch.stack(tuple(shares)), strengths)


__all__ = ["project"]
