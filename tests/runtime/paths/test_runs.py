"""Generated search scripts of single paths, from --data digits to files, and from SIGKILL to the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nasdsl
from nasdsl.methods import METHODS
from nasdsl.runtime.paths.judging import Judge
from nasdsl.runtime.paths.settings import PATH_RULES
from nasdsl.runtime.standalone.training import load_model
from tests.runtime.test_run import equal
from tests.runtime.test_search import environment

SPACE = """
space tiny {
  input image(1, 8, 8)
  limit macs <= 40k
  network {
    stem: conv(3, 4) >> bn
    body: repeat 3 { choose { skip: id, conv: relu >> conv(3, 4) >> bn, wide: relu >> conv(5, 4) >> bn } }
    head: global_pool >> linear(10)
  }
}
"""
LARGER = SPACE.replace("repeat 3", "repeat 5").replace("40k", "90k")
"""Enough to shrink."""
METHOD_NAMES = ("spos", "fairnas", "sandwich", "random", "evolution", "cream", "lissnas")
SET = {
    "batch_size": 16,
    "weight_lr": 0.05,
    "calibration_batches": 2,
    "judging_batches": 2,
}
FEW = {"evaluations": 8, "population": 4, "parents": 2}
SHRUNK = {"evaluations": 40, "shrink_samples": 12, "shrink_fresh": 6, "shrink_least": 4, "shrink_bins": 2}
OWN = {
    "cream": {"board_size": 4, "meta_interval": 2},
    "random": {"evaluations": 8},
    "lissnas": SHRUNK,
}
SETS = {method: {**SET, **OWN.get(method, FEW)} for method in METHOD_NAMES}
"""What every method is compiled with: settings that its search reads, others are refused."""
LINE = ("--data", "digits", "--epochs", "2", "--limit-batches", "4", "--device", "cpu")
STEPS = 8
"""Ticks until the search for the best path begins."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Every method compiled for the small space."""
    place = tmp_path_factory.mktemp("paths")
    for method in METHOD_NAMES:
        (place / "tiny.nas").write_text(LARGER if method == "lissnas" else SPACE)
        space = nasdsl.load(place / "tiny.nas")
        space.compile(method, settings=SETS[method]).write(place / method)
    return {method: place / method for method in METHOD_NAMES}


def job(folder: Path, out: str, *line: str, kill: int = 0, save: int = 0) -> dict[str, Any]:
    return {"folder": str(folder), "line": [*LINE, "--out", out, *line], "kill": kill, "save": save}


def done(root: Path, *jobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    line = [sys.executable, "-W", "error", str(Path(__file__).with_name("runs.py")), json.dumps(jobs)]
    ended = subprocess.run(
        line, check=False, env=environment(root), capture_output=True, text=True, timeout=280
    )
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def macs(architecture: Mapping[str, Any], folder: Path) -> int:
    costs: int = nasdsl.load(folder / "space.nas").costs("macs").at(architecture)
    return costs


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def check_files(folder: Path, run: Path, method: str) -> None:
    """What a finished run leaves, each file against the others."""
    space = nasdsl.load(folder / "space.nas")
    judged, front, found = (read(run / f"{name}.json") for name in ("judged", "front", "architecture"))
    assert found["fingerprint"] == space.fingerprint
    keys = [json.dumps(j["choices"], sort_keys=True) for j in judged]
    assert len(set(keys)) == len(keys) >= (2 if method == "cream" else 8)
    assert all(j["macs"] == macs(j["choices"], folder) for j in judged)
    assert all(space.allows(j["choices"]) for j in judged)
    best = max(judged, key=lambda j: (j["accuracy"], -j["macs"]))
    assert found["choices"] == best["choices"]
    for one in front:
        assert one in judged
        for two in front:
            assert one == two or (one["macs"] - two["macs"]) * (one["accuracy"] - two["accuracy"]) > 0
    assert (run / "front.svg").read_text().startswith("<svg")
    assert (run / "architecture.svg").exists()
    report = (run / "report.md").read_text()
    assert f"accuracy {best['accuracy']:.2%}" in report
    assert "2 epochs of the supernet" in report
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in log] == [1, 2]
    assert all(0 < e["train_loss"] < 20 for e in log)
    assert ("board" in log[0]) == (method == "cream")
    inherits(folder, run, best)


