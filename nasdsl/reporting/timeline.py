"""When a run ran: its stretches, its interruptions, its saves.

Takes the events of `timeline.jsonl`, returns stretches. Invariant: a stretch is one process; the time between
two of them is an interruption and no time of the run; a clock that was set back makes no negative time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from nasdsl.drawing.pages import UNKNOWN, Table

_STARTS = ("started", "continued")
_ENDS = {"stopped": "stopped when asked to", "finished": "finished"}


@attrs.frozen
class Stretch:
    """One process of a run.

    Attributes:
        begin, end: of its first and its last event, in seconds since 1970.
        epochs: that it ended, the first and the last; None for none.
        saves: their times.
        gap: seconds since the stretch before; 0 for the first.
        ending: how it ended, in words.
    """

    begin: float
    end: float
    epochs: tuple[int, int] | None
    saves: tuple[float, ...]
    gap: float
    ending: str

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @property
    def marks(self) -> tuple[float, ...]:
        """Where it was saved, as shares of its length."""
        return tuple((t - self.begin) / self.seconds for t in self.saves) if self.seconds else ()


def stretches(timeline: Sequence[Mapping[str, Any]]) -> list[Stretch]:
    """The stretches, in order."""
    parts: list[list[Mapping[str, Any]]] = []
    for event in timeline:
        if event["event"] in _STARTS or not parts:
            parts.append([])
        parts[-1].append(event)
    found: list[Stretch] = []
    for i, events in enumerate(parts):
        times = [float(e["time"]) for e in events]
        epochs = [int(e["epoch"]) for e in events if e["event"] == "epoch"]
        ending = _ENDS.get(events[-1]["event"])
        silent = "last heard of here" if i + 1 == len(parts) else "interrupted"
        begin, end = times[0], max(times)
        found.append(
            Stretch(
                begin,
                end,
                (min(epochs), max(epochs)) if epochs else None,
                tuple(float(e["time"]) for e in events if e["event"] == "saved"),
                max(0.0, begin - found[-1].end) if found else 0.0,
                ending or silent,
            )
        )
    return found


def running(parts: Iterable[Stretch]) -> float:
    """Seconds of all stretches."""
    return sum(p.seconds for p in parts)


def epoch_seconds(timeline: Sequence[Mapping[str, Any]]) -> float | None:
    """The median time from the end of an epoch to the end of the next one in the same stretch."""
    spans, last = [], None
    for event in timeline:
        if event["event"] in _STARTS:
            last = None
        elif event["event"] == "epoch":
            if last is not None:
                spans.append(max(0.0, float(event["time"]) - last))
            last = float(event["time"])
    return sorted(spans)[len(spans) // 2] if spans else None


def duration(seconds: float) -> str:
    """Seconds as they are read: 3.2 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for large, small, words in ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {words[0]}" + (f" {rest} {words[1]}" if rest else "")
    return f"{whole} s"


def clock(seconds: float) -> str:
    """A time of the clock, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return UNKNOWN


def table_of(parts: Sequence[Stretch]) -> Table:
    """The stretches as rows."""
    rows = []
    for i, p in enumerate(parts, 1):
        epochs = UNKNOWN if p.epochs is None else f"{p.epochs[0]} to {p.epochs[1]}"
        gap = duration(p.gap) if i > 1 else UNKNOWN
        rows.append((f"{i}", gap, clock(p.begin), duration(p.seconds), epochs, f"{len(p.saves)}", p.ending))
    heads = ("stretch", "away before", "begun", "ran for", "epochs ended", "saves", "end")
    return Table(heads, rows, frozenset((2, 6)))


__all__ = ["Stretch", "clock", "duration", "epoch_seconds", "running", "stretches", "table_of"]
