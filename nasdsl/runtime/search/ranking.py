"""The accuracy of architectures with the weights of a supernet whose search has ended.

Takes a trained supernet and batches, returns numbers. Invariant: the weights stay what they were, and
the result does not depend on what was judged before. Methods of single paths set the path. A supernet
whose variables weigh candidates is set to the one-hot point of the architecture, and what is judged is
the network of that point, cut out: the same mathematics without the candidates that weigh nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from nasdsl.runtime.operators.elastic import batch_norms
from nasdsl.runtime.paths.judging import Batch, Cast, Judge
from nasdsl.runtime.paths.results import batches
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.standalone.data import load_data

Alone = Callable[[Mapping[str, Any]], nn.Module]


def streams(
    settings: Mapping[str, Any],
    declared: tuple[Any, ...],
    classes: int,
    root: str,
    workers: int,
    device: torch.device,
) -> tuple[tuple[Sequence[Batch], Sequence[Batch]], tuple[str, ...]]:
    """Training batches for batch norm and held-out ones, divided as the search divided them; notes on the data.

    Raises:
        Mistake: for data that cannot be loaded.
    """
    loader, interpolation = settings.get("loader", "auto"), settings.get("interpolation", "bilinear")
    data = load_data(settings["name"], declared, classes, root, workers, loader, interpolation).to(device)
    train, held_out = bilevel.search_streams(data, settings, settings["seed"])
    return batches(train, held_out, settings, settings.get("limit_batches")), data.notes


class Inherited:
    """Judges architectures of one supernet.

    Args:
        alone: the network of an architecture with the supernet's weights, for one that mixes candidates.
    """

    def __init__(
        self,
        net: Any,
        alone: Alone,
        calibration: Sequence[Batch],
        held_out: Sequence[Batch],
        cast: Cast = nullcontext,
    ) -> None:
        self.net, self.alone, self.cast = net, alone, cast
        self.calibration, self.held_out = calibration, held_out
        self.judge = Judge(net, calibration, held_out, cast) if isinstance(net, PathSupernet) else None

    def accuracy(self, choices: Mapping[str, Any]) -> float:
        """Accuracy on the held-out batches, 0 to 1.

        Raises:
            ValueError: the supernet has no such point.
        """
        if self.judge is not None:
            return self.judge.accuracy(choices)
        self.net.set_architecture(choices)
        network = self.alone(choices)
        recalibrate(network, self.calibration)
        return bilevel.accuracy(network, self.held_out, self.cast)


@torch.no_grad()
def recalibrate(net: nn.Module, calibration: Sequence[Batch]) -> None:
    """Leaves a network in evaluation mode, its statistics the mean over the batches; without any, as they are."""
    net.eval()
    norms = batch_norms(net) if calibration else []
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for x, _ in calibration:
        net(x)
    net.eval()


__all__ = ["Inherited", "recalibrate", "streams"]
