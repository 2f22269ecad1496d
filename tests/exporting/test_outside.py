"""Exported networks where nasdsl is not: used as their cards say, in an environment that has what these name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from export_equality import BOUND, SMALL, drawn, environment, outside, write  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import nasdsl  # noqa: E402
from nasdsl.exporting import FORMATS  # noqa: E402
from nasdsl.resources import shipped_spaces  # noqa: E402

QUICK = {"residual_mlp": 5, "nasbench201": 5, "nats_size": 1, "nasbench101": 1}
"""Spaces whose networks are written in seconds, and how many of each."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("environment") / "new")


@pytest.mark.slow
def test_a_dozen_networks_compute_the_same_outside(python: Path, tmp_path: Path) -> None:
    spaces = {name: nasdsl.load(name, **SMALL.get(name, {})) for name in QUICK}
    pairs = [(spaces[name], arch) for name, n in QUICK.items() for arch in spaces[name].sample(n, seed=5)]
    write(tmp_path / "one", pairs[::4], list(FORMATS))
    write(tmp_path / "other", [p for i, p in enumerate(pairs) if i % 4], ["py", "pt2"])
    one, other = (outside(python, tmp_path / name) for name in ("one", "other"))
    found = {
        f"{name} {label}": each
        for name, part in (("one", one), ("other", other))
        for label, each in part.items()
    }
    assert len(found) == 12
    assert all(each.keys() == FORMATS.keys() for each in one.values())
    assert all(each.keys() == {"py", "pt2"} for each in other.values())
    assert max(far for each in found.values() for far in each.values()) <= BOUND
    _depend_on_their_input(tmp_path, 10)


def test_a_network_of_every_space_is_source_that_runs_outside(python: Path, tmp_path: Path) -> None:
    pairs = [pair for pair in drawn(9, seed=2) if pair[0].name not in QUICK]
    write(tmp_path, pairs, ["py"])
    found = outside(python, tmp_path)
    assert {name.partition("_")[2] for name in found} == set(shipped_spaces()) - set(QUICK)
    assert max(each["py"] for each in found.values()) <= BOUND
    _depend_on_their_input(tmp_path, len(pairs))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_networks_over_all_spaces_compute_the_same_outside(python: Path, tmp_path: Path) -> None:
    write(tmp_path, list(drawn(50, seed=0)), list(FORMATS))
    found = outside(python, tmp_path)
    assert len(found) == 50
    assert {name.partition("_")[2] for name in found} == set(shipped_spaces())
    assert all(each.keys() == FORMATS.keys() for each in found.values())
    assert max(far for each in found.values() for far in each.values()) <= BOUND
    _depend_on_their_input(tmp_path, 50)


def _depend_on_their_input(folder: Path, least: int) -> None:
    """Of some architectures the output is the same for every input; of most it is not, or equality says little."""
    changing = 0
    for path in folder.rglob("expected.safetensors"):
        y = load_file(path)["y1"]
        changing += int(float((y[0] - y[1]).abs().max()) > 100 * BOUND)
    assert changing >= least


def test_the_environment_has_no_nasdsl_and_a_fault_is_seen(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, "-I", "-c", "import nasdsl"], capture_output=True, text=True, check=False)
    assert "No module named 'nasdsl'" in done.stderr
    space = nasdsl.load("residual_mlp")
    write(tmp_path, [(space, space.sample(1, seed=0)[0])], ["py"])
    (home,) = tmp_path.iterdir()
    text = (home / "model.py").read_text("utf-8")
    before, returns, after = text.rpartition("return ")
    (home / "model.py").write_text(f"{before}{returns}1.001 * {after}", "utf-8")
    (found,) = outside(python, tmp_path).values()
    assert found["py"] > BOUND


def test_a_file_of_a_name_that_is_no_module_is_used_as_the_card_says(python: Path, tmp_path: Path) -> None:
    space = nasdsl.load("residual_mlp")
    write(tmp_path, [(space, space.sample(1, seed=0)[0])], ["py"])
    (home,) = tmp_path.iterdir()
    arch = space.sample(1, seed=0)[0]
    weights = home / "model.safetensors"
    nasdsl.export(space, arch, home / "2-layers.py", weights=weights)
    (found,) = outside(python, tmp_path).values()
    assert found["py"] <= BOUND
    assert json.dumps("2-layers.py") in (home / "MODEL.md").read_text("utf-8")
