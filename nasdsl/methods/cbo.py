"""CBO: constrained bilevel optimisation of DARTS (the paper's first version, and DARTS-PRIME)."""

from __future__ import annotations

from nasdsl.methods.gradient import gradient_method

CBO = gradient_method(
    "cbo",
    title="Constrained bilevel DARTS",
    summary="clipped activation with pruning, an informed schedule, proximity and ADMM regularisers",
    papers=(
        (
            "Maile, Lecarpentier, Luga, Wilson: On Constrained Optimization in Differentiable Neural Architecture "
            "Search. 2021, arXiv 2106.11655 (v1; later versions: DARTS-PRIME)."
        ),
    ),
    authors=(
        "the clipped activation, a batch norm for each node, permanent pruning (code: crb)",
        "the dynamic schedule by the trace of the empirical Fisher matrix and its threshold (code: dyno_schedule)",
        "proximity and ADMM regularisers, their norms, period and dual variables (code)",
        "preset prime: proximity at 0.1, ten weight steps, the data split accordingly (README of DARTS-PRIME)",
    ),
    reconstructions=(
        (
            "presets v1 and v1-proximity: the parts of the first version's abstract at the defaults of its code; which "
            "combination its tables report is not known"
        ),
        "that only operations that are left are projected onto (projection=live); legacy is the code's",
        "on NAS-Bench-201: four clipped operations, `none` where the largest weight is half or less",
        "a step of the variables is taken at once when it is due; the first iteration never takes one",
    ),
    differences=("nodes have a batch norm without scale and shift in the search (node_norm)",),
    variants={
        "v1": {
            "activation": "clipped",
            "schedule": "informed",
            "admm": True,
            "admm_weight": 1e-3,
            "fisher_smoothing": 1.0,
        },
        "v1-proximity": {
            "activation": "clipped",
            "schedule": "informed",
            "proximity": "plain",
            "proximity_weight": 1e-3,
            "fisher_smoothing": 1.0,
        },
        "prime": {
            "activation": "softmax",
            "schedule": "informed",
            "proximity": "plain",
            "proximity_weight": 0.1,
            "fisher_smoothing": 0.2,
            "weight_steps": 10.0,
            "informed_split": True,
        },
    },
    variant="v1",
)
