"""The supernet beside a script, and a word if it is not the one that was compiled.

Takes the folder of a script, returns its `Supernet`. Invariant: what is executed is the text of `supernet.py` that
was looked at, never bytecode from a `__pycache__`; a file that cannot be used is one message with a cure; one that was
changed since it was compiled is used as it is, and said.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from nasdsl.codegen.lock import read_lock
from nasdsl.errors import UserError

_UNUSABLE = (
    *(OSError, ImportError, SyntaxError, ValueError, AttributeError, NameError, TypeError),
    *(RecursionError, MemoryError),
)


def supernet_of(home: Path) -> Any:
    """The class `Supernet` of `supernet.py`, which is executed.

    Raises:
        SystemExit: with code 1, after saying why, where it has none.
    """
    path = home / "supernet.py"
    verify = f"`nasdsl verify {home}` says what was changed"
    try:
        source = path.read_bytes()
        if changed := _changed(home, source):
            print(f"note: {changed}; {verify}", file=sys.stderr)
        return _executed(path, source)
    except _UNUSABLE as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        said = (str(error).splitlines() or ["no word"])[0]
        print(
            f"error: {path}{line} cannot be used ({type(error).__name__}: {said}): {verify}",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _executed(path: Path, source: bytes) -> Any:
    spec = spec_from_file_location("supernet", path)
    if spec is None:
        raise ImportError("it is no module")
    module = module_from_spec(spec)
    code = compile(source, str(path), "exec", dont_inherit=True)
    sys.modules["supernet"] = module
    exec(code, module.__dict__)  # noqa: S102 - the program that the user runs, from the bytes that were compared
    return module.Supernet


def _changed(home: Path, supernet: bytes) -> str:
    """What of the supernet and its space is not as it was compiled, in words; "" for nothing."""
    try:
        files = read_lock(home).files
    except UserError as error:
        return error.diagnostics[0].message
    found = []
    for name in ("space.nas", "supernet.py", "subspace.json"):
        try:
            data = supernet if name == "supernet.py" else (home / name).read_bytes() if name in files else b""
            if name in files and sha256(data).hexdigest() != files[name]:
                found.append(name)
        except OSError:
            found.append(name)
    return f"{' and '.join(found)} changed since `nasdsl compile` wrote it" if found else ""


__all__ = ["supernet_of"]
