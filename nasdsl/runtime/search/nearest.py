"""The member of a sub-space that a supernet's variables prefer.

Takes a supernet, the architecture that its variables derive and the members that a search may end in; returns a
member. Invariant: a derived architecture that is a member is returned as it is; of equals the first wins, and the
same supernet gives the same member.

A RECONSTRUCTION: no published method derives inside a set that is not a product of options. A member's score is
the product of the mean weights of its options (`nasdsl.runtime.activation.mean_weights`) and, where inputs have
variables, of the probability of its combination of inputs or of its edges' shares. An option without an entry
weighs what the others leave.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import torch

from nasdsl.runtime.activation import mean_weights
from nasdsl.runtime.members import Choices, Members, ended
from nasdsl.runtime.standalone.basics import Mistake, stable_seed
from nasdsl.runtime.supernet import SupernetBase

DRAWS = 4_000
"""Members that are looked at where they are too many to be listed."""
LEAST = 1e-30
"""The weight that stands for zero, so that what was pruned can still be compared."""


@attrs.frozen
class Nearest:
    """What a search inside a sub-space ends in.

    Attributes:
        choices: the member.
        edits: how far it is from what the variables derive; 0 where that is a member.
        looked: members that were compared; 0 where none had to be.
    """

    choices: Choices
    edits: int = 0
    looked: int = 0

    def record(self) -> dict[str, Any]:
        """What the log says of it."""
        return {"member": self.choices, "member_edits": self.edits, "members_compared": self.looked}

    @property
    def words(self) -> str:
        """One line for a reader."""
        return ended(self.edits, self.looked)


def nearest(net: SupernetBase, derived: Mapping[str, Any], inside: Members, seed: int = 0) -> Nearest:
    """The member to end in.

    Args:
        derived: the architecture that the search would end in, were every point of the relaxation allowed.
        seed: of the members that are drawn, where they are too many to be listed.

    Raises:
        Mistake: no member that was looked at is a point of the supernet.
    """
    if inside.allows(derived):
        return Nearest(dict(derived))
    found = best(net, candidates(inside, seed))
    if found is None:
        raise Mistake("no member of the sub-space is a point of this supernet: compile with lift_none=false")
    choices, looked = found
    return Nearest(choices, inside.edits(derived, choices), looked)


def candidates(inside: Members, seed: int) -> Iterator[Choices]:
    """All members, or where they are too many the seeds and some that are drawn."""
    if inside.listed is not None:
        yield from inside.all()
        return
    yield from inside.seeds()
    rng = random.Random(stable_seed(seed, "nearest"))
    try:
        yield from (inside.draw(rng) for _ in range(DRAWS))
    except ValueError as problem:
        raise Mistake(str(problem)) from None


def best(net: SupernetBase, members: Iterable[Choices]) -> tuple[Choices, int] | None:
    """The first of the members with the largest score, and how many points of the supernet there were."""
    logs = log_weights(net)
    found: Choices | None = None
    most, looked = -math.inf, 0
    for choices in members:
        worth = score(net, logs, choices)
        looked += worth is not None
        if worth is not None and worth > most:
            found, most = choices, worth
    return None if found is None else (found, looked)


def score(
    net: SupernetBase, logs: Mapping[str, Mapping[Any, float]], choices: Mapping[str, Any]
) -> float | None:
    """The logarithm of the product of the weights that an architecture takes; None where it is no point."""
    try:
        at = net.lifted(choices)
    except ValueError:
        return None
    total = 0.0
    for path, value in at.items():
        mine = logs.get(path)
        if mine is None:
            continue
        if value in mine:
            total += mine[value]
        elif isinstance(value, tuple):  # edges, each with a share of its own
            total += sum(mine[source] for source in value)
        else:
            return None
    return total


@torch.no_grad()
def log_weights(net: SupernetBase) -> dict[str, dict[Any, float]]:
    """For every decision with variables the logarithm of the mean weight of each value, or of each edge."""
    found: dict[str, dict[Any, float]] = {}
    for decision in net.DECISIONS:
        if decision.get("parameter") is None:
            continue
        logits = net.logits(decision).detach().double()
        if decision["kind"] == "inputs":
            weights = torch.softmax(logits, -1).tolist()
        else:
            weights = mean_weights(net.ACTIVATION, logits[None], _row(net.alive(decision)))[0].tolist()
        named = dict(zip(decision["entries"], weights, strict=True))
        if decision["kind"] == "op" and decision.get("absent") is not None:
            named[decision["absent"]] = 1.0 - sum(weights)
        found[decision["path"]] = {name: math.log(max(w, LEAST)) for name, w in named.items()}
    return found


def _row(alive: torch.Tensor | None) -> torch.Tensor | None:
    return None if alive is None else alive[None]


__all__ = ["Nearest", "best", "candidates", "log_weights", "nearest", "score"]
