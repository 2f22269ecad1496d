"""DARTS, first and second order."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DXY, gradient_method

DARTS = gradient_method(
    "darts",
    title="DARTS",
    summary="softmax over operations, alternating steps of weights and variables, first or second order",
    papers=("Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search. ICLR 2019, arXiv 1806.09055.",),
    authors=(
        "the relaxation, the alternation, the derivation and all defaults (paper and quark0/darts)",
        "second order by finite differences (hypergradient=finite), with the momentum and decay of its inner step",
        "on a space in NAS-Bench-201's notation the protocol of D-X-Y/AutoDL-Projects: no batch norm after pooling",
        "there too: Nesterov, weight decay 5e-4, weights before variables, `none` kept in the derivation",
    ),
    reconstructions=(
        "exact second order (hypergradient=exact): the same gradient without its approximation",
    ),
    differences=(
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
    ),
    on_201=SEARCH_201_DXY,
)
