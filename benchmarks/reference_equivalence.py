"""Our networks against the original authors' code: the same weights in, the same numbers out.

    python benchmarks/reference_equivalence.py --darts DIR --nasbench201 DIR

Takes checkouts of quark0/darts and D-X-Y/AutoDL-Projects. Copies every weight and
architecture variable of the original into ours, runs both on one batch in float64
and compares logits, loss, gradient of the input, gradient of every weight, gradient
of the architecture variables and every running statistic. Exits with 1 when one
tensor differs by more than the bound, relative to its largest element. A tensor that
is zero up to rounding (the gradient of a convolution's bias ahead of batch norm) has
no such scale and is held to the bound absolutely.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
import torch.nn.functional as F
from references import Darts, NasBench201
from report import surroundings, table, write_json
from torch import Tensor, nn

import nasdsl
from nasdsl.codegen.lower import module_paths
from nasdsl.compiler import network_source

BOUND = 1e-9
ZERO = 1e-12
"""A tensor below this everywhere, in both networks, is rounding and nothing else."""
RESULTS = Path(__file__).parent / "results" / "reference_equivalence.json"
HEADER = (
    "network", "mode", "quantity", "tensors", "zeros", "largest", "max abs", "max rel", f"<= {BOUND:g}",
)  # fmt: skip
Keys = dict[tuple[str, ...], str]


@attrs.frozen
class Pair:
    """Two networks and what of one is what of the other.

    Attributes:
        modules: pairs of leaf modules that hold the same weights, (theirs, ours).
        variables: pairs of architecture variables of one shape.
        logits: what of the original's output are the logits.
    """

    name: str
    theirs: nn.Module
    ours: nn.Module
    modules: tuple[tuple[nn.Module, nn.Module], ...]
    variables: tuple[tuple[Tensor, Tensor], ...]
    logits: Callable[[object], Tensor]


@attrs.frozen
class Difference:
    """The largest difference of a quantity over its tensors.

    Attributes:
        tensors: how many tensors were compared.
        zeros: how many of them are zero up to rounding.
        absolute: largest difference of two elements.
        relative: the same, relative to the largest element of the tensor; zeros left out.
        scale: largest element of the original's tensors.
    """

    network: str
    mode: str
    quantity: str
    tensors: int
    zeros: int
    absolute: float
    relative: float
    scale: float

    @property
    def holds(self) -> bool:
        return self.absolute <= BOUND * max(1.0, self.scale) and self.relative <= BOUND  # NaN fails


# --- matching ----------------------------------------------------------------


def leaves(module: nn.Module) -> list[nn.Module]:
    """The modules that hold weights or running statistics, in the order they were written."""
    return [
        m
        for m in module.modules()
        if any(True for _ in m.parameters(recurse=False)) or any(True for _ in m.buffers(recurse=False))
    ]


def under(keys: Keys, net: nn.Module, owner: str | None, prefix: str) -> list[nn.Module]:
    """Our modules of one place: in the cell `owner` (None: in the network itself), below `prefix`."""
    head = () if owner is None else (owner,)
    return [
        net.get_submodule(path)
        for key, path in keys.items()
        if key[:-1] == head and (key[-1] + ".").startswith(prefix + ".")
    ]


def zipped(
    theirs: Sequence[nn.Module], ours: Sequence[nn.Module], place: str
) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of one kind. Raises ValueError where the two differ in structure."""
    kinds = [type(m).__name__ for m in theirs], [type(m).__name__ for m in ours]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{place}: the original has {kinds[0]}, ours {kinds[1]}")
    return list(zip(theirs, ours, strict=True))


def cell_names(keys: Keys) -> list[str]:
    """Our cells, in the order of the network."""
    return list(dict.fromkeys(key[0] for key in keys if len(key) > 1))


def source_name(index: int) -> str:
    """Input `index` of a DARTS node in our names: the two cell inputs, then earlier nodes."""
    return ("a", "b")[index] if index < 2 else f"n{index - 1}"


