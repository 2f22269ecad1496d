"""What goes wrong in a run, each tried for real, and a dry day on which it would be seen."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

import nasdsl
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.lock import read_lock, refuse_damaged
from nasdsl.runtime.standalone.run import Run
from tests.runtime.forks import ran
from tests.runtime.paths.test_runs import SETS
from tests.runtime.paths.test_runs import SPACE as PATH_SPACE
from tests.runtime.test_run import damaged
from tests.runtime.test_search import LINE, command, environment, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("trouble"), "toponas")


def test_a_run_that_diverges_names_the_step_and_the_tensors(folder: Path, root: Path) -> None:
    line = (*LINE, "--out", "runs/nan", "--set", "weight_lr=1e30", "--set", "clip=0")
    ended = ran(folder, "search.py", *line)
    assert ended.returncode == 1
    (error,) = ended.stderr.splitlines()
    assert error.startswith("error: train loss is nan at step ")
    assert "(not finite: weight " in error
    assert "more of" in error
    assert "lower the learning rate" in error
    assert not (folder / "runs/nan/checkpoint.pt").exists()


def test_a_memory_that_is_full_is_told_with_what_plan_predicts_and_what_needs_less(
    tmp_path: Path, root: Path
) -> None:
    program = nasdsl.load("darts", layers=3, C=48).compile("toponas", settings={"batch_size": 700})
    program.write(tmp_path / "large")

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))

    ended = subprocess.run(
        command("search.py", "--data", "digits", "--device", "cpu", "--epochs", "2"),
        check=False,
        cwd=tmp_path / "large",
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=250,
        preexec_fn=little,
    )
    assert ended.returncode == 1
    first, *rest = ended.stderr.splitlines()
    assert first.startswith("error: out of memory at epoch 1, step 1: ")
    advice = program.memory_advice()
    assert rest == advice.splitlines()
    assert "GiB at the peak of a step with batch_size=700" in rest[0]
    assert any("--set batch_size=350" in line for line in rest)
    assert any("--set accumulate=2" in line for line in rest)
    assert any("+checkpoint" in line for line in rest)


@pytest.mark.parametrize("method", ["toponas", pytest.param("lissnas", marks=pytest.mark.slow)])
def test_a_dry_run_does_everything_and_keeps_nothing(tmp_path: Path, root: Path, method: str) -> None:
    if method == "toponas":
        folder = written(tmp_path, method)
    else:
        (tmp_path / "small.nas").write_text(PATH_SPACE)
        folder = tmp_path / method
        nasdsl.load(tmp_path / "small.nas").compile(method, settings=SETS[method]).write(folder)
    before = sorted(folder.rglob("*"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    line = ("--data", "digits", "--device", "cpu", "--dry-run")
    ended = ran(folder, "search.py", *line, environment={"TMPDIR": str(temporary)})
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "dry run: everything once, small, in a folder that is thrown away"
    assert lines[-1] == "dry run: all went well; nothing was kept"
    epochs = 50 if method == "toponas" else 120
    assert any(f"dry run: {epochs} epochs of " in line for line in lines)
    assert any("test accuracy" in line for line in lines)  # of the retraining
    assert not list(temporary.glob("dry-run*"))
    assert [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts] == before


def test_a_dry_run_finds_what_would_end_a_long_one(folder: Path, root: Path) -> None:
    for line, words in (
        (("--data", "imagefolder:nowhere"), "error: --data imagefolder:nowhere: there is no such folder"),
        (("--data", "digits", "--set", "accumulate=99"), "error: accumulate=99 splits a batch"),
    ):
        ended = ran(folder, "search.py", "--dry-run", "--device", "cpu", *line)
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1].startswith(words)


def test_what_a_search_left_is_trained_only_as_it_was_left(folder: Path, root: Path) -> None:
    out = ("--out", "runs/0")
    assert ran(folder, "search.py", *out, *LINE).returncode == 0
    path = folder / "runs/0/model.py"
    content = path.read_bytes()
    path.write_bytes(damaged(content, "flipped"))
    ended = ran(folder, "retrain.py", *out, "--limit-batches", "1")
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr == (
        "error: runs/0/model.py is not what was written there: it was changed or damaged. "
        "Run search.py again to write it anew, or train it as it is with --model\n"
    )
    again = ran(folder, "search.py", *out, *LINE)
    assert again.returncode == 0, again.stderr
    assert path.read_bytes() == content
    trained = ran(folder, "retrain.py", *out, "--limit-batches", "1")
    assert trained.returncode == 0, trained.stderr
    lock = read_lock(folder / "runs/0/retrain")
    assert lock is not None
    assert set(lock["files"]) >= {"weights.safetensors", "result.json", "log.jsonl"}


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
@pytest.mark.parametrize("name", ["nasdsl.lock", "model.py", "inherited/weights.safetensors"])
def test_a_damaged_artefact_is_refused(tmp_path: Path, name: str, how: str) -> None:
    (tmp_path / "inherited").mkdir()
    made = Run(tmp_path, {"seed": 1})
    made.write("model.py", "WIDTH = 3\n")
    made.write("inherited/weights.safetensors", "stands for weights\n")
    made.finish()
    for file in ("model.py", "inherited/weights.safetensors", "unknown"):
        refuse_damaged(tmp_path / file, "")
    path = tmp_path / name
    path.write_bytes(damaged(path.read_bytes(), how))
    read = tmp_path / ("model.py" if name == "nasdsl.lock" else name)
    with pytest.raises(Mistake, match="again" if name == "nasdsl.lock" else "changed or damaged. Mend it"):
        refuse_damaged(read, "Mend it")


def test_a_damaged_artefact_is_refused_by_whatever_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inherited").mkdir()
    made = Run(tmp_path, {"seed": 1})
    path = made.write("inherited/weights.safetensors", "stands for weights\n")
    made.finish()
    path.write_bytes(damaged(path.read_bytes(), "flipped"))
    monkeypatch.chdir(tmp_path / "inherited")
    with pytest.raises(Mistake, match="changed or damaged"):
        refuse_damaged(Path("weights.safetensors"), "")


def test_the_lock_of_a_directory_is_no_run(folder: Path) -> None:
    assert read_lock(folder) is None
    refuse_damaged(folder / "weights.safetensors", "")
