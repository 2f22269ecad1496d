"""DrNAS: weights of operations drawn from a Dirichlet distribution."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DRNAS, gradient_method

_CODE = "xiangning-chen/DrNAS"

DRNAS = gradient_method(
    "drnas",
    title="DrNAS",
    summary="weights of operations drawn from a Dirichlet distribution, differentiated along their path",
    papers=("Chen et al.: DrNAS: Dirichlet Neural Architecture Search. ICLR 2021, arXiv 2006.10355.",),
    authors=(
        "weights drawn from Dir(elu + 1), pathwise gradients (section 3.1)",
        "the decay of the variables as distance to Dir(1) (code), or the divergence itself (dirichlet_kl)",
        "no `none` among the candidates of its own; on NAS-Bench-201 all five operations, 100 epochs",
    ),
    reconstructions=(
        (
            "one stage with all channels (K=1), as in its runs of 94.36 on NAS-Bench-201; the progressive schedule, "
            "which widens the supernet and drops operations between stages, is not there"
        ),
        "evaluation of the supernet takes the mean of the distribution, not a draw",
    ),
    defaults={
        "activation": ("dirichlet", "DrNAS, section 3.1"),
        "none": ("false", _CODE),
        "pool_norm": (False, _CODE),
        "weight_lr": (0.1, _CODE),
        "weight_lr_min": (0.0, _CODE),
        "arch_lr": (6e-4, _CODE),
        "warmup_epochs": (10, _CODE),
    },
    on_201={
        **SEARCH_201_DRNAS,
        "weight_lr": 0.025,
        "weight_lr_min": 0.001,
        "arch_lr": 3e-4,
        "warmup_epochs": 0,
    },
)
