"""The sandwich rule with in-place distillation, for elastic spaces."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method

_CODE = "AttentiveNAS train_attentive_nas.py"

SANDWICH = single_path_method(
    "sandwich",
    title="Sandwich rule and in-place distillation",
    summary="each step trains the largest path, random ones and the smallest; the largest teaches the others",
    papers=(
        "Yu and Huang: Universally Slimmable Networks and Improved Training Techniques. ICCV 2019.",
        "Yu et al.: BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage Models. ECCV 2020.",
    ),
    authors=(
        "largest with labels, the others with its detached outputs alone, gradients summed, one step (code)",
        "four paths a step, label smoothing 0.1 for the largest (code)",
    ),
    reconstructions=(
        "dropout and drop-connect of the largest path are left out; the schedule of the learning rate is SPOS's",
    ),
    defaults={
        "sampler": ("sandwich", _CODE),
        "distillation": ("inplace", _CODE),
        "paths": (4, _CODE),
        "weight_lr": (0.1, _CODE),
        "weight_decay": (1e-5, _CODE),
        "decay_norms": (False, _CODE),
        "nesterov": (True, _CODE),
    },
)
