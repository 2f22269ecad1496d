"""Which module of the original authors' network is which of ours.

Takes original networks, builds ours, returns pairs. Matches by place: cell, edge,
option and position inside the option; names of attributes are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Union

import attrs
import torch
from references import Darts, NasBench201, PcDarts
from torch import Tensor, nn

import nasdsl
from nasdsl.codegen.load import part_of
from nasdsl.codegen.lowered import Home, module_paths
from nasdsl.compiler import network_source

Keys = dict[tuple[str, ...], Home]


@attrs.frozen
class Part:
    """A module of ours, or the part of its tensors that stands for one module of the original."""

    module: nn.Module
    home: Home

    def get_parameter(self, name: str) -> Tensor:
        return part_of(self.module.get_parameter(name), self.home)

    def get_gradient(self, name: str) -> Tensor | None:
        found = self.module.get_parameter(name).grad
        return None if found is None else part_of(found, self.home)

    def get_buffer(self, name: str) -> Tensor:
        return part_of(self.module.get_buffer(name), self.home)

    @property
    def kind(self) -> str:
        """Ours under the name of the module of PyTorch that it computes."""
        plain = (k for k in (nn.Conv2d, nn.BatchNorm2d, nn.Linear) if isinstance(self.module, k))
        return next((k.__name__ for k in plain), type(self.module).__name__)


Match = tuple[nn.Module, Part]
"""A module of the original, and what of ours holds the same weights."""


@attrs.define(eq=False)
class Joined:
    """Several vectors of ours that are one vector of the original."""

    members: tuple[Tensor, ...]

    @property
    def data(self) -> Tensor:
        return torch.cat([m.data for m in self.members])

    @property
    def grad(self) -> Tensor:
        return torch.cat([torch.zeros_like(m) if m.grad is None else m.grad for m in self.members])

    @grad.setter
    def grad(self, value: None) -> None:
        for member in self.members:
            member.grad = value

    def copy_(self, value: Tensor) -> None:
        for member, part in zip(
            self.members, torch.split(value, [m.numel() for m in self.members]), strict=True
        ):
            member.copy_(part)


Variable = Union[Tensor, Joined]


def tensors(variable: Variable) -> Iterator[Tensor]:
    """The tensors that a variable is made of."""
    yield from variable.members if isinstance(variable, Joined) else (variable,)


@attrs.frozen
class Pair:
    """Two networks and what of one is what of the other.

    Attributes:
        modules: leaf modules of the original, and what of ours holds the same weights.
        variables: pairs of architecture variables of one shape.
        logits: what of the original's output are the logits.
        modes: in which both are the same function; one that draws is in training, from the same seed.
    """

    name: str
    theirs: nn.Module
    ours: nn.Module
    modules: tuple[Match, ...]
    variables: tuple[tuple[Tensor, Variable], ...]
    logits: Callable[[object], Tensor]
    modes: tuple[str, ...] = ("train", "eval")


def leaves(module: nn.Module) -> list[nn.Module]:
    """The modules that hold weights or running statistics, in the order they were written."""
    return [
        m
        for m in module.modules()
        if any(True for _ in m.parameters(recurse=False)) or any(True for _ in m.buffers(recurse=False))
    ]


def under(keys: Keys, net: nn.Module, owner: str | None, prefix: str) -> list[Part]:
    """What is ours at one place: in the cell `owner` (None: in the network itself), below `prefix`."""
    head = () if owner is None else (owner,)
    return [
        Part(net.get_submodule(home.path), home)
        for key, home in keys.items()
        if key[:-1] == head and (key[-1] + ".").startswith(prefix + ".")
    ]


def zipped(theirs: Sequence[nn.Module], ours: Sequence[Part], place: str) -> list[Match]:
    """Pairs of one kind. Raises ValueError where the two differ in structure."""
    kinds = [type(m).__name__ for m in theirs], [p.kind for p in ours]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{place}: the original has {kinds[0]}, ours {kinds[1]}")
    return list(zip(theirs, ours, strict=True))


def cell_names(keys: Keys) -> list[str]:
    """Our cells, in the order of the network."""
    return list(dict.fromkeys(key[0] for key in keys if len(key) > 1))


def source_name(index: int) -> str:
    """Input `index` of a DARTS node in our names: the two cell inputs, then earlier nodes."""
    return ("a", "b")[index] if index < 2 else f"n{index - 1}"


def frame(theirs: nn.Module, ours: nn.Module, keys: Keys) -> list[Match]:
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
    modules = darts_modules(theirs, ours, keys, reference.search.PRIMITIVES)
    given = dict(ours.variables.named_parameters())
    variables = ((theirs.alphas_normal, given["normal.op"]), (theirs.alphas_reduce, given["reduce.op"]))
    name = f"DARTS supernet, C={channels}, {layers} cells"
    return Pair(name, theirs, ours, tuple(modules), variables, lambda out: out)  # type: ignore[arg-type, return-value]


def darts_modules(theirs: nn.Module, ours: nn.Module, keys: Keys, options: Sequence[str]) -> list[Match]:
    """The pairs of a DARTS supernet, whose edges hold all options."""
    modules = frame(theirs, ours, keys)
    for index, cell in enumerate(cell_names(keys)):
        edge = 0
        for node in range(1, 5):
            for source in range(node + 1):
                for option, name in enumerate(options):
                    place = f"cells.{index}._ops.{edge}._ops.{option}"
                    mine = under(keys, ours, cell, f"n{node}.{source_name(source)}.{name}")
                    modules += zipped(leaves(theirs.get_submodule(place)), mine, place)
                edge += 1
    return modules


def pcdarts_supernet(reference: PcDarts, channels: int, layers: int) -> Pair:
    """Our `pcdarts` supernet of `spaces/darts.nas` and `model_search.Network` of PC-DARTS."""
    space = nasdsl.load("darts", C=channels, layers=layers)
    program = space.compile(method="pcdarts")
    ours, theirs = program.supernet(seed=0), reference.supernet(channels, 10, layers)
    modules = darts_modules(
        theirs, ours, module_paths(program.compilation.lowered), reference.search.PRIMITIVES
    )
    given = dict(ours.variables.named_parameters())
    variables: list[tuple[Tensor, Variable]] = []
    for cell in ("normal", "reduce"):
        edges = tuple(given[f"{cell}.n{node}_inputs"] for node in range(1, 5))
        variables.append((getattr(theirs, f"alphas_{cell}"), given[f"{cell}.op"]))
        variables.append((getattr(theirs, f"betas_{cell}"), Joined(edges)))
    name = f"PC-DARTS supernet, C={channels}, {layers} cells"
    return Pair(name, theirs, ours, tuple(modules), tuple(variables), lambda out: out)  # type: ignore[arg-type, return-value]


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
    modules = nasbench201_modules(theirs, ours, keys, cells, [reference.options] * 6)
    variables = ((theirs.arch_parameters, ours.variables.get_parameter("infer.op")),)
    label = f"NAS-Bench-201 supernet, C={channels}, N={cells}"
    return Pair(label, theirs, ours, tuple(modules), variables, lambda out: out[1])  # type: ignore[arg-type, index]


def gdas_supernet(reference: NasBench201, channels: int, cells: int) -> Pair:
    """Our `gdas` supernet of `spaces/nasbench201.nas` and `TinyNetworkGDAS`, both at temperature 10."""
    space = nasdsl.load("nasbench201", C=channels, N=cells)
    program = space.compile(method="gdas", settings={"conv_bias": True})
    ours, theirs = program.supernet(seed=0), reference.gdas(channels, cells, 10)
    ours.noise_temperature = float(theirs.tau)  # type: ignore[arg-type]
    keys = module_paths(program.compilation.lowered)
    modules = nasbench201_modules(theirs, ours, keys, cells, [reference.options] * 6)
    variables = ((theirs.arch_parameters, ours.variables.get_parameter("infer.op")),)
    label = f"GDAS supernet of NAS-Bench-201, C={channels}, N={cells}"
    return Pair(label, theirs, ours, tuple(modules), variables, lambda out: out[1], ("train",))  # type: ignore[arg-type, index]


def nasbench201_modules(
    theirs: nn.Module, ours: nn.Module, keys: Keys, cells: int, options: Sequence[Sequence[str]]
) -> list[Match]:
    """The pairs of a NAS-Bench-201 network whose edges hold `options`, by edge.

    An edge of the search network is a list of operations, of the evaluation network one operation.
    """
    modules = zipped(leaves(theirs.get_submodule("stem")), under(keys, ours, None, "stem"), "stem")
    last = [*leaves(theirs.get_submodule("lastact")), theirs.get_submodule("classifier")]
    modules += zipped(last, under(keys, ours, None, "head"), "head")
    edges = [(node, source) for node in range(1, 4) for source in range(node)]
    names = cell_names(keys)
    order = [*names[:cells], "down1", *names[cells : 2 * cells], "down2", *names[2 * cells :]]
    for index, name in enumerate(order):
        cell = f"cells.{index}"
        if name.startswith("down"):
            modules += zipped(leaves(theirs.get_submodule(cell)), under(keys, ours, None, name), cell)
            continue
        for edge, (node, source) in enumerate(edges):
            for option, op in enumerate(options[edge]):
                many = len(options[edge]) > 1
                place = f"{cell}.edges.{node}<-{source}.{option}" if many else f"{cell}.layers.{edge}"
                start = f"n{source}" if source else "x"
                mine = under(keys, ours, name, f"n{node}.{start}.{op}")
                modules += zipped(leaves(theirs.get_submodule(place)), mine, place)
    return modules


def nasbench201_network(reference: NasBench201, channels: int, cells: int, architecture: str) -> Pair:
    """Our retrain form of an architecture string and `TinyNetwork`, the network of the table."""
    space = nasdsl.load("nasbench201", C=channels, N=cells)
    arch = space.parse(architecture)
    ours = space.compile(method="darts").network(arch, seed=0)
    theirs = reference.network(channels, cells, 10, architecture)
    keys = network_source(space.checked, arch)[1]
    options = [[edge.partition("~")[0]] for edge in architecture.split("|") if "~" in edge]
    modules = nasbench201_modules(theirs, ours, keys, cells, options)
    label = f"NAS-Bench-201 retrain form, C={channels}, N={cells}"
    return Pair(label, theirs, ours, tuple(modules), (), lambda out: out[1])  # type: ignore[index]
