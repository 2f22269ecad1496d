"""What lies in a compiled directory that `nasdsl compile` did not write.

Takes a folder and what is known of it, adds findings. Invariant: what a script would import, or Python would run in
the place of a file that was compared, matters; nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path

from nasdsl.codegen.lock import LOCK, Lock
from nasdsl.records import toml_of
from nasdsl.verifying.bytecode import foreign_bytecode
from nasdsl.verifying.findings import Report
from nasdsl.verifying.record import names_code

_BESIDE = frozenset({LOCK, "runs", "__pycache__"})
_CURE = "look at what it is and take it away"


def say_strangers(
    folder: Path, lock: Lock, written: frozenset[str], found: Mapping[str, str | None], report: Report
) -> None:
    """Every file that is none of the directory's own.

    Args:
        written: names of the directory's own files.
        found: the texts of those that lie there.
    """
    locked = {name.partition(".")[0] for name in lock.python}
    readers = dict(_readers(found))
    for path in sorted(folder.iterdir()):
        if path.name in written or path.name in _BESIDE:
            continue
        module = _module(path)
        if module in locked:
            continue  # compared as what it is
        if module is not None and _known(module):
            report.add(
                path.name,
                f"was not written by `nasdsl compile`, and Python would import it in the place of `{module}`",
                matters=True,
                cure=_CURE,
            )
        elif (reader := readers.get(module or path.name)) is not None:
            what = f"was not written by `nasdsl compile`, and {reader}"
            report.add(path.name, what, matters=True, cure=_CURE)
        else:
            what = "was not written by `nasdsl compile`; no script reads it by itself"
            report.add(path.name, what, matters=False)


def say_bytecode(folder: Path, report: Report) -> None:
    """Bytecode that Python would run instead of a source in the folder."""
    for one in foreign_bytecode(folder):
        if one.known:
            what = f"would be run in the place of {one.module}.py: {one.why}"
            report.add(one.name, what, matters=True, cure="remove __pycache__: Python makes it anew")
        else:
            report.unknown.append(f"{one.name}: {one.why}")


def say_code(config: str | None, report: Report) -> None:
    """Code that the settings name."""
    name = _data(config)
    if names_code(name):
        report.add(
            "config.toml",
            f"names code as its data, `{name[:80]}`: search.py and retrain.py import and call it",
            matters=True,
            cure="look at what it is before you run them; no lock knows it",
        )


def _data(config: str | None) -> str:
    """The data that the settings name, "" for none."""
    try:
        table = toml_of(config or "").get("data")
    except ValueError:
        return ""
    name = table.get("name") if isinstance(table, dict) else ""
    return name if isinstance(name, str) else ""


def _readers(found: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Top-level modules that the programs and the settings name, with who reads them."""
    for name, text in found.items():
        if not name.endswith(".py"):
            continue
        try:
            nodes = list(ast.walk(ast.parse(text or "")))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in nodes:
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in named:
                yield module.partition(".")[0], f"{name} imports it"
    data = _data(found.get("config.toml"))
    if names_code(data):
        yield data.partition(":")[0].partition(".")[0], "config.toml names it as data: the scripts call it"


def _module(path: Path) -> str | None:
    """The name under which Python would import a path."""
    if path.is_dir():
        return path.name if any((path / f"__init__{end}").exists() for end in all_suffixes()) else None
    end = next((end for end in all_suffixes() if path.name.endswith(end)), None)
    return path.name.removesuffix(end) if end else None


def _known(module: str) -> bool:
    """Whether there is a module of that name already."""
    if module == "supernet":
        return True
    try:
        return module.isidentifier() and find_spec(module) is not None
    except (ImportError, ValueError):
        return False


__all__ = ["say_bytecode", "say_code", "say_strangers"]
