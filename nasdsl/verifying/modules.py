"""Modules that operations of a space are from, against the lock of the directory.

Takes a folder and its lock, adds what differs to a report. Invariant: files are found as the scripts would find them
and read as bytes; nothing is imported.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from nasdsl.codegen.lock import Lock
from nasdsl.verifying.findings import Report


def compare_modules(folder: Path, lock: Lock, report: Report) -> list[str]:
    """Compares every module that the lock names; returns those that are others now."""
    changed, whole = [], []
    for name, digest in sorted(lock.python.items()):
        now = _digest(name, folder)
        if now is None or not digest:
            report.unknown.append(
                f"the module {name}, whose operations the space uses: its file is not found here"
            )
        elif now == digest:
            whole.append(name)
        else:
            changed.append(name)
            report.add(
                name,
                "is another module than the one whose operations were compiled: what supernet.py computes with them "
                "may be something else",
                matters=True,
                cure="take it from a copy, or compile the directory anew",
            )
    if whole:
        report.good.append(f"operations in Python: {', '.join(whole)} as when the directory was compiled")
    return changed


def _digest(name: str, folder: Path) -> str | None:
    try:
        spec = _spec(name, [str(folder.resolve()), *sys.path])
        origin = spec.origin if spec is not None and spec.has_location else None
        return sha256(Path(origin).read_bytes()).hexdigest() if origin else None
    except (OSError, ImportError, ValueError, KeyError, AttributeError):
        return None


def _spec(name: str, path: list[str]) -> ModuleSpec | None:
    """Where a module lies, found part by part: `find_spec` would import the packages around it."""
    parts = name.split(".")
    found: ModuleSpec | None = None
    for count, part in enumerate(parts, 1):
        if not part.isidentifier():
            return None
        found = PathFinder.find_spec(".".join(parts[:count]), path)
        if found is None:
            return None
        path = list(found.submodule_search_locations or ())
    return found


__all__ = ["compare_modules"]
