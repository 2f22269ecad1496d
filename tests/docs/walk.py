"""The tutorial and the how-to pages, walked through as a reader does.

A block whose fence names a file (`nas my.nas`) is written to that file when it is reached; a `console`
block is run, each command in the reader's folder; a `python` block is executed. A fence may say

    slow            takes seconds to minutes: run by `pytest -m slow`
    figures=vary    digits are not compared: other machines give slightly other ones
    error=, warning=, count=   of `nas` blocks, as in the language's reference

In what is shown a line `...` stands for any lines. `python -m tests.docs.walk [PAGE...]` runs the pages
and writes what the commands print under them, but where a line `...` was put by hand.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.docs.blocks import Block, blocks
from tests.docs.tour import commands, run

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))
HOWTO = [p for p in sorted((ROOT / "docs" / "howto").glob("*.md")) if p.stem != "index"]
PAGES = [*TUTORIAL, *HOWTO]
_LANGUAGES = ("nas", "console", "python", "toml", "yaml", "text")
_TOOLS = {
    "python": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n',
    "torchrun": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m torch.distributed.run "$@"\n',
    # As an installed command: the reader's folder is not on the path, nasdsl is.
    "nasdsl": f"#!{sys.executable} -P\nimport sys\n\nsys.path.append({str(ROOT)!r})\n"
    "from nasdsl.cli import main\n\nsys.exit(main())\n",
}
_IN_SHELL = re.compile(r"[|<>;&$`*]|\\$")


def steps(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    return sorted((b for kind in _LANGUAGES for b in blocks(page, kind)), key=lambda b: b.line)


def file_of(block: Block) -> str | None:
    """The file that a block is written to."""
    return next((name for name, value in block.info.items() if "." in name and not value), None)


def lay_out_before(page: Path, folder: Path) -> None:
    """A chapter begins with the files of the chapters before it."""
    if page in TUTORIAL:
        for earlier in TUTORIAL[: TUTORIAL.index(page)]:
            for block in steps(earlier):
                write_file(block, folder)


def write_file(block: Block, folder: Path) -> bool:
    name = file_of(block)
    if name is not None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, "utf-8")
    return name is not None


def printed(command: str, folder: Path) -> str:
    """What a command prints, run in `folder`: verbs in this process, all else in a shell."""
    if command.startswith("nasdsl ") and not _IN_SHELL.search(command):
        with contextlib.chdir(folder):
            return run(command)
    with tempfile.TemporaryDirectory() as tools:
        for name, text in _TOOLS.items():
            shim = Path(tools) / name
            shim.write_text(text, "utf-8")
            shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
        settings = {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    # Where the folder lies is of no interest to a reader.
    return done.stdout.replace(f"{folder.resolve()}{os.sep}", "").replace(f"{folder}{os.sep}", "")


@attrs.frozen
class Seen:
    """A command of a block with what the page shows under it and what it prints."""

    block: Block
    command: str
    shown: str
    printed: str

    @property
    def agrees(self) -> bool:
        vary = self.block.info.get("figures") == "vary"
        shown, printed = (_plain(text, vary) for text in (self.shown, self.printed))
        parts = [".*" if line == "..." else re.escape(line) for line in shown]
        # `...` alone on a line also stands for no line at all.
        pattern = "\n".join(parts).replace("\n.*\n", "\n(.*\n)?").replace("\n.*", "(\n.*)?")
        return re.fullmatch(pattern, "\n".join(printed), re.DOTALL) is not None


def _plain(text: str, vary: bool) -> list[str]:
    text = re.sub(r"[0-9]+(,[0-9]{3})*", "0", text) if vary else text
    return [line.rstrip() for line in text.rstrip("\n").splitlines()]


def walk(page: Path, folder: Path, slow: bool) -> Iterator[Seen]:
    """Goes through a page; yields each command with its output, and executes its Python."""
    lay_out_before(page, folder)
    for block in steps(page):
        if write_file(block, folder) or ("slow" in block.info and not slow):
            continue
        if block.language == "console":
            for command, shown in commands(block.text):
                yield Seen(block, command, shown, printed(command, folder))
        elif block.language == "python":
            with contextlib.chdir(folder):
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {"__name__": "__page__"})


def rewrite(page: Path) -> None:
    """Writes what the commands of a page print under them."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(walk(page, Path(folder), slow=True))
    text = page.read_text("utf-8")
    for block in dict.fromkeys(s.block.line for s in found):
        seen = [s for s in found if s.block.line == block]
        if any("..." in s.shown.splitlines() for s in seen):
            if not all(s.agrees for s in seen):
                sys.stderr.write(f"{seen[0].block}: shortened by hand, and no longer what is printed\n")
            continue
        body = "".join(f"$ {s.command}\n{s.printed}" for s in seen)
        text = text.replace(f"\n{seen[0].block.text}```", f"\n{body}```")
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]) if sys.argv[1:] else PAGES:
        rewrite(page.resolve())
