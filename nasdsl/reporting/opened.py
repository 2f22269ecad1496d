"""What a run found, looked at through its space: costs and a picture.

Takes a run, returns what could be learnt and why the rest could not. Invariant: nothing here imports torch; a
space with operations from Python is opened only where that is allowed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from markupsafe import Markup

from nasdsl.drawing.canvas import Canvas
from nasdsl.drawing.colours import NAMES
from nasdsl.errors import UserError
from nasdsl.reporting.folder import Compiled, Run

if TYPE_CHECKING:
    from nasdsl.api import Space, Stats
    from nasdsl.space.architecture import Architecture


@attrs.define(slots=False)
class Opened:
    """A run with its space.

    Attributes:
        spaces: those that were opened before, by directory; the problem where one cannot be.
        problem: why the space or the architecture is not to be had, "" where it is.
    """

    run: Run
    allow_python: bool = False
    spaces: dict[Path, Space | str] = attrs.field(factory=dict, repr=False)
    problem: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is missing or damaged, and what could not be opened."""
        _ = self.stats
        return (*self.run.problems, *([self.problem] if self.problem else []))

    @cached_property
    def space(self) -> Space | None:
        """The space of the run, at the parameters it was compiled with."""
        compiled = self.run.compiled
        if compiled is None:
            return None
        if compiled.folder not in self.spaces:
            self.spaces[compiled.folder] = self._space(compiled)
        found = self.spaces[compiled.folder]
        if isinstance(found, str):
            self.problem = found
            return None
        return found

    def _space(self, compiled: Compiled) -> Space | str:
        from nasdsl.opening import space_of

        try:
            found = space_of(compiled.folder, compiled.lock, self.allow_python)
        except UserError as error:
            return f"The space cannot be opened: {error.diagnostics[0].message}."
        if found.fingerprint != compiled.lock.fingerprint:
            return "space.nas was changed since it was compiled: costs and picture are not known."
        return found

    @cached_property
    def architecture(self) -> Architecture | None:
        """What was found, checked against the space."""
        if self.run.choices is None or self.space is None:
            return None
        try:
            return self.space.architecture(self.run.choices)
        except UserError as error:
            self.problem = f"The architecture is not one of the space: {error.diagnostics[0].message}."
            return None

    @cached_property
    def stats(self) -> Stats | None:
        """What the architecture costs."""
        if self.space is None or self.architecture is None:
            return None
        return self.space.stats(self.architecture)

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colour of every operation, as in the picture."""
        from nasdsl.drawing.model import Reader
        from nasdsl.drawing.picture import colours_of

        return {} if self.space is None else colours_of(Reader(self.space.checked, None).options())

    def picture(self, ids: str) -> Markup | None:
        """The architecture, drawn anew, or as the run drew it; None where there is neither.

        Args:
            ids: begins the names of its parts, which must differ on one page.
        """
        from nasdsl.drawing import draw_architecture

        if self.space is not None and self.architecture is not None:
            svg = draw_architecture(self.space.checked, self.architecture.choices, Canvas(NAMES, ids))
            return Markup(svg)
        try:
            drawn = (self.run.folder / "architecture.svg").read_bytes()
        except OSError:
            return None
        if self.run.architecture is None or not drawn.strip():
            return None
        # Whatever the file holds, nothing in an image runs.
        data = b64encode(drawn).decode()
        words = escape(f"architecture of {self.run.name}", quote=True)
        return Markup(f'<img class="drawn" alt="{words}" src="data:image/svg+xml;base64,{data}">')


def opened_all(runs: Sequence[Run], allow_python: bool = False) -> list[Opened]:
    """Runs with their spaces, of which each directory's is opened once."""
    spaces: dict[Path, Space | str] = {}
    return [Opened(run, allow_python, spaces) for run in runs]


__all__ = ["Opened", "opened_all"]
