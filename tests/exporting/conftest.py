"""A space whose networks are exported within a moment, and one of them."""

from __future__ import annotations

import pytest

import nasdsl
from nasdsl import Architecture, Space


@pytest.fixture(scope="module")
def space() -> Space:
    return nasdsl.load("residual_mlp", features=8, classes=3)


@pytest.fixture(scope="module")
def arch(space: Space) -> Architecture:
    return space.sample(1, seed=0)[0]
