"""A real run, and what is not of it though it lies in its folder, around it or beside it."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nasdsl.cli import main
from nasdsl.errors import UserError
from nasdsl.opening import load
from nasdsl.ranking.searched import Options, open_run
from nasdsl.reporting import page, read_run
from nasdsl.reporting.commands import commands
from nasdsl.reporting.comparison import compared
from nasdsl.reporting.judged import board_figures, judged_paths
from nasdsl.reporting.opened import opened_all
from tests.drawing.html import Reader
from tests.reporting.common import digest_of, example, read_lock, write_lines, write_lock, write_retrained


def text_of(folder: Path, compiled: Path | None = None) -> str:
    return Reader(page(read_run(folder, compiled))).text


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_real_run_of_single_paths_is_whole_on_its_page(path_run: Path) -> None:
    run = read_run(path_run)
    assert run.problems == ()
    assert (run.name, run.space, run.method, run.state) == ("tiny-cream/0", "tiny", "cream", "finished")
    text = text_of(path_run)
    assert "missing or damaged" not in text
    found = json.loads((path_run / "architecture.json").read_text())["choices"]
    assert run.choices == found
    judged, front = (json.loads((path_run / f"{n}.json").read_text()) for n in ("judged", "front"))
    shown = judged_paths(run)
    assert shown is not None
    assert shown["words"].startswith(f"{len(judged)} path")
    assert len(shown["front"].rows) == len(front)
    best = max(judged, key=lambda j: (j["accuracy"], -j["macs"]))
    assert [f"{100 * best['accuracy']:.2f} %", f"{best['macs']:,}"] == list(shown["best"].rows[0][1:3])
    assert str(shown["picture"]).count("<circle") >= len(judged) or "<path" in str(shown["picture"])
    (board,) = board_figures(run)
    sizes = [len(e["board"]) for e in run.log]
    for size, words in zip(sizes, board.texts, strict=True):
        assert words.startswith(f"{size} path" if size else "board empty")
    for title in ("Paths that were judged", "Board", "Trained by itself", "Compiled from"):
        assert title in text


def test_a_board_of_one_path_is_one_path(path_run: Path) -> None:
    log = lines_of(path_run / "log.jsonl")
    log[0]["board"] = [{"accuracy": 12.5, "choices": {}}]
    write_lines(path_run / "log.jsonl", log)
    (board,) = board_figures(read_run(path_run))
    assert board.texts[0] == "1 path, 12.5 % to 12.5 %"


def test_a_retraining_says_what_it_began_from(path_run: Path, tmp_path: Path) -> None:
    digest = read_lock(path_run / "retrain")["identity"]["weights"]
    assert len(digest) == 16
    text = text_of(path_run)
    began = f"rom weights of runs/0/inherited/weights.safetensors ({digest})"
    assert f"F{began}. Test accuracy" in text
    assert "rom scratch" not in text
    other = example(tmp_path / "other", 2)
    write_retrained(other)
    assert "From scratch. Test accuracy 97.12 %" in text_of(other)
    both = compared(opened_all([read_run(path_run), read_run(other)]))
    assert [r["retrained"] for r in both["runs"]] == [f"f{began}", "from scratch"]


# --- what an earlier run in the folder left ----------------------------------------------


def begun_anew(folder: Path, ended: bool = False) -> None:
    """As --restart leaves a folder in which only the run's own records are removed."""
    events = [e for e in lines_of(folder / "timeline.jsonl") if e["event"] != "finished"]
    write_lines(folder / "timeline.jsonl", events[:-1])
    lock = read_lock(folder)
    write_lock(folder, {**lock, "files": {}})


def test_what_an_earlier_run_left_is_not_what_this_one_found(path_run: Path) -> None:
    begun_anew(path_run)
    run = read_run(path_run)
    assert (run.architecture, run.judged, run.front, run.state) == (None, (), (), "running")
    assert run.retrained is not None
    assert run.retrained.result is None
    text = text_of(path_run)
    assert "accuracy with inherited weights" not in text
    assert "test accuracy, retrained" not in text
    assert "left out" in text
    record = compared(opened_all([run, run]))["runs"][0]
    assert (record["test_accuracy"], record["inherited_accuracy"]) == (None, None)


