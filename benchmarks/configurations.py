"""The configurations that an evaluation compares, and the protocols it does so under.

Takes a name and a space, returns settings; every difference from a method's own protocol can be listed.
Published figures are those of the repositories of DrNAS and PC-DARTS; none is from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

import nasdsl
from nasdsl.methods import METHODS


@attrs.frozen
class Configuration:
    """A method with settings and passes.

    Attributes:
        about: what it is, beside its settings.
        warmup_of: the length of the search that its warm-up was published for, where that is not the
            length of its protocol on the space.
    """

    method: str
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    passes: str = ""
    about: str = ""
    warmup_of: int | None = None


METHODS_COMPARED = {
    "darts": Configuration("darts", about="first order"),
    "darts second order": Configuration("darts", {"hypergradient": "finite"}),
    "toponas": Configuration("toponas"),
    "toponas, not simplified": Configuration("toponas", passes="-simplify"),
    "cbo v1": Configuration("cbo", {"preset": "v1"}),
    "cbo v1-proximity": Configuration("cbo", {"preset": "v1-proximity"}),
    "cbo prime": Configuration("cbo", {"preset": "prime"}),
    "pcdarts": Configuration("pcdarts", warmup_of=50),
    "gdas": Configuration("gdas"),
    "drnas": Configuration("drnas"),
    "snas": Configuration("snas"),
    "beta": Configuration("beta"),
}
RHO = 0.1
_NEAR = {"proximity": "plain", "proximity_weight": RHO}
_ADMM = {"admm": True, "admm_weight": RHO}
_INFORMED = {"schedule": "informed"}
PARTS_OF_CBO = {
    "clipped only": Configuration("darts", {"activation": "clipped"}),
    "proximity only": Configuration("darts", _NEAR),
    "admm only": Configuration("darts", _ADMM),
    "informed only": Configuration("darts", _INFORMED),
    "proximity, informed": Configuration("darts", {**_NEAR, **_INFORMED}),
    "admm, informed": Configuration("darts", {**_ADMM, **_INFORMED}),
}
"""`darts` with one part of CBO, rho as at the last commit of k8lion/DARTS-PRIME: what directions.py compares."""

CONFIGURATIONS = {**METHODS_COMPARED, **PARTS_OF_CBO}
RANDOM = "random"

PUBLISHED = {
    "darts": ((54.30, 38.97, 18.41), "DrNAS README"),
    "snas": ((92.77, 69.34, 43.16), "PC-DARTS and DrNAS READMEs"),
    "drnas": ((94.36, 73.51, 46.34), "DrNAS README"),
    "best of the table": ((94.37, 73.51, 47.31), "DrNAS README"),
}
"""NAS-Bench-201: test accuracy on CIFAR-10, CIFAR-100 and ImageNet16-120 after 200 epochs."""
_COLUMNS = ("cifar10_test_200", "cifar100_test_200", "imagenet16_test_200")


def published(name: str, notation: str | None, metric: str) -> tuple[float, str] | None:
    """A published figure and where it is quoted; None where there is none for this column."""
    if name not in PUBLISHED or notation != "nasbench201" or metric not in _COLUMNS:
        return None
    figures, source = PUBLISHED[name]
    return figures[_COLUMNS.index(metric)], source


# --- protocols ---------------------------------------------------------------

REDUCED_PARAMETERS = {"nasbench201": {"C": 8, "N": 1, "resolution": 16}}
REDUCED_EPOCHS, REDUCED_BATCHES = 20, 12
REDUCED_SETTINGS = {"arch_lr": "0.01", "hessian_iterations": "0"}
WHY = {
    "arch_lr": "240 steps of Adam at 0.01 can move a variable by 2.4, 19,500 at 0.0003 by 5.9",
    "hessian_iterations": "an instrument, no part of any search",
    "warmup_epochs": "the published share of the search",
    "regulariser_ramp_epochs": "the published share of the search",
    "beta_decay": "the slope that ends at the published weight",
}


def settled(
    configuration: Configuration, space: nasdsl.Space, given: Mapping[str, Any], epochs: int | None
) -> dict[str, Any]:
    """The settings to compile with: those of the configuration, those given, and what a new length scales.

    Warm-up and the penalty's ramp keep their share of the search, beta-decay its last weight; all other
    schedules follow the length by themselves. What is given by name is not scaled.
    """
    known = {s.name for s in METHODS.load(configuration.method).settings}
    settings = {**configuration.settings, **{n: v for n, v in given.items() if n in known}}
    if epochs is None:
        return settings
    own = METHODS.load(configuration.method).resolve(space.checked, configuration.settings)
    length = int(own["epochs"])
    scaled: dict[str, Any] = {"epochs": epochs}
    warmup = int(own["warmup_epochs"])
    if warmup:
        scaled["warmup_epochs"] = round(warmup * epochs / (configuration.warmup_of or length))
    if own["topology"] == "subsets" and own["regulariser"] != "off":
        scaled["regulariser_ramp_epochs"] = round(int(own["regulariser_ramp_epochs"]) * epochs / length)
    if own["beta_decay"]:
        scaled["beta_decay"] = float(own["beta_decay"]) * length / epochs
    return {**scaled, **settings}


def deviations(
    configuration: Configuration, space: nasdsl.Space, settings: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Setting to (own, used) where a cell departs from the method's own protocol on the space."""
    method = METHODS.load(configuration.method)
    own = method.resolve(space.checked, configuration.settings)
    used = method.resolve(space.checked, settings)
    return {name: (own[name], used[name]) for name in own if own[name] != used[name]}


def deviation_lines(by_name: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> list[str]:
    """Every deviation once, with the configurations it is of, those of all first."""
    holders: dict[tuple[str, Any, Any], list[str]] = {}
    for name, changed in by_name.items():
        for setting, (own, used) in changed.items():
            holders.setdefault((setting, own, used), []).append(name)
    lines = []
    for (setting, own, used), names in sorted(holders.items(), key=lambda item: -len(item[1])):
        who = "all" if len(names) == len(by_name) and len(names) > 1 else ", ".join(names)
        why = f" ({WHY[setting]})" if setting in WHY else ""
        lines.append(f"{setting} {used} instead of {own}: {who}{why}")
    return lines
