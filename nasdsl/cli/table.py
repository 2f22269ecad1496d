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
    rows = [tuple(records[0]), *(tuple(r.values()) for r in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
