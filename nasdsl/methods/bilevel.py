"""What the gradient methods share: the settings of bilevel search and of retraining.

Takes nothing, returns settings. Defaults are those of quark0/darts
`cnn/train_search.py` and `cnn/train.py` unless a source says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.diagnostics import Diagnostic, Label, Span
from nasdsl.errors import UserError
from nasdsl.ir.nodes import Branch, Gather, Select
from nasdsl.methods.base import Scalar, Setting
from nasdsl.methods.recipes import RECIPE
from nasdsl.passes.accumulate import Accumulate
from nasdsl.passes.base import Pass
from nasdsl.passes.checkpoint import Checkpoint
from nasdsl.passes.fan import Fan
from nasdsl.passes.fold import Fold
from nasdsl.passes.normalise import Normalise
from nasdsl.passes.share import Share
from nasdsl.space.checked import CheckedSpace

_DARTS = "quark0/darts train_search.py"
_TRAIN = "quark0/darts train.py"

FORM = (
    Setting(
        "affine",
        "compile",
        False,
        "scale and shift of batch norm in searched cells",
        "quark0/darts model_search.py",
    ),
    Setting(
        "pool_norm", "compile", True, "batch norm behind pooling options", "quark0/darts model_search.py"
    ),
    Setting("conv_bias", "compile", False, "bias of convolutions in searched cells", "quark0/darts: none"),
    Setting("fold", "compile", True, "fold edge weights into operation weights (exact)", "nasdsl"),
    Setting(
        "memory_budget_mib",
        "compile",
        0,
        "most that a step at `batch_size` keeps for its backward pass, else cells are computed twice; 0 for no limit",
        "nasdsl",
        "MiB",
        low=0,
    ),
    Setting(
        "simplify_kernel_norm",
        "compile",
        True,
        "pass `simplify` normalises filters before it blends them",
        "TopoNAS 2024; how is a reconstruction",
    ),
    Setting(
        "simplify_suffix_sharing",
        "compile",
        True,
        "pass `simplify` shares the ends of candidates too, not only filters",
        "TopoNAS 2024; how is a reconstruction",
    ),
)

SEARCH = (
    Setting("epochs", "search", 50, "length of the search", _DARTS, "epochs", low=1),
    Setting("batch_size", "search", 64, "examples a step, of either stream", _DARTS, "examples", low=1),
    Setting(
        "accumulate",
        "search",
        1,
        "parts that a step's batch is split into, one after the other, their gradients averaged",
        "nasdsl",
        low=1,
    ),
    Setting(
        "train_fraction",
        "search",
        0.5,
        "part of the training set for the weights; the rest is for the variables",
        _DARTS,
        low=0.05,
        high=0.95,
    ),
    Setting("weight_lr", "search", 0.025, "learning rate of the weights, first epoch", _DARTS, low=0),
    Setting(
        "weight_lr_min", "search", 0.001, "learning rate of the weights, end of the cosine", _DARTS, low=0
    ),
    Setting("weight_momentum", "search", 0.9, "momentum of SGD", _DARTS, low=0, high=1),
    Setting("weight_decay", "search", 3e-4, "weight decay of the weights", _DARTS, low=0),
    Setting("nesterov", "search", False, "Nesterov momentum", _DARTS),
    Setting("clip", "search", 5.0, "largest norm of the weights' gradient", _DARTS, low=0),
    Setting("arch_lr", "search", 3e-4, "learning rate of Adam for the variables", _DARTS, low=0),
    Setting("arch_beta1", "search", 0.5, "first beta of Adam", _DARTS, low=0, high=0.9999),
    Setting("arch_beta2", "search", 0.999, "second beta of Adam", _DARTS, low=0, high=0.999999),
    Setting("arch_weight_decay", "search", 1e-3, "weight decay of the variables", _DARTS, low=0),
    Setting(
        "warmup_epochs",
        "search",
        0,
        "epochs before the first step of the variables, half of all at most",
        _DARTS,
        "epochs",
        low=0,
    ),
    Setting(
        "order",
        "search",
        "architecture-first",
        "which step comes first for a pair of batches",
        _DARTS,
        choices=("architecture-first", "weights-first"),
    ),
)

RETRAIN = (
    Setting("retrain_epochs", "retrain", 600, "length of training", _TRAIN, "epochs", low=1),
    Setting("retrain_batch_size", "retrain", 96, "examples a step", _TRAIN, "examples", low=1),
    Setting("lr", "retrain", 0.025, "learning rate, first epoch", _TRAIN, low=0),
    Setting("lr_min", "retrain", 0.0, "learning rate, end of the cosine", _TRAIN, low=0),
    Setting("momentum", "retrain", 0.9, "momentum", _TRAIN, low=0, high=1),
    Setting("retrain_weight_decay", "retrain", 3e-4, "weight decay", _TRAIN, low=0),
    Setting("retrain_nesterov", "retrain", False, "Nesterov momentum", _TRAIN),
    Setting("retrain_clip", "retrain", 5.0, "largest norm of the gradient", _TRAIN, low=0),
    Setting(
        "cutout",
        "retrain",
        16,
        "side of the square that is cut out of a training image; 0 for none",
        _TRAIN,
        "pixels",
        low=0,
    ),
    Setting(
        "drop_path",
        "retrain",
        0.2,
        "drop-path probability at the end of its linear ramp",
        _TRAIN,
        low=0,
        high=0.99,
    ),
    Setting(
        "auxiliary",
        "retrain",
        "auto",
        "auxiliary head: auto puts one where it fits",
        _TRAIN,
        choices=("auto", "on", "off"),
    ),
    Setting("auxiliary_weight", "retrain", 0.4, "weight of the auxiliary loss", _TRAIN, low=0),
    Setting("label_smoothing", "retrain", 0.0, "label smoothing", _TRAIN, low=0, high=0.99),
    Setting(
        "randaugment",
        "retrain",
        "off",
        "off, or RandAugment of training images in timm's notation: rand-m9-mstd0.5",
        _TRAIN,
    ),
    Setting(
        "erasing",
        "retrain",
        0.0,
        "probability that a rectangle of a training image becomes noise (timm's random erasing)",
        _TRAIN,
        low=0,
        high=1,
    ),
    *RECIPE,
)

DATA = (
    Setting("data", "data", "digits", "digits, cifar10, imagefolder:PATH or pkg:function", "nasdsl"),
    Setting("augment", "data", True, "random crops and flips of training images", _DARTS),
    Setting("pad", "data", 4, "pixels added on each side before a random crop", _DARTS, "pixels", low=0),
    Setting("flip", "data", True, "random horizontal flips (never of digits)", _DARTS),
    Setting(
        "loader",
        "data",
        "auto",
        "image folders are decoded into memory, or streamed while the run goes on; "
        "auto streams those of more than .4 of the memory",
        "nasdsl",
        choices=("auto", "memory", "stream"),
    ),
    Setting(
        "interpolation",
        "data",
        "bilinear",
        "how images of folders are scaled; random draws one of the two for a streamed training image",
        "torchvision RandomResizedCrop",
        choices=("bilinear", "bicubic", "random"),
    ),
)


def exact_passes(settings: Mapping[str, Scalar]) -> tuple[Pass, ...]:
    """What makes a supernet faster and smaller and changes no number; `--pass -NAME` takes one out."""
    found: tuple[Pass, ...] = (Share(), Normalise(), Accumulate(), Fan())
    if settings["fold"]:
        found = (Fold(), *found)
    budget = int(settings["memory_budget_mib"])
    if budget:
        at_once = -(-int(settings["batch_size"]) // int(settings["accumulate"]))
        found = (*found, Checkpoint(budget, at_once))
    return found


def has_decisions(space: CheckedSpace, method: str) -> None:
    """Raises UserError (NAS504) for a space without anything to search."""
    if not space.table.decisions:
        raise UserError.plain(
            "NAS504", f"`{method}` has nothing to search: space `{space.name}` makes no decision"
        )
    operations_only(space, method)


def operations_only(space: CheckedSpace, method: str) -> None:
    """Raises UserError (NAS504) for decisions that are no candidates of one weighted sum.

    Numbers (widths, depths, kernels) change what an operation is, and one choice that stands in
    several places would need one variable in each.
    """
    for decision in space.table.decisions:
        if decision.kind == "number":
            raise _unfit(
                f"`{method}` weighs operations; {_numbers(space)}",
                decision.span,
                "a kernel can be an option (`choose { conv(3), conv(5) }`); a width, a depth or a resolution cannot "
                "be weighed: give it a value in the file or in an amendment",
            )
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for use in space.module.uses():
        for node in use.graph.nodes:
            if isinstance(node, Branch):
                raise _unfit(f"`{method}` cannot weigh an `if` on decisions (%{node.id})", None, None)
            if isinstance(node, Select):
                key = (use.decision(node.decision), use.graph.name, use.path)
                if key in seen or node.decision.startswith("/"):
                    path = use.decision(node.decision)
                    raise _unfit(
                        f"`{method}` gives every place its own variables; `{path}` is one choice for several",
                        space.table.by_path[path].span,
                        "write the choice where each is used",
                    )
                seen.add(key)


def _numbers(space: CheckedSpace) -> str:
    paths = [d.path for d in space.table.decisions if d.kind == "number"]
    more = f" (and {len(paths) - 1} more decisions do)" if len(paths) > 1 else ""
    return f"`{paths[0]}` chooses a number{more}"


def _unfit(message: str, span: Span | None, cure: str | None) -> UserError:
    place = None if span is None else Label(span, "chosen here")
    return UserError([Diagnostic("NAS504", message, place, help=cure)])


def sums_only(space: CheckedSpace, method: str) -> None:
    """Raises UserError (NAS504) where an option of a gather is not a candidate of a weighted sum."""
    for use in space.module.uses():
        for node in use.graph.nodes:
            if isinstance(node, Gather) and node.merge != "sum":
                path = use.decision(node.decision)
                raise _unfit(
                    f"`{method}` weighs sums; `{path}` chooses the parts of a {node.merge}",
                    space.table.by_path[path].span,
                    f"choose the terms of a sum instead, or join all parts: `{node.merge}(...)`",
                )


def edges_ranked(space: CheckedSpace, method: str) -> None:
    """Raises UserError (NAS504) unless DARTS's rule can rank the inputs of every choice."""
    for use in space.module.uses():
        for node in use.graph.nodes:
            if not isinstance(node, Gather):
                continue
            path = use.decision(node.decision)
            if node.low != node.high:
                raise UserError.plain(
                    "NAS504",
                    f"`{method}` keeps a fixed number of inputs; `{path}` takes {node.low} to {node.high}",
                    help="use `toponas`, or `choose k` in the space",
                )
            fixed = [
                n
                for n, o in zip(node.names, node.operands, strict=True)
                if not isinstance(use.graph.by_id[o], Select)
            ]
            if fixed and node.low < len(node.names):
                raise UserError.plain(
                    "NAS504",
                    f"`{method}` ranks inputs by their operations; input `{fixed[0]}` of `{path}` has no choice of one",
                    help="use `toponas`, or put `via choose ...` on the input",
                )
