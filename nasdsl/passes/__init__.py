"""Passes: one a file, one table line each."""

from __future__ import annotations

from nasdsl.passes.base import Pass
from nasdsl.registry import Registry

PASSES: Registry[type[Pass]] = Registry(
    kind="pass",
    code="NAS503",
    table={
        "lift_none": "nasdsl.passes.lift_none:LiftNone",
        "relax": "nasdsl.passes.relax:Relax",
        "search_form": "nasdsl.passes.search_form:SearchForm",
        "fold": "nasdsl.passes.fold:Fold",
        "simplify": "nasdsl.passes.simplify:Simplify",
        "share": "nasdsl.passes.share:Share",
        "fan": "nasdsl.passes.fan:Fan",
        "normalise": "nasdsl.passes.normalise:Normalise",
        "accumulate": "nasdsl.passes.accumulate:Accumulate",
        "specialise": "nasdsl.passes.specialise:Specialise",
        "retrain_form": "nasdsl.passes.retrain_form:RetrainForm",
    },
    group="nasdsl.passes",
    verb="passes",
)

__all__ = ["PASSES", "Pass"]
