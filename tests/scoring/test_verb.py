"""`nasdsl score`: every source, what is printed, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl.ranking.correlation import tau
from nasdsl.ranking.searched import Options, open_run
from tests.runtime.forks import ran
from tests.scoring.spaces import EVERY, LENGTH, call, script, write_space

QUICK = ["--data", "digits", "--limit-batches", "2", "--set", "batch_size=32", "--set", "augment=false"]
OWN = ["--set", "epochs=1", "--set", "evaluations=4", "--set", "population=4", "--set", "parents=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space, a table and pairs for it, and a search that has ended."""
    home = tmp_path_factory.mktemp("score")
    space = nasdsl.load(write_space(home))
    rows, lines = ["arch,accuracy,loss"], []
    for number, choices in enumerate(EVERY):
        text = space.architecture(choices).to_json().replace('"', '""')
        rows.append(f'"{text}",{number},{-2 * number}')
        lines.append(json.dumps({"architecture": choices, "accuracy": number}))
    (home / "table.csv").write_text("\n".join(rows) + "\n")
    (home / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    assert call(["compile", str(home / "scored.nas"), "--method", "spos", "-o", str(home / "spos")])[0] == 0
    ran(home / "spos", "search.py", *QUICK, *OWN).check_returncode()
    return home


def scored(home: Path, *words: str) -> dict[str, Any]:
    path = home / "archs.jsonl"
    path.write_text("".join(json.dumps(choices) + "\n" for choices in EVERY))
    listed = [] if {"-n", "--arch", "--archs"} & set(words) else ["--archs", str(path)]
    code, out, err = call(["score", str(home / "scored.nas"), "--json", *listed, *words])
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found | {"values": [row["score"] for row in found["scores"]]}


def test_a_table_is_turned_where_lower_is_better(folder: Path) -> None:
    table = str(folder / "table.csv")
    assert scored(folder, "--table", table, "--metric", "accuracy")["values"] == list(range(9))
    assert scored(folder, "--table", table, "--metric", "loss")["values"] == [2 * n for n in range(9)]


def test_a_run_gives_what_rank_judges(folder: Path) -> None:
    accuracy = open_run(folder / "spos", "runs/0", Options()).judge()
    wanted = [accuracy(choices) for choices in EVERY]
    assert scored(folder, "--run", str(folder / "spos"))["values"] == wanted
    assert scored(folder, "--run", str(folder / "spos/runs/0"))["values"] == wanted
    other = scored(folder, "--run", str(folder / "spos"), "--judging-batches", "1")
    assert other["of"] != scored(folder, "--run", str(folder / "spos"))["of"]


def test_proxies_predictors_commands_and_costs(folder: Path) -> None:
    for proxy in ("naswot", "jacov", "grad_norm"):
        words = ["--proxy", proxy, "--data", "digits", "--batch", "8", "--device", "cpu"]
        first, second = (scored(folder, *words, "--weights-seed", s)["values"] for s in "01")
        assert first == scored(folder, *words)["values"] != second
    assert len(set(scored(folder, "--proxy", "synflow")["values"])) == 9
    ridge, trees = (scored(folder, "--predictor", str(folder / "pairs.jsonl"), *m)["values"]
                    for m in ([], ["--model", "boosting"]))  # fmt: skip
    assert ridge != trees
    command = " ".join(script(folder, LENGTH))
    assert scored(folder, "--command", command)["values"] == [len(str(c)) for c in EVERY]
    costs = scored(folder, "--cost", "macs")
    assert costs["values"] == [row["macs"] for row in costs["scores"]]


def test_against_a_table_stand_the_score_and_the_controls(folder: Path) -> None:
    words = ["--cost", "params", "--against", str(folder / "table.csv"), "--against-metric"]
    found = scored(folder, *words, "loss")["against"]
    space = nasdsl.load(folder / "scored.nas")
    params = [space.stats(space.architecture(c)).params for c in EVERY]
    assert found["tau"]["score"]["tau"] == found["tau"]["params"]["tau"] == tau(params, list(range(9)))
    assert (found["count"], found["unknown"], found["better"]) == (9, 0, "lower")
    code, out, _ = call(["score", str(folder / "scored.nas"), "-n", "9", *words, "accuracy"])
    assert code == 0
    assert "against `accuracy`" in out
    assert {line.split()[0] for line in out.splitlines()[-3:]} == {"params", "macs"}


def test_architectures_are_drawn_listed_or_read(folder: Path, tmp_path: Path) -> None:
    space = nasdsl.load(folder / "scored.nas")
    drawn = scored(folder, "--cost", "params", "-n", "4", "--seed", "3")["scores"]
    assert [row["architecture"] for row in drawn] == [dict(a.choices) for a in space.sample(4, seed=3)]
    arch = space.architecture(EVERY[5])
    path = tmp_path / "many.jsonl"
    one_line = json.dumps(json.loads(arch.to_json()))
    path.write_text("\n".join([one_line, "", json.dumps({"architecture": EVERY[5], "score": 1})]) + "\n")
    for words in (["--arch", one_line, "--arch", one_line], ["--archs", str(path)]):
        found = scored(folder, "--cost", "params", *words)
        assert [row["architecture"] for row in found["scores"]] == [EVERY[5]] * 2
        assert (found["evaluations"], found["known"]) == (1, 0)


def test_a_part_of_the_space_is_kept_to(folder: Path, tmp_path: Path) -> None:
    space = nasdsl.load(folder / "scored.nas")
    part, cache = tmp_path / "part.json", str(tmp_path / "kept.jsonl")
    space.restriction({"first.op": ["wide"]}).write(part)
    kept = ["--cache", cache, "--proxy", "naswot", "--data", "digits", "--batch", "8"]
    found = scored(folder, *kept, "--within", str(part), "-n", "20")
    assert {row["architecture"]["first.op"] for row in found["scores"]} == {"wide"}
    assert scored(folder, *kept)["known"] == found["evaluations"] == 3  # a score is of the whole space
    code, _, err = call(["score", str(folder / "scored.nas"), "--within", str(part), "--cost", "params",
                         "--arch", json.dumps(json.loads(space.architecture(EVERY[0]).to_json()))])  # fmt: skip
    assert code == 1
    assert "NAS405" in err


def test_lines_are_written_and_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first = scored(folder, "--cost", "params", "-o", str(out))
    again = scored(folder, "--cost", "params", "--archs", str(out), "--cache", str(tmp_path / "kept.jsonl"))
    assert first["values"] == again["values"]
    assert scored(folder, "--cost", "params", "--cache", str(tmp_path / "kept.jsonl"))["known"] == 9


def test_a_network_without_a_score_is_said(tmp_path: Path) -> None:
    small = ["--param", "C=4", "--param", "N=1", "--param", "resolution=8"]
    dead = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    code, out, err = call(["score", "nasbench201", *small, "--proxy", "jacov", "--data", "digits",
                           "--batch", "8", "--arch", dead])  # fmt: skip
    assert code == 0, err
    assert "1 without a score" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "name one source of scores"),
        (["--cost", "params", "--table", "t"], 2, "--table and --cost"),
        (["--cost", "params", "--metric", "m"], 2, "--metric is of --table, not of --cost"),
        (["--table", "t", "--batch", "4"], 2, "--batch is of --proxy"),
        (["--command", "true", "--model", "ridge"], 2, "--model is of --predictor"),
        (["--table", "t", "--timeout", "3"], 2, "--timeout is of --command"),
        (["--command", "'"], 2, "--command"),
        (["--command", ""], 2, "no word"),
        (["--proxy", "jacov"], 2, "looks at data"),
        (["--proxy", "synflow", "--data", "digits"], 2, "looks at no example"),
        (["--proxy", "jacov", "--data", "nonsense"], 1, "--data nonsense"),
        (["--proxy", "synflow", "--device", "nonsense"], 1, "--device nonsense"),
        (["--cost", "params", "--arch", "x", "-n", "2"], 2, "are drawn"),
        (["--cost", "params", "--arch", "x", "--archs", "y"], 2, "are drawn"),
        (["--cost", "params", "--archs", "nowhere"], 1, "NAS005"),
        (["--cost", "params", "--against-metric", "x"], 2, "--against"),
        (["--cost", "params", "--against", "TABLE", "--against-metric", "x"], 1, "NAS603"),
        (["--run", "nowhere"], 1, "NAS005"),
        (["--run", "SPOS/runs/7"], 1, "NAS607"),
        (["--table", "TABLE", "--metric", "x"], 1, "NAS603"),
        (["--cost", "params", "--cache", "SPOS"], 1, "NAS005"),
    ],
    ids=str,
)
def test_what_is_refused(folder: Path, words: list[str], code: int, says: str) -> None:
    given = [
        w.replace("TABLE", str(folder / "table.csv")).replace("SPOS", str(folder / "spos")) for w in words
    ]
    found, out, err = call(["score", str(folder / "scored.nas"), *given])
    assert (found, out) == (code, "")
    assert says in err


def test_a_line_that_is_no_architecture_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(EVERY[0]) + "\n" + '{"first.op": "skip"}\n')
    code, _, err = call(["score", str(folder / "scored.nas"), "--cost", "params", "--archs", str(path)])
    assert code == 1
    assert "bad.jsonl:2" in err
    path.write_text("\n")
    assert (
        "no architecture"
        in call(["score", str(folder / "scored.nas"), "--cost", "params", "--archs", str(path)])[2]
    )


def test_a_row_that_the_table_lacks_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("\n".join((folder / "table.csv").read_text().splitlines()[:4]) + "\n")
    code, _, err = call(
        ["score", str(folder / "scored.nas"), "--table", str(path), "--metric", "loss", "-n", "9"]
    )
    assert code == 1
    assert "NAS603" in err
    assert "cannot be scored" in err
