"""beta-DARTS: DARTS with a decay of the activated variables."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DRNAS, gradient_method

BETA = gradient_method(
    "beta",
    title="beta-DARTS",
    summary="first-order DARTS, the loss of the variables with beta-decay, whose weight grows",
    papers=(
        (
            "Ye et al.: beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search. "
            "CVPR 2022, arXiv 2203.01665."
        ),
    ),
    authors=(
        "the mean of logsumexp over edges, its weight growing by 0.5 an epoch (Sunshine-Ye/Beta-DARTS, NAS-Bench-201)",
        "everything else is first-order DARTS",
    ),
    reconstructions=(
        (
            "several matrices (DARTS's normal and reduction cells): the mean of their means, at the same slope; "
            "the released script for that space does not run"
        ),
        "with explicit topology it is of operation variables only",
    ),
    differences=(
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
    ),
    defaults={"beta_decay": (0.5, "Sunshine-Ye/Beta-DARTS, nasbench201/train_search.py")},
    on_201=SEARCH_201_DRNAS,
)
