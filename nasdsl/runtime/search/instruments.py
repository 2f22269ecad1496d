"""What a search records about its stability.

Takes a supernet, views of its variables and held-out batches; returns numbers. Invariant: a measurement
changes nothing of the run. Parameters, buffers, modes, gradients and generators are afterwards what they
were before, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.runtime.activation import mean_weights
from nasdsl.runtime.rows import Group, Matrices, parameters_of
from nasdsl.runtime.search.bilevel import Batch, Loss
from nasdsl.runtime.search.curvature import Eigen, dominant_eigenvalue
from nasdsl.runtime.search.stopping import EarlyStop, Epoch
from nasdsl.runtime.search.undisturbed import batch_statistics, constant, kept, same_draws, undisturbed
from nasdsl.runtime.standalone.team import ALONE, Team
from nasdsl.runtime.supernet import Choices, SupernetBase
from nasdsl.runtime.topology import NodeTopology

Accuracy = Callable[[SupernetBase, Sequence[Batch]], float]
"""Share of examples that a supernet labels right."""


# --- how decided -------------------------------------------------------------


def operation_entropy(groups: Iterable[Group], weights: Matrices) -> float | None:
    """Mean entropy of the rows over ln K: 1 where all are uniform, 0 where all are one-hot.

    Args:
        weights: non-negative, (R, K) for each parameter; rows are divided by their sums.

    Returns:
        A row without any weight and one of a single entry count 0; None without rows.
    """
    known = {parameter: matrix.detach().cpu().double() for parameter, matrix in weights.items()}
    return _mean([_spread(known[row.parameter][row.index]) for group in groups for row in group.rows])


def topology_entropy(nodes: Iterable[NodeTopology], temperature: float) -> float | None:
    """The same for the distributions over combinations of inputs; None without nodes."""
    logits = [node.logits.detach().cpu().double() for node in nodes]
    return _mean([_spread(torch.softmax(each / temperature, -1)) for each in logits])


def _spread(weights: Tensor) -> float:
    """The entropy of weights (K,) over its maximum ln K."""
    total = float(weights.sum())
    if total <= 0.0 or len(weights) == 1:
        return 0.0
    return float(torch.special.entr(weights / total).sum()) / math.log(len(weights))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def ranking(
    groups: Iterable[Group], weights: Matrices, among: Mapping[str, frozenset[str]] | None = None
) -> list[list[str]]:
    """The entries of every row by weight, largest first, an added `none` left out.

    Args:
        among: for every decision the entries that are ranked, such as those with weights of their own
            (DARTS+); None ranks all.
    """
    found = []
    for row in (row for group in groups for row in group.rows):
        values = weights[row.parameter][row.index].detach().tolist()
        entries = [e for i, e in enumerate(row.entries) if i != row.none]
        if among is not None:
            entries = [e for e in entries if e in among[row.path]]
        found.append(sorted(entries, key=lambda e: -values[row.entries.index(e)]))
    return found


@attrs.frozen
class Skips:
    """Skip connections among the operations of an architecture.

    Attributes:
        by_owner: their number in every cell that has operations.
    """

    number: int
    share: float
    by_owner: dict[str, int]


def skip_share(
    choices: Mapping[str, str | tuple[str, ...]],
    skips: Mapping[str, frozenset[str]],
    owners: Mapping[str, str],
) -> Skips:
    """Counts the skip connections of a derived architecture.

    Args:
        choices: decision to option, or to inputs.
        skips: for every decision of an operation, those of its options that are identities; decisions
            that are not here are not counted, and a `none` that is an option of the space counts as an
            operation.
        owners: decision to cell.
    """
    taken = [path for path in skips if path in choices]
    by_owner = dict.fromkeys((owners[path] for path in taken), 0)
    for path in taken:
        by_owner[owners[path]] += choices[path] in skips[path]
    number = sum(by_owner.values())
    return Skips(number, number / max(1, len(taken)), by_owner)


# --- discretisation ----------------------------------------------------------


@torch.no_grad()
def batch_accuracy(
    net: SupernetBase,
    batches: Sequence[Batch],
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    team: Team = ALONE,
) -> float:
    """Share of examples that `net` labels right with the statistics of the batches themselves.

    Args:
        batches: whole ones, of which each process of the team looks at its own.
    """
    right = total = 0
    with batch_statistics(net), team.separate():
        for index in range(len(batches))[team.rows]:
            x, y = batches[index]
            with cast():
                right += int((net(x).argmax(1) == y).sum())
            total += len(y)
    right, total = team.total(right, total)
    return right / max(1, total)


@attrs.frozen
class Gap:
    """Accuracy of a supernet and of the same weights at one architecture.

    Attributes:
        after: None where the relaxation has no such point.
    """

    before: float
    after: float | None

    @property
    def size(self) -> float | None:
        """What discretisation loses."""
        return None if self.after is None else self.before - self.after


def discretisation_gap(
    net: SupernetBase,
    batches: Sequence[Batch],
    accuracy: Accuracy = batch_accuracy,
    set_to: Choices | None = None,
) -> Gap:
    """Accuracy before and after the variables are projected onto an architecture; undisturbed.

    Args:
        accuracy: by default with statistics of the batches, before and after. Running statistics belong to
            the mixture: with them (`bilevel.accuracy`) even an architecture that loses nothing seems to.
        set_to: the architecture; None: the derived one.
    """
    with undisturbed(net), kept(net.architecture_parameters()):
        before = accuracy(net, batches)
        try:
            net.set_architecture(net.derive() if set_to is None else set_to)
        except ValueError:
            return Gap(before, None)
        return Gap(before, accuracy(net, batches))


# --- all together ------------------------------------------------------------


@attrs.define(eq=False)
class Instruments:
    """All instruments of a run, and what they remember from epoch to epoch.

    Attributes:
        skips: see `skip_share`.
        generator: of the CPU, for the instruments alone.
        stop: is told of the epochs that are measured and in which variables learn.
        loss: a mean over examples, whose curvature is measured; without penalties and in full precision.
        accuracy: see `discretisation_gap`.
        iterations: of `dominant_eigenvalue`, each from the last vector; 0 for no eigenvalue.
        product: see `dominant_eigenvalue`.
        every: epochs between measurements of curvature and accuracy; 0 measures neither.
        learnable: see `ranking`.
        team: the processes that measure together, each on its rows.
        vector: eigenvector of the last measurement.
    """

    net: SupernetBase
    skips: Mapping[str, frozenset[str]]
    generator: torch.Generator
    stop: EarlyStop = attrs.field(factory=EarlyStop)
    loss: Loss = F.cross_entropy
    accuracy: Accuracy = batch_accuracy
    iterations: int = 10
    product: str = "finite"
    every: int = 1
    learnable: Mapping[str, frozenset[str]] | None = None
    team: Team = ALONE
    vector: tuple[Tensor, ...] | None = attrs.field(default=None, init=False)

    def measure(self, epoch: int, batches: Sequence[Batch], learning: bool = True) -> dict[str, float]:
        """Measures after an epoch and tells `stop`, whose `reason` says whether to go on.

        Args:
            epoch: its number, from 1.
            batches: held-out examples, whole batches; the curvature is that of the loss on the first one.
            learning: whether variables learned in this epoch; only such epochs are told to `stop`.

        Returns:
            What there is of `hessian_eigenvalue`, `entropy_operations`, `entropy_topology`, `skip_share`,
            `discretisation_gap`, `supernet_accuracy` and `projected_accuracy`.
        """
        net = self.net
        choices, groups, alive = net.derive(), net.groups(), net.pruned()
        weights = {p: mean_weights(net.ACTIVATION, p.detach(), alive.get(p)) for p in parameters_of(groups)}
        owners = {row.path: group.owner for group in groups for row in group.rows}
        skips = skip_share(choices, self.skips, owners)
        found: dict[str, float | None] = {
            "entropy_operations": operation_entropy(groups, weights),
            "entropy_topology": topology_entropy(net.topology(), net.temperature),
            "skip_share": skips.share,
        }
        if self.every and epoch % self.every == 0:
            gap = discretisation_gap(net, batches, self.accuracy, choices)
            if self.iterations:
                x, y = batches[0]
                found["hessian_eigenvalue"] = self._eigenvalue(x[self.team.rows], y[self.team.rows])
            found["discretisation_gap"] = gap.size
            found["supernet_accuracy"], found["projected_accuracy"] = gap.before, gap.after
        found = self.team.decide(found)  # whether to stop must not hang on a rounding
        order = ranking(groups, weights, self.learnable)
        if learning:
            eigenvalue = found.get("hessian_eigenvalue")
            self.stop.observe(Epoch(epoch, choices, eigenvalue, skips.by_owner, order))
        return {name: value for name, value in found.items() if value is not None}

    def _eigenvalue(self, x: Tensor, y: Tensor) -> float:
        net = self.net

        def loss_of() -> Tensor:
            with same_draws(net):
                return self.loss(net(x), y)

        with batch_statistics(net), constant(net.weight_parameters()):
            eigen = dominant_eigenvalue(
                loss_of,
                net.architecture_parameters(),
                self.vector,
                self.iterations,
                self.generator,
                product=self.product,
                team=self.team,
            )
        self.vector = eigen.vector
        return eigen.value

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        vector = None if self.vector is None else list(self.vector)
        return {"stop": self.stop.state_dict(), "vector": vector, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.stop.load_state_dict(state["stop"])
        self.vector = None if state["vector"] is None else tuple(state["vector"])
        self.generator.set_state(state["generator"])


__all__ = [
    "EarlyStop",
    "Eigen",
    "Epoch",
    "Gap",
    "Instruments",
    "Skips",
    "batch_accuracy",
    "batch_statistics",
    "discretisation_gap",
    "dominant_eigenvalue",
    "operation_entropy",
    "ranking",
    "skip_share",
    "topology_entropy",
    "undisturbed",
]
