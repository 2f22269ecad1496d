"""What gradient methods share: one pipeline over the axes, and what on them does not combine.

Takes a name, sources and other defaults, returns a `Method`. Invariant: methods differ in defaults and
in words alone, so any of them can be set to be any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from nasdsl.diagnostics import Diagnostic, Note
from nasdsl.errors import UserError
from nasdsl.methods.axes import CONSTRAINTS, GRADIENT, NOISE, RELAXATION, SCHEDULE, TOPOLOGY, WATCH
from nasdsl.methods.base import Method, Scalar, Setting
from nasdsl.methods.bilevel import (
    DATA,
    FORM,
    RETRAIN,
    SEARCH,
    edges_ranked,
    exact_passes,
    has_decisions,
    sums_only,
)
from nasdsl.methods.recipes import RECIPES
from nasdsl.passes import configured
from nasdsl.passes.base import Pass
from nasdsl.passes.lift_none import LiftNone
from nasdsl.passes.node_norm import NodeNorm
from nasdsl.passes.partial_channels import PartialChannels
from nasdsl.passes.relax import Relax
from nasdsl.passes.search_form import SearchForm
from nasdsl.space.checked import CheckedSpace

SETTINGS: tuple[Setting, ...] = (
    *RELAXATION,
    *FORM,
    *SEARCH,
    *GRADIENT,
    *SCHEDULE,
    *NOISE,
    *TOPOLOGY,
    *CONSTRAINTS,
    *WATCH,
    *RETRAIN,
    *DATA,
)
"""Every setting of every gradient method."""

RANDOM = ("gumbel", "concrete", "dirichlet")
"""Activations that are drawn anew in every forward pass."""

_INIT = {
    "softmax": "normal",
    "clipped": "shares",
    "gumbel": "normal",
    "concrete": "ones",
    "dirichlet": "normal",
}
"""How operation variables begin: DARTS, DARTS-PRIME, GDAS, SNAS and DrNAS, by activation."""

EVALUATION_201: dict[str, Scalar] = {
    "pool_norm": False,
    "retrain_epochs": 200,
    "retrain_batch_size": 256,
    "lr": 0.1,
    "retrain_nesterov": True,
    "retrain_weight_decay": 5e-4,
    "retrain_clip": 0.0,
    "cutout": 0,
    "drop_path": 0.0,
    "auxiliary": "off",
}
"""What every method takes over from the benchmark on a space in its notation."""

SEARCH_201_DXY: dict[str, Scalar] = {"nesterov": True, "weight_decay": 5e-4, "order": "weights-first"}
"""The search protocol of D-X-Y/AutoDL-Projects."""

SEARCH_201_DRNAS: dict[str, Scalar] = {"epochs": 100}
"""The search protocol of the repositories of DrNAS and beta-DARTS, where it differs from DARTS's."""


def flag(settings: Mapping[str, Scalar], name: str) -> bool:
    """A setting that may be `auto`, settled."""
    value = settings[name]
    if value != "auto":
        return value in (True, "true")
    clipped = settings["activation"] == "clipped"
    return clipped if name == "node_norm" else not clipped and settings["topology"] != "subsets"


def sparse(settings: Mapping[str, Scalar]) -> bool:
    """Whether some candidates do not run, so that computing them together would only cost."""
    activation = settings["activation"]
    return activation == "gumbel" or (activation == "clipped" and bool(settings["prune"]))


def pipeline(space: CheckedSpace, settings: Mapping[str, Scalar], *, simplify: bool) -> tuple[Pass, ...]:
    """The passes of a point on the axes."""
    activation, topology = str(settings["activation"]), str(settings["topology"])
    passes: list[Pass] = [LiftNone()] if topology == "subsets" and settings["lift_none"] else []
    passes.append(
        Relax(
            topology=topology,
            none=flag(settings, "none"),
            activation=activation,
            zeros=activation != "clipped",
            sparse=sparse(settings),
            bare=bool(settings["bare_weights"]) and activation == "gumbel",
            op_init=_INIT[activation],
            inputs_init=str(settings["inputs_init"]),
        )
    )
    if flag(settings, "node_norm"):
        passes.append(NodeNorm())  # of whole nodes: before what they sum is taken apart
    if int(settings["partial_channels"]) > 1:
        passes.append(PartialChannels(int(settings["partial_channels"])))
    passes.append(
        SearchForm(
            affine=bool(settings["affine"]),
            pool_norm=bool(settings["pool_norm"]),
            conv_bias=bool(settings["conv_bias"]),
        )
    )
    if simplify:
        passes.append(configured("simplify", settings))
    exact = exact_passes(settings)
    if sparse(settings):
        exact = tuple(p for p in exact if p.name not in ("accumulate", "fan"))
    return (*passes, *exact)


def fits(space: CheckedSpace, settings: Mapping[str, Scalar], *, name: str) -> None:
    """Raises UserError: NAS504 for a space that cannot be searched so, NAS505 for settings that do not combine."""
    has_decisions(space, name)
    sums_only(space, name)
    if settings["topology"] != "subsets":
        edges_ranked(space, name)
    for conflict in CONFLICTS:
        if conflict.holds(settings):
            raise conflict.error(settings)


