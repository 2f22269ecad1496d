"""Two supernets of one space with the same weights and variables, and everything a step makes of them.

Takes programs and nets, returns tensors by name. Invariant: the second net knows nothing that it
was not given by the first, so what agrees was carried over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl import Program, Space
from nasdsl.codegen.load import inherit_weights
from nasdsl.codegen.lowered import Home, module_paths
from nasdsl.runtime.supernet import SupernetBase
from tests.laws.common import batch, running_statistics, weight_gradients

EXACT = ("fold", "share", "normalise", "accumulate", "fan")
PLAIN = "-simplify,-tie"
"""What changes what is learned, left out."""
SIMPLE = "+simplify"
BOUND = 1e-9
ZERO = 1e-13
"""Of the largest tensor of its kind: what is below that in both is rounding and nothing else."""


def only(*names: str, base: str = PLAIN) -> str:
    """The changes to a pipeline that leave these exact passes, and what `base` says of the others."""
    return ",".join((base, *(f"-{name}" for name in EXACT if name not in names)))


@attrs.frozen(eq=False)
class Twin:
    """A supernet, where its weights live, and its program."""

    program: Program
    net: SupernetBase

    @property
    def homes(self) -> Mapping[tuple[str, ...], Home]:
        return module_paths(self.program.compilation.lowered)


def first(program: Program, seed: int = 0) -> Twin:
    """A supernet away from every special point: no scale is one, no statistics are fresh, no variables alike."""
    net = program.supernet(seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    variables = {id(p) for p in net.architecture_parameters()}
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if id(parameter) in variables:
                parameter.copy_(noise)
            elif parameter.dim() == 1:
                parameter.add_(0.2 * noise)
        for name, value in net.named_buffers():
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_mean"):
                value.copy_(noise - 0.5)
            elif name.endswith("running_var"):
                value.copy_(noise + 0.5)
    net.prune()
    return Twin(program, net)


def second(program: Program, like: Twin, as_used: bool = False) -> Twin:
    """Another form of the same supernet; a weight that was not carried over would be no number.

    Filters that are normalised before they are blended are carried over as they are, or as they are used.
    """
    net = program.supernet(seed=1).double()
    twin = Twin(program, net)
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            if value.is_floating_point() and not _constant(net, value):
                value.fill_(float("nan"))
        inherit_weights(net, _raw(twin.homes), like.net, like.homes if as_used else _raw(like.homes))
        given = dict(like.net.variables.named_parameters())
        for name, variable in net.variables.named_parameters():
            variable.copy_(given.pop(name))
    assert not given
    net.prune()  # of the same variables, so the same entries
    missed = [n for n, v in net.state_dict().items() if not v.isfinite().all()]
    assert not missed, f"not carried over: {missed[:5]}"
    return twin


def _raw(homes: Mapping[tuple[str, ...], Home]) -> dict[tuple[str, ...], Home]:
    return {key: attrs.evolve(home, normalise="") for key, home in homes.items()}


def _constant(net: SupernetBase, value: Tensor) -> bool:
    """Incidence matrices of variables: part of the function, not of the state."""
    return any(value is buffer for buffer in net.variables.buffers())


def observed(twin: Twin, space: Space, training: bool, size: int = 2, seed: int = 7) -> dict[str, Mapping]:
    """Everything a step makes: by kind, then by name. Activations that are drawn draw alike under one seed."""
    net = twin.net
    torch.manual_seed(seed)
    net.train(training).zero_grad(set_to_none=True)
    x = batch(space, size, seed).double().requires_grad_()
    y = torch.randint(10, (size,), generator=torch.Generator().manual_seed(seed))
    out = net(x)
    loss = F.cross_entropy(out, y)
    loss.backward()
    return {
        "output": {"": out.detach()},
        "loss": {"": loss.detach()},
        "input": {"": x.grad},
        "variables": {n: p.grad for n, p in net.variables.named_parameters() if p.grad is not None},
        "weights": weight_gradients(net, twin.homes),
        "statistics": {k: v.double().clone() for k, v in running_statistics(net, twin.homes).items()},
    }


def differences(one: Mapping[str, Mapping], other: Mapping[str, Mapping]) -> list[str]:
    """What differs by more than the bound, relative to the largest element of each tensor."""
    found = []
    for kind, mine in one.items():
        theirs = other[kind]
        if mine.keys() != theirs.keys():
            found.append(f"{kind}: only in one: {sorted(map(str, mine.keys() ^ theirs.keys()))[:4]}")
            continue
        zero = ZERO * max((float(t.abs().max()) for t in mine.values()), default=0.0)
        for name, a in mine.items():
            gap, scale = float((a - theirs[name]).abs().max()), float(a.abs().max())
            if not gap <= max(BOUND * scale, zero):  # a comparison with NaN fails
                found.append(f"{kind} {name}: {gap:.1e} at scale {scale:.1e}")
    return found


def compare(
    space: Space,
    method: str,
    forms: Sequence[Sequence[str]],
    settings: Mapping[str, object] | None = None,
    base: str = PLAIN,
) -> None:
    """Every form, some of the exact passes, against the supernet without any.

    All start from what the shortest form holds: statistics that it shares were equal at the start.
    """
    given = first(space.compile(method, settings=settings, passes=only(*EXACT, base=base)))
    plain = second(space.compile(method, settings=settings, passes=only(base=base)), given)
    start = {n: v.clone() for n, v in plain.net.state_dict().items()}
    wanted = {}
    for training in (True, False):
        plain.net.load_state_dict(start)
        wanted[training] = observed(plain, space, training)
    for form in forms:
        program = space.compile(method, settings=settings, passes=only(*form, base=base))
        twin = second(program, given)
        begin = {n: v.clone() for n, v in twin.net.state_dict().items()}
        for training in (True, False):
            twin.net.load_state_dict(begin)
            gaps = differences(wanted[training], observed(twin, space, training))
            assert not gaps, f"{method} {form} training={training}: {len(gaps)} differ: {gaps[:6]}"
