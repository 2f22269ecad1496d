"""The sandwich rule with in-place distillation, for elastic spaces."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method

_CODE = "AttentiveNAS train_attentive_nas.py"
_CONFIG = "AttentiveNAS configs/train_attentive_nas_models.yml"
_NOT = f"nasdsl, as spos; not {_CONFIG}"

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
        "120 epochs without warm-up; the code of AttentiveNAS trains 360, of them 5 of warm-up, along a cosine",
        "gradients are not clipped; the code clips every entry at 1.0, `clip` would limit their norm",
        "1024 images a step at weight_lr=0.1; the code has 2048, and 0.1 for every 256 of them",
        "random paths are uniform; AttentiveNAS draws by cost and takes the best of three",
    ),
    defaults={
        "sampler": ("sandwich", _CODE),
        "distillation": ("inplace", _CODE),
        "paths": (4, _CODE),
        "epochs": (120, f"{_NOT}: 360"),
        "batch_size": (1024, f"{_NOT}: 2048"),
        "weight_lr": (0.1, _CONFIG),
        "weight_momentum": (0.9, _CONFIG),
        "weight_decay": (1e-5, _CONFIG),
        "decay_norms": (False, _CONFIG),
        "nesterov": (True, _CONFIG),
        "clip": (0.0, f"{_NOT}: every entry at 1.0"),
        "smoothing": (0.1, _CONFIG),
        "calibration_batches": (64, _CONFIG),
    },
)