@attrs.frozen
class Conflict:
    """Two settings that do not combine, and why.

    Attributes:
        settings: each by name, with whether its value is one that does not combine with the other's.
        reason: why.
        cure: how either is changed.
    """

    settings: Mapping[str, Callable[[Scalar], bool]]
    reason: str
    cure: str

    def holds(self, settings: Mapping[str, Scalar]) -> bool:
        """Whether these settings are in the way of each other."""
        return all(unfit(settings[name]) for name, unfit in self.settings.items())

    def error(self, settings: Mapping[str, Scalar]) -> UserError:
        """What a user is told (NAS505): both settings as they are, the reason, the cure."""
        one, other = (f"{name}={_shown(settings[name])}" for name in self.settings)
        message = f"{one} does not combine with {other}"
        return UserError([Diagnostic("NAS505", message, None, notes=(Note(self.reason),), help=self.cure)])


def _shown(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_of(*values: Scalar) -> Callable[[Scalar], bool]:
    return lambda value: value in values


def _but(*values: Scalar) -> Callable[[Scalar], bool]:
    return lambda value: value not in values


_NOTHING_TO_SCHEDULE = "weights and variables step together, so there is nothing to schedule"

CONFLICTS = (
    Conflict(
        {"activation": _one_of("clipped"), "none": _one_of("true")},
        "a clipped weight that is small leaves by itself, so there is no entry for `none`",
        "leave none=auto",
    ),
    Conflict(
        {"topology": _one_of("subsets"), "none": _one_of("true")},
        "variables over subsets switch edges, and a second switch would have no meaning",
        "leave none=auto, or set topology=sum",
    ),
    Conflict(
        {"activation": _one_of(*RANDOM), "hypergradient": _but("first")},
        "second order differentiates one function several times; this activation draws another in every pass",
        "set hypergradient=first, or activation=softmax",
    ),
    Conflict(
        {"level": _one_of("single"), "hypergradient": _but("first")},
        "a single level has no inner problem to differentiate through",
        "set hypergradient=first, or level=bilevel",
    ),
    Conflict(
        {"level": _one_of("single"), "schedule": _one_of("informed")},
        _NOTHING_TO_SCHEDULE,
        "set schedule=alternate, or level=bilevel",
    ),
    Conflict(
        {"level": _one_of("single"), "weight_steps": _but(1)},
        _NOTHING_TO_SCHEDULE,
        "set weight_steps=1, or level=bilevel",
    ),
    Conflict(
        {"schedule": _one_of("alternate"), "weight_steps": lambda value: float(value) % 1 != 0},
        "an alternating schedule counts whole weight steps",
        "set weight_steps to a whole number, or schedule=informed",
    ),
    Conflict(
        {"informed_split": _one_of(True), "schedule": _but("informed")},
        "the data is divided by the rate of the informed schedule",
        "set schedule=informed, or informed_split=false and train_fraction",
    ),
    Conflict(
        {"hypergradient": _but("first"), "accumulate": _but(1)},
        "second order needs the gradient of a whole batch before the next pass",
        "set accumulate=1, or hypergradient=first",
    ),
    Conflict(
        {"activation": _one_of("clipped"), "beta_decay": _but(0)},
        "beta-decay shrinks the logits of a softmax, and clipped weights have none",
        "set beta_decay=0; admm and proximity regularise clipped weights",
    ),
    Conflict(
        {"activation": _one_of("dirichlet"), "beta_decay": _but(0)},
        "beta-decay shrinks the logits of a softmax, and a Dirichlet distribution has concentrations",
        "set beta_decay=0; dirichlet_kl regularises concentrations",
    ),
    Conflict(
        {"early_stop": _one_of("eigenvalue"), "hessian_iterations": _one_of(0)},
        "the rule looks at the dominant eigenvalue, which takes iterations",
        "set hessian_iterations=5, or early_stop=off",
    ),
    Conflict(
        {"activation": _but("dirichlet"), "dirichlet_kl": _but(0)},
        "the divergence is one of Dirichlet distributions",
        "set activation=dirichlet, or dirichlet_kl=0",
    ),
)
"""Every pair with the reason that a user is told."""


def gradient_method(
    name: str,
    *,
    title: str,
    summary: str,
    papers: tuple[str, ...],
    authors: tuple[str, ...],
    reconstructions: tuple[str, ...] = (),
    differences: tuple[str, ...] = (),
    defaults: Mapping[str, tuple[Scalar, str]] | None = None,
    on_201: Mapping[str, Scalar] | None = None,
    variants: Mapping[str, Mapping[str, Scalar]] | None = None,
    variant: str = "",
    simplify: bool = False,
) -> Method:
    """A method on the axes.

    Args:
        differences: beyond those that all gradient methods have.
        defaults: settings that begin elsewhere, each with its source.
        on_201: further settings on a space in NAS-Bench-201's notation.
        variants: named presets, chosen by the setting `preset`; `variant` is the one that is on.
        simplify: whether candidates share modules (TopoNAS 2024).
    """
    known = {s.name: s for s in SETTINGS}
    for changed, (value, source) in (defaults or {}).items():
        known[changed] = attrs.evolve(known[changed], default=value, source=source)
    settings = tuple(known.values())
    if variants:
        doc = "a named set of settings; those that are given beside it win"
        settings = (Setting("preset", "compile", variant, doc, papers[0], choices=tuple(variants)), *settings)
    return Method(
        name=name,
        title=title,
        summary=summary,
        papers=papers,
        authors=authors,
        reconstructions=reconstructions,
        differences=(*_DIFFERENCES, *differences),
        settings=settings,
        pipeline=partial(pipeline, simplify=simplify),
        fits=partial(fits, name=name),
        presets={"nasbench201": {**EVALUATION_201, **(on_201 or {})}},
        variants=variants or {},
        recipes=RECIPES,
    )


_DIFFERENCES = (
    "batch norm in searched cells has no scale and shift (affine)",
    "pooling options have a batch norm without scale and shift (pool_norm)",
    "retraining adds drop-path on edges and an auxiliary head",
)
