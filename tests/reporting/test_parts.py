"""What the page is made of: stretches of time, rewrites, commands."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.cli import main
from nasdsl.drawing.colours import PALETTE
from nasdsl.drawing.epochs import draw_shares
from nasdsl.opening import load
from nasdsl.reporting import page, read_run
from nasdsl.reporting.beside import comparison_page
from nasdsl.reporting.commands import commands
from nasdsl.reporting.curves import INSTRUMENTS, LEARNING, RETRAINING, Measure, curves, others
from nasdsl.reporting.rewrites import read_rewrites
from nasdsl.reporting.timeline import clock, duration, epoch_seconds, running, stretches
from tests.reporting.common import (
    BEGUN,
    compiled_files,
    events,
    example,
    read_lock,
    write_lines,
    write_lock,
    write_retrained,
    write_run,
)

# --- time --------------------------------------------------------------------------


def event(name: str, time: float, epoch: int = 0, step: int = 0) -> dict[str, Any]:
    return {"event": name, "time": time, "epoch": epoch, "step": step}


def test_a_run_in_one_go_is_one_stretch() -> None:
    (only,) = stretches(
        [event("started", 10), event("epoch", 30, 1), event("saved", 31, 1), event("finished", 40, 1)]
    )
    assert (only.seconds, only.epochs, only.gap, only.ending) == (30, (1, 1), 0, "finished")
    assert only.marks == (0.7,)


def test_what_lies_between_stretches_is_no_time_of_the_run() -> None:
    found = stretches(events(9))
    assert [s.epochs for s in found] == [(1, 3), (4, 9)]
    assert found[0].ending == "stopped when asked to"
    assert 86_000 < found[1].gap < 86_400
    assert running(found) < 1000
    assert epoch_seconds(events(9)) == pytest.approx(96.5)


def test_a_crash_is_an_interruption_and_silence_no_end() -> None:
    crashed = [event("started", 0), event("saved", 60, 0, 9), event("continued", 100), event("epoch", 130, 1)]
    first, second = stretches(crashed)
    assert (first.ending, first.seconds, first.epochs) == ("interrupted", 60, None)
    assert (second.ending, second.gap) == ("last heard of here", 40)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["started", "continued", "epoch", "saved", "stopped", "finished", "other"]),
            st.floats(-1e12, 1e12),
        )
    )
)
def test_no_time_is_negative_whatever_the_clock_did(found: list[tuple[str, float]]) -> None:
    parts = stretches([event(name, time) for name, time in found])
    assert all(p.seconds >= 0 and p.gap >= 0 for p in parts)
    assert sum(len(p.saves) for p in parts) == sum(name == "saved" for name, _ in found)
    assert all(clock(p.begin) for p in parts)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0.0 s"), (3.21, "3.2 s"), (59.4, "59 s"), (59.96, "60 s"), (60, "1 min"), (250, "4 min 10 s")),
        *((7500, "2 h 5 min"), (86_400 * 3 + 4 * 3600, "3 d 4 h"), (86_400, "1 d")),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- rewrites ----------------------------------------------------------------------


def test_the_rewrites_that_are_written_are_read() -> None:
    text = compiled_files()["rewrites.md"]
    found = read_rewrites(text)
    assert found is not None
    assert [s.name for s in found.savings] == ["modules", "params", "MACs", "operators", "bytes"]
    first, last = found.totals.rows[0], found.totals.rows[-1]
    assert all(f"{s.before:,}" == a for s, a in zip(found.savings, first[2:], strict=True))
    assert all(f"{s.after:,}" == a for s, a in zip(found.savings, last[2:], strict=True))
    assert [c.title for c in found.chapters] == re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert any(c.table is not None and len(c.table.rows) > 2 for c in found.chapters)
    cells = [cell for c in found.chapters if c.table for row in c.table.rows for cell in row]
    assert all(cell in text for cell in cells)


@pytest.mark.parametrize(
    "text", ["", "# Rewrites\n\nNo optimising pass ran.\n", "| a |\n", "|||\n|||\n", "nothing"]
)
def test_a_text_without_totals_has_no_rewrites(text: str) -> None:
    assert read_rewrites(text) is None


@given(st.text(alphabet="|\\ -#\n1,ab"))
def test_no_text_is_too_odd(text: str) -> None:
    read_rewrites(text)


# --- curves ------------------------------------------------------------------------


NAMES = sorted({n for m in (*LEARNING, *INSTRUMENTS, *RETRAINING) for n in m.fields} | {"of_a_plugin"})


@pytest.mark.parametrize("measures", [(*LEARNING, *INSTRUMENTS), RETRAINING], ids=["search", "retraining"])
def test_every_number_of_a_log_is_in_a_figure(measures: tuple[Measure, ...]) -> None:
    """Also those that the other script calls so."""
    for i, name in enumerate(NAMES):
        log = [{"epoch": 1, name: 0.5 + i}, {"epoch": 2, name: None}]
        (figure,) = curves(log, (*measures, *others(log, measures)), "x")
        factor = next((m.factor for m in measures if name in m.fields), 1.0)
        assert f"{factor * (0.5 + i):.4g}" in figure.texts[0], name
    assert others([{"epoch": 1, "board": [], "x": float("nan")}], measures) == []


def test_a_retraining_shows_what_else_its_log_has(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 1)
    write_retrained(folder, 1)
    write_lines(folder / "retrain" / "log.jsonl", [{"epoch": 1, "loss": 2.0, "gradient_norm": 0.625}])
    run = read_run(folder)
    assert "0.625" in page(run)
    assert "0.625" in comparison_page([run, run])


@given(st.sets(st.integers(1, 12), min_size=1))
def test_epochs_without_shares_are_not_painted(known: set[int]) -> None:
    epochs = list(range(1, 13))
    chart = draw_shares([(e, (0.25, 0.75)) for e in sorted(known)], PALETTE[:2], [], "t", epochs)
    areas = re.findall(r' d="((?:M[^"]*?Z)+)"', chart.svg)
    assert len(areas) == 2
    for area in areas:
        spans = []
        for part in area.split("Z")[:-1]:
            left = float(re.match(r"M([\d.]+)", part).group(1))  # type: ignore[union-attr]
            spans.append((left, float(re.findall(r"H([\d.]+)", part)[-1])))
        painted = {e for e in epochs if any(a <= chart.first + chart.step * e <= b for a, b in spans)}
        assert painted == known


# --- commands ----------------------------------------------------------------------


GIVEN: dict[str, dict[str, Any]] = {
    "darts": {"epochs": 7, "activation": "gumbel", "clip": 2.5, "nesterov": True},
    "cbo": {"regulariser": "v1"},
    "pcdarts": {},
    "cream": {"epochs": 3},
}


@pytest.mark.parametrize("edited", [False, True], ids=["as written", "edited"])
@pytest.mark.parametrize("method", GIVEN)
def test_the_compile_command_makes_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, edited: bool
) -> None:
    """It is run as it stands: parameters, settings and passes, in names that a shell would cut."""
    made = tmp_path / "a folder"
    space = load("nasbench201", C=4)
    space.compile(method, settings=GIVEN[method]).write(made)
    config = made / "config.toml"
    if edited:
        config.write_text(
            re.sub(r"^batch_size = \d+$", "batch_size = 48", config.read_text(), flags=re.MULTILINE)
        )
    folder = write_run(made / "runs" / "0", 2)
    command = commands(read_run(folder))[0]
    monkeypatch.chdir(made)
    words = shlex.split(command)
    assert words[0] == "nasdsl"
    assert words[-1] == "a folder"
    assert main(words[1:]) == 0
    again = made / "a folder"
    assert sorted(p.name for p in made.iterdir() if p.is_file()) == sorted(p.name for p in again.iterdir())
    # Comments of supernet.py and rewrites.md name the file that was compiled, and so does the lock; the comments of
    # config.toml say the method's defaults, its values are what counts.
    was, now = (tomllib.loads((d / "config.toml").read_text()) for d in (made, again))
    if edited:  # what is given counts in every recipe
        del was["recipes"], now["recipes"]
    assert now == was
    for name in ("search.py", "retrain.py", "space.nas", "README.md"):
        assert (again / name).read_text() == (made / name).read_text(), name


def test_passes_that_were_left_out_are_left_out_again(tmp_path: Path) -> None:
    made = tmp_path / "made"
    load("nasbench201", C=4).compile("darts", passes="-share").write(made)
    command = commands(read_run(write_run(made / "runs" / "0", 1)))[0]
    assert "--pass=-share" in shlex.split(command)


def test_scripts_are_called_with_what_was_given(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    write_retrained(folder)
    lock = read_lock(folder)
    lock["arguments"] |= {
        "data": "imagefolder:/my photos",
        "limit_batches": 5,
        "benchmark": "r.csv",
        "compile": True,
    }
    write_lock(folder, lock)
    _, search, retrain = map(shlex.split, commands(read_run(folder)))
    assert search[:4] == ["python", "made/search.py", "--data", "imagefolder:/my photos"]
    rest = " ".join(search[4:])
    assert rest == (
        "--seed 0 --epochs 2 --limit-batches 5 --precision bf16 --benchmark r.csv --deterministic --compile "
        "--set clip=3 --set weight_lr=0.05"
    )
    assert retrain == ["python", "made/retrain.py", "--data", "cifar10", "--seed", "0"]


def test_the_options_of_a_real_command_line_are_those_it_was_given(tmp_path: Path) -> None:
    """What the script's own parser makes of the command is what the lock says."""
    from nasdsl.runtime.standalone.arguments import read_arguments

    given_words = (
        "--data digits --seed 3 --epochs 4 --limit-batches 5 --precision bf16 --workers 4 --data-dir d "
        "--deterministic --set clip=3 --benchmark t.csv --metric m --device cpu"
    )
    folder = example(tmp_path / "made", 2)
    lock = read_lock(folder)
    before = vars(read_arguments("", given_words.split()))
    lock["arguments"] = {
        k: v for k, v in before.items() if k not in ("restart", "keep", "stop_after", "dry_run", "out")
    }
    write_lock(folder, lock)
    words = shlex.split(commands(read_run(folder))[1])
    after = vars(read_arguments("", words[2:]))
    assert after.pop("out") == "made/runs/0", "the run does not lie where its seed would put it"
    assert after == {k: v for k, v in before.items() if k != "out"}


def test_a_run_that_does_not_say_its_arguments_has_no_command_for_them(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    (folder / "nasdsl.lock").unlink()
    assert [c.split()[0] for c in commands(read_run(folder))] == ["nasdsl"]


def test_times_of_a_timeline_are_those_of_its_file(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    write_lines(folder / "timeline.jsonl", [event("started", BEGUN), event("stopped", BEGUN + 90.25, 0, 7)])
    (part,) = stretches(read_run(folder).timeline)
    assert part.seconds == 90.25
    assert clock(part.begin) == "2027-01-15 08:00:00 UTC"
