"""The tables of the documentation that are made from the code.

`python -m tests.docs.tables` writes them between their markers; the tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from nasdsl.diagnostics import CODES, Severity
from nasdsl.ir.nodes import KINDS
from nasdsl.methods import METHODS
from nasdsl.methods.base import Setting
from nasdsl.methods.bilevel import DATA, RETRAIN
from nasdsl.methods.gradient import SETTINGS
from nasdsl.methods.single_path import SEARCH
from nasdsl.ops import PRIMITIVES, Parameter
from nasdsl.passes import PASSES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _formal(parameter: Parameter) -> str:
    if parameter.required:
        return parameter.name
    default = parameter.default
    return f"{parameter.name}={str(default).lower() if isinstance(default, bool) else default}"


def primitives() -> str:
    rows = [
        (f"`{p.name}({', '.join(map(_formal, p.parameters))})`" if p.parameters else f"`{p.name}`", p.summary)
        for p in PRIMITIVES.values()
        if not p.internal and not p.opaque
    ]
    return _table(("primitive", "what it does"), rows)


_FAMILIES = {
    "0": "Syntax",
    "1": "Names and definitions",
    "2": "Types and shapes",
    "3": "Choices and limits",
    "4": "Architectures and notations",
    "5": "Methods, settings and passes",
    "6": "Tables of results",
    "7": "Locks and runs",
    "8": "Exported networks",
    "9": "Not yet available",
}


def codes() -> str:
    parts = []
    for digit, title in _FAMILIES.items():
        rows = [
            (
                f"[{c.code}](../nasdsl/diagnostics/pages/{c.code}.md)",
                c.title,
                "warning" if c.severity is Severity.WARNING else "error",
            )
            for c in CODES.values()
            if c.code[3] == digit
        ]
        if rows:
            parts.append(f"### {title}\n\n{_table(('code', 'what it says', 'severity'), rows)}")
    return "\n\n".join(parts)


def passes() -> str:
    rows = []
    for name in PASSES.names():
        found = PASSES.load(name)
        rows.append(
            (
                f"`{name}`",
                f"{found.source.value} -> {found.target.value}",
                "yes" if found.exact else "no",
                found.summary,
            )
        )
    return _table(("pass", "stages", "exact", "what it does"), rows)


def nodes() -> str:
    return _table(("kind", "what it is"), [(f"`{k}`", _first(c.__doc__)) for k, c in KINDS.items()])


def _first(text: str | None) -> str:
    paragraph = (text or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def settings(common: Iterable[Setting]) -> str:
    """What every method of a family can be told, with the defaults of the axes themselves."""
    rows = []
    for s in common:
        words = f"one of {', '.join(s.choices)}; " if s.choices else ""
        unit = f" {s.unit}" if s.unit else ""
        rows.append((f"`{s.name}`", s.table, f"{_shown(s.default)}{unit}", f"{words}{s.doc}", s.source))
    return _table(("setting", "read by", "default", "meaning", "source of the default"), rows)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def defaults(method: str) -> str:
    """Where a method leaves the defaults of the axes: by itself, by a named preset, on NAS-Bench-201."""
    found = METHODS.load(method)
    weighs = found.template == "search.py.j2"
    common = {s.name: s for s in (SETTINGS if weighs else (*SEARCH, *RETRAIN, *DATA))}
    changed = [s for s in found.settings if s.name not in common or s.default != common[s.name].default]
    rows = [(f"`{s.name}`", _shown(s.default), s.source) for s in changed]
    for word, sets in (*found.variants.items(), *found.presets.items()):
        name = f"preset={word}" if word in found.variants else f"`notation {word}`"
        values = ", ".join(f"{n}={_shown(v)}" for n, v in sets.items())
        rows.append((name, values, "on request" if word in found.variants else "the space's notation"))
    return _table(("setting", "here", "source"), rows) if rows else "All settings have the defaults above."


def provenance(method: str) -> str:
    found = METHODS.load(method)

    def listed(title: str, lines: Iterable[str]) -> str:
        return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines)

    parts = [
        listed("Papers", found.papers),
        listed("What is the authors'", found.authors),
        listed("What is a reconstruction", found.reconstructions)
        if found.reconstructions
        else "Nothing is a reconstruction.",
        listed("How the network that is searched differs from the one that is trained", found.differences),
    ]
    return "\n\n".join(parts)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "primitives": ("language.md", primitives),
    "codes": ("diagnostics.md", codes),
    "nodes": ("ir.md", nodes),
    "passes": ("ir.md", passes),
    "settings": ("methods.md", partial(settings, SETTINGS)),
    "path settings": ("methods.md", partial(settings, SEARCH)),
    **{name: ("methods.md", partial(provenance, name)) for name in METHODS.names()},
    **{f"{name} defaults": ("methods.md", partial(defaults, name)) for name in METHODS.names()},
}


def section(name: str) -> re.Pattern[str]:
    """What stands between the markers of a table."""
    return re.compile(rf"(<!-- table: {re.escape(name)} -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def write() -> None:
    for name, (page, make) in TABLES.items():
        path = DOCS / page
        text = path.read_text("utf-8")
        before, after = section(name).split(text)[0], section(name).split(text)[-1]
        path.write_text(f"{before}<!-- table: {name} -->\n{make()}\n<!-- end of table -->{after}", "utf-8")


if __name__ == "__main__":
    write()
