"""FairNAS: every value of every decision once a step."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method

FAIRNAS = single_path_method(
    "fairnas",
    title="FairNAS: strict fairness",
    summary="each step trains every value of every decision once, gradients summed; evolution afterwards",
    papers=("Chu et al.: FairNAS: Rethinking Evaluation Fairness of Weight Sharing NAS. ICCV 2021.",),
    authors=(
        "random permutations of the operations of every layer, one step on the sum of the paths' gradients",
    ),
    reconstructions=(
        "decisions with different numbers of values: the least common multiple of them as paths a step",
        "hyper-parameters: those of SPOS; the search: that of SPOS, the paper uses NSGA-II (search=nsga2)",
    ),
    defaults={"sampler": ("fair", "FairNAS, section 3.2")},
)
