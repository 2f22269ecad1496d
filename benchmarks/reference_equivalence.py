"""Our networks against the original authors' code: the same weights in, the same numbers out.

    python benchmarks/reference_equivalence.py --darts DIR --nasbench201 DIR --pcdarts DIR

Takes checkouts of quark0/darts, D-X-Y/AutoDL-Projects and yuhuixu1993/PC-DARTS. Copies every weight and
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
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
import torch.nn.functional as F
from matching import (
    Joined,
    Pair,
    darts_network,
    darts_supernet,
    gdas_supernet,
    nasbench201_network,
    nasbench201_supernet,
    pcdarts_supernet,
    tensors,
)
from references import Darts, NasBench201, PcDarts
from report import surroundings, table, write_json
from torch import Tensor, nn

BOUND = 1e-9
ZERO = 1e-12
"""A tensor below this everywhere, in both networks, is rounding and nothing else."""
RESULTS = Path(__file__).parent / "results" / "reference_equivalence.json"
HEADER = (
    "network", "mode", "quantity", "tensors", "zeros", "largest", "max abs", "max rel", f"<= {BOUND:g}",
)  # fmt: skip
ARCHITECTURE = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
"""Every option once at least, and no operation that the output does not depend on."""


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


def prepare(pair: Pair, seed: int) -> Pair:
    """Both in float64, every weight of the original replaced by a random one and copied to ours.

    Raises:
        ValueError: a parameter of either network, or a part of one, is in no pair or in two.
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
    matched: Counter[int] = Counter()
    for theirs_module, part in pair.modules:
        for name, value in theirs_module.named_parameters(recurse=False):
            matched[id(value)] += value.numel()
            matched[id(part.module.get_parameter(name))] += part.get_parameter(name).numel()
    for value in (t for both in variables for v in both for t in tensors(v)):
        matched[id(value)] += value.numel()
    for net in (pair.theirs, pair.ours):
        missed = [n for n, p in net.named_parameters() if matched[id(p)] != p.numel()]
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
        torch.manual_seed(seed)  # what is drawn is drawn alike
        inputs.append(x.clone().requires_grad_())
        logits.append(read(net(inputs[-1])))
        losses.append(F.cross_entropy(logits[-1], y))
    for variable in (v for both in pair.variables for v in both):
        variable.grad = None  # the original's variables are no parameters of its module
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    weights = [
        (grad(value), zeros_for_none(ours.get_gradient(name), value))
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
        both = [(grad(a), b.grad if isinstance(b, Joined) else grad(b)) for a, b in pair.variables]
        found.append(differ(pair, mode, "architecture gradients", both))
    if mode == "train":
        found.append(differ(pair, mode, "running statistics", buffers))
    return found


def grad(tensor: Tensor) -> Tensor:
    """Its gradient; zeros where nothing depends on it."""
    return zeros_for_none(tensor.grad, tensor)


def zeros_for_none(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def measure(pair: Pair, batch: int, device: str, seed: int) -> list[Difference]:
    """Train mode, then evaluation mode with the running statistics that the training pass left."""
    prepare(pair, seed)
    pair.theirs.to(device)
    pair.ours.to(device)
    for theirs, ours in pair.variables:  # plain tensors of the original do not move with its module
        theirs.data = ours.data.clone()
    found = compare(pair, "train", batch, device, seed + 1)
    if "eval" not in pair.modes:
        return found
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
    parser.add_argument("--pcdarts", type=Path, help="checkout of yuhuixu1993/PC-DARTS")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the raw figures go")
    arguments = parser.parse_args()
    if arguments.darts is None and arguments.nasbench201 is None and arguments.pcdarts is None:
        parser.error("give at least one of --darts, --nasbench201 and --pcdarts")
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
        makers.append(lambda: nasbench201_network(bench, 16, 5, ARCHITECTURE))
        makers.append(lambda: gdas_supernet(bench, 16, 5))
    if arguments.pcdarts is not None:
        partial = PcDarts(arguments.pcdarts)
        digests["yuhuixu1993/PC-DARTS"] = partial.digest
        makers.append(lambda: pcdarts_supernet(partial, 16, 8))
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
