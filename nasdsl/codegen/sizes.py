"""Sizes that the path of a step settles, by name.

Takes sizes of a graph, returns keys and the tables behind them. Invariant: one table has one key,
named after the first place that asks for it; what depends on no decision has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nasdsl.cases import Cases
from nasdsl.codegen.source import literal
from nasdsl.errors import InternalError
from nasdsl.types import Dim


class Sizes:
    """The tables that a supernet's modules and conditions look up."""

    def __init__(self) -> None:
        self._keys: dict[Cases, str] = {}

    def key(self, table: Cases, hint: str) -> str:
        """The key of a table over decisions."""
        if table not in self._keys:
            taken, name, count = set(self._keys.values()), hint, 1
            while name in taken:
                count += 1
                name = f"{hint} ({count})"
            self._keys[table] = name
        return self._keys[table]

    @property
    def data(self) -> dict[str, tuple[tuple[str, ...], tuple[Any, ...]]]:
        """By key the decisions that a table is over, and its values, the last decision fastest."""
        return {key: (table.decisions, table.table) for table, key in self._keys.items()}


@attrs.frozen
class SizesAt:
    """`Sizes` as an operation of one place sees them (`nasdsl.ops.base.Sizing`)."""

    sizes: Sizes
    hint: str

    def largest(self, dim: Dim) -> int:
        """The largest integer that a size takes."""
        return largest(dim)

    def argument(self, name: str, dim: Dim) -> str:
        """`, name='KEY'`; nothing for a size that is fixed."""
        value = settled(dim)
        if not isinstance(value, Cases):
            return ""
        return f", {name}={literal(self.sizes.key(value, f'{self.hint}.{name}'))}"


def largest(dim: Dim) -> int:
    """The largest integer that a size of a graph of one use takes."""
    value = settled(dim)
    return int(max(value.table)) if isinstance(value, Cases) else value


def settled(dim: Dim) -> int | Cases:
    """A size of a graph of one use: an integer, or a table over decisions."""
    names: Mapping[str, int] = {}
    try:
        return dim.value(names)
    except KeyError as name:
        raise InternalError(f"the size {dim} depends on {name}, which `switch` puts in") from None
