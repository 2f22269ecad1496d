"""What a path of a supernet is worth: batch norm recalibrated, accuracy on held-out data.

Takes a supernet, a path and batches; returns numbers. Invariant: a look changes nothing: weights,
statistics, modes and the path are afterwards what they were, so the result does not depend on what was
looked at before.

Why: the statistics of a shared batch norm are those of all paths that were trained (SPOS, section 3.4).
The definition is a reconstruction: the statistics of every batch norm on the path start anew and are the
mean over the given batches (batch means, and batch variances, each batch alike), everything else in
evaluation mode. The released SPOS code takes an exponential average instead, which forgets most batches.
Of several processes each takes whole batches of its own, so a path is worth the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from nasdsl.runtime.operators.elastic import batch_norms
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.search.undisturbed import undisturbed
from nasdsl.runtime.standalone.data import Stream
from nasdsl.runtime.standalone.team import ALONE, Team

Batch = tuple[Tensor, Tensor]
Cast = Callable[[], AbstractContextManager[Any]]


@contextmanager
def looking_at(net: PathSupernet, path: Mapping[str, Any]) -> Iterator[None]:
    """Sets a path for a while."""
    before = dict(net.path.at)
    net.set_architecture(path)
    try:
        yield
    finally:
        net.set_architecture(before)


@contextmanager
def recalibrated(
    net: PathSupernet,
    path: Mapping[str, Any],
    batches: Sequence[Batch],
    cast: Cast = nullcontext,
    team: Team = ALONE,
) -> Iterator[None]:
    """The supernet in evaluation mode at a path, with the path's own statistics; undone at the end.

    Args:
        batches: training images, none of those that judge; without any, statistics stay as they are.
        cast: the precision that statistics are taken in: that in which the path is judged.
        team: the processes among which the batches are divided.
    """
    norms = batch_norms(net)
    momenta = [n.momentum for n in norms]
    with looking_at(net, path), undisturbed(net), team.separate():
        net.eval()
        if batches:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a cumulative average
                norm.train()
            try:
                with torch.no_grad():
                    for index in range(len(batches))[team.rows]:
                        x, _ = batches[index]
                        with cast():
                            net(net.fit(x))
                    _together(norms, len(batches), team)
            finally:
                for norm, momentum in zip(norms, momenta, strict=True):
                    norm.momentum = momentum
                    norm.eval()
        yield


def _together(norms: Sequence[Any], count: int, team: Team) -> None:
    """Averages over the batches of each process become averages over all of them."""
    if team.world == 1:
        return
    share = len(range(count)[team.rows]) * team.world / count
    statistics = [b for n in norms for b in (n.running_mean, n.running_var) if b is not None]
    for buffer, mean in zip(statistics, team.means([b.double() * share for b in statistics]), strict=True):
        buffer.copy_(mean)


@torch.no_grad()
def correct(
    net: PathSupernet, batches: Sequence[Batch], cast: Cast = nullcontext, team: Team = ALONE
) -> float:
    """Part of the examples that are classified rightly, as the network stands.

    Args:
        team: the processes among which the batches are divided.
    """
    right, count = 0, 0
    for index in range(len(batches))[team.rows]:
        x, y = batches[index]
        with cast():
            right += int((net(net.fit(x)).argmax(1) == y).sum())
        count += len(y)
    right, count = team.total(right, count)
    return right / count


class Peeked(Sequence[Batch]):
    """The first batches of a stream in its own order, each made when it is asked for."""

    def __init__(self, stream: Stream, count: int) -> None:
        self.stream, self.length = stream, count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.stream.peek(index)


class Judge:
    """Judges paths of one supernet on fixed batches.

    Attributes:
        looks: how many paths were judged.
    """

    def __init__(
        self,
        net: PathSupernet,
        calibration: Sequence[Batch],
        held_out: Sequence[Batch],
        cast: Cast = nullcontext,
        team: Team = ALONE,
    ) -> None:
        self.net, self.calibration, self.held_out, self.cast = net, calibration, held_out, cast
        self.team = team
        self.looks = 0

    def accuracy(self, path: Mapping[str, Any]) -> float:
        """Accuracy of a path on the held-out batches, 0 to 1."""
        self.looks += 1
        with recalibrated(self.net, path, self.calibration, self.cast, self.team):
            return correct(self.net, self.held_out, self.cast, self.team)


__all__ = ["Judge", "Peeked", "correct", "looking_at", "recalibrated"]
