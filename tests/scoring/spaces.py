"""What the tests of scores share: a small space, its architectures, recipes and commands."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from nasdsl.cli import main
from nasdsl.scoring import CommandScores, Kind, Recipe

ROOT = Path(__file__).resolve().parents[2]
SPACE = """space scored {
  input image(1, 8, 8)
  network {
    stem: conv(3, 4) >> bn
    first: choose { skip: id, conv: relu >> conv(3, 4) >> bn, wide: relu >> conv(5, 4) >> bn }
    between: conv(1, 4)
    second: choose { skip: id, conv: relu >> conv(3, 4) >> bn, wide: relu >> conv(5, 4) >> bn }
    head: relu >> global_pool >> linear(10)
  }
}
"""
OPTIONS = ("skip", "conv", "wide")
EVERY = [{"first.op": one, "second.op": two} for one, two in product(OPTIONS, OPTIONS)]

TINY = {"C": 4, "N": 1, "resolution": 8}
"""nasbench201, at a size that a test has time for."""

SCRIPT = """
import json, os, sys, time
architecture = json.load(sys.stdin)
choices = architecture["choices"]
with open("LOG", "a") as log:
    log.write(json.dumps(choices, sort_keys=True) + chr(10))
BODY
"""


LENGTH = "print(len(str(choices)))"
"""A score that tells the architectures' texts apart by their length."""


def write_space(folder: Path) -> str:
    path = folder / "scored.nas"
    path.write_text(SPACE)
    return str(path)


def script(folder: Path, body: str) -> tuple[str, ...]:
    """A command whose Python has `choices`, and which logs every call in `folder/log`."""
    path = folder / "script.py"
    path.write_text(SCRIPT.replace("LOG", str(folder / "log")).replace("BODY", body))
    return sys.executable, str(path)


def calls(folder: Path) -> list[dict[str, Any]]:
    path = folder / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def recipe(folder: Path, kind: Kind) -> Recipe:
    return Recipe(write_space(folder), kind)


def command(folder: Path, body: str, timeout: float | None = None) -> Recipe:
    return recipe(folder, CommandScores(script(folder, body), timeout))


def call(words: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()
