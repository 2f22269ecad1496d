"""What a run leaves in its folder, and what becomes of it when the run begins anew or goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.runtime.standalone.arguments import read_arguments
from nasdsl.runtime.standalone.basics import Mistake, file_digest, seed_everything
from nasdsl.runtime.standalone.lock import LOCK, digests, read_lock
from nasdsl.runtime.standalone.run import Run, options_of
from nasdsl.runtime.standalone.training import model_of
from tests.runtime.test_run import equal

CPU = torch.device("cpu")
SEARCH = {"method": "darts", "seed": 1}
LEFT = (
    "model.py",
    "architecture.json",
    "judged.json",
    "front/01.json",
    "inherited/record.json",
    "report.html",
)
OWN = ("notes.txt", "data/train.bin", "front/own.txt", "weights.safetensors", "retrain/own.txt")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"stands for {name}\n")


def ended(folder: Path, identity: dict[str, Any], *names: str) -> Run:
    run = Run(folder, identity)
    run.resume({})
    put(folder, *names)
    run.end_epoch({"epoch": 1})
    run.finish()
    return run


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_search_that_begins_anew_leaves_nothing_of_the_one_before_and_all_that_is_the_users(
    tmp_path: Path,
) -> None:
    ended(tmp_path, SEARCH, *LEFT, *OWN)
    of_it = {"model": file_digest(tmp_path / "model.py")}
    ended(tmp_path / "retrain", of_it, "result.json", "weights.safetensors", "checkpoint_best.pt")
    Run(tmp_path, SEARCH, restart=True)
    assert names(tmp_path) == {*OWN, "retrain/checkpoint_best.pt"}
    assert not (tmp_path / "inherited").exists()


def test_what_is_named_like_a_runs_file_stays_where_no_run_was(tmp_path: Path) -> None:
    put(tmp_path, *LEFT, *OWN, "log.jsonl", "retrain/weights.pt")
    before = names(tmp_path)
    Run(tmp_path, SEARCH, restart=True)
    assert names(tmp_path) == before


def test_the_retraining_of_another_network_stays_when_a_search_begins_anew(tmp_path: Path) -> None:
    ended(tmp_path, SEARCH, *LEFT)
    ended(tmp_path / "retrain", {"model": "another"}, "result.json", "weights.safetensors")
    kept = {name for name in names(tmp_path) if name.startswith("retrain/")}
    Run(tmp_path, SEARCH, restart=True)
    assert names(tmp_path) == kept


def test_a_job_that_is_started_again_goes_on_with_its_own_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    for count, epoch in (("0", None), ("1", 7), ("2", 7)):
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
        run = Run(
            tmp_path, SEARCH, restart=True, facts=options_of(read_arguments("test", []), CPU, {})["facts"]
        )
        run.resume({})
        state = run.load()
        assert (state and state["counters"]["epoch"]) == epoch
        run.at["epoch"] = 7
        run.save()
    assert "was begun by this job" in capsys.readouterr().out
    monkeypatch.setenv("SLURM_JOB_ID", "13")  # a job that was started again before it came here
    assert Run(tmp_path, {"method": "other"}, restart=True).load() is None


def test_a_retraining_that_begins_anew_leaves_the_search_alone(tmp_path: Path) -> None:
    ended(tmp_path, SEARCH, *LEFT)
    before = names(tmp_path)
    ended(tmp_path / "retrain", {"model": "x"}, "result.json", "weights.pt", "model.py")
    Run(tmp_path / "retrain", {"model": "x"}, restart=True)
    assert names(tmp_path) == before | {"retrain/model.py"}


def test_the_digests_of_a_run_are_of_what_it_wrote(tmp_path: Path) -> None:
    search = ended(tmp_path, SEARCH, *LEFT, *OWN, "supernet.pt")
    told = {"log.jsonl", "supernet.pt", *LEFT} - {"report.html"}
    assert set(search.lock["files"]) == told
    trained = ended(tmp_path / "retrain", {"model": "x"}, "weights.pt", "last_step.pt", "result.json")
    assert set(trained.lock["files"]) == {"log.jsonl", "weights.pt", "last_step.pt", "result.json"}
    assert digests(tmp_path).items() >= search.lock["files"].items()


def test_no_run_takes_the_place_of_a_compiled_directory(tmp_path: Path) -> None:
    lock = json.dumps({"kind": "directory"})
    (tmp_path / LOCK).write_text(lock)
    with pytest.raises(Mistake, match=r"is a compiled directory: .*--out"):
        Run(tmp_path, SEARCH, restart=True)
    assert (tmp_path / LOCK).read_text() == lock


def test_a_model_is_trained_once_its_search_has_ended(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    run = Run(tmp_path, SEARCH)
    run.resume({})
    run.write("model.py", "WIDTH = 3\n")
    args = read_arguments("test", out, model=True)
    with pytest.raises(Mistake, match=r"has not ended: run search\.py again, .*--model"):
        model_of(args, tmp_path)
    named = read_arguments("test", [*out, "--model", str(tmp_path / "model.py")], model=True)
    assert model_of(named, tmp_path) == tmp_path / "model.py"
    run.finish()
    assert model_of(args, tmp_path) == tmp_path / "model.py"
    (tmp_path / LOCK).unlink()  # a folder of the user's own
    assert model_of(args, tmp_path) == tmp_path / "model.py"


def test_a_run_that_has_ended_keeps_its_digests_while_it_is_run_again(tmp_path: Path) -> None:
    lock = ended(tmp_path, SEARCH, "model.py").lock
    again = Run(tmp_path, SEARCH)
    again.resume({})
    found = read_lock(tmp_path)
    assert found is not None
    assert found["files"] == lock["files"]
    again.save()  # states of runs do not differ by whether they had ended
    state = again.load()
    assert state is not None
    assert state["lock"]["files"] == {}
    again.end_epoch({"epoch": 2})
    Run(tmp_path, SEARCH).resume({})  # now further than what has digests
    found = read_lock(tmp_path)
    assert found is not None
    assert found["files"] == {}


@pytest.mark.parametrize("end", ['{"event": "sav', '{"event": "sav\n', "[1]\n", "\ufffd"])
def test_a_line_of_the_timeline_that_was_cut_short_takes_no_other_with_it(tmp_path: Path, end: str) -> None:
    run = Run(tmp_path, {})
    run.resume({})
    run.save()
    with (tmp_path / "timeline.jsonl").open("a") as file:
        file.write(end)
    Run(tmp_path, {}).resume({})
    lines = (tmp_path / "timeline.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "saved", "continued"]


def test_a_run_that_goes_on_without_deterministic_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (["--deterministic"], []):
        args = read_arguments("test", line)
        options = options_of(args, CPU, {})
        run = Run(tmp_path, {}, facts=options["facts"])
        run.resume({})
        run.save()
    assert "continuing elsewhere (deterministic was True, is False)" in capsys.readouterr().out
    lock = read_lock(tmp_path)
    assert lock is not None
    assert lock["arguments"]["deterministic"] is True
    assert lock["continued"][0]["deterministic"] is False
    assert lock["cwd"] == str(Path.cwd())


def short_epochs(folder: Path, stop_after: int | None = None) -> Any:
    """Four epochs of one step; the second step has a loss of its own."""
    seed_everything(1, deterministic=False)
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.fill_(0.5)
        net.bias.zero_()
    run = Run(folder, {}, stop_after=stop_after)
    at = run.resume({"net": net})
    meter = run.meter(CPU)
    for epoch in range(at["epoch"], 4):
        for step in range(at["step"], 1):
            meter.add("loss", torch.tensor(float(epoch)), epoch + 1)
            if epoch == 1:
                meter.add("other", torch.tensor(7.0), epoch + 1)
            with torch.no_grad():
                net.weight.add_(1)
            at["step"] = step + 1
            run.tick()
        run.end_epoch({"epoch": epoch + 1})
    run.finish()
    return run.load()


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_the_first_steps_are_counted_over_epochs_and_stops(tmp_path: Path, stop_after: int) -> None:
    whole = short_epochs(tmp_path / "whole")
    with pytest.raises(SystemExit):
        short_epochs(tmp_path / "cut", stop_after)
    assert equal(short_epochs(tmp_path / "cut"), whole)
    locks = [json.loads((tmp_path / name / LOCK).read_text()) for name in ("whole", "cut")]
    assert locks[0] == locks[1]
    first = locks[0]["first_steps"]
    assert first["steps"] == 3
    assert [sorted(losses) for losses in first["losses"]] == [["loss"], ["loss", "other"], ["loss"]]
