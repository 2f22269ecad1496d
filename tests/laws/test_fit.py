"""Parameters that meet a budget: the published cases, and what holds of every fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import UserError
from nasdsl.cli import main
from nasdsl.identity.fit import Fit, Range, amounts
from nasdsl.identity.fit import fit as fitted
from nasdsl.identity.latency import needed_units
from nasdsl.space.latency import LatencyTable, Machine

GROW = (
    "depths[3..5] = 1..3",
    "depths[2] = 1..2",
    "depths[1] = 1..2",
    "depths[3..5] = 1..4",
    "depths[2] = 1..4",
    "depths[1] = 1..4",
)
SHRINK = ("resolution = 64..224 step 32",)


def cream(low: float, high: float) -> Fit:
    return nasdsl.fit("cream", between=(low, high), grow=GROW, shrink=SHRINK)


@pytest.mark.parametrize(
    ("millions", "depths", "resolution"),
    [
        ((0, 600), [4, 4, 4, 4, 4], 224),
        ((250, 300), [1, 2, 3, 3, 3], 224),
        ((0, 50), [1, 1, 1, 1, 1], 160),
    ],
)
def test_the_budgets_of_cream_give_its_depths_and_resolution(
    millions: tuple[int, int], depths: list[int], resolution: int
) -> None:
    """What search_for_layer of the authors' code gives, run once."""
    found = cream(millions[0] * 1e6, millions[1] * 1e6)
    assert found.params == {"depths": depths, "resolution": resolution}


def test_the_figures_are_those_of_the_space() -> None:
    found = cream(250e6, 300e6)
    costs = nasdsl.load("cream", **found.params).costs("macs")
    assert (found.low, found.high) == (costs.low, costs.high)
    assert [s.verb for s in found.steps] == ["start", *["grow"] * 7, "stop"]
    assert found.steps[-1].change == "depths[1]=2"
    assert found.arguments == "--param depths=[1,2,3,3,3] --param resolution=224"


def test_a_budget_that_nothing_meets_is_refused() -> None:
    with pytest.raises(UserError, match=r"NAS305.*smallest.*resolution=64"):
        cream(0, 5e6)
    with pytest.raises(UserError, match=r"NAS305.*largest.*below 900,000,000"):
        cream(900e6, 1e9)


LIMITED = """space limited {
  param size = 32
  param width = 8
  input image(3, size)
  LIMIT
  network {
    stem: conv(3, width)
    body: choose { id, conv(3) }
    head: global_pool >> linear(10)
  }
}
"""


def test_limits_that_the_file_as_it_is_cannot_meet_do_not_hinder_a_fit(tmp_path: Path) -> None:
    path = tmp_path / "limited.nas"
    path.write_text(LIMITED.replace("LIMIT", 'limit macs <= 60k  limit latency("none.json") <= 5ms'))
    with pytest.raises(UserError, match="NAS305"):
        nasdsl.load(path)
    found = nasdsl.fit(path, between=(0, 60e3), shrink=["size=4..32 step 4"])
    assert found.params == {"size": 16}
    assert found.low <= 60e3
    path.write_text(LIMITED.replace("LIMIT", "limit mcs <= 60k"))
    with pytest.raises(UserError, match="NAS306"):
        nasdsl.fit(path, between=(0, 60e3), shrink=["size=4..32 step 4"])


def test_a_fit_of_latency_looks_up_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, times = tmp_path / "timed.nas", tmp_path / "times.json"
    path.write_text(LIMITED.replace("LIMIT", ""))
    entries: dict[str, int] = {}
    for width in (1, 2, 3):
        space = nasdsl.load(path, width=width)
        entries |= {key: 100 * width for key in needed_units(space.checked) if key not in entries}
    LatencyTable(str(times), Machine("cpu", "one", 1, "fp32", 1, "2.0", "channels_last"), entries).write()
    words = ["fit", str(path), "--between", "..900", "--measure", "latency", "--grow"]
    assert main([*words, "width=1..3", "--table", str(times)]) == 0
    assert capsys.readouterr().out.endswith("--param width=2\n")
    assert main([*words, "width=1..3"]) == 1
    assert "NAS605" in (said := capsys.readouterr().err)
    assert "--table FILE" in said
    assert main([*words, "width=4..6", "--table", str(times)]) == 1
    assert re.search(r"NAS606.*more, at width=4\n", capsys.readouterr().err)
    assert main([*words[:4], "--grow", "width=1..3", "--table", str(times)]) == 1
    assert "NAS311" in capsys.readouterr().err


@pytest.mark.parametrize(("measure", "says"), [("depth", "has a depth of"), ("macs", r"has [\d,]+ macs")])
def test_what_is_not_met_is_said_in_words(measure: str, says: str) -> None:
    with pytest.raises(UserError, match=f"even the largest architecture {says}"):
        nasdsl.fit("cream", between=(1e12, 2e12), grow=["depths[1]=1..2"], measure=measure)


def test_another_space_and_measure() -> None:
    found = nasdsl.fit(
        "darts", between=(0, 300_000), measure="params", grow=["layers=3..20"], parameters={"C": 8}
    )
    assert found.params["C"] == 8
    at, beyond = (
        nasdsl.load("darts", C=8, layers=int(str(found.params["layers"])) + more).costs("params").high
        for more in (0, 1)
    )
    assert at is not None
    assert beyond is not None
    assert at <= 300_000 < beyond