def inherits(folder: Path, run: Path, best: Mapping[str, Any]) -> None:
    """`model.py` with the inherited weights computes what the supernet computes at that path."""
    weights = run / "inherited/weights.safetensors"
    made = nasdsl.load(folder / "space.nas").compile(folder.name, settings=SETS[folder.name])
    net = made.supernet()
    net.load_state_dict(load_file(run / "supernet.safetensors"))
    model = load_model(run / "model.py").Network()
    model.load_state_dict(load_file(weights))
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net.set_architecture(best["choices"])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), net.eval()(x))
    # And judged as the search judged it, on its own batches.
    assert 0 <= Judge(net, [], [(x, torch.zeros(6).long())]).accuracy(best["choices"]) <= 1


PLAIN = {"weight_decay": 0.1, "evaluations": 12}
BINS = {"sampler": "bins", "bin_low": 1e4, "bin_high": 4e4, "bins": 2}
TAUGHT = {"weight_lr": 0.5, "board_size": 2, "meta_lr": 1.0, "meta_interval": 1}
CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "epochs": ("spos", PLAIN, {"epochs": 3}),
    "batch_size": ("spos", PLAIN, {"batch_size": 8}),
    "train_fraction": ("spos", PLAIN, {"train_fraction": 0.5}),
    "weight_lr": ("spos", PLAIN, {"weight_lr": 0.1}),
    "weight_momentum": ("spos", PLAIN, {"weight_momentum": 0.5}),
    "weight_decay": ("spos", PLAIN, {"weight_decay": 0.2}),
    "decay_norms": ("spos", PLAIN, {"decay_norms": False}),
    "nesterov": ("spos", PLAIN, {"nesterov": True}),
    "clip": ("spos", PLAIN, {"clip": 0.01}),
    "smoothing": ("spos", PLAIN, {"smoothing": 0.3}),
    "sampler": ("spos", PLAIN, {"sampler": "fair"}),
    "paths": ("spos", PLAIN, {"paths": 2}),
    "bin_low": ("spos", BINS, {"bin_low": 2e4}),
    "bin_high": ("spos", BINS, {"bin_high": 3e4}),
    "bins": ("spos", BINS, {"bins": 1}),
    "distillation": ("sandwich", {}, {"distillation": "off"}),
    "board_size": ("cream", TAUGHT, {"board_size": 3}),
    "board_margin": ("cream", TAUGHT, {"board_margin": 90.0}),
    "board_images": ("cream", TAUGHT, {"board_images": 2}),
    "meta": ("cream", TAUGHT, {"meta": "first"}),
    "meta_start": ("cream", TAUGHT, {"meta_start": 0}),
    "meta_interval": ("cream", TAUGHT, {"meta_interval": 3}),
    "meta_lr": ("cream", TAUGHT, {"meta_lr": 0.5}),
    "meta_rate": ("cream", TAUGHT, {"meta_rate": "weights"}),
    "legacy": ("cream", TAUGHT, {"legacy": True}),
    "search": ("spos", PLAIN, {"search": "aging"}),
    "evaluations": ("spos", PLAIN, {"evaluations": 6}),
    "population": ("spos", PLAIN, {"population": 3}),
    "parents": ("spos", PLAIN, {"parents": 4}),
    "mutation": ("spos", PLAIN, {"mutation": 0.9}),
    "shrink_samples": ("lissnas", SHRUNK, {"shrink_samples": 9}),
    "shrink_fresh": ("lissnas", SHRUNK, {"shrink_fresh": 3}),
    "shrink_top": ("lissnas", SHRUNK, {"shrink_top": 0.5}),
    "shrink_bins": ("lissnas", SHRUNK, {"shrink_bins": 1}),
    "shrink_radius": ("lissnas", SHRUNK, {"shrink_radius": 2}),
    "shrink_predictor": ("lissnas", SHRUNK, {"shrink_predictor": False}),
    "shrink_least": ("lissnas", SHRUNK, {"shrink_least": 7}),
    "objective": ("spos", PLAIN, {"objective": "params"}),
    "calibration_batches": ("spos", PLAIN, {"calibration_batches": 0}),
    "judging_batches": ("spos", PLAIN, {"judging_batches": 1}),
    "augment": ("spos", PLAIN, {"augment": False}),
    "pad": ("spos", PLAIN, {"pad": 1}),
}
"""A method, what is set besides, what is changed. `latency_table` and its objective have tests of their own."""


