"""What a score is expected to be, from decisions alone: a ridge regression that answers for a million rows.

Takes rows (N, decisions) and scores, returns scores. Invariant: the regression is scikit-learn's, its
penalty found by leaving one out; a prediction is the sum of a number for each value and, where there are
few enough, for each pair of values, so it is looked up, not multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from nasdsl.subspace.codes import Codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

MOST_COLUMNS = 10_000
"""Pairs of values have columns of their own where there are fewer."""


class Columns:
    """Rows of values as columns of zeros and ones: one a value, an input that is chosen being a value of its own."""

    def __init__(self, codes: Codes) -> None:
        import numpy as np

        # For each decision which of its columns each value switches on; the last row: not made, none.
        self.marks: list[NDArray[np.float64]] = []
        for values, inputs in zip(codes.values, codes.members, strict=True):
            marks = np.eye(len(values)) if inputs is None else inputs.astype(np.float64)
            self.marks.append(np.vstack([marks, np.zeros(marks.shape[1])]))
        widths = [m.shape[1] for m in self.marks]
        pairs = list(combinations(range(len(widths)), 2))
        wide = sum(widths[i] * widths[j] for i, j in pairs)
        self.pairs = pairs if wide + sum(widths) <= MOST_COLUMNS else []

    def of(self, rows: Rows, pairs: bool = True) -> NDArray[np.float64]:
        """The columns (N, ...), with those of pairs behind them where there are some."""
        import numpy as np

        parts = [marks[rows[:, column]] for column, marks in enumerate(self.marks)]
        both = [
            (parts[i][:, :, None] * parts[j][:, None, :]).reshape(len(rows), -1)
            for i, j in (self.pairs if pairs else ())
        ]
        return np.hstack([*parts, *both])


class Regression:
    """Ridge regression on values and pairs of values."""

    def __init__(self, codes: Codes) -> None:
        self._columns = Columns(codes)
        self._single: list[NDArray[np.float64]] = []
        self._double: list[NDArray[np.float64]] = []
        self._constant = 0.0

    def fit(self, rows: Rows, scores: Sequence[float]) -> None:
        """Fits (N, decisions) to (N,)."""
        import numpy as np
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(self._columns.of(rows), np.asarray(scores))
        weights = np.asarray(model.coef_, np.float64)
        self._constant = float(model.intercept_)
        self._single, self._double, at = [], [], 0
        for marks in self._columns.marks:
            self._single.append(marks @ weights[at : at + marks.shape[1]])
            at += marks.shape[1]
        for i, j in self._columns.pairs:
            left, right = self._columns.marks[i], self._columns.marks[j]
            block = weights[at : at + left.shape[1] * right.shape[1]].reshape(left.shape[1], right.shape[1])
            self._double.append(left @ block @ right.T)
            at += block.size

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """The expected scores (N,). Only after `fit`."""
        import numpy as np

        found = np.full(len(rows), self._constant)
        for column, table in enumerate(self._single):
            found += table[rows[:, column]]
        for (i, j), block in zip(self._columns.pairs, self._double, strict=True):
            found += block[rows[:, i], rows[:, j]]
        return found


__all__ = ["Columns", "Regression"]
