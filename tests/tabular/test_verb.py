"""`nasdsl benchmark`: what it prints, and what it refuses."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

import nasdsl
from nasdsl.cli import main
from tests.tabular.tables import CONV, NONE, POOL, SKIP, SMALL, written

DIGEST = sha256(SMALL.encode()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return written(tmp_path, SMALL)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["benchmark", *words])
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def cells(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_a_summary(capsys: pytest.CaptureFixture[str], path: str) -> None:
    code, out, err = run(capsys, "nasbench201", "--table", path)
    assert (code, err) == (0, "")
    assert cells(out) == [
        ["table", path],
        ["sha256", DIGEST],
        ["rows", "3 of 15,625 architectures (0.0192 %)"],
        [""],
        ["metric", "better", "known", "min", "median", "max", "best"],
        ["accuracy", "higher", "3", "54.3", "71.25", "90", CONV],
        ["latency_ms", "lower", "2", "1.5", "2.75", "4", SKIP],
    ]
    told = answer(capsys, "nasbench201", "--table", path)
    assert (told["table"], told["sha256"], told["rows"], told["size"]) == (path, DIGEST, 3, 15625)
    assert [(m["metric"], m["better"], m["low"], m["median"], m["high"]) for m in told["metrics"]] == [
        ("accuracy", "higher", 54.3, 71.25, 90),
        ("latency_ms", "lower", 1.5, 2.75, 4),
    ]
    assert [m["best"]["architecture"] for m in told["metrics"]] == [CONV, SKIP]
    assert "latency" not in run(capsys, "nasbench201", "--table", path, "--metric", "accuracy")[1]
    assert "checked" not in out
    assert "checked  3\n" in run(capsys, "nasbench201", "--table", path, "--check")[1]
    assert answer(capsys, "nasbench201", "--table", path, "--check")["checked"] == 3


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = written(tmp_path, f"index,arch,acc\n0,{SKIP},1\n")
    assert "note     column `index` is left out" in run(capsys, "nasbench201", "--table", path)[1]
    assert len(answer(capsys, "nasbench201", "--table", path)["notes"]) == 1


def test_where_architectures_stand(capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path) -> None:
    one = written(tmp_path, nasdsl.load("nasbench201").parse(POOL).to_json(), "one.json")
    words = ["nasbench201", "--table", path, "--arch", SKIP, "--arch", one]
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    assert cells(out)[3:] == [
        [""],
        [SKIP],
        ["metric", "value", "regret", "rank", "better"],
        ["accuracy", "54.3", "35.7", "3 of 3", "higher"],
        ["latency_ms", "1.5", "0", "1 of 2", "lower"],
        [""],
        [POOL],
        ["metric", "value", "regret", "rank", "better"],
        ["accuracy", "71.25", "18.75", "2 of 3", "higher"],
        ["latency_ms", "-", "-", "- of 2", "lower"],
    ]
    told = answer(capsys, *words, "--metric", "latency_ms")["architectures"]
    assert [a["architecture"] for a in told] == [SKIP, POOL]
    empty = {"value": None, "regret": None, "rank": None}
    assert told[1]["standings"] == [{"metric": "latency_ms", **empty, "size": 2, "better": "lower"}]


def test_the_best_rows(capsys: pytest.CaptureFixture[str], path: str) -> None:
    words = ["nasbench201", "--table", path, "--metric", "accuracy", "--top", "2"]
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    expected = ["metric", "accuracy, higher is better"], [""], ["rank", "value", "architecture"]
    assert cells(out)[3:] == [*expected, ["1", "90", CONV], ["2", "71.25", POOL]]
    told = answer(capsys, *words)
    assert (told["metric"], told["better"]) == ("accuracy", "higher")
    assert [(t["rank"], t["value"], t["architecture"]) for t in told["top"]] == [
        (1, 90, CONV),
        (2, 71.25, POOL),
    ]


def test_a_checksum(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert run(capsys, "nasbench201", "--table", path, "--sha256", DIGEST)[0] == 0
    assert run(capsys, "nasbench201", "--table", f"{path}#sha256={DIGEST}")[0] == 0
    code, out, err = run(capsys, "nasbench201", "--table", path, "--sha256", "0" * 64)
    assert (code, out) == (1, "")
    assert "NAS602" in err
    code, _, err = run(capsys, "nasbench201", "--table", f"{path}#sha256={DIGEST}", "--sha256", DIGEST)
    assert (code, "given twice" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--metric", "acuracy"], 1, "did you mean `accuracy`"),
        (["--top", "2"], 1, "name one of accuracy, latency_ms"),
        (["--top", "0", "--metric", "accuracy"], 2, "1 or more"),
        (["--top", "2", "--arch", SKIP], 2, "give one of them"),
        (["--arch", NONE], 1, f"has no row for {NONE}"),
        (["--arch", "|nope|"], 1, "NAS401"),
        (["--arch", "no/such.json"], 1, "NAS005"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_refused(
    capsys: pytest.CaptureFixture[str], path: str, words: list[str], status: int, says: str
) -> None:
    code, out, err = run(capsys, "nasbench201", "--table", path, *words)
    assert (code, out) == (status, "")
    assert says in err


def test_a_table_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "nasbench201")[0] == 2


def test_limits_are_for_check(capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path) -> None:
    """A search held to a part of a published space is ranked among all that was measured."""
    limited = written(tmp_path, 'space mine from "nasbench201.nas" { limit params <= 100k }\n', "mine.nas")
    code, out, _ = run(capsys, limited, "--table", path)
    assert code == 0
    assert "rows     3 (the space has limits, and 729 architectures within them)" in out
    code, out, err = run(capsys, limited, "--table", path, "--check")
    assert (code, out) == (1, "")
    assert "NAS601" in err
    assert "344,346 params" in err
    assert f"{path}:3:" in err


def test_a_large_space_without_a_notation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    space = nasdsl.load("cream")
    rows = [a.to_json() for a in space.sample(3, seed=0)]
    text = "arch,acc\n" + "".join(f'"{r.replace(chr(34), 2 * chr(34))}",{i}\n' for i, r in enumerate(rows))
    told = answer(capsys, "cream", "--table", written(tmp_path, text), "--check")
    assert (told["checked"], told["size"]) == (3, space.count())
    best = told["metrics"][0]["best"]["architecture"]
    assert space.parse(best).to_json() == rows[2]
    assert answer(capsys, "cream", "--table", written(tmp_path, text), "--arch", best)["rows"] == 3
