"""The wheel carries everything and works where the checkout is not; the pins hold what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOT_PINNED = {"setuptools", "pip"}
"""Part of every environment, not of this project."""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without isolation: no registry is asked."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def away(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("away")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_away(away: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**environment, "PYTHONPATH": str(away)},
    )


def test_the_wheel_holds_every_file_of_the_package(root: Path, away: Path) -> None:
    def files(folder: Path) -> set[str]:
        paths = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
        return {p.relative_to(folder).as_posix() for p in paths}

    expected = files(root / "nasdsl")
    expected |= {f"_data/grammar/{f}" for f in files(root / "grammar")}
    expected |= {f"_data/spaces/{f}" for f in files(root / "spaces")}
    assert files(away / "nasdsl") == expected
    assert {p.name.split("-")[0] for p in away.iterdir()} == {"nasdsl"}


def test_the_wheel_says_what_it_is(away: Path) -> None:
    (info,) = away.glob("nasdsl-*.dist-info")
    assert "nasdsl = nasdsl.cli:main" in (info / "entry_points.txt").read_text()
    text = (info / "METADATA").read_text()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Dist: torch>=" in text
    assert "the nasdsl authors" in (info / "licenses" / "LICENSE").read_text()


def test_the_wheel_works_away_from_the_checkout(away: Path, tmp_path: Path) -> None:
    place = run_away(away, tmp_path, "-c", "import nasdsl; print(nasdsl.__file__)")
    assert Path(place.stdout.strip()).is_relative_to(away), place.stderr
    check = run_away(away, tmp_path, "-m", "nasdsl", "check", "darts", "nasbench201")
    assert (check.returncode, check.stderr) == (0, "")
    count = run_away(away, tmp_path, "-m", "nasdsl", "count", "darts")
    assert (count.stdout, count.stderr) == ("1076746950455072400\n", "")
    page = run_away(away, tmp_path, "-m", "nasdsl", "explain", "NAS203")
    assert page.stdout.strip()


def test_the_wheel_compiles_away_from_the_checkout(root: Path, away: Path, tmp_path: Path) -> None:
    """The templates and the embedded sources are found, and say the same as those of the checkout."""
    words = ("-m", "nasdsl", "compile", "darts", "--method", "darts", "--param", "C=4")
    done = run_away(away, tmp_path, *words, "-o", "there")
    assert done.returncode == 0, done.stderr
    done = run_away(root, tmp_path, *words, "-o", "here")
    assert done.returncode == 0, done.stderr
    here, there = (
        {p.name: p.read_bytes() for p in (tmp_path / d).iterdir() if p.is_file()} for d in ("here", "there")
    )
    assert here == there
    assert {"supernet.py", "search.py", "retrain.py", "nasdsl.lock", "space.nas"} <= set(here)


def project(root: Path) -> dict[str, list[Requirement]]:
    table = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = {"": table["dependencies"], **table["optional-dependencies"]}
    return {name: [Requirement(text) for text in texts] for name, texts in groups.items()}


def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^+]*", line) for line in lines), "exact, no local builds"
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_what_is_declared_is_pinned_within_its_range(root: Path) -> None:
    pinned = pins(root)
    for requirement in (r for group in project(root).values() for r in group):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def closure(names: list[str]) -> Iterator[str]:
    """What these distributions need, as installed here."""
    waiting, seen = [canonicalize_name(n) for n in names], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in NOT_PINNED:
            continue
        seen.add(name)
        yield name
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))


def test_the_pins_hold_all_that_an_installation_brings(root: Path) -> None:
    """What an extra brings that is not installed here (Ray is large) is pinned itself at least."""
    declared = {canonicalize_name(r.name) for group in project(root).values() for r in group}
    installed = [name for name in sorted(declared) if any(metadata.distributions(name=name))]
    assert set(closure(installed)) | (declared - set(NOT_PINNED)) <= set(pins(root))
