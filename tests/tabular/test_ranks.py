"""Laws of ranks and regrets, against counting by hand; one text for an architecture."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.errors import UserError
from nasdsl.resources import shipped_spaces
from nasdsl.tabular import Keys
from nasdsl.tabular.table import better
from tests.tabular.tables import sheet, written

SPACE = nasdsl.load("nasbench201")
ARCHS = SPACE.sample(12, seed=1)
VALUES = st.one_of(
    st.none(), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
)
TABLES = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=len(ARCHS))


@given(rows=TABLES, turn=st.randoms(use_true_random=False))
def test_against_counting(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float | None, ...]], turn
) -> None:
    archs = list(ARCHS)
    turn.shuffle(archs)
    names = ("accuracy", "test_loss")
    # A column without a number is left out; a row that is always there keeps both.
    rows = [*rows[:-1], (0.5, 0.5)]
    known = {SPACE.format(a): row for a, row in zip(archs, rows, strict=False)}
    table = SPACE.table(written(tmp_path_factory.mktemp("t"), sheet(known, names)))
    assert (table.metrics, len(table), table.metric) == (names, len(rows), None)
    for column, name in enumerate(names):
        sign = -1 if name == "test_loss" else 1
        values = [row[column] for row in rows if row[column] is not None]
        best = max(values, key=lambda v: sign * v)
        for arch, row in zip(archs, rows, strict=False):
            found = table.standing(arch, name)
            value = row[column]
            assert (found.metric, found.value, found.size) == (name, value, len(values))
            assert found.better == ("lower" if sign < 0 else "higher")
            if value is None:
                assert found.rank is found.regret is None
            else:
                assert found.rank == 1 + sum(sign * v > sign * value for v in values)
                assert found.regret == abs(best - value) >= 0
                assert (found.regret == 0) == (found.rank == 1)
        assert table.best(name).value == best
        top = table.top(len(rows) + 1, name)
        assert [b.value for b in top] == sorted(values, key=lambda v: -sign * v)
        assert [b.rank for b in top] == [table.standing(SPACE.parse(b.architecture), name).rank for b in top]
        spread = table.spread(name)
        assert (spread.low, spread.high, spread.known) == (min(values), max(values), len(values))
        # Equal values stay in the order of the table.
        order = list(known)
        ties = [order.index(b.architecture) for b in top if b.rank == 1]
        assert ties == sorted(ties)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(
            (n, "lower")
            for n in ("latency", "pixel3_latency_ms", "params", "FLOPs", "top1-error", "energy_mJ")
        ),
        *((n, "lower") for n in ("cifar10/train-loss/200ep", "macs", "train-all-time")),
        *((n, "higher") for n in ("accuracy", "cifar10_test_acc_200ep", "lossless", "terror", "mAP", "x")),
    ],
)
def test_which_way_a_metric_goes(name: str, way: str) -> None:
    assert better(name) == way


def test_a_metric_has_to_be_named_where_there_are_several(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("t"), sheet({SPACE.format(ARCHS[0]): (1.0, 2.0)}, ("acc", "loss")))
    table = SPACE.table(path)
    for ask in (table.best, table.spread, lambda: table.standing(ARCHS[0]), lambda: table.top(1)):
        with pytest.raises(UserError, match="name one of acc, loss"):
            ask()
    assert SPACE.table(path, "loss").best().value == SPACE.table(path, "loss").standing(ARCHS[0]).value == 2
    for wrong in (lambda: SPACE.table(path, "los"), lambda: table.standing(ARCHS[0], "los")):
        with pytest.raises(UserError, match="did you mean `loss`"):
            wrong()


@cache
def _opened(name: str) -> tuple[nasdsl.Space, Keys]:
    space = nasdsl.load(name)
    return space, Keys(space.checked)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("name", [n for n in shipped_spaces() if n != "nasbench101"])
def test_one_text_for_an_architecture(name: str, seed: int) -> None:
    space, keys = _opened(name)
    arch = space.sample(1, seed=seed)[0]
    key = keys.of_choices(arch)
    assert space.parse(key) == arch
    spread_out = json.dumps(json.loads(arch.to_json()), indent=3)
    assert (
        key == keys.of_choices(dict(arch.choices)) == keys.of_text(arch.to_json()) == keys.of_text(spread_out)
    )
    assert key == keys.of_text(f" {key}\n")
    assert dict(keys.choices(key)) == dict(arch.choices)
    if space.notation is not None:
        assert key == space.format(arch) == keys.of_text(space.format(arch))
