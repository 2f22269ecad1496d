"""Checkpoints in a folder: what a kill between two renames leaves, which one is the last, what is said of others."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.checkpoint import Checkpoints


class Killed(BaseException):
    pass


def state(epoch: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: {} for name in ("identity", "parts", "random", "lock")}
    return found | {"counters": {"epoch": epoch}, "log": []}


def epoch_in(folder: Path, keep: int = 2) -> int:
    found = Checkpoints(folder, keep).read()
    assert found is not None
    epoch: int = found["counters"]["epoch"]
    return epoch


@pytest.mark.parametrize("kept", [2, 3])
@pytest.mark.parametrize("stop", range(9))
@pytest.mark.parametrize("damaged", ["checkpoint.pt", "checkpoint.previous.pt", ""])
def test_a_kill_between_any_two_renames_leaves_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, stop: int, kept: int
) -> None:
    checkpoints = Checkpoints(tmp_path, kept)
    for epoch in range(kept):
        checkpoints.write(state(epoch))
    good = kept - 2 if damaged == "checkpoint.pt" else kept - 1
    if damaged:
        (tmp_path / damaged).write_bytes(b"")
    replace, count = os.replace, 0

    def some(old: Path, new: Path) -> None:
        nonlocal count
        if count == stop:
            raise Killed
        count += 1
        replace(old, new)

    monkeypatch.setattr(os, "replace", some)
    with contextlib.suppress(Killed):
        assert checkpoints.read() is not None
        for epoch in (10, 11):
            checkpoints.write(state(epoch))
    monkeypatch.undo()
    assert epoch_in(tmp_path, kept) in (good, 10, 11)
    Checkpoints(tmp_path, kept).write(state(12))
    assert epoch_in(tmp_path, kept) == 12


def test_what_cannot_be_read_is_put_aside_and_only_where_it_is_asked_for(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2):
        checkpoints.write(state(epoch))
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    before = sorted(tmp_path.iterdir())
    assert checkpoints.read(mends=False) is not None
    assert sorted(tmp_path.iterdir()) == before
    assert epoch_in(tmp_path) == 1
    assert (tmp_path / "checkpoint.pt.damaged").read_bytes() == b"half"
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_written_whole_and_not_renamed_is_the_last_resort(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    new = tmp_path / "checkpoint.new"
    checkpoints.write(state(5))
    os.replace(tmp_path / "checkpoint.pt", new)
    assert epoch_in(tmp_path) == 5
    assert not new.exists()
    new.write_bytes((tmp_path / "checkpoint.pt").read_bytes()[:-20])
    (tmp_path / "checkpoint.pt").unlink()
    assert checkpoints.read() is None  # half of one is none: the run was killed in its first save


def test_older_checkpoints_are_taken_by_their_number_and_go_when_fewer_are_kept(tmp_path: Path) -> None:
    many = Checkpoints(tmp_path, 13)
    for epoch in range(13):
        many.write(state(epoch))
    few = Checkpoints(tmp_path, 2)
    found = [torch.load(p, weights_only=True)["counters"]["epoch"] for p in few.found()]
    assert found == list(range(12, -1, -1))
    few.write(state(13))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert epoch_in(tmp_path) == 13


@pytest.mark.parametrize("kind", ["archive", "pickle"])
def test_nobody_is_advised_to_unpickle_what_is_no_checkpoint(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    if kind == "archive":
        torch.save({"format": 2, "where": Path("here")}, path)
    else:
        path.write_bytes(pickle.dumps(Path("here")))
    with pytest.raises(Mistake, match="--restart begins anew"):
        Checkpoints(tmp_path).read()
    said = capsys.readouterr().err
    assert "weights_only" not in said
    assert "arbitrary" not in said
    assert ("nothing of it was run" if kind == "archive" else "no checkpoint of a run") in said
