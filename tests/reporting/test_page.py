"""The page says what the run's files say, is one well-formed file by itself, and runs nothing of theirs."""

from __future__ import annotations

import copy
import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.reporting import page, read_run, write_page
from nasdsl.reporting.folder import Run
from tests.drawing.html import Reader
from tests.reporting.common import (
    HOSTILE,
    Search,
    example,
    read_lock,
    write_compiled,
    write_lines,
    write_lock,
    write_retrained,
)


def read(run: Run) -> Reader:
    """The page of a run, once it is known to be whole and to say nothing that is not known."""
    text = page(run)
    reader = Reader(text)
    assert not re.search(r"\b(None|nan|NaN|inf|Infinity|Undefined)\b", reader.text)
    assert not {"href", "onload", "onclick", "onsubmit"} & {
        n for n, v in reader.attributes if v and v[:1] != "#"
    }
    assert all(v and v.startswith("data:") for n, v in reader.attributes if n == "src")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    ids = [v for n, v in reader.attributes if n == "id"]
    assert len(ids) == len(set(ids)), "an id is there twice"
    targets = {str(v)[1:] for n, v in reader.attributes if n == "href"}
    assert targets <= set(ids)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = re.findall(r"sha256-([^']+)'", text)
    assert [b64encode(sha256(s.encode()).digest()).decode() for s in scripts] == allowed
    return reader


def test_everything_that_a_run_knows_is_there(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 12)
    write_retrained(folder, 20)
    run = read_run(folder)
    reader = read(run)
    titles = (
        *("Search of darts with toponas", "Architecture", "Learning", "How it decided", "Instruments"),
        *("Trained by itself", "What the compiler saved", "When it ran", "How to reproduce"),
    )
    assert all(t in reader.text for t in titles)
    assert "missing or damaged" not in reader.text
    assert "97.12 %" in reader.text
    assert "in 2 stretches" in reader.text
    assert "a large accelerator" in reader.text
    assert all(path in reader.text for path in run.choices or {})
    decisions = Search().decisions
    small = [v for n, v in reader.attributes if n == "class" and v == "chart small"]
    assert len(small) == len(decisions)


def test_the_texts_of_the_script_are_those_of_the_log(tmp_path: Path) -> None:
    run = read_run(example(tmp_path / "made", 7))
    texts = json.loads(re.search(r'id="texts">(.*?)</script>', page(run), re.DOTALL).group(1))  # type: ignore[union-attr]
    assert texts["epochs"] == [1, 2, 3, 4, 5, 6, 7]
    assert all(len(t) == 7 for t in texts["figures"].values())
    losses = texts["figures"]["l0"]
    assert all(f"{e['train_loss']:.4g}" in t for e, t in zip(run.log, losses, strict=True))
    derived = {p: c for p, c in run.log[3]["architecture"].items() if isinstance(c, str)}
    shown = {t[3] for t in texts["figures"].values()}
    names = Search().entries
    for path, choice in derived.items():
        share = run.log[3]["probabilities"][path][names[path].index(choice)]
        assert any(t.startswith(f"{choice} {share:.2f}") for t in shown), (path, choice, share)


def test_a_run_of_an_earlier_version_has_a_page(tmp_path: Path) -> None:
    """Neither a lock nor a timeline nor probabilities."""
    folder = example(tmp_path / "made", 3)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for entry in log:
        del entry["probabilities"]
    write_lines(folder / "log.jsonl", log)
    (folder / "timeline.jsonl").unlink()
    (folder / "nasdsl.lock").unlink()
    reader = read(read_run(folder))
    assert "2 things are missing" in reader.text
    assert "keeps no probabilities" in reader.text
    assert "When it ran" not in reader.text
    assert "nasdsl compile space.nas" in reader.text
    assert "search.py --data" not in reader.text


