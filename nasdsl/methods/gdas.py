"""GDAS: one operation an edge, drawn with Gumbel noise."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DXY, gradient_method

_CODE = "D-X-Y/AutoDL-Projects"

GDAS = gradient_method(
    "gdas",
    title="GDAS",
    summary="one operation an edge is drawn and computed, its gradient that of the soft draw",
    papers=(
        "Dong, Yang: Searching for a Robust Neural Architecture in Four GPU Hours. CVPR 2019, arXiv 1910.04465.",
    ),
    authors=(
        "hard one-hot weights with straight-through gradients, one draw for all cells of a pass (section 3.2)",
        "on NAS-Bench-201 operations that do not run add their bare weight, so it gets a gradient (code; bare_weights)",
        "temperature 10 to 0.1, linear; weights before variables; 250 epochs (code)",
    ),
    reconstructions=(
        (
            "the derivation where a cell chooses k inputs: DARTS's rule. The code takes the two best pairs of edge and "
            "operation, which may share an edge: no architecture of such a space"
        ),
        "evaluation of the supernet takes the most probable operation, not a draw",
    ),
    differences=(
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
    ),
    defaults={
        "activation": ("gumbel", "GDAS, section 3.2"),
        "noise_temperature": (10.0, _CODE),
        "noise_temperature_end": (0.1, _CODE),
        "epochs": (250, _CODE),
        "batch_size": (256, _CODE),
        "nesterov": (True, _CODE),
        "weight_decay": (5e-4, _CODE),
        "order": ("weights-first", _CODE),
    },
    on_201={**SEARCH_201_DXY, "batch_size": 64, "bare_weights": True},
)