def test_a_retraining_that_was_begun_anew_has_no_result(path_run: Path) -> None:
    begun_anew(path_run / "retrain")
    run = read_run(path_run)
    assert run.retrained is not None
    assert (run.retrained.result, run.retrained.other) == (None, False)
    assert "Training has not ended: 1 epoch is in its log" in text_of(path_run)


def test_an_architecture_that_was_changed_since_is_said_and_left_out(path_run: Path) -> None:
    path = path_run / "architecture.json"
    path.write_text(path.read_text().replace('"conv(3)"', '"id"').replace('"conv(5)"', '"id"') + "\n")
    run = read_run(path_run)
    assert run.architecture is None
    assert any(p.startswith("architecture.json is not what the run wrote") for p in run.problems)


def test_a_supernet_that_the_run_has_not_finished_is_not_opened(path_run: Path) -> None:
    home = path_run.parent.parent
    assert open_run(home, path_run, Options()).weights == digest_of(path_run / "supernet.safetensors")
    lock = read_lock(path_run)
    changed = {**lock["files"], "supernet.safetensors": "0" * 64}
    for files, why in (({}, "its search has not ended"), (changed, "is not what the run wrote")):
        write_lock(path_run, {**lock, "files": files})
        with pytest.raises(UserError, match=f"NAS607.*{why}"):
            open_run(home, path_run, Options())
    (path_run / "nasdsl.lock").write_text("{}")
    with pytest.raises(UserError, match="NAS607"):
        open_run(home, path_run, Options())


# --- what is of another network, or another directory -------------------------------------


def test_the_accuracy_of_another_network_is_not_on_the_page(path_run: Path) -> None:
    lock = read_lock(path_run / "retrain")
    write_lock(path_run / "retrain", {**lock, "identity": {**lock["identity"], "model": "0" * 16}})
    run = read_run(path_run)
    assert run.problems == (
        "Retraining: of another model.py than this run's, so its result is left out: run retrain.py for this one.",
    )
    text = text_of(path_run)
    assert "test accuracy, retrained" not in text
    assert "of another network than the one that this run found" in text
    assert compared(opened_all([run, run]))["runs"][0]["test_accuracy"] is None


