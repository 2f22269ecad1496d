"""Runs that were touched, moved or replayed: what is said of them."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl import UserError
from nasdsl.cli import main
from nasdsl.codegen.lock import directory_of
from nasdsl.runtime.standalone.checkpoint import seal
from nasdsl.runtime.standalone.lock import text_of_lock
from nasdsl.verifying import Finding, Report
from nasdsl.verifying.data import verify_data
from nasdsl.verifying.record import read_run
from nasdsl.verifying.replay import replay
from nasdsl.verifying.run import verify_environment, verify_run
from tests.verifying import common
from tests.verifying.common import DAMAGES, LINE, of, relock, script


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Changes a file; a lock is made to fit its checksum again, as somebody who means it would."""
    common.edit(path, change)
    if path.name == "nasdsl.lock":
        lock = json.loads(path.read_text("utf-8"))
        del lock["checksum"]
        path.write_text(text_of_lock(lock), "utf-8")


def verified(folder: Path, directory: Path | None = None) -> Report:
    return verify_run(folder, directory)[0]


def said(report: Report) -> list[Finding]:
    """What matters."""
    return [f for f in report.findings if f.matters]


@pytest.mark.parametrize("run", ["runs/0", "runs/0/retrain"])
def test_what_nobody_touched_is_the_same_and_its_first_steps_are_the_same_again(
    ended: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in ended.rglob("*"))
    assert main(["verify", str(ended / run), "--replay", "--json"]) == 0
    assert sorted(path for path in ended.rglob("*")) == before
    record = json.loads(capsys.readouterr().out)
    assert record["findings"] == []
    assert "replay: the first 3 steps are the same to the bit" in record["good"]
    assert any(line.startswith("data: digits, the run's own (train, test") for line in record["good"])
    assert any(line.startswith("identity: a run of") for line in record["good"])


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["model.py", "architecture.json", "supernet.safetensors", "log.jsonl", "retrain/weights.safetensors"],
)
def test_damage_of_an_artefact_is_found_by_its_name_with_a_cure(home: Path, name: str, how: str) -> None:
    path = home / "runs/0" / name
    data = DAMAGES[how](path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    report = verified(path.parent)
    finding = of(report, path.name)
    assert finding.matters
    assert finding.cure is not None
    assert f"run `python {'retrain' if 'retrain' in name else 'search'}.py`" in finding.cure


def test_a_picture_that_was_changed_does_not_matter(home: Path) -> None:
    edit(home / "runs/0/architecture.svg", lambda t: t + "\n")
    report = verified(home / "runs/0")
    assert [(f.subject, f.matters) for f in report.findings] == [("architecture.svg", False)]


def test_a_flipped_bit_in_a_checkpoint_is_found_wherever_it_counts(home: Path) -> None:
    path = home / "runs/0/checkpoint.pt"
    whole = path.read_bytes()
    found = 0
    for place in range(40, len(whole), len(whole) // 25):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        report = verified(home / "runs/0")
        mine = [f for f in report.findings if f.subject == "checkpoint.pt"]
        found += bool(mine)
        assert all("goes on from checkpoint.previous.pt" in f.what for f in mine)
    # The archive pads its parts; what lies between them says nothing.
    assert found >= 20


def test_a_run_without_a_whole_checkpoint_cannot_go_on(home: Path) -> None:
    for path in (home / "runs/0").glob("checkpoint*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    report = verified(home / "runs/0")
    assert {f.subject for f in said(report)} == {"checkpoint.pt", "checkpoint.previous.pt"}
    assert all("cannot go on" in f.what and "--restart" in (f.cure or "") for f in said(report))


def test_a_checkpoint_of_another_run_is_said(home: Path) -> None:
    path = home / "runs/0/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["identity"]["epochs"] = 50
    torch.save(state, path)
    seal(path)
    assert "epochs was 50, is 2" in of(verified(home / "runs/0"), "checkpoint.pt").what


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(home: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    torch.save({"identity": Hostile(marker)}, home / "runs/0/checkpoint.pt")
    seal(home / "runs/0/checkpoint.pt")
    finding = of(verified(home / "runs/0"), "checkpoint.pt")
    assert "nothing in it was executed" in finding.what
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))  # noqa: S301 - which shows that it would have been
    assert marker.exists()


def resealed(path: Path, change: Callable[[Any], object]) -> None:
    """Changes a checkpoint and seals it again, as anybody can."""
    state = torch.load(path, weights_only=True)
    torch.save(change(state) or state, path)
    seal(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: [s],
        lambda s: s.update(log=[1, 2]),
        lambda s: s.update(log={"a": 1}),
        lambda s: s.update(format="x"),
        lambda s: s.update(identity=3),
        lambda s: s["identity"].update(seed=torch.zeros(3)),
        lambda s: s["identity"].update(seed=10**5000),
        lambda s: s["identity"].update(seed=(1, 2)),
        lambda s: s["identity"].update({3: 4}),
        lambda s: s["identity"].update(seed=nested(300)),
    ],
    ids=range(10),
)
def test_a_checkpoint_of_wrong_kinds_is_none_of_a_run(home: Path, change: Callable[[Any], object]) -> None:
    resealed(home / "runs/0/checkpoint.pt", change)
    assert "is no checkpoint of a run" in of(verified(home / "runs/0"), "checkpoint.pt").what


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(("version", "cure"), [(99, "update nasdsl"), (1, "end the run with that version")])
def test_a_checkpoint_of_another_format_cannot_be_gone_on_with(home: Path, version: int, cure: str) -> None:
    resealed(home / "runs/0/checkpoint.pt", lambda state: state.update(format=version))
    finding = of(verified(home / "runs/0"), "checkpoint.pt")
    assert finding.matters
    assert cure in (finding.cure or "")


@pytest.mark.parametrize("name", ["model.py", "supernet.safetensors", "log.jsonl", "inherited/record.json"])
def test_an_artefact_that_the_lock_leaves_out_is_said(home: Path, name: str) -> None:
    relock(home / "runs/0", lambda data: data["files"].pop(name))
    report = verified(home / "runs/0")
    assert "is not named by the run's lock" in of(report, name).what
    assert report.matters


def test_a_lock_without_any_files_does_not_pass_for_a_run_that_goes_on(home: Path) -> None:
    relock(home / "runs/0", lambda data: data.update(files={}))
    assert {f.subject for f in said(verified(home / "runs/0"))} == {
        "model.py",
        "architecture.json",
        "supernet.safetensors",
    }


def test_bytecode_that_would_be_trained_in_the_place_of_the_model_matters(home: Path) -> None:
    model, cache = home / "runs/0/model.py", home / "runs/0/__pycache__"
    (model.parent / "other.py").write_text("Network = None\n")
    cache.mkdir(exist_ok=True)
    target = cache / Path(importlib.util.cache_from_source(str(model))).name
    py_compile.compile(
        str(model.parent / "other.py"),
        str(target),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    assert "in the place of model.py" in of(verified(home / "runs/0"), f"__pycache__/{target.name}").what


def test_a_damaged_lock_is_one_of_what_it_lies_in(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "nasdsl.lock").write_text("{")
    assert directory_of(home / "runs/0") == home
    assert main(["verify", str(home / "runs/0")]) == 1
    assert "nasdsl.lock cannot be used" in capsys.readouterr().out
    (home / "runs/0/nasdsl.lock").write_text("{")
    assert directory_of(home / "runs/0/retrain") == home
    assert main(["verify", str(home / "runs/0")]) == 1
    assert "run the script that wrote the folder again" in capsys.readouterr().err


# --- whose run it is -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "config.toml",
            lambda t: t.replace("weight_lr = 0.025", "weight_lr = 0.5"),
            "has weight_lr = 0.5 now",
        ),
        ("supernet.py", lambda t: t + "# mine\n", "is not the supernet that was trained"),
    ],
)
def test_a_directory_that_changed_is_not_the_run_s(
    home: Path, name: str, change: Callable[[str], str], says: str
) -> None:
    edit(home / name, change)
    report = verified(home / "runs/0")
    assert says in of(report, name).what
    assert report.matters
    assert verified(home / "runs/0/retrain").findings == []


