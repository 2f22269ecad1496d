"""Reads the imports of a package from its syntax trees, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class Import:
    """One import: who, whom, where, and whether it happens when the module is loaded."""

    importer: str
    imported: str
    line: int
    on_load: bool


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its full name."""
    found: dict[str, Path] = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(package: Path) -> list[Import]:
    """Every import in a package, those inside functions and under TYPE_CHECKING too."""
    modules = modules_of(package)
    found: list[Import] = []
    for name, path in modules.items():
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for node, on_load in _walk(tree.body, True):
            targets = list(_targets(node, set(modules)))
            found.extend(Import(name, target, node.lineno, on_load) for target in targets)
    return found


def _walk(body: list[ast.stmt], on_load: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement, on_load
            continue
        inside = on_load and not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _walk(statement.body, False)
            yield from _walk(statement.orelse, on_load)
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _walk(getattr(statement, field, []), inside)
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _walk(part.body, inside)


def _targets(node: ast.Import | ast.ImportFrom, modules: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in modules else base


def loops(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import one another in a circle (strongly connected, more than one)."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(start: str, graph: dict[str, set[str]], out: list[str]) -> None:
        stack = [(start, iter(sorted(graph.get(start, ()))))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n not in seen), None)
            if following is None:
                out.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(sorted(graph.get(following, ())))))

    for node in sorted(edges):
        if node not in seen:
            visit(node, edges, order)
    back: dict[str, set[str]] = {}
    for source, targets in edges.items():
        for target in targets:
            back.setdefault(target, set()).add(source)
    seen.clear()
    groups = []
    for node in reversed(order):
        if node not in seen:
            group: list[str] = []
            visit(node, back, group)
            groups.append(sorted(group))
    return [g for g in groups if len(g) > 1]
