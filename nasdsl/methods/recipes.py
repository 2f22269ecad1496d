"""How the network that was found is trained: named sets of settings.

Takes nothing, returns settings and their values by recipe. Invariant: a recipe names settings of the
table `retrain` only, since search.py reads that of the data too.
"""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.methods.base import Scalar, Setting

_PAPER = "Cream, section 4"
_CODE = "released Cream code"
_TIMM = "timm, optim/rmsprop_tf.py"

RECIPE = (
    Setting(
        "recipe",
        "retrain",
        "sgd-cosine",
        "a named set of values for retraining; what is given beside it wins",
        "nasdsl",
        choices=("sgd-cosine", "cream"),
    ),
    Setting(
        "optimizer",
        "retrain",
        "sgd",
        "SGD, or timm's RMSprop as TensorFlow computes it",
        "quark0/darts train.py",
        choices=("sgd", "rmsprop-tf"),
    ),
    Setting(
        "optimizer_alpha",
        "retrain",
        0.9,
        "what rmsprop-tf keeps of the mean square",
        _TIMM,
        low=0,
        high=0.9999,
    ),
    Setting("optimizer_eps", "retrain", 1e-3, "epsilon of rmsprop-tf, inside the square root", _CODE, low=0),
    Setting(
        "retrain_decay_norms",
        "retrain",
        True,
        "whether biases and batch norm decay too",
        "quark0/darts train.py",
    ),
    Setting(
        "lr_schedule",
        "retrain",
        "cosine",
        "cosine to `lr_min`, or a step down every `lr_step_epochs`",
        "quark0/darts train.py",
        choices=("cosine", "step"),
    ),
    Setting(
        "lr_step_epochs",
        "retrain",
        2.4,
        "epochs from one step of lr_schedule=step to the next",
        _PAPER,
        "epochs",
        low=0.01,
    ),
    Setting("lr_step_factor", "retrain", 0.973, "what such a step leaves of the rate", _PAPER, low=0, high=1),
    Setting(
        "lr_warmup_epochs",
        "retrain",
        0,
        "epochs in which the rate rises linearly, half of all at most",
        "quark0/darts train.py: none",
        "epochs",
        low=0,
    ),
    Setting("lr_warmup_start", "retrain", 1e-6, "learning rate that the rise begins at", _CODE, low=0),
    Setting(
        "ema_decay",
        "retrain",
        0.0,
        "what a step keeps of the averaged weights; 0 for no average",
        "quark0/darts train.py: none",
        low=0,
        high=0.999999,
    ),
    Setting(
        "dropout",
        "retrain",
        0.0,
        "dropout before the classifier",
        "quark0/darts train.py: none",
        low=0,
        high=0.99,
    ),
)

RECIPES: Mapping[str, Mapping[str, Scalar]] = {
    "sgd-cosine": {},  # what the method and the space's notation say
    "cream": {
        "retrain_epochs": 500,
        "retrain_batch_size": 1024,  # 8 GPUs with 128 each
        "lr": 0.064,
        "momentum": 0.9,
        "retrain_weight_decay": 1e-5,
        "retrain_nesterov": False,
        "retrain_clip": 0.0,
        "cutout": 0,
        "drop_path": 0.0,
        "auxiliary": "off",
        "label_smoothing": 0.1,
        "randaugment": "rand-m9-mstd0.5",
        "erasing": 0.2,
        "optimizer": "rmsprop-tf",
        "optimizer_alpha": 0.9,
        "optimizer_eps": 1e-3,
        "retrain_decay_norms": False,
        "lr_schedule": "step",  # of the networks below 114 million MACs; cosine from there on
        "lr_step_epochs": 2.4,
        "lr_step_factor": 0.973,
        "lr_warmup_epochs": 3,
        "lr_warmup_start": 1e-6,
        "ema_decay": 0.9999,
        "dropout": 0.2,
    },
}
"""Values by recipe and setting."""


__all__ = ["RECIPE", "RECIPES"]
