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
