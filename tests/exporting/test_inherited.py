"""What is cut out of a supernet computes what the supernet computes; runs leave it, and it is exported."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import nasdsl
from nasdsl import Program
from nasdsl.cli import main
from nasdsl.errors import InternalError, UserError
from nasdsl.exporting.equality import FLOAT64, difference, inputs
from nasdsl.exporting.inherited import inherited
from nasdsl.exporting.runs import program_of
from nasdsl.methods import METHODS
from nasdsl.runtime.standalone.lock import text_of_lock
from nasdsl.verifying.meaning import same_program
from tests.runtime.forks import ran

TINY = {"N": 1, "C": 4, "resolution": 8}


def searched(name: str, method: str, **params: object) -> tuple[Program, torch.nn.Module]:
    """A supernet whose statistics of batch norm are not those of a new one."""
    program = nasdsl.load(name, **params).compile(method)
    net = program.supernet(seed=0)
    shape = program.space.checked.input.evaluate({})
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(2):
            net.train()(torch.randn(8, *shape, generator=random))
    return program, net


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_hands_on_what_its_supernet_computes(method: str) -> None:
    program, net = searched("nasbench201", method, **TINY)
    made = inherited(program, program.architecture(net.derive()), net.state_dict())
    assert made.difference is not None
    assert made.difference <= FLOAT64
    assert made.searched is not None
    # PC-DARTS searches with a quarter of the channels; a constrained search normalises nodes.
    assert (made.network is None) == (method == "pcdarts") == bool(made.unfit)
    assert made.same == (method not in {"pcdarts", "cbo"})
    if made.same:
        assert made.left == ()
        assert made.network is not None
        net.set_architecture(net.derive())
        examples = inputs((3, 8, 8), torch.float32)
        assert difference(made.network, net.eval(), examples) <= 1e-5


def test_a_pooling_that_is_normalised_in_the_search_only_is_said() -> None:
    program, net = searched("darts", "darts", layers=3, C=4, resolution=8)
    arch = program.space.parse(
        "Genotype(normal=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('skip_connect', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
        "normal_concat=[2, 3, 4, 5], reduce=[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 2), "
        "('skip_connect', 0), ('skip_connect', 0), ('skip_connect', 2), ('skip_connect', 2), "
        "('skip_connect', 1)], reduce_concat=[2, 3, 4, 5])"
    )
    made = inherited(program, arch, net.state_dict())
    assert made.difference is not None
    assert made.difference <= FLOAT64
    assert not made.same
    assert made.left
    assert all("max_pool" in name for name in made.left)
    assert made.fresh
    assert all(name.endswith((".weight", ".bias")) for name in made.fresh)
    assert "no place for" in made.words[1]


def test_a_point_that_the_supernet_has_not_is_said() -> None:
    program, net = searched("nasbench201", "toponas", **TINY)
    nowhere = dict.fromkeys(net.derive(), "none")
    made = inherited(program, program.architecture(nowhere), net.state_dict())
    assert made.difference is None
    assert "cannot express this architecture" in made.uncompared
    assert made.words[0].startswith("Not compared with the supernet, which has no such point")


def test_a_network_that_computes_something_else_is_a_bug_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy that loses one tensor stands for any mistake of ours in handing weights on."""
    program, net = searched("nasbench201", "darts", **TINY)
    from nasdsl.codegen import load

    whole = load.inherit_weights

    def lossy(child: torch.nn.Module, *rest: object) -> None:
        whole(child, *rest)  # type: ignore[arg-type]
        with torch.no_grad():
            next(child.parameters()).mul_(1.001)

    monkeypatch.setattr(load, "inherit_weights", lossy)
    with pytest.raises(InternalError, match=r"`darts` differ by .* with the same weights"):
        inherited(program, program.architecture(net.derive()), net.state_dict())


