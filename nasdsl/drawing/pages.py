"""Pages of pictures and tables.

Takes a template and what it shows, returns one HTML file. Invariant: nothing is loaded from outside; every text
is escaped but what is marked as a picture of `nasdsl.drawing`; a script runs only where its own hash allows it.

Templates lie in `templates/` of the package that has the page. They extend `page.html.j2` and import the
parts of `parts.html.j2`, which lie here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files

import attrs
import jinja2
from markupsafe import Markup

from nasdsl.drawing.colours import style_sheet

UNKNOWN = "–"
"""Stands in a cell of a table whose other cells are known."""
_HERE = "nasdsl.drawing"


@attrs.frozen
class Table:
    """Heads and rows of text; columns after the first are set right, but for those of words."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()
    """Columns, counted from 0, that hold words."""


def render(package: str, template: str, context: Mapping[str, object], script: str = "") -> str:
    """The page.

    Args:
        package: whose `templates/` has the template.
        script: JavaScript that the page runs, "" for none.
    """

    def source(name: str) -> str | None:
        for where in (package, _HERE):
            found = files(where).joinpath("templates", name)
            if found.is_file():
                return found.read_text("utf-8")
        return None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    shared = {
        "style": Markup(style_sheet()),
        "unknown": UNKNOWN,
        "script": _marked(script),
        "hash": _hash(script),
    }
    return environment.get_template(template).render({**shared, **context})


def _marked(script: str) -> Markup:
    """A script of ours, as it stands in the page. Raises ValueError where it would end its element."""
    if "</" in script or "<!--" in script:
        raise ValueError("a script must not hold the marks that end its element")
    return Markup(script)


def _hash(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()


__all__ = ["UNKNOWN", "Table", "render"]
