"""Generated search scripts: what they write, and that a run which was stopped ends as if it had not been."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import nasdsl
from tests.runtime.forks import ran
from tests.runtime.test_run import equal

SPACE = """
space small {
  param classes = 10
  input image(1, 8, 8)

  set candidates(; C) = {
    conv: relu >> conv(3, C) >> bn,
    skip: id,
    pool: avg_pool(3)
  }

  cell body(x; C) {
    n[1..3] = sum of choose 1..2 from (x, earlier) via choose candidates
    return concat(n)
  }

  network {
    stem: conv(3, 4) >> bn
    body1: body(C=4)
    head: global_pool >> linear(classes)
  }
}
"""
LINE = ("--limit-batches", "4", "--epochs", "3", "--set", "batch_size=16", "--device", "cpu")


def written(tmp_path: Path, method: str, passes: str = "") -> Path:
    # DARTS ranks inputs, so it needs a fixed number of them.
    text = SPACE if method == "toponas" else SPACE.replace("choose 1..2", "choose 1")
    (tmp_path / "small.nas").write_text(text)
    folder = tmp_path / method
    program = nasdsl.load(tmp_path / "small.nas").compile(
        method, settings={"retrain_epochs": 1}, passes=passes
    )
    program.write(folder)
    return folder


def command(script: str, *line: str) -> list[str]:
    return [sys.executable, "-W", "error", script, *line]


def environment(root: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def checkpoint(folder: Path) -> Any:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_a_search_that_is_stopped_continues_exactly_and_ends_in_a_model(tmp_path: Path, root: Path) -> None:
    folder = written(tmp_path, "toponas")
    whole = ran(folder, "search.py", "--out", "runs/whole", *LINE)
    assert whole.returncode == 0, whole.stderr
    assert "warm-up of 1 epochs instead of 15" in whole.stdout

    with subprocess.Popen(
        command("search.py", "--out", "runs/0", *LINE),
        cwd=folder,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 1/3"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 143, rest
    assert "run the same command again to continue" in rest

    again = ran(folder, "search.py", "--out", "runs/0", *LINE)
    assert again.returncode == 0, again.stderr
    assert "continuing" in again.stdout
    assert equal(checkpoint(folder / "runs/0"), checkpoint(folder / "runs/whole"))
    for name in ("log.jsonl", "architecture.json", "model.py", "architecture.svg", "supernet.safetensors"):
        assert (folder / "runs/0" / name).read_bytes() == (folder / "runs/whole" / name).read_bytes(), name

    log = [json.loads(line) for line in (folder / "runs/0/log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert "valid_loss" not in log[0]  # the warm-up
    assert log[1]["valid_loss"] > 0
    found = json.loads((folder / "runs/0/architecture.json").read_text())
    assert found["fingerprint"] == nasdsl.load(folder / "space.nas").fingerprint

    other = ran(folder, "search.py", "--out", "runs/0", *LINE, "--set", "arch_lr=0.1")
    assert other.returncode == 1
    assert "arch_lr was 0.0003, is 0.1" in other.stderr

    retrained = ran(folder, "retrain.py", "--limit-batches", "2")
    assert retrained.returncode == 0, retrained.stderr
    assert "test accuracy" in retrained.stdout


@pytest.mark.slow
def test_a_run_in_bf16_with_micro_batches_and_cells_computed_twice_continues_exactly(
    tmp_path: Path, root: Path
) -> None:
    folder = written(tmp_path, "darts", "+checkpoint")
    assert "recomputed(self.body1" in (folder / "supernet.py").read_text()
    line = (*LINE, "--precision", "bf16", "--set", "accumulate=3")
    whole = ran(folder, "search.py", "--out", "runs/whole", *line)
    assert whole.returncode == 0, whole.stderr
    with subprocess.Popen(
        command("search.py", "--out", "runs/0", *line),
        cwd=folder,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("epoch 1/3"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 143, rest
    again = ran(folder, "search.py", "--out", "runs/0", *line)
    assert again.returncode == 0, again.stderr
    assert "continuing" in again.stdout
    assert equal(checkpoint(folder / "runs/0"), checkpoint(folder / "runs/whole"))
    other = ran(folder, "search.py", "--out", "runs/0", *LINE, "--set", "accumulate=3")
    assert other.returncode == 1
    assert "precision was bf16, is fp32" in other.stderr


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path, root: Path) -> None:
    folder = written(tmp_path, "toponas")
    for line, reason in (
        (("--cuda-graph",), "error: --cuda-graph needs a CUDA device, and this run is on cpu: leave it out"),
        (("--set", "accumulate=99"), "error: accumulate=99 splits a batch of 16 examples: make it smaller"),
        (("--set", "accumulate=0"), "error: --set accumulate=0: it must be an integer, at least 1"),
    ):
        refused = ran(folder, "search.py", "--out", "runs/refused", *LINE, *line)
        assert refused.returncode in (1, 2)
        assert refused.stderr.strip().splitlines()[-1] == reason
    for flag in ("--compile", "--cuda-graph"):  # of search only
        retrained = ran(folder, "retrain.py", flag)
        assert retrained.returncode == 2
        assert f"unknown argument {flag}" in retrained.stderr


COMMON = {
    "epochs": {"epochs": "4"},
    "batch_size": {"batch_size": "8"},
    "accumulate": {"accumulate": "2"},
    "train_fraction": {"train_fraction": "0.4"},
    "weight_lr": {"weight_lr": "0.05"},
    "weight_lr_min": {"weight_lr_min": "0.02"},
    "weight_momentum": {"weight_momentum": "0.5"},
    "weight_decay": {"weight_decay": "0.1"},
    "nesterov": {"nesterov": "true"},
    "clip": {"clip": "0.01"},
    "arch_lr": {"arch_lr": "0.1"},
    "arch_beta1": {"arch_beta1": "0.9"},
    "arch_beta2": {"arch_beta2": "0.5"},
    "arch_weight_decay": {"arch_weight_decay": "0.5"},
    "warmup_epochs": {"warmup_epochs": "1"},
    "order": {"order": "weights-first"},
    "augment": {"augment": "false"},
    "pad": {"pad": "2"},
    "level": {"level": "single"},
    "hypergradient": {"hypergradient": "exact"},
    "finite_radius": {"hypergradient": "finite", "finite_radius": "1.0"},
    "schedule": {"schedule": "informed"},
    "weight_steps": {"weight_steps": "2"},
    "informed_split": {"schedule": "informed", "weight_steps": "3", "informed_split": "true"},
    "proximity": {"proximity": "adjusted"},
    "proximity_weight": {"proximity": "plain", "proximity_weight": "5"},
    "admm": {"admm": "true", "admm_weight": "0.1"},
    "admm_weight": {"admm": "true", "admm_weight": "5"},
    "admm_period": {"admm": "true", "admm_weight": "5", "admm_period": "1"},
    "admm_dual": {"admm": "true", "admm_weight": "5", "admm_period": "1", "admm_dual": "weights"},
    "constraint_norm": {"admm": "true", "admm_weight": "5", "constraint_norm": "squared"},
    "beta_decay": {"beta_decay": "0.5"},
    "resource_weight": {"resource_weight": "1"},
    "hessian_iterations": {"hessian_iterations": "1"},
}
"""What a setting of every method is changed to, with what it needs beside it."""

SETTINGS: dict[str, tuple[dict[str, str], dict[str, dict[str, str]]]] = {
    "darts": ({}, COMMON),
    "toponas": (
        {"regulariser_ramp_epochs": "2", "regulariser_delta": "0.01"},
        {
            "temperature": {"temperature": "2"},
            "temperature_end": {"temperature_end": "0.5", "temperature_schedule": "linear"},
            "temperature_schedule": {"temperature_end": "0.5", "temperature_schedule": "exponential"},
            "regulariser": {"regulariser": "v3"},
            "regulariser_form": {"regulariser_form": "pa"},
            "regulariser_delta": {"regulariser_delta": "0.3"},
            "regulariser_weight": {"regulariser_weight": "5"},
            "regulariser_ramp_epochs": {"regulariser_ramp_epochs": "0"},
            "pa_aggressiveness": {"regulariser_form": "pa", "pa_aggressiveness": "0.001"},
        },
    ),
    "gdas": (
        {},
        {
            "noise_temperature": {"noise_temperature": "5"},
            "noise_temperature_end": {"noise_temperature_end": "1"},
            "noise_temperature_schedule": {"noise_temperature_schedule": "exponential"},
        },
    ),
    "drnas": ({}, {"dirichlet_kl": {"dirichlet_kl": "1"}}),
    "cbo": (
        {"arch_lr": "0.3", "admm_weight": "5", "admm_period": "1", "schedule": "alternate"},
        {
            "projection": {"projection": "legacy"},
            "fisher_smoothing": {"schedule": "informed", "fisher_smoothing": "0.1"},
            "threshold_growth": {"schedule": "informed", "threshold_growth": "4"},
        },
    ),
}


def test_every_setting_is_tried() -> None:
    from nasdsl.runtime.search.settings import SEARCH_RULES

    # `name` is the data set; digits are never flipped, nor streamed (test_pictures.py tries how images are
    # read); `early_stop` has a test of its own.
    tried = {n for _, changes in SETTINGS.values() for n in changes}
    assert tried == set(SEARCH_RULES) - {"name", "flip", "loader", "interpolation", "early_stop"}


@pytest.mark.parametrize("method", SETTINGS)
def test_a_setting_reaches_the_loop(
    tmp_path: Path, root: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every search setting changes what a short run ends with."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = written(tmp_path, method)
    # Three epochs: a line and an exponential have the same ends.
    base = {"epochs": "3", "batch_size": "16", "warmup_epochs": "0", "arch_lr": "0.05", "pad": "1"}
    more, changes = SETTINGS[method]
    base |= {"hessian_iterations": "0", **more}
    seen: dict[str, str] = {}
    for name, change in {"nothing": {}, **changes}.items():
        found = _end(folder, base | change, monkeypatch)
        assert found not in seen, f"{name} changes nothing against {seen.get(found)}"
        seen[found] = name


def test_a_search_stops_early_once_its_rule_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = written(tmp_path, "darts")
    # Variables that do not move keep their ranking: eleven epochs are ten without a change.
    still = {"epochs": "20", "batch_size": "16", "arch_lr": "0", "hessian_iterations": "0"}
    for rule, last in (("ranking", 11), ("off", 20)):
        found = json.loads(_end(folder, still | {"early_stop": rule}, monkeypatch))
        assert found[3] == last


class _Stop(Exception):
    pass


class _Program:
    """Stands for the compiled space where it is not what a test is about: deriving ends the run."""

    space = None

    def architecture(self, choices: object) -> object:
        raise _Stop


def _end(folder: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The supernet and the measurements at the end of a run of the script in this process, as text."""
    out = folder / "runs" / str(time.monotonic_ns())
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    argv = ["search.py", "--limit-batches", "3", "--device", "cpu", "--out", str(out), *sets]
    monkeypatch.setattr(sys, "argv", argv)
    before, path = signal.getsignal(signal.SIGTERM), list(sys.path)
    sys.modules.pop("supernet", None)
    spec = importlib.util.spec_from_file_location("generated_search", folder / "search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "compiled", lambda changed: _Program())
        with pytest.raises(_Stop):
            module.main()
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.path[:] = path
        sys.modules.pop("supernet", None)
        monkeypatch.undo()
    state = checkpoint(out)["parts"]
    numbers = {k: v.double().sum().item() for k, v in state["net"].items()}
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    return json.dumps([numbers, state["train"], state["valid"], last["epoch"], "hessian_eigenvalue" in last])
