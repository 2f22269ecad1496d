"""`nasdsl shrink` and `nasdsl locality`: what they write and say, how they go on, and what they refuse."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl.cli import main
from tests.conftest import ROOT
from tests.shrinking.common import additive, row_of

RULES = ["--samples", "24", "--fresh", "12", "--least", "8", "--bins", "2", "--evaluations", "60"]
SMALL = row_of(4)
"""256 architectures."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "row.nas").write_text(SMALL)
    return tmp_path


def call(words: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def good(*words: str) -> str:
    code, out, err = call(words)
    assert code == 0, err
    return out


def command(home: Path) -> str:
    """A score that rises with large kernels late; a call leaves a dot in `calls`, and waits if there is `slow`."""
    script = home / "score.py"
    script.write_text(
        "import json, os, sys, time\n"
        "asked = json.load(sys.stdin)\n"
        f"time.sleep(0.1 * os.path.exists({str(home / 'slow')!r}))\n"
        f"open({str(home / 'calls')!r}, 'a').write('.')\n"
        "choices = asked.get('choices', asked)\n"
        "values = [v for _, v in sorted(choices.items())]\n"
        "print(sum((i + 1) * 'k1 k3 k5 k7'.split().index(v) for i, v in enumerate(values)))\n"
    )
    return f"{sys.executable} -S {script}"


def table(home: Path) -> str:
    """All architectures with two figures."""
    from tests.subspace.common import check

    space = nasdsl.load(home / "row.nas")
    rows = ["arch,valid,test"]
    from nasdsl.identity.encodings import Encodings

    for choices in Encodings(check(SMALL).table).all():
        text = space.architecture(choices).to_json().replace('"', '""')
        rows.append(f'"{text}",{additive(1)(choices) + additive(2)(choices) / 4},{additive(1)(choices)}')
    (home / "t.csv").write_text("\n".join(rows) + "\n")
    return str(home / "t.csv")


def test_what_is_written_is_a_space_for_every_verb(home: Path) -> None:
    file, out = str(home / "row.nas"), home / "out"
    text = good("shrink", file, "--cost", "macs", *RULES, "--seeds", "whole", "-o", str(out))
    assert "round 0: 256 architectures" in text
    assert f"--within {out / 'subspace.json'}" in text
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "shrinking.json", "subspace.json"]
    record = json.loads((out / "shrinking.json").read_text())
    part = str(out / "subspace.json")
    count = record["left"]["high"]
    assert count == [r for r in record["rounds"] if r["kept"]][-1]["size"] < 256
    assert good("count", file, "--within", part).split()[0] == str(count)
    sub = nasdsl.load(home / "row.nas").read_subspace(part)
    for line in good("sample", file, "--within", part, "-n", "5").splitlines():
        assert sub.contains(json.loads(line)["choices"])
    good("compile", file, "--within", part, "--method", "spos", "-o", str(home / "spos"))
    assert (home / "spos" / "search.py").exists()
    assert sub.digest == record["left"]["digest"]
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_truth_and_what_else_could_be_done(home: Path) -> None:
    words = ["shrink", str(home / "row.nas"), "--table", table(home), "--metric", "valid", *RULES]
    words += ["--truth", str(home / "t.csv"), "--truth-metric", "test", "--baselines"]
    text = good(*words, "-o", str(home / "out"))
    for said in ("true test", "operational pruning", "best predicted", "tau of the scores", "shrink index"):
        assert said in text
    record = json.loads((home / "out" / "shrinking.json").read_text())
    assert len(record["baselines"]) == 5
    assert all(b["size"] <= record["left"]["high"] for b in record["baselines"])
    assert record["truth"]["after"]["mean"] > record["truth"]["before"]["mean"]
    brief = json.loads(good(*words, "-o", str(home / "again"), "--json"))
    assert brief["rounds"] == record["rounds"]
    assert "members" not in brief


@pytest.mark.slow
def test_locality_is_measured_beside(home: Path) -> None:
    words = ["shrink", str(home / "row.nas"), "--table", table(home), "--metric", "test", *RULES]
    found = json.loads(good(*words, "--locality", "-o", str(home / "out"), "--json"))["locality"]
    assert found["pairs"] is None
    assert found["shells"][:3] == pytest.approx([1 - d / 3 for d in (1, 2, 3)])


def test_scores_that_are_known_are_not_made_again(home: Path) -> None:
    line = ["shrink", str(home / "row.nas"), "--command", command(home), *RULES, "-o", str(home / "out")]
    good(*line)
    calls = len((home / "calls").read_text())
    record = json.loads((home / "out" / "shrinking.json").read_text())
    assert calls == record["evaluations"] <= 60
    first = (home / "out" / "subspace.json").read_bytes()
    good(*line)
    assert len((home / "calls").read_text()) == calls
    assert (home / "out" / "subspace.json").read_bytes() == first


