"""PC-DARTS: partial channel connections and weights of edges."""

from __future__ import annotations

from nasdsl.methods.gradient import gradient_method

_CODE = "yuhuixu1993/PC-DARTS"

PCDARTS = gradient_method(
    "pcdarts",
    title="PC-DARTS",
    summary="candidates see a part of the channels; a softmax over a node's edges weighs them",
    papers=(
        (
            "Xu et al.: PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search. "
            "ICLR 2020, arXiv 1907.05737."
        ),
    ),
    authors=(
        "the first C/K channels go through the candidates, the rest round them, a shuffle behind (section 3.2)",
        "edge weights over all channels of an edge; inputs ranked by the product of both softmaxes (section 3.3)",
        "batch 256, learning rate 0.1 to 0, variables 6e-4 from epoch 15 on (train_search.py)",
    ),
    reconstructions=(
        "the search on NAS-Bench-201: DrNAS's protocol with K=4, after 15 epochs of warm-up; one matrix, no ranking",
    ),
    differences=(
        "candidates have 1/K of the channels in the search, all in the network",
        "the supernet weighs edges by a softmax; the retrained network takes the chosen ones at weight one",
        "an edge that derivation may leave out has one more entry in its softmax that computes nothing (none)",
    ),
    defaults={
        "topology": ("softmax", _CODE),
        "partial_channels": (4, _CODE),
        "warmup_epochs": (15, _CODE),
        "batch_size": (256, _CODE),
        "weight_lr": (0.1, _CODE),
        "weight_lr_min": (0.0, _CODE),
        "arch_lr": (6e-4, _CODE),
    },
    on_201={
        "epochs": 100,
        "batch_size": 64,
        "weight_lr": 0.025,
        "weight_lr_min": 0.001,
        "arch_lr": 3e-4,
    },
)
