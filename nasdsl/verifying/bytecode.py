"""Bytecode that Python would run in the place of a source.

Takes a folder, returns what is wrong with its `__pycache__`. Invariant: bytecode is never executed; it is taken
apart in a process of its own, since `marshal` may crash on what was made to crash it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import attrs

_NAME = re.compile(r"(?P<module>.+)\.(?P<tag>[^.]+)(?:\.opt-(?P<level>[12]))?\.pyc")
_HEAD = 16
"""Bytes before the code: the magic number, flags, then time and size of the source, or its hash."""
_COMPARE = """
import marshal, sys

def parts(code):
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    table = getattr(code, "co_exceptiontable", b"")
    return (*names, *counts, code.co_code, table, [constant(c) for c in code.co_consts])

def constant(value):
    if hasattr(value, "co_code"):
        return parts(value)
    if isinstance(value, (tuple, frozenset)):
        inner = [constant(v) for v in value]
        return type(value).__name__, inner if isinstance(value, tuple) else sorted(inner, key=repr)
    return type(value).__name__, repr(value)

level, length = int(sys.argv[1]), int(sys.argv[2])
data = sys.stdin.buffer.read()
mine = compile(data[length:], "x", "exec", dont_inherit=True, optimize=level)
sys.exit(0 if parts(marshal.loads(data[:length])) == parts(mine) else 1)
"""


@attrs.frozen
class Foreign:
    """Bytecode that is not known to be its source's.

    Attributes:
        name: the file, from the folder.
        module: in whose place it is run.
        known: whether it is known to be something else; else it is of another Python and not looked at.
        why: in words.
    """

    name: str
    module: str
    known: bool
    why: str


def foreign_bytecode(folder: Path) -> list[Foreign]:
    """Bytecode in the folder's `__pycache__` that would be run and is not that of the source beside it."""
    found = []
    for path in sorted((folder / "__pycache__").glob("*.pyc")):
        match = _NAME.fullmatch(path.name)
        source = folder / f"{match['module']}.py" if match else path
        if match is None or not source.is_file():
            continue  # Python takes bytecode from there only beside its source
        name = f"__pycache__/{path.name}"
        try:
            known, why = _judged(path.read_bytes(), source, match["tag"], int(match["level"] or 0))
        except OSError as error:
            known, why = True, f"it cannot be read ({error.strerror})"
        if why:
            found.append(Foreign(name, match["module"], known, why))
    return found


def _judged(data: bytes, source: Path, tag: str, level: int) -> tuple[bool, str]:
    """Whether bytecode is known to be something else, and why; "" for what is its source's, or not used."""
    status = source.stat()
    flags, time, size = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12))
    if flags:
        return (
            True,
            "it is of a kind that Python does not compare with its source, and that it does not write",
        )
    if (time, size) != (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF):
        return False, ""  # Python compiles the source anew
    if tag != sys.implementation.cache_tag or data[:4] != importlib.util.MAGIC_NUMBER:
        return False, "it is of another Python, whose bytecode cannot be compared here"
    code = data[_HEAD:]
    words = [sys.executable, "-I", "-S", "-c", _COMPARE, str(level), str(len(code))]
    done = subprocess.run(words, input=code + source.read_bytes(), capture_output=True, check=False)
    return True, "" if done.returncode == 0 else "it is not what its source is compiled to"


__all__ = ["Foreign", "foreign_bytecode"]
