"""A card says of weights what the run that left them vouches for, and nothing else."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import nasdsl
from nasdsl import Architecture, Space
from nasdsl.exporting.claims import Claims, claims_of
from nasdsl.runtime.standalone.lock import text_of_lock
from tests.exporting.test_export import RESULT, write_run


def test_each_file_of_weights_has_its_own_accuracy(space: Space, arch: Architecture, tmp_path: Path) -> None:
    weights = write_run(tmp_path / "run", space.network(arch, seed=0).state_dict())
    assert claims_of(weights, 8).accuracy == (0.925, 360)
    assert claims_of(weights.with_name("last_step.safetensors"), 8).accuracy == (0.9, 360)


@pytest.mark.parametrize("name", ["mine.safetensors", "weights.pt", "weights.v2.safetensors"])
def test_another_file_in_the_folder_has_none(
    space: Space, arch: Architecture, tmp_path: Path, name: str
) -> None:
    weights = write_run(tmp_path / "run", space.network(arch, seed=0).state_dict())
    other = weights.with_name(name)
    other.write_bytes(weights.read_bytes())
    assert claims_of(other, 8) == Claims()


def test_weights_in_the_place_of_those_that_were_trained_have_none(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    weights = write_run(tmp_path / "run", space.network(arch, seed=0).state_dict())
    save_file(space.network(arch, seed=1).state_dict(), weights)
    assert claims_of(weights, 8) == Claims()


def test_a_result_that_was_changed_since_is_not_said(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    weights = write_run(tmp_path / "run", space.network(arch, seed=0).state_dict())
    weights.with_name("result.json").write_text(json.dumps({**RESULT, "test_accuracy": 1.0}))
    found = claims_of(weights, 8)
    assert (found.accuracy, found.mean) == (None, None)
    assert found.words == ("Trained by retrain.py: from scratch, on own:data, seed 4, epochs 9.",)


@pytest.mark.parametrize(
    ("change", "accuracy", "scaled"),
    [
        *(({"test_accuracy": bad}, None, False) for bad in ("x", None, [0.5], True)),
        *(({"test_accuracy": bad}, None, True) for bad in (-0.5, 93)),
        ({"examples": None}, None, False),
        ({"examples": 0}, None, True),
        ({"examples": ...}, None, True),
        ({"test_accuracy": ...}, None, True),
        ({"mean": [0.5]}, (0.925, 360), False),
        ({"mean": None}, None, False),
        ({"std": ...}, (0.925, 360), False),
        ({"std": [0.5] * 9}, (0.925, 360), False),
    ],
)
def test_a_damaged_result_is_no_traceback(
    space: Space, arch: Architecture, tmp_path: Path, change: dict[str, Any], accuracy: Any, scaled: bool
) -> None:
    result = {k: v for k, v in {**RESULT, **change}.items() if v is not ...}
    weights = write_run(tmp_path / "run", space.network(arch, seed=0).state_dict(), result)
    found = claims_of(weights, 8)
    assert found.accuracy == accuracy
    assert (found.mean is not None, found.std is not None) == (scaled, scaled)
    nasdsl.export(space, arch, tmp_path / "out" / "net.py", weights=weights)
    card = (tmp_path / "out" / "MODEL.md").read_text("utf-8")
    assert ("| test accuracy |" in card) == (accuracy is not None)
    assert ("mean = [" in card) == scaled


def test_how_it_was_trained_is_what_the_run_was_and_not_what_was_typed(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    state = space.network(arch, seed=0).state_dict()
    weights = write_run(tmp_path / "run", state, weights="ab" * 8, limit_batches=3)
    (words,) = claims_of(weights, 8).words
    assert words == (
        "Trained by retrain.py: from weights of `away.safetensors` (abababababababab), on own:data, seed 4, epochs 9, "
        "at most 3 steps an epoch."
    )


def write_inherited(folder: Path, state: dict[str, Any], record: dict[str, Any]) -> Path:
    home = folder / "inherited"
    home.mkdir(parents=True)
    save_file(state, home / "weights.safetensors")
    (home / "record.json").write_text(json.dumps(record))
    lock = {
        "format": 1,
        "kind": "run",
        "identity": {"method": "darts", "name": "digits"},
        "arguments": {},
        "environment": {},
        "data": {},
        "first_steps": None,
        "files": {f"inherited/{p.name}": sha256(p.read_bytes()).hexdigest() for p in home.iterdir()},
    }
    (folder / "nasdsl.lock").write_text(text_of_lock(lock))
    return home / "weights.safetensors"


def test_weights_that_a_search_handed_on_to_another_function_say_so(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    state = space.network(arch, seed=0).state_dict()
    scale = {"mean": [0.5] * 8, "std": [0.25] * 8, "notes": ["flattened (2, 4) to a vector of 8"]}
    other = {"same_as_model": False, "uncompared": "", "fresh": ["a.weight", "b.weight"], "left": [], **scale}
    found = claims_of(write_inherited(tmp_path / "one", state, other), 8)
    assert "does not compute the same: it begins afresh with a.weight and 1 more." in found.words[-1]
    assert found.mean == (0.5,) * 8
    nowhere = {**other, "fresh": [], "uncompared": "it has no path"}
    found = claims_of(write_inherited(tmp_path / "two", state, nowhere), 8)
    assert found.words[-1] == "Not compared with the supernet, which has no such point: it has no path."
    same = write_inherited(tmp_path / "three", state, {**other, "same_as_model": True, "fresh": []})
    assert not any("compute" in words for words in claims_of(same, 8).words)
    nasdsl.export(space, arch, tmp_path / "out" / "net.py", weights=same)
    assert "flattened (2, 4) to a vector of 8" in (tmp_path / "out" / "MODEL.md").read_text("utf-8")


def test_a_card_names_the_modules_that_the_source_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "card_ops.py"
    module.write_text(
        "from torch import nn\n\n\nclass Twice(nn.Module):\n    def __init__(self, channels: int) -> None:\n"
        "        super().__init__()\n\n    def forward(self, x):\n        return 2 * x\n\n\n"
        'OPERATIONS = {"twice": Twice}\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "s.nas").write_text(
        'space s {\n  use python "card_ops"\n  input image(1, 8)\n  network {\n    stem: conv(3, 4) >> bn\n'
        "    act: choose { relu, twice }\n    head: global_pool >> linear(3)\n  }\n}\n"
    )
    space = nasdsl.load(tmp_path / "s.nas", allow_python=True)
    digest = sha256(module.read_bytes()).hexdigest()
    archs = {a.choices["act.op"]: a for a in space.sample(9, seed=0)}
    plain, own = archs["relu"], next(a for name, a in archs.items() if name != "relu")
    for arch, weights in ((plain, 0), (own, 0), (own, None)):
        nasdsl.export(space, arch, tmp_path / str(weights) / "net.py", weights=weights)
        card = (tmp_path / str(weights) / "MODEL.md").read_text("utf-8")
        assert ("card_ops" in card.partition("## Use")[2]) == (digest in card) == (arch is own)
        assert ("takes `card_ops` besides" in card) == (arch is own)


def test_a_name_that_python_reserves_is_run_by_its_path(
    space: Space, arch: Architecture, tmp_path: Path
) -> None:
    nasdsl.export(space, arch, tmp_path / "class.py")
    card = (tmp_path / "MODEL.md").read_text("utf-8")
    assert "from class import" not in card
    assert 'runpy.run_path("class.py")["Network"]' in card
