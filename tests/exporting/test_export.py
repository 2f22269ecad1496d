"""What `export` writes, what it refuses, and that the same network gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import nasdsl
from nasdsl import Architecture, Space, UserError
from nasdsl.cli import main
from nasdsl.exporting.card import MARK
from nasdsl.exporting.equality import FLOAT32, difference, inputs
from nasdsl.exporting.formats import FORMATS, Format
from nasdsl.runtime.standalone.lock import text_of_lock

WORDS = ["residual_mlp", "--param", "features=8", "--param", "classes=3"]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["export", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_every_format_is_written_with_its_card_and_nothing_else(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    made = nasdsl.export(space, arch, tmp_path / "net", format=tuple(FORMATS), weights=3)
    names = ["net.py", "net.safetensors", "net.onnx", "net.pt2"]
    assert [p.name for p in made.files] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names, "MODEL.md"])
    assert made.differences.keys() == FORMATS.keys()
    assert max(made.differences.values()) <= FLOAT32
    card = (tmp_path / "MODEL.md").read_text("utf-8")
    for path in made.files:
        assert f"`{path.name}` | {path.stat().st_size:,} | `{sha256(path.read_bytes()).hexdigest()}`" in card
    assert f"`{space.fingerprint}`" in card
    assert arch.to_json() in card
    net = space.network(arch, seed=3)
    assert f"| weights | {sum(p.numel() for p in net.parameters()):,} |" in card
    saved = load_file(tmp_path / "net.safetensors")
    assert saved.keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in saved.items())


def test_the_same_network_gives_the_same_bytes_and_no_path_of_the_machine(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    """The second time in the same process: what a process counts or remembers is not in the files."""
    for name in ("one", "another"):
        nasdsl.export(space, arch, tmp_path / name / "net", format=("py", "onnx", "pt2"), weights=0)
    one, another = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "another")
    )
    assert one == another
    assert len(one) == 5
    root = Path(nasdsl.__file__).parents[1]
    places = {os.fsencode(p) for p in (root, Path(torch.__file__).parents[1], tmp_path)}
    assert not [name for name, content in one.items() if any(place in content for place in places)]


def test_onnx_says_what_it_is(space: Space, arch: Architecture, tmp_path: Path) -> None:
    import onnx

    nasdsl.export(space, arch, tmp_path / "net.onnx", format="onnx", weights=0)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["space"] == "residual_mlp"
    assert json.loads(facts["architecture"]) == json.loads(arch.to_json())
    (x,), (logits,) = model.graph.input, model.graph.output
    assert (x.name, logits.name) == ("x", "logits")
    first = [value.type.tensor_type.shape.dim[0].dim_param for value in (x, logits)]
    assert first == ["batch", "batch"]


def test_source_alone_needs_no_torch_to_be_written(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom nasdsl.cli import main\n"
        "assert main(sys.argv[1:]) == 0\nassert 'torch' not in sys.modules\n"
    )
    root = Path(nasdsl.__file__).parents[1]
    arch = nasdsl.load("residual_mlp", features=8, classes=3).sample(1)[0].to_json()
    words = [sys.executable, "-c", code, "export", *WORDS, "--arch", arch]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("model.py\nMODEL.md\n", "", 0)
    assert "None: the file is source alone" in (tmp_path / "MODEL.md").read_text("utf-8")


def test_the_card_of_somebody_else_stays(space: Space, arch: Architecture, tmp_path: Path) -> None:
    page = tmp_path / "MODEL.md"
    page.write_text("# mine\n", "utf-8")
    with pytest.raises(UserError, match="was not written by an export"):
        nasdsl.export(space, arch, tmp_path / "model.py")
    assert [p.name for p in tmp_path.iterdir()] == ["MODEL.md"]
    made = nasdsl.export(space, arch, tmp_path / "model.py", card="other.md", licence="CC0-1.0")
    assert made.card == tmp_path / "other.md"
    text = made.card.read_text("utf-8")
    assert MARK in text
    assert text.endswith("## Licence\n\nCC0-1.0\n")
    nasdsl.export(space, arch, tmp_path / "model.py", card="other.md")  # a card of an export is replaced
    assert made.card.read_text("utf-8").endswith("chooses one and writes it here.\n")
    assert page.read_text("utf-8") == "# mine\n"


def test_a_file_that_computes_something_else_is_not_left_behind(
    space: Space, arch: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that loses a weight: what it wrote is removed, what was there before stays."""
    good = FORMATS["py"]

    def lossy(network: object, path: Path) -> None:
        good.write(network, path)  # type: ignore[arg-type]
        saved = load_file(path.with_suffix(".safetensors"))
        save_file({k: v + 0.01 for k, v in saved.items()}, path.with_suffix(".safetensors"))

    worse = Format(good.name, good.suffix, good.what, good.needs, good.writes_with, lossy, good.reads)
    (tmp_path / "model.py").write_text("before", "utf-8")
    monkeypatch.setattr("nasdsl.exporting.writing.FORMATS", {**FORMATS, "py": worse})
    with pytest.raises(UserError, match=r"NAS801.*differs from the network by .*it was removed"):
        nasdsl.export(space, arch, tmp_path / "model.py", weights=0)
    assert {p.name: p.read_text("utf-8") for p in tmp_path.iterdir()} == {"model.py": "before"}


