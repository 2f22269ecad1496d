"""Runs beside each other: what differs is said, what is alike is not, in the table, the JSON and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasdsl.cli import main
from nasdsl.reporting import read_run
from nasdsl.reporting.beside import comparison_page
from nasdsl.reporting.comparison import compared, names_of
from nasdsl.reporting.opened import Opened
from tests.drawing.html import Reader
from tests.reporting.common import (
    HOSTILE,
    example,
    read_lock,
    write_compiled,
    write_lock,
    write_retrained,
    write_run,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = tmp_path_factory.mktemp("runs") / "made"
    one = example(made, 6)
    write_retrained(one, 10)
    return [one, write_run(made / "runs" / "1", 4, seed=1, finished=False, clip=3.0)]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(w) for w in words])
    out, err = capsys.readouterr()
    return code, out, err


def found(runs: list[Path]) -> dict[str, Any]:
    return compared([Opened(read_run(r)) for r in runs])


def test_only_what_differs_is_said(runs: list[Path]) -> None:
    both = found(runs)
    assert both["settings"] == {"settings": {"seed": [0, 1], "epochs": [6, 8], "clip": [5.0, 3.0]}}
    choices = [read_run(r).choices or {} for r in runs]
    for path in choices[0].keys() | choices[1].keys():
        differs = choices[0].get(path) != choices[1].get(path)
        assert (path in both["decisions"]) is differs
    assert both["alike"] + len(both["decisions"]) == len(choices[0].keys() | choices[1].keys())


def test_decisions_stand_in_the_order_of_the_space(runs: list[Path]) -> None:
    space = Opened(read_run(runs[0])).space
    assert space is not None
    order = [d.path for d in space.decisions]
    places = [order.index(p) for p in found(runs)["decisions"]]
    assert places == sorted(places)


def test_a_run_beside_itself_differs_in_nothing(runs: list[Path]) -> None:
    same = found([runs[0], runs[0]])
    assert (same["settings"], same["decisions"]) == ({}, {})
    assert same["alike"] > 0
    text = Reader(comparison_page([read_run(runs[0])] * 2)).text
    assert "In nothing that their files say" in text
    assert f"All {same['alike']} decisions are alike" in text


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    made = [read_run(example(tmp_path / a / "made", 1)) for a in ("x", "y")]
    assert names_of(made) == [str(r.folder) for r in made]
    assert len(set(names_of([made[0]] * 3))) == 3


def test_table_json_and_page_say_the_same(
    capsys: pytest.CaptureFixture[str], runs: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "runs.html"
    code, table, err = run(capsys, "compare", *runs, "-o", path)
    assert (code, err) == (0, "")
    assert table.rstrip().endswith(str(path))
    code, text, err = run(capsys, "compare", *runs, "--json")
    data = json.loads(text)
    assert (code, err, data) == (0, "", found(runs))
    reader = Reader(path.read_text("utf-8"))
    for name, values in data["decisions"].items():
        words = [", ".join(v) if isinstance(v, list) else v or "–" for v in values]
        assert " ".join([name, *words]) in reader.text
        assert any(
            [name, *words] == [w.strip() for w in line.split("  ") if w] for line in table.splitlines()
        )
    for words in ("made/0", "made/1", "97.12 %", "not ended", f"{data['runs'][0]['params']:,}"):
        assert words in table
        assert words in reader.text
    assert reader.tags.count("svg") > 10
    code, page, err = run(capsys, "compare", *runs, "-o", "-")
    assert (code, page, err) == (0, path.read_text("utf-8"), "")


def test_runs_of_different_methods_and_spaces_stand_side_by_side(tmp_path: Path) -> None:
    one = example(tmp_path / "one", 3)
    write_compiled(tmp_path / "two", "darts")
    other = write_run(tmp_path / "two" / "runs" / "0", 2, method="darts")
    both = found([one, other])
    assert both["settings"]["settings"]["method"] == ["toponas", "darts"]
    lone = write_run(tmp_path / "lone", 2)
    text = Reader(comparison_page([read_run(one), read_run(lone)])).text
    assert "lone: The compiled directory of the run is not around it" in text


def test_one_run_is_no_comparison(capsys: pytest.CaptureFixture[str], runs: list[Path]) -> None:
    code, out, err = run(capsys, "compare", runs[0])
    assert (code, out) == (2, "")
    assert "nasdsl report RUN" in err
    assert run(capsys, "compare", *runs, "--json", "-o", "-")[0] == 2
    code, out, err = run(capsys, "compare", *runs, "nowhere")
    assert (code, out) == (1, "")
    assert "NAS609" in err


def test_texts_of_users_are_escaped(runs: list[Path], tmp_path: Path) -> None:
    folder = example(tmp_path / f"made {HOSTILE.replace('/', '_')}", 2)
    lock = read_lock(folder)
    lock["identity"] |= {"clip": HOSTILE, HOSTILE: 3}
    write_lock(folder, lock)
    plain, reader = (
        Reader(comparison_page([read_run(r) for r in (runs[0], other)])) for other in (runs[1], folder)
    )
    assert reader.tags.count("script") == plain.tags.count("script")
    assert reader.text.count('alert("1")') >= 5


# --- nasdsl report -------------------------------------------------------------------


def test_report_writes_into_the_run_and_says_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = example(tmp_path / "made", 2)
    code, out, err = run(capsys, "report", tmp_path / "made")
    assert (code, out, err) == (0, f"{folder / 'report.html'}\n", "")
    text = (folder / "report.html").read_text("utf-8")
    other = tmp_path / "other.html"
    assert run(capsys, "report", folder, "-o", other) == (0, f"{other}\n", "")
    assert other.read_text("utf-8") == text
    assert run(capsys, "report", folder, "-o", "-") == (0, text, "")


def test_report_says_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "alone", 2)
    code, _, err = run(capsys, "report", folder)
    assert code == 0
    assert err.startswith("note: The compiled directory of the run is not around it")
    made = write_compiled(tmp_path / "made")
    assert run(capsys, "report", folder, "--compiled", made)[2] == ""
    code, out, err = run(capsys, "report", tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert "NAS609" in err
    code, out, err = run(capsys, "report", folder, "-o", tmp_path / "no" / "x.html")
    assert (code, out) == (2, "")
    assert "cannot write" in err


def test_digests_are_shortened_for_people_alone(
    capsys: pytest.CaptureFixture[str], runs: list[Path], tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "other", 2)
    lock = read_lock(folder)
    lock["data"]["split"] = "9a" * 32
    write_lock(folder, lock)
    assert "9a" * 32 not in (table := run(capsys, "compare", runs[0], folder)[1])
    assert f"{'9a' * 6}…" in table
    assert "9a" * 32 in run(capsys, "compare", runs[0], folder, "--json")[1]