def test_settings_of_the_command_line_are_no_difference(home: Path) -> None:
    """The run had batch_size=8 and epochs from its command line; config.toml says otherwise."""
    edit(home / "config.toml", lambda t: t.replace("epochs = 2", "epochs = 7", 1))
    assert verified(home / "runs/0").findings == []


def test_retraining_of_another_model_is_said(home: Path) -> None:
    edit(home / "runs/0/model.py", lambda t: t + "# mine\n")
    assert "is not the network that was trained" in of(verified(home / "runs/0/retrain"), "model.py").what


def test_a_run_elsewhere_is_verified_against_the_directory_that_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved" / "run"
    shutil.move(home / "runs/0", moved)
    assert directory_of(moved) is None
    report = verified(moved)
    assert report.findings == []
    assert any("--directory" in line for line in report.unknown)
    assert verified(moved, home).findings == []
    assert main(["verify", str(moved), "--replay"]) == 2
    assert "--directory" in capsys.readouterr().err
    assert main(["verify", str(moved), "--replay", "--directory", str(home)]) == 0
    nasdsl.load("nasbench201", N=1, C=4).compile("darts").write(tmp_path / "other")
    other = verified(moved, tmp_path / "other")
    assert "another directory" in of(other, "space").what


def test_the_environment_is_compared(home: Path) -> None:
    def older(text: str) -> str:
        data = json.loads(text)
        data["environment"] |= {"torch": "2.5.0", "threads": 64}
        return json.dumps(data)

    edit(home / "runs/0/nasdsl.lock", older)
    report = verified(home / "runs/0")
    verify_environment(read_run(home / "runs/0"), report, replayed=False)
    assert {f.subject for f in said(report)} == {"torch", "threads"}
    assert of(report, "threads").cure == "OMP_NUM_THREADS=64"