def test_a_missing_package_is_named_with_its_cure(
    space: Space, arch: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the extra was not installed: the packages cannot be found."""
    for name in FORMATS["onnx"].writes_with:
        monkeypatch.delitem(sys.modules, name, raising=False)
    packages = Path(torch.__file__).parents[1]
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p).resolve() != packages.resolve()])
    with pytest.raises(UserError, match="format onnx needs onnx and onnxscript and onnxruntime") as caught:
        nasdsl.export(space, arch, tmp_path / "net.onnx", format="onnx", weights=0)
    assert caught.value.diagnostics[0].help == "pip install 'nasdsl[onnx]'"
    assert list(tmp_path.iterdir()) == []


RESULT: dict[str, Any] = {
    "test_accuracy": 0.925,
    "last_step_accuracy": 0.9,
    "examples": 360,
    "mean": [0.5] * 8,
    "std": [0.25] * 8,
}


def write_run(run: Path, state: dict[str, torch.Tensor], result: object = RESULT, **identity: object) -> Path:
    """What a retraining leaves that an export reads; returns its weights."""
    run.mkdir()
    for name in ("weights", "last_step"):
        save_file(state, run / f"{name}.safetensors")
    (run / "result.json").write_text(json.dumps(result))
    lock = {
        "format": 1,
        "kind": "run",
        "identity": {
            "name": "own:data",
            "seed": 4,
            "epochs": 9,
            "limit_batches": None,
            "weights": None,
            **identity,
        },
        "arguments": {"data": None, "epochs": None, "seed": 4, "weights": "far/away.safetensors"},
        "environment": {},
        "data": {},
        "first_steps": None,
        "files": {p.name: sha256(p.read_bytes()).hexdigest() for p in run.iterdir()},
    }
    (run / "nasdsl.lock").write_text(text_of_lock(lock))
    return run / "weights.safetensors"


def test_weights_of_retraining_say_what_they_reached(
    space: Space, arch: Architecture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "retrain"
    net = space.network(arch, seed=7)
    write_run(run, net.state_dict())
    target = tmp_path / "out" / "net.py"
    words = [*WORDS, "--arch", arch.to_json(), "--weights", str(run / "weights.safetensors")]
    code, out, err = command(capsys, *words, "-o", str(target))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        str(target),
        str(target.with_suffix(".safetensors")),
        str(target.parent / "MODEL.md"),
    ]
    card = (target.parent / "MODEL.md").read_text("utf-8")
    assert "| test accuracy | 92.50% of 360 examples |" in card
    assert "Trained by retrain.py: from scratch, on own:data, seed 4, epochs 9." in card
    assert "mean = [0.5, 0.5" in card
    assert sha256((run / "weights.safetensors").read_bytes()).hexdigest() in card
    assert load_file(target.with_suffix(".safetensors")).keys() == net.state_dict().keys()


def test_an_auxiliary_head_is_left_behind(tmp_path: Path) -> None:
    space = nasdsl.load("darts", layers=3, C=4, resolution=32)
    arch = space.sample(1, seed=0)[0]
    headed = type(space.network(arch))(auxiliary=True)
    assert any(name.startswith("auxiliary") for name in headed.state_dict())
    save_file(headed.state_dict(), tmp_path / "weights.safetensors")
    nasdsl.export(space, arch, tmp_path / "model.py", weights=tmp_path / "weights.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {n for n in headed.state_dict() if not n.startswith("auxiliary")}
    assert all(torch.equal(tensor, headed.state_dict()[name]) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "--arch A says which architecture"),
        (["--arch", "ARCH", "--format", "onnx"], 2, "--format onnx holds weights"),
        (["--arch", "ARCH", "--weights", "none.safetensors"], 1, "none.safetensors does not exist"),
        (["--arch", "ARCH", "--weights", "OTHER"], 1, "is of another network"),
        (["--arch", "ARCH", "--run", "."], 1, "lies in no directory that `nasdsl compile` wrote"),
        (["--arch", "ARCH", "--seed", "1", "--run", "."], 2, "not allowed with"),
        (["--arch", "ARCH", "--card", "x.md", "--no-card"], 2, "not allowed with"),
        (["--arch", "ARCH", "--format", "pt3"], 2, "invalid choice"),
        (["--arch", "ARCH", "-o", "FILE/model.py"], 1, "cannot be written"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    space: Space,
    arch: Architecture,
    words: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"head.weight": torch.zeros(3, 8)}, other)
    file = tmp_path / "file"
    file.write_text("no folder")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    given = {"ARCH": arch.to_json(), "OTHER": str(other), "FILE/model.py": str(file / "model.py")}
    found, out, err = command(capsys, *WORDS, *(given.get(word, word) for word in words))
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_difference_anywhere_in_the_network_is_seen(
    name: str, space: Space, arch: Architecture, tmp_path: Path
) -> None:
    """The bound is tight: noise of a hundredth on any one tensor of the network is far outside it."""
    net = space.network(arch, seed=0).eval()
    nasdsl.export(space, arch, tmp_path / "net", format=name, weights=net)
    reads = FORMATS[name].reads(tmp_path / f"net{FORMATS[name].suffix}")
    examples = inputs((8,), torch.float32)
    assert difference(net, reads, examples) <= FLOAT32
    random = torch.Generator().manual_seed(0)
    for label, parameter in net.named_parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter += 0.01 * torch.randn(parameter.shape, generator=random)
            assert difference(net, reads, examples) > FLOAT32, label
            parameter.copy_(before)


def test_what_is_not_finite_or_of_another_shape_differs() -> None:
    examples = [torch.ones(2, 3)]
    assert difference(lambda x: x, lambda x: x, examples) == 0.0
    assert difference(lambda x: x, lambda x: x * float("nan"), examples) == float("inf")
    assert difference(lambda x: x / 0, lambda x: x / 0, examples) == 0.0
    assert difference(lambda x: x / 0, lambda x: -x / 0, examples) == float("inf")
    assert difference(lambda x: x / 0, lambda x: x * float("nan"), examples) == float("inf")
    assert difference(lambda x: x, lambda x: x[:, :2], examples) == float("inf")
    assert difference(lambda x: x * 100, lambda x: x * 101, examples) == pytest.approx(0.01)


def test_a_card_is_told_from_other_pages(space: Space, arch: Architecture, tmp_path: Path) -> None:
    made = nasdsl.export(space, arch, tmp_path / "model.py")
    assert made.card is not None
    headings = re.findall(r"^## (.*)", made.card.read_text("utf-8"), re.MULTILINE)
    assert headings == ["Architecture", "Input", "Weights", "Use", "Files", "Written with", "Licence"]


def test_weights_are_not_written_over(space: Space, arch: Architecture, tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    save_file(space.network(arch, seed=7).state_dict(), weights)
    before = weights.read_bytes()
    with pytest.raises(UserError, match="holds the weights that are exported"):
        nasdsl.export(space, arch, tmp_path / "net.py", format="py", weights=weights)
    assert weights.read_bytes() == before
