"""Kinds of tables: names, plug-ins, and what is not imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nasdsl
from nasdsl.errors import UserError
from nasdsl.tabular import TABLES
from tests.tabular.tables import SMALL, told, written

SPACE = nasdsl.load("nasbench201")

PLUGIN = """
from nasdsl.tabular import Keys, Ranked


class Constant(Ranked):
    def keys(self):
        return [self.form.of_choices(self.form.choices(self.name))]

    def value(self, key, metric):
        return 1.0 if key in self.keys() else None


def open_constant(request):
    return Constant(Keys(request.space), request.path, ("one",), request.sha256, asked=request.metric)
"""


def test_a_plug_in_adds_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "constants-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: constants\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nasdsl.tables]\nconstant = constants_kind:open_constant\n")
    (tmp_path / "constants_kind.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(TABLES, "_plugins", None)
    monkeypatch.setattr(TABLES, "_loaded", {})
    arch = SPACE.sample(1)[0]
    text = SPACE.format(arch)
    table = SPACE.table(f"constant:{text}#sha256={'a' * 64}")
    assert (table.digest, table.check(SPACE.architecture), len(table)) == ("a" * 64, 1, 1)
    assert table.standing(arch).rank == 1
    assert not table.has(SPACE.sample(1, seed=5)[0])
    with pytest.raises(UserError, match="no metric `two`"):
        SPACE.table(f"constant:{text}", "two")
    monkeypatch.setattr(TABLES, "_plugins", None)


def test_an_unknown_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean `natsbench`") as caught:
        SPACE.table("natsbenhc:somewhere")
    assert told(caught.value)[0] == "NAS604"
    monkeypatch.chdir(tmp_path)
    written(tmp_path, SMALL, "run:3.csv")
    assert (
        len(SPACE.table("run:3.csv")) == len(SPACE.table("./run:3.csv")) == len(SPACE.table("csv:run:3.csv"))
    )


def test_natsbench_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NATS-tss-v1_0-3ffb9-simple\.tar") as caught:
        SPACE.table(f"natsbench:{tmp_path}/missing")
    assert told(caught.value)[0] == "NAS005"
    with pytest.raises(UserError, match="NATS-sss"):
        nasdsl.load("nats_size").table(f"natsbench:{tmp_path}/missing")
    with pytest.raises(UserError, match="no results for space `darts`"):
        nasdsl.load("darts").table(f"natsbench:{tmp_path}")
    with pytest.raises(UserError, match="it has no checksum"):
        SPACE.table(f"natsbench:{tmp_path}#sha256={'0' * 64}")
    with pytest.raises(UserError, match="NAS602"):
        SPACE.table(f"natsbench:{written(tmp_path, b'x')}#sha256={'0' * 64}")


@pytest.mark.skipif(importlib.util.find_spec("nats_bench") is not None, reason="the package is installed")
def test_natsbench_without_its_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pip install nats_bench") as caught:
        SPACE.table(f"natsbench:{tmp_path}")
    assert told(caught.value)[0] == "NAS604"


LAZY = """
import sys
import nasdsl
space = nasdsl.load("nasbench201")
assert "nasdsl.tabular" not in sys.modules
table = space.table(sys.argv[1], "accuracy")
table.standing(space.sample(1)[0]), table.check(space.architecture)
from nasdsl.cli import main
assert main(["benchmark", "nasbench201", "--table", sys.argv[1], "--check"]) == 0
loaded = {"torch", "nats_bench", "nasdsl.tabular.natsbench"} & set(sys.modules)
assert not loaded, loaded
"""


def test_nothing_heavy_is_imported(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY, written(tmp_path, SMALL)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
