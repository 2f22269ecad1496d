"""Small compiled supernets, random batches, and the loop of a search script without its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

import nasdsl
from nasdsl import Program, Space
from nasdsl.runtime.search.engine import Engine
from nasdsl.runtime.supernet import SupernetBase

SMALLEST: dict[str, dict[str, object]] = {
    "nasbench201": {"N": 1, "C": 4, "resolution": 4},
    "darts": {"layers": 3, "C": 2, "resolution": 8},
}
STEPS = 3
"""Of the weights, in an epoch."""


@cache
def space(name: str) -> Space:
    return nasdsl.load(name, **SMALLEST[name])


@cache
def _program(name: str, method: str, settings: tuple[tuple[str, object], ...]) -> Program:
    return space(name).compile(method, settings=dict(settings))


def program(name: str, method: str, **settings: object) -> Program:
    return _program(name, method, tuple(sorted(settings.items())))


def supernet(made: Program, seed: int = 0) -> SupernetBase:
    """In float64, its variables away from each other, inside the bounds of the clipped activation."""
    net = made.supernet(seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for variable in net.architecture_parameters():
            if net.ACTIVATION == "clipped":
                variable.copy_(0.1 + 0.8 * torch.rand(variable.shape, generator=generator))
            else:
                variable.copy_(torch.randn(variable.shape, generator=generator))
    return net


def images(number: int, name: str = "nasbench201", size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    shape = space(name).checked.input.evaluate({})
    x = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (size,), generator=generator)


def search(
    engine: Engine,
    numbers: Iterable[int],
    batch: Callable[[int], tuple[Tensor, Tensor]] = images,
    measure: bool = True,
) -> list[Any]:
    """The iterations of these numbers, as a script takes them; everything that was returned."""
    seen: list[Any] = []
    for number in numbers:
        epoch, step = divmod(number, STEPS)
        if step == 0 or not seen:
            engine.begin(epoch)
        train, valid = batch(2 * number), batch(2 * number + 1)
        for turn in engine.turns(step / STEPS):
            if turn == "weights":
                seen.append((turn, engine.weight_step(train)))
            elif turn == "variables":
                seen.append((turn, engine.variable_step(valid, train)))
            else:
                seen.append((turn, engine.joint_step(train)))
        engine.settle()
        if step == STEPS - 1 and measure:
            seen.append(("measured", engine.measure([valid])))
    return seen


def same(one: Any, two: Any) -> bool:
    """Equal to the last bit, whatever is inside what."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(v, two[k]) for k, v in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)
