"""Tables of results that somebody measured: look-ups instead of training.

Takes a checked space and the name of a table, returns a `Table`. Invariant: nothing of a table is
imported or read before it is asked for; a table that is opened holds architectures of the space only,
each once, and every figure says whether higher or lower is better.
"""

from __future__ import annotations

from nasdsl.tabular.keys import Keys
from nasdsl.tabular.kinds import TABLES, open_table
from nasdsl.tabular.table import Best, Choices, Ranked, Request, Spread, Standing, Table

__all__ = [
    "TABLES",
    "Best",
    "Choices",
    "Keys",
    "Ranked",
    "Request",
    "Spread",
    "Standing",
    "Table",
    "open_table",
]
