"""`Space.within` and `--within`: everything that looks at architectures keeps to the part, and to the limits."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl.cli import main
from nasdsl.identity.encodings import Encodings
from nasdsl.subspace import value
from tests.subspace.common import check, key, nasbench201, uniform

LIMITED = """space l { input image(3, 8)  limit params <= 700
  network { stem: conv(3, 4)  body: repeat 4 { choose { id, conv(3), conv(1), relu } }
  head: global_pool >> linear(10) } }"""


def limited() -> nasdsl.Space:
    return nasdsl.Space(check(LIMITED))


def test_a_space_within_a_part_keeps_to_it() -> None:
    whole = nasbench201()
    seeds = whole.sample(3, seed=1)
    sub = whole.balls(seeds, 2)
    space = whole.within(sub)
    assert space.fingerprint == whole.fingerprint
    assert (whole.within_digest, whole.subspace) == ("", None)
    assert (space.within_digest, space.subspace) == (sub.digest, sub)
    assert space.count() == space.tally().low == len(sub.rows())
    assert all(a.choices in sub for a in space.sample(50, seed=2))
    assert space.draw_choices(random.Random(0)) in sub
    outside = next(a for a in whole.sample(200) if a.choices not in sub)
    assert not space.allows(outside.choices)
    assert space.allows(seeds[0].choices)
    for text in (outside.to_json(), whole.format(outside)):
        with pytest.raises(nasdsl.UserError, match="NAS405"):
            space.parse(text)
    assert space.parse(seeds[0].to_json()) == seeds[0]
    edge = next(a for a in space.sample(99) if len(space.neighbours(a)) < 24)
    assert set(space.neighbours(edge)) == {n for n in whole.neighbours(edge) if n.choices in sub}


def test_distinct_networks_of_a_part() -> None:
    whole = nasdsl.load("nasbench201", C=4, N=1)
    space = whole.within(whole.balls(whole.sample(1, seed=1), 1))
    part = space.subspace
    assert part is not None
    assert space.count(distinct=True) == len(
        {space.identity(space.architecture(part.member(i))) for i in range(25)}
    )


def test_within_twice_is_within_both(tmp_path: Path) -> None:
    space = nasbench201()
    a, b = (space.balls(space.sample(3, seed=s), 3) for s in (1, 2))
    both = space.within(a).within(b)
    assert both.within_digest == space.within(b).within(a).within_digest == (a & b).digest
    assert 0 < both.count() < min(space.within(a).count(), space.within(b).count())
    a.write(tmp_path / "a.json")
    assert space.within(tmp_path / "a.json").within_digest == a.digest
    with pytest.raises(nasdsl.UserError, match="NAS404"):
        nasdsl.load("darts").within(a)


@pytest.mark.parametrize("most", [value.MAX_LISTED, 10])
def test_a_part_and_the_limits_hold_together(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(value, "MAX_LISTED", most)
    whole = limited()
    encodings = list(Encodings(whole.checked.table).all())
    sub = whole.balls(map(whole.architecture, [c for c in encodings if whole.population.meets(c)][:2]), 3)
    truth = {key(c) for c in encodings if whole.population.meets(c) and c in sub}
    assert len(truth) < sum(c in sub for c in encodings)
    space = whole.within(sub)
    tally = space.tally()
    assert tally.low <= len(truth) <= tally.high
    assert tally.exact == (most > 10)
    draws = 12 * len(truth)
    rng = random.Random(4)
    assert uniform(Counter(key(space.draw_choices(rng)) for _ in range(draws)), truth, draws)
    if not tally.exact:
        with pytest.raises(nasdsl.UserError, match="NAS310"):
            space.count()


def test_what_a_part_is_not_asked() -> None:
    space = nasbench201()
    part = space.within(space.balls(space.sample(1), 1))
    with pytest.raises(nasdsl.UserError, match="NAS310"):
        part.count(cell="infer")
    with pytest.raises(nasdsl.UserError, match="NAS403"):
        part.count(distinct="published")


def test_a_part_that_no_limit_leaves_anything_of() -> None:
    space = limited()
    none = space.members(
        [nasdsl.Architecture(space.name, space.fingerprint, {d.path: d.options[1] for d in space.decisions})]
    )
    assert space.within(none).count() == 0
    with pytest.raises(nasdsl.UserError, match=r"NAS310.*sub-space"):
        space.within(none).sample(1)


# --- verbs -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sub-space, an architecture inside, one outside, a table of all the neighbours of a third."""
    monkeypatch.chdir(tmp_path)
    space = nasbench201()
    seed, other = space.sample(2, seed=3)
    space.balls([seed], 1).write("part.json")
    Path("in.json").write_text(seed.to_json())
    Path("out.json").write_text(other.to_json())
    rows = [*space.neighbours(seed), seed, other, *space.neighbours(other)]
    lines = [f"{space.format(a)},{number}" for number, a in enumerate(rows)]
    Path("t.csv").write_text("\n".join(["arch,accuracy", *lines]) + "\n")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


