"""Retraining: the embedded code, the losses, the loop."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import py_compile
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.codegen.directory import EMBEDDED, embedded
from nasdsl.runtime.standalone import training
from nasdsl.runtime.standalone.arguments import read_arguments, read_config
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.data import load_data, prepare
from nasdsl.runtime.standalone.training import (
    RETRAIN_RULES,
    build_network,
    evaluate,
    load_model,
    retrain,
    retrain_stream,
    save_weights,
    training_loss,
    training_step,
)
from tests.runtime.forks import ran

MODEL = """
import torch
from torch import nn

INPUT = ("image", 1, 8, 8)
CLASSES = 10
ARCHITECTURE = {"op": "conv"}
AUXILIARY = True


class Network(nn.Module):
    def __init__(self, auxiliary: bool = False) -> None:
        super().__init__()
        self.drop_path_prob = 0.0
        self.conv = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 16, 10)
        self.auxiliary = nn.Linear(16 * 16, 10) if auxiliary else None

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        if self.training and self.drop_path_prob > 0:
            x = x * (torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path_prob)
        x = nn.functional.avg_pool2d(x, 2).flatten(1)
        if self.auxiliary is not None and self.training:
            return self.head(x), self.auxiliary(x)
        return self.head(x)
"""

CONFIG = """
[data]
name = "digits"
augment = true
pad = 1
flip = true
loader = "auto"
interpolation = "bilinear"

