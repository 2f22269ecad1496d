"""Which latency table a space is looked up in.

Takes a checked space and what the user named, returns a table that covers the space. Invariant: an
operation that the table does not know is refused, never counted as nothing.
"""

from __future__ import annotations

from pathlib import Path

from nasdsl.cases import TooManyCasesError
from nasdsl.errors import UserError
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.latency import LatencyTable, read_table
from nasdsl.space.presence import NotAdditiveError
from nasdsl.space.units import Unit, Units


def table_for(space: CheckedSpace, table: str | Path | LatencyTable | None) -> LatencyTable:
    """The table, read and found to cover the space.

    Args:
        table: the table or its path; None for that of the space's limits, if they name just one.

    Raises:
        UserError: NAS605 where there is none, NAS606 where it lacks an entry.
    """
    if table is None:
        named = {limit.table.path: limit.table for limit in space.limits if limit.table is not None}
        if len(named) != 1:
            why = "its limits name none" if not named else f"its limits name {len(named)}"
            raise UserError.plain(
                "NAS605",
                f"no latency table for space `{space.name}`: {why}",
                help="measure one with `nasdsl latency` and name it: latency_table=FILE in a search, "
                "`limit latency(FILE) <= 5ms` in the space",
            )
        return next(iter(named.values()))
    found = table if isinstance(table, LatencyTable) else read_table(table)
    lacks = [key for key in needed_units(space) if key not in found.entries]
    if lacks:
        more = f" and {len(lacks) - 1:,} more" if len(lacks) > 1 else ""
        raise UserError.plain(
            "NAS606",
            f"{found.path} has no entry for `{lacks[0]}`{more}",
            help=f"`nasdsl latency FILE -o {found.path}` on {found.machine} adds what is missing; "
            "give it the parameters of this space",
        )
    return found


def needed_units(space: CheckedSpace) -> dict[str, Unit]:
    """Every unit that an architecture of a space can have. Raises UserError (NAS310) where they cannot be listed."""
    try:
        return Units(space.module, space.table).all()
    except (KeyError, NotAdditiveError, TooManyCasesError) as reason:
        raise UserError.plain(
            "NAS310", f"the operations of space `{space.name}` cannot be listed with their sizes: {reason}"
        ) from None
