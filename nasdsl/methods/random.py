"""Random search over a supernet that uniform single paths trained."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method
from nasdsl.methods.spos import PAPER

RANDOM = single_path_method(
    "random",
    title="Random search over a trained supernet",
    summary="as spos trains; the best of random paths, within the limits",
    papers=(
        "Li and Talwalkar: Random Search and Reproducibility for Neural Architecture Search. UAI 2019.",
        PAPER,
    ),
    authors=("random paths judged with shared weights, the best one taken",),
    defaults={"search": ("random", "Li and Talwalkar, section 3")},
)