[retrain]
epochs = 4
batch_size = 96
lr = 0.1
lr_min = 0.0
momentum = 0.9
weight_decay = 3e-4
nesterov = false
clip = 5
cutout = 2
drop_path = 0.2
auxiliary = "auto"
auxiliary_weight = 0.4
label_smoothing = 0.1
randaugment = "off"
erasing = 0.0
recipe = "sgd-cosine"
optimizer = "sgd"
optimizer_alpha = 0.9
optimizer_eps = 1e-3
decay_norms = true
lr_schedule = "cosine"
lr_step_epochs = 2.4
lr_step_factor = 0.973
lr_warmup_epochs = 0
lr_warmup_start = 1e-6
ema_decay = 0.0
dropout = 0.0
"""


@pytest.fixture
def script(tmp_path: Path, root: Path) -> Path:
    """A folder with the retrain.py of the template, its config.toml and a model.py."""
    text = (root / "nasdsl/codegen/templates/retrain.py.j2").read_text()
    text = text.replace("{{ embedded }}", embedded()).replace("{{ space_comment }}", "test")
    assert "{{" not in text.replace(embedded(), "")
    (tmp_path / "retrain.py").write_text(text)
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "runs" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "0" / "model.py").write_text(MODEL)
    return tmp_path


def run(folder: Path, *line: str, hide: tuple[str, ...] = ("nasdsl",)) -> subprocess.CompletedProcess[str]:
    """Runs retrain.py in a process where some packages cannot be imported."""
    return ran(folder, "retrain.py", *line, hide=hide, environment={"NO_COLOR": "1"})


def test_the_embedded_files_define_no_name_twice() -> None:
    names: Counter[str] = Counter()
    for node in ast.parse(embedded()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] += 1
    assert {"Stream", "Run", "retrain", "ensure_torchvision"} <= set(names)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_embedded_code_is_that_of_the_runtime_word_for_word(root: Path) -> None:
    text = embedded()
    for name in ("basics", "data", "run", "recipe", "training"):
        source = (root / f"nasdsl/runtime/standalone/{name}.py").read_text()
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                assert (ast.get_source_segment(source, node) or "?") in text, node.name
    assert "nasdsl.runtime" not in text


def test_the_files_import_only_those_before_them_in_the_script(root: Path) -> None:
    order = list(EMBEDDED)
    for i, name in enumerate(order):
        tree = ast.parse((root / f"nasdsl/runtime/standalone/{name}.py").read_text())
        imported = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        own = {m.rpartition(".")[2] for m in imported if m.startswith("nasdsl.")}
        assert own <= set(order[:i]), name
        assert "\n" not in (ast.get_docstring(tree) or "\n"), name


def test_retraining_needs_no_nasdsl_and_learns_digits(script: Path) -> None:
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads((script / "runs/0/retrain/result.json").read_text())
    assert result["test_accuracy"] > 0.8
    assert f"test accuracy {result['test_accuracy']:.2%} (355 of 355 test examples)" in done.stdout
    module = load_model(script / "runs/0/model.py")
    from safetensors.torch import load_file

    net = module.Network(auxiliary=True)
    net.load_state_dict(load_file(script / "runs/0/retrain/weights.safetensors"))
    reached, count = evaluate(net, load_data("digits", module.INPUT, 10), "fp32")
    assert (reached, count) == (pytest.approx(result["test_accuracy"]), 355)


def test_running_again_continues_and_ends_where_an_uninterrupted_run_ends(script: Path) -> None:
    run(script, "--out", "runs/whole", "--model", "runs/0/model.py")
    whole = (script / "runs/whole/retrain/log.jsonl").read_text()
    line = '            at["step"] = step + 1\n'
    crash = "            if epoch == 2 and step == 5:\n                raise MemoryError\n"
    broken = (script / "retrain.py").read_text().replace(line, line + crash)
    (script / "whole.py").write_text((script / "retrain.py").read_text())
    (script / "retrain.py").write_text(broken)
    assert "MemoryError" in run(script).stderr
    os.replace(script / "whole.py", script / "retrain.py")
    again = run(script)
    assert "continuing" in again.stdout
    assert "epoch 3, step 1" in again.stdout
    assert (script / "runs/0/retrain/log.jsonl").read_text() == whole
    weights = [(script / f"runs/{n}/retrain/weights.safetensors").read_bytes() for n in ("0", "whole")]
    assert weights[0] == weights[1]


def test_without_safetensors_weights_are_a_torch_file_without_code(script: Path) -> None:
    done = run(script, "--epochs", "1", "--limit-batches", "2", hide=("nasdsl", "safetensors"))
    assert done.returncode == 0, done.stderr
    state = torch.load(script / "runs/0/retrain/weights.pt", weights_only=True)
    assert state["conv.weight"].shape == (16, 1, 3, 3)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["--seed", "5"], 1, "run search.py first"),
        (["--data", "nothing"], 2, "digits, cifar10, imagefolder:PATH or pkg:function"),
        (["--set", "lr=1e30", "--set", "clip=0"], 1, "at step"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(
    script: Path, line: list[str], code: int, words: str
) -> None:
    done = run(script, *line)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "auxiliary": "auto",
        "auxiliary_weight": 0.4,
        "label_smoothing": 0.0,
        "clip": 0.0,
        "augment": True,
        "pad": 1,
        "flip": True,
        "cutout": 16,
        "randaugment": "off",
        "erasing": 0.0,
        "interpolation": "bilinear",
        "batch_size": 32,
    } | changes


def test_the_loss_of_the_auxiliary_head_is_weighed_and_smoothed() -> None:
    first, second = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    plain = F.cross_entropy(first, labels)
    assert torch.equal(training_loss(first, labels, settings()), plain)
    both = training_loss((first, second), labels, settings())
    torch.testing.assert_close(both, plain + 0.4 * F.cross_entropy(second, labels))
    smooth = training_loss(first, labels, settings(label_smoothing=0.3))
    expected = 0.7 * plain - 0.3 * F.log_softmax(first, 1).mean()
    torch.testing.assert_close(smooth, expected)


def test_the_auxiliary_head_is_placed_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    module = load_model(tmp_path / "model.py")
    heads = [
        build_network(module, settings(auxiliary=word)).auxiliary is not None
        for word in ("auto", "on", "off")
    ]
    assert heads == [True, True, False]
    module.AUXILIARY = False
    assert build_network(module, settings()).auxiliary is None
    assert "no auxiliary head" in capsys.readouterr().out


def test_cutout_is_at_most_half_the_image_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    data = load_data("digits", ("image", 1, 8, 8), 10)
    assert retrain_stream(data, settings(), 0).cutout == 4
    assert "cutout of 4 instead of 16" in capsys.readouterr().out
    assert retrain_stream(data, settings(cutout=3), 0).cutout == 3
    assert retrain_stream(data, settings(augment=False), 0).cutout == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_a_step_descends_the_clipped_gradient(clip: float) -> None:
    from contextlib import nullcontext

    torch.manual_seed(0)
    net = nn.Linear(5, 3)
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))
    gradients = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    norm = float(torch.cat([g.flatten() for g in gradients]).norm())
    factor = min(1.0, clip / norm) if clip else 1.0
    before = [p.detach().clone() for p in net.parameters()]
    training_step(net, (x, y), torch.optim.SGD(net.parameters(), 0.5), settings(clip=clip), nullcontext())
    for old, new, g in zip(before, net.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.5 * factor * g, rtol=1e-4, atol=1e-6)


def test_evaluation_counts_the_examples_it_sees_in_evaluation_mode() -> None:
    data = load_data("digits", ("vector", 64), 10)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(64, 10)).train()
    right = net[1](prepare(data.test.examples, data)).argmax(1) == data.test.labels
    assert evaluate(net, data, "fp32", batch=100) == (pytest.approx(float(right.float().mean())), 355)
    first = right[:200].float().mean()
    assert evaluate(net, data, "fp32", limit=2, batch=100) == (pytest.approx(float(first)), 200)
    assert net.training


def test_weights_are_saved_contiguous_and_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = load_file(save_weights(net, tmp_path))
    assert all(torch.equal(found[k], v) for k, v in net.state_dict().items())


def test_drop_path_and_the_learning_rate_follow_their_schedules(tmp_path: Path) -> None:
    """From 0, linear, towards `drop_path`; from `lr`, a cosine, towards `lr_min`."""
    forward = "    def forward(self, x):\n"
    tell = f"""\
        if self.training:
            with open({str(tmp_path / "seen")!r}, "a") as file:
                print(self.drop_path_prob, file=file)
