"""SPOS: single paths drawn uniformly, then evolution."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method

PAPER = "Guo et al.: Single Path One-Shot Neural Architecture Search with Uniform Sampling. ECCV 2020."

SPOS = single_path_method(
    "spos",
    title="SPOS: single path, one shot, uniform sampling",
    summary="each step trains one random path; evolution over the trained supernet, within the limits",
    papers=(PAPER,),
    authors=(
        "one path a step, weights of the others untouched (section 3.3)",
        "evolution under a limit: 50 paths a generation, half mutants, half children of the best ten (code)",
        "batch norm recalibrated for every path (section 3.4)",
    ),
    reconstructions=(
        "sampler=uniform as the paper has it; the released code draws from bins of FLOPs first",
    ),
)
