"""Random numbers of several processes: some must be drawn alike, some must not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nasdsl.runtime.standalone.basics import stable_seed
from nasdsl.runtime.standalone.team import ALONE, Team


class Draws:
    """Outside of its contexts torch's generators are alike on all processes, and a checkpoint keeps those alone.

    Inside `own`, torch's generators are those of this process, for what is drawn for each example (dropout,
    drop-path); inside `agreed`, they are the common ones again, for what all must draw alike (the noise of
    architecture variables). Those of a process follow from (seed, rank, what is named) alone. A process that
    is alone is left as it is.
    """

    def __init__(self, team: Team = ALONE, seed: int = 0) -> None:
        self.team, self.seed = team, seed
        self._agreed: list[Tensor] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Draws:
        """A copy of a network draws with it."""
        return self

    @contextmanager
    def own(self, *named: object) -> Iterator[None]:
        """Inside, torch draws what this process alone sees."""
        if self.team.world == 1:
            yield
            return
        self._agreed = self._states()
        torch.manual_seed(stable_seed(self.seed, "rank", self.team.rank, *named))
        try:
            yield
        finally:
            self._set(self._agreed)
            self._agreed = None

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Inside, torch draws what all processes draw."""
        if self._agreed is None:
            yield
            return
        own = self._states()
        self._set(self._agreed)
        try:
            yield
        finally:
            self._agreed = self._states()
            self._set(own)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Gives the agreed generators back as they were; those of this process are the caller's."""
        before = self._agreed
        try:
            yield
        finally:
            self._agreed = before

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.team.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.team.device))
        return states

    def _set(self, states: Sequence[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.team.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.team.device)
