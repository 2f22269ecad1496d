"""Retraining recipes: given weights, optimisers, schedules, averages, dropout, named sets of settings."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import nasdsl
from nasdsl.methods import METHODS
from nasdsl.methods.recipes import RECIPE, RECIPES
from nasdsl.runtime.standalone import training
from nasdsl.runtime.standalone.arguments import read_arguments, read_config
from nasdsl.runtime.standalone.basics import Mistake, WrongUse, ensure_torchvision
from nasdsl.runtime.standalone.recipe import (
    NEEDS,
    RECIPE_RULES,
    add_dropout,
    average_of,
    learning_rate,
    make_optimizer,
    refuse_idle,
)
from nasdsl.runtime.standalone.training import RETRAIN_RULES, load_model, load_weights, retrain, save_weights
from tests.runtime.test_training import CONFIG, MODEL, run, script

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
    ended = load_file(script / "runs/0/retrain/weights.safetensors")
    for name, value in net.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(ended[name], value), name
    other = run(script, *SHORT, "--set", "lr=0", "--set", "auxiliary=off")
    assert other.returncode == 1
    assert "weights was" in other.stderr
    assert other.stderr.count("\n") == 1
    assert json.loads((script / "runs/0/retrain/result.json").read_text())["examples"] == 355


# --- schedules -------------------------------------------------------------------------


def rates(**changes: Any) -> list[float]:
    base: dict[str, Any] = {
        "lr": 0.064,
        "lr_min": 0.001,
        "epochs": 20,
        "lr_schedule": "step",
        "lr_step_epochs": 2.4,
        "lr_step_factor": 0.973,
        "lr_warmup_epochs": 3,
        "lr_warmup_start": 1e-6,
    }
    settings = base | changes
    return [learning_rate(settings, epoch) for epoch in range(settings["epochs"])]


def test_the_rate_rises_and_then_steps_down_or_follows_a_cosine() -> None:
    rise = [1e-6 + (0.064 - 1e-6) * e / 3 for e in range(3)]
    steps = [0.064 * 0.973 ** math.floor(e / 2.4) for e in range(20)]
    assert rates() == pytest.approx(rise + steps[3:])
    assert rates(lr_warmup_epochs=0) == pytest.approx(steps)
    cosine = [0.001 + 0.063 * (1 + math.cos(math.pi * e / 20)) / 2 for e in range(20)]
    assert rates(lr_schedule="cosine") == pytest.approx(rise + cosine[3:])
    assert rates(epochs=4)[:3] == pytest.approx([1e-6, 0.064 / 2 + 5e-7, 0.064])  # half of all at most
    assert rates(epochs=1) == [0.064]


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_the_rates_are_those_of_timm(kind: str) -> None:
    ensure_torchvision()
    schedulers = importlib.import_module("timm.scheduler")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.064)
    warm: dict[str, Any] = {"warmup_t": 3, "warmup_lr_init": 1e-6, "warmup_prefix": False}
    theirs: Any = (
        schedulers.StepLRScheduler(optimizer, decay_t=2.4, decay_rate=0.973, **warm)
        if kind == "step"
        else schedulers.CosineLRScheduler(optimizer, t_initial=50, lr_min=1e-5, **warm)
    )
    for epoch, rate in enumerate(rates(epochs=50, lr_schedule=kind, lr_min=1e-5)):
        theirs.step(epoch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate), epoch


# --- optimisers ------------------------------------------------------------------------


def optimized(net: nn.Module, **changes: Any) -> torch.optim.Optimizer:
    base = {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "nesterov": False,
        "decay_norms": True,
        "optimizer": "rmsprop-tf",
        "optimizer_alpha": 0.8,
        "optimizer_eps": 0.01,
    }
    return make_optimizer(net, base | changes)


def test_rmsprop_is_that_of_tensorflow() -> None:
    """Squares begin at one, epsilon is inside the root, the rate inside the momentum."""
    net = nn.Linear(3, 1, bias=False)
    expected = net.weight.detach().clone()
    optimizer = optimized(net)
    squares, moved = torch.ones(1, 3), torch.zeros(1, 3)
    for step in range(4):
        gradient = torch.tensor([[0.5, -2.0, 3.0]]) * (step + 1)
        net.weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate = 0.1 / (step + 1)
        optimizer.step()
        squares = 0.8 * squares + 0.2 * gradient**2
        moved = 0.9 * moved + rate * gradient / (squares + 0.01).sqrt()
        expected -= moved
        torch.testing.assert_close(net.weight.detach(), expected)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop-tf"])
def test_biases_and_norms_decay_only_where_that_is_asked(tmp_path: Path, kind: str) -> None:
    for decay_norms in (True, False):
        net = network(tmp_path, auxiliary=True)
        before = {n: p.detach().fill_(1.0).clone() for n, p in net.named_parameters()}
        optimizer = optimized(net, optimizer=kind, weight_decay=0.5, decay_norms=decay_norms)
        assert sum(len(g["params"]) for g in optimizer.param_groups) == len(before)
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        moved = {n for n, p in net.named_parameters() if not torch.equal(p, before[n])}
        weights = {"conv.weight", "head.weight", "auxiliary.weight"}
        assert moved == (set(before) if decay_norms else weights)


def test_rmsprop_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Mistake, match="no Nesterov momentum"):
        optimized(nn.Linear(1, 1), nesterov=True)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Mistake, match="pip install timm"):
        optimized(nn.Linear(1, 1))


# --- averages and dropout --------------------------------------------------------------


def test_the_average_is_that_of_a_loop_by_hand() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = average_of(net, 0.7)
    assert average is not None
    expected: dict[str, Tensor] = {}
    for step in range(5):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape))
        net(torch.randn(8, 3))
        average.update_parameters(net)
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                old = expected.get(name, value)
                expected[name] = value.clone() if step == 0 else 0.7 * old + 0.3 * value
    found = average.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert average_of(net, 0.0) is None


def test_dropout_acts_on_what_the_classifier_reads_and_in_training_only(tmp_path: Path) -> None:
    plain = network(tmp_path, auxiliary=True)
    net = deepcopy(plain)
    read: list[Tensor] = []
    net.head.register_forward_hook(lambda m, inputs, out: read.append(inputs[0]))
    add_dropout(net, 10, 0.25)
    assert list(net.state_dict()) == list(plain.state_dict())
    x = torch.randn(64, 1, 8, 8)
    torch.manual_seed(0)
    main, auxiliary = net(x)
    torch.manual_seed(0)
    whole = plain(x)
    torch.testing.assert_close(auxiliary, whole[1])
    features = torch.relu(plain.norm(plain.conv(x)))
    features = F.avg_pool2d(features, 2).flatten(1)
    kept = read[0] != 0
    torch.testing.assert_close(read[0][kept], features[kept] / 0.75)
    assert float(kept[features != 0].float().mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(main, plain.head(read[0]))
    copied = deepcopy(net)
    for each in (net.eval(), copied.eval()):
        each.load_state_dict(plain.state_dict())
        torch.testing.assert_close(each(x), plain.eval()(x))


def test_dropout_needs_a_classifier() -> None:
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    add_dropout(net, 10, 0.9)
    x = torch.ones(2, 3, 4, 4)
    assert not torch.equal(net(x), net(x))
    with pytest.raises(Mistake, match=r"dropout=0\.9 has no place"):
        add_dropout(net, 11, 0.9)
    add_dropout(net, 11, 0.0)


# --- whole runs ------------------------------------------------------------------------

FEW = {"limit_batches": 3, "epochs": 4}
RICH = {
    "lr": 0.02,
    "optimizer": "rmsprop-tf",
    "decay_norms": False,
    "weight_decay": 0.1,
    "lr_schedule": "step",
    "lr_step_epochs": 1.5,
    "lr_step_factor": 0.5,
    "lr_warmup_epochs": 2,
    "lr_warmup_start": 1e-3,
    "ema_decay": 0.8,
    "dropout": 0.2,
}


def trained(folder: Path, changes: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that retraining the small network writes."""
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "config.toml").write_text(CONFIG)
    line = [part for n, v in changes.items() for part in ("--set", f"{n}={v}")]
    line += ["--limit-batches", "3", "--device", "cpu", "--out", str(folder)]
    args = read_arguments("test", line, model=True)
    settings = read_config(folder / "config.toml", "retrain", args, RETRAIN_RULES)
    before = signal.getsignal(signal.SIGTERM)
    try:
        retrain(args, settings, folder)
    finally:
        signal.signal(signal.SIGTERM, before)
    return load_file(folder / "retrain" / "weights.safetensors")


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(v, other[k]) for k, v in one.items())


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, with all that a recipe adds to the state."""
    whole = trained(tmp_path / "whole", RICH)
    steps, real = 0, training.training_step

    def stopping(*args: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(training, "training_step", stopping)
        with pytest.raises(SystemExit):
            trained(tmp_path / "stopped", RICH)
    assert steps == 8
    assert same(trained(tmp_path / "stopped", RICH), whole)
    folders = [tmp_path / name / "retrain" for name in ("whole", "stopped")]
    for name in ("last_step.safetensors", "log.jsonl", "result.json"):
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes(), name


def test_the_averaged_weights_are_the_result_and_the_last_ones_lie_beside(tmp_path: Path) -> None:
    averaged = trained(tmp_path, RICH)
    last = load_file(tmp_path / "retrain" / "last_step.safetensors")
    assert not same(averaged, last)
    assert same(last, trained(tmp_path / "plain", RICH | {"ema_decay": 0}))
    assert not (tmp_path / "plain" / "retrain" / "last_step.safetensors").exists()
    result = json.loads((tmp_path / "retrain" / "result.json").read_text())
    plain = json.loads((tmp_path / "plain" / "retrain" / "result.json").read_text())
    assert result["last_step_accuracy"] == plain["test_accuracy"]
    assert set(plain) == {"test_accuracy", "examples", "mean", "std", "notes"}


def test_every_setting_changes_the_weights(tmp_path: Path) -> None:
    changes = {
        "optimizer": "sgd",
        "optimizer_alpha": 0.5,
        "optimizer_eps": 0.5,
        "decay_norms": True,
        "lr_schedule": "cosine",
        "lr_step_epochs": 1.0,
        "lr_step_factor": 0.9,
        "lr_warmup_epochs": 1,
        "lr_warmup_start": 1e-2,
        "ema_decay": 0.5,
        "dropout": 0.5,
    }
    assert {"recipe", *changes} == set(RECIPE_RULES)
    base = trained(tmp_path / "base", RICH)
    for name, value in changes.items():
        wanted = {n: v for n, v in RICH.items() if NEEDS.get(n, ("",))[0] != name}  # else they were idle
        assert not same(base, trained(tmp_path / name, wanted | {name: value})), name


@pytest.mark.parametrize("name", NEEDS)
def test_a_setting_that_nothing_reads_is_refused(tmp_path: Path, name: str) -> None:
    other, wanted = NEEDS[name]
    without = {"optimizer": "sgd", "augment": "false", "lr_warmup_epochs": 0}
    without["lr_schedule"] = "step" if wanted == "cosine" else "cosine"
    with pytest.raises(WrongUse, match=f"--set {name} has no effect without {other}"):
        trained(tmp_path, {name: 1 if name in ("pad", "cutout") else 0.25, other: without[other]})


@pytest.mark.parametrize("loader", ["memory", "stream"])
def test_only_images_in_memory_are_padded(loader: str) -> None:
    refused = pytest.raises(WrongUse, match="random windows") if loader == "stream" else nullcontext()
    with refused:
        refuse_idle(["pad=2"], {"pad": 2, "augment": True}, loader)
    refuse_idle(["pad=0", "cutout=0"], {"pad": 0, "cutout": 0, "augment": False}, loader)  # asks for nothing


def test_too_few_steps_for_an_average_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "slow", {"ema_decay": 0.9999})
    assert "keep 100% of the first step's" in capsys.readouterr().out
    trained(tmp_path / "quick", {"ema_decay": 0.5})
    assert "keep" not in capsys.readouterr().out


# --- named sets ------------------------------------------------------------------------

SPACE = """
space tiny {
  input image(1, 8, 8)
  network {
    stem: conv(3, 4) >> bn
    body: choose { relu >> conv(3, 4) >> bn, relu >> conv(5, 4) >> bn }
    head: global_pool >> linear(10)
  }
}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("recipe") / "tiny.nas"
    path.write_text(SPACE)
    return nasdsl.load(path)


