"""`import nasdsl`, `check` and `count` stay instant: what they must not import is not imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "sklearn", "numpy", "networkx", "tensorboard", "jinja2")

# Runs a statement, then says which heavy packages are loaded.
REPORT = """
import json, runpy, sys
try:
    {statement}
except SystemExit as stop:
    code = stop.code
else:
    code = 0
found = [m for m in {heavy!r} if m in sys.modules]
print(json.dumps({{"code": code, "loaded": found}}))
"""


def report(statement: str, cwd: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(statement=statement, heavy=HEAVY)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def command(*words: str) -> str:
    return f"sys.argv = ['nasdsl', *{list(words)!r}]; runpy.run_module('nasdsl', run_name='__main__')"


LEARNING = ("torch", "torchvision", "sklearn", "tensorboard")


@pytest.mark.parametrize("name", ["__version__", "NasError", "UserError", "__all__"])
def test_importing_the_package_loads_nothing_heavy(tmp_path: Path, name: str) -> None:
    assert report(f"import nasdsl; nasdsl.{name}; dir(nasdsl)", tmp_path)["loaded"] == []


@pytest.mark.parametrize(
    ("line", "forbidden"),
    [
        ("--help", HEAVY),
        ("explain", HEAVY),
        ("compile --help", HEAVY),
        ("check darts", HEAVY),
        ("check darts nasbench201 --format json", HEAVY),
        ("spaces", HEAVY),
        ("count darts", LEARNING),
        ("count nasbench201 --json", LEARNING),
        ("fit darts --between ..1G --grow layers=3..5", LEARNING),
        ("stats cream --arch cream_14 --convention thop", LEARNING),
        ("methods", LEARNING),
        ("passes", LEARNING),
    ],
)
def test_a_quick_verb_loads_nothing_heavy(tmp_path: Path, line: str, forbidden: tuple[str, ...]) -> None:
    answer = report(command(*line.split()), tmp_path)
    assert answer["code"] == 0
    assert not set(forbidden) & set(answer["loaded"])  # type: ignore[call-overload]


@pytest.mark.parametrize("package", ["torch", "networkx"])
def test_the_test_would_notice(tmp_path: Path, package: str) -> None:
    assert package in report(f"import {package}", tmp_path)["loaded"]  # type: ignore[operator]
