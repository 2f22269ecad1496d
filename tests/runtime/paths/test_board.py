"""The prioritised board, by its laws: under any offers it keeps its order and never gets worse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.runtime.paths.board import Board, Entry
from nasdsl.runtime.paths.choices import key_of
from tests.runtime.steps import same

Offer = tuple[float, int, int]
"""Accuracy, cost, path."""
# Few values, so that ties of every kind are the rule.
OFFERS = st.lists(
    st.tuples(st.sampled_from([0.0, 12.5, 25.0, 30.0, 50.0, 75.0]), st.integers(1, 4), st.integers(0, 9)),
    max_size=40,
)


def made(number: int, offer: Offer) -> Entry:
    accuracy, cost, path = offer
    x = torch.full((2, 1, 2, 2), float(number))
    return Entry(accuracy, cost, number, {"a": str(path)}, x, torch.full((2, 3), float(number)))


@given(OFFERS, st.integers(1, 6), st.sampled_from([0.0, 5.0, 25.0]), st.booleans())
def test_it_is_small_and_sorted_and_its_worst_never_falls(
    offers: list[Offer], size: int, margin: float, repeats: bool
) -> None:
    board = Board(size, margin, repeats)
    worst = None
    for number, offer in enumerate(offers):
        taken = board.offer(made(number, offer))
        assert taken == (number in {e.number for e in board.entries})
        assert len(board) <= size
        ranks = [(-e.accuracy, e.cost, e.number) for e in board.entries]
        assert ranks == sorted(ranks)
        assert repeats or len({key_of(e.choices) for e in board.entries}) == len(board)
        if worst is not None:
            assert board.full
            assert board.entries[-1].accuracy >= worst
        worst = board.entries[-1].accuracy if board.full else None
        best = max(o[0] for o in offers[: number + 1])
        # The best accuracy of all is lost where it comes dear and late, and only then.
        assert board.entries[0].accuracy >= best - margin


@given(OFFERS, st.integers(1, 4), st.sampled_from([0.0, 5.0]))
def test_with_repeats_it_is_the_released_rule(offers: list[Offer], size: int, margin: float) -> None:
    """That rule on plain lists, where no tie lets it compare tensors."""
    distinct = list({(a, c): (a, c, p) for a, c, p in offers}.values())
    board = Board(size, margin, repeats=True)
    theirs: list[tuple[float, int]] = []
    for number, (accuracy, cost, path) in enumerate(distinct):
        board.offer(made(number, (accuracy, cost, path)))
        last = theirs[-1] if theirs else (0.0, 0)
        if len(theirs) < size or accuracy > last[0] + margin or (accuracy > last[0] and cost < last[1]):
            # Ours differs in one thing: of equal accuracy the cheaper is the better one.
            theirs = sorted([*theirs, (accuracy, cost)], key=lambda e: (-e[0], e[1]))[:size]
    assert [(e.accuracy, e.cost) for e in board.entries] == theirs


@given(st.floats(0, 95), st.integers(1, 10**9), st.floats(0, 5), st.integers(0, 10**9))
def test_a_dearer_path_needs_the_margin(accuracy: float, cost: int, gain: float, more: int) -> None:
    board = Board(1, 5.0)
    board.offer(made(0, (accuracy, cost, 0)))
    if accuracy + gain <= accuracy + 5.0:
        assert not board.offer(made(1, (accuracy + gain, cost + more, 1)))
        assert board.entries[0].number == 0
    assert not board.admits(accuracy, cost - 1)  # as good is not better, however cheap
    if accuracy + gain > accuracy:
        assert board.offer(made(2, (accuracy + gain, cost - 1, 2)))


def test_the_margin_itself_is_not_enough() -> None:
    board = Board(1, 5.0)
    board.offer(made(0, (50.0, 10, 0)))
    assert not board.admits(55.0, 10)
    assert board.admits(55.1, 10)
    assert board.admits(50.1, 9)
    assert not board.admits(50.1, 10)


@pytest.mark.parametrize("repeats", [False, True])
def test_ties_never_compare_tensors(repeats: bool) -> None:
    """The released code sorts tuples whose last members are tensors: equal accuracy and cost raise there."""
    board = Board(3, 5.0, repeats)
    for path in range(6):
        board.offer(made(0, (50.0, 10, path)))
    assert [e.choices["a"] for e in board.entries] == ["0", "1", "2"]


def test_a_path_stands_there_once_and_with_its_best() -> None:
    board = Board(2, 5.0)
    assert board.offer(made(0, (50.0, 10, 7)))
    assert not board.offer(made(1, (50.0, 10, 7)))
    assert board.offer(made(2, (51.0, 10, 7)))
    assert [(e.number, e.accuracy) for e in board.entries] == [(2, 51.0)]
    again = Board(2, 5.0, repeats=True)
    for number in range(3):
        again.offer(made(number, (50.0 + number, 10, 7)))
    assert [e.number for e in again.entries] == [1, 0]


@given(OFFERS)
def test_it_continues_from_its_state(offers: list[Offer]) -> None:
    board, other = Board(4, 5.0), Board(4, 5.0)
    half = len(offers) // 2
    for number, offer in enumerate(offers[:half]):
        board.offer(made(number, offer))
    other.load_state_dict(board.state_dict())
    other.to(torch.device("cpu"))
    for number, offer in enumerate(offers[half:], half):
        assert board.offer(made(number, offer)) == other.offer(made(number, offer))
    assert same(board.state_dict(), other.state_dict())
    assert board.record() == other.record()
