"""What an export never writes over, and that it writes everything or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import nasdsl
from nasdsl import Architecture, Space, UserError
from nasdsl.exporting.equality import is_finite
from nasdsl.exporting.formats import FORMATS
from nasdsl.exporting.places import refuse_taken, targets_of


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["net", "net.py", "net.onnx", "net.v2", "a.b.py", "net.safetensors"])
@pytest.mark.parametrize("weighed", [False, True])
def test_what_is_refused_is_what_would_be_written(
    space: Space, arch: Architecture, tmp_path: Path, name: str, weighed: bool
) -> None:
    made = nasdsl.export(space, arch, tmp_path / name, weights=0 if weighed else None, card=None)
    targets = targets_of(tmp_path / name, [FORMATS["py"]], weighed)
    assert list(made.files) == targets["py"]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in made.files}


@pytest.mark.parametrize(("weights", "path"), [("net.v2", "net.v2"), ("net", "net.py"), ("net", "net")])
def test_weights_are_never_written_over_by_what_is_made_of_them(
    space: Space, arch: Architecture, tmp_path: Path, weights: str, path: str
) -> None:
    source = tmp_path / f"{weights}.safetensors"
    save_file(space.network(arch, seed=7).state_dict(), source)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"NAS801.*holds the weights that are exported"):
        nasdsl.export(space, arch, tmp_path / path, weights=source)
    assert contents(tmp_path) == before
    made = nasdsl.export(space, arch, tmp_path / f"{path}.v3", weights=source)  # another name is no reason
    assert source not in made.files


@pytest.mark.parametrize(
    ("kind", "name"), [("run", "supernet"), ("run", "inherited/weights"), ("directory", "x")]
)
def test_files_of_a_run_or_a_compiled_directory_stay(
    space: Space, arch: Architecture, tmp_path: Path, kind: str, name: str
) -> None:
    file = tmp_path / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"weights")
    (tmp_path / "nasdsl.lock").write_text(json.dumps({"kind": kind, "files": {f"{name}.safetensors": "0"}}))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"NAS801.*it stays"):
        nasdsl.export(space, arch, tmp_path / f"{name}.py", weights=0)
    assert contents(tmp_path) == before
    nasdsl.export(space, arch, tmp_path / "other.py", weights=0)


@pytest.mark.parametrize("card", ["net.py", "net.safetensors", "../out/net.py"])
def test_a_card_is_not_written_over_what_is_exported(
    space: Space, arch: Architecture, tmp_path: Path, card: str
) -> None:
    target = tmp_path / "out" / "net.py"
    target.parent.mkdir()
    with pytest.raises(UserError, match=r"NAS801.*is one of the exported files"):
        nasdsl.export(space, arch, target, weights=0, card=card)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("taken", ["net.py", "net.safetensors", "net.pt2", "MODEL.md"])
def test_either_everything_is_there_or_nothing(
    space: Space, arch: Architecture, tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(UserError, match=taken.replace(".", r"\.")):
        nasdsl.export(space, arch, tmp_path / "net", format=("py", "pt2"), weights=0)
    assert contents(tmp_path) == {}


def test_source_alone_does_not_take_the_place_of_what_has_weights(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    nasdsl.export(space, arch, tmp_path / "net.py", weights=0)
    nasdsl.export(space, arch, tmp_path / "net.py")  # the same source: its weights are still its own
    before = contents(tmp_path)
    other = next(a for a in space.sample(9, seed=1) if space.model_source(a) != space.model_source(arch))
    with pytest.raises(UserError, match=r"NAS801.*would be taken for the weights"):
        nasdsl.export(space, other, tmp_path / "net.py")
    assert contents(tmp_path) == before


def test_what_is_looked_at_before_is_what_is_there(tmp_path: Path) -> None:
    targets = targets_of(tmp_path / "net", list(FORMATS.values()), True)
    refuse_taken(targets, tmp_path / "MODEL.md", 0)
    names = [p.name for paths in targets.values() for p in paths]
    assert names == ["net.py", "net.safetensors", "net.onnx", "net.pt2"]


@pytest.mark.parametrize("where", ["weights", "outputs"])
def test_a_network_that_has_diverged_is_refused(
    space: Space, arch: Architecture, tmp_path: Path, where: str
) -> None:
    """Its outputs are equal to themselves, for NaN is all that they are."""
    net = space.network(arch, seed=0)
    with torch.no_grad():
        first, *_, last = net.parameters()
        if where == "weights":
            first.view(-1)[0] = float("nan")
        else:
            last.fill_(3e38)
            for p in net.parameters():
                p.mul_(3e37)
                p.clamp_(-3e38, 3e38)
    with pytest.raises(UserError, match=r"NAS802.*no finite numbers"):
        nasdsl.export(space, arch, tmp_path / "net.py", weights=net)
    assert contents(tmp_path) == {}


def test_no_format_and_no_seed_are_refused(space: Space, arch: Architecture, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NAS801.*no format is named"):
        nasdsl.export(space, arch, tmp_path / "net.py", format=[])
    with pytest.raises(UserError, match=r"NAS801.*is no seed"):
        nasdsl.export(space, arch, tmp_path / "net.py", weights=True)
    assert contents(tmp_path) == {}


def test_a_mask_may_be_infinite_and_a_weight_may_not() -> None:
    net = torch.nn.Linear(3, 3)
    net.register_buffer("mask", torch.full((3, 3), -float("inf")).triu(1))
    assert is_finite(net, [torch.ones(1, 3)])
    with torch.no_grad():
        net.weight[0, 0] = float("inf")
    assert not is_finite(net, [torch.ones(1, 3)])
