"""TopoNAS: explicit topology (2020) with topological simplification (2024)."""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.methods.base import Method, Scalar, Setting
from nasdsl.methods.bilevel import DATA, FORM, RETRAIN, SEARCH, exact_passes, has_decisions, sums_only
from nasdsl.methods.darts import DARTS
from nasdsl.passes import configured
from nasdsl.passes.base import Pass
from nasdsl.passes.lift_none import LiftNone
from nasdsl.passes.relax import Relax
from nasdsl.passes.search_form import SearchForm
from nasdsl.space.checked import CheckedSpace

_SHEET = "explicit topology (TopoNAS 2020)"
_OURS = "reconstruction: the source gives no value"

TOPOLOGY = (
    Setting(
        "inputs_init",
        "compile",
        "zeros",
        "start of the topology variables; `balanced` gives every size of subset the same weight",
        "DOTS code: zeros",
        choices=("zeros", "balanced"),
    ),
    Setting(
        "lift_none", "compile", True, "turn `none` options into a choice of inputs (NAS-Bench-201)", _OURS
    ),
    Setting(
        "temperature", "search", 1.0, "temperature of the topology softmax, first epoch", _OURS, low=1e-6
    ),
    Setting("temperature_end", "search", 1.0, "temperature, last epoch", _OURS, low=1e-6),
    Setting(
        "temperature_schedule",
        "search",
        "constant",
        "how the temperature moves",
        "DOTS code anneals exponentially from 10 to 0.02",
        choices=("constant", "linear", "exponential"),
    ),
    Setting(
        "regulariser",
        "search",
        "v1",
        "passive-aggressive penalty: v1 loose nodes, v2 inconsistent nodes, v3 residual mass",
        _OURS,
        choices=("v1", "v2", "v3", "off"),
    ),
    Setting(
        "regulariser_form",
        "search",
        "loss",
        "`loss` adds it to the loss; `pa` takes a passive-aggressive step after Adam's",
        _OURS,
        choices=("loss", "pa"),
    ),
    Setting("regulariser_delta", "search", 0.1, "invalidity that is tolerated", _OURS, low=0, high=1),
    Setting(
        "regulariser_weight",
        "search",
        1.0,
        "weight of the penalty after its ramp (`loss` form)",
        _OURS,
        low=0,
    ),
    Setting(
        "regulariser_ramp_epochs",
        "search",
        10,
        "epochs of the linear ramp of the penalty, after warm-up",
        _OURS,
        "epochs",
        low=0,
    ),
    Setting(
        "pa_aggressiveness",
        "search",
        1.0,
        "largest passive-aggressive step after the ramp (C of PA-I, `pa` form)",
        _OURS,
        low=0,
    ),
)


def _pipeline(space: CheckedSpace, settings: Mapping[str, Scalar]) -> tuple[Pass, ...]:
    passes: list[Pass] = [LiftNone()] if settings["lift_none"] else []
    passes.append(Relax(topology="subsets", none=False, inputs_init=str(settings["inputs_init"])))
    passes.append(
        SearchForm(
            affine=bool(settings["affine"]),
            pool_norm=bool(settings["pool_norm"]),
            conv_bias=bool(settings["conv_bias"]),
        )
    )
    return (*passes, configured("simplify", settings), *exact_passes(settings))


def _fits(space: CheckedSpace, settings: Mapping[str, Scalar]) -> None:
    has_decisions(space, "toponas")
    sums_only(space, "toponas")


def _warmed(setting: Setting) -> Setting:
    if setting.name != "warmup_epochs":
        return setting
    return Setting("warmup_epochs", "search", 15, setting.doc, _OURS, "epochs", low=0)


TOPONAS = Method(
    name="toponas",
    title="TopoNAS: explicit topology, simplified",
    summary="topology variables beside operation variables, over subsets of inputs; candidates share modules",
    papers=(
        "Explicitly Learning Topology for Differentiable Neural Architecture Search, 2020 (TopoNAS).",
        "TopoNAS: Boosting Search Efficiency of Gradient-based NAS via Topological Simplification, 2024.",
        "Gu et al.: DOTS: Decoupling Operation and Topology in Differentiable Architecture Search. CVPR 2021.",
    ),
    authors=(
        "topology variables with a combinatorial distribution, learned jointly with operations and weights (abstract)",
        "softmax over combinations, marginals as edge weights, derivation by the best combination (DOTS code, ROME-v1)",
        "that a passive-aggressive regularisation suppresses invalid topology (abstract; its formula was not found)",
        "that paths share modules, partly and floating, recursively, with normalised kernels (2024, abstract)",
    ),
    reconstructions=(
        "that TopoNAS uses the same distribution and marginals as DOTS and ROME",
        "the penalty: all three variants, its margin, weight and ramp, and both forms",
        "any subset and k..m subsets; temperature 1; 15 epochs of warm-up",
        "explicit topology on NAS-Bench-201 (`none` lifted into the subset: 11,904 of 15,625 encodings reachable)",
        "all other hyper-parameters: TopoNAS's own are unknown, DARTS's are used",
        "that `none` leaves the softmax: topology variables make it redundant (as ROME does)",
        "topological simplification: its rules in detail, their order and cost, how filters are normalised",
    ),
    differences=(
        "batch norm in searched cells has no scale and shift (affine)",
        "pooling options have a batch norm without scale and shift (pool_norm)",
        "candidates of an edge share modules and blend filters in the search (simplify); the network has its own",
        "the supernet weighs every edge by its marginal; the retrained network takes the chosen ones at weight one",
        "retraining adds drop-path on edges and an auxiliary head",
    ),
    settings=(*TOPOLOGY, *FORM, *map(_warmed, SEARCH), *RETRAIN, *DATA),
    pipeline=_pipeline,
    fits=_fits,
    presets=DARTS.presets,
)
