"""The tour of the README: its commands and what they print.

`python -m tests.docs.tour` runs the commands and writes their output under them.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tempfile
from pathlib import Path

from nasdsl.cli import main
from tests.docs.blocks import Block, blocks

README = Path(__file__).resolve().parents[2] / "README.md"


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a console block with the output printed under it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(p.partition("\n")[0], p.partition("\n")[2]) for p in parts]


def tour() -> list[Block]:
    return blocks(README, "console")


def lay_out(folder: Path) -> None:
    """Writes the files that the README shows under a name."""
    for block in blocks(README, "nas"):
        for name in block.info:
            if name.endswith(".nas"):
                (folder / name).write_text(block.text, "utf-8")


def run(command: str) -> str:
    """What a command prints, on both streams, in the current folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(shlex.split(command)[1:])
    return out.getvalue() + err.getvalue()


def write() -> None:
    text = README.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        lay_out(Path(folder))
        for block in tour():
            printed = "".join(f"$ {command}\n{run(command)}" for command, _ in commands(block.text))
            text = text.replace(f"```console\n{block.text}```", f"```console\n{printed}```")
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
