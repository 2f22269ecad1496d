"""The table of an evaluation against a small table of truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import pytest
from directions import sizes, spreads
from directions import text as directions_text
from standings import HEADER, Judge, markdown, references, rows, text

import nasdsl
from tests.tabular.tables import CONV, NONE, POOL, SKIP, sheet, written

SPACE = nasdsl.load("nasbench201", C=4, N=1, resolution=8)
TRUTH = {SKIP: 54.3, CONV: 91.0, POOL: 71.25, NONE: 10.0}


def judge(folder: Path, metric: str = "cifar10_test_200") -> Judge:
    table = written(folder, sheet({a: (v,) for a, v in TRUTH.items()}, [metric]))
    return Judge.open(SPACE, nasdsl.load("nasbench201"), table, None)


def result(architecture: str) -> dict[str, Any]:
    return {
        "choices": dict(SPACE.parse(architecture).choices),
        "processor_s": 3.0,
        "wall_s": 4.0,
        "skip_share": 0.9,
    }


def judged(used: Judge, found: dict[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [
        used.judged(name, seed, result(a)) for name, archs in found.items() for seed, a in enumerate(archs)
    ]


def test_a_cell_is_judged_by_the_table(tmp_path: Path) -> None:
    used = judge(tmp_path)
    found = used.judged("darts", 3, result(CONV))
    assert (found["true"], found["regret"], found["rank"]) == (91.0, 0.0, 1)
    assert found["skip_share"] == pytest.approx(1 / 6), (
        "counted from the architecture, as for every configuration"
    )
    assert found["architecture"] == CONV
    assert found["params"] == nasdsl.load("nasbench201").stats(SPACE.parse(CONV)).params > 73_306


def test_rows(tmp_path: Path) -> None:
    used = judge(tmp_path)
    found = {"darts": (SKIP, SKIP, CONV), "other": (CONV, POOL, CONV), "random": (POOL, POOL, POOL)}
    made = {r["configuration"]: r for r in rows(judged(used, found), "nasbench201", used.metric)}
    assert made["darts"]["true"]["mean"] == pytest.approx(mean([54.3, 54.3, 91.0]))
    assert (made["other"]["best"], made["other"]["worst"]) == (91.0, 71.25)
    assert made["other"]["against_darts"]["mean"] == pytest.approx(mean([36.7, 16.95, 0.0]))
    assert made["other"]["against_darts"]["p"] == 0.5, (
        "two of three differ: four patterns of eight are as far"
    )
    assert made["darts"]["against_darts"] is None
    assert made["other"]["mean_rank"] == pytest.approx((1 + 1.5 + 1.5) / 3)
    assert made["darts"]["published"] == 54.30
    assert made["other"]["published"] is None


def test_a_metric_of_which_less_is_better(tmp_path: Path) -> None:
    used = judge(tmp_path, "error")
    made = rows(judged(used, {"a": (NONE,), "b": (CONV, SKIP)}), None, used.metric)
    assert [r["mean_rank"] for r in made] == [1.0, 2.0]
    assert (made[1]["best"], made[1]["worst"]) == (54.3, 91.0)


def test_what_the_table_does_not_know_is_no_figure(tmp_path: Path) -> None:
    used = judge(tmp_path)
    unknown = SKIP.replace("skip_connect~0", "none~0", 1)
    made = rows(judged(used, {"a": (unknown, CONV)}), None, used.metric)
    assert made[0]["true"]["count"] == 1


def test_references_are_exact(tmp_path: Path) -> None:
    found = references(judge(tmp_path))
    values = list(TRUTH.values())
    assert found["uniform draw"]["true"] == pytest.approx(mean(values))
    assert found["uniform draw"]["deviation"] == pytest.approx(pstdev(values))
    assert found["uniform draw"]["regret"] == pytest.approx(mean(91.0 - v for v in values))
    assert found["uniform draw"]["rank"] == 2.5
    assert found["best of the table"]["architecture"] == CONV
    assert (found["most parameters"]["architecture"], found["most parameters"]["regret"]) == (CONV, 0.0)


@pytest.mark.parametrize("metric", ["cifar10_test_200", "error"])
def test_both_texts_have_a_cell_for_every_column(tmp_path: Path, metric: str) -> None:
    used = judge(tmp_path, metric)
    made = rows(judged(used, {"darts": (SKIP, CONV), "random": (POOL,)}), None, used.metric)
    beside = references(used)
    lines = [line for line in markdown(made, beside, used).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(HEADER) + 1}
    assert len(lines) == 2 + len(made) + len(beside)
    assert "no p can be below 1" in text(made, beside, used), (
        "one common seed proves nothing, and that is said"
    )


def test_nothing_found_is_a_table_too(tmp_path: Path) -> None:
    used = judge(tmp_path)
    assert "uniform draw" in text([], references(used), used)


def test_directions(tmp_path: Path) -> None:
    used = judge(tmp_path)
    found = judged(
        used,
        {
            "darts": (CONV, CONV, SKIP),
            "clipped only": (SKIP, SKIP, SKIP),
            "proximity only": (POOL, POOL, SKIP),
        },
    )
    (small,) = sizes(found)
    assert small["holds"]
    assert small["mean"] < 0
    (steady,) = spreads(found)
    assert steady["holds"]
    assert 0 < steady["p"] <= 1
    assert "clipped only is smaller than darts" in directions_text([small], [steady])


def test_directions_need_both_sides(tmp_path: Path) -> None:
    assert sizes(judged(judge(tmp_path), {"darts": (CONV,)})) == []
    assert spreads(judged(judge(tmp_path), {"darts": (CONV,), "proximity only": (CONV,)})) == []


def test_cells_of_several_versions_are_said(tmp_path: Path) -> None:
    from standings import mixed

    assert mixed([{"code": ["a"]}, {"code": ["a"]}, {}]) == []
    assert "2 versions" in mixed([{"code": ["a"]}, {"code": ["b"]}])[0]
