"""Pi: from weights of operations to the nearest discrete architecture.

Takes weights in any real numbers, shape (R, K) for each parameter; returns what they say of every row
(`picks`), or that as matrices of zeros and ones of the same shapes (`project`). Invariant: Pi chooses among
live entries only, ties go to the lowest index, Pi(Pi(A)) = Pi(A), and what a supernet derives reads the same
picks.

Pi is the rule by which "On Constrained Optimization in Differentiable NAS" (Maile et al., 2021, and
its code) derives an architecture and also what its regularisers pull towards. It is the Euclidean
projection onto the architectures that the groups describe. What it is under `optional` is a
RECONSTRUCTION: the paper has no space whose edges may end without an operation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import torch
from torch import Tensor, nn

from nasdsl.runtime.rows import Alive, Group, Matrices, Row, parameters_of


@attrs.frozen(eq=False)
class Picks:
    """What is picked of the n rows of a group, shape (n,) each.

    Attributes:
        entries: of each row its largest live entry other than `none`; where none of these lives, its
            largest other than `none`.
        lives: whether that entry does.
        taken: whether the row is among the `keep` strongest, or `keep` is None; exactly so many, living or not.
        ends: whether the row ends without an operation, because it may and weighs too little.
    """

    entries: Tensor
    lives: Tensor
    taken: Tensor
    ends: Tensor


@torch.no_grad()
def picks(groups: Iterable[Group], weights: Matrices, alive: Alive | None = None) -> list[Picks]:
    """What is picked of every group; it carries no gradient.

    The strength of a row is the weight of its entry, in comparisons times that of its edge where edges are
    weighed (PC-DARTS, section 3.3: its rule of derivation and no longer the nearest point); a row of which
    nothing lives is the weakest. A row that is `optional` ends unless its entry is above 1/2, nearer to one
    than to zero, or it is the strongest, so that its node is fed. What weighs zero feeds nothing.

    Args:
        groups: which rows compete.
        weights: A, of each parameter, shape (R, K).
        alive: entries that have not been pruned.
    """
    groups = tuple(groups)
    rows: dict[nn.Parameter, list[Row]] = {}
    for group in groups:
        for row in group.rows:
            rows.setdefault(row.parameter, []).append(row)
    masks = {} if alive is None else alive
    found = {p: _largest(weights[p], masks.get(p), members) for p, members in rows.items()}
    made = []
    for group in groups:
        pairs = [found[row.parameter] for row in group.rows]
        entries = torch.stack([e[row.index] for row, (e, _) in zip(group.rows, pairs, strict=True)])
        strengths = torch.stack([s[row.index] for row, (_, s) in zip(group.rows, pairs, strict=True)])
        made.append(_picks(group, entries, strengths))
    return made


@torch.no_grad()
def project(
    groups: Iterable[Group], weights: Matrices, alive: Alive | None = None, *, legacy: bool = False
) -> dict[nn.Parameter, Tensor]:
    """Pi(A), 0 or 1, for every parameter of the groups; it carries no gradient.

    A row is one at the entry that is picked, if that lives and the row is taken and does not end.
    Everything else is zero.

    Args:
        groups: which rows compete.
        weights: A, of each parameter, shape (R, K).
        alive: entries that have not been pruned.
        legacy: what the released code does: pruned entries are candidates, so a row of which nothing
            lives may come out as its first entry.
    """
    groups = tuple(groups)
    projected = {p: torch.zeros_like(weights[p]) for p in parameters_of(groups)}
    for group, picked in zip(groups, picks(groups, weights, None if legacy else alive), strict=True):
        kept = picked.lives & picked.taken & ~picked.ends
        for i, row in enumerate(group.rows):
            matrix = projected[row.parameter]
            matrix[row.index].scatter_(0, picked.entries[i : i + 1], kept[i : i + 1].to(matrix.dtype))
    return projected


def _largest(weights: Tensor, alive: Tensor | None, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """The entry of each row and its weight, (R,) each; -inf where nothing but `none` lives."""
    options = torch.ones_like(weights, dtype=torch.bool)
    for row in rows:
        if row.none is not None:
            options[row.index, row.none] = False
    candidates = options if alive is None else options & alive
    lives = candidates.any(1)
    entries = weights.masked_fill(~torch.where(lives[:, None], candidates, options), -math.inf).argmax(1)
    strengths = weights.gather(1, entries[:, None])[:, 0]
    return entries, strengths.masked_fill(~lives, -math.inf)


def _picks(group: Group, entries: Tensor, strengths: Tensor) -> Picks:
    ranks = _weighed(group, strengths).argsort(descending=True, stable=True).argsort()
    count = len(group.rows)
    optional = torch.tensor([group.may_end(i) for i in range(count)], device=strengths.device)
    feeds = (strengths > 0.5) | ((ranks == 0) & (strengths > 0.0))
    return Picks(
        entries=entries,
        lives=strengths > -math.inf,
        taken=ranks < (count if group.keep is None else group.keep),
        ends=optional & ~feeds,
    )


def _weighed(group: Group, strengths: Tensor) -> Tensor:
    """Strengths times the weights of edges, (n,); a row of which nothing lives stays last."""
    if all(row.edge is None for row in group.rows):
        return strengths
    one = strengths.new_ones(())
    shares = (one if r.edge is None else torch.softmax(r.edge[0].to(one), -1)[r.edge[1]] for r in group.rows)
    return torch.where(strengths > -math.inf, strengths * torch.stack(tuple(shares)), strengths)


__all__ = ["Picks", "picks", "project"]
