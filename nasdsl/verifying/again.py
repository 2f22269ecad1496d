"""A compiled directory as it would be compiled today.

Takes a folder and its lock, returns the texts of every file and what differs on the way to them. Invariant: what
decides is the lock's, see `compiled_again`; what may not be looked at is not known, which is no finding.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from nasdsl.api import Program
from nasdsl.codegen.lock import Lock, digest_of
from nasdsl.errors import UserError
from nasdsl.ir.text import print_module
from nasdsl.opening import compiled_again
from nasdsl.verifying.findings import Report

ANEW = "take it from a copy of the directory, or compile the directory anew"


@attrs.frozen
class Again:
    """The directory as it would be compiled today.

    Attributes:
        fingerprint: of the space that lies there.
        texts: of every file.
        unlike: stages whose intermediate form is another one than in the lock.
    """

    fingerprint: str
    texts: dict[str, str]
    unlike: list[str]


def again_of(folder: Path, lock: Lock, allow_python: bool, report: Report) -> Again | None:
    """The directory compiled again; None, which is said, where that cannot be done."""
    try:
        program = compiled_again(folder, lock, allow_python)
        return Again(program.space.fingerprint, program.files(), unlike(program, lock))
    except UserError as error:
        problem = error.diagnostics[0]
        if not allow_python and all(d.code == "NAS111" for d in error.diagnostics):
            report.unknown.append(
                "whether the directory is what would be compiled today: the space names operations in Python, "
                "which --allow-python imports"
            )
            return None
        report.add(
            "space.nas",
            f"cannot be compiled again ({problem.code}: {problem.message}): "
            "whether supernet.py is still what it says is not known, and search.py will not run",
            matters=True,
            cure=problem.help or ANEW,
        )
        return None


def unlike(program: Program, lock: Lock) -> list[str]:
    """Stages of the compilation whose intermediate form is another one than the lock says."""
    known: dict[int, str] = {}
    now = [
        (name, digest_of(print_module(module, places=False, known=known)))
        for name, module in program.compilation.stages
    ]
    if [name for name, _ in now] != [name for name, _ in lock.ir]:
        return ["the list of passes"]
    return [name for (name, digest), (_, was) in zip(now, lock.ir, strict=True) if digest != was]


__all__ = ["ANEW", "Again", "again_of", "unlike"]
