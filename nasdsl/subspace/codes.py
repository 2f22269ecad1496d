"""Encodings as rows of small integers, so that a million of them are looked at together.

Takes a decision table, returns rows (N, decisions) of int16: the index of the value in `Decision.values`, -1
where the decision is not made. Invariant: `choices(row(c)) == c`; rows that `unique` returns are sorted as
their numbers are, so equal sets are equal arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.space.decisions import DecisionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int16]

ABSENT = -1
MOST_VALUES = 2**15 - 1


class Codes:
    """The rows of a table."""

    def __init__(self, table: DecisionTable) -> None:
        self.table = table
        self.values = tuple(d.values for d in table.decisions)
        self.index = tuple({v: i for i, v in enumerate(values)} for values in self.values)
        for decision, values in zip(table.decisions, self.values, strict=True):
            if len(values) > MOST_VALUES:
                raise UserError.plain(
                    "NAS310",
                    f"decision `{decision.path}` has {len(values):,} values: too many for a sub-space",
                    help=f"{MOST_VALUES:,} can be told apart; choose fewer inputs at once",
                )

    def row(self, choices: Mapping[str, Choice]) -> Rows:
        """One encoding (decisions,). Raises KeyError for a value that a decision does not have."""
        row: Rows = self.rows([choices])[0]
        return row

    def rows(self, many: Sequence[Mapping[str, Choice]]) -> Rows:
        """Encodings (N, decisions), in the order given. Raises KeyError as `row`."""
        import numpy as np

        found = np.full((len(many), len(self.values)), ABSENT, np.int16)
        for column, (decision, index) in enumerate(zip(self.table.decisions, self.index, strict=True)):
            path = decision.path
            found[:, column] = [index[c[path]] if path in c else ABSENT for c in many]
        return found

    def choices(self, row: Rows) -> dict[str, Choice]:
        """What a row stands for."""
        return {
            decision.path: values[code]
            for decision, values, code in zip(self.table.decisions, self.values, row.tolist(), strict=True)
            if code != ABSENT
        }

    def unique(self, rows: Rows) -> Rows:
        """Every row once, sorted."""
        import numpy as np

        if len(rows) == 0 or rows.shape[1] == 0:
            return rows[:1]
        return rows[np.unique(_keys(rows), return_index=True)[1]]

    def contained(self, rows: Rows, in_rows: Rows) -> NDArray[np.bool_]:
        """Which of `rows` (N, decisions) are among `in_rows`, which are sorted as `unique` does: (N,)."""
        import numpy as np

        if len(in_rows) == 0 or rows.shape[1] == 0:
            return np.full(len(rows), len(in_rows) > 0)
        keys, known = _keys(rows), _keys(in_rows)
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.asarray(known[at] == keys, np.bool_)

    @cached_property
    def members(self) -> tuple[NDArray[np.int16] | None, ...]:
        """For each choice of inputs which inputs each value holds, (values, inputs) of 0 and 1; else None."""
        import numpy as np

        found: list[NDArray[np.int16] | None] = []
        for decision, values in zip(self.table.decisions, self.values, strict=True):
            if decision.kind != "inputs":
                found.append(None)
                continue
            found.append(np.array([[o in v for o in decision.options] for v in values], np.int16))
        return tuple(found)

    def edits(self, rows: Rows, centre: Rows) -> NDArray[np.int64]:
        """`Population.edits` between each of `rows` (N, decisions) and one row: (N,)."""
        import numpy as np

        made = (rows != ABSENT) & (centre != ABSENT)
        differ = made & (rows != centre)
        total = np.zeros(len(rows), np.int64)
        for column, inputs in enumerate(self.members):
            if inputs is None:
                total += differ[:, column]
            elif centre[column] != ABSENT:
                theirs, mine = inputs[rows[:, column]], inputs[centre[column]]
                larger = np.maximum(theirs.sum(1), mine.sum())
                total += np.where(differ[:, column], larger - theirs @ mine, 0)
        return total

    def complete(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of `rows` make exactly the decisions that are active: (N,)."""
        import numpy as np

        good = np.ones(len(rows), np.bool_)
        column = {d.path: i for i, d in enumerate(self.table.decisions)}
        for place, decision in enumerate(self.table.decisions):
            made = rows[:, place] != ABSENT
            active = np.full(len(rows), decision.when is None)
            for guard in decision.when or ():
                happened = np.ones(len(rows), np.bool_)
                for event in guard:
                    happened &= self._happened(rows, column[event.decision], event.option)
                active |= happened
            good &= made == active
        return good

    def _happened(self, rows: Rows, column: int, option: str) -> NDArray[np.bool_]:
        import numpy as np

        inputs = self.table.decisions[column].kind == "inputs"
        takes = np.array([option in v if inputs else option == v for v in self.values[column]] + [False])
        return np.asarray(takes[rows[:, column]], np.bool_)  # -1 reads the last, which is False


def _keys(rows: Rows) -> NDArray[np.void]:
    """Rows as single values that sort as rows of numbers do."""
    import numpy as np

    shifted = np.ascontiguousarray(rows + 1, np.dtype(">u2"))
    return shifted.view(np.dtype((np.void, 2 * rows.shape[1]))).ravel()