@pytest.mark.parametrize(
    ("grow", "shrink", "parameters", "says"),
    [
        ((), (), {}, "no parameter is named"),
        (("depth[1]=1..3",), (), {}, "did you mean `depths`"),
        (("depths=1..3",), (), {}, r"name elements, such as depths\[1..5\]"),
        (("depths[6]=1..3",), (), {}, r"has 5 elements, no `depths\[6\]`"),
        (("classes[1]=1..3",), (), {}, "is not a list"),
        (("classes=1..3",), (), {"classes": 3}, "is set to 3 and may not move"),
        (("resolution=32..64",), ("resolution=32..64",), {}, "either grow or shrink"),
        (("depths[1]",), (), {}, "is no range"),
        (("depths[1..1000000000000]=1..3",), (), {}, "has 5 elements"),
        (("classes=1..10001",), (), {"classes": 3}, "may not move"),
        (("classes=1..10002",), (), {}, r"(?s)has 10,001 steps.*write a wider step: `1..10002 step 2`"),
        ((), ("depths[1..2]=1..9999 step 1",), {}, "has 19,996 steps"),
        (("classes=1..1000000 step 3",), (), {}, r"`1..1000000 step 102`"),
    ],
)
def test_what_may_not_move_is_refused(
    grow: tuple[str, ...], shrink: tuple[str, ...], parameters: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        nasdsl.fit("cream", between=(0, 1e9), grow=grow, shrink=shrink, parameters=parameters)


def test_a_range_that_begins_beyond_the_one_before_is_entered_at_its_beginning() -> None:
    found = nasdsl.fit("cream", between=(0, 1e9), grow=["depths[1]=1..2", "depths[1]=4..5"])
    assert [s.change for s in found.steps[1:]] == ["depths[1]=2", "depths[1]=4", "depths[1]=5"]
    found = nasdsl.fit("cream", between=(0, 30e6), shrink=["resolution=96..128 step 32", "resolution=32..48"])
    assert [s.change for s in found.steps[1:3]] == ["resolution=96", "resolution=48"]


def test_other_elements_of_a_list_stay_as_given() -> None:
    found = nasdsl.fit(
        "cream", between=(0, 1e9), grow=["depths[2]=1..3"], parameters={"depths": [1, 4, 2, 1, 1]}
    )
    assert found.params == {"depths": [1, 3, 2, 1, 1]}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("layers=2..20", Range("layers", None, None, 2, 20)),
        ("depths[3..5] = 1..4", Range("depths", 3, 5, 1, 4)),
        ("depths[2]=1..4", Range("depths", 2, 2, 1, 4)),
        ("resolution = 64..224 step 32", Range("resolution", None, None, 64, 224, 32)),
    ],
)
def test_ranges_read_as_written(text: str, means: Range) -> None:
    assert Range.of(text) == means


@pytest.mark.parametrize(
    "text", ["", "x", "x=3", "x=3..1", "x[0]=1..2", "x[3..2]=1..2", "x[3..0]=1..2", "x=1..9 step 0", "x=a..b"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`"):
        Range.of(text)


def test_amounts_read_as_written() -> None:
    assert amounts("250M..300M") == (250e6, 300e6)
    assert amounts("..1.5G") == (0, 1.5e9)
    assert amounts("20k .. 60k") == (20e3, 60e3)
    for text in ("", "3", "3..", "4..3", "1m..2m", "-1..3"):
        with pytest.raises(ValueError, match=r"budget|empty"):
            amounts(text)


def test_the_command_line_prints_steps_and_the_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "cream", "--between", "..50M"]
    words += [w for each in GROW for w in ("--grow", each)] + ["--shrink", SHRINK[0]]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["step", "start", "shrink", "shrink", "stop"]
    assert lines[-1] == "--param depths=[1,1,1,1,1] --param resolution=160"
    assert main(["count", "cream", *lines[-1].split()]) == 0
    assert capsys.readouterr().out == f"{6**5}\n"
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["params"] == {"depths": [1, 1, 1, 1, 1], "resolution": 160}
    assert [step["verb"] for step in record["steps"]] == ["start", "shrink", "shrink", "stop"]
    assert main([*words, "--measure", "mcs"]) == 1
    assert "did you mean `macs`" in capsys.readouterr().err


def test_a_broken_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.nas"
    path.write_text("space broken {\n  network { head: linaer(10) }\n}\n")
    assert main(["fit", str(path), "--between", "..1M", "--grow", "C=1..3"]) == 1
    assert "NAS101" in capsys.readouterr().err


@given(
    low=st.integers(0, 400),
    width=st.integers(0, 400),
    grown=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_a_fit_ends_where_its_rule_says(low: int, width: int, grown: list[tuple[int, int]]) -> None:
    """On a made-up cost: steps chain, within the budget, and one more step would not be."""
    known = {"depths": [1] * len(grown), "size": 8}

    def bounds(values: object) -> tuple[int, int]:
        assert isinstance(values, dict)
        total = sum((i + 1) * d for i, d in enumerate(values["depths"]))
        return total * values["size"], total * values["size"] * 2

    ranges = [Range("depths", i + 1, i + 1, a, a + more) for i, (a, more) in enumerate(grown)]
    shrink = [Range("size", None, None, 2, 8, 2)]
    high = low + width
    try:
        found = fitted(bounds, known, {}, (low, high), ranges, shrink, "macs")
    except UserError as error:
        if error.diagnostics[0].code != "NAS305":
            raise
        return
    assert bounds(found.params) == (found.low, found.high)
    assert found.low <= high or found.steps[-1].verb == "grow"
    assert found.high >= low
    grew = [s for s in found.steps if s.verb == "grow"]
    for step in grew[:-1]:
        assert step.high <= high or step.high < low
    if found.steps[-1].verb == "stop":
        assert found.steps[-1].high > high
    else:
        assert found.params["depths"] == [r.high for r in ranges] or found.high > high
