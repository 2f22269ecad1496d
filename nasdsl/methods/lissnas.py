"""LISSNAS: a space shrunk by locality, driven by a supernet that uniform single paths trained."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method
from nasdsl.methods.spos import PAPER

LISSNAS = single_path_method(
    "lissnas",
    title="LISSNAS: search space shrinkage by locality",
    summary="as spos trains; the space is shrunk round the best paths, for any method to search",
    papers=(
        "Gopal et al.: LISSNAS: Locality-based Iterative Search Space Shrinkage. IJCAI 2023.",
        PAPER,
    ),
    authors=(
        "rounds of samples, seeds and their neighbours until the mean plateaus (figure 3, second-hand)",
        "many pockets are kept, not one region (abstract)",
    ),
    reconstructions=(
        "every number: samples, seeds a bin of MACs, radius, threshold, stopping by one standard error",
        "a ridge regression leaves out neighbours that it expects to be worse than the seeds of their bin",
        "the supernet is SPOS's: any of ours can drive it, by search=shrink",
    ),
    defaults={"search": ("shrink", "LISSNAS")},
)
