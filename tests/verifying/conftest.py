"""What tests of verifying share: a directory with runs that have ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nasdsl
from tests.verifying.common import LINE, SMALL, script


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A compiled directory with a search and a retraining that have ended; tests that change it take a copy."""
    here = tmp_path_factory.mktemp("ended")
    (here / "small.nas").write_text(SMALL)
    nasdsl.load(here / "small.nas").compile("darts", settings={"epochs": 2}).write(here / "out")
    for name, epochs in (("search.py", "2"), ("retrain.py", "1")):
        done = script(here / "out" / name, *LINE, "--epochs", epochs)
        assert done.returncode == 0, done.stderr
    return here / "out"


@pytest.fixture
def home(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended, tmp_path / "dir"))
