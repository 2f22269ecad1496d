"""What can be said about a text that somebody is writing.

Takes a text and a place in it, returns diagnostics, words and places in characters. Invariant: never
raises for anything that a user typed; knows nothing of the protocol; imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from nasdsl.diagnostics import Diagnostic, Diagnostics, Source, Span
from nasdsl.errors import UserError
from nasdsl.identity.encodings import Encodings, restrict
from nasdsl.opening import check
from nasdsl.ops import PRIMITIVES, Primitive
from nasdsl.space.amend import amended, library, with_library
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.names import CONSTANTS, FUNCTIONS, LANGUAGE
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.parse import parse
from nasdsl.syntax.print import to_text

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMED = (ast.Param, ast.Bind, ast.OpDef, ast.CellDef, ast.CellAlias, ast.SetDef)
_KINDS: Mapping[type, str] = {
    ast.Param: "parameter",
    ast.Bind: "name",
    ast.OpDef: "operation",
    ast.CellDef: "cell",
    ast.CellAlias: "cell",
    ast.SetDef: "set",
}
Definition = ast.Param | ast.Bind | ast.OpDef | ast.CellDef | ast.CellAlias | ast.SetDef


@attrs.frozen
class Suggestion:
    """A word that may come next: `kind` is keyword, operation, parameter, cell, set, function or constant."""

    label: str
    kind: str
    detail: str = ""


@attrs.define
class Document:
    """One text, checked once and asked often."""

    source: Source
    problems: tuple[Diagnostic, ...]
    space: CheckedSpace | None
    tree: ast.Space | None

    @property
    def definitions(self) -> dict[str, Definition]:
        """Definitions by name, those of an amended file and of the library included."""
        items = self.tree.items if self.tree is not None else ()
        own = {i.name.text: i for i in items if isinstance(i, _NAMED)}
        return {**library(), **own}

    def word(self, offset: int) -> tuple[str, int, int] | None:
        """The word at an offset, with its ends."""
        for match in _WORD.finditer(self.source.text):
            if match.start() <= offset <= match.end():
                return match.group(), match.start(), match.end()
        return None

    def definition(self, offset: int) -> Span | None:
        """Where the word at an offset is defined: the nearest line, formal or item of that name."""
        found = self.word(offset)
        if found is None:
            return None
        local = [span for name, span in self._locals(offset) if name == found[0]]
        if local:
            return local[-1]
        item = self.definitions.get(found[0])
        return item.name.span if item is not None else None

    def _locals(self, offset: int) -> list[tuple[str, Span]]:
        """Names that the item around an offset binds."""
        for item in self.tree.items if self.tree is not None else ():
            if not (item.span.source is self.source and item.span.start <= offset <= item.span.end):
                continue
            names: list[ast.Ident] = []
            formals = getattr(item, "formals", None)
            if isinstance(formals, ast.Formals):
                names += [f.name for f in (*formals.own, *formals.ambient)]
            if isinstance(item, ast.CellDef):
                names += [b.name for b in item.body]
            if isinstance(item, ast.OpDef):
                names += [w.name for w in item.where]
            return [(n.text, n.span) for n in names]
        return []

    def hover(self, offset: int) -> str | None:
        """What the word at an offset is, as Markdown."""
        found = self.word(offset)
        if found is None:
            return None
        name = found[0]
        if self.tree is not None and name == self.tree.name.text and self.space is not None:
            return self._space()
        item = self.definitions.get(name)
        if item is not None and not any(n == name for n, _ in self._locals(offset)):
            return self._item(name, item)
        if name in LANGUAGE:
            return _primitive(PRIMITIVES[name])
        if name in FUNCTIONS:
            return f"`{name}`: a function over numbers"
        return None

    def _space(self) -> str:
        space = self.space
        if space is None:
            return ""
        lines = [f"**space {space.name}**", space.doc, f"{Encodings(space.table).count():,} encodings"]
        lines.append(f"input `{space.input}`, {space.classes} classes")
        if space.parameters:
            lines.append(", ".join(f"{k} = {v}" for k, v in space.parameters.items()))
        return "\n\n".join(line for line in lines if line)

    def _item(self, name: str, item: Definition) -> str:
        text = f"```nas\n{to_text(item)}\n```"
        lines = [text]
        ambient = getattr(getattr(item, "formals", None), "ambient", ())
        if ambient:
            lines.append("by name from the place of use: " + ", ".join(f"`{f.name}`" for f in ambient))
        if isinstance(item, (ast.CellDef, ast.CellAlias)) and self.space is not None:
            lines += self._cell(name)
        if isinstance(item, ast.Param) and self.space is not None and name in self.space.parameters:
            lines.append(f"here {self.space.parameters[name]}")
        if name in library() and library()[name] is item:
            lines.append("from the standard library")
        return "\n\n".join(lines)

    def _cell(self, name: str) -> list[str]:
        """Shapes of the uses of a cell, and the number of its encodings."""
        space = self.space
        if space is None:
            return []
        found = []
        shapes: dict[str, int] = {}
        for use in space.module.uses():
            if use.owner.split(".")[-1] == name:
                reads = ", ".join(" x ".join(_sizes(n.type, use.sizes)) for n in use.graph.inputs)
                gives = " x ".join(_sizes(use.graph.by_id[use.graph.result].type, use.sizes))
                text = f"{reads} -> {gives}"
                shapes[text] = shapes.get(text, 0) + 1
        for text, times in shapes.items():
            found.append(f"- {text}" + (f" ({times} uses)" if times > 1 else ""))
        count = Encodings(restrict(space.table, name)).count()
        return [*(["\n".join(found)] if found else []), f"{count:,} encodings"]

    def suggestions(self, offset: int) -> list[Suggestion]:
        """Words that may stand at an offset."""
        call = self._call_before(offset)
        found = [Suggestion(f"{p}=", "parameter", f"of {call}") for p in self._formals(call)] if call else []
        found += [Suggestion(n, "parameter", "here") for n, _ in self._locals(offset)]
        for name, item in self.definitions.items():
            detail = "library" if name in library() and library()[name] is item else _KINDS[type(item)]
            found.append(Suggestion(name, _KINDS[type(item)], detail))
        found += [Suggestion(n, "operation", PRIMITIVES[n].summary) for n in sorted(LANGUAGE)]
        found += [Suggestion(n, "function", "over numbers") for n in FUNCTIONS]
        found += [Suggestion(n, "constant") for n in sorted(CONSTANTS)]
        found += [Suggestion(n, "keyword") for n in sorted(grammar.words().keywords)]
        seen: set[str] = set()
        return [s for s in found if not (s.label in seen or seen.add(s.label))]  # type: ignore[func-returns-value]

    def _call_before(self, offset: int) -> str:
        """The name of the call whose parentheses an offset is in."""
        depth = 0
        text = self.source.text
        for at in range(min(offset, len(text)) - 1, max(-1, offset - 2000), -1):
            if text[at] == ")":
                depth += 1
            elif text[at] == "(":
                if depth == 0:
                    match = re.search(r"([A-Za-z_]\w*)\s*$", text[max(0, at - 80) : at])
                    return match.group(1) if match else ""
                depth -= 1
        return ""

    def _formals(self, name: str) -> list[str]:
        item = self.definitions.get(name)
        formals = getattr(item, "formals", None)
        if isinstance(formals, ast.Formals):
            return [f.name.text for f in (*formals.own, *formals.ambient)]
        return [p.name for p in PRIMITIVES[name].parameters] if name in LANGUAGE else []


def read_document(name: str, text: str) -> Document:
    """Checks a text."""
    source = Source(name, text)
    try:
        space, found = check(source)
    except UserError as error:
        return Document(source, error.diagnostics, None, None)
    silent = Diagnostics()
    file = parse(source, silent)
    tree = file.spaces[0] if file is not None and file.spaces else None
    if tree is not None and not silent.errors:
        whole = amended(tree, source, Diagnostics())
        tree = with_library(whole) if whole is not None else tree
    return Document(source, found.items, None if space is None else space.checked, tree)


def _sizes(type_: object, sizes: Mapping[str, object]) -> list[str]:
    dims = getattr(type_, "dims", ())
    found = []
    for dim in dims:
        value = dim.value(sizes)
        found.append(str(value) if isinstance(value, int) else f"{min(value.table)}..{max(value.table)}")
    return found


def _primitive(primitive: Primitive) -> str:
    given = ", ".join(p.name if p.required else f"{p.name}={p.default}" for p in primitive.parameters)
    return f"```nas\n{primitive.name}({given})\n```\n\n{primitive.summary}"
