"""Passes: one a file, one table line each, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nasdsl.passes.base import Pass
from nasdsl.registry import Registry

PASSES: Registry[type[Pass]] = Registry(
    kind="pass",
    code="NAS503",
    table={
        "lift_none": "nasdsl.passes.lift_none:LiftNone",
        "switch": "nasdsl.passes.switch:Switch",
        "relax": "nasdsl.passes.relax:Relax",
        "node_norm": "nasdsl.passes.node_norm:NodeNorm",
        "partial_channels": "nasdsl.passes.partial_channels:PartialChannels",
        "search_form": "nasdsl.passes.search_form:SearchForm",
        "tie": "nasdsl.passes.tie:Tie",
        "simplify": "nasdsl.passes.simplify:Simplify",
        "fold": "nasdsl.passes.fold:Fold",
        "share": "nasdsl.passes.share:Share",
        "normalise": "nasdsl.passes.normalise:Normalise",
        "accumulate": "nasdsl.passes.accumulate:Accumulate",
        "fan": "nasdsl.passes.fan:Fan",
        "checkpoint": "nasdsl.passes.checkpoint:Checkpoint",
        "specialise": "nasdsl.passes.specialise:Specialise",
        "retrain_form": "nasdsl.passes.retrain_form:RetrainForm",
    },
    group="nasdsl.passes",
    verb="passes",
)


def configured(name: str, settings: Mapping[str, object]) -> Pass:
    """A pass whose fields a method's settings may fill: field `F` of pass `P` is the setting `P_F`.

    Raises:
        UserError: NAS503, when there is no such pass.
    """
    kind = PASSES.load(name)
    fields = {f.name: f"{name}_{f.name}" for f in attrs.fields(kind)}  # type: ignore[arg-type]
    return kind(**{field: settings[setting] for field, setting in fields.items() if setting in settings})


__all__ = ["PASSES", "Pass", "configured"]
