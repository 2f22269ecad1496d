"""Pictures of spaces and architectures, as self-contained SVG text."""

from __future__ import annotations

from nasdsl.drawing.picture import draw_architecture, draw_space

__all__ = ["draw_architecture", "draw_space"]
