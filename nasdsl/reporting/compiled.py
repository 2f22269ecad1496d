"""The compiled directory that a run was made in.

Takes the folder of a run and what it says of itself, returns a `Compiled`. Invariant: a directory that is not the
one that the run was made in, or is no longer, is none; nothing in it is run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nasdsl.codegen.lock import LOCK, Lock, read_lock
from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.errors import UserError
from nasdsl.reporting.reading import Record, digest, word
from nasdsl.syntax import ast
from nasdsl.syntax.parse import parse

_LACKS = "so that there is no picture, no cost and no list of rewrites; --compiled DIR names it."


@attrs.frozen
class Compiled:
    """The directory around a run.

    Attributes:
        config: tables of settings; empty where config.toml cannot be read.
        config_digest: sha256 of that file, "" where it cannot be read.
        rewrites: the text of rewrites.md, "" where there is none.
        python: modules that the space takes operations from.
    """

    folder: Path
    lock: Lock
    config: Mapping[str, Record]
    config_digest: str
    rewrites: str
    python: tuple[str, ...]


def compiled_of(
    folder: Path, named: str | Path | None, lock: Record | None, found: Record | None, problems: list[str]
) -> Compiled | None:
    """The directory of a run; None, and a problem, where it is not there or another one.

    Args:
        folder: of the run, without links.
        named: the directory, where it is not the one around the run.
        lock: of the run.
        found: the architecture that the run found.

    Raises:
        UserError: NAS609 where `named` is no compiled directory.
    """
    if named is not None and not _is_compiled(Path(named)):
        raise UserError.plain(
            "NAS609",
            f"{named} is not a directory that `nasdsl compile` wrote: it lacks space.nas or nasdsl.lock",
            help="name the directory whose search.py made the run",
        )
    home = folder.parent.parent if named is None else Path(named).resolve()
    if not _is_compiled(home):
        problems.append(f"The compiled directory of the run is not around it, {_LACKS}")
        return None
    try:
        of = read_lock(home)
    except UserError as error:
        why = error.diagnostics[0].message.rpartition(" cannot be used: ")[2]
        problems.append(f"{LOCK} of the directory cannot be used ({why}): `nasdsl compile` writes it anew.")
        return None
    if other := _other(home, of, (lock or {}).get("identity", {}), found or {}):
        problems.append(
            f"The directory {'around the run' if named is None else home.name} is not the one that the run was made "
            f"in, or was compiled anew since (another {other}), {_LACKS}"
        )
        return None
    config, raw = _config(home, problems)
    modules = _modules(_text(home / "space.nas")) or tuple(of.python)
    return Compiled(home, of, config, raw, _text(home / "rewrites.md"), modules)


def _is_compiled(folder: Path) -> bool:
    return (folder / "space.nas").is_file() and (folder / LOCK).is_file()


def _other(home: Path, lock: Lock, identity: Mapping[str, Any], found: Record) -> str:
    """What of the directory is not as the run says that it was, "" for nothing."""
    now = {"space": lock.fingerprint, "method": lock.method}
    other = [name for name, value in now.items() if identity.get(name, value) != value]
    if found.get("fingerprint", lock.fingerprint) != lock.fingerprint:
        other.append("space")
    if identity and identity.get("subspace", "") != lock.subspace:
        other.append("sub-space")
    supernet = (digest(home / "supernet.py") or "")[:16]
    if identity.get("supernet", supernet) != supernet:
        other.append("supernet.py")
    return " and ".join(dict.fromkeys(other))


def _config(home: Path, problems: list[str]) -> tuple[Mapping[str, Record], str]:
    """The tables of config.toml and its digest."""
    try:
        config = tomllib.loads((home / "config.toml").read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        problems.append(
            f"config.toml of the directory cannot be read ({word(error)}); settings are left out."
        )
        return {}, ""
    tables = {k: v for k, v in config.items() if isinstance(v, dict)}
    return tables, digest(home / "config.toml") or ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _modules(text: str) -> tuple[str, ...]:
    """The modules that a space takes operations from, read and not imported."""
    file = parse(Source("space.nas", text), Diagnostics())
    items = [] if file is None else [item for space in file.spaces for item in space.items]
    return tuple(item.module.value for item in items if isinstance(item, ast.UsePython))


__all__ = ["Compiled", "compiled_of"]
