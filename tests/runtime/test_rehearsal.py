"""A dry run: it looks at the folder of the real run, reads enough, and hands on what retraining needs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nasdsl.runtime.search.bilevel import search_streams, weights_share
from nasdsl.runtime.standalone.arguments import read_arguments, read_config
from nasdsl.runtime.standalone.basics import Mistake, WrongUse
from nasdsl.runtime.standalone.data import Data, Split, _few, divide
from nasdsl.runtime.standalone.rehearsal import Rehearsal
from nasdsl.runtime.standalone.run import Run
from nasdsl.runtime.standalone.team import Team
from nasdsl.runtime.standalone.training import RETRAIN_RULES, retrain
from tests.runtime.test_training import CONFIG, MODEL


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "runs" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "0" / "model.py").write_text(MODEL)
    return tmp_path


def start(home: Path, *line: str) -> None:
    """Retraining, in this process."""
    whole = ["--device", "cpu", "--limit-batches", "1", "--epochs", "2", *line]
    args = read_arguments("test", whole, model=True)
    retrain(args, read_config(home / "config.toml", "retrain", args, RETRAIN_RULES), home)


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_a_retraining_is_rehearsed_with_the_model_of_its_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(home)
    start(home, "--dry-run")
    assert "a checkpoint has" in capsys.readouterr().out
    assert files(home) == before


def test_a_dry_run_says_what_the_folder_holds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(home)
    path = home / "runs/0/retrain/checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1])  # the one before it is there
    before = files(home)
    start(home, "--dry-run")
    assert "the real one continues" in capsys.readouterr().out
    with pytest.raises(Mistake, match=r"runs/0/retrain holds another run \(clip was 5.0, is 2.0\)"):
        start(home, "--dry-run", "--set", "clip=2")
    with pytest.raises(Mistake, match=r"holds another run \(limit_batches was 1, is 2\)"):
        start(home, "--dry-run", "--limit-batches", "2")
    start(home, "--dry-run", "--set", "clip=2", "--restart")
    assert "will throw away" in capsys.readouterr().out
    assert files(home) == before


def test_a_dry_run_finds_a_folder_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "afile").write_text("not a folder")
    model = ("--model", str(home / "runs/0/model.py"))
    with pytest.raises(Mistake, match=r"afile/retrain cannot be written: .*--out"):
        start(home, "--dry-run", "--out", str(home / "afile"), *model)
    (home / "nasdsl.lock").write_text('{"kind": "directory"}')
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    start(home, "--dry-run")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(Mistake, match="make room"):
        start(home, "--dry-run")


def test_a_run_that_goes_on_needs_room_for_one_checkpoint_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(home)
    sizes = [path.stat().st_size for path in (home / "runs/0/retrain").glob("checkpoint*.pt")]
    assert len(sizes) == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * max(sizes)))
    start(home, "--dry-run")
    with pytest.raises(Mistake, match="make room"):
        start(home, "--dry-run", "--out", str(home / "elsewhere"), "--model", str(home / "runs/0/model.py"))


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.2])
def test_both_parts_of_what_a_dry_run_reads_have_whole_batches(fraction: float, tmp_path: Path) -> None:
    args = read_arguments("test", ["--dry-run"])
    settings = {"batch_size": 16, "epochs": 9, "train_fraction": fraction, "loader": "auto"}
    rehearsal = Rehearsal(args, settings, tmp_path, weights_share(settings))
    labels = torch.tensor([0] * 3000 + [1] * 4 + [2] * 4)  # not of every class there are as many
    assert rehearsal.few is not None
    taken = _few(labels, rehearsal.few)
    assert rehearsal.few <= len(taken) < len(labels)
    assert set(labels[taken].tolist()) == {0, 1, 2}
    parts = divide(Split(torch.zeros(len(taken), 1), labels[taken]), fraction, 0)
    assert min(map(len, parts)) >= 4 * settings["batch_size"]
    assert weights_share({"informed_split": True, "weight_steps": 3.0}) == 0.75


def test_what_only_judges_need_not_be_divided_among_processes() -> None:
    split = Split(torch.zeros(40, 5), torch.arange(40) % 3)
    data = Data(split, split, torch.zeros(5), torch.ones(5), False, ())
    settings = {"augment": False, "pad": 0, "flip": False, "train_fraction": 0.9, "batch_size": 6}
    team = Team(rank=1, world=3)
    train, held_out = search_streams(data, settings, 0, team, judging=True)
    assert (train.size, held_out.size) == (6, 4)
    assert len(held_out.peek(0)[1]) == 4
    with pytest.raises(WrongUse, match="a batch of 4 cannot be divided"):
        search_streams(data, settings, 0, team)


def test_the_rehearsed_retraining_has_what_it_shares_with_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--dry-run", "--deterministic", "--sync-bn", "--seed", "3", "--set", "augment=false"]
    args = read_arguments("test", [*given, "--set", "weight_lr=1", "--set", "name=digits"])
    rehearsal = Rehearsal(args, {"epochs": 3, "batch_size": 8, "loader": "auto"}, tmp_path)
    run = Run(tmp_path / "run", {"name": "cifar10"})
    run.parts["net"] = torch.nn.Linear(2, 2)
    lines: list[list[str]] = []

    def started(line: list[str], **_: Any) -> SimpleNamespace:
        assert not run.parts  # what it held of a GPU is given back
        lines.append(line)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", started)
    rehearsal.retrain(tmp_path / "retrain.py", run)
    told = read_arguments("test", lines[0][2:], model=True)
    assert told.settings == ["augment=false"]
    assert (told.data, told.seed, told.deterministic, told.sync_bn) == ("cifar10", 3, True, True)
    assert Path(told.out).parent == run.folder