@pytest.fixture(scope="module", params=["toponas", "spos"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a short search, of variables and of single paths."""
    home = tmp_path_factory.mktemp("compiled") / request.param
    words = ["nasbench201", *(w for k, v in TINY.items() for w in ("--param", f"{k}={v}"))]
    assert main(["compile", *words, "--method", request.param, "-o", str(home)]) == 0
    line = ["--data", "digits", "--epochs", "1", "--limit-batches", "2"]
    if request.param == "spos":
        line += ["--set", "evaluations=3", "--set", "population=3", "--set", "calibration_batches=1"]
    done = ran(home, "search.py", *line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inherited weights: The network cut out of the supernet computes" in done.stdout
    assert "--weights " in done.stdout
    return home / "runs" / "0"


def test_a_run_leaves_the_weights_of_what_it_found(run: Path) -> None:
    from nasdsl.runtime.standalone.training import load_model, load_weights

    net = load_model(run / "model.py").Network()
    load_weights(net, run / "inherited" / "weights.safetensors")
    record = json.loads((run / "inherited" / "record.json").read_text("utf-8"))
    assert record["same_as_model"] is True
    assert record["difference"] <= FLOAT64
    assert len(record["mean"]) == len(record["std"]) == 3
    assert record["notes"] == ["grey images repeated to 3 channels"]
    lock = json.loads((run / "nasdsl.lock").read_text("utf-8"))
    assert {"inherited/weights.safetensors", "inherited/record.json"} <= lock["files"].keys()


def test_a_run_is_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the folder of the run, and by the file of weights that it left: the same network."""
    space = str(run.parents[1] / "space.nas")
    assert main(["export", space, "--run", str(run), "-o", str(tmp_path / "run.py")]) == 0
    card = (tmp_path / "MODEL.md").read_text("utf-8")
    assert f"method `{run.parents[1].name}`, on digits, seed 0" in card
    assert "`model.py` of the run computes the same." in card
    assert mean_of(run) in card
    assert "Before that, in training: grey images repeated to 3 channels." in card
    weights = run / "inherited" / "weights.safetensors"
    params = [w for k, v in TINY.items() for w in ("--param", f"{k}={v}")]
    words = [space, *params, "--arch", str(run / "architecture.json"), "--weights", str(weights)]
    assert main(["export", *words, "-o", str(tmp_path / "file.py")]) == 0
    assert mean_of(run) in (tmp_path / "MODEL.md").read_text("utf-8")
    assert capsys.readouterr().err == ""
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("run", "file"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    texts = [path.read_text("utf-8") for path in (tmp_path / "run.py", run / "model.py")]
    assert same_program(*texts)  # a comment names the file that the space was read from


def mean_of(run: Path) -> str:
    record = json.loads((run / "inherited" / "record.json").read_text("utf-8"))
    return "mean = [" + ", ".join(f"{v:.6g}" for v in record["mean"]) + "]"


def test_a_run_of_another_space_or_other_weights_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "model.py")
    assert main(["export", "darts", "--run", str(run), "-o", target]) == 1
    assert "error[NAS109]" in capsys.readouterr().err  # it has no parameter N
    assert main(["export", "nasbench201", "--param", "C=8", "--run", str(run), "-o", target]) == 1
    assert "error[NAS802]" in capsys.readouterr().err
    space = nasdsl.load("nasbench201", N=1, C=8, resolution=8)
    with pytest.raises(UserError, match="which is not `nasbench201`"):
        nasdsl.export(space, space.sample(1)[0], target, weights=run)
    assert list(tmp_path.iterdir()) == []


def relocked(run: Path, **files: str) -> None:
    """A lock that says other digests, or none, of files that the run left."""
    lock = json.loads((run / "nasdsl.lock").read_text("utf-8"))
    del lock["checksum"]
    (run / "nasdsl.lock").write_text(text_of_lock({**lock, "files": files}), "utf-8")


@pytest.mark.parametrize("how", ["damaged", "begun anew", "of another supernet"])
def test_weights_that_a_run_has_not_left_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    home = shutil.copytree(run.parents[1], tmp_path / "copy")
    path = home / "runs" / "0" / "supernet.safetensors"
    if how == "begun anew":
        relocked(path.parent)
    else:
        state = load_file(path)
        del state["stem.0.weight"]
        save_file(state, path)
    if how == "of another supernet":
        relocked(path.parent, **{path.name: sha256(path.read_bytes()).hexdigest()})
    words = ["export", str(home / "space.nas"), "--run", str(path.parent), "-o", str(tmp_path / "m.py")]
    assert main(words) == 1
    code = "NAS802" if how == "of another supernet" else "NAS607"
    assert f"error[{code}]" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


def test_what_goes_wrong_beside_the_weights_is_not_blamed_on_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("of something else")

    monkeypatch.setattr("nasdsl.exporting.weights.inherited", broken)
    program = program_of(run)
    found = program.space.parse(str(run / "architecture.json"))
    with pytest.raises(RuntimeError, match="of something else"):
        nasdsl.export(program.space, found, tmp_path / "m.py", weights=run)
