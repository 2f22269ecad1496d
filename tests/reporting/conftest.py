"""A real run, made once: a short search of single paths with a board, and a retraining from what it hands on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nasdsl.opening import load
from tests.runtime.forks import ran

SPACE = """space tiny {
  input image(1, 8)
  network {
    stem: conv_bn_relu(3, 4)
    one:  choose { id, conv(3), conv(5) }
    two:  choose { id, conv(3) }
    head: global_pool >> linear(10)
  }
}
"""


@pytest.fixture(scope="session")
def _path_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("real") / "tiny-cream"
    (home.parent / "tiny.nas").write_text(SPACE)
    load(home.parent / "tiny.nas").compile("cream").write(home)
    shared = ("--data", "digits", "--device", "cpu")
    few = [w for s in ("batch_size=64", "calibration_batches=1", "judging_batches=1") for w in ("--set", s)]
    weights = "runs/0/inherited/weights.safetensors"
    for words in (
        ["search.py", *shared, "--epochs", "2", "--limit-batches", "2", *few],
        ["retrain.py", *shared, "--epochs", "1", "--limit-batches", "1", "--weights", weights],
    ):
        done = ran(home, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs" / "0"


@pytest.fixture
def path_run(_path_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    home = _path_run.parent.parent
    return shutil.copytree(home, tmp_path / home.name) / "runs" / "0"
