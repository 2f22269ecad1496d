"""Amendments, the library, and operations from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasdsl
from nasdsl.cli import main
from nasdsl.space.amend import library

OPS = '''
import torch
from torch import nn


class Blur(nn.Module):
    """A box filter with a learned scale."""

    def __init__(self, channels, k=3):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.pool = nn.AvgPool2d(k, 1, k // 2)

    def forward(self, x):
        return self.pool(x) * self.scale


class Wide(nn.Module):
    def __init__(self, channels, times=2):
        super().__init__()
        self.conv = nn.Conv2d(channels, times * channels, 1)

    def forward(self, x):
        return self.conv(x)


class Costly(Blur):
    @staticmethod
    def macs(input_shape, output_shape, k=3):
        return 1000 * k


OPERATIONS = {"blur": Blur, "wide": Wide, "costly": Costly}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "test_my_ops.py").write_text(OPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- amendments --------------------------------------------------------------


def test_an_amendment_replaces_and_adds(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "mine.nas",
        """space mine from "nasbench201.nas" {
  param N = 1
  candidates += { five: relu_conv_bn(5, C) }
  limit params <= 200k
  limit params <= 500k
}""",
    )
    space = nasdsl.load(path)
    assert space.name == "mine"
    assert space.params["N"] == 1
    assert space.decisions[0].options[-1] == "five"
    assert [(m.measure, m.bound) for m in space.checked.limits] == [
        ("params", 200_000.0),
        ("params", 500_000.0),
    ]
    assert nasdsl.load(path, N=2).params["N"] == 2
    assert 5**6 * 0.1 < space.count() < 6**6


def test_a_chain_of_amendments_and_files_beside(tmp_path: Path) -> None:
    write(tmp_path, "one.nas", 'space one from "nats_size.nas" { width[1..5] = choose { 8, 16 } }')
    two = write(tmp_path, "two.nas", 'space two from "one.nas" { param classes = 7  limit macs <= 5M }')
    space = nasdsl.load(two)
    assert space.checked.classes == 7
    assert 0 < space.count() < 2**5


def test_a_circle_of_amendments_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "one.nas", 'space one from "two.nas" { param C = 1 }')
    two = write(tmp_path, "two.nas", 'space two from "one.nas" { param C = 1 }')
    with pytest.raises(nasdsl.UserError, match="NAS110"):
        nasdsl.load(two)


def test_mistakes_in_the_base_are_shown_in_the_base(tmp_path: Path) -> None:
    write(tmp_path, "base.nas", "space base { input image(3, 8)  network { stem: conv(3, 8 } }")
    two = write(tmp_path, "two.nas", 'space two from "base.nas" { param C = 1 }')
    with pytest.raises(nasdsl.UserError) as refused:
        nasdsl.load(two)
    place = refused.value.diagnostics[0].primary
    assert place is not None
    assert place.span.source.name.endswith("base.nas")


def test_what_is_compiled_stands_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.nas", 'space mine from "nasbench201.nas" { param N = 1 }')
    space = nasdsl.load(path)
    files = space.compile("darts").files()
    alone = write(tmp_path / "..", f"{tmp_path.name}_alone.nas", files["space.nas"])
    assert nasdsl.load(alone).fingerprint == space.fingerprint
    assert "from" not in files["space.nas"].split("{")[0].split("\n")[-1]


@pytest.mark.parametrize("name", library())
def test_every_operation_of_the_library_builds(name: str, tmp_path: Path) -> None:
    import torch

    formals = library()[name].formals
    values = {
        "k": "3",
        "out": "16",
        "width": "8",
        "e": "4",
        "hidden": "32",
        "heads": "2",
        "head_width": "8",
        "stride": "1",
    }
    given = ", ".join(values[f.name.text] for f in formals.own if f.default is None)
    tokens = "transformer" in name or name == "mlp"
    use = f"{name}({given})" if given else name
    middle = f"tokens >> {use} >> take_token(1)" if tokens else f"{use} >> global_pool"
    path = write(
        tmp_path,
        "l.nas",
        f"space l {{ input image(3, 16)  network {{ stem: conv(3, 16)  body: {middle}  head: linear(4) }} }}",
    )
    space = nasdsl.load(path)
    arch = space.sample(1)[0]
    net = space.network(arch)
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    assert sum(p.numel() for p in net.parameters()) == space.stats(arch).params


# --- operations from Python --------------------------------------------------

PYTHON = """space p {
  use python "test_my_ops"
  input image(3, 16)
  cell c(x) {
    n[1..2] = sum of choose 1 from (x, earlier) via choose { conv(3), blur, five: blur(k=5), costly }
    return n[2]
  }
  network { stem: conv(3, 8)  one: c  two: wide(times=3)  three: c  head: global_pool >> linear(4) }
}"""


def test_python_is_refused_unless_allowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, "p.nas", PYTHON)
    with pytest.raises(nasdsl.UserError, match="NAS111"):
        nasdsl.load(path)
    assert main(["check", str(path)]) == 1
    assert "--allow-python" in capsys.readouterr().err
    assert main(["count", str(path), "--allow-python"]) == 0
    assert capsys.readouterr().out == "32\n"


def test_operations_from_python_have_shapes_weights_and_costs(folder: Path) -> None:
    import torch

    space = nasdsl.load(write(folder, "p.nas", PYTHON), allow_python=True)
    for arch in space.sample(6, seed=3):
        net = space.network(arch)
        assert net(torch.randn(2, 3, 16, 16)).shape == (2, 4)
        assert sum(p.numel() for p in net.parameters()) == space.stats(arch).live_params
    blurs = {
        "c.n[1].inputs": ["x"],
        "c.n[1].op[x]": "blur",
        "c.n[2].inputs": ["n[1]"],
        "c.n[2].op[n[1]]": "five",
    }
    stats = space.stats(space.architecture(blurs))
    assert stats.params == 216 + (8 + 8) + (8 * 24 + 24) + (24 + 24) + (24 * 4 + 4)
    stem, wide, head = 216 * 256, 8 * 24 * 256, 24 * 4
    assert stats.macs == stem + wide + head
    costly = {**blurs, "c.n[1].op[x]": "costly"}
    assert space.stats(space.architecture(costly)).macs == stem + wide + head + 2 * 3000


def test_a_supernet_mixes_operations_from_python(folder: Path) -> None:
    import torch

    space = nasdsl.load(write(folder, "p.nas", PYTHON), allow_python=True)
    program = space.compile("toponas")
    net = program.supernet(seed=0).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    net(x).square().sum().backward()
    found = program.architecture(net.derive())
    net.set_architecture(found.choices)
    net.eval()
    child = program.network(found, inherit=net, form="search").double().eval()
    torch.testing.assert_close(child(x), net(x), rtol=0, atol=1e-10)
    assert "allow_python=True" in program.files()["search.py"]
    assert "import test_my_ops" in program.model_source(found) or "blur" not in str(found.choices)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("test_my_ops", "no_such_module_at_all"), "NAS111"),
        (("test_my_ops", "json"), "NAS111"),
        (("blur(k=5)", "blur(q=5)"), "NAS102"),
        (("stem: conv(3, 8)", "stem: conv(3, choose { 8, 16 })"), "NAS205"),
        (("blur(k=5)", "blur(k=4)"), "NAS204"),
    ],
)
def test_mistakes_about_python_are_diagnostics(folder: Path, change: tuple[str, str], code: str) -> None:
    path = write(folder, "p.nas", PYTHON.replace(*change))
    with pytest.raises(nasdsl.UserError, match=code):
        nasdsl.load(path, allow_python=True)
