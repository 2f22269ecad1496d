"""SNAS: soft draws of operations, weights and variables trained together."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DRNAS, gradient_method

_CODE = "SNAS-Series"

SNAS = gradient_method(
    "snas",
    title="SNAS",
    summary="weights of operations drawn from a concrete distribution, one loss for weights and variables",
    papers=("Xie et al.: SNAS: Stochastic Neural Architecture Search. ICLR 2019, arXiv 1812.09926.",),
    authors=(
        "the concrete relaxation (section 2.2) and single-level training (section 2.3)",
        "150 epochs, temperature 1 to 0.03, variables from N(1, 0.01) (code)",
    ),
    reconstructions=(
        "the penalty on resources (section 2.4, resource_weight) is off, and of multiply-accumulates alone",
        "the derivation where a cell chooses k inputs: DARTS's rule; SNAS keeps all edges, `none` among them",
        "Adam for the variables, as in its distributed code; its other code uses SGD",
    ),
    differences=(
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
    ),
    defaults={
        "activation": ("concrete", "SNAS, section 2.2"),
        "level": ("single", "SNAS, section 2.3"),
        "epochs": (150, _CODE),
        "noise_temperature": (1.0, _CODE),
        "noise_temperature_end": (0.03, _CODE),
    },
    on_201=SEARCH_201_DRNAS,
)
