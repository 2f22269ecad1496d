"""The kinds of tables, and opening one by name.

Takes `FILE`, `FILE#sha256=HEX` or `KIND:PATH`, returns a `Table`. Invariant: a name without a kind is a
CSV file; a kind is imported when one of its tables is opened; a kind that another package declares under
the entry-point group `nasdsl.tables` is opened in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nasdsl.errors import UserError
from nasdsl.registry import Registry
from nasdsl.space.checked import CheckedSpace
from nasdsl.tabular.table import Request, Table

TABLES: Registry[Callable[[Request], Table]] = Registry(
    kind="kind of table",
    code="NAS604",
    table={
        "csv": "nasdsl.tabular.csv_table:open_csv",
        "natsbench": "nasdsl.tabular.natsbench:open_natsbench",
    },
    group="nasdsl.tables",
)

# One letter and a colon is a drive, not a kind.
_KIND = re.compile(r"([A-Za-z][A-Za-z0-9_.-]+):(.*)", re.DOTALL)
_CHECKSUM = "#sha256="


def open_table(space: CheckedSpace, name: str | Path, metric: str | None = None) -> Table:
    """Opens a table for the architectures of a space.

    Args:
        name: a CSV file, perhaps compressed by gzip; `natsbench:PATH`; `KIND:PATH` of a plug-in. Each may end in
            `#sha256=HEX`: a file with another checksum is refused.
        metric: the metric that is meant where none is named.

    Raises:
        UserError: NAS005 for a file that cannot be read, NAS601 for one with a mistake, NAS602 for one with
            another checksum, NAS603 for an unknown metric, NAS604 for a kind that is not to be had.
    """
    text, _, wanted = str(name).partition(_CHECKSUM)
    sha256 = _checked(wanted) if _CHECKSUM in str(name) else None
    kind, path = _split(text)
    table = TABLES.load(kind)(Request(space, path, sha256, metric))
    if metric is not None and metric not in table.metrics:
        table.spread(metric)  # refuses it
    return table


def _split(text: str) -> tuple[str, str]:
    found = _KIND.fullmatch(text)
    if found is None or (found[1] not in TABLES.table and _is_file(text)):
        return "csv", text
    return found[1], found[2]


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _checked(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UserError.plain(
            "NAS602",
            f"`{text[:70]}` is not a SHA-256",
            help="it is 64 hexadecimal digits; `sha256sum FILE` prints them",
        )
    return text.lower()