def trials(folders: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """A run of every change, and of every base without one."""
    found = {}
    for name, (method, base, change) in CHANGES.items():
        for key, given in ((f"without {method} {base}", base), (name, base | change)):
            # The board opens before its run is half over, so that four epochs have two with it.
            values = {"epochs": 4 if method == "cream" else 2, **given}
            line = [w for n, v in values.items() for w in ("--set", f"{n}={str(v).lower()}")]
            made = job(folders[method], f"runs/try-{len(found)}", *line)
            made["line"] = [w for w in made["line"] if w not in ("--epochs", "2")]
            found.setdefault(key, made)
    return found


KILLED = tuple(w for n, v in {"search": "evolution", **FEW}.items() for w in ("--set", f"{n}={v}"))
"""What Cream is killed with: its board and meta-network first, then a generation that is half judged."""
FRONT = ("--set", "search=nsga2", "--set", "parents=10")
"""The front has no use for a number of parents, so that is what it is by itself."""


def killed(folder: Path, name: str, line: tuple[str, ...]) -> list[dict[str, Any]]:
    """A whole run; one that dies in the middle of an epoch, one among the paths that are judged; each continued."""
    return [
        job(folder, f"{name}-whole", *line),
        job(folder, f"{name}-epoch", *line, kill=STEPS - 1, save=3),
        job(folder, f"{name}-epoch", *line),
        job(folder, f"{name}-judging", *line, kill=STEPS + 2, save=3),
        job(folder, f"{name}-judging", *line),
    ]


@pytest.fixture(scope="module")
def ended(folders: Mapping[str, Path], root: Path) -> Mapping[str, list[dict[str, Any]]]:
    """All runs that are not slow, of one process."""
    jobs = {
        "methods": [
            *(job(folder, "runs/0") for folder in folders.values()),
            job(folders["fairnas"], "runs/front", *FRONT),
        ],
        "killed": killed(folders["cream"], "runs/ordinary", KILLED),
        "others": [
            job(folders["random"], "runs/0"),
            job(folders["random"], "runs/0", "--set", "evaluations=3"),
            job(folders["random"], "runs/wrong", "--compile"),
        ],
        "trials": list(trials(folders).values()),
    }
    rest = done(root, *(j for group in jobs.values() for j in group))
    return {name: [rest.pop(0) for _ in group] for name, group in jobs.items()}


def test_every_method_searches_within_the_limits_and_leaves_its_files(
    folders: Mapping[str, Path], ended: Mapping[str, list[dict[str, Any]]]
) -> None:
    for one in ended["methods"]:
        assert one["code"] == 0, one["text"]
    for method, folder in folders.items():
        check_files(folder, folder / "runs/0", method)
    # A front has a picture and an architecture for every point.
    run = folders["fairnas"] / "runs/front"
    check_files(folders["fairnas"], run, "fairnas")
    front = read(run / "front.json")
    files = sorted((run / "front").iterdir())
    assert [read(f)["choices"] for f in files] == [p["choices"] for p in front]
    assert not (folders["fairnas"] / "runs/0/front").exists()
    picture = (run / "front.svg").read_text()
    assert picture.count("<circle") >= len(read(run / "judged.json"))


SAME = (
    "log.jsonl",
    "judged.json",
    "architecture.json",
    "front.json",
    "model.py",
    "report.md",
    "supernet.safetensors",
)


def check_killed(folder: Path, name: str, results: list[dict[str, Any]]) -> None:
    assert [r["code"] for r in results] == [0, -9, 0, -9, 0], [r["text"] for r in results]
    assert "at epoch 2, step 3" in results[2]["text"]
    assert "at epoch 3, step 1" in results[4]["text"]
    whole = folder / f"{name}-whole"
    for other in (folder / f"{name}-epoch", folder / f"{name}-judging"):
        for file in SAME:
            assert (other / file).read_bytes() == (whole / file).read_bytes(), (other.name, file)
        one, two = (torch.load(o / "checkpoint.pt", weights_only=True) for o in (whole, other))
        assert equal(one, two)
        assert len(one["parts"]["finder"]["judged"]) >= 2
        if folder.name == "cream":
            assert len(one["parts"]["search"]["board"]["entries"]) >= 2


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    folders: Mapping[str, Path], ended: Mapping[str, list[dict[str, Any]]]
) -> None:
    check_killed(folders["cream"], "runs/ordinary", ended["killed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("cream", ()),
        ("cream", ("--set", "legacy=true", "--set", "meta=first")),
        ("evolution", ()),
        ("random", ("--set", "sampler=bins", "--set", "bin_low=1e4", "--set", "bin_high=4e4")),
        ("fairnas", FRONT),
        ("sandwich", ("--precision", "bf16")),
    ],
)
def test_a_run_of_every_kind_that_was_killed_does(
    folders: Mapping[str, Path], root: Path, method: str, line: tuple[str, ...]
) -> None:
    name = f"runs/slow-{len(line)}"
    check_killed(folders[method], name, done(root, *killed(folders[method], name, line)))