def frame(theirs: nn.Module, ours: nn.Module, keys: Keys) -> list[tuple[nn.Module, nn.Module]]:
    """Stem, classifier and the preprocessing of every DARTS cell."""
    found = zipped(leaves(theirs.get_submodule("stem")), under(keys, ours, None, "stem"), "stem")
    found += zipped([theirs.get_submodule("classifier")], under(keys, ours, None, "head"), "head")
    for index, cell in enumerate(cell_names(keys)):
        for part, name in (("preprocess0", "a"), ("preprocess1", "b")):
            place = f"cells.{index}.{part}"
            found += zipped(leaves(theirs.get_submodule(place)), under(keys, ours, cell, name), place)
    return found


def darts_supernet(reference: Darts, channels: int, layers: int) -> Pair:
    """Our `darts` supernet of `spaces/darts.nas` and `model_search.Network`."""
    space = nasdsl.load("darts", C=channels, layers=layers)
    program = space.compile(method="darts", settings={"pool_norm": True, "none": True})
    ours, theirs = program.supernet(seed=0), reference.supernet(channels, 10, layers)
    keys = module_paths(program.compilation.lowered)
    modules = frame(theirs, ours, keys)
    for index, cell in enumerate(cell_names(keys)):
        edge = 0
        for node in range(1, 5):
            for source in range(node + 1):
                for option, name in enumerate(reference.search.PRIMITIVES):
                    place = f"cells.{index}._ops.{edge}._ops.{option}"
                    mine = under(keys, ours, cell, f"n{node}.{source_name(source)}.{name}")
                    modules += zipped(leaves(theirs.get_submodule(place)), mine, place)
                edge += 1
    given = dict(ours.variables.named_parameters())
    variables = ((theirs.alphas_normal, given["normal.op"]), (theirs.alphas_reduce, given["reduce.op"]))
    name = f"DARTS supernet, C={channels}, {layers} cells"
    return Pair(name, theirs, ours, tuple(modules), variables, lambda out: out)  # type: ignore[arg-type, return-value]


