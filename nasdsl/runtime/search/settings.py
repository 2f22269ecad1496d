"""What the settings of a search may be.

Takes nothing, returns rules by name. Invariant: a value that a rule accepts is one
that the loops and their mathematics handle; the tables name every setting that a
generated `search.py` reads, so an unknown one is refused.
"""

from __future__ import annotations

from nasdsl.runtime.standalone.basics import Rule
from nasdsl.runtime.standalone.data import DATA_RULES

SEARCH_RULES = {
    **DATA_RULES,
    "epochs": Rule(int, 1),
    "batch_size": Rule(int, 1),
    "accumulate": Rule(int, 1),
    "train_fraction": Rule(float, 0.05, 0.95),
    "weight_lr": Rule(float, 0),
    "weight_lr_min": Rule(float, 0),
    "weight_momentum": Rule(float, 0, 1),
    "weight_decay": Rule(float, 0),
    "nesterov": Rule(bool),
    "clip": Rule(float, 0),
    "arch_lr": Rule(float, 0),
    "arch_beta1": Rule(float, 0, 0.9999),
    "arch_beta2": Rule(float, 0, 0.999999),
    "arch_weight_decay": Rule(float, 0),
    "warmup_epochs": Rule(int, 0),
    "order": Rule(str, words=("architecture-first", "weights-first")),
    "level": Rule(str, words=("bilevel", "single")),
    "hypergradient": Rule(str, words=("first", "finite", "exact")),
    "finite_radius": Rule(float, 1e-8),
    "schedule": Rule(str, words=("alternate", "informed")),
    "weight_steps": Rule(float, 0.01),
    "fisher_smoothing": Rule(float, 1e-4, 1),
    "threshold_growth": Rule(float, 1.000001),
    "informed_split": Rule(bool),
    "noise_temperature": Rule(float, 1e-6),
    "noise_temperature_end": Rule(float, 1e-6),
    "noise_temperature_schedule": Rule(str, words=("constant", "linear", "exponential")),
    "temperature": Rule(float, 1e-6),
    "temperature_end": Rule(float, 1e-6),
    "temperature_schedule": Rule(str, words=("constant", "linear", "exponential")),
    "regulariser": Rule(str, words=("v1", "v2", "v3", "off")),
    "regulariser_form": Rule(str, words=("loss", "pa")),
    "regulariser_delta": Rule(float, 0, 1),
    "regulariser_weight": Rule(float, 0),
    "regulariser_ramp_epochs": Rule(int, 0),
    "pa_aggressiveness": Rule(float, 0),
    "proximity": Rule(str, words=("off", "plain", "adjusted")),
    "proximity_weight": Rule(float, 0),
    "admm": Rule(bool),
    "admm_weight": Rule(float, 0),
    "admm_period": Rule(int, 1),
    "admm_dual": Rule(str, words=("raw", "weights")),
    "constraint_norm": Rule(str, words=("plain", "squared")),
    "projection": Rule(str, words=("live", "legacy")),
    "beta_decay": Rule(float, 0),
    "dirichlet_kl": Rule(float, 0),
    "resource_weight": Rule(float, 0),
    "hessian_iterations": Rule(int, 0),
    "early_stop": Rule(str, words=("off", "skip", "eigenvalue", "ranking")),
}
"""The tables [search] and [data] of every gradient method."""
