"""The directory that `compile` writes.

Takes a compilation, returns the text of every file. Invariant: the same input
gives the same bytes, so nothing here reads a clock, a path or the environment
beyond the versions that the lock names and the latency table that a setting names. Every file that the space
names lies in the directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Protocol

import attrs
import jinja2

from nasdsl.codegen.explain import explained
from nasdsl.codegen.lock import LOCK, Locked, lock_text
from nasdsl.codegen.sizes import largest
from nasdsl.codegen.source import PythonCode, comment, literal
from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.ir.nodes import Op
from nasdsl.methods.base import Scalar, Setting
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.base import Pass
from nasdsl.passes.log import Rewrite
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.latency import read_table
from nasdsl.subspace.files import text_of
from nasdsl.syntax import ast
from nasdsl.syntax.parse import parse
from nasdsl.syntax.print import to_text

EMBEDDED = (
    *("basics", "meeting", "team", "draws", "synced", "augmentation", "pictures", "data", "arguments"),
    *("checkpoint", "artefacts", "lock", "anew", "run", "ending", "rehearsal", "recipe", "training"),
)
_KEYS = {"data": "name"}
_TABLE = "latency_table"
"""The setting that names a file, of which the directory has a copy."""
_FILES = ("space.nas", "supernet.py", "search.py", "retrain.py", "config.toml", "rewrites.md", "README.md")
_SUBSPACE = "subspace.json"
_OWN = frozenset((*_FILES, _SUBSPACE, LOCK, "runs"))
"""Names in the directory that no file which is named may take."""


class Compilation(Locked, Protocol):
    """What of a compilation the directory is made from; `nasdsl.compiler.Compilation` has it."""

    @property
    def within(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Scalar]: ...

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Scalar]]: ...

    @property
    def passes(self) -> tuple[Pass, ...]: ...

    @property
    def rewrites(self) -> tuple[tuple[Rewrite, ...], ...]: ...

    @property
    def supernet(self) -> PythonCode: ...


def directory_files(compilation: Compilation, passes: str) -> dict[str, str]:
    """Every file by name."""
    context = _context(compilation, passes)
    named = _Named(_OWN)
    space = _beside(compilation.space, named)
    settings = dict(compilation.settings)
    if path := str(settings.get(_TABLE) or ""):
        settings[_TABLE] = named.add(path, read_table(path).text())
    texts = {
        "space.nas": space,
        **named.texts,
        "supernet.py": compilation.supernet.source,
        "search.py": _render(compilation.method.template, context),
        "retrain.py": _render("retrain.py.j2", context),
        "config.toml": config_text(compilation, settings),
        "rewrites.md": explained(compilation),
        "README.md": _render("README.md.j2", context),
    }
    if compilation.subspace is not None:
        texts[_SUBSPACE] = text_of(compilation.subspace)
    texts[LOCK] = lock_text(compilation, passes, texts, settings)
    return texts


class _Named:
    """Files that the space or a setting names, as they lie in the directory: no two of one name, none in the
    place of a file of the directory's own.
    """

    def __init__(self, taken: frozenset[str]) -> None:
        self._taken = taken
        self.texts: dict[str, str] = {}

    def add(self, path: str, content: str) -> str:
        """The name under which a file lies in the directory."""
        name = base = re.split(r"[/\\]", path)[-1]
        count = 1
        while name in self._taken or self.texts.get(name, content) != content:
            count += 1
            name = f"{count}-{base}"
        self.texts[name] = content
        return name


def _beside(space: CheckedSpace, named: _Named) -> str:
    """The text of the space, its latency tables and its sub-spaces named as they lie beside it."""
    tables = [m.table.text() for m in space.limits if m.table is not None]
    parts = [part.text for part in space.within]
    if not tables and not parts:
        return space.source.text
    items = _items(space.source)
    limits = [i.table for i in items if isinstance(i, ast.Limit) and i.table is not None]
    withins = [i.file for i in items if isinstance(i, ast.Within)]
    found = [*zip(limits, tables, strict=True), *zip(withins, parts, strict=True)]
    names = [(string, named.add(string.value, content)) for string, content in found]
    text = space.source.text
    # From the end, so that what is not yet written anew stays where it is.
    for string, name in sorted(names, key=lambda both: -both[0].span.start):
        written = to_text(attrs.evolve(string, value=name))
        text = text[: string.span.start] + written + text[string.span.end :]
    return text


def _items(source: Source) -> tuple[ast.Item, ...]:
    """The items of a text that has been checked, where they stand in it."""
    file = parse(source, Diagnostics())
    return file.spaces[0].items if file is not None else ()


def _render(name: str, context: dict[str, object]) -> str:
    loader = jinja2.FunctionLoader(
        lambda n: files("nasdsl.codegen").joinpath("templates", n).read_text("utf-8")
    )
    # These are Python and Markdown texts, not HTML; what comes from a .nas file is escaped in `_context`.
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(name).render(context)


def _context(compilation: Compilation, passes: str) -> dict[str, object]:
    space, method = compilation.space, compilation.method
    chosen = {s.name: compilation.settings[s.name] for s in method.settings if s.table == "compile"}
    return {
        "space_comment": comment(space.name),
        "doc_comment": comment(space.doc),
        "method": method.name,
        "method_literal": literal(method.name),
        "title": method.title,
        "params": literal(dict(space.given)),
        "settings": literal(chosen),
        "passes": literal(passes),
        "input": literal((space.input.layout, *(largest(d) for d in space.input.dims))),
        "classes": space.classes,
        "fingerprint": literal(space.fingerprint),
        "uses_python": _uses_python(space),
        "embedded": embedded(),
        "papers": method.papers,
        "authors": method.authors,
        "reconstructions": method.reconstructions,
        "differences": method.differences,
        "within": compilation.within,
        "within_literal": literal(compilation.within),
        "end": "member.choices" if compilation.within else "search.found()",
        "subspace": "" if compilation.subspace is None else literal(compilation.subspace.digest),
        "parameters": [f"{comment(str(k))} = {comment(str(v))}" for k, v in space.parameters.items()],
    }


def _uses_python(space: CheckedSpace) -> bool:
    """Whether the space has operations from Python, which loading it must be allowed to import."""
    nodes = (n for g in space.module.graphs for n in g.nodes if isinstance(n, Op))
    return any(PRIMITIVES[n.op].opaque for n in nodes)


def embedded() -> str:
    """The standalone part of the runtime as one text: each file verbatim, without imports of each other."""
    parts = ["from __future__ import annotations"]
    for name in EMBEDDED:
        text = files("nasdsl.runtime.standalone").joinpath(f"{name}.py").read_text("utf-8")
        text = re.sub(r"^from __future__ import annotations\n+", "", text, flags=re.MULTILINE)
        text = re.sub(
            r"^from nasdsl\.runtime\.standalone\.\w+ import (?:\([^)]*\)|[^\n]*)\n",
            "",
            text,
            flags=re.MULTILINE,
        )
        first, _, rest = text.partition("\n")
        parts.append(f"# --- {name}: {first.strip(chr(34))}\n\n{rest.strip()}")
    return "\n\n\n".join(parts)


def setting_key(setting: Setting) -> str:
    """The name of a setting in its table of config.toml."""
    return _KEYS.get(setting.name, setting.name.removeprefix("retrain_"))


def _toml(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=True) if isinstance(value, str) else repr(value)


def config_text(compilation: Compilation, settings: Mapping[str, Scalar]) -> str:
    """`config.toml`: every setting with what it is, its unit, its source and its default."""
    method = compilation.method
    lines = [
        f"# Settings of {comment(compilation.space.name)} under {method.name}.",
        "# `--set NAME=VALUE` changes one for a run.",
        "# Those of [compile] shaped supernet.py: change them with `nasdsl compile --set`.",
    ]
    for table in ("compile", "search", "retrain", "data"):
        lines += ["", f"[{table}]"]
        for setting in method.settings:
            if setting.table != table:
                continue
            value = settings[setting.name]
            unit = f" [{setting.unit}]" if setting.unit else ""
            words = f" One of {', '.join(setting.choices)}." if setting.choices else ""
            lines.append(
                f"# {setting.doc}{unit}.{words} Default {_toml(setting.default)} ({setting.source})."
            )
            lines.append(f"{setting_key(setting)} = {_toml(value)}")
    lines += [
        "",
        "# What `retrain.py --set recipe=NAME` puts in the place of the values above. Editing `recipe` alone",
        "# changes none of them.",
    ]
    keys = {s.name: setting_key(s) for s in method.settings}
    for recipe, values in compilation.recipes.items():
        lines += ["", f"[recipes.{recipe}]", *(f"{keys[n]} = {_toml(v)}" for n, v in values.items())]
    return "\n".join(lines) + "\n"
