"""Search methods: one a file, one table line each."""

from __future__ import annotations

from nasdsl.methods.base import Method, Setting
from nasdsl.registry import Registry

METHODS: Registry[Method] = Registry(
    kind="method",
    code="NAS501",
    table={
        "darts": "nasdsl.methods.darts:DARTS",
        "toponas": "nasdsl.methods.toponas:TOPONAS",
        "cbo": "nasdsl.methods.cbo:CBO",
        "pcdarts": "nasdsl.methods.pcdarts:PCDARTS",
        "gdas": "nasdsl.methods.gdas:GDAS",
        "drnas": "nasdsl.methods.drnas:DRNAS",
        "snas": "nasdsl.methods.snas:SNAS",
        "beta": "nasdsl.methods.beta:BETA",
        "spos": "nasdsl.methods.spos:SPOS",
        "fairnas": "nasdsl.methods.fairnas:FAIRNAS",
        "sandwich": "nasdsl.methods.sandwich:SANDWICH",
        "random": "nasdsl.methods.random:RANDOM",
        "evolution": "nasdsl.methods.evolution:EVOLUTION",
        "cream": "nasdsl.methods.cream:CREAM",
        "lissnas": "nasdsl.methods.lissnas:LISSNAS",
    },
    group="nasdsl.methods",
    verb="methods",
)

__all__ = ["METHODS", "Method", "Setting"]