def test_packages_that_read_images_matter_to_runs_on_images(home: Path) -> None:
    relock(home / "runs/0", lambda data: data["environment"].update(torchvision="0.1", pillow="1"))
    for name, subjects in (("digits", set()), ("cifar10", {"torchvision", "pillow"})):
        relock(home / "runs/0", lambda data, name=name: data["identity"].update(name=name))  # type: ignore[misc]
        report = Report("run", "x")
        verify_environment(read_run(home / "runs/0"), report, replayed=False)
        assert {f.subject for f in said(report)} == subjects


def test_what_a_replay_showed_to_be_the_same_is_harmless(home: Path) -> None:
    relock(home / "runs/0", lambda data: data["environment"].update(torch="2.5.0", device="x", nasdsl="0"))
    report = Report("run", "x")
    verify_environment(read_run(home / "runs/0"), report, replayed=True)
    assert {f.subject: f.matters for f in report.findings} == dict.fromkeys(
        ("torch", "device", "nasdsl"), False
    )


def test_where_a_run_went_on_elsewhere_is_said(home: Path) -> None:
    environment = json.loads((home / "runs/0/nasdsl.lock").read_text())["environment"]
    places = [
        {"epoch": 1, "step": 3, "environment": {**environment, "torch": "2.5.0"}},
        {"epoch": 2, "step": 1, "environment": environment},
        {"epoch": 2, "step": 2, "environment": environment, "deterministic": True},
    ]
    relock(home / "runs/0", lambda data: data.update(continued=places))
    report = Report("run", "x")
    verify_environment(read_run(home / "runs/0"), report, replayed=True)
    assert [f.what.partition(":")[0] for f in said(report)] == [
        f"went on elsewhere at epoch 1, step 3 (torch was {environment['torch']}, then 2.5.0)",
        "went on elsewhere at epoch 2, step 2 (with --deterministic)",
    ]
    relock(home / "runs/0", lambda data: data.update(continued=[{"epoch": "x"}]))
    with pytest.raises(UserError, match="NAS701"):
        read_run(home / "runs/0")


