"""Measuring: what is fitted, and that tables are resumed, extended and refused. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasdsl.cli import main
from nasdsl.planning import latency
from nasdsl.planning.latency import fitted, kendall

SPACE = """space s {
  input image(3, 8, 8)
  network { stem: conv(3, 8) body: choose { conv(3), conv(5) >> relu } head: global_pool >> linear(10) }
}
"""


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(w) for w in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "REPEATS", 1)
    monkeypatch.setattr(latency, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MOST_COPIES", 1)
    monkeypatch.setattr(latency, "MOST_ROUNDS", 1)


def test_fits_find_what_was_put_in() -> None:
    sums = [100.0, 200.0, 300.0, 400.0]
    assert (fitted(sums, sums).constant, fitted(sums, sums).scale) == (0, 1.0)
    scaled = fitted(sums, [1.5 * s for s in sums])
    assert (scaled.constant, scaled.scale) == (0, 1.5)
    assert scaled.largest == pytest.approx(0)
    shifted = fitted(sums, [s + 70 for s in sums])
    assert (shifted.constant, shifted.scale) == (70, 1.0)
    assert shifted.median == pytest.approx(0)


def test_kendall() -> None:
    assert kendall([1, 2, 3], [4, 5, 6]) == 1
    assert kendall([1, 2, 3], [6, 5, 4]) == -1
    assert kendall([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    assert kendall([1, 1], [1, 2]) is None


@pytest.mark.usefixtures("quick")
def test_a_table_is_measured_resumed_extended_and_looked_up(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    space, path = tmp_path / "s.nas", tmp_path / "t.json"
    space.write_text(SPACE, "utf-8")
    words = ("latency", space, "-o", path, "--threads", 1, "--networks", 2, "--json")
    code, out, err = run(capsys, *words)
    assert code == 0
    assert err.startswith("measuring 1 of ")
    record, table = json.loads(out), json.loads(path.read_text("utf-8"))
    assert record["needed"] == record["measured"] == len(table["entries"]) == 6
    assert all(v > 0 for v in table["entries"].values())
    assert (table["device"], table["threads"], table["precision"], table["batch"]) == ("cpu", 1, "fp32", 1)
    assert table["error"]["networks"] == 2
    assert "unfinished" not in table

    gone = next(k for k in table["entries"] if k.startswith("relu"))
    del table["entries"][gone]
    path.write_text(json.dumps({**table, "unfinished": {next(iter(table["entries"])): 1}}), "utf-8")
    assert json.loads(run(capsys, *words)[1])["measured"] == 2
    assert gone in json.loads(path.read_text("utf-8"))["entries"]
    assert json.loads(run(capsys, *words)[1])["measured"] == 0

    code, out, err = run(capsys, *words, "--batch", 2)
    assert (code, out) == (1, "")
    assert "NAS605" in err
    assert "its batch is 1, here it is 2" in err
    assert json.loads(run(capsys, *words, "--batch", 2, "--restart")[1])["measured"] == 6

    arch = run(capsys, "sample", space, "-n", 1)[1].strip()
    code, out, _ = run(capsys, "latency", space, "--arch", arch, "--table", path, "--measure", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["predicted"] > 0
    assert found["measured"] > 0


def test_a_limit_whose_table_is_not_there_yet_can_be_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, quick: None
) -> None:
    space = tmp_path / "s.nas"
    space.write_text(SPACE.replace("8)\n", '8)\n  limit latency("t.json") <= 9s\n'), "utf-8")
    code, _, err = run(capsys, "check", space)
    assert code == 1
    assert "NAS605" in err
    assert run(capsys, "latency", space, "-o", tmp_path / "t.json", "--networks", 2)[0] == 0
    assert run(capsys, "check", space)[0] == 0
    assert run(capsys, "count", space)[1] == "2\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "-o TABLE is needed"),
        (("--table", "t.json"), "go with --arch"),
        (("--arch", "{}"), "goes with --table"),
        (("--arch", "{}", "--table", "t.json", "--batch", "2"), "--batch is for measuring"),
        (("-o", "t.json", "--networks", "1"), "not an integer of 2 or more"),
    ],
)
def test_command_lines_that_cannot_be(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    code, out, err = run(capsys, "latency", "darts", *words)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["autoformer", "residual_mlp", "hierarchical", "nasbench201"])
def test_the_text_of_every_unit_runs_and_makes_what_it_says(name: str) -> None:
    import torch

    import nasdsl
    from nasdsl.identity.latency import needed_units

    parameters: dict[str, Any] = {"hierarchical": {"N": 1, "C": 4, "resolution": 8}}.get(name, {})
    units = needed_units(nasdsl.load(name, **parameters).checked)
    bench = latency.Bench(latency.this_machine("cpu", "fp32", 2, None, units.values()))
    for unit in units.values():
        inputs = [bench._input(t.layout, [d.evaluate({}) for d in t.dims]) for t in unit.inputs]
        with torch.inference_mode():
            made = bench._function(unit)(*inputs)
        sizes = [d.evaluate({}) for d in unit.result.dims]
        assert isinstance(made, torch.Tensor)
        assert list(made.shape) == [2, *(reversed(sizes) if unit.result.layout == "tokens" else sizes)]
