"""How decisions were made: what each leaned to at every epoch, and what would have been derived.

Takes a run, returns figures, a decision each. Invariant: an operation has the colour of its picture in all of
them; a run that kept no probabilities still shows what was derived at every epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from nasdsl.drawing.colours import LIGHT, PALETTE
from nasdsl.drawing.epochs import draw_inputs, draw_shares
from nasdsl.drawing.pages import UNKNOWN, Table
from nasdsl.reporting.curves import EpochFigure, Key, colour_name
from nasdsl.reporting.folder import Run

MOST = 200
"""Decisions that are drawn; a page with more opens slowly."""
_NEAR = 0.02

Log = Sequence[Mapping[str, Any]]


@attrs.frozen
class Group:
    """The decisions of one owner, such as a cell.

    Attributes:
        names: of the decisions, without the owner.
        legend: what the colours mean.
    """

    title: str
    figures: tuple[EpochFigure, ...]
    legend: tuple[Key, ...]


@attrs.frozen
class Decided:
    """All that is drawn of decisions, the last epoch as a table, and how many were left out."""

    groups: tuple[Group, ...]
    last: Table
    left_out: int
    with_probabilities: bool


def decided(run: Run, colours: Mapping[str, str]) -> Decided | None:
    """The decisions of a run; None where its log has none.

    Args:
        colours: of operations; others have colours by their order.
    """
    log = run.log
    paths = list(dict.fromkeys(p for e in log for p in (*_shares_of(e), *(e.get("architecture") or {}))))
    if not paths:
        return None
    named = {} if run.lock is None else run.lock.get("decisions", {})
    every = [_Decision(path, log, named.get(path), colours) for path in paths]
    owners = dict.fromkeys(d.owner for d in every[:MOST])
    groups = []
    for owner in owners:
        mine = [d for d in every[:MOST] if d.owner == owner]
        legend = dict.fromkeys(key for d in mine for key in d.keys)
        figures = tuple(d.figure(f"d{every.index(d)}") for d in mine)
        groups.append(Group(owner or "the network", figures, tuple(legend)))
    known = any(d.shares for d in every)
    return Decided(tuple(groups), _last(every), max(0, len(every) - MOST), known)


def _shares_of(entry: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    found: Mapping[str, Sequence[float]] = entry.get("probabilities") or {}
    return found


class _Decision:
    """One decision over the epochs of a log."""

    def __init__(
        self, path: str, log: Log, entries: Sequence[str] | None, colours: Mapping[str, str]
    ) -> None:
        self.path = path
        cell, _, rest = path.partition(".")
        self.owner, self.name = (cell, rest) if "." in rest else ("", path)
        self.epochs = [e["epoch"] for e in log]
        raw = [(e["epoch"], _shares_of(e).get(path, ())) for e in log]
        width = max((len(v) for _, v in raw), default=0)
        self.shares = [(e, tuple(v)) for e, v in raw if width and len(v) == width]
        self.chosen = [(e["epoch"], _choice((e.get("architecture") or {}).get(path))) for e in log]
        self.inputs = any(isinstance((e.get("architecture") or {}).get(path), list) for e in log)
        self.entries = self._entries(width, entries)
        self.colours = [self._colour(i, e, colours) for i, e in enumerate(self.entries)]

    def _entries(self, width: int, named: Sequence[str] | None) -> tuple[str, ...]:
        if named is not None and (len(named) == width or not width):
            return tuple(named)
        seen = tuple(dict.fromkeys(c for _, choice in self.chosen for c in choice))
        return tuple(f"entry {i + 1}" for i in range(width)) if width else seen

    def _colour(self, index: int, entry: str, colours: Mapping[str, str]) -> str:
        if entry == "none":
            return LIGHT["gone"]
        return (
            PALETTE[index % len(PALETTE)]
            if self.inputs
            else colours.get(entry, PALETTE[index % len(PALETTE)])
        )

    @property
    def keys(self) -> tuple[Key, ...]:
        """What its colours mean; rows of inputs are named beside them."""
        if self.inputs:
            return ()
        return tuple(Key(e, colour_name(c)) for e, c in zip(self.entries, self.colours, strict=True))

    def figure(self, id_: str) -> EpochFigure:
        """The chart, and what it shows at every epoch in words."""
        title = f"{self.path} by epoch"
        if self.inputs or not self._whole():
            taken = [(e, [name in choice for name in self.entries]) for e, choice in self.chosen]
            chart = draw_inputs(self.shares, self.colours, self.entries, taken, title, self.epochs)
        else:
            paint = dict(zip(self.entries, self.colours, strict=True))
            derived = [(e, paint.get(c[0], LIGHT["faint"])) for e, c in self.chosen if c]
            chart = draw_shares(self.shares, self.colours, derived, title, self.epochs)
        return EpochFigure(id_, self.name, "", (), chart, tuple(self._texts()))

    def _whole(self) -> bool:
        """Whether the numbers are shares of one, which can be stacked."""
        return all(abs(sum(v) - 1) <= _NEAR and min(v) >= 0 for _, v in self.shares)

    def _texts(self) -> Iterable[str]:
        shares = dict(self.shares)
        for epoch, choice in self.chosen:
            values = dict(zip(self.entries, shares.get(epoch, ()), strict=False))
            mine = [f"{c} {values[c]:.2f}" if c in values else c for c in choice]
            text = ", ".join(mine) or "not taken"
            leader = max(values, key=lambda e: values[e]) if values else None
            if leader is not None and not self.inputs and leader not in choice:
                text += f"; most likely {leader} {values[leader]:.2f}"
            yield text

    def last(self) -> tuple[str, str, str]:
        """What was derived last, and every number of it."""
        values = self.shares[-1][1] if self.shares else ()
        words = ", ".join(f"{e} {v:.2f}" for e, v in zip(self.entries, values, strict=False))
        choice = self.chosen[-1][1] if self.chosen else ()
        return self.path, ", ".join(choice) or UNKNOWN, words or UNKNOWN


def _choice(value: object) -> tuple[str, ...]:
    """A choice as the options that are taken."""
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _last(every: Sequence[_Decision]) -> Table:
    heads = ("decision", "derived", "probabilities")
    return Table(heads, [d.last() for d in every], frozenset((1, 2)))


__all__ = ["Decided", "Group", "decided"]
