"""The pool: each network once, in the order asked, whatever the workers do and whenever it is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasdsl
from nasdsl.errors import UserError
from nasdsl.scoring import CostScores, Pool, ProxyScores, Recipe
from tests.scoring.spaces import EVERY, LENGTH, TINY, calls, command, recipe

SAME = (
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    # Node 1 feeds nothing.
    "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
)
OTHER = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"


def test_workers_change_nothing_and_an_architecture_is_evaluated_once(tmp_path: Path) -> None:
    asked = [*EVERY, *reversed(EVERY)]
    wanted = [float(len(str(choices))) for choices in asked]
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        with Pool(command(folder, LENGTH), workers) as pool:
            assert pool.scores(asked) == wanted
            assert pool.scores(EVERY[:3]) == wanted[:3]
            assert (pool.evaluations, pool.known) == (9, 3)
        assert sorted(map(str, calls(folder))) == sorted(map(str, EVERY))


def test_proxies_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    kind = ProxyScores("jacov", "digits", batch=8)
    found = []
    for workers in (1, 2):
        with Pool(recipe(tmp_path, kind), workers) as pool:
            found.append(pool.scores(EVERY[3:]))
    assert found[0] == found[1]
    assert len(set(found[0])) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_two_encodings_of_one_network_are_evaluated_once(tmp_path: Path, workers: int) -> None:
    space = nasdsl.load("nasbench201", **TINY)
    kind = ProxyScores("synflow")
    chosen = [space.parse(text).choices for text in (*SAME, OTHER)]
    cache = tmp_path / "scores.jsonl"
    with Pool(Recipe("nasbench201", kind, TINY), workers, cache=cache) as pool:
        first, second, third, other = pool.scores(chosen)
        assert first == second == third != other
        assert (pool.evaluations, pool.known) == (2, 0)
    with Pool(Recipe("nasbench201", kind, TINY), cache=cache) as pool:
        assert pool.scores([chosen[2], chosen[1]]) == [first, first]
        assert (pool.evaluations, pool.known) == (0, 1)


def test_what_is_looked_up_is_of_each_encoding() -> None:
    space = nasdsl.load("nasbench201", **TINY)
    chosen = [space.parse(text).choices for text in SAME]
    with Pool(Recipe("nasbench201", CostScores("params"), TINY)) as pool:
        assert pool.scores(chosen) == [float(space.costs("params").at(c)) for c in chosen]
        assert (pool.evaluations, pool.known) == (3, 0)


def test_the_cache_is_of_one_source_and_survives_a_cut_line(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "scores.jsonl"
    with Pool(recipe(tmp_path, CostScores("params")), cache=cache) as pool:
        params = pool.scores(EVERY[:3])
    with Pool(recipe(tmp_path, CostScores("macs")), cache=cache) as pool:
        assert pool.scores(EVERY[:3]) != params
        assert pool.evaluations == 3
    whole = cache.read_text()
    assert len(whole.splitlines()) == 6
    cache.write_text(whole + '{"of": "cut sho')
    with Pool(recipe(tmp_path, CostScores("params")), cache=cache) as pool:
        assert pool.scores(EVERY[:4])[:3] == params
        assert (pool.evaluations, pool.known) == (1, 3)
    with Pool(recipe(tmp_path, CostScores("params")), cache=cache) as pool:
        pool.scores(EVERY[:4])
        assert pool.evaluations == 0
    assert [json.loads(line)["score"] for line in whole.splitlines()[:3]] == params


def test_another_parameter_or_seed_is_another_score(tmp_path: Path) -> None:
    cache = tmp_path / "scores.jsonl"
    kinds = [ProxyScores("naswot", "digits", batch=b, seed=s) for b, s in ((8, 0), (8, 1), (9, 0))]
    for kind in (*kinds, kinds[0]):
        with Pool(recipe(tmp_path, kind), cache=cache) as pool:
            pool.scores(EVERY[:1])
    assert len(cache.read_text().splitlines()) == 3


def test_the_worst_score_is_kept_as_json(tmp_path: Path) -> None:
    cache = tmp_path / "scores.jsonl"
    dead = nasdsl.load("nasbench201", **TINY).parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    for evaluations in (1, 0):
        with Pool(Recipe("nasbench201", ProxyScores("jacov", "digits", batch=8), TINY), cache=cache) as pool:
            assert pool.scores([dead.choices]) == [float("-inf")]
            assert pool.evaluations == evaluations
    json.loads(cache.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


DIES = "if choices['first.op'] == 'conv' and choices['second.op'] == 'wide':\n    BAD\n" + LENGTH


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_fails_is_named_and_the_others_are_kept(tmp_path: Path, workers: int) -> None:
    cache = tmp_path / "scores.jsonl"
    kind = command(tmp_path, DIES.replace("BAD", "sys.exit('no memory')"))
    with Pool(kind, workers, cache=cache) as pool, pytest.raises(UserError, match="no memory") as caught:
        pool.scores(EVERY)
    assert '"first.op": "conv", "second.op": "wide"} cannot be scored' in str(caught.value)
    kept = len(cache.read_text().splitlines())
    assert kept >= EVERY.index({"first.op": "conv", "second.op": "wide"})
    with Pool(kind, workers, cache=cache) as pool:
        pool.scores([c for c in EVERY if c != {"first.op": "conv", "second.op": "wide"}])
        assert pool.evaluations == 8 - kept


def test_one_that_kills_its_worker_is_named(tmp_path: Path) -> None:
    body = DIES.replace("BAD", "os.kill(os.getppid(), 9); time.sleep(60)")
    with Pool(command(tmp_path, body), 2) as pool:
        with pytest.raises(UserError, match="ended from outside") as caught:
            pool.scores(EVERY)
        assert '"first.op": "conv", "second.op": "wide"} cannot be scored' in str(caught.value)
        rest = EVERY[6:]
        assert pool.scores(rest) == [len(str(choices)) for choices in rest]  # the others still work


def test_what_is_no_architecture_is_refused(tmp_path: Path) -> None:
    with Pool(recipe(tmp_path, CostScores("params"))) as pool, pytest.raises(UserError, match="NAS401"):
        pool.scores([{"first.op": "skip"}])
    with pytest.raises(ValueError, match="local or ray"):
        Pool(recipe(tmp_path, CostScores("params")), engine="slurm")
