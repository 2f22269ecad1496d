"""The supernet beside a script, and a word if it is not the one that was compiled.

Takes the folder of a script, returns its `Supernet`. Invariant: a file that cannot be imported is one message
with a cure; one that was changed since it was compiled is used as it is, and said.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from nasdsl.codegen.lock import read_lock
from nasdsl.errors import UserError


def supernet_of(home: Path) -> Any:
    """The class `Supernet` of `supernet.py`, which is executed.

    Raises:
        SystemExit: with code 1, after saying why, where it has none.
    """
    verify = f"`nasdsl verify {home}` says what was changed"
    if changed := _changed(home):
        print(f"note: {changed}; {verify}", file=sys.stderr)
    try:
        return import_module("supernet").Supernet
    except (ImportError, SyntaxError, ValueError, AttributeError, NameError, TypeError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        said = (str(error).splitlines() or ["no word"])[0]
        print(
            f"error: {home / 'supernet.py'}{line} cannot be used ({type(error).__name__}: {said}): {verify}",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _changed(home: Path) -> str:
    """What of the supernet and its space is not as it was compiled, in words; "" for nothing."""
    try:
        files = read_lock(home).files
    except UserError as error:
        return error.diagnostics[0].message
    found = []
    for name in ("space.nas", "supernet.py", "subspace.json"):
        try:
            if name in files and sha256((home / name).read_bytes()).hexdigest() != files[name]:
                found.append(name)
        except OSError:
            found.append(name)
    return f"{' and '.join(found)} changed since `nasdsl compile` wrote it" if found else ""


__all__ = ["supernet_of"]
