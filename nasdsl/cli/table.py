"""Records on standard output.

Takes records with the same keys, prints a table, or JSON with the same content. Invariant: a table
fits the records' width; nothing is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def print_records(records: Sequence[Mapping[str, str]], *, as_json: bool) -> None:
    """Prints records, the keys as headings."""
    if as_json:
        print(json.dumps(list(records), indent=2, ensure_ascii=False))
        return
    if not records:
        print("none")
        return
    print_table([tuple(records[0]), *(tuple(r.values()) for r in records)])


def print_table(rows: Sequence[tuple[str, ...]], indent: int = 0) -> None:
    """Prints rows of cells, columns aligned on the left; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(f"{' ' * indent}{line}".rstrip())


def print_agreement(scores: Sequence[tuple[str, Mapping[str, Any]]], top: int) -> None:
    """Prints how scores rank.

    Args:
        scores: names, which may be equal, with the fields of a `nasdsl.ranking.Agreement`.
        top: the number of the best that ranks are told of as well.
    """
    rows = [("score", "tau-b", "95 % interval", f"tau-b of the best {top}", "95 % interval")]
    for name, a in scores:
        over, inside = interval(a["low"], a["high"]), interval(a["top_low"], a["top_high"])
        rows.append((name, decimal(a["tau"]), over, decimal(a["top"]), inside))
    print_table(rows)


def decimal(value: float | None) -> str:
    """Three digits behind the point; a dash where nothing is known."""
    return "-" if value is None else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The same of both ends."""
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"