"""
    (tmp_path / "model.py").write_text(MODEL.replace(forward, forward + tell))
    (tmp_path / "config.toml").write_text(CONFIG)
    args = read_arguments("test", ["--limit-batches", "2", "--out", str(tmp_path)], model=True)
    args.device = "cpu"
    config = read_config(tmp_path / "config.toml", "retrain", args, RETRAIN_RULES)
    before = signal.getsignal(signal.SIGTERM)
    try:
        retrain(args, config, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    log = [json.loads(line) for line in (tmp_path / "retrain" / "log.jsonl").read_text().splitlines()]
    rates = [0.1 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]
    assert [entry["lr"] for entry in log] == pytest.approx(rates)
    seen = [float(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen == pytest.approx([0.2 * e / 4 for e in range(4) for _ in range(2)])


def test_the_loss_of_an_epoch_is_the_mean_of_its_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []

    def step(*given: Any) -> Any:
        loss = training_step(*given)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(training, "training_step", step)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "config.toml").write_text(CONFIG)
    line = ["--limit-batches", "2", "--epochs", "3", "--out", str(tmp_path), "--device", "cpu"]
    args = read_arguments("test", line, model=True)
    before = signal.getsignal(signal.SIGTERM)
    try:
        retrain(args, read_config(tmp_path / "config.toml", "retrain", args, RETRAIN_RULES), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    log = [json.loads(line) for line in (tmp_path / "retrain" / "log.jsonl").read_text().splitlines()]
    means = [sum(losses[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert [entry["loss"] for entry in log] == pytest.approx(means)
    assert len(set(means)) == 3


def test_a_model_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"search\.py"):
        load_model(tmp_path / "model.py")


def test_a_network_is_what_its_text_says_whatever_bytecode_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("WHO = 'text'\n")
    other = tmp_path / "other.py"
    other.write_text("WHO = 'bytecode'\n")
    py_compile.compile(
        str(other),
        importlib.util.cache_from_source(str(tmp_path / "model.py")),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    assert load_model(tmp_path / "model.py").WHO == "text"


@pytest.mark.parametrize("text", ["class Network(:\n", "\0", "\ufeff\n  x"], ids=["syntax", "null", "indent"])
def test_a_network_that_is_no_program_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.py").write_text(text)
    with pytest.raises(Mistake, match=r"model\.py is no Python program: "):
        load_model(tmp_path / "model.py")


def test_a_networks_annotations_are_as_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import dataclasses\n\n\n@dataclasses.dataclass\nclass C:\n    x: int = 3\n"
    )
    found = load_model(tmp_path / "model.py").C
    assert (found().x, found.__annotations__) == (3, {"x": int})
