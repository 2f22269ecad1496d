"""What processes are told by those who start them, and how they agree on what one of them has met."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.runtime.standalone.basics import Mistake, WrongUse, complain, rank_here
from nasdsl.runtime.standalone.run import Run
from nasdsl.runtime.standalone.team import Team
from tests.runtime.many import launched, together


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launched(0, 1, 1), "SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_another_launcher_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name, value in launched(0, 2, 1).items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse, match=rf"there is no {missing}: start several processes with torchrun"):
        Team.start("cpu")


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "x"), ("WORLD_SIZE", "0"), ("RANK", "-1")])
def test_what_is_no_number_of_processes_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for known, number in launched(0, 2, 1).items():
        monkeypatch.setenv(known, number)
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse, match=f"{name}={value} in the environment"):
        Team.start("cpu")


def test_a_process_that_is_alone_is_the_first_whatever_is_called_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert rank_here() == 0
    complain("error: a word", shared=True)
    assert capsys.readouterr().err == "error: a word\n"
    assert Team.start("cpu").first


def test_a_command_that_is_repeated_for_the_user_does_not_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, epoch in (("0", None), ("1", 7)):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
        run = Run(tmp_path, {}, restart=True, team=Team())
        state = run.load()
        assert (state and state["counters"]["epoch"]) == epoch
        run.at["epoch"] = 7
        run.save()


def test_a_memory_that_is_full_is_not_a_process_that_is_lost() -> None:
    def full() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Team(world=2)._call(full)


def _met(team: Team, who: set[int]) -> tuple[str, bool]:
    def make() -> str:
        if team.rank in who:
            raise WrongUse(f"rank {team.rank} has no table")
        return "made"

    try:
        return str(team.each(make)), False
    except Mistake as mistake:
        return str(mistake), mistake.shared


def test_a_mistake_is_said_by_those_who_met_it() -> None:
    """By the first process where all have; by itself where one has, and the others end with it."""
    found = together(2, lambda team: [_met(team, who) for who in (set(), {1}, {0}, {0, 1})])
    others = "1 of 2 processes cannot begin, and say why", True
    assert [each[0] for each in found] == [("made", False)] * 2
    assert [each[1] for each in found] == [others, ("rank 1 has no table", False)]
    assert [each[2] for each in found] == [("rank 0 has no table", False), others]
    assert [each[3] for each in found] == [("rank 0 has no table", True), ("rank 1 has no table", True)]


def test_no_process_leaves_while_the_first_one_writes(tmp_path: Path) -> None:
    """What started them may kill the others as soon as one has left."""

    def leave(team: Team) -> bool:
        run = Run(tmp_path, {}, stop_after=1, team=team)
        save = run.checkpoints.write

        def slow(state: dict[str, Any]) -> None:
            time.sleep(1)
            save(state)

        run.checkpoints.write = slow  # type: ignore[method-assign]
        try:
            run.tick()
        except SystemExit:
            return (tmp_path / "checkpoint.pt").exists()
        return False

    assert together(2, leave) == [True, True]
