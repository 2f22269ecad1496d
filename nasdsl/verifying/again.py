"""The program of a compiled directory, compiled again from the space that lies there.

Takes a folder and its lock, returns a program. Invariant: what decides is the lock's (parameters, method,
passes, settings); only the space, and files that it or a setting names, are read from the folder. A directory
that nobody touched, compiled again by the same version, comes out the same to the byte.
"""

from __future__ import annotations

from pathlib import Path

from nasdsl.api import Program, Space
from nasdsl.codegen.lock import Lock
from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.errors import UserError
from nasdsl.opening import check
from nasdsl.syntax.parse import read

_TABLE = "latency_table"


def compiled_again(folder: Path, lock: Lock, allow_python: bool = False) -> Program:
    """The program.

    Raises:
        UserError: what lies there cannot be compiled (any more), with every diagnostic.
    """
    space = _space(folder, lock, allow_python)
    settings = dict(lock.settings)
    if settings.get(_TABLE):
        settings[_TABLE] = str(folder / _plain(str(settings[_TABLE])))
    return space.compile(lock.method, passes=lock.edits, settings=settings)


def _space(folder: Path, lock: Lock, allow_python: bool) -> Space:
    path = folder / "space.nas"
    problems = Diagnostics()
    source = read(path, problems)
    if source is None:
        raise UserError(problems.items)
    # Comments of supernet.py name the file that was compiled: under its name they come out the same.
    named = Source(str(folder / _plain(lock.source)), source.text)
    space, diagnostics = check(named, lock.given, allow_python)
    if space is None:
        diagnostics.raise_if_errors()
        raise UserError(diagnostics.items)
    if lock.subspace and space.within_digest != lock.subspace:
        space = space.within(folder / "subspace.json")
    return space


def _plain(name: str) -> str:
    """A name without folders: what a lock names lies in its directory."""
    return name.replace("\\", "/").rpartition("/")[2] or "space.nas"


def unlike(program: Program, lock: Lock) -> list[str]:
    """Stages of the compilation whose intermediate form is another one than the lock says."""
    from nasdsl.codegen.lock import digest_of
    from nasdsl.ir.text import print_module

    known: dict[int, str] = {}
    now = [
        (name, digest_of(print_module(module, places=False, known=known)))
        for name, module in program.compilation.stages
    ]
    if [name for name, _ in now] != [name for name, _ in lock.ir]:
        return ["the list of passes"]
    return [name for (name, digest), (_, was) in zip(now, lock.ir, strict=True) if digest != was]


__all__ = ["compiled_again", "unlike"]
