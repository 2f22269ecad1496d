"""The pages that a build of the site makes from the code.

Takes nothing, returns page names with their Markdown, and pictures. Invariant: whatever can be asked of
nasdsl (verbs, options, codes, primitives, spaces) is asked, never written down a second time; the same
code gives the same bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

from sphinx.util import logging

import nasdsl
from nasdsl.cli.arguments import Parser, color_argument
from nasdsl.cli.verbs import GROUPS, VERBS
from nasdsl.diagnostics import CODES, Severity
from nasdsl.ops import PRIMITIVES, Parameter
from nasdsl.resources import library_path, shipped_spaces
from sitegen.links import GENERATED, ROOT, copies, pages, relink

_LOG = logging.getLogger(__name__)
"""A warning fails `make docs`."""
_PICTURED = re.compile(r"^```nas (\w+\.nas)[^\n]* picture\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def build(docs: Path) -> None:
    """Writes every generated page and picture under `docs/generated`, and removes what is no longer made."""
    folder = docs / GENERATED
    made = {**copied_pages(), **dict(command_line()), **dict(diagnostics()), **primitives()}
    made |= {**dict(spaces()), **dict(pictures(docs))}
    texts = {folder.parent / _file(name): text for name, text in made.items()}
    for old in [p for p in folder.rglob("*") if p.is_file()]:
        if old not in texts:
            old.unlink()
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Sphinx reads a page again when its time changes: what is the same keeps its time.
        if not path.exists() or path.read_text("utf-8") != text:
            # In one step: another build may be reading.
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            fresh.write_text(text, "utf-8")
            fresh.replace(path)


def _file(name: str) -> str:
    return name if name.endswith(".svg") else f"{name}.md"


def copied_pages() -> dict[str, str]:
    """Contributing, changes, benchmarks, examples and explanations, as they are but for their links."""
    known = pages()
    made = {}
    for origin, page in copies().items():
        text = (ROOT / origin).read_text("utf-8")
        made[page] = relink(text, origin, page, known)
        if page.startswith(f"{GENERATED}/examples/"):
            made[page] += "".join(_listing(p) for p in sorted((ROOT / origin).parent.glob("*.nas")))
    made[f"{GENERATED}/examples/index"] = _index(
        "Examples",
        "Each is a folder of `examples/` with a `.nas` file and what to try with it. The tests run them.",
        (PageName(page) for page in made if page.startswith(f"{GENERATED}/examples/")),
    )
    return made


class PageName(str):
    """The name of a page; in a table of contents only its last part is written."""

    __slots__ = ()

    @property
    def last(self) -> str:
        return self.rpartition("/")[2]


def _listing(path: Path) -> str:
    return f"\n## {path.name}\n\n```nas\n{path.read_text('utf-8').rstrip()}\n```\n"


def _index(title: str, words: str, entries: Iterable[PageName], body: str = "") -> str:
    lines = "\n".join(entry.last for entry in entries)
    return f"# {title}\n\n{words}\n\n{body}```{{toctree}}\n:maxdepth: 1\n\n{lines}\n```\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines) + "\n"


def command_line() -> Iterator[tuple[str, str]]:
    """One page a verb, from the parser that the verb itself uses."""
    folder = f"{GENERATED}/commands"
    parts = []
    for group in GROUPS:
        rows = [(f"[{v.name}]({v.name}.md)", v.summary) for v in VERBS.values() if v.group == group]
        parts.append(f"## {group}\n\n{_table(('verb', 'what it does'), rows)}\n")
    intro = (
        "`nasdsl VERB --help` prints the same. Exit codes: 0 fine, 1 the file or the input is wrong, "
        "2 the command line is wrong or asks for what is not there yet, 3 a bug of nasdsl."
    )
    yield f"{folder}/index", _index("The command line", intro, map(PageName, VERBS), "".join(parts))
    for name, verb in VERBS.items():
        parser = Parser(name, verb.summary)
        import_module(f"nasdsl.cli.{name}").configure(parser)
        color_argument(parser)
        yield f"{folder}/{name}", _verb(parser)


def _verb(parser: Parser) -> str:
    # argparse wraps to the terminal; a page has a width of its own.
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}):
        usage = parser.format_usage().removeprefix("usage: ").rstrip()
    rows = [(_names(a), _meaning(a)) for a in parser._actions if a.help != argparse.SUPPRESS]
    summary = parser.description or ""
    text = f"# nasdsl {parser.prog.split()[1]}\n\n{summary[:1].upper()}{summary[1:]}.\n\n"
    text += f"```text\n{usage}\n```\n\n{_table(('argument', 'meaning'), rows)}"
    if parser.epilog:
        title, _, lines = parser.epilog.partition("\n")
        commands = "\n".join(f"$ {line.strip()}" for line in lines.splitlines())
        text += f"\n{title.capitalize()}\n\n```console\n{commands}\n```\n"
    return text


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {action.metavar or _choices(action) or action.dest.upper()}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _choices(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""


def _meaning(action: argparse.Action) -> str:
    words = action.help or ""
    return words.replace("<", "&lt;") + (" (required)" if action.option_strings and action.required else "")


def diagnostics() -> Iterator[tuple[str, str]]:
    """The index of codes; the explanations themselves are copied."""
    rows = [
        (f"[{c.code}]({c.code}.md)", c.title, "warning" if c.severity is Severity.WARNING else "error")
        for c in CODES.values()
    ]
    words = "What `nasdsl explain CODE` prints. A code, once published, keeps its meaning."
    body = _table(("code", "what it says", "severity"), rows) + "\n"
    names = map(PageName, CODES)
    yield f"{GENERATED}/diagnostics/index", _index("Codes of diagnostics", words, names, body)


def primitives() -> dict[str, str]:
    """Every operation that the language has of its own, with its parameters."""
    text = (
        "# Primitives\n\n"
        "The operations of which all others are written. Arguments are given by position or by name. "
        "`out=cin` means: as many channels as the input has; `pad=same` keeps the resolution at stride 1. "
        "[The language](../language.md#primitives) shows them in use; operations made of them are in "
        "[the library](library.md).\n\n"
    )
    for p in (p for p in PRIMITIVES.values() if not p.internal):
        text += f"## {p.name}\n\n`{p.name}{_formals(p.parameters)}`\n\n{_plain(p.summary)}.\n\n"
        if p.parameters:
            rows = [(f"`{a.name}`", a.kind, _default(a) or "required") for a in p.parameters]
            text += _table(("parameter", "kind", "default"), rows) + "\n"
    library = library_path().read_text("utf-8")
    return {
        f"{GENERATED}/primitives": text,
        f"{GENERATED}/library": "# The library of operations\n\nOperations written in the language itself.\n"
        f"\n```nas\n{library.rstrip()}\n```\n",
    }


def _plain(words: str) -> str:
    """Words that mean what they say: a product is not emphasis. Code in backticks stays."""
    return "`".join(p.replace("*", "\\*") if i % 2 == 0 else p for i, p in enumerate(words.split("`")))


def _formals(parameters: tuple[Parameter, ...]) -> str:
    shown = [p.name if p.required else f"{p.name}={_default(p)}" for p in parameters]
    return f"({', '.join(shown)})" if shown else ""


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return ""
    default = parameter.default
    return str(default).lower() if isinstance(default, bool) else str(default)


def spaces() -> Iterator[tuple[str, str]]:
    """One page a shipped space, with its picture."""
    folder = f"{GENERATED}/spaces"
    rows, names = [], []
    for name, path in shipped_spaces().items():
        text, doc, picture = _space(name, path)
        yield f"{folder}/{name}", text
        if picture:
            yield f"{folder}/{name}.svg", picture
        names.append(PageName(name))
        rows.append((f"[{name}]({name}.md)", doc))
    words = "These come with nasdsl: give the name in place of a file, as in `nasdsl count darts`."
    body = _table(("space", "what it is"), rows) + "\n"
    yield f"{folder}/index", _index("Shipped spaces", words, names, body)


def _space(name: str, path: Path) -> tuple[str, str, str]:
    space = nasdsl.load(name)
    doc = space.checked.doc or ""
    params = [(f"`{key}`", f"`{value}`") for key, value in space.params.items()]
    text = f"# {name}\n\n{doc}\n\n{_count(space)}\n\n"
    if space.notation:
        text += f"Architectures are read and written in the notation `{space.notation}`, beside JSON.\n\n"
    if params:
        text += _table(("parameter", "default"), params) + "\n"
    picture = _picture(space)
    if picture:
        text += f"![{name}, drawn by nasdsl]({name}.svg)\n"
    return text + _listing(path), doc, picture


def pictures(docs: Path) -> Iterator[tuple[str, str]]:
    """The space of every block of the pages whose fence says `nas NAME.nas ... picture`."""
    for page in sorted(docs.glob("*/*.md")):
        for name, text in _PICTURED.findall(page.read_text("utf-8")):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / name
                file.write_text(text, "utf-8")
                yield f"{GENERATED}/pictures/{file.stem}.svg", nasdsl.load(file).draw()


def _picture(space: nasdsl.Space) -> str:
    try:
        return space.draw()
    except Exception as error:  # noqa: BLE001  # one space that cannot be drawn must not hide another
        _LOG.warning("no picture of %s: %s", space.name, str(error).splitlines()[0], type="nasdsl")
        return ""


def _count(space: nasdsl.Space) -> str:
    try:
        return f"{space.count():,} architectures (`nasdsl count {space.name}`)."
    except nasdsl.UserError as error:
        problem = error.diagnostics[0]
        return f"`nasdsl count` answers with {problem.code} here: {problem.message}."