def test_a_model_is_found_from_where_the_run_was_started(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, start = home / "runs/0/retrain", tmp_path / "start"
    start.mkdir()
    shutil.copy(home / "runs/0/model.py", start / "m.py")
    monkeypatch.chdir(tmp_path)

    def started(data: dict[str, Any]) -> None:
        data["arguments"]["model"], data["cwd"] = "m.py", str(start)

    relock(run, started)
    assert verified(run).findings == []
    relock(run, lambda data: data.pop("cwd"))  # as locks were before
    for there in (False, True):
        if there:
            (tmp_path / "m.py").write_text("# another\n")
        report = verified(run)
        assert report.findings == []
        assert any("--model names it" in line for line in report.unknown)
    report = verify_run(run, None, start / "m.py")[0]
    assert (report.findings, [line for line in report.unknown if "--model" in line]) == ([], [])
    (tmp_path / "m.py").unlink()
    assert main(["verify", str(run), "--replay"]) == 0
    out = capsys.readouterr().out
    assert "not known the first steps: " in out
    assert "m.py is not found from here (--model names it)" in out
    assert main(["verify", str(home / "runs/0"), "--model", "m.py"]) == 2
    capsys.readouterr()


# --- data ------------------------------------------------------------------------


def test_other_data_are_found(home: Path) -> None:
    def other(text: str) -> str:
        data = json.loads(text)
        data["data"]["test"] = data["data"]["train"]
        return json.dumps(data)

    edit(home / "runs/0/nasdsl.lock", other)
    report = Report("run", "x")
    verify_data(read_run(home / "runs/0"), home, "digits", "data", report)
    assert "the test examples of digits are not those of the run" in of(report, "data").what


@pytest.mark.parametrize("name", ["imagefolder:none", "cifar10"])
def test_data_that_are_not_there_are_not_known(home: Path, tmp_path: Path, name: str) -> None:
    report = Report("run", "x")
    assert not verify_data(read_run(home / "runs/0"), home, name, str(tmp_path / "data"), report)
    assert (report.findings, len(report.unknown)) == ([], 1)
    assert not (tmp_path / "data").exists()


def test_code_that_a_run_names_as_its_data_runs_only_if_the_user_names_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\ndef data(): raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)

    def names_code(text: str) -> str:
        return text.replace('"name": "digits"', '"name": "evil:data"').replace(
            '"data": "digits"', '"data": "evil:data"'
        )

    edit(home / "runs/0/nasdsl.lock", names_code)
    main(["verify", str(home / "runs/0")])
    assert "runs only if you name it, too: --data evil:data" in capsys.readouterr().out
    assert main(["verify", str(home / "runs/0"), "--replay"]) == 2
    assert "--data evil:data" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


def test_steps_whose_data_are_not_there_are_not_known(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relock(home / "runs/0", lambda data: data["identity"].update(name="imagefolder:none"))
    main(["verify", str(home / "runs/0"), "--replay"])
    out = capsys.readouterr().out
    assert "not known the first steps: the data that they need are not at hand" in out
    assert "search.py ended" not in out


# --- replay ----------------------------------------------------------------------


def test_first_steps_that_are_others_are_named_with_what_they_may_come_of(home: Path) -> None:
    record = read_run(home / "runs/0")

    def other(text: str) -> str:
        data = json.loads(text)
        data["first_steps"]["losses"][1]["train_loss"] = (1.5).hex()
        data["first_steps"]["digest"] = "0" * 64
        return json.dumps(data)

    edit(home / "runs/0/nasdsl.lock", other)
    report = Report("run", "x")
    replay(read_run(home / "runs/0"), home, "digits", "data", report)
    finding = of(report, "replay")
    assert "`train_loss` of step 2 was 1.5, is " in finding.what
    assert "the program, its Python operations, the data or the memory may be others" in finding.what
    assert "--deterministic" not in finding.what  # which is of GPUs
    # The same losses, other weights.
    edit(home / "runs/0/nasdsl.lock", lambda t: t.replace((1.5).hex(), record.losses[1]["train_loss"]))
    report = Report("run", "x")
    replay(read_run(home / "runs/0"), home, "digits", "data", report)
    assert "the weights after them are not" in of(report, "replay").what


def test_a_replay_of_what_is_another_run_today_says_so(home: Path) -> None:
    edit(home / "config.toml", lambda t: t.replace("weight_lr = 0.025", "weight_lr = 0.5"))
    report = Report("run", "x")
    replay(read_run(home / "runs/0"), home, "digits", "data", report)
    assert "weight_lr was 0.025, is 0.5" in of(report, "replay").what


def test_a_script_that_fails_is_quoted(home: Path) -> None:
    edit(home / "config.toml", lambda t: t.replace("weight_lr = 0.025", 'weight_lr = "fast"'))
    report = Report("run", "x")
    replay(read_run(home / "runs/0"), home, "digits", "data", report)
    assert "search.py ended with code 1" in of(report, "replay").what
    assert "weight_lr" in of(report, "replay").what


def test_a_record_cannot_bring_words_of_its_own_to_the_command_line(home: Path) -> None:
    from nasdsl.verifying.replay import _command

    def hostile(text: str) -> str:
        data = json.loads(text)
        data["arguments"] |= {
            "out": "/", "restart": True, "benchmark": "natsbench:/evil", "epochs": {"x": 1}, "device": "--out=/",
            "settings": ["--restart", "a=b"], "__class__": "x", "deterministic": "yes",
        }  # fmt: skip
        return json.dumps(data)

    edit(home / "runs/0/nasdsl.lock", hostile)
    words = _command(read_run(home / "runs/0"), home, Path("OUT"), "digits", "data")
    assert words[2:] == [
        "--out=OUT", "--stop-after=3", "--data=digits", f"--data-dir={Path('data').absolute()}", "--device=--out=/",
        "--precision=fp32", "--limit-batches=4", "--seed=0", "--workers=2", "--set=--restart", "--set=a=b",
    ]  # fmt: skip


# --- the lock --------------------------------------------------------------------

RUN = {"format": 1, "kind": "run", "identity": {}, "arguments": {}, "environment": {}, "data": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{" * 1000,
        json.dumps({"format": 2, "kind": "run"}),
        json.dumps(RUN),
        json.dumps({**RUN, "first_steps": 3, "files": {}}),
        json.dumps({**RUN, "first_steps": {"steps": 1, "losses": [3], "digest": ""}, "files": {}}),
        json.dumps({**RUN, "first_steps": None, "files": []}),
        json.dumps({**RUN, "first_steps": None, "files": {}, "checksum": "0" * 64}),
        text_of_lock({**RUN, "first_steps": None, "files": {"../x": ""}}),
        text_of_lock({**RUN, "first_steps": None, "files": {"/etc/passwd": ""}}),
        text_of_lock({**RUN, "first_steps": None, "files": {"a\u0000": ""}}),
        json.dumps({**RUN, "environment": {"torch": [1]}, "first_steps": None, "files": {}}),
    ],
    ids=range(13),
)
def test_a_hostile_lock_of_a_run_gives_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "nasdsl.lock").write_text(text)
    with pytest.raises(UserError, match="NAS701"):
        read_run(tmp_path)


