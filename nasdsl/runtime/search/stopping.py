"""When a search is stopped early, and which architecture it ends with then.

Takes what is known of every epoch, returns reasons to stop in words. Invariant: a decision depends on the
epochs that were observed alone, and a run that was continued decides as one that was never stopped.

Liang et al.: DARTS+: Improved Differentiable Architecture Search with Early Stopping. 2019, arXiv
1909.06035. Zela et al.: Understanding and Robustifying Differentiable Architecture Search. ICLR 2020,
arXiv 1909.09656.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import validators

from nasdsl.runtime.supernet import Choices


@attrs.frozen(eq=False)
class Epoch:
    """What the rules look at.

    Attributes:
        number: of the epoch, from 1.
        choices: the derived architecture.
        eigenvalue: None where it was not measured.
        skips: number of skip connections by cell.
        ranking: the operations of every choice, strongest first.
    """

    number: int
    choices: Choices
    eigenvalue: float | None = None
    skips: Mapping[str, int] = attrs.field(factory=dict)
    ranking: list[list[str]] = attrs.field(factory=list)


def _odd(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{attribute.name}={value} must be odd, to lie around an epoch")


@attrs.define(eq=False)
class EarlyStop:
    """When to stop, and which epoch's architecture to take then.

    The epochs that are observed are those in which variables learn: before, no ranking changes.

    `skip`: DARTS+, criterion 1: a cell's architecture has `limit` skip connections. DARTS+ looks at normal
    cells; here `cells` names the cells.

    `ranking`: DARTS+, criterion 2: the ranking of operations has not changed for `patience` epochs.

    `eigenvalue`: DARTS-ES, Zela et al., section 4.3, as in `EVLocalAvg` of `src/utils.py` in their code
    (automl/RobustDARTS, commit 3dec3fe). With l(i) the mean of `window` measurements around measurement i
    (at the start of as many as there are), stop if l(i - back) < ratio * l(i) and take the architecture of
    i - back, unless it is of an epoch before `start`. i is `window // 2` measurements ago. Their code
    measures every second epoch; its threshold l(i) / l(i - back) > 1.3 is 0.77 where the paper has 0.75,
    the default here. Theirs are the largest eigenvalues. Ours can be negative: nothing stops while
    l(i) <= 0.

    Attributes:
        rule: `off`, `skip`, `ranking` or `eigenvalue`.
        cells: that `skip` looks at; empty for all.
        back: in measurements.
        start: first epoch whose architecture may be taken; None: 11 for `eigenvalue` (theirs is 10, from
            0), 1 otherwise.
        reason: why the search is to stop, in words, once it is.
        best_epoch: the epoch whose architecture is taken: the last one observed unless `eigenvalue` stops.
        best: that architecture.
    """

    rule: str = attrs.field(default="off", validator=validators.in_(("off", "skip", "ranking", "eigenvalue")))
    limit: int = 2
    cells: tuple[str, ...] = ()
    patience: int = 10
    ratio: float = 0.75
    window: int = attrs.field(default=5, validator=_odd)
    back: int = 4
    start: int | None = None
    reason: str | None = attrs.field(default=None, init=False)
    best_epoch: int | None = attrs.field(default=None, init=False)
    best: Choices = attrs.field(factory=dict, init=False)
    _measured: list[tuple[int, float, Choices]] = attrs.field(factory=list, init=False)
    _ranking: list[list[str]] = attrs.field(factory=list, init=False)
    _unchanged: int = attrs.field(default=0, init=False)

    def observe(self, epoch: Epoch) -> str | None:
        """The reason to stop after an epoch, or None; once there is one it stays, and so does the best."""
        if self.reason is None:
            self.best_epoch, self.best = epoch.number, dict(epoch.choices)
            rules = {"skip": self._skip, "ranking": self._rank, "eigenvalue": self._eigenvalue}
            self.reason = rules[self.rule](epoch) if self.rule in rules else None
        return self.reason

    def _first(self) -> int:
        return (11 if self.rule == "eigenvalue" else 1) if self.start is None else self.start

    def _skip(self, epoch: Epoch) -> str | None:
        for cell, number in epoch.skips.items():
            watched = not self.cells or cell in self.cells
            if watched and number >= self.limit and epoch.number >= self._first():
                return f"{cell or 'the network'} has {number} skip connections; {self.limit} stop the search"
        return None

    def _rank(self, epoch: Epoch) -> str | None:
        same = epoch.ranking == self._ranking and epoch.number > self._first()
        self._ranking, self._unchanged = epoch.ranking, self._unchanged + 1 if same else 0
        if not epoch.ranking or self._unchanged < self.patience:
            return None
        return f"the ranking of operations has not changed for {self._unchanged} epochs"

    def _eigenvalue(self, epoch: Epoch) -> str | None:
        if epoch.eigenvalue is None:
            return None
        half = self.window // 2
        self._measured.append((epoch.number, epoch.eigenvalue, dict(epoch.choices)))
        del self._measured[: -(self.back + self.window)]  # no average will need them again
        now = len(self._measured) - 1 - half
        then = now - self.back
        if then < 0 or self._measured[then][0] < self._first():
            return None
        before, after = self._average(then, half), self._average(now, half)
        if not (after > 0.0 and before < self.ratio * after):
            return None
        self.best_epoch, _, self.best = self._measured[then]
        return (
            f"the dominant eigenvalue rose from {before:.3g} around epoch {self.best_epoch} "
            f"to {after:.3g} around epoch {self._measured[now][0]}"
        )

    def _average(self, index: int, half: int) -> float:
        around = self._measured[max(0, index - half) : index + half + 1]
        return sum(value for _, value, _ in around) / len(around)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and mappings."""
        return {
            "reason": self.reason,
            "best_epoch": self.best_epoch,
            "best": _plain(self.best),
            "measured": [[number, value, _plain(choices)] for number, value, choices in self._measured],
            "ranking": [list(row) for row in self._ranking],
            "unchanged": self._unchanged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.reason, self.best_epoch = state["reason"], state["best_epoch"]
        self.best = _choices(state["best"])
        self._measured = [(number, value, _choices(plain)) for number, value, plain in state["measured"]]
        self._ranking, self._unchanged = [list(row) for row in state["ranking"]], state["unchanged"]


def _plain(choices: Choices) -> dict[str, str | list[str]]:
    return {path: value if isinstance(value, str) else list(value) for path, value in choices.items()}


def _choices(plain: Mapping[str, Any]) -> Choices:
    return {path: value if isinstance(value, str) else tuple(value) for path, value in plain.items()}


__all__ = ["EarlyStop", "Epoch"]
