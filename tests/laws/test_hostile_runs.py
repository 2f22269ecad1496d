"""Checkpoints and weights of somebody else's making: none runs code, wherever it is read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl.cli import main
from tests.verifying.common import script

TEXT = """
space small {
  input image(1, 8, 8)
  network { stem: conv(3, 4) >> bn  body: choose { a: conv(3, 4), b: conv(5, 4) } head: global_pool >> linear(10) }
}
"""
LINE = ("--data", "digits", "--device", "cpu", "--limit-batches", "1", "--set", "batch_size=8")


class Evil:
    """Unpickled, it runs a command that leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def plain(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(marker)))


def archive(path: Path, marker: Path) -> None:
    torch.save({"identity": Evil(marker), "state": torch.zeros(2)}, path)


def old(path: Path, marker: Path) -> None:
    torch.save({"weight": Evil(marker)}, path, _use_new_zipfile_serialization=False)


def swapped(path: Path, marker: Path) -> None:
    """A good checkpoint whose pickle was replaced."""
    torch.save({"identity": {}}, path)
    with zipfile.ZipFile(path) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, data in parts.items():
            after.writestr(name, pickle.dumps(Evil(marker)) if name.endswith("data.pkl") else data)


FORMS: list[Callable[[Path, Path], None]] = [plain, archive, old, swapped]


def test_each_form_would_run_its_command(tmp_path: Path) -> None:
    """Else what follows would hold of anything."""
    for form in FORMS:
        form(tmp_path / "evil.pt", tmp_path / form.__name__)
        if form is plain:
            pickle.loads((tmp_path / "evil.pt").read_bytes())  # noqa: S301 - the point of this test
        else:
            torch.load(tmp_path / "evil.pt", weights_only=False)
        assert (tmp_path / form.__name__).exists(), form.__name__


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    here = tmp_path_factory.mktemp("hostile")
    (here / "small.nas").write_text(TEXT)
    nasdsl.load(here / "small.nas").compile("darts", settings={"epochs": 1}).write(here / "out")
    done = script(here / "out" / "search.py", *LINE)
    assert done.returncode == 0, done.stderr
    return here / "out"


@pytest.fixture
def home(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended, tmp_path / "dir"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_search_refuses_such_a_checkpoint(
    form: Callable[[Path, Path], None], home: Path, tmp_path: Path, root: Path
) -> None:
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        form(home / "runs/0" / name, tmp_path / "executed")
    done = script(home / "search.py", *LINE)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no checkpoint in" in done.stderr
    assert "--restart begins anew" in done.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_retraining_refuses_such_weights(
    form: Callable[[Path, Path], None], home: Path, tmp_path: Path, root: Path
) -> None:
    for name in ("evil.pt", "evil.safetensors") if form is archive else ("evil.pt",):
        form(tmp_path / name, tmp_path / "executed")
        done = script(home / "retrain.py", *LINE, "--epochs", "1", "--weights", str(tmp_path / name))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert f"--weights {tmp_path / name} cannot be read" in done.stderr
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["checkpoint.pt", "supernet.safetensors"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_verbs_that_open_a_run_refuse_it(
    form: Callable[[Path, Path], None],
    name: str,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    form(home / "runs/0" / name, tmp_path / "executed")
    space = str(home / "space.nas")
    trained = tmp_path / "trained.jsonl"
    lines = [{"architecture": {"body.op": op}, "accuracy": 0.5} for op in ("a", "b")]
    trained.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for words in (
        ["verify", str(home / "runs/0")],
        ["rank", str(home), "--trained", str(trained)],
        ["score", space, "--run", str(home), "-n", "2"],
        ["export", space, "--run", str(home / "runs/0"), "-o", str(tmp_path / "out.py")],
        ["report", str(home / "runs/0"), "-o", str(tmp_path / "out.html")],
    ):
        code = main(words)
        out, err = capsys.readouterr()
        assert code in ((0, 1, 2) if words[0] == "report" else (1, 2)), (words, out, err)
        assert "this is a bug" not in err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_export_refuses_such_weights(
    form: Callable[[Path, Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.nas").write_text(TEXT)
    form(tmp_path / "evil.pt", tmp_path / "executed")
    space = nasdsl.load(tmp_path / "small.nas")
    arch = space.sample(1)[0].to_json()
    words = ["export", str(tmp_path / "small.nas"), "--arch", arch, "--weights", str(tmp_path / "evil.pt")]
    assert main([*words, "-o", str(tmp_path / "out.py")]) in (1, 2)
    assert "this is a bug" not in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


def test_code_that_a_checkpoint_names_as_its_data_is_not_called(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rank` and `score` read which data a run had from its checkpoint, which is data itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_data.py").write_text("open('executed', 'w').close()\n")
    path = home / "runs/0/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["identity"]["name"] = "evil_data:load"
    torch.save(state, path)
    (tmp_path / "trained.jsonl").write_text(
        '{"architecture": {"body.op": "a"}, "accuracy": 1}\n{"architecture": {"body.op": "b"}, "accuracy": 0}\n'
    )
    assert main(["rank", str(home), "--trained", "trained.jsonl"]) == 1
    assert "name it, too: --data evil_data:load" in capsys.readouterr().err
    assert main(["score", str(home / "space.nas"), "--run", str(home), "-n", "2"]) == 1
    assert "names code as its data" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()
