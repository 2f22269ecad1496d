"""What gradient methods share: one pipeline over the axes, and what on them does not combine.

Takes a name, sources and other defaults, returns a `Method`. Invariant: methods differ in defaults and
in words alone, so any of them can be set to be any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

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
            op_init=_INIT[activation],
            inputs_init=str(settings["inputs_init"]),
        )
    )
    if int(settings["partial_channels"]) > 1:
        passes.append(PartialChannels(int(settings["partial_channels"])))
    passes.append(
        SearchForm(
            affine=bool(settings["affine"]),
            pool_norm=bool(settings["pool_norm"]),
            conv_bias=bool(settings["conv_bias"]),
        )
    )
    if flag(settings, "node_norm"):
        passes.append(NodeNorm())
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
            raise UserError.plain("NAS505", conflict.reason, help=conflict.cure)


@attrs.frozen
class Conflict:
    """Settings that do not combine, and why."""

    holds: Callable[[Mapping[str, Scalar]], bool]
    reason: str
    cure: str


def _both(**words: str | tuple[str, ...]) -> Callable[[Mapping[str, Scalar]], bool]:
    """Whether every setting has its word, or one of its words."""
    wanted = {n: (w,) if isinstance(w, str) else w for n, w in words.items()}
    return lambda settings: all(settings[n] in w for n, w in wanted.items())


CONFLICTS = (
    Conflict(
        _both(activation="clipped", none="true"),
        "the clipped activation has no entry for `none`: what is small leaves by itself",
        "leave none=auto",
    ),
    Conflict(
        _both(topology="subsets", none="true"),
        "topology=subsets switches edges by its own variables: a second switch would have no meaning",
        "leave none=auto, or set topology=sum",
    ),
    Conflict(
        _both(activation=RANDOM, hypergradient=("finite", "exact")),
        "second order differentiates one function several times; this activation draws another in every pass",
        "set hypergradient=first, or activation=softmax",
    ),
    Conflict(
        _both(level="single", hypergradient=("finite", "exact")),
        "level=single has no inner problem to differentiate through",
        "set hypergradient=first, or level=bilevel",
    ),
    Conflict(
        _both(level="single", schedule="informed"),
        "level=single steps weights and variables together: there is nothing to schedule",
        "set schedule=alternate, or level=bilevel",
    ),
    Conflict(
        lambda s: s["level"] == "single" and s["weight_steps"] != 1,
        "level=single steps weights and variables together: there is nothing to schedule",
        "set weight_steps=1, or level=bilevel",
    ),
    Conflict(
        lambda s: s["schedule"] == "alternate" and s["weight_steps"] != int(s["weight_steps"]),
        "schedule=alternate counts whole weight steps",
        "set weight_steps to a whole number, or schedule=informed",
    ),
    Conflict(
        lambda s: bool(s["informed_split"]) and s["schedule"] != "informed",
        "informed_split divides the data by the rate of schedule=informed",
        "set schedule=informed, or train_fraction",
    ),
    Conflict(
        lambda s: s["hypergradient"] != "first" and s["accumulate"] != 1,
        "second order needs the gradient of a whole batch before the next pass",
        "set accumulate=1, or hypergradient=first",
    ),
    Conflict(
        lambda s: s["activation"] == "clipped" and s["beta_decay"] != 0,
        "beta-decay shrinks the logits of a softmax; the clipped activation has none",
        "set beta_decay=0; admm and proximity regularise clipped weights",
    ),
    Conflict(
        lambda s: s["activation"] == "dirichlet" and s["beta_decay"] != 0,
        "beta-decay shrinks the logits of a softmax; a Dirichlet distribution has concentrations",
        "set beta_decay=0; dirichlet_kl regularises concentrations",
    ),
    Conflict(
        lambda s: s["activation"] != "dirichlet" and s["dirichlet_kl"] != 0,
        "dirichlet_kl is a divergence of Dirichlet distributions",
        "set activation=dirichlet, or dirichlet_kl=0",
    ),
)
"""Each with the reason that a user is told."""


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
    )


_DIFFERENCES = (
    "batch norm in searched cells has no scale and shift (affine)",
    "pooling options have a batch norm without scale and shift (pool_norm)",
    "retraining adds drop-path on edges and an auxiliary head",
)
