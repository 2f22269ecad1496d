"""What explicit topology costs: a step of the search, `darts` against `toponas`.

    python benchmarks/topology_overhead.py

Four supernets of one space with the same weights and the same operations. The baseline
is `darts` in the search form of `toponas`, its softmax without the entry for no
connection; the others are `darts` as published (with that entry, which computes
nothing), `toponas` without simplification, which would change the operations, and the same without the
pass `fold`. A second copy of the
baseline tells how much of a difference is noise.
A round times the weight step and the architecture step (forward, backward, optimiser)
of every supernet once, in an order that rotates; the overhead is the median over
rounds of the ratio to the baseline in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch
from report import surroundings, table, write_json
from torch import Tensor

import nasdsl
from nasdsl.runtime.search.bilevel import architecture_step, weight_step
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.runtime.topology import penalty

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts this process alone: for one thread, on a machine that others use too."""
RESULTS = Path(__file__).parent / "results"
BASELINE = "darts, none=false"
Batch = tuple[Tensor, Tensor]
Seconds = dict[str, dict[str, list[float]]]


@attrs.frozen
class Variant:
    """One supernet of the comparison."""

    name: str
    method: str
    settings: Mapping[str, object]
    passes: str = ""


VARIANTS = (
    Variant(BASELINE, "darts", {"none": False}),
    Variant("the same, a second copy", "darts", {"none": False}),
    Variant("darts, as published", "darts", {}),
    Variant("toponas", "toponas", {}, "-simplify"),
    Variant("toponas, without fold", "toponas", {"fold": False}, "-simplify"),
)


@attrs.frozen
class Steps:
    """The two steps of one supernet on fixed batches.

    Attributes:
        weights: number of weights, the same for all variants.
        variables: number of architecture variables.
    """

    weight: Callable[[], object]
    architecture: Callable[[], object]
    weights: int
    variables: int


def build(space: nasdsl.Space, variant: Variant, train: Batch, valid: Batch, device: str) -> Steps:
    """A supernet with the optimisers of the DARTS search, in training mode."""
    program = space.compile(method=variant.method, settings=variant.settings, passes=variant.passes)
    net: SupernetBase = program.supernet(seed=0)
    net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights, variables = net.weight_parameters(), net.architecture_parameters()
    sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    adam = torch.optim.Adam(variables, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    nodes = net.topology()

    def architecture() -> object:
        extra = penalty(nodes, "v1", 0.1, net.temperature) if nodes else None
        return architecture_step(net, valid, adam, penalty=extra)

    return Steps(
        weight=lambda: weight_step(net, train, sgd),
        architecture=architecture,
        weights=sum(p.numel() for p in weights),
        variables=sum(p.numel() for p in variables),
    )


def timed(step: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = clock()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return clock() - start


def measure(
    built: Mapping[str, Steps], repeats: int, warmup: int, device: str, clock: Callable[[], float]
) -> Seconds:
    """Seconds by variant and step, one figure a round, interleaved."""
    names = list(built)
    seconds: Seconds = {n: {"weight": [], "architecture": []} for n in names}
    for count in range(warmup + repeats):
        shift = count % len(names)
        for name in names[shift:] + names[:shift]:
            steps = built[name]
            for kind, step in (("weight", steps.weight), ("architecture", steps.architecture)):
                spent = timed(step, device, clock)
                if count >= warmup:
                    seconds[name][kind].append(spent)
    return seconds


def summary(seconds: Seconds) -> dict[str, dict[str, float]]:
    """Medians in seconds, and the median over rounds of the ratio to the baseline."""
    found = {}
    base = {kind: seconds[BASELINE][kind] for kind in ("weight", "architecture")}
    base["both"] = [a + b for a, b in zip(base["weight"], base["architecture"], strict=True)]
    for name, kinds in seconds.items():
        own = {**kinds, "both": [a + b for a, b in zip(kinds["weight"], kinds["architecture"], strict=True)]}
        found[name] = {f"{kind}_s": statistics.median(values) for kind, values in own.items()}
        for kind, values in own.items():
            ratios = [a / b for a, b in zip(values, base[kind], strict=True)]
            found[name][f"{kind}_ratio"] = statistics.median(ratios)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="darts")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="parameter of the space"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="`cpu` with --threads 1 ignores other load"
    )
    parser.add_argument("--json", type=Path, help="where the raw figures go; default: results/")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parameters = {name: int(value) for name, _, value in (text.partition("=") for text in arguments.param)}
    space = nasdsl.load(arguments.space, **parameters)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(2):
        resolution = int(str(space.params["resolution"]))
        x = torch.randn((arguments.batch, 3, resolution, resolution), generator=generator)
        y = torch.randint(int(str(space.params["classes"])), (arguments.batch,), generator=generator)
        x = x.to(arguments.device, memory_format=torch.channels_last)
        batches.append((x, y.to(arguments.device)))
    built = {v.name: build(space, v, batches[0], batches[1], arguments.device) for v in VARIANTS}
    if arguments.clock == "cpu" and arguments.device != "cpu":
        parser.error("--clock cpu cannot time another device")
    if len({steps.weights for steps in built.values()}) != 1:
        raise ValueError("the variants differ in their weights: this is no comparison of one supernet")
    clock = CLOCKS[arguments.clock]
    seconds = measure(built, arguments.repeats, arguments.warmup, arguments.device, clock)
    found = summary(seconds)
    rows = [
        (
            name,
            str(built[name].weights),
            str(built[name].variables),
            *(f"{f[f'{k}_s'] * 1e3:.1f}" for k in ("weight", "architecture")),
            *(f"{(f[f'{k}_ratio'] - 1) * 100:+.2f} %" for k in ("weight", "architecture", "both")),
        )
        for name, f in found.items()
    ]
    header = ("supernet", "weights", "variables", "weight ms", "arch. ms", "weight", "architecture", "both")
    print(table(header, rows))
    device = "cuda" if arguments.device.startswith("cuda") else "cpu"
    stem = Path(arguments.space).stem
    write_json(
        arguments.json or RESULTS / f"topology_overhead_{stem}_{device}.json",
        {
            "benchmark": "topology_overhead",
            "space": space.name,
            "parameters": space.params,
            "batch": arguments.batch,
            "clock": arguments.clock,
            "dtype": "float32",
            "memory_format": "channels_last",
            "penalty": "v1, delta 0.1, in the architecture step of toponas",
            "baseline": BASELINE,
            "surroundings": surroundings(arguments.device),
            "variants": [
                {**attrs.asdict(v), "weights": built[v.name].weights, "variables": built[v.name].variables}
                for v in VARIANTS
            ],
            "medians": found,
            "seconds": seconds,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
