"""What a recipe of training is made of: optimisers, rates, averaged weights, dropout."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nasdsl.runtime.standalone.basics import Mistake, Rule, WrongUse, cosine, ensure_torchvision

RECIPE_RULES = {
    "recipe": Rule(str, words=("sgd-cosine", "cream")),
    "optimizer": Rule(str, words=("sgd", "rmsprop-tf")),
    "optimizer_alpha": Rule(float, 0, 0.9999),
    "optimizer_eps": Rule(float, 0),
    "decay_norms": Rule(bool),
    "lr_schedule": Rule(str, words=("cosine", "step")),
    "lr_step_epochs": Rule(float, 0.01),
    "lr_step_factor": Rule(float, 0, 1),
    "lr_warmup_epochs": Rule(int, 0),
    "lr_warmup_start": Rule(float, 0),
    "ema_decay": Rule(float, 0, 0.999999),
    "dropout": Rule(float, 0, 0.99),
}
"""What of the table [retrain] this file reads."""

_RMSPROP, _COSINE, _STEP = ("optimizer", "rmsprop-tf"), ("lr_schedule", "cosine"), ("lr_schedule", "step")

NEEDS: dict[str, tuple[str, Any]] = {
    "optimizer_alpha": _RMSPROP,
    "optimizer_eps": _RMSPROP,
    "lr_min": _COSINE,
    "lr_step_epochs": _STEP,
    "lr_step_factor": _STEP,
    "lr_warmup_start": ("lr_warmup_epochs", "above 0"),
    "pad": ("augment", True),
    "cutout": ("augment", True),
}
"""Settings that do nothing unless another one has a value."""


def refuse_idle(given: list[str], settings: dict[str, Any], loader: str) -> None:
    """Refuses what the command line sets and nothing reads: a run would look as if it had been changed.

    Args:
        given: the texts of `--set`.
        loader: how the data came, `memory` or `stream`.

    Raises:
        WrongUse: naming the setting and what it needs.
    """
    for name in (text.partition("=")[0] for text in given):
        if name == "pad" and settings["pad"] and loader == "stream":
            raise WrongUse("--set pad has no effect: streamed images are cut by random windows, not padded")
        other, wanted = NEEDS.get(name, ("", None))
        if not other or settings[name] == 0:
            continue
        if settings[other] == 0 if wanted == "above 0" else settings[other] != wanted:
            cure = f"{other}={str(wanted).lower()}" if wanted != "above 0" else f"{other} above 0"
            raise WrongUse(f"--set {name} has no effect without {cure}")


def make_sgd(parameters: Any, lr: float, momentum: float, decay: float, nesterov: bool) -> torch.optim.SGD:
    """SGD as the settings say. Raises Mistake for Nesterov momentum without momentum."""
    if nesterov and momentum <= 0:
        raise Mistake("nesterov=true needs a momentum above 0")
    return torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=decay, nesterov=nesterov)


def decay_groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights that decay, and those that do not: biases and what batch norm scales and shifts by."""
    parameters = list(net.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def make_optimizer(net: nn.Module, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of retraining.

    `rmsprop-tf` is timm's: epsilon inside the square root, squares that begin at one, the rate inside the
    momentum. torch.optim.RMSprop is another optimiser and never stands in for it.

    Raises:
        Mistake: settings that do not go together, or timm is not installed.
    """
    lr, momentum, decay = settings["lr"], settings["momentum"], settings["weight_decay"]
    parameters = net.parameters() if settings["decay_norms"] else decay_groups(net, decay)
    if settings["optimizer"] == "sgd":
        return make_sgd(parameters, lr, momentum, decay, settings["nesterov"])
    if settings["nesterov"]:
        raise Mistake("optimizer=rmsprop-tf has no Nesterov momentum: set nesterov=false")
    if importlib.util.find_spec("timm") is None:
        raise Mistake("optimizer=rmsprop-tf is timm's: pip install timm")
    ensure_torchvision()
    made: torch.optim.Optimizer = importlib.import_module("timm.optim").RMSpropTF(
        parameters,
        lr,
        alpha=settings["optimizer_alpha"],
        eps=settings["optimizer_eps"],
        momentum=momentum,
        weight_decay=decay,
    )
    return made


def learning_rate(settings: dict[str, Any], epoch: int) -> float:
    """The rate of an epoch, counted from 0: the warm-up (half of all epochs at most), then the schedule.

    The schedule counts from epoch 0 too, as timm's do with `warmup_prefix=False`: the warm-up covers its
    beginning.
    """
    lr: float = settings["lr"]
    epochs: int = settings["epochs"]
    warm: int = min(settings["lr_warmup_epochs"], epochs // 2)
    if epoch < warm:
        start: float = settings["lr_warmup_start"]
        return start + (lr - start) * (epoch / warm)
    if settings["lr_schedule"] == "step":
        return lr * float(settings["lr_step_factor"] ** (epoch // settings["lr_step_epochs"]))
    return cosine(lr, settings["lr_min"], epoch / epochs)


def average_of(net: nn.Module, decay: float) -> AveragedModel | None:
    """The running average of a network's weights and statistics; None for a decay of 0.

    The first update copies, each later one keeps `decay` of the average.
    """
    if decay <= 0:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(net, multi_avg_fn=update, use_buffers=True)


def add_dropout(net: nn.Module, classes: int, rate: float) -> None:
    """Drops parts of what the classifier reads, in training only; the network's text stays as it is.

    The classifier is the last linear layer or 1x1 convolution that has as many outputs as there are
    classes, outside the auxiliary head.

    Raises:
        Mistake: there is none.
    """
    if rate <= 0:
        return
    found = [m for name, m in net.named_modules() if not name.startswith("auxiliary") and _ends(m, classes)]
    if not found:
        raise Mistake(f"dropout={rate:g} has no place: no linear layer of this network has {classes} outputs")

    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(inputs[0], rate, module.training), *inputs[1:])

    found[-1].register_forward_pre_hook(drop)


def _ends(module: nn.Module, classes: int) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.out_channels == classes
    return isinstance(module, nn.Linear) and module.out_features == classes
