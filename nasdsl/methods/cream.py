"""Cream: prioritised paths teach each other while the supernet is trained."""

from __future__ import annotations

from nasdsl.methods.single_path import single_path_method

_CODE = "released Cream code"

CREAM = single_path_method(
    "cream",
    title="Cream: prioritised path distillation",
    summary="the best paths so far, on a board, teach each step's path; a meta-network weighs the lesson",
    papers=("Peng et al.: Cream of the Crop: Distilling Prioritized Paths For One-Shot NAS. NeurIPS 2020.",),
    authors=(
        "board: ten paths, taken when 5 points ahead of the worst, or ahead and cheaper (section 3.2, code)",
        "teacher: the path whose difference on its own images the meta-network scores highest (equation 5)",
        "loss: half of rho CE(teacher) + (2 - rho) CE(labels), rho the sigmoid of that score (code)",
        "meta-network updated through a step of the weights (equation 6), every 200 steps (code)",
        "the most promising path of the board is the result, no evolution (abstract)",
    ),
    reconstructions=(
        "rho is that of the teacher; the released code takes the last entry's score, negated (preset legacy)",
        "the board keeps the path's own softmax; rho is detached from the loss; the inner step is undone",
        "teacher and board images are computed with batch statistics and move none",
        "the meta-network descends plainly at a constant rate; the released code steps it with the weights' momentum",
        "a path stands on the board once; ties go to the cheaper, then the earlier",
        "the result: all paths of the board judged on held-out data after recalibration, the best within the limits",
        "sampling is uniform: the released code ignores its prior by mistake",
    ),
    defaults={
        "distillation": ("board", "Cream, section 3.2"),
        "search": ("board", "Cream, abstract"),
        "epochs": (120, f"{_CODE}, train.yaml"),
        "batch_size": (1024, f"{_CODE}, train.yaml: 128 on each of 8 devices"),
        "weight_lr": (1.0, _CODE),
        "weight_momentum": (0.9, f"{_CODE}, lib/config.py"),
        "clip": (0.0, f"{_CODE}: none"),
        "smoothing": (0.1, f"{_CODE}, lib/config.py"),
        "weight_decay": (1e-4, _CODE),
        "decay_norms": (False, _CODE),
        "nesterov": (True, _CODE),
    },
    variants={"paper": {}, "legacy": {"legacy": True, "meta": "first"}},
)
