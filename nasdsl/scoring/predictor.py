"""Scores of a regression that was fitted on architectures with known figures.

Takes a file of pairs, returns a source. Invariant: the same pairs give the same regression; what it is
fitted on are decisions alone, so that it knows nothing of costs. The regressions are scikit-learn's.

A reconstruction: papers on predictors use networks of their own; these are the two that small samples
need (Siems et al. 2020 and White et al. 2021 have both as baselines).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.ranking.trained import from_files
from nasdsl.scoring.regression import Columns, Regression
from nasdsl.scoring.sources import Choices, Source
from nasdsl.subspace.codes import Codes
from nasdsl.tabular.reading import file_digest

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.subspace.codes import Rows

MODELS = ("ridge", "boosting")
LEAST_PAIRS = 5


@attrs.frozen
class PredictorScores:
    """A regression of accuracies.

    Attributes:
        pairs: a file of lines {"architecture": ..., "accuracy": ...}.
        model: `ridge`, on options and pairs of options, or `boosting`, trees on options.
    """

    pairs: str
    model: str = "ridge"

    def prepared(self, space: Space) -> PredictorScores:
        return self

    def open(self, space: Space) -> Source:
        """Raises UserError (NAS005, NAS401, NAS601)."""
        return _Fitted(self, space)


class _Fitted:
    looked_up = True

    def __init__(self, kind: PredictorScores, space: Space) -> None:
        from nasdsl.errors import UserError

        self._kind = kind
        self.name = f"{kind.model} on {kind.pairs}"
        self._digest = file_digest(kind.pairs)
        self._codes = Codes(space.checked.table)
        # Sorted by its key, whatever the order of the file.
        self._trained = from_files(space, [kind.pairs], n=1 << 62, seed=0)
        if len(self._trained) < LEAST_PAIRS:
            raise UserError.plain(
                "NAS601",
                f"{kind.pairs} has {len(self._trained)} architectures, too few to predict others from",
                help=f"a regression needs {LEAST_PAIRS} at least, and gets better with every one",
            )
        self._model: Regression | _Boosting | None = None

    def identity(self) -> Mapping[str, Any]:
        return {"predictor": self._kind.model, "pairs": self._digest}

    def score(self, choices: Choices) -> float:
        if self._model is None:
            self._model = (Regression if self._kind.model == "ridge" else _Boosting)(self._codes)
            rows = self._codes.rows([t.choices for t in self._trained])
            self._model.fit(rows, [t.worth for t in self._trained])
        return float(self._model.predict(self._codes.row(choices)[None])[0])


class _Boosting:
    """Trees on values; small leaves, because the default of 20 makes a constant of fewer than 40 architectures."""

    def __init__(self, codes: Codes) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self._columns = Columns(codes)
        self._trees = HistGradientBoostingRegressor(min_samples_leaf=3, early_stopping=False, random_state=0)

    def fit(self, rows: Rows, scores: Sequence[float]) -> None:
        self._trees.fit(self._columns.of(rows, pairs=False), scores)

    def predict(self, rows: Rows) -> Any:
        return self._trees.predict(self._columns.of(rows, pairs=False))


__all__ = ["LEAST_PAIRS", "MODELS", "PredictorScores"]
