"""A step of our supernets against the original authors' own, side by side in one run.

    python benchmarks/supernet.py --space darts --batch 16 --device cpu --precision fp32 --reference DIR

Without `--reference` ours alone. DIR is a checkout of the repository that `--space` names:

    darts        quark0/darts                 `model_search.Network`
    nasbench201  D-X-Y/AutoDL-Projects        `TinyNetworkDarts`
    pcdarts      yuhuixu1993/PC-DARTS         `model_search.Network`; another mathematics than ours (a
                                              quarter of the channels), beside the DARTS space

`exact` is our supernet of method `darts` with its exact passes, the same mathematics as the reference
(`reference_equivalence.py` proves it); `plain` is the same without any of them, `simplified` with the
approximating pass `simplify` as well. A step is zeroing, forward and backward for all gradients; a
bilevel step is a step of the variables and a step of the weights, with their optimisers, as each side
does them. All sides take turns in one process; figures are medians, ratios medians over rounds.

On a GPU `--cuda-graph` records and replays the bilevel step of ours, as `search.py --cuda-graph` does.

    python benchmarks/supernet.py --batch 64 --device cuda --precision bf16 --cuda-graph --reference DIR

Saved bytes: storages that autograd keeps for the backward pass, parameters left out, each once.
Kernels: on a GPU what the profiler sees executed, on a CPU operators that are dispatched, views left out.
Launches: calls by which the host starts a kernel or a graph; on a GPU only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from references import Darts, NasBench201, PcDarts
from report import surroundings, table, write_json
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import nasdsl
from nasdsl.runtime.search.bilevel import architecture_step, weight_step
from nasdsl.runtime.search.captured import WARM_UP, Captured, TensorSteps
from nasdsl.runtime.supernet import SupernetBase

RESULTS = Path(__file__).parent / "results"
SIDES = {"plain": "-fold,-share,-normalise,-accumulate,-fan", "exact": "", "simplified": "+simplify"}
"""Our supernets, by the changes to the passes of `darts`."""
FORM = {"darts": {}, "nasbench201": {"pool_norm": False, "conv_bias": True}}
"""What makes ours the reference's mathematics."""
Batch = tuple[Tensor, Tensor]


@attrs.frozen
class Side:
    """One supernet, ready to run."""

    name: str
    net: nn.Module
    step: Callable[[], object]
    bilevel: Callable[[], object]
    params: int


