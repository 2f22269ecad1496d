"""The smallest supernet of single paths, its engine, and batches for it, in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import nasdsl
from nasdsl import Program, Space
from nasdsl.runtime.paths.board import Board, Entry
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.engine import PathEngine
from nasdsl.runtime.paths.sampling import Draw
from nasdsl.runtime.paths.supernet import PathSupernet

SPACE = """
space small {
  input image(1, 6, 6)
  network {
    stem: conv(3, 4) >> bn
    body: repeat 3 { choose { skip: id, conv: relu >> conv(3, 4) >> bn, wide: relu >> conv(5, 4) >> bn } }
    head: global_pool >> linear(5)
  }
}
"""
CLASSES = 5
IMAGES = 3
"""Of an entry of the board."""
FIRST = {"body[1].op": "conv", "body[2].op": "wide", "body[3].op": "skip"}
SECOND = {"body[1].op": "wide", "body[2].op": "skip", "body[3].op": "conv"}
OTHER = {"body[1].op": "wide", "body[2].op": "wide", "body[3].op": "wide"}
OFTEN: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 8,
    "weight_lr": 0.1,
    "board_size": 3,
    "board_images": IMAGES,
    "meta_start": 1,
    "meta_interval": 2,
    "meta_lr": 0.1,
}
"""Settings under which a few steps meet everything."""


@cache
def space() -> Space:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "small.nas"
        path.write_text(SPACE)
        return nasdsl.load(path)


@cache
def program(method: str) -> Program:
    return space().compile(method)


def supernet(seed: int = 0) -> PathSupernet:
    net = program("cream").supernet(seed=seed).double()
    assert isinstance(net, PathSupernet)
    return net


def settings_of(method: str, **changes: Any) -> dict[str, Any]:
    found = program(method).compilation.settings
    preset = program(method).compilation.method.variants.get(str(changes.pop("preset", "")), {})
    return {**found, **preset, **OFTEN, **changes}


def cost(path: Mapping[str, Any]) -> int:
    return space().costs("macs").at(path)


def drawn(net: PathSupernet, seed: int = 0) -> Draw:
    return Draw(net.DECISIONS, seed, cost)


def built(method: str, seed: int = 0, **changes: Any) -> tuple[PathSupernet, PathEngine]:
    """A supernet and its engine at the beginning of epoch 0."""
    torch.manual_seed(seed)
    net = supernet(seed)
    engine = PathEngine(net, settings_of(method, **changes), drawn(net, seed), CLASSES)
    engine.begin(0)
    return net, engine


def batch(number: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(size, 1, 6, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (size,), generator=generator)


def entry(number: int, path: Choices, accuracy: float = 50.0) -> Entry:
    """What a path could have left on the board."""
    x, _ = batch(100 + number, IMAGES)
    generator = torch.Generator().manual_seed(number)
    known = torch.randn(IMAGES, CLASSES, generator=generator, dtype=torch.float64).softmax(1)
    return Entry(accuracy, cost(path), number, dict(path), x, known)


def fill(board: Board) -> None:
    """Three entries, the best one not the first to have come, none of them `FIRST` or `OTHER`."""
    third = {"body[1].op": "skip", "body[2].op": "conv", "body[3].op": "wide"}
    fourth = {"body[1].op": "conv", "body[2].op": "conv", "body[3].op": "wide"}
    for number, (path, accuracy) in enumerate(((SECOND, 40.0), (third, 60.0), (fourth, 50.0))):
        board.offer(entry(number, path, accuracy))


def epoch_of(engine: PathEngine, epoch: int, steps: int = 3, start: int = 0) -> list[Tensor]:
    engine.begin(epoch)
    return [engine.step(batch(epoch * 10 + i), i / steps) for i in range(start, steps)]


def values(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def used(net: PathSupernet, path: Mapping[str, Any]) -> set[str]:
    """Names of the weights that a path runs, from the text of the choices alone."""
    parts = {f"body{i}_{path[f'body[{i}].op']}" for i in (1, 2, 3)} | {"stem", "head"}
    return {name for name, _ in net.named_parameters() if name.split(".")[0] in parts}
