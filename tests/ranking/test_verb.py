"""`nasdsl rank` on supernets that a few steps trained: what it judges, keeps, leaves out and refuses."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl import UserError
from nasdsl.cli import main
from nasdsl.ranking.searched import Options, Searched, open_run
from tests.runtime.forks import ran
from tests.verifying.common import relock

SPACE = """space ranked {
  input image(1, 8, 8)
  network {
    stem: conv(3, 4) >> bn
    body: repeat 2 { choose { skip: id, conv: relu >> conv(3, 4) >> bn, wide: relu >> conv(5, 4) >> bn } }
    head: relu >> global_pool >> linear(10)
  }
}
"""
QUICK = ["--data", "digits", "--limit-batches", "2", "--set", "batch_size=32", "--set", "augment=false"]
OWN = {
    "spos": ["--set", "epochs=1", "--set", "evaluations=4", "--set", "population=4", "--set", "parents=2"],
    "darts": ["--set", "epochs=1"],
}


def choices(one: str, two: str) -> dict[str, str]:
    return {"body[1].op": one, "body[2].op": two}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rank")
    (home / "ranked.nas").write_text(SPACE)
    for method, own in OWN.items():
        assert (
            call(["compile", str(home / "ranked.nas"), "--method", method, "-o", str(home / method)])[0] == 0
        )
        ran(home / method, "search.py", *QUICK, *own).check_returncode()
    lines = [
        {"architecture": choices(one, two), "accuracy": 0.1 * a + 0.01 * b}
        for a, one in enumerate(("skip", "conv", "wide"))
        for b, two in enumerate(("skip", "conv", "wide"))
    ]
    (home / "trained.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return home


def call(words: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def ranked(home: Path, *more: str, method: str = "spos") -> dict[str, Any]:
    code, out, err = call(
        ["rank", str(home / method), "--trained", str(home / "trained.jsonl"), "--json", *more]
    )
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found | {"pairs": json.loads(Path(found["written"]).read_text())["pairs"]}


@pytest.mark.parametrize("method", OWN)
def test_every_pair_is_there_with_its_costs(folder: Path, method: str) -> None:
    found = ranked(folder, method=method)
    assert found["count"] == len(found["pairs"]) == 9
    assert set(found["scores"]) == {"inherited", "macs", "params"}
    space = nasdsl.load(folder / "ranked.nas")
    for pair in found["pairs"]:
        stats = space.stats(space.architecture(pair["choices"]))
        assert (pair["params"], pair["macs"]) == (stats.params, stats.macs)
        assert 0 <= pair["inherited"] <= 1


def test_a_path_is_judged_as_the_search_judged_it(folder: Path) -> None:
    run = folder / "spos/runs/0"
    accuracy = open_run(folder / "spos", "runs/0", Options()).judge()
    judged = json.loads((run / "judged.json").read_text())
    assert judged
    for record in judged:
        assert accuracy(record["choices"]) == pytest.approx(record["accuracy"])


def test_a_gradient_supernet_is_judged_at_its_one_hot_point(folder: Path) -> None:
    opened = open_run(folder / "darts", "runs/0", Options(calibration_batches=0))
    where = choices("conv", "wide")
    found = opened.judge()(where)
    net, batches = _one_hot(opened, where)
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches)
    assert found == pytest.approx(right / sum(len(y) for _, y in batches))


def _one_hot(opened: Searched, where: dict[str, str]) -> tuple[Any, Any]:
    from safetensors.torch import load_file

    from nasdsl.runtime.search.ranking import streams

    net = opened.program.supernet()
    net.load_state_dict(load_file(opened.folder / "supernet.safetensors"))
    net.set_architecture(where)
    data, _ = streams(opened.settings, ("image", 1, 8, 8), 10, "data", 1, torch.device("cpu"))
    return net.eval(), data[1]


def test_recalibration_counts(folder: Path) -> None:
    with_, without = (ranked(folder, "--calibration-batches", n)["pairs"] for n in ("2", "0"))
    assert [p["inherited"] for p in with_] != [p["inherited"] for p in without]


def test_pairs_are_kept_as_they_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ranked(folder, "-n", "4")
    kept = (folder / "spos/runs/0/rank.jsonl").read_text()
    (folder / "spos/runs/0/rank.jsonl").write_text(kept + '{"of": "cut sho')
    again = ranked(folder, "-n", "4")
    assert again["pairs"] == first["pairs"]
    ranked(folder)
    monkeypatch.setattr(Searched, "judge", lambda self: pytest.fail("everything is known"))
    assert ranked(folder)["count"] == 9


def test_the_seed_chooses(folder: Path) -> None:
    chosen = [
        [p["choices"] for p in ranked(folder, "-n", "4", "--seed", s)["pairs"]] for s in ("0", "0", "1")
    ]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("source", ["--trained", "--table"])
def test_only_what_a_part_has_is_ranked(folder: Path, tmp_path: Path, source: str) -> None:
    space = nasdsl.load(folder / "ranked.nas")
    space.restriction({"body[1].op": ["skip", "wide"]}).write(tmp_path / "part.json")
    rows = ["arch,accuracy"]
    for number, line in enumerate((folder / "trained.jsonl").read_text().splitlines()):
        arch = space.architecture(json.loads(line)["architecture"])
        text = arch.to_json().replace('"', '""')
        rows.append(f'"{text}",{number}')
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    given = folder / "trained.jsonl" if source == "--trained" else tmp_path / "t.csv"
    words = ["rank", str(folder / "spos"), source, str(given), "--within", str(tmp_path / "part.json")]
    code, out, err = call([*words, "--json", "-o", str(tmp_path / "r.json")])
    assert code == 0, err
    pairs = json.loads((tmp_path / "r.json").read_text())["pairs"]
    assert len(pairs) == 6
    assert {p["choices"]["body[1].op"] for p in pairs} == {"skip", "wide"}
    assert json.loads(out)["against"]["within"] == space.read_subspace(tmp_path / "part.json").digest


def test_figures_of_one_architecture_are_averaged_and_forms_are_read(folder: Path, tmp_path: Path) -> None:
    space = nasdsl.load(folder / "ranked.nas")
    whole = json.loads(space.architecture(choices("conv", "conv")).to_json())
    lines = [
        {"architecture": whole, "accuracy": 0.5},
        {"choices": choices("conv", "conv"), "accuracy": 0.7},
        {"architecture": choices("skip", "conv"), "accuracy": 0.2},
    ]
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    run = tmp_path / "one"
    (run / "retrain").mkdir(parents=True)
    (run / "architecture.json").write_text(
        json.dumps(json.loads(space.architecture(choices("wide", "wide")).to_json()))
    )
    (run / "retrain/result.json").write_text('{"test_accuracy": 0.9, "examples": 10}')
    code, _, err = call(
        [
            "rank",
            str(folder / "spos"),
            "--trained",
            str(path),
            str(run),
            "-o",
            str(tmp_path / "r.json"),
            "--json",
        ]
    )
    assert code == 0, err
    pairs = json.loads((tmp_path / "r.json").read_text())["pairs"]
    assert sorted((p["trained"], p["runs"]) for p in pairs) == [(0.2, 1), (0.6, 2), (0.9, 1)]


def test_a_table_whose_metric_is_a_loss_is_turned(folder: Path, tmp_path: Path) -> None:
    space = nasdsl.load(folder / "ranked.nas")
    rows = ["arch,loss,note"]
    for number, arch in enumerate(
        space.architecture(choices(o, t)) for o in ("skip", "wide") for t in ("skip", "conv")
    ):
        text = arch.to_json().replace('"', '""')
        rows.append(f'"{text}",{number},x')
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows) + "\n")
    line = [
        "rank",
        str(folder / "spos"),
        "--table",
        str(table),
        "--metric",
        "loss",
        "-o",
        str(tmp_path / "r.json"),
    ]
    code, out, err = call(line)
    assert code == 0, err
    assert "lower is better" in out
    record = json.loads((tmp_path / "r.json").read_text())
    assert all(p["worth"] == -p["trained"] for p in record["pairs"])
    assert record["against"]["sha256"]


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 2, "--table TABLE, or --trained"),
        (["--trained", "x", "--table", "y"], 2, "--table TABLE, or --trained"),
        (["--trained", "TRAINED", "--metric", "m"], 2, "--metric"),
        (["--trained", "nowhere.jsonl"], 1, "NAS005"),
        (["--trained", "TRAINED", "--run", "runs/7"], 1, "NAS607"),
        (["--trained", "TRAINED", "--data", "nonsense", "--judging-batches", "1"], 2, "--data nonsense"),
    ],
    ids=str,
)
def test_what_is_refused(folder: Path, more: list[str], code: int, says: str) -> None:
    words = [w.replace("TRAINED", str(folder / "trained.jsonl")) for w in more]
    found, _, err = call(["rank", str(folder / "spos"), *words])
    assert found == code
    assert says in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "NAS601"),
        ('{"accuracy": 1}', "no `architecture`"),
        ('{"architecture": {}}', "no `accuracy`"),
        ('{"architecture": {"body[1].op": "skip"}, "accuracy": 1}', "NAS401"),
        ('{"architecture": [1], "accuracy": 1}', "NAS601"),
        ('{"architecture": {"body[1].op": "skip", "body[2].op": "skip"}, "accuracy": NaN}', "no number"),
    ],
)
def test_a_line_that_is_no_pair_is_named(folder: Path, tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"\n{line}\n")
    code, _, err = call(["rank", str(folder / "spos"), "--trained", str(path)])
    assert code == 1
    assert says in err
    assert "bad.jsonl:2" in err


def test_another_supernet_or_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "NAS005" in call(["rank", str(tmp_path), "--trained", "x"])[2]
    code = folder / "spos/supernet.py"
    text = code.read_text()
    try:
        code.write_text(text + "\nEDITED = True\n")
        found, _, err = call(["rank", str(folder / "spos"), "--trained", str(folder / "trained.jsonl")])
    finally:
        code.write_text(text)
    assert found == 1
    assert "NAS607" in err


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "darts", tmp_path / "darts"))


def refused(home: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_run(home, "runs/0", Options())
    return str(caught.value)


def test_a_flipped_bit_in_the_weights_is_no_supernet_of_the_run(copied: Path) -> None:
    path = copied / "runs/0/supernet.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    assert "NAS607" in refused(copied)
    path.write_bytes(data)
    assert open_run(copied, "runs/0", Options())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", "x"),
        ("batch_size", 0),
        ("batch_size", "gone"),
        ("name", ["digits"]),
        ("seed", torch.zeros(3)),
        ("seed", -1),
        ("seed", True),
        ("limit_batches", -2),
        ("train_fraction", 7.0),
        ("precision", 3),
    ],
)
def test_what_no_search_takes_is_not_believed_of_a_checkpoint(copied: Path, name: str, value: object) -> None:
    path = copied / "runs/0/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["identity"] |= {name: value}
    if value == "gone":
        del state["identity"][name]
    torch.save(state, path)
    assert "NAS607" in refused(copied)


def test_a_parameter_may_have_any_name(copied: Path) -> None:
    relock(copied, lambda data: data["space"]["given"].update(allow_python=True, path="x"))
    assert "NAS109" in refused(copied)


@pytest.mark.parametrize(
    "text", ["[[compile]]\nx = 1\n", "q = " + "[" * 3000, "", '[compile]\nrelax = "x"\n']
)
def test_a_directory_is_what_its_lock_says_whatever_its_settings_are(copied: Path, text: str) -> None:
    """`config.toml` is for runs; [compile] in it has no say in what was compiled, here as in `search.py`."""
    (copied / "config.toml").write_text(text)
    assert open_run(copied, "runs/0", Options()).program.files()["supernet.py"]


def test_what_the_supernet_cannot_express_is_left_out_and_said(tmp_path: Path) -> None:
    space = nasdsl.load("nasbench201", C=4, N=1)
    assert call(["compile", "nasbench201", "--param", "C=4", "--param", "N=1", "--param", "resolution=8",
                 "--method", "toponas", "-o", str(tmp_path / "d")])[0] == 0  # fmt: skip
    line = ("--data", "digits", "--limit-batches", "1", "--set", "epochs=1", "--set", "batch_size=16")
    ran(tmp_path / "d", "search.py", *line).check_returncode()
    none = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    texts = [none, *[space.format(a) for a in space.sample(200, seed=0)
                     if "none" not in space.format(a)][:2]]  # fmt: skip
    path = tmp_path / "t.jsonl"
    path.write_text(
        "".join(json.dumps({"architecture": t, "accuracy": i}) + "\n" for i, t in enumerate(texts))
    )
    code, out, err = call(["rank", str(tmp_path / "d"), "--trained", str(path), "--calibration-batches", "1"])
    assert code == 0, err
    assert "left out: 1" in out