def cast(device: str, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing."""
    kind = device.partition(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def optimisers(
    weights: list[nn.Parameter], variables: list[Tensor]
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Those of the DARTS search."""
    sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    return sgd, torch.optim.Adam(variables, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)


def ours(space: nasdsl.Space, name: str, passes: str, batches: list[Batch], args: argparse.Namespace) -> Side:
    """One of our supernets, channels last."""
    program = space.compile("darts", settings=FORM.get(args.space, {}), passes=passes)
    net: SupernetBase = program.supernet(seed=0)
    net = net.to(args.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights, variables = net.weight_parameters(), net.architecture_parameters()
    sgd, adam = optimisers(weights, list(variables))

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with cast(args.device, args.precision):
            loss = F.cross_entropy(net(batches[0][0]), batches[0][1])
        loss.backward()  # type: ignore[no-untyped-call]

    def bilevel() -> None:
        architecture_step(net, batches[1], adam, cast=cast(args.device, args.precision))
        weight_step(net, batches[0], sgd, cast=cast(args.device, args.precision))

    if args.cuda_graph:
        bilevel = recorded(net, sgd, adam, batches, args)
    return Side(name, net, step, bilevel, sum(p.numel() for p in weights))


def recorded(
    net: SupernetBase,
    sgd: torch.optim.Optimizer,
    adam: torch.optim.Optimizer,
    batches: list[Batch],
    args: argparse.Namespace,
) -> Callable[[], None]:
    """The bilevel step as CUDA graphs, recorded before it is returned."""
    settings = {"clip": 5.0, "accumulate": 1}
    steps = Captured(TensorSteps(net, sgd, adam, settings, lambda: cast(args.device, args.precision)))
    steps.set(0.025)

    def bilevel() -> None:
        steps.architecture_step(batches[1])
        steps.weight_step(batches[0])

    for _ in range(WARM_UP + 1):
        bilevel()
    return bilevel


def theirs(net: nn.Module, variables: list[Tensor], batches: list[Batch], args: argparse.Namespace) -> Side:
    """The original, in the layout of its authors; both steps compute all gradients, as their code does."""
    net = net.to(args.device).train()
    plain = [(x.contiguous(memory_format=torch.contiguous_format), y) for x, y in batches]
    known = {id(v) for v in variables}
    weights = [p for p in net.parameters() if id(p) not in known]
    sgd, adam = optimisers(weights, variables)

    def backward(batch: Batch) -> None:
        with cast(args.device, args.precision):
            found = net(batch[0])
            loss = F.cross_entropy(found[1] if isinstance(found, tuple) else found, batch[1])
        loss.backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        net.zero_grad(set_to_none=True)
        adam.zero_grad(set_to_none=True)
        backward(plain[0])

    def bilevel() -> None:
        adam.zero_grad()
        backward(plain[1])
        adam.step()
        sgd.zero_grad()
        backward(plain[0])
        nn.utils.clip_grad_norm_(weights, 5.0)
        sgd.step()

    return Side("reference", net, step, bilevel, sum(p.numel() for p in weights))


def reference(space: nasdsl.Space, batches: list[Batch], args: argparse.Namespace) -> Side:
    """The network of the checkout."""
    channels, classes = int(str(space.params["C"])), int(str(space.params["classes"]))
    if args.space == "nasbench201":
        net = NasBench201(args.reference).supernet(channels, int(str(space.params["N"])), classes)
        return theirs(net, [net.arch_parameters], batches, args)  # type: ignore[list-item]
    original = PcDarts if args.space == "pcdarts" else Darts
    net = original(args.reference).supernet(channels, classes, int(str(space.params["layers"])))
    variables: list[Tensor] = net.arch_parameters()  # type: ignore[operator]
    for variable in variables:
        variable.data = variable.data.to(args.device)
    return theirs(net, variables, batches, args)


def saved_bytes(side: Side) -> int:
    """Bytes that autograd keeps for the backward pass of a step."""
    own = {t.untyped_storage().data_ptr() for t in (*side.net.parameters(), *side.net.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        side.step()
    return sum(kept.values())


class _Counter(TorchDispatchMode):
    """Counts operators, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or str(func) in ("aten.detach.default", "aten.empty.memory_format"))
        return func(*args, **(kwargs or {}))


def kernels(action: Callable[[], object], device: str) -> tuple[int, int | None]:
    """Kernels of an action, and what the host launched: executed on a GPU, operators dispatched on a CPU."""
    if not device.startswith("cuda"):
        with _Counter() as counter:
            action()
        return counter.count, None
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        action()
        torch.cuda.synchronize()
    events = profile.profiler.kineto_results.events()
    executed = sum(1 for e in events if str(e.device_type()).endswith("CUDA"))
    launches = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")
    return executed, sum(1 for e in events if e.name().startswith(launches))


def timed(action: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    begun = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def interleaved(sides: list[Side], kind: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds by side, one figure a round, in an order that rotates."""
    found: dict[str, list[float]] = {s.name: [] for s in sides}
    for count in range(args.warmup + args.repeats):
        shift = count % len(sides)
        for side in sides[shift:] + sides[:shift]:
            spent = timed(getattr(side, kind), args.device)
            if count >= args.warmup:
                found[side.name].append(spent)
    return found


def peak_bytes(side: Side, device: str) -> int | None:
    """The allocator's peak over a bilevel step, above what was there; on a GPU only."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    side.bilevel()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed and written."""
    parameters = {name: int(value) for name, _, value in (text.partition("=") for text in args.param)}
    space = nasdsl.load("darts" if args.space == "pcdarts" else args.space, **parameters)
    generator = torch.Generator().manual_seed(0)
    shape, classes = space.checked.input.evaluate({}), space.checked.classes
    batches: list[Batch] = []
    for _ in range(2):
        x = torch.randn((args.batch, *shape), generator=generator)
        y = torch.randint(classes, (args.batch,), generator=generator)
        batches.append((x.to(args.device, memory_format=torch.channels_last), y.to(args.device)))
    sides = [ours(space, name, SIDES[name], batches, args) for name in args.sides]
    if args.reference is not None:
        sides.insert(0, reference(space, batches, args))
    found: dict[str, Any] = {
        "benchmark": "supernet",
        "space": args.space,
        "parameters": space.params,
        "batch": args.batch,
        "precision": args.precision,
        **surroundings(args.device),
        "rounds": args.repeats,
        # There whether or not it was measured, for whoever reads the JSON.
        **{f"reference_{what}": None for what in ("step_s", "bilevel_s", "saved_bytes", "kernels", "params")},
    }
    for side in sides:
        found[f"{side.name}_params"] = side.params
        found[f"{side.name}_saved_bytes"] = saved_bytes(side)
        found[f"{side.name}_kernels"], found[f"{side.name}_launches"] = kernels(side.step, args.device)
        bilevel = kernels(side.bilevel, args.device)
        found[f"{side.name}_bilevel_kernels"], found[f"{side.name}_bilevel_launches"] = bilevel
        found[f"{side.name}_peak_bytes"] = peak_bytes(side, args.device)
    for kind, word in (("step", "step"), ("bilevel", "bilevel")):
        seconds = interleaved(sides, kind, args)
        found[f"{word}_seconds"] = seconds
        for name, values in seconds.items():
            found[f"{name}_{word}_s"] = statistics.median(values)
            ratios = [a / b for a, b in zip(seconds[sides[0].name], values, strict=True)]
            found[f"{name}_{word}_ratio"] = statistics.median(ratios)
    return found


def rows(found: dict[str, Any], names: list[str]) -> list[tuple[str, ...]]:
    """The table: one row a side, ratios to the first."""
    made = []
    for name in names:
        peak = found[f"{name}_peak_bytes"]
        made.append(
            (
                name,
                f"{found[f'{name}_params']:,}",
                f"{found[f'{name}_step_s'] * 1e3:.1f}",
                f"{found[f'{name}_step_ratio']:.2f}",
                f"{found[f'{name}_bilevel_s'] * 1e3:.1f}",
                f"{found[f'{name}_bilevel_ratio']:.2f}",
                f"{found[f'{name}_saved_bytes'] / 2**20:.1f}",
                f"{found[f'{name}_kernels']:,}",
                str(found[f"{name}_bilevel_launches"] or ""),
                "" if peak is None else f"{peak / 2**20:.1f}",
            )
        )
    return made


HEADER = (
    "supernet",
    "weights",
    "step ms",
    "faster",
    "bilevel ms",
    "faster",
    "saved MiB",
    "kernels",
    "launches",
    "peak MiB",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=("darts", "nasbench201", "pcdarts"), default="darts")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--cuda-graph", action="store_true", help="replay the bilevel step of ours")
    parser.add_argument("--reference", type=Path, help="a checkout of the original repository")
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=["exact", "simplified"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    if args.cuda_graph and not args.device.startswith("cuda"):
        parser.error("--cuda-graph needs --device cuda")
    torch.set_num_threads(args.threads)
    found = measure(args)
    names = [*(["reference"] if args.reference else []), *args.sides]
    print(json.dumps(found) if args.json else table(HEADER, rows(found, names)))
    if args.out is not None:
        write_json(args.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