def test_a_run_that_has_not_ended_is_verified_as_far_as_it_goes(
    ended: Path, tmp_path: Path, root: Path
) -> None:
    done = script(
        ended / "search.py", *LINE, "--stop-after", "5", "--out", str(tmp_path / "r"), "--epochs", "3"
    )
    assert done.returncode == 0, done.stderr
    report = verified(tmp_path / "r", ended)
    assert report.findings == []
    assert any("has not ended" in line for line in report.unknown)
    (tmp_path / "r" / "log.jsonl").write_text("")
    assert [(f.subject, f.matters) for f in verified(tmp_path / "r", ended).findings] == [
        ("log.jsonl", False)
    ]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NAS005"):
        read_run(tmp_path)


def test_where_a_run_goes_on_matters_only_for_what_follows_and_what_it_uses(home: Path) -> None:
    lock = json.loads((home / "runs/0/nasdsl.lock").read_text())
    environment, epochs = lock["environment"], lock["identity"]["epochs"]
    places = [
        {"epoch": 1, "step": 1, "environment": {**environment, "pillow": "1"}},
        {"epoch": epochs + 1, "step": 1, "environment": {**environment, "threads": 64}},
    ]
    relock(home / "runs/0", lambda data: data.update(continued=places))
    report = Report("run", "x")
    verify_environment(read_run(home / "runs/0"), report, replayed=True)
    (found,) = [f for f in report.findings if f.subject == "run"]
    assert not found.matters
    assert found.what.endswith("(threads was 1, then 64): after its last step")


def test_paths_are_from_where_a_run_was_started_while_that_is_there(home: Path, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()

    def started(data: dict[str, Any]) -> None:
        data["identity"]["name"], data["cwd"] = "imagefolder:pics", str(tmp_path / "start")

    relock(home / "runs/0", started)
    assert read_run(home / "runs/0").data_found == f"imagefolder:{tmp_path / 'start' / 'pics'}"
    (tmp_path / "start").rmdir()  # the run has moved to another machine
    assert read_run(home / "runs/0").data_found == "imagefolder:pics"