def darts_network(reference: Darts, channels: int, layers: int, genotype: str) -> Pair:
    """Our retrain form of a published genotype and `model.NetworkCIFAR`."""
    space = nasdsl.load("darts", C=channels, layers=layers)
    published = getattr(reference.genotypes, genotype)
    arch = space.parse(str(published))
    ours = space.compile(method="darts").network(arch, seed=0)
    theirs = reference.network(channels, 10, layers, genotype)
    keys = network_source(space.checked, arch)[1]
    modules = frame(theirs, ours, keys)
    for index, cell in enumerate(cell_names(keys)):
        edges = published.reduce if index in (layers // 3, 2 * layers // 3) else published.normal
        for edge, (name, source) in enumerate(edges):
            place = f"cells.{index}._ops.{edge}"
            mine = under(keys, ours, cell, f"n{edge // 2 + 1}.{source_name(source)}.{name}")
            modules += zipped(leaves(theirs.get_submodule(place)), mine, place)
    name = f"{genotype} retrain form, C={channels}, {layers} cells"
    return Pair(name, theirs, ours, tuple(modules), (), lambda out: out[0])  # type: ignore[index]


def nasbench201_supernet(reference: NasBench201, channels: int, cells: int) -> Pair:
    """Our `darts` supernet of `spaces/nasbench201.nas` and `TinyNetworkDarts`."""
    space = nasdsl.load("nasbench201", C=channels, N=cells)
    program = space.compile(method="darts", settings={"pool_norm": False, "conv_bias": True})
    ours, theirs = program.supernet(seed=0), reference.supernet(channels, cells, 10)
    keys = module_paths(program.compilation.lowered)
    modules = zipped(leaves(theirs.get_submodule("stem")), under(keys, ours, None, "stem"), "stem")
    last = [*leaves(theirs.get_submodule("lastact")), theirs.get_submodule("classifier")]
    modules += zipped(last, under(keys, ours, None, "head"), "head")
    names = cell_names(keys)
    order = [*names[:cells], "down1", *names[cells : 2 * cells], "down2", *names[2 * cells :]]
    for index, name in enumerate(order):
        if name.startswith("down"):
            place = f"cells.{index}"
            modules += zipped(leaves(theirs.get_submodule(place)), under(keys, ours, None, name), place)
            continue
        for node in range(1, 4):
            for source in range(node):
                for option, op in enumerate(reference.options):
                    place = f"cells.{index}.edges.{node}<-{source}.{option}"
                    start = "x" if source == 0 else f"n{source}"
                    mine = under(keys, ours, name, f"n{node}.{start}.{op}")
                    modules += zipped(leaves(theirs.get_submodule(place)), mine, place)
    variables = ((theirs.arch_parameters, ours.variables.get_parameter("infer.op")),)
    label = f"NAS-Bench-201 supernet, C={channels}, N={cells}"
    return Pair(label, theirs, ours, tuple(modules), variables, lambda out: out[1])  # type: ignore[arg-type, index]


# --- comparing ---------------------------------------------------------------


def prepare(pair: Pair, seed: int) -> Pair:
    """Both in float64, every weight of the original replaced by a random one and copied to ours.

    Raises:
        ValueError: a parameter of either network is in no pair.
    """
    generator = torch.Generator().manual_seed(seed)
    pair.theirs.double()
    pair.ours.double()
    variables = []
    with torch.no_grad():
        for theirs, ours in pair.variables:
            theirs.data = torch.randn(theirs.shape, generator=generator, dtype=torch.float64)
            ours.copy_(theirs)
            variables.append((theirs, ours))
        for theirs_module, ours_module in pair.modules:
            for name, value in theirs_module.named_parameters(recurse=False):
                if value.dim() == 1:  # ones and zeros would hide a scale or a bias that is not used
                    value.add_(0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
                ours_module.get_parameter(name).copy_(value)
    for side, net in ((0, pair.theirs), (1, pair.ours)):
        met = {id(p) for m in pair.modules for p in m[side].parameters()} | {id(v[side]) for v in variables}
        missed = [name for name, p in net.named_parameters() if id(p) not in met]
        if missed:
            raise ValueError(f"{pair.name}: not compared: {missed[:5]}")
    return pair


def differ(pair: Pair, mode: str, quantity: str, tensors: Sequence[tuple[Tensor, Tensor]]) -> Difference:
    """The difference over pairs (theirs, ours)."""
    gaps = [float((a - b).abs().max()) for a, b in tensors]
    scales = [float(a.abs().max()) for a, _ in tensors]
    ratios = [g / s for g, s in zip(gaps, scales, strict=True) if max(g, s) > ZERO]
    zeros = len(gaps) - len(ratios)
    return Difference(
        pair.name, mode, quantity, len(gaps), zeros, max(gaps), max(ratios, default=0.0), max(scales)
    )


def compare(pair: Pair, mode: str, batch: int, device: str, seed: int) -> list[Difference]:
    """Forward and backward of both on one batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, 3, 32, 32), generator=generator, dtype=torch.float64).to(device)
    y = torch.randint(10, (batch,), generator=generator).to(device)
    inputs, logits, losses = [], [], []
    for net, read in ((pair.theirs, pair.logits), (pair.ours, lambda out: out)):
        net.train(mode == "train").zero_grad(set_to_none=True)
        inputs.append(x.clone().requires_grad_())
        logits.append(read(net(inputs[-1])))
        losses.append(F.cross_entropy(logits[-1], y))
    for variable in (v for both in pair.variables for v in both):
        variable.grad = None  # the original's variables are no parameters of its module
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    weights = [
        (grad(value), grad(ours.get_parameter(name)))
        for theirs, ours in pair.modules
        for name, value in theirs.named_parameters(recurse=False)
    ]
    buffers = [
        (value.double(), ours.get_buffer(name).double())
        for theirs, ours in pair.modules
        for name, value in theirs.named_buffers(recurse=False)
    ]
    found = [
        differ(pair, mode, "logits", [(logits[0].detach(), logits[1].detach())]),
        differ(pair, mode, "loss", [(losses[0].detach(), losses[1].detach())]),
        differ(pair, mode, "input gradient", [(grad(inputs[0]), grad(inputs[1]))]),
        differ(pair, mode, "weight gradients", weights),
    ]
    if pair.variables:
        both = [(grad(a), grad(b)) for a, b in pair.variables]
        found.append(differ(pair, mode, "architecture gradients", both))
    if mode == "train":
        found.append(differ(pair, mode, "running statistics", buffers))
    return found


def grad(tensor: Tensor) -> Tensor:
    """Its gradient; zeros where nothing depends on it."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def measure(pair: Pair, batch: int, device: str, seed: int) -> list[Difference]:
    """Train mode, then evaluation mode with the running statistics that the training pass left."""
    prepare(pair, seed)
    pair.theirs.to(device)
    pair.ours.to(device)
    for theirs, ours in pair.variables:  # plain tensors of the original do not move with its module
        theirs.data = ours.data.clone()
    found = compare(pair, "train", batch, device, seed + 1)
    settle(pair, device, seed + 2)
    return found + compare(pair, "eval", batch, device, seed + 1)


def settle(pair: Pair, device: str, seed: int) -> None:
    """Running statistics of both become those of one batch; with fresh ones the signal fades in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((8, 3, 32, 32), generator=generator, dtype=torch.float64).to(device)
    for net in (pair.theirs, pair.ours):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            net.train()(x)


def row(d: Difference) -> tuple[str, ...]:
    """A line of the table."""
    counts = (str(d.tensors), str(d.zeros))
    figures = (f"{d.scale:.1e}", f"{d.absolute:.1e}", f"{d.relative:.1e}")
    return (d.network, d.mode, d.quantity, *counts, *figures, "yes" if d.holds else "NO")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--darts", type=Path, help="checkout of quark0/darts")
    parser.add_argument("--nasbench201", type=Path, help="checkout of D-X-Y/AutoDL-Projects")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the raw figures go")
    arguments = parser.parse_args()
    if arguments.darts is None and arguments.nasbench201 is None:
        parser.error("give at least one of --darts and --nasbench201")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    makers: list[Callable[[], Pair]] = []
    digests = {}
    if arguments.darts is not None:
        darts = Darts(arguments.darts)
        digests["quark0/darts"] = darts.digest
        makers.append(lambda: darts_supernet(darts, 16, 8))
        makers.append(lambda: darts_network(darts, 36, 20, "DARTS_V2"))
    if arguments.nasbench201 is not None:
        bench = NasBench201(arguments.nasbench201)
        digests["D-X-Y/AutoDL-Projects"] = bench.digest
        makers.append(lambda: nasbench201_supernet(bench, 16, 5))
    found: list[Difference] = []
    for make in makers:
        pair = make()
        print(f"{pair.name}: {len(pair.modules)} modules matched", flush=True)
        found += measure(pair, arguments.batch, arguments.device, arguments.seed)
    print(table(HEADER, [row(d) for d in found]))
    write_json(
        arguments.json,
        {
            "benchmark": "reference_equivalence",
            "bound": BOUND,
            "dtype": "float64",
            "arguments": {"batch": arguments.batch, "seed": arguments.seed},
            "reference_sources_sha256": digests,
            "surroundings": surroundings(arguments.device),
            "differences": [{**attrs.asdict(d), "holds": d.holds} for d in found],
        },
    )
    return 0 if all(d.holds for d in found) else 1


if __name__ == "__main__":
    sys.exit(main())
