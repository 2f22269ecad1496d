"""The prioritised paths of Cream: the best ones seen so far, as teachers and as the result.

Takes paths with what they reached on their minibatch, keeps a few. Invariant: at most `size` entries,
the most accurate first (ties: the cheaper, then the earlier); once it is full, the worst accuracy on it
never falls.

Cream of the Crop (Peng et al., NeurIPS 2020), section 3.2, and its released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasdsl.runtime.paths.choices import Choices, key_of


@dataclass(frozen=True)
class Entry:
    """A path on the board.

    Attributes:
        accuracy: top-1 of the path on the minibatch that trained it, in percent.
        cost: of the path, by the objective of the search.
        number: of the step that brought it, from 0.
        images: the first few of its minibatch, (n, C, H, W).
        probabilities: what it made of them, (n, classes).
    """

    accuracy: float
    cost: int
    number: int
    choices: Choices
    images: Tensor
    probabilities: Tensor

    @property
    def rank(self) -> tuple[float, int, int]:
        """What entries are sorted by; tensors are never compared (the released code's ties raise)."""
        return (-self.accuracy, self.cost, self.number)


class Board:
    """See the module.

    Attributes:
        margin: points of accuracy that a dearer path must be ahead of the worst.
        repeats: whether a path may stand on it twice, as in the released code.
    """

    def __init__(self, size: int, margin: float, repeats: bool = False) -> None:
        self.size, self.margin, self.repeats = size, margin, repeats
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def full(self) -> bool:
        return len(self.entries) >= self.size

    def admits(self, accuracy: float, cost: int) -> bool:
        """Whether a path of this accuracy and cost would be taken."""
        if not self.full:
            return True
        worst = self.entries[-1]
        better = accuracy > worst.accuracy
        return accuracy > worst.accuracy + self.margin or (better and cost < worst.cost)

    def offer(self, entry: Entry) -> bool:
        """Takes an entry if the rule says so; returns whether it did.

        A path that is there already is replaced where it did better (a reconstruction: the released
        code lets it stand twice, which small spaces would fill the board with).
        """
        twin = next((e for e in self.entries if key_of(e.choices) == key_of(entry.choices)), None)
        if twin is not None and not self.repeats:
            if entry.accuracy <= twin.accuracy:
                return False
            self.entries.remove(twin)
        elif not self.admits(entry.accuracy, entry.cost):
            return False
        self.entries = sorted([*self.entries, entry], key=lambda e: e.rank)[: self.size]
        return True

    def images(self) -> Tensor:
        """The images of all entries, (K, n, C, H, W)."""
        return torch.stack([e.images for e in self.entries])

    def probabilities(self) -> Tensor:
        """Their probabilities, (K, n, classes)."""
        return torch.stack([e.probabilities for e in self.entries])

    def record(self) -> list[dict[str, Any]]:
        """The board as plain data, for the log."""
        return [{"accuracy": e.accuracy, "cost": e.cost, "choices": e.choices} for e in self.entries]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"entries": [vars(e) for e in self.entries]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.entries = [Entry(**e) for e in state["entries"]]

    def to(self, device: torch.device) -> None:
        """Moves the tensors of all entries."""
        self.entries = [
            Entry(**{**vars(e), "images": e.images.to(device), "probabilities": e.probabilities.to(device)})
            for e in self.entries
        ]


__all__ = ["Board", "Entry"]
