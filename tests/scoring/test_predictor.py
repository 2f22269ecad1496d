"""Regressions: they recover what they can express, from the decisions alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest

import nasdsl
from nasdsl.errors import UserError
from nasdsl.scoring import Pool, PredictorScores, Recipe
from nasdsl.scoring.predictor import MODELS
from nasdsl.scoring.regression import MOST_COLUMNS, Columns
from nasdsl.subspace.codes import Codes
from tests.scoring.spaces import EVERY, TINY, recipe

WORTH = {"skip": 0.0, "conv": 2.0, "wide": 3.0}


def additive(choices: Mapping[str, Any]) -> float:
    return 2 * WORTH[choices["first.op"]] + WORTH[choices["second.op"]]


def pairs(folder: Path, figure: Callable[[Mapping[str, Any]], float], times: int = 1) -> str:
    path = folder / "pairs.jsonl"
    lines = [json.dumps({"architecture": c, "accuracy": figure(c)}) + "\n" for c in EVERY]
    path.write_text("".join(lines * times))
    return str(path)


def test_ridge_recovers_what_options_add(tmp_path: Path) -> None:
    with Pool(recipe(tmp_path, PredictorScores(pairs(tmp_path, additive)))) as pool:
        assert pool.scores(EVERY) == pytest.approx([additive(c) for c in EVERY], abs=0.05)


@pytest.mark.parametrize(("with_pairs", "least", "most"), [(True, 0.7, 1.0), (False, -0.3, 0.3)])
def test_ridge_needs_pairs_for_what_two_options_do_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_pairs: bool, least: float, most: float
) -> None:
    if not with_pairs:
        monkeypatch.setattr("nasdsl.scoring.regression.MOST_COLUMNS", 0)
    space = nasdsl.load("nasbench201", **TINY)
    chosen = [dict(a.choices) for a in space.sample(400, seed=0)]
    figures = [float(c["infer.n[1].op[x]"] == c["infer.n[2].op[x]"]) for c in chosen]
    path = tmp_path / "pairs.jsonl"
    lines = [{"architecture": c, "accuracy": f} for c, f in zip(chosen[:300], figures, strict=False)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Recipe("nasbench201", PredictorScores(str(path)), TINY).open()
    scores = [source.score(c) for c in chosen[300:]]
    assert least <= numpy.corrcoef(scores, figures[300:])[0, 1] <= most


def test_boosting_orders_what_it_has_seen(tmp_path: Path) -> None:
    with Pool(recipe(tmp_path, PredictorScores(pairs(tmp_path, additive), "boosting"))) as pool:
        scores = pool.scores(EVERY)
    assert numpy.corrcoef(scores, [additive(c) for c in EVERY])[0, 1] > 0.8


@pytest.mark.parametrize("model", MODELS)
def test_the_order_of_the_file_and_repetitions_change_nothing(tmp_path: Path, model: str) -> None:
    found = []
    for turned in (False, True):
        path = Path(pairs(tmp_path, additive))
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(reversed(lines + lines) if turned else lines))
        with Pool(recipe(tmp_path, PredictorScores(str(path), model))) as pool:
            found.append(pool.scores(EVERY))
    assert found[0] == found[1]


def test_features_tell_architectures_apart_whatever_their_decisions() -> None:
    for name, parameters in (("darts", {}), ("nasbench201", TINY), ("ofa", {})):
        space = nasdsl.load(name, **parameters)
        chosen = [a.choices for a in space.sample(50, seed=0)]
        codes = Codes(space.checked.table)
        columns = Columns(codes)
        rows = columns.of(codes.rows(chosen), pairs=False)
        texts = {json.dumps(dict(c), sort_keys=True) for c in chosen}
        assert len({row.tobytes() for row in rows}) == len(texts)
        assert rows.shape[1] <= columns.of(codes.rows(chosen)).shape[1] <= MOST_COLUMNS


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text(json.dumps({"architecture": EVERY[0], "accuracy": 1}) + "\n")
    with pytest.raises(UserError, match="NAS601"):
        Pool(recipe(tmp_path, PredictorScores(str(path))))
    with pytest.raises(UserError, match="NAS005"):
        Pool(recipe(tmp_path, PredictorScores(str(tmp_path / "none.jsonl"))))


def test_it_predicts_the_benchmark(shared: Path, tmp_path: Path) -> None:
    table_file = shared / "data" / "nasbench201.csv.gz"
    if not table_file.exists():
        pytest.skip("no table of NAS-Bench-201")
    space = nasdsl.load("nasbench201", **TINY)
    table = space.table(str(table_file), "cifar10_test_acc_200ep")
    chosen = space.sample(300, seed=0)
    figures = [table.look_up(a)["cifar10_test_acc_200ep"] for a in chosen]
    path = tmp_path / "pairs.jsonl"
    lines = [
        json.dumps({"architecture": space.format(a), "accuracy": f}) + "\n"
        for a, f in zip(chosen[:250], figures, strict=False)
    ]
    path.write_text("".join(lines))
    from nasdsl.ranking.correlation import tau

    with Pool(Recipe("nasbench201", PredictorScores(str(path)), TINY)) as pool:
        found = tau(pool.scores([a.choices for a in chosen[250:]]), [float(f or 0) for f in figures[250:]])
    assert found is not None
    assert found > 0.5
