"""Regularised evolution over a supernet that uniform single paths trained."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method
from nasdsl.methods.spos import PAPER

EVOLUTION = single_path_method(
    "evolution",
    title="Regularised evolution over a trained supernet",
    summary="as spos trains; the youngest paths compete for offspring, within the limits",
    papers=(
        "Real et al.: Regularized Evolution for Image Classifier Architecture Search. AAAI 2019.",
        PAPER,
    ),
    authors=("the oldest path dies, a random few compete for the one child (algorithm 1)",),
    reconstructions=("paths are judged by inherited weights, not trained: the supernet is SPOS's",),
    defaults={
        "search": ("aging", "Real et al., algorithm 1"),
        "parents": (10, "nasdsl; the paper's S is 25 of 100"),
    },
)