OTHERS: dict[str, Callable[[Path], None]] = {
    "space": lambda home: load("residual_mlp").compile("spos").write(home),
    "method": lambda home: load(home / "space.nas").compile("spos").write(home),
    "supernet.py": lambda home: (home / "supernet.py").write_text("# another\n"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_directory_that_is_not_the_runs_is_not_taken_for_it(path_run: Path, name: str) -> None:
    OTHERS[name](path_run.parent.parent)
    run = read_run(path_run)
    assert run.compiled is None
    (problem,) = run.problems
    assert problem.startswith("The directory around the run is not the one that the run was made in")
    assert name in problem
    assert (run.space, run.method) == ("tiny", "cream")
    text = text_of(path_run)
    assert "Compiled from" not in text
    assert not any(c.startswith("nasdsl compile") for c in commands(run))


def test_a_run_among_those_of_another_directory_is_not_of_it(path_run: Path, tmp_path: Path) -> None:
    folder = path_run.rename(example(tmp_path / "made", 1).parent / "other")
    assert read_run(folder).compiled is None
    named = read_run(folder, tmp_path / "tiny-cream")
    assert (named.compiled is not None, named.problems) == (True, ())
    assert read_run(folder, tmp_path / "made").compiled is None


def test_a_directory_whose_lock_is_damaged_is_said(path_run: Path) -> None:
    lock = path_run.parent.parent / "nasdsl.lock"
    lock.write_text(lock.read_text().replace('"method": "cream"', '"method": "spos"'))
    run = read_run(path_run)
    assert run.compiled is None
    assert any("nasdsl.lock of the directory cannot be used (it was changed" in p for p in run.problems)


def test_parameters_of_odd_names_are_a_problem_and_no_bug(
    path_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = path_run.parent.parent
    lock = read_lock(home)
    lock["space"] |= {key: {"allow_python": True, "path": 3} for key in ("parameters", "given")}
    write_lock(home, lock)
    assert main(["report", str(path_run)]) == 0
    assert "note: The space cannot be opened: " in capsys.readouterr().err
    words = ["export", str(home / "space.nas"), "--run", str(path_run), "-o", str(home / "out" / "m.py")]
    assert main(words) == 1
    assert "error[NAS109]" in capsys.readouterr().err
    assert main([*words, "--param", "allow_python=1"]) != 3


@pytest.mark.parametrize("script", ["search", "retrain"])
def test_a_lock_that_was_changed_is_said(path_run: Path, script: str) -> None:
    folder = path_run if script == "search" else path_run / "retrain"
    text = (folder / "nasdsl.lock").read_text().replace('"seed": 0', '"seed": 1')
    (folder / "nasdsl.lock").write_text(text)
    run = read_run(path_run)
    assert any("nasdsl.lock cannot be used (it was changed since" in p for p in run.problems)
    assert "seed 1" not in text_of(path_run)


@pytest.mark.parametrize("lock", [True, False])
def test_the_folder_of_a_retraining_is_no_search(path_run: Path, lock: bool) -> None:
    if not lock:
        (path_run / "retrain" / "nasdsl.lock").unlink()
    with pytest.raises(UserError, match="it is that of a retraining") as caught:
        read_run(path_run / "retrain")
    assert str(path_run) in str(caught.value)


# --- where it is seen from ------------------------------------------------------------------


def test_the_page_is_the_same_from_wherever_it_is_made(
    path_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = path_run.parent.parent
    found = []
    for place, words in (
        (home.parent, [str(path_run)]),
        (home.parent, [home.name]),
        (path_run, ["."]),
        (home, ["runs/0", "--compiled", "."]),
        (path_run, ["../0", "--compiled", "../.."]),
    ):
        monkeypatch.chdir(place)
        assert main(["report", *words, "-o", "-"]) == 0
        found.append(capsys.readouterr().out)
    assert len(set(found)) == 1
    monkeypatch.chdir(home)
    assert main(["report", "runs/0"]) == 0
    assert capsys.readouterr().out == "runs/0/report.html\n"


def test_a_run_elsewhere_is_named_from_where_the_commands_are_for(path_run: Path, tmp_path: Path) -> None:
    home = path_run.parent.parent
    inside = shutil.copytree(path_run, home / "runs" / "mine")
    outside = shutil.copytree(path_run, home.parent / "mine")
    shown = [shlex.split(commands(read_run(f, home))[1])[-2:] for f in (inside, outside)]
    assert shown == [["--out", "tiny-cream/runs/mine"], ["--out", "mine"]]


def test_spaces_with_operations_from_python_say_that_they_run_code(path_run: Path) -> None:
    home = path_run.parent.parent
    space = home / "space.nas"
    assert "--allow-python" not in commands(read_run(path_run))[0]
    space.write_text(space.read_text().replace("space tiny {", 'space tiny {\n  use python "tiny_ops"', 1))
    assert "--allow-python" in shlex.split(commands(read_run(path_run))[0])
    assert "The space takes operations from tiny_ops" in text_of(path_run)


def test_the_space_of_a_directory_is_opened_once(path_run: Path) -> None:
    run = read_run(path_run)
    opened = opened_all([run, run, run])
    found = compared(opened)
    assert opened[0].space is opened[1].space is opened[2].space is not None
    assert len({r["params"] for r in found["runs"]}) == 1


def test_a_page_that_cannot_be_written_leaves_the_one_that_was_there(
    path_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (path_run / "report.html").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert main(["report", str(path_run)]) == 2
        assert main(["compare", str(path_run), str(path_run), "-o", str(path_run / "report.html")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert (path_run / "report.html").read_bytes() == before
    assert not list(path_run.glob(".report.html.*"))


def test_a_users_own_result_in_the_folder_of_a_search_does_not_make_it_a_retraining(path_run: Path) -> None:
    (path_run / "result.json").write_text("{}")
    assert read_run(path_run).architecture is not None
    with pytest.raises(UserError, match="that of a retraining"):
        read_run(path_run / "retrain")
