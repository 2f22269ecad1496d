"""The compiled directory that a run belongs to.

Takes the folder of a run, returns its program. Invariant: the program is the one that the run searched with.
"""

from __future__ import annotations

from pathlib import Path

from nasdsl.api import Program
from nasdsl.codegen.lock import directory_of
from nasdsl.errors import UserError


def program_of(run: Path, allow_python: bool = False) -> Program:
    """The program of a run. Raises UserError (NAS005 for a run that lies in no compiled directory, NAS607)."""
    from nasdsl.ranking.searched import Options, open_run

    home = directory_of(run)
    if home is None:
        raise UserError.plain(
            "NAS005",
            f"{run} lies in no directory that `nasdsl compile` wrote",
            help="move the run under `runs` of its directory",
        )
    return open_run(home, run.resolve(), Options(), allow_python).program


__all__ = ["program_of"]
