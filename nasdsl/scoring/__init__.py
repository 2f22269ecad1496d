"""Scores of architectures, wherever they come from.

Takes a recipe (a table, a trained supernet, a proxy, a predictor, a command) and architectures, returns
numbers of which higher is better. Invariant: no network is evaluated twice; torch and scikit-learn are
imported when a score needs them.
"""

from __future__ import annotations

from nasdsl.scoring.command import CommandScores
from nasdsl.scoring.pool import Pool
from nasdsl.scoring.predictor import PredictorScores
from nasdsl.scoring.proxy import ProxyScores
from nasdsl.scoring.sources import CostScores, Kind, Recipe, RunScores, Source, TableScores

__all__ = [
    "CommandScores",
    "CostScores",
    "Kind",
    "Pool",
    "PredictorScores",
    "ProxyScores",
    "Recipe",
    "RunScores",
    "Source",
    "TableScores",
]
