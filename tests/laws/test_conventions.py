"""What counters of others say, against their rules applied to the modules that run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import nasdsl
from nasdsl import Space, UserError
from nasdsl.cli import main
from nasdsl.ops import PRIMITIVES
from nasdsl.ops.conventions import CONVENTIONS
from nasdsl.resources import shipped_architectures
from tests.laws.common import small

PUBLISHED = {
    # name: (millions as the paper and its code print them, thop's figure and multiply-accumulates and
    # parameters of the authors' own module, all run and counted once)
    "cream_14": (13.8, 13_848_832, 13_188_608, 2_673_096),
    "cream_43": (42.4, 42_414_080, 40_655_232, 4_398_600),
    "cream_114": (114.5, 114_488_320, 109_623_680, 4_410_120),
    "cream_287": (287.2, 287_195_240, 276_262_016, 6_044_368),
    "cream_481": (481.6, 481_598_712, 460_398_080, 7_713_360),
    "cream_604": (604.3, 604_339_504, 578_698_368, 9_695_624),
}
LISTED = {
    # tools/retrain.py: one digit a block; 0 to 5 are kernels 3, 5, 7 with expansions 4, 6
    "cream_14": "3 33 33 3 3",
    "cream_43": "3 31 31 333 33",
    "cream_114": "3 33 33 333 33",
    "cream_287": "3 33 313 3333 333",
    "cream_481": "3431 3230 33311 3333 3333",
    "cream_604": "33233 32323 32323 332233 332333",
}
OPERATIONS = ("k3_e4", "k3_e6", "k5_e4", "k5_e6", "k7_e4", "k7_e6")
ALONE = ("k3_e4", "k5_e4", "k3_e6", "k3_e6", "k5_e6")
"""What the authors' code builds, whatever is listed, where a stage has one block."""


