"""Amendments (`space x from "y.nas" { ... }`) and the standard library.

Takes a parsed space, returns one whose items are all there: those of the file it
amends, replaced or added to, and the operations of the library that it names.
Invariant: reads nothing but `.nas` files; every item keeps the place it was
written at; a circle of amendments is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from nasdsl.diagnostics import Diagnostics, Label, Source, Span, did_you_mean
from nasdsl.ops import PRIMITIVES
from nasdsl.resources import library_path, spaces_folder
from nasdsl.space.names import CONSTANTS, FUNCTIONS, WORDS
from nasdsl.syntax import ast
from nasdsl.syntax.parse import parse, read
from nasdsl.syntax.print import to_text

MAX_BASES = 20

_NAMED = (ast.Param, ast.Bind, ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef)


def amended(space: ast.Space, source: Source, diagnostics: Diagnostics) -> ast.Space | None:
    """The space with the items of the file it amends. None after an error in reading that file (NAS110)."""
    if space.base is None:
        extended = _extended(space.items, (), diagnostics)
        return attrs.evolve(space, items=extended)
    return _amended(space, source, diagnostics, ())


def _amended(
    space: ast.Space, source: Source, diagnostics: Diagnostics, trail: tuple[str, ...]
) -> ast.Space | None:
    if space.base is None:
        return space
    path = _base_path(space.base, source, diagnostics)
    if path is None:
        return None
    if str(path) in trail or len(trail) >= MAX_BASES:
        _wrong(diagnostics, space.base.span, "files amend each other in a circle", "amended again here")
        return None
    problems = Diagnostics()
    text = read(path, problems)
    if text is None:
        _wrong(diagnostics, space.base.span, problems.items[0].message, "named here")
        return None
    shown = Source(str(path) if path.parent != spaces_folder() else path.name, text.text)
    file = parse(shown, diagnostics)
    if file is None or not file.spaces or diagnostics.errors:
        return None
    base = _amended(file.spaces[0], Source(str(path), text.text), diagnostics, (*trail, str(path)))
    if base is None:
        return None
    return attrs.evolve(space, items=_extended(base.items, space.items, diagnostics))


def _base_path(base: ast.String, source: Source, diagnostics: Diagnostics) -> Path | None:
    """The file that is amended: beside the amending one, else a shipped space."""
    if not base.value.endswith(".nas"):
        _wrong(diagnostics, base.span, f"`{base.value}` is not a .nas file", "named here")
        return None
    try:
        beside = (Path(source.name).parent / base.value).resolve()
        if beside.is_file():
            return beside
    except (OSError, ValueError):
        pass
    shipped = spaces_folder() / Path(base.value).name
    if Path(base.value).name == base.value and shipped.is_file():
        return shipped
    known = [p.name for p in spaces_folder().glob("*.nas")]
    hint = did_you_mean(base.value, known)
    _wrong(diagnostics, base.span, f"there is no file `{base.value}`{hint}", "looked for beside this file")
    return None


def _wrong(diagnostics: Diagnostics, span: Span, message: str, label: str) -> None:
    diagnostics.error(
        "NAS110",
        f"the space to amend cannot be read: {message}",
        span,
        label,
        help='name a file beside this one, or a shipped space: `space mine from "darts.nas" { ... }`',
    )


def _key(item: ast.Item) -> object:
    """Items of the same key replace each other."""
    if isinstance(item, _NAMED):
        return item.name.text
    if isinstance(item, ast.Limit):
        table = item.table.value if item.table is not None else None
        return ("limit", item.measure.text, table, item.relation[0])
    return type(item)


def _extended(
    base: tuple[ast.Item, ...], own: tuple[ast.Item, ...], diagnostics: Diagnostics
) -> tuple[ast.Item, ...]:
    """The items of `base` with those of `own` in place of, after, or added to them."""
    items = list(base)
    if not own:
        own, items = base, []
    before = {_key(item): index for index, item in enumerate(items)}
    appended: list[ast.Item] = []
    for item in own:
        if isinstance(item, ast.SetExtend):
            _extend(item, items, appended, diagnostics)
        elif _key(item) in before and not isinstance(item, (ast.UsePython, ast.Within)):
            items[before[_key(item)]] = item
        else:
            appended.append(item)
    return (*items, *appended)


def _extend(
    item: ast.SetExtend, items: list[ast.Item], appended: list[ast.Item], diagnostics: Diagnostics
) -> None:
    for group in (items, appended):
        for index, known in enumerate(group):
            if isinstance(known, ast.SetDef) and known.name.text == item.name.text:
                group[index] = attrs.evolve(known, options=(*known.options, *item.options))
                return
    sets = {i.name.text: i for i in (*items, *appended) if isinstance(i, ast.SetDef)}
    other = {i.name.text: i for i in (*items, *appended) if isinstance(i, _NAMED)}
    known_as = other.get(item.name.text)
    diagnostics.error(
        "NAS101",
        f"there is no set `{item.name}` to add to{did_you_mean(item.name.text, sets)}",
        item.name.span,
        "not known" if known_as is None else "this is not a set",
        secondary=(Label(known_as.name.span, "defined here"),) if known_as is not None else (),
    )


# --- the standard library ----------------------------------------------------


@lru_cache(maxsize=1)
def library() -> Mapping[str, ast.OpDef]:
    """The operations of the standard library, by name."""
    diagnostics = Diagnostics()
    path = library_path()
    file = parse(Source(f"library/{path.name}", path.read_text("utf-8")), diagnostics)
    found = file.spaces[0].items if file is not None and file.spaces else ()
    return {item.name.text: item for item in found if isinstance(item, ast.OpDef)}


def with_library(space: ast.Space) -> ast.Space:
    """The space with those operations of the library that it names and does not define."""
    defined = {i.name.text for i in space.items if isinstance(i, _NAMED)}
    language = {*PRIMITIVES, *FUNCTIONS, *CONSTANTS, *WORDS}
    wanted = {n for item in space.items for n in _names(item)} - defined - language
    added: dict[str, ast.Item] = {}
    while wanted:
        name = wanted.pop()
        if name in added or name not in library():
            continue
        added[name] = library()[name]
        wanted |= set(_names(library()[name])) - defined - language
    return attrs.evolve(space, items=(*space.items, *(added[n] for n in sorted(added)))) if added else space


def _names(node: Any) -> Iterator[str]:
    """Every name that a piece of syntax mentions as an expression."""
    if isinstance(node, ast.Name):
        yield node.text
    elif isinstance(node, tuple):
        for part in node:
            yield from _names(part)
    elif attrs.has(type(node)) and not isinstance(node, (ast.Ident, Span)):
        for field in attrs.fields(type(node)):
            if field.name not in ("span", "operator_span"):
                yield from _names(getattr(node, field.name))


def flattened(space: ast.Space) -> str:
    """The text of a space that amends nothing: what a generated directory keeps."""
    borrowed = {id(item) for item in library().values()}
    own = tuple(i for i in space.items if id(i) not in borrowed)
    return to_text(ast.File((attrs.evolve(space, base=None, items=own),), span=space.span))
