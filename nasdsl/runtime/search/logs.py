"""What a search writes for people to look at.

Takes entries and a supernet, writes TensorBoard events and the supernet's weights.
Invariant: logging changes nothing of the run.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasdsl.runtime.activation import mean_weights
from nasdsl.runtime.standalone.training import save_weights
from nasdsl.runtime.supernet import SupernetBase


class Events:
    """TensorBoard events and, at the end, the supernet's weights, in the folder of a run.

    Of several processes the first one writes.
    """

    def __init__(self, folder: Path, epoch: int = 0, writes: bool = True) -> None:
        """Events after `epoch`, of a part of the run that will be run again, are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1) if writes else None
        if self._writer is not None:  # a run that fails ends its events before its folder may go
            atexit.register(self._writer.close)

    def write(self, entry: Mapping[str, Any]) -> None:
        """One epoch: losses, accuracy, and the largest probability of every decision."""
        if self._writer is None:
            return
        epoch = int(entry["epoch"])
        for name, value in entry.items():
            if isinstance(value, float):
                self._writer.add_scalar(name, value, epoch)
        for path, weights in entry.get("probabilities", {}).items():
            self._writer.add_scalar(f"confidence/{path}", max(weights), epoch)

    def close(self, net: nn.Module) -> None:
        """Writes `supernet.safetensors` and ends the events."""
        save_weights(net, self.folder, "supernet")
        if self._writer is not None:
            self._writer.close()


def entries(net: SupernetBase) -> dict[str, list[str]]:
    """For every decision that has variables what `probabilities` are of: its options, or the inputs of a node."""
    return {
        d["path"]: list(map(str, d["options"] if d.get("role") == "inputs" else d["entries"]))
        for d in net.DECISIONS
        if d.get("parameter") is not None
    }


@torch.no_grad()
def probabilities(net: SupernetBase) -> dict[str, list[float]]:
    """For every decision that has variables the weights of its entries, to four decimals.

    Of operations and of edges the mean weights of their activation; of topology variables the probability
    that an input is taken, the sum over the combinations that hold it.
    """
    found, alive = {}, net.pruned()
    for decision in net.DECISIONS:
        if decision.get("parameter") is None:
            continue
        logits = net.logits(decision).detach().double()
        if decision["kind"] == "op":
            parameter = net._parameter(decision)
            row = slice(None) if decision["row"] is None else decision["row"]
            weights = mean_weights(net.ACTIVATION, parameter.detach().double(), alive.get(parameter))[row]
        elif decision.get("role") == "inputs":
            taken = torch.softmax(logits / net.temperature, -1)
            sources, combinations = decision["options"], decision["entries"]
            weights = torch.stack(
                [taken[[source in each for each in combinations]].sum() for source in sources]
            )
        else:
            weights = torch.softmax(logits, -1)
        found[decision["path"]] = [round(value, 4) for value in weights.flatten().tolist()]
    return found


def describe(net: SupernetBase) -> str:
    """The supernet in a few words."""
    weights = sum(p.numel() for p in net.weight_parameters())
    variables = sum(p.numel() for p in net.architecture_parameters())
    return f"supernet of {weights:,} weights and {variables} variables"
