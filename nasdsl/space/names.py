"""What names mean: the definitions of a space and how each may be called.

Takes definitions, returns signatures. Invariant: a call that `check_arguments`
accepts binds every formal that has no default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

import attrs

from nasdsl.diagnostics import Diagnostics, Label, Span, did_you_mean
from nasdsl.ops import PRIMITIVES, Primitive
from nasdsl.syntax import ast

Definition = Union[ast.Param, ast.Bind, ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef]

FUNCTIONS: Mapping[str, int | None] = {"int": 1, "round8": 1, "min": None, "max": None}
"""Functions over numbers, with their number of arguments (None: any)."""

CONSTANTS = frozenset({"same", "true", "false"})
WORDS = frozenset({"cin"})
LANGUAGE = frozenset(name for name, p in PRIMITIVES.items() if not p.internal and not p.opaque)


@attrs.frozen
class Names:
    """The definitions of one space."""

    space: ast.Space
    definitions: Mapping[str, Definition]
    python: Mapping[str, Primitive] = attrs.field(factory=dict)

    def primitive(self, name: str) -> Primitive | None:
        """The primitive of the language, or operation from Python, that a name means."""
        if name in self.python:
            return self.python[name]
        return PRIMITIVES[name] if name in LANGUAGE else None

    def cell(self, name: str) -> tuple[ast.CellDef, tuple[ast.Argument, ...]] | None:
        """The definition behind a cell or a chain of aliases, with the aliases' arguments, outermost first."""
        arguments: list[ast.Argument] = []
        seen = set()
        found = self.definitions.get(name)
        while isinstance(found, ast.CellAlias) and found.name.text not in seen:
            seen.add(found.name.text)
            arguments.extend(found.arguments)
            found = self.definitions.get(found.base.text)
        return (found, tuple(arguments)) if isinstance(found, ast.CellDef) else None

    def items(self, kind: type[Any]) -> list[Any]:
        return [i for i in self.space.items if isinstance(i, kind)]


@attrs.frozen
class Signature:
    """What a call may say: positional names, keyword names, and which of them must be given."""

    what: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    required: tuple[str, ...]


def signature(names: Names, name: str) -> Signature | None:
    """The signature of an operation, set or cell; None for anything else."""
    if name in names.definitions:
        found = names.definitions[name]
        if isinstance(found, (ast.OpDef, ast.SetDef)):
            own = tuple(f.name.text for f in found.formals.own)
            ambient = tuple(f.name.text for f in found.formals.ambient)
            needed = tuple(f.name.text for f in found.formals.own if f.default is None)
            kind = "operation" if isinstance(found, ast.OpDef) else "set"
            return Signature(f"{kind} `{name}`", own, own + ambient, needed)
        if isinstance(found, (ast.CellDef, ast.CellAlias)):
            cell = names.cell(name)
            ambient = tuple(f.name.text for f in cell[0].formals.ambient) if cell else ()
            return Signature(f"cell `{name}`", (), ambient, ())
        return None
    primitive = names.primitive(name)
    if primitive is not None:
        every = tuple(p.name for p in primitive.parameters)
        needed = tuple(p.name for p in primitive.parameters if p.required)
        return Signature(f"operation `{name}`", every, every, needed)
    return None


def check_arguments(
    known: Signature, arguments: Iterable[ast.Argument], place: Span, diagnostics: Diagnostics
) -> bool:
    """Reports NAS102 for every argument that does not fit; returns whether all do."""
    given: dict[str, Span] = {}
    position = 0
    good = True

    def report(message: str, span: Span, label: str, **more: Any) -> None:
        nonlocal good
        good = False
        diagnostics.error("NAS102", message, span, label, **more)

    for argument in arguments:
        if argument.name is None:
            if position >= len(known.positional):
                takes = f"takes {len(known.positional)} unnamed" if known.positional else "takes no unnamed"
                names = f"; it has {_listed(known.keywords)}" if known.keywords else ""
                report(
                    f"{known.what} {takes} argument{'s' if len(known.positional) != 1 else ''}{names}",
                    argument.span,
                    "one too many",
                )
                break
            name = known.positional[position]
            position += 1
        else:
            name = argument.name.text
            if name not in known.keywords:
                suggestion = did_you_mean(name, known.keywords)
                report(
                    f"{known.what} has no argument `{name}`{suggestion}", argument.name.span, "not known here"
                )
                continue
        if name in given:
            report(
                f"`{name}` of {known.what} is given twice",
                argument.span,
                "again here",
                secondary=(Label(given[name], "first given here"),),
            )
        given[name] = argument.span
    missing = [n for n in known.required if n not in given]
    if missing:
        report(f"{known.what} needs {_listed(missing)}", place, "not given")
    return good


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
