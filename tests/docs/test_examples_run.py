"""Every space of the language's reference that decides something becomes a supernet that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasdsl
from tests.docs.blocks import Block, blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "language.md"
SOUND = [b for b in blocks(PAGE, "nas") if "error" not in b.info]


@pytest.mark.parametrize("block", SOUND, ids=str)
def test_a_space_runs_and_its_found_network_is_the_supernets_path(block: Block, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "my.nas"
    path.write_text(block.text, "utf-8")
    space = nasdsl.load(path)
    if not space.decisions:
        with pytest.raises(nasdsl.UserError, match="NAS504"):
            space.compile(method="toponas")
        return
    if space.checked.limits:
        with pytest.raises(nasdsl.UserError, match="NAS901"):
            space.compile(method="toponas")
        return
    try:
        program = space.compile(method="toponas")
    except nasdsl.UserError as refused:
        if refused.diagnostics[0].code != "NAS504":
            raise
        return  # its networks run below, one by one
    net = program.supernet(seed=0).double()
    shape = [dim.evaluate({}) for dim in space.checked.input.dims]
    x = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net(x).square().sum().backward()
    assert all(p.grad is not None for p in net.architecture_parameters())
    found = program.architecture(net.derive())
    net.set_architecture(found.choices)
    net.eval()
    child = program.network(found, inherit=net, form="search").double().eval()
    torch.testing.assert_close(child(x), net(x), rtol=0, atol=1e-10)
    assert program.network(found)(x.float()).shape == (4, space.checked.classes)


@pytest.mark.parametrize("block", SOUND, ids=str)
def test_networks_of_a_space_run_and_cost_what_is_predicted(block: Block, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "my.nas"
    path.write_text(block.text, "utf-8")
    space = nasdsl.load(path)
    for arch in space.sample(3, seed=1):
        net = space.network(arch)
        sizes = [dim.settle(arch.choices).evaluate({}) for dim in space.checked.input.dims]
        out = net(torch.randn(2, *sizes))
        assert out.shape == (2, space.checked.classes)
        assert sum(p.numel() for p in net.parameters()) == space.stats(arch).live_params
