"""Search methods: one a file, one table line each."""

from __future__ import annotations

from nasdsl.methods.base import Method, Setting
from nasdsl.registry import Registry

METHODS: Registry[Method] = Registry(
    kind="method",
    code="NAS501",
    table={"darts": "nasdsl.methods.darts:DARTS", "toponas": "nasdsl.methods.toponas:TOPONAS"},
    group="nasdsl.methods",
    verb="methods",
)

__all__ = ["METHODS", "Method", "Setting"]