def config(folder: Path, *line: str) -> dict[str, Any]:
    return read_config(
        folder / "config.toml", "retrain", read_arguments("test", list(line), model=True), RETRAIN_RULES
    )


@pytest.mark.parametrize("given", [{}, {"lr": 0.5, "dropout": 0.0}], ids=["plain", "given"])
def test_a_recipe_is_the_same_given_to_compile_or_to_the_script(
    tiny: Any, tmp_path: Path, given: dict[str, Any]
) -> None:
    made: dict[str, dict[str, Any]] = {}
    for recipe in RECIPES:
        tiny.compile("spos", settings={**given, "recipe": recipe}).write(tmp_path / recipe)
        made[recipe] = config(tmp_path / recipe)
    for start in RECIPES:
        for end in RECIPES:
            assert config(tmp_path / start, "--set", f"recipe={end}") == made[end]
    assert made["cream"] != made["sgd-cosine"]
    assert (made["cream"]["lr"], made["cream"]["dropout"]) == (0.5, 0.0) if given else (0.064, 0.2)
    tiny.compile("spos", settings=given).write(tmp_path / "none")
    assert config(tmp_path / "none") == made["sgd-cosine"]


def test_what_is_given_beside_a_recipe_wins_and_the_rest_is_said(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.compile("spos").write(tmp_path)
    capsys.readouterr()
    found = config(tmp_path, "--set", "lr=0.3", "--set", "recipe=cream", "--epochs", "7")
    assert (found["lr"], found["epochs"], found["ema_decay"]) == (0.3, 7, 0.9999)
    said = capsys.readouterr().out
    assert said.startswith("recipe cream: batch_size=1024, momentum=0.9")
    assert said.count("\n") == 1
    assert "lr=" not in said
    assert "epochs=500" not in said


def test_recipes_that_are_not_there_are_refused(tiny: Any, tmp_path: Path) -> None:
    tiny.compile("spos").write(tmp_path)
    with pytest.raises(WrongUse, match="one of sgd-cosine, cream"):
        config(tmp_path, "--set", "recipe=creme")
    path = tmp_path / "config.toml"
    text = path.read_text()
    path.write_text(text.replace('recipe = "sgd-cosine"', 'recipe = "cream"'))
    with pytest.raises(Mistake, match=r"values of sgd-cosine, not of cream: --set recipe=cream"):
        config(tmp_path)
    path.write_text(text.partition("[recipes.cream]")[0])
    with pytest.raises(Mistake, match=r"no table \[recipes\.cream\]"):
        config(tmp_path, "--set", "recipe=cream")
    path.write_text(text + "colour = 1\n")
    with pytest.raises(Mistake, match="no setting `colour`"):
        config(tmp_path, "--set", "recipe=cream")


@pytest.mark.parametrize("method", METHODS.names())
def test_recipes_name_settings_of_retraining(method: str) -> None:
    found = METHODS.load(method)
    settings = {s.name: s for s in found.settings}
    assert set(found.recipes) == set(settings["recipe"].choices) == set(RECIPE_RULES["recipe"].words)
    for values in found.recipes.values():
        for name, value in values.items():
            assert settings[name].table == "retrain"
            assert settings[name].read(value) == value
            assert type(settings[name].read(value)) is type(value)
    assert {s.name for s in RECIPE} <= set(settings)


def test_the_recipe_of_cream_runs_from_compile_to_weights(tiny: Any, tmp_path: Path) -> None:
    """Without nasdsl, warnings as errors."""
    tiny.compile("spos", settings={"recipe": "cream", "retrain_batch_size": 64}).write(tmp_path)
    (tmp_path / "runs" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "0" / "model.py").write_text(tiny.model_source(tiny.sample(1)[0]))
    line = (*SHORT, "--set", "randaugment=off")  # which is of coloured or grey bytes, and digits are neither
    done = run(tmp_path, *line)
    assert done.returncode == 0, done.stderr
    assert "test accuracy of the averaged weights" in done.stdout
    assert (tmp_path / "runs/0/retrain/last_step.safetensors").exists()
    absent = run(tmp_path, *line, "--restart", hide=("nasdsl", "timm"))
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    assert "pip install timm" in absent.stderr
