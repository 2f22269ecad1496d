"""The command as a whole, on the digits: run, run again, killed, looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from decoded import FILE, decode, splits
from evaluation import pairs, sized

from nasdsl.runtime.standalone.data import load_data
from tests.benchmarks.conftest import FOLDER
from tests.tabular.tables import sheet, written

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def truth(folder: Path) -> str:
    """A table of all 15,625: true is the number of convolutions."""
    made = {}
    for a, b, c, d, e, f in product(OPERATIONS, repeat=6):
        arch = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        made[arch] = (float(arch.count("conv")), 1000.0 * arch.count("conv_3x3") + arch.count("conv_1x1"))
    return written(folder, sheet(made, ["convolutions", "params"]))


def command(folder: Path, *more: str) -> list[str]:
    script = [sys.executable, str(FOLDER / "evaluation.py"), "--data", "digits", "--out", str(folder / "out")]
    script += ["--benchmark", str(folder / "t.csv"), "--metric", "convolutions", "--param", "C=4"]
    return [*script, "--param", "resolution=8", "--json", str(folder / "found.json"), *more]


SMALL = ("--seeds", "0", "--epochs", "2", "--limit-batches", "2", "--random-epochs", "1")


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(folder, *more), capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_run_again_killed_and_looked_at(tmp_path: Path) -> None:
    truth(tmp_path)
    methods = ("--methods", "darts", "random")
    first = run(tmp_path, *SMALL, *methods)
    assert first.returncode == 0, first.stderr
    assert "epochs 2 instead of 50" in first.stdout
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert [r["configuration"] for r in found["rows"]] == ["darts", "random"]
    assert found["missing"] == []
    assert str(tmp_path) not in (tmp_path / "found.json").read_text("utf-8"), "no folder of this machine"
    again = run(tmp_path, *SMALL, *methods)
    assert "finished" not in again.stdout
    assert json.loads((tmp_path / "found.json").read_text("utf-8")) == found
    (tmp_path / "out" / "darts" / "0" / "result.json").unlink()
    assert "darts, seed 0: continued" in run(tmp_path, *SMALL, *methods).stdout
    other = run(tmp_path, *SMALL[:-1], "2", "--epochs", "1", *methods)
    assert other.returncode == 1
    assert "settings.epochs was 2, is 1" in other.stdout
    only = run(tmp_path, *SMALL, "--methods", "gdas", "--table-only")
    assert "gdas, seed 0: not there" in only.stdout


@pytest.mark.slow
def test_killed_without_a_word_is_continued(tmp_path: Path) -> None:
    """SIGKILL of both: the lock goes with them, the search continues at its last epoch."""
    truth(tmp_path)
    options = ("--seeds", "0", "--epochs", "300", "--limit-batches", "2", "--methods", "darts")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(tmp_path, *options), stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    log = tmp_path / "out" / "darts" / "0" / "run" / "log.jsonl"
    begun = time.monotonic()
    while not log.exists() or log.read_text("utf-8").count("\n") < 3:
        assert time.monotonic() - begun < 120
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    searches = [
        int(c) for t in children.parent.parent.iterdir() for c in (t / "children").read_text().split()
    ]
    process.kill()
    process.wait()
    for child in searches:
        os.kill(child, signal.SIGKILL)
    seen = log.read_text("utf-8").splitlines()[:3]
    time.sleep(0.5)
    process = subprocess.Popen(
        command(tmp_path, *options), stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    output = tmp_path / "out" / "darts" / "0" / "output.txt"
    while "continuing" not in output.read_text("utf-8"):
        assert time.monotonic() - begun < 240
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 1
    assert log.read_text("utf-8").splitlines()[:3] == seen
    assert "stopped and saved" in output.read_text("utf-8")


def test_images_are_decoded_as_a_search_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    for part, number in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for i in range(number):
                Image.effect_noise((12, 10), 20.0 * (i + 1)).convert("RGB").save(folder / f"{i}.png")
    name, declared = f"imagefolder:{tmp_path}", ("image", 3, 8, 8)
    path, digest = decode(name, declared, 2, tmp_path / "kept")
    assert decode(name, declared, 2, tmp_path / "kept") == (path, digest)
    monkeypatch.setenv(FILE, str(path))
    expected = load_data(name, declared, 2)
    for made, split in zip(splits(), (expected.train, expected.test), strict=True):
        assert [int(y) for _, y in made] == split.labels.tolist()
        assert all(bool((x == e).all()) for (x, _), e in zip(made, split.examples, strict=True))


def test_options_that_are_no_pairs_are_refused() -> None:
    assert pairs(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    assert sized("depths", "[2, 3]") == [2, 3]
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        pairs(["a"])
    with pytest.raises(SystemExit, match="number"):
        sized("C", "many")
