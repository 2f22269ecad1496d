"""TopoNAS: explicit topology (2020) with topological simplification (2024)."""

from __future__ import annotations

from nasdsl.methods.gradient import SEARCH_201_DXY, gradient_method

TOPONAS = gradient_method(
    "toponas",
    title="TopoNAS: explicit topology, simplified",
    summary="topology variables beside operation variables, over subsets of inputs; candidates share modules",
    papers=(
        "Explicitly Learning Topology for Differentiable Neural Architecture Search, 2020 (TopoNAS).",
        "TopoNAS: Boosting Search Efficiency of Gradient-based NAS via Topological Simplification, 2024.",
        "Gu et al.: DOTS: Decoupling Operation and Topology in Differentiable Architecture Search. CVPR 2021.",
    ),
    authors=(
        "topology variables with a combinatorial distribution, learned jointly with operations and weights (abstract)",
        "softmax over combinations, marginals as edge weights, derivation by the best combination (DOTS code, ROME-v1)",
        "that a passive-aggressive regularisation suppresses invalid topology (abstract; its formula was not found)",
        "that paths share modules, partly and floating, recursively, with normalised kernels (2024, abstract)",
    ),
    reconstructions=(
        "that TopoNAS uses the same distribution and marginals as DOTS and ROME",
        "the penalty: all three variants, its margin, weight and ramp, and both forms",
        "any subset and k..m subsets; temperature 1; 15 epochs of warm-up",
        "explicit topology on NAS-Bench-201 (`none` lifted into the subset: 11,904 of 15,625 encodings reachable)",
        "all other hyper-parameters: TopoNAS's own are unknown, DARTS's are used",
        "that `none` leaves the softmax: topology variables make it redundant (as ROME does)",
        "topological simplification: its rules in detail, their order and cost, how filters are normalised",
    ),
    differences=(
        "candidates of an edge share modules and blend filters in the search (simplify); the network has its own",
        "the supernet weighs every edge by its marginal; the retrained network takes the chosen ones at weight one",
    ),
    defaults={
        "topology": ("subsets", "TopoNAS 2020, abstract"),
        "warmup_epochs": (15, "reconstruction: TopoNAS gives no value"),
    },
    on_201=SEARCH_201_DXY,
    simplify=True,
)
