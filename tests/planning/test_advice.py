"""What is said where memory runs out: nothing that the script would refuse, and of the run as it was run."""

from __future__ import annotations

import re

import pytest

import nasdsl
from nasdsl import Space
from nasdsl.api import Program

TEXT = """
space small {
  input image(3, 32, 32)
  network {
    stem: conv(3, 8) >> bn
    body: choose { a: relu >> conv(3, 8) >> bn, b: relu >> conv(5, 8) >> bn }
    head: global_pool >> linear(10)
  }
}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("advice") / "small.nas"
    path.write_text(TEXT)
    return nasdsl.load(path)


def program(space: Space, method: str = "darts", **settings: object) -> Program:
    return space.compile(method, settings=settings)


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "offered"),
    [(64, 1, 1, ["2", "4"]), (3, 1, 1, ["2"]), (64, 4, 1, ["8", "16"]), (6, 2, 1, ["4"]), (6, 1, 2, ["2"])],
)
def test_a_batch_is_split_into_no_more_parts_than_it_has_examples(
    space: Space, batch: int, accumulate: int, processes: int, offered: list[str]
) -> None:
    advice = program(space, batch_size=batch, accumulate=accumulate).memory_advice(processes=processes)
    assert re.findall(r"--set accumulate=(\d+)", advice) == offered
    for size in map(int, re.findall(r"--set batch_size=(\d+)", advice)):
        assert size >= max(processes, accumulate)


def test_a_run_in_bf16_is_not_told_to_be_one(space: Space) -> None:
    assert "--precision bf16" in program(space).memory_advice()
    advice = program(space).memory_advice(precision="bf16")
    assert "--precision bf16" not in advice
    assert "bf16 takes about half" in advice.splitlines()[0]


@pytest.mark.parametrize("method", ["darts", "spos"])
def test_processes_divide_a_batch(space: Space, method: str) -> None:
    whole, half = program(space, method, batch_size=128), program(space, method, batch_size=64)
    first = whole.memory_advice(processes=2).splitlines()[0]
    assert "on each of 2 processes" in first
    figure = re.search(r"predicts (\S+ \S+)", half.memory_advice())
    assert figure is not None
    assert figure[1] in first


def test_channels_that_are_partial_already_are_known(space: Space) -> None:
    assert "partial_channels above 4" in program(space, "pcdarts").memory_advice()
    assert "partial_channels above" not in program(space).memory_advice()
