"""The fenced blocks of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path

import attrs


@attrs.frozen
class Block:
    """One fenced block: its language, what its fence says, the line it starts on, its text."""

    page: str
    language: str
    info: dict[str, str]
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[Block]:
    """Every block of `language`; `error=NAS301` in its fence is info {"error": "NAS301"}."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        words = [w.partition("=") for w in match[2].split()]
        info = {key: value for key, _, value in words}
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page.name, match[1], info, line, match[3]))
    return [b for b in found if b.language == language]


def indented_commands(page: Path) -> list[str]:
    """The commands of a page: lines indented by four spaces, continuations joined, comments cut off."""
    joined = page.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}((?:nasdsl|make|python|pip) .*)$", joined, re.MULTILINE)
    return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]
