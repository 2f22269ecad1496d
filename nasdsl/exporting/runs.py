"""The compiled directory that a run belongs to.

Takes the folder of a run, returns its program. Invariant: the program is the one that the run searched with.
"""

from __future__ import annotations

from pathlib import Path

from nasdsl.api import Program
from nasdsl.errors import UserError


def directory_of(run: Path) -> Path:
    """The compiled directory of a run: the nearest one above it. Raises UserError (NAS005) for a run elsewhere."""
    for folder in run.resolve().parents:
        if (folder / "search.py").is_file() and (folder / "nasdsl.lock").is_file():
            return folder
    raise UserError.plain(
        "NAS005",
        f"{run} lies in no directory that `nasdsl compile` wrote",
        help="move the run under `runs` of its directory",
    )


def program_of(run: Path, allow_python: bool = False) -> Program:
    """The program of a run. Raises UserError (NAS005, NAS607)."""
    from nasdsl.ranking.searched import Options, open_run

    return open_run(directory_of(run), run.resolve(), Options(), allow_python).program


__all__ = ["directory_of", "program_of"]
