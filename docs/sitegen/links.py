"""Links between pages that lie in different places on disk and on the site.

Takes a page's Markdown and where it comes from, returns the Markdown with its links turned to pages of
the site. Invariant: text in code is never touched; a link whose target has no page stays as it is, and
Sphinx reports it if it leads nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = "generated"
"""The folder of `docs/` that a build writes; git ignores it."""

_CODE = re.compile(r"(^```.*?^```[ \t]*$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def copies() -> dict[str, str]:
    """Pages that lie outside `docs/`: path in the repository to page of the site."""
    found = {
        "CONTRIBUTING.md": f"{GENERATED}/contributing",
        "CHANGELOG.md": f"{GENERATED}/changes",
        "benchmarks/README.md": f"{GENERATED}/benchmarks",
    }
    for page in sorted(ROOT.glob("examples/*/README.md")):
        found[page.relative_to(ROOT).as_posix()] = f"{GENERATED}/examples/{page.parent.name}"
    for page in sorted((ROOT / "nasdsl/diagnostics/pages").glob("*.md")):
        found[page.relative_to(ROOT).as_posix()] = f"{GENERATED}/diagnostics/{page.stem}"
    return found


def pages() -> dict[str, str]:
    """Every path of the repository that has a page of the site."""
    own = {f"docs/{p.relative_to(DOCS).as_posix()}": p.relative_to(DOCS) for p in DOCS.rglob("*.md")}
    kept = {path: page.with_suffix("").as_posix() for path, page in own.items()}
    return {**kept, **copies(), "README.md": "index", "examples": f"{GENERATED}/examples/index"}


def relink(text: str, origin: str, page: str, known: Mapping[str, str]) -> str:
    """Turns the links of a page.

    Args:
        text: its Markdown.
        origin: its path in the repository, to which its links are relative.
        page: its name on the site.
        known: what `pages` returns.
    """

    def turned(match: re.Match[str]) -> str:
        target, hash_sign, anchor = match[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = os.path.normpath((PurePosixPath(origin).parent / target).as_posix())
        folder = PurePosixPath(page).parent
        if path in known:
            reached = os.path.relpath(f"{known[path]}.md", folder)
        elif page != origin.removeprefix("docs/").removesuffix(".md"):  # a copy: files keep their place
            reached = os.path.relpath(ROOT / path, DOCS / folder)
        else:
            return match[0]
        return f"]({reached}{hash_sign}{anchor})"

    parts = _CODE.split(text)
    return "".join(part if index % 2 else _LINK.sub(turned, part) for index, part in enumerate(parts))
