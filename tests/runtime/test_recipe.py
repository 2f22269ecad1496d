"""Retraining recipes: given weights, optimisers, schedules, averages, dropout, named sets of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.training import load_model, load_weights, save_weights
from tests.runtime.test_training import MODEL, run, script

__all__ = ["script"]

SHORT = ("--epochs", "1", "--limit-batches", "2", "--device", "cpu")


# --- given weights ---------------------------------------------------------------------


def network(folder: Path, auxiliary: bool = False) -> Any:
    (folder / "model.py").write_text(MODEL)
    return load_model(folder / "model.py").Network(auxiliary=auxiliary)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_network_starts_from_given_weights(tmp_path: Path, kind: str) -> None:
    first, second = network(tmp_path), network(tmp_path)
    path = save_weights(first, tmp_path)
    if kind == "pt":
        path = tmp_path / "weights.pt"
        torch.save(first.state_dict(), path)
    load_weights(second, path)
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


def test_an_auxiliary_head_may_be_missing_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_weights(network(tmp_path), tmp_path)
    net = network(tmp_path, auxiliary=True)
    before = net.auxiliary.weight.detach().clone()
    load_weights(net, path)
    assert torch.equal(net.auxiliary.weight, before)
    assert "no auxiliary head" in capsys.readouterr().out
    extra = save_weights(net, tmp_path)
    with pytest.raises(Mistake, match=r"this network has no auxiliary\.bias \(and 1 more\)"):
        load_weights(network(tmp_path), extra)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv.weight"), "it lacks conv.weight"),
        (lambda s: s.update({"tail.weight": torch.ones(1)}), "this network has no tail.weight"),
        (lambda s: s.update({"head.bias": torch.ones(7)}), "head.bias is 7 there and 10 here"),
        (lambda s: s.update({"head.bias": "text"}), "holds no state dict"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    net = network(tmp_path)
    state = dict(net.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(Mistake, match=words.replace(".", r"\.")):
        load_weights(net, tmp_path / "w.pt")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    (tmp_path / "w.safetensors").write_text("no")
    (tmp_path / "w.pt").write_text("no")
    for name, words in (
        ("w.safetensors", "cannot be read"),
        ("w.pt", "cannot be read"),
        ("x.pt", "not exist"),
    ):
        with pytest.raises(Mistake, match=words):
            load_weights(net, tmp_path / name)


def test_training_starts_from_the_weights_and_they_are_part_of_the_run(script: Path) -> None:
    """With a learning rate of nothing, what comes out is what went in."""
    net = network(script)
    path = save_weights(net, script)
    line = ("--weights", str(path), *SHORT, "--set", "lr=0", "--set", "auxiliary=off")
    done = run(script, *line)
    assert done.returncode == 0, done.stderr
    from safetensors.torch import load_file

    ended = load_file(script / "runs/0/retrain/weights.safetensors")
    for name, value in net.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(ended[name], value), name
    other = run(script, *SHORT, "--set", "lr=0", "--set", "auxiliary=off")
    assert other.returncode == 1
    assert "weights was" in other.stderr
    assert other.stderr.count("\n") == 1
    assert json.loads((script / "runs/0/retrain/result.json").read_text())["examples"] == 355
