"""Records on standard output.

Takes records with the same keys, prints a table, or JSON with the same content. Invariant: a table
fits the records' width; nothing is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


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
