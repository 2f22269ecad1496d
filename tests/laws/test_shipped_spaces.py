"""Every shipped space becomes networks that run and cost what is predicted."""

from __future__ import annotations

import pytest

import nasdsl
from nasdsl.resources import shipped_spaces

SMALL: dict[str, dict[str, object]] = {
    "cream": {"resolution": 64, "depths": [2, 2, 2, 2, 2]},
    "autoformer": {"resolution": 64},
    "darts": {"layers": 5, "C": 8},
    "nasbench201": {"N": 1},
    "nasbench101": {"C": 16, "N": 1},
}


@pytest.mark.parametrize("name", shipped_spaces())
def test_sampled_networks_run_and_cost_what_is_predicted(name: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    space = nasdsl.load(name, **SMALL.get(name, {}))
    for arch in space.sample(3, seed=2):
        net = space.network(arch).eval()
        sizes = [d.settle(arch.choices).evaluate({}) for d in space.checked.input.dims]
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            out = net(torch.randn(1, *sizes))
        assert out.shape == (1, space.checked.classes)
        stats = space.stats(arch)
        assert sum(p.numel() for p in net.parameters()) == stats.live_params
        counted = counter.get_total_flops() // 2
        if name == "autoformer" and counted != stats.live_macs:
            # torch counts no attention on a CPU: the two products of every head are missing.
            counted += sum(_attention_macs(space, arch))
        assert counted == stats.live_macs


def _attention_macs(space: nasdsl.Space, arch: nasdsl.Architecture) -> list[int]:
    """length^2 * width * 2 for every block."""
    length = (64 // 16) ** 2 + 1
    return [
        2 * length * length * 64 * int(str(value))
        for path, value in arch.choices.items()
        if path.endswith(".heads")
    ]


@pytest.mark.parametrize("name", shipped_spaces())
def test_the_header_names_its_source_and_its_count(name: str) -> None:
    text = shipped_spaces()[name].read_text("utf-8")
    head = text.partition("\nspace ")[0]
    assert head.startswith("# ")
    assert "Count" in head
    assert "Departure" in head or name == "nats_size"
    count = nasdsl.load(name).count()
    assert f"{count:,}" in head


@pytest.mark.parametrize("name", shipped_spaces())
def test_what_comes_out_is_plain_torch(name: str) -> None:
    space = nasdsl.load(name, **SMALL.get(name, {}))
    text = space.model_source(space.sample(1, seed=0)[0])
    imports = {
        line.split()[1].split(".")[0] for line in text.split("\n") if line.startswith(("import ", "from "))
    }
    assert imports == {"torch"}


@pytest.mark.parametrize("name", ["cream", "hierarchical"])
@pytest.mark.parametrize("method", ["darts", "toponas"])
def test_supernets_at_one_hot_are_the_architectures_networks(name: str, method: str) -> None:
    """Squeeze and excitation, blocks as options, cells as options: what DARTS and NAS-Bench-201 do not have."""
    import torch

    params: dict[str, object] = {"resolution": 32, "depths": [1, 2, 1, 1, 1], "classes": 10}
    space = nasdsl.load(name, **(params if name == "cream" else {"C": 4, "N": 1, "resolution": 16}))
    program = space.compile(method)
    net = program.supernet(seed=0).double()
    x = torch.randn(2, *space.checked.input.evaluate({}), dtype=torch.float64)
    net(x)
    reached = 0
    for arch in space.sample(6, seed=1):
        try:
            net.set_architecture(arch.choices)
        except (nasdsl.UserError, ValueError):
            continue  # an encoding that a relaxation without `none` cannot express
        net.eval()
        child = program.network(arch, inherit=net, form="search").double().eval()
        torch.testing.assert_close(child(x), net(x), rtol=0, atol=1e-10)
        reached += 1
    assert reached
