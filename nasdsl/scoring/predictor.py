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
from nasdsl.scoring.sources import Choices, Source
from nasdsl.space.decisions import Decision
from nasdsl.tabular.reading import file_digest

if TYPE_CHECKING:
    import numpy

    from nasdsl.api import Space

MODELS = ("ridge", "boosting")
MOST_COLUMNS = 20_000
"""Pairs of options become columns of the ridge regression where there are fewer."""
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
        self._features = Features(space.decisions, kind.model == "ridge")
        # Sorted by its key, whatever the order of the file.
        self._trained = from_files(space, [kind.pairs], n=1 << 62, seed=0)
        if len(self._trained) < LEAST_PAIRS:
            raise UserError.plain(
                "NAS601",
                f"{kind.pairs} has {len(self._trained)} architectures, too few to predict others from",
                help=f"a regression needs {LEAST_PAIRS} at least, and gets better with every one",
            )
        self._model: Any = None

    def identity(self) -> Mapping[str, Any]:
        return {"predictor": self._kind.model, "pairs": self._digest}

    def score(self, choices: Choices) -> float:
        if self._model is None:
            self._model = _regression(self._kind.model)
            rows = self._features.rows([t.choices for t in self._trained])
            self._model.fit(rows, [t.worth for t in self._trained])
        return float(self._model.predict(self._features.rows([choices]))[0])


class Features:
    """Architectures as rows of zeros and ones: a column an option, with `pairs` one for two of them, too."""

    def __init__(self, decisions: Sequence[Decision], pairs: bool) -> None:
        self._column = {
            (d.path, o): i for i, (d, o) in enumerate((d, o) for d in decisions for o in d.options)
        }
        wide = len(self._column)
        self.pairs = pairs and wide + wide * (wide - 1) // 2 < MOST_COLUMNS

    def rows(self, architectures: Sequence[Choices]) -> numpy.ndarray[Any, Any]:
        """The rows (N, columns), float64."""
        import numpy

        found = numpy.zeros((len(architectures), len(self._column)))
        for row, choices in zip(found, architectures, strict=True):
            for path, value in choices.items():
                for option in (value,) if isinstance(value, str) else value:
                    row[self._column[path, option]] = 1.0
        if not self.pairs:
            return found
        first, second = numpy.triu_indices(found.shape[1], k=1)
        return numpy.hstack([found, found[:, first] * found[:, second]])


def _regression(model: str) -> Any:
    if model == "ridge":
        import numpy
        from sklearn.linear_model import RidgeCV

        return RidgeCV(alphas=numpy.logspace(-3, 3, 13))  # the penalty by leaving one out
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Small leaves: the default of 20 makes a constant of fewer than 40 architectures.
    return HistGradientBoostingRegressor(min_samples_leaf=3, early_stopping=False, random_state=0)


__all__ = ["LEAST_PAIRS", "MODELS", "Features", "PredictorScores"]