def test_a_run_alone_shows_the_picture_that_it_drew(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    drawn = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    (folder / "architecture.svg").write_text(drawn)
    alone = folder.rename(tmp_path / "alone")
    reader = read(read_run(alone))
    sources = [v for n, v in reader.attributes if n == "src"]
    assert sources == [f"data:image/svg+xml;base64,{b64encode(drawn.encode()).decode()}"]
    assert "alert" not in reader.text


def test_operations_from_python_are_imported_only_if_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = example(tmp_path / "made", 2)
    space = tmp_path / "made" / "space.nas"
    space.write_text(
        space.read_text().replace("space darts {", 'space darts {\n  use python "report_ops"\n', 1)
    )
    (tmp_path / "report_ops.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = read_run(folder)
    assert "The space cannot be opened" in read(run).text
    assert not (tmp_path / "imported").exists()
    page(run, allow_python=True)
    assert (tmp_path / "imported").exists()


def test_texts_of_users_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 2)
    plain = read(read_run(folder))
    lock = read_lock(folder)
    for name in ("identity", "environment", "data", "files"):
        lock[name] = {f"{k}{HOSTILE}": HOSTILE for k in lock[name]}
    lock["identity"] |= {"method": HOSTILE, "name": HOSTILE}
    lock["arguments"]["settings"] = [HOSTILE]
    lock["decisions"] = {k: [HOSTILE for _ in v] for k, v in lock["decisions"].items()}
    write_lock(folder, lock)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for entry in log:
        entry[HOSTILE] = 1.5
        for name in ("architecture", "probabilities"):
            entry[name] |= {f"{HOSTILE}.{HOSTILE}.x": [0.5, 0.5] if name == "probabilities" else HOSTILE}
    write_lines(folder / "log.jsonl", log)
    (folder / "architecture.json").write_text(
        json.dumps({"space": HOSTILE, "fingerprint": HOSTILE, "choices": {HOSTILE: HOSTILE, "b": [HOSTILE]}})
    )
    made = tmp_path / "made"
    lock = read_lock(made)
    lock["space"]["name"] = lock["method"] = HOSTILE
    write_lock(made, lock)
    rewrites = (made / "rewrites.md").read_text().replace("simplify", HOSTILE)
    (made / "rewrites.md").write_text(rewrites)
    reader = read(read_run(folder))
    assert reader.text.count('alert("1")') >= 20
    assert reader.tags.count("script") == plain.tags.count("script")
    assert "49" not in [w.strip() for w in reader.words]


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**400), 10**400),
    st.sampled_from([0.0, -0.0, 1e-300, 1e300, 5e-324, True, None, "text", [1.0]]),
)


@st.composite
def odd_logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Logs whose numbers are anything and whose entries are there or not."""
    search = Search(draw(st.integers(0, 3)))
    epochs = draw(st.lists(st.integers(-2, 10**6), max_size=5, unique=True))
    found = []
    for epoch in epochs:
        entry = {**search.entry(1, 2), "epoch": epoch}
        for name in [n for n in entry if n not in ("epoch", "architecture", "probabilities")]:
            if draw(st.booleans()):
                entry[name] = draw(NUMBERS)
        for name in ("architecture", "probabilities"):
            if draw(st.integers(0, 3)) == 0:
                del entry[name]
        found.append(entry)
    return found


@settings(max_examples=25, deadline=None)
@given(log=odd_logs(), shares=st.lists(st.floats(0, 1), max_size=9))
def test_odd_logs_have_a_page(
    tmp_path_factory: pytest.TempPathFactory, log: list[dict[str, Any]], shares: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("odd") / "0"
    folder.mkdir()
    log = copy.deepcopy(log)
    for entry in log:
        if "probabilities" in entry:
            first = next(iter(entry["probabilities"]))
            entry["probabilities"][first] = shares
    write_lines(folder / "log.jsonl", log)
    assert "How to reproduce" in read(read_run(folder)).text


def test_a_hundred_epochs_of_darts_are_under_five_megabytes(tmp_path: Path) -> None:
    folder = example(tmp_path / "made", 100)
    path = write_page(folder)
    assert path == folder / "report.html"
    assert path.stat().st_size < 5_000_000
    assert len(Search().decisions) == 36


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    run = read_run(example(tmp_path / "made", 3))
    assert page(run) == page(read_run(run.folder))


def test_more_decisions_than_are_drawn_are_in_the_table(tmp_path: Path) -> None:
    folder = write_compiled(tmp_path / "made") / "runs" / "0"
    folder.mkdir(parents=True)
    found = {f"cell.n[{i}].op[x]": "conv" for i in range(250)}
    write_lines(folder / "log.jsonl", [{"epoch": 1, "architecture": found}])
    reader = read(read_run(folder))
    assert "50 more decisions are in the table only" in reader.text
    assert "cell.n[249].op[x]" in reader.text