def test_killed_in_the_middle_it_goes_on_to_the_same_subspace(home: Path) -> None:
    line = ["shrink", str(home / "row.nas"), *RULES]
    good(*line, "--command", command(home), "-o", str(home / "whole"))
    whole = json.loads((home / "whole" / "shrinking.json").read_text())
    enough = whole["evaluations"] // 2
    (home / "calls").unlink()
    (home / "slow").touch()
    slow = [*line, "--command", command(home), "-o", str(home / "cut")]
    cache = home / "cut" / "scores.jsonl"
    running = subprocess.Popen(
        [sys.executable, "-m", "nasdsl", *slow],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not cache.exists() or len(cache.read_text().splitlines()) < enough:
        assert running.poll() is None
        time.sleep(0.02)
    running.kill()
    running.wait()
    (home / "slow").unlink()
    assert not (home / "cut" / "subspace.json").exists()
    known = len(cache.read_text().splitlines())
    before = len((home / "calls").read_text())
    assert enough <= known < whole["evaluations"]
    good(*line, "--command", command(home), "-o", str(home / "cut"))
    # The call that was under way when its caller was killed may still leave its dot.
    again = len((home / "calls").read_text()) - before - (whole["evaluations"] - known)
    assert again in (0, 1)
    assert (home / "cut" / "subspace.json").read_bytes() == (home / "whole" / "subspace.json").read_bytes()


def test_a_subspace_of_an_earlier_run_does_not_stay(home: Path) -> None:
    out = home / "out"
    line = ["shrink", str(home / "row.nas"), "-o", str(out)]
    good(*line, "--cost", "macs", *RULES, "--seeds", "whole")
    assert (out / "subspace.json").exists()
    script = home / "same.py"
    script.write_text("print(1)\n")
    text = good(*line, "--command", f"{sys.executable} -S {script}", *RULES)
    assert "nothing was left out" in text
    assert not (out / "subspace.json").exists()


def test_locality_is_told(home: Path) -> None:
    line = ["locality", str(home / "row.nas"), "--table", table(home), "--metric", "test", "--exact"]
    found: dict[str, Any] = json.loads(good(*line, "--walks", "2", "--steps", "50", "--json"))
    # An additive figure of four decisions of four values.
    assert found["shells"][:3] == pytest.approx([1 - d / 3 for d in (1, 2, 3)])
    assert (found["pairs"], found["radius"]) == (None, 1)
    assert len(found["autocorrelation"]) == 36
    text = good(*line, "--walks", "2", "--steps", "50")
    assert "all pairs" in text
    assert "locality radius 1" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["shrink", "FILE"], "name one source"),
        (["locality", "FILE"], "name one source"),
        (["shrink", "FILE", "--cost", "macs", "--proxy", "synflow"], "name one source"),
        (["shrink", "FILE", "--cost", "macs", "--baselines"], "--baselines needs"),
        (["shrink", "FILE", "--cost", "macs", "--truth-metric", "x"], "--truth-metric needs"),
        (["shrink", "FILE", "--cost", "macs", "--samples", "0"], "--samples"),
        (["shrink", "FILE", "--cost", "macs", "--top", "1.5"], "no part above 0"),
        (["shrink", "FILE", "--cost", "macs", "--top", "nan"], "no part above 0"),
        (["shrink", "FILE", "--cost", "macs", "--radius", "0"], "--radius"),
        (["shrink", "FILE", "--cost", "macs", "-o", "FILE"], "cannot write"),
        (["shrink", "FILE", "--cost", "macs", "-o", "FILE/in"], "cannot write"),
        (["shrink", "FILE", "--cost", "macs", "--truth", "nowhere.csv"], "nowhere.csv"),
        (["shrink", "FILE", "--cost", "macs", "--within", "nowhere.json"], "nowhere.json"),
        (["locality", "LIMITED", "--cost", "macs", "--exact"], "--exact is for"),
    ],
    ids=lambda v: " ".join(v[2:]) or "no source" if isinstance(v, list) else "",
)
def test_a_mistake_is_one_message(
    home: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "limited.nas").write_text(row_of(4, "limit macs <= 20k"))
    places = {"FILE": str(home / "row.nas"), "LIMITED": str(home / "limited.nas")}
    given = []
    for word in words:
        for name, path in places.items():
            word = word.replace(name, path) if word.startswith(name) else word
        given.append(word)
    try:
        code, out, err = call(given)
    except SystemExit as end:  # pragma: no cover
        pytest.fail(f"exit {end.code}")
    assert code in (1, 2)
    assert says in err
    assert "Traceback" not in err + out
