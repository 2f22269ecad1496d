"""Methods of single paths: one supernet, points on a few axes.

Takes a method's own defaults, returns a `Method`. The axes: which paths a step trains (`sampler`), who
teaches them (`distillation`), how the best path is found afterwards (`search`). Invariant: a setting that
was changed changes what a search computes, or is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import attrs

from nasdsl.diagnostics import Diagnostic, Label, Span
from nasdsl.errors import UserError
from nasdsl.ir.nodes import Gather, Loc, Op
from nasdsl.methods.base import Method, Scalar, Setting
from nasdsl.methods.bilevel import DATA, RETRAIN
from nasdsl.methods.recipes import RECIPES
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.base import Pass
from nasdsl.passes.switch import Switch, sizes_of
from nasdsl.space.checked import CheckedSpace

_SPOS = "released SPOS code, Supernet/train.py"
_FIND = "released SPOS code, Search/search.py"
_CREAM = "released Cream code"
_SHRINK = "a reconstruction: LISSNAS prints no numbers"

SEARCH = (
    Setting("epochs", "search", 120, "length of the training of the supernet", _SPOS, "epochs", low=1),
    Setting("batch_size", "search", 1024, "examples a step", _SPOS, "examples", low=2),
    Setting(
        "train_fraction",
        "search",
        0.9,
        "part of the training set that trains; the rest judges paths",
        "nasdsl",
        low=0.05,
        high=0.99,
    ),
    Setting("weight_lr", "search", 0.5, "learning rate at the start, linear to zero each step", _SPOS, low=0),
    Setting("weight_momentum", "search", 0.9, "momentum of SGD", _SPOS, low=0, high=1),
    Setting("weight_decay", "search", 4e-5, "weight decay", _SPOS, low=0),
    Setting("decay_norms", "search", True, "whether biases and batch norm decay too", _SPOS),
    Setting("nesterov", "search", False, "Nesterov momentum", _SPOS),
    Setting("clip", "search", 0.0, "largest norm of the gradient; 0 for no limit", _SPOS, low=0),
    Setting("smoothing", "search", 0.1, "label smoothing", _SPOS, low=0, high=0.99),
    Setting(
        "sampler",
        "search",
        "uniform",
        "paths of a step: uniform, from bins of costs, every value once (fair), or largest, random, smallest",
        "SPOS; FairNAS; BigNAS",
        choices=("uniform", "bins", "fair", "sandwich"),
    ),
    Setting("paths", "search", 1, "paths a step; `fair` counts them itself", "nasdsl", low=1),
    Setting("bin_low", "search", 290e6, "least cost of sampler=bins", _SPOS, "of the objective", low=0),
    Setting("bin_high", "search", 360e6, "cost that the bins end before", _SPOS, "of the objective", low=0),
    Setting("bins", "search", 7, "how many bins of equal width", _SPOS, low=1),
    Setting(
        "distillation",
        "search",
        "off",
        "who teaches: nobody, the largest path of a sandwich (inplace), or the board",
        "BigNAS; Cream",
        choices=("off", "inplace", "board"),
    ),
    Setting("board_size", "search", 10, "paths on the board", _CREAM, low=1),
    Setting(
        "board_margin", "search", 5.0, "lead that a dearer path needs", _CREAM, "points of accuracy", low=0
    ),
    Setting("board_images", "search", 4, "images that a path on the board keeps", _CREAM, "images", low=1),
    Setting(
        "meta",
        "search",
        "full",
        "step of the meta-network through all weights, the first tensor alone, or none",
        "Cream, section 3.2; first: what the released code comes down to",
        choices=("full", "first", "off"),
    ),
    Setting(
        "meta_start",
        "search",
        20,
        "last epoch (from 0) without board and teachers; at most half of all",
        _CREAM,
        "epochs",
        low=0,
    ),
    Setting("meta_interval", "search", 200, "steps from one meta step to the next", _CREAM, "steps", low=1),
    Setting("meta_lr", "search", 1e-4, "learning rate of the meta-network", _CREAM, low=0),
    Setting(
        "meta_rate",
        "search",
        "meta",
        "rate of the inner step: meta_lr, or that of the weights",
        _CREAM,
        choices=("meta", "weights"),
    ),
    Setting(
        "legacy",
        "search",
        False,
        "as the released code computes: last score negated, teacher's softmax on the board, rho not detached, "
        "moving statistics, inner step kept",
        _CREAM,
    ),
    Setting(
        "search",
        "search",
        "evolution",
        "how the path is found: the board, random, evolution (SPOS), aging (regularised), nsga2 (a front), "
        "shrink (LISSNAS: a sub-space, and its best)",
        _FIND,
        choices=("board", "random", "evolution", "aging", "nsga2", "shrink"),
    ),
    Setting("evaluations", "search", 1000, "paths that are judged; the board judges its own", _FIND, low=1),
    Setting("population", "search", 50, "paths of a generation, or alive", _FIND, low=2),
    Setting(
        "parents",
        "search",
        10,
        "paths that have offspring; of aging the tournament; nsga2 does not read it: `population` of its fronts have",
        _FIND,
        low=1,
    ),
    Setting(
        "mutation", "search", 0.1, "probability that a decision of a mutant changes", _FIND, low=0, high=1
    ),
    Setting("shrink_samples", "search", 500, "paths that a shrinking starts with", _SHRINK, "paths", low=1),
    Setting("shrink_fresh", "search", 250, "candidates that are judged in a round", _SHRINK, "paths", low=1),
    Setting(
        "shrink_top",
        "search",
        0.15,
        "part of the judged paths of a bin that are seeds",
        _SHRINK,
        low=1e-6,
        high=1,
    ),
    Setting("shrink_bins", "search", 5, "parts of equal size that costs cut the space into", _SHRINK, low=1),
    Setting(
        "shrink_radius",
        "search",
        0,
        "edits from a seed to its neighbours; 0: 1, and 2 beyond a million architectures",
        _SHRINK,
        "edits",
        low=0,
    ),
    Setting(
        "shrink_predictor",
        "search",
        True,
        "leave out candidates that a ridge regression expects to be worse than the seeds of their bin",
        _SHRINK,
    ),
    Setting("shrink_least", "search", 128, "architectures that are left at least", _SHRINK, low=1),
    Setting(
        "objective",
        "search",
        "macs",
        "what a path costs, beside its accuracy",
        "nasdsl",
        choices=("macs", "params", "latency"),
    ),
    Setting(
        "latency_table",
        "search",
        "",
        "file of `nasdsl latency` for objective=latency; without one that of the space's limit",
        "nasdsl",
    ),
    Setting(
        "calibration_batches",
        "search",
        200,
        "training batches for the batch norm of a path before it is judged; 0 takes it as trained",
        "released SPOS code, Search/tester.py; a cumulative average is a reconstruction",
        "batches",
        low=0,
    ),
    Setting(
        "judging_batches",
        "search",
        0,
        "held-out batches that judge a path; 0 for all",
        "nasdsl",
        "batches",
        low=0,
    ),
)

_Needs = tuple[tuple[str, tuple[str, ...]], ...]
_BOARD: _Needs = (("distillation", ("board",)),)
_META: _Needs = (*_BOARD, ("meta", ("full", "first")))
_BINS: _Needs = (("sampler", ("bins",)),)

READ_UNDER: Mapping[str, _Needs] = {
    **dict.fromkeys(("board_size", "board_margin", "board_images", "meta", "meta_start", "legacy"), _BOARD),
    **dict.fromkeys(("meta_interval", "meta_lr", "meta_rate"), _META),
    **dict.fromkeys(("bin_low", "bin_high", "bins"), _BINS),
    "paths": (("sampler", ("uniform", "bins", "sandwich")),),
    "evaluations": (("search", ("evolution", "random", "aging", "nsga2", "shrink")),),
    **dict.fromkeys(
        (
            "shrink_samples",
            "shrink_fresh",
            "shrink_top",
            "shrink_bins",
            "shrink_radius",
            "shrink_predictor",
            "shrink_least",
        ),
        (("search", ("shrink",)),),
    ),
    "population": (("search", ("evolution", "aging", "nsga2")),),
    "parents": (("search", ("evolution", "aging")),),
    "mutation": (("search", ("evolution", "nsga2")),),
    "latency_table": (("objective", ("latency",)),),
}
"""Settings that are not always read: the settings of the axes that they need, each with its values that read them."""

MOST_AT_ONCE = 64
"""Paths of one step of sampler=fair; a generated search refuses more as well."""


def pipeline(space: CheckedSpace, settings: Mapping[str, Scalar]) -> tuple[Pass, ...]:
    """Decisions become switches; nothing is relaxed."""
    return (Switch(),)


def fits(
    space: CheckedSpace,
    settings: Mapping[str, Scalar],
    *,
    defaults: Mapping[str, Scalar],
    variants: Mapping[str, Mapping[str, Scalar]],
) -> None:
    """Refuses what cannot be searched.

    Args:
        defaults: the method's own; they may go unread.
        variants: what the presets set; that may as well.

    Raises:
        UserError: NAS504 for what no path of a supernet can be cut to, NAS505 for settings that conflict or that
            nothing reads, NAS605 for latency without a table.
    """
    if not space.table.decisions:
        raise UserError.plain(
            "NAS504",
            f"space `{space.name}` makes no decision: there is nothing to search",
            help="open one: `choose { a, b }` in the place of an operation or of a number",
        )
    for use in space.module.uses():
        for node in use.graph.nodes:
            if isinstance(node, Gather) and (node.widths or node.low == 0):
                path = use.decision(node.decision)
                what = "widths that its members share" if node.widths else "an empty choice of inputs"
                cure = "`evaluate` it in a table, or take `into split` out" if node.widths else "`choose 1..`"
                raise _misfit(space, f"{what} (`{path}`)", space.table.by_path[path].span, cure)
    for graph in Switch()(space.module).graphs:  # where sizes are what each use makes them
        for node in graph.nodes:
            if isinstance(node, Op):
                _fits(space, node)
    sides = space.input.dims[1:] if space.input.layout == "image" else ()
    if any(d.cases for d in sides) and sides[0] != sides[1]:
        raise _misfit(space, "an image that changes its size and is not square", None, "`image(3, s, s)`")
    _settings_fit(settings)
    _all_read(settings, {**defaults, **variants.get(str(settings.get("preset")), {})})
    _settings_fit_space(space, settings)


def _fits(space: CheckedSpace, node: Op) -> None:
    primitive = PRIMITIVES[node.op]
    own = [n for n, v in node.values if getattr(v, "cases", None)]
    fixed = ("stride", "dilation", "groups", "pad", "start", "count")
    stubborn = [n for n in own if n in fixed]
    elastic = any(d.cases for d in sizes_of(node))
    if (own and primitive.elastic is None) or stubborn or (elastic and primitive.opaque):
        name = (stubborn or own or ["size"])[0]
        raise _misfit(
            space,
            f"the `{name}` of `{node.op}` depend on a decision",
            node.loc,
            "make it an option: `choose { f(2), f(3) }` gives each its own operation",
        )


def _misfit(space: CheckedSpace, what: str, place: Span | Loc | None, cure: str) -> UserError:
    if isinstance(place, Loc):
        mine = place.file == space.source.name.replace("\\", "/").rpartition("/")[2]
        what += "" if mine else f" ({place.file}:{place})"
        start = space.source.line_start(place.line) + place.column - 1 if mine else 0
        place = Span(space.source, start, start + 1) if mine else None
    label = None if place is None else Label(place, "here")
    return UserError(
        [Diagnostic("NAS504", f"a supernet of single paths cannot have {what}", label, help=cure)]
    )


def _settings_fit(s: Mapping[str, Scalar]) -> None:
    if s["search"] == "board" and s["distillation"] != "board":
        raise _conflict(
            "search=board",
            f"distillation={s['distillation']}",
            "only distillation=board keeps a board",
            "set distillation=board, or search=evolution",
        )
    if s["distillation"] == "inplace" and s["sampler"] != "sandwich":
        raise _conflict(
            "distillation=inplace",
            f"sampler={s['sampler']}",
            "the largest path of a sandwich teaches",
            "set sampler=sandwich, or distillation=off",
        )
    if s["distillation"] == "board" and s["sampler"] in ("fair", "sandwich"):
        raise _conflict(
            "distillation=board",
            f"sampler={s['sampler']}",
            "the board judges one path a step",
            "set sampler=uniform, or distillation=off",
        )
    if s["sampler"] == "sandwich" and int(s["paths"]) < 2:
        raise _conflict(
            "sampler=sandwich", f"paths={s['paths']}", "largest and smallest are two", "set paths=4"
        )
    if s["distillation"] == "board" and int(s["batch_size"]) < 2 * int(s["board_images"]):
        raise _conflict(
            f"batch_size={s['batch_size']}",
            f"board_images={s['board_images']}",
            "a batch has two halves of board_images",
            f"set batch_size={2 * int(s['board_images'])} or more, or fewer board_images",
        )
    if s["sampler"] == "bins" and not float(s["bin_low"]) < float(s["bin_high"]):
        raise _conflict(
            f"bin_low={float(s['bin_low']):g}",
            f"bin_high={float(s['bin_high']):g}",
            "bins have a width",
            "set bin_low below bin_high",
        )


def _all_read(s: Mapping[str, Scalar], defaults: Mapping[str, Scalar]) -> None:
    """What was changed is read (NAS505)."""
    for name, needs in READ_UNDER.items():
        lacking = [(axis, values) for axis, values in needs if s[axis] not in values]
        if not lacking or s[name] == defaults[name]:
            continue
        now = " and ".join(f"{axis}={s[axis]}" for axis, _ in lacking)
        cure = " and ".join(f"{axis}={' or '.join(values)}" for axis, values in lacking)
        back = f"{name}={_shown(defaults[name])}" if defaults[name] != "" else f"{name} out"
        raise UserError.plain(
            "NAS505",
            f"{name}={_shown(s[name])} has no effect: nothing reads `{name}` under {now}",
            help=f"set {cure}, or leave {back}",
        )


def _settings_fit_space(space: CheckedSpace, s: Mapping[str, Scalar]) -> None:
    if s["sampler"] == "fair":
        counts = sorted({len(d.values) for d in space.table.decisions})
        if math.lcm(*counts) > MOST_AT_ONCE:
            raise _conflict(
                "sampler=fair",
                f"space `{space.name}`",
                f"its decisions have {', '.join(map(str, counts))} values, so a step would train "
                f"{math.lcm(*counts):,} paths, more than {MOST_AT_ONCE}",
                "set sampler=uniform, or give the decisions of the space equally many values",
            )
    if s["objective"] == "latency" and not s["latency_table"]:
        named = {limit.table.path for limit in space.limits if limit.table is not None}
        if len(named) != 1:
            raise UserError.plain(
                "NAS605",
                f"objective=latency has no table: the limits of space `{space.name}` name {len(named) or 'none'}",
                help="measure one with `nasdsl latency` and set latency_table=FILE",
            )


def _shown(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _conflict(left: str, right: str, why: str, cure: str) -> UserError:
    return UserError.plain("NAS505", f"{left} does not go with {right}: {why}", help=cure)


def single_path_method(
    name: str,
    *,
    title: str,
    summary: str,
    papers: tuple[str, ...],
    authors: tuple[str, ...],
    reconstructions: tuple[str, ...] = (),
    defaults: Mapping[str, tuple[Scalar, str]] | None = None,
    variants: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> Method:
    """A method with its own defaults: setting to (value, source)."""
    own = dict(defaults or {})
    settings = tuple(
        attrs.evolve(s, default=own[s.name][0], source=own[s.name][1]) if s.name in own else s for s in SEARCH
    )
    if variants:
        settings = (
            Setting(
                "preset",
                "compile",
                next(iter(variants)),
                "named values of other settings",
                "nasdsl",
                choices=tuple(variants),
            ),
            *settings,
        )
    return Method(
        name=name,
        title=title,
        summary=summary,
        papers=papers,
        authors=authors,
        reconstructions=(
            "statistics of batch norm are recalibrated as cumulative averages before a path is judged",
            *reconstructions,
        ),
        differences=("the network has weights of its own; the path has those that it shares",),
        settings=(*settings, *RETRAIN, *DATA),
        pipeline=pipeline,
        fits=partial(fits, defaults={s.name: s.default for s in settings}, variants=variants or {}),
        variants=variants or {},
        recipes=RECIPES,
        template="paths.py.j2",
        limits=True,
    )


__all__ = ["single_path_method"]
