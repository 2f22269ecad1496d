"""The documentation site: `make docs`, or `sphinx-build -W docs build/docs`.

Takes the Markdown under `docs/` as it is, and what `sitegen` makes from the code. Invariant: nothing is
fetched, neither while building nor by a reader's browser; a warning is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from pygments.lexers.special import TextLexer  # noqa: E402
from sitegen import links  # noqa: E402
from sitegen import pages as generated  # noqa: E402
from sitegen.lexer import NasLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import nasdsl  # noqa: E402

project = "nasdsl"
author = "the nasdsl authors"
project_copyright = author
version = release = nasdsl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["sitegen"]
# Deep enough for every heading that a page links to; the slugs are those of GitHub.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"nasdsl {release}"
html_copy_source = False
html_use_index = False
html_show_sphinx = False
# Built-in fonts and scripts only: the site works from a folder, without a network.
html_theme_options = {"navigation_with_keys": True}
nitpicky = False


def _generate(app: Sphinx) -> None:
    generated.build(Path(app.srcdir))


def _relink(app: Sphinx, docname: str, source: list[str]) -> None:
    """A page of `docs/` may link to files outside it that have pages here."""
    if not docname.startswith(f"{links.GENERATED}/"):
        source[0] = links.relink(source[0], f"docs/{docname}.md", docname, links.pages())


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the lexers and what happens before pages are read."""
    app.add_lexer("nas", NasLexer)
    app.add_lexer("diagnostic", TextLexer)
    app.connect("builder-inited", _generate)
    app.connect("source-read", _relink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