NB = ("nasbench201", "--within", "part.json")


@pytest.mark.usefixtures("folder")
def test_count_sample_and_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "count", *NB)[1] == "25\n"
    record = json.loads(call(capsys, "count", *NB, "--json")[1])
    part = nasbench201().read_subspace("part.json")
    assert (record["count"], record["within"]) == (25, part.digest)
    lines = call(capsys, "sample", *NB, "-n", "40")[1].splitlines()
    assert all(nasdsl.Architecture.from_json(line).choices in part for line in lines)
    plan = json.loads(call(capsys, "plan", *NB, "--json")[1])
    assert (plan["encodings"]["low"], plan["encodings"]["high"]) == (25, 25)
    costs = nasbench201().costs("params")
    params = sorted(costs.at(part.member(i)) for i in range(25))
    assert plan["params"] == {
        "low": params[0], "median": params[12], "high": params[-1], "error": 0, "sampled": False,
    }  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", [("stats",), ("draw", "-o", "x.svg"), ("export", "-o", "x.py")], ids=str)
def test_an_architecture_is_one_of_the_part(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    assert call(capsys, verb, *NB, *rest, "--arch", "in.json")[0] == 0
    code, out, err = call(capsys, verb, *NB, *rest, "--arch", "out.json")
    assert (code, out) == (1, "")
    assert "NAS405" in err


@pytest.mark.usefixtures("folder")
def test_benchmark_looks_at_the_rows_inside(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> Any:
        code, out, err = call(capsys, "benchmark", *NB, "--table", "t.csv", "--json", *words)
        assert code == 0, err
        return json.loads(out)

    summary = shown()
    assert (summary["rows"], summary["size"]) == (25, 25)
    assert (summary["metrics"][0]["low"], summary["metrics"][0]["high"]) == (0, 24)
    top = shown("--top", "3")
    assert [row["value"] for row in top["top"]] == [24, 23, 22]
    (standing,) = shown("--arch", "in.json")["architectures"][0]["standings"]
    assert (standing["value"], standing["rank"], standing["size"]) == (24, 1, 25)
    assert "NAS405" in call(capsys, "benchmark", *NB, "--table", "t.csv", "--arch", "out.json")[2]
    assert shown("--check")["checked"] == 50  # every row is read, inside or not


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("verb", ["count", "sample", "plan"])
def test_a_part_of_another_space_is_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, verb, "darts", "--within", "part.json")
    assert (code, out) == (1, "")
    assert "NAS404" in err
    assert "NAS005" in call(capsys, verb, "darts", "--within", "nowhere.json")[2]


@pytest.mark.usefixtures("folder")
def test_drawing_the_whole_space_within_a_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "draw", *NB, "-o", "x.svg")
    assert code == 2
    assert "--arch" in err


@pytest.mark.parametrize("verb", ["check", "fmt", "ir", "latency", "fit", "spaces"])
def test_verbs_that_look_at_no_architecture_do_not_have_it(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, verb, "--help")[0] == 0
    assert call(capsys, verb, "darts", "--within", "part.json")[0] == 2


def test_an_estimated_size_is_told_with_its_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = nasdsl.load("darts")
    near = space.neighbours(space.sample(1, seed=9)[0])[:3]
    space.balls(near, 3).write(tmp_path / "part.json")
    words = ("count", "darts", "--within", str(tmp_path / "part.json"))
    code, out, err = call(capsys, *words)
    assert (code, out) == (1, "")
    assert "NAS310" in err
    assert "between" in err
    record = json.loads(call(capsys, *words, "--json")[1])
    assert record["count"] is None
    assert record["low"] < record["high"]
    assert "95 % interval" in record["how"]