def test_a_run_that_is_over_says_the_same_again_and_another_is_refused(
    ended: Mapping[str, list[dict[str, Any]]],
) -> None:
    first, (again, other, wrong) = ended["methods"][METHOD_NAMES.index("random")], ended["others"]
    assert (again["code"], other["code"], wrong["code"]) == (0, 1, 2)
    assert first["text"].splitlines()[-6:] == again["text"].splitlines()[-6:]
    assert "evaluations was 8, is 3" in other["text"]
    assert "--compile: a path changes every step" in wrong["text"]


def test_every_setting_changes_what_a_run_ends_with(
    folders: Mapping[str, Path], ended: Mapping[str, list[dict[str, Any]]]
) -> None:
    assert set(CHANGES) == set(PATH_RULES) - {"name", "flip", "loader", "interpolation", "latency_table"}
    seen: dict[Any, str] = {}
    for (name, made), result in zip(trials(folders).items(), ended["trials"], strict=True):
        assert result["code"] == 0, (name, result["text"])
        run = Path(made["folder"]) / made["line"][made["line"].index("--out") + 1]
        files = ("log.jsonl", "judged.json", "supernet.safetensors")
        end = (made["folder"], *((run / f).read_bytes() for f in files))
        assert end not in seen, f"{name} changes nothing against {seen[end]}"
        seen[end] = name


def test_methods_name_every_setting_once() -> None:
    """Two tables of config.toml may have a key in common, a method's settings not."""
    for name in METHODS.names():
        names = [s.name for s in METHODS.load(name).settings]
        assert sorted(set(names)) == sorted(names), name
    for name in METHOD_NAMES:
        searched = {s.name for s in METHODS.load(name).settings if s.table == "search"}
        data = {"name", "augment", "pad", "flip", "loader", "interpolation"}
        assert searched == set(PATH_RULES) - data