def thop(net: nn.Module, x: torch.Tensor) -> int:
    """The rules of thop 0.0.31 as hooks; a mean that is a function counts as the module it stands for."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * (kernel + (module.bias is not None))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            total += 2 * inputs[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.AvgPool2d):
            total += output.numel()
        elif isinstance(module, nn.LeakyReLU):
            total += inputs[0].numel()
        elif type(module).__name__ == "SqueezeExcite":
            total += pooled(inputs[0])

    def pooled(image: torch.Tensor) -> int:
        return image[0, 0].numel() * image.shape[1] + image.shape[1]

    def mean(self: torch.Tensor, dims: tuple[int, ...], **rest: bool) -> torch.Tensor:
        nonlocal total
        if not rest and dims == (2, 3):  # global_pool; that of a gate keeps its dimensions
            total += pooled(self)
        return torch.Tensor.sum(self, dims, **rest)

    hooks = [m.register_forward_hook(count) for m in net.modules()]
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.Tensor, "mean", mean)
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    return total


def figure(space: Space, arch: nasdsl.Architecture) -> int:
    return space.stats(arch, conventions=["thop"]).conventions["thop"]["flops"]


def one(space: Space) -> torch.Tensor:
    return torch.randn(1, *space.checked.input.evaluate({}))


@pytest.mark.parametrize("name", ["darts", "nasbench201", "hierarchical", "cream"])
def test_thop_is_what_its_rules_say_of_the_modules_that_run(name: str) -> None:
    space = small(name)
    for arch in space.sample(4, seed=3):
        assert figure(space, arch) == thop(space.network(arch), one(space))


def test_every_operation_counts_as_its_module(tmp_path: Path) -> None:
    """Biases, groups, pooling windows, tokens: what the shipped spaces do not all have."""
    path = tmp_path / "all.nas"
    path.write_text("""space every {
  input image(3, 16)
  network {
    stem: conv(3, 8, stride=2, bias=true) >> bn(affine=false) >> leaky_relu >> dwconv(5, bias=true) >> se(4)
    mid:  avg_pool(3, stride=2) >> conv(1, 12, groups=4) >> bn >> max_pool(3) >> upsample
    tail: global_pool >> as_image >> conv(1, 24, bias=true) >> flatten >> linear(16, bias=false) >> linear(10)
  }
}
""")
    space = nasdsl.load(path)
    (arch,) = space.sample(1)
    assert figure(space, arch) == thop(space.network(arch), one(space))
    path.write_text("""space words {
  input image(3, 8)
  network { n: conv(4, 8, stride=4, pad=0) >> tokens >> layer_norm >> attention(2, 4) >> linear(6)
            >> global_pool >> linear(3) }
}
""")
    space = nasdsl.load(path)
    (arch,) = space.sample(1)
    assert figure(space, arch) == thop(space.network(arch), one(space))


def test_rules_are_of_operations_that_there_are() -> None:
    for convention in CONVENTIONS.values():
        assert set(convention.rules) <= set(PRIMITIVES)
        arithmetic = {p.name for p in PRIMITIVES.values() if p.layer and not p.internal and not p.opaque}
        assert arithmetic <= set(convention.rules)


def test_the_published_networks_come_with_the_space() -> None:
    assert list(shipped_architectures()) == list(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_of_cream_costs_what_its_authors_network_costs(name: str) -> None:
    millions, flops, macs, params = PUBLISHED[name]
    space, arch = nasdsl.load_architecture("cream", name)
    stats = space.stats(arch, conventions=["thop"])
    assert stats.conventions == {"thop": {"flops": flops}}
    assert (stats.macs, stats.params) == (macs, params)
    assert round(flops / 1e6, 1) == millions
    assert arch.fingerprint == space.fingerprint, "the space changed: write the files anew"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_of_cream_is_the_listed_one_as_it_is_built(name: str) -> None:
    _, arch = nasdsl.load_architecture("cream", name)
    stages = [[OPERATIONS[int(digit)] for digit in stage] for stage in LISTED[name].split()]
    built = [[alone] if len(stage) == 1 else stage for stage, alone in zip(stages, ALONE, strict=True)]
    assert arch.params["depths"] == [len(stage) for stage in stages]
    assert list(arch.choices.values()) == [operation for stage in built for operation in stage]
    text = (shipped_architectures()[name]).read_text("utf-8")
    assert json.loads(text)["fingerprint"] == nasdsl.load("cream", **arch.params).fingerprint


def test_the_page_shows_these_figures(root: Path) -> None:
    """The table of docs/howto/flops.md, the networks as listed included."""
    text = (root / "docs" / "howto" / "flops.md").read_text("utf-8")
    rows = re.findall(
        r"^\| `(cream_\d+)` \| (\d+) \|.*?\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE
    )
    assert [row[0] for row in rows] == list(PUBLISHED)
    for name, resolution, *shown in rows:
        space, arch = nasdsl.load_architecture("cream", name)
        digits = LISTED[name].replace(" ", "")
        listed = dict(zip(arch.choices, (OPERATIONS[int(d)] for d in digits), strict=True))
        macs = space.stats(space.architecture(listed)).macs
        _, flops, built, _ = PUBLISHED[name]
        assert shown == [f"{n:,}" for n in (flops, built, macs)]
        assert space.params["resolution"] == int(resolution)


def test_the_network_as_built_runs() -> None:
    space, arch = nasdsl.load_architecture("cream", "cream_14", classes=10)
    net = space.network(arch)
    assert thop(net, one(space)) == figure(space, arch)
    assert net(one(space)).shape == (1, 10)


def test_stats_prints_the_figure_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stats", "cream", "--arch", "cream_43"]
    assert main([*words, "--convention", "thop"]) == 0
    assert re.search(r"^thop\.flops +42,414,080 ", capsys.readouterr().out, re.MULTILINE)
    assert main([*words, "--convention", "thop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["conventions"] == {"thop": {"flops": 42_414_080}}
    assert main(words) == 0
    assert "thop" not in capsys.readouterr().out
    assert main([*words, "--convention", "thpo"]) == 1
    assert "did you mean `thop`" in capsys.readouterr().err


def test_an_auxiliary_head_does_not_run_in_eval_mode() -> None:
    space = nasdsl.load("darts", layers=3, C=4)
    (arch,) = space.sample(1)
    with_head = space.stats(arch, auxiliary=True, conventions=["thop"])
    assert with_head.conventions["thop"]["flops"] == figure(space, arch)


# --- parameters in an architecture's file -----------------------------------------------------------


def test_parameters_of_the_file_are_those_of_the_space(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (
        ["stats"],
        ["export", "-o", str(tmp_path / "m.py")],
        ["draw", "-o", str(tmp_path / "m.svg")],
    ):
        assert main([words[0], "cream", "--arch", "cream_14", *words[1:]]) == 0
        assert main([words[0], "cream", "--arch", "cream_14", "--param", "resolution=64", *words[1:]]) == 0
        capsys.readouterr()
        assert main([words[0], "cream", "--arch", "cream_14", "--param", "resolution=96", *words[1:]]) == 1
        assert "says resolution=64, which was set to 96" in capsys.readouterr().err


def test_parameters_stay_with_the_architecture() -> None:
    space, arch = nasdsl.load_architecture("cream", "cream_14", classes=7)
    assert space.params == {"resolution": 64, "depths": [1, 2, 2, 1, 1], "classes": 7}
    again = nasdsl.Architecture.from_json(arch.to_json())
    assert (again, again.params) == (arch, {"depths": [1, 2, 2, 1, 1], "resolution": 64})
    assert "params" not in space.sample(1)[0].to_json()


def test_a_space_with_other_parameters_does_not_take_it() -> None:
    with pytest.raises(UserError, match=r"NAS402.*resolution=64"):
        nasdsl.load("cream", depths=[1, 2, 2, 1, 1]).parse("cream_14")
    with pytest.raises(UserError, match=r"NAS402.*space `cream`.*`depths`"):
        nasdsl.load_architecture("darts", "cream_14")
    with pytest.raises(UserError, match=r"NAS109.*`clases`"):
        nasdsl.load_architecture("cream", "cream_14", clases=3)
    with pytest.raises(UserError, match=r"NAS005.*did you mean `cream_14`"):
        nasdsl.load("cream").parse("cream_15")


@pytest.mark.parametrize("params", ["[1]", '{"depths": "x"}', '{"depths": null}'])
def test_parameters_that_are_none_are_refused(params: str) -> None:
    text = f'{{"space": "cream", "fingerprint": "", "params": {params}, "choices": {{}}}}'
    with pytest.raises(UserError, match="NAS401"):
        nasdsl.Architecture.from_json(text)


def test_a_file_comes_before_a_published_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = small("cream")
    (arch,) = space.sample(1)
    Path("cream_14").write_text(arch.to_json())
    assert space.parse("cream_14") == arch
