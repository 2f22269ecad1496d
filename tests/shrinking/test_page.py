"""The page says what the record says, whatever that is, and is one well-formed file by itself."""

from __future__ import annotations

import copy
import json
import math
import re
from functools import lru_cache
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.api import Space
from nasdsl.drawing.cloud import MOST_FAINT
from nasdsl.ranking import Agreement
from nasdsl.shrinking import Rules, Shrinking
from nasdsl.shrinking.locality import locality
from nasdsl.shrinking.metrics import Truth
from nasdsl.shrinking.page import page
from nasdsl.shrinking.record import Against, compared, record
from tests.drawing.html import Reader
from tests.subspace.common import checked

AGREED = Agreement(0.625, 0.5, 0.75, None, None, None, 3)
HOSTILE = "</title><script>alert(\"1\")</script> & 'x' {{ 7 * 7 }}"


def read(found: dict[str, Any]) -> Reader:
    """The page of a record, once it is known to be whole and to say nothing that is not known."""
    text = page(found)
    reader = Reader(text)
    assert not re.search(r"\b(None|nan|NaN|inf|Infinity|Undefined)\b", reader.text)
    assert "script" not in reader.tags
    assert not {"src", "href", "onload"} & {name for name, _ in reader.attributes}
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    return reader


@lru_cache
def measured() -> dict[str, Any]:
    """A small space of 81, shrunk by how near its MACs are to some, with everything that can be measured."""
    space = Space(checked("plain"))
    cost = space.costs("macs")

    def score(choices: Any) -> list[float]:
        return [-abs(cost.at(c) - 1e6) for c in choices]

    rules = Rules(samples=16, fresh=8, least=2, evaluations=40, bins=2)
    shrinking = Shrinking(space, rules, seed=0)
    while asked := shrinking.ask():
        shrinking.tell(score(asked))
    ground = shrinking.ground
    rows = ground.every
    assert rows is not None
    truth = Truth(ground, rows, [v + 7 for v in score([ground.choices(r) for r in rows])])
    found = record(
        shrinking,
        "nearness",
        Against(truth, "results.csv", "worth"),
        # Resampling takes seconds: the page needs the numbers only.
        {"tau_inside": attrs.asdict(AGREED), "tau_fixed": attrs.asdict(AGREED), "fixed": 20},
        compared(shrinking, score, truth),
        locality(ground, score, walks=3, steps=60, lags=8, pairs=30, distances=3),
    )
    return {**found, "file": "spaces/small one.nas", "command": "nasdsl shrink small.nas", "version": "9.8.7"}


def changed(**values: Any) -> dict[str, Any]:
    return {**copy.deepcopy(measured()), **values}


BARE: dict[str, Any] = {
    "left": None,
    "locality": None,
    "truth": None,
    "baselines": None,
    "before": None,
    "command": None,
}


def bare(**values: Any) -> dict[str, Any]:
    """Nothing measured, nothing left out."""
    found = changed(**BARE)
    found["members"]["figure"] = None
    found.update(values)
    return found


def test_everything_that_was_measured_is_there() -> None:
    found = measured()
    assert found["left"] is not None, "the test means to look at a space that did shrink"
    reader = read(found)
    titles = (
        *("Round by round", "Before and after", "Locality", "How different the members are"),
        *("What they are truly worth", "The best members", "How to go on", "How to reproduce"),
    )
    assert all(t in reader.text for t in titles)
    assert reader.tags.count("svg") == 3
    assert all(b["name"] in reader.text for b in found["baselines"])
    assert all(re.sub(r"\s+", " ", b["architecture"]) in reader.text for b in found["best"])
    assert found["stopped"] in reader.text
    assert found["left"]["digest"] in reader.text
    assert f"{found['truth']['tau_inside']['tau']:.3f}" in reader.text
    assert "nasdsl compile 'spaces/small one.nas' --within subspace.json --method spos" in reader.text
    assert "nasdsl shrink small.nas" in reader.text
    assert "9.8.7" in reader.text


def test_what_was_not_measured_is_left_out() -> None:
    reader = read(bare())
    for title in ("Locality", "What they are truly worth"):
        assert title not in reader.text
    assert "Nothing was left out" in reader.text
    assert "--within" not in reader.text
    assert reader.tags.count("svg") == 2


def test_a_record_that_went_through_a_file_makes_the_same_page() -> None:
    found = changed()
    assert page(json.loads(json.dumps(found))) == page(found)


@pytest.mark.parametrize("name", ["space", "file", "source", "stopped", "command", "version", "fingerprint"])
def test_texts_of_users_are_escaped(name: str) -> None:
    reader = read(changed(**{name: HOSTILE}))
    assert 'alert("1")' in reader.text
    assert reader.tags.count("title") == Reader(page(changed())).tags.count("title")


def test_deeper_texts_of_users_are_escaped() -> None:
    found = changed(params={"depths": [2, 3], "name": HOSTILE})
    found["best"][0]["architecture"] = HOSTILE
    found["truth"]["metric"] = found["truth"]["table"] = found["baselines"][0]["name"] = HOSTILE
    reader = read(found)
    assert reader.text.count("{{ 7 * 7 }}") >= 6
    assert "--param 'depths=[2,3]'" in reader.text


NUMBERS = st.one_of(
    st.floats(), st.sampled_from([math.nan, -math.inf, math.inf, 0.0, -3.5, 93.1, -12345.678, 1e-7, 1e300])
)


@st.composite
def odd_records(draw: st.DrawFn) -> dict[str, Any]:
    """Records as sources that give odd scores leave them, parts of them absent."""
    one = draw(st.one_of(st.none(), NUMBERS))  # the same score for all

    def number() -> float:
        return draw(NUMBERS) if one is None else one

    found = copy.deepcopy(measured())
    found.update(draw(st.fixed_dictionaries({}, optional={k: st.just(v) for k, v in BARE.items()})))
    found["rounds"] = found["rounds"][: draw(st.integers(1, 5))]
    for entry in found["rounds"]:
        entry.update(mean=number(), error=abs(number()), best=number(), exact=draw(st.booleans()))
    found["scored"] = [{**s, "score": number()} for s in found["scored"][: draw(st.sampled_from([0, 1, 20]))]]
    count = draw(st.sampled_from([1, 5]))
    found["members"] = {"cost": found["members"]["cost"][:count], "figure": None}
    if draw(st.booleans()):
        found["members"]["figure"] = [number() for _ in found["members"]["cost"]]
    found["best"] = [{**b, "score": draw(st.one_of(st.none(), NUMBERS))} for b in found["best"][:2]]
    found["size"] = {"low": 5, "high": draw(st.sampled_from([5, 10**18, 10**400]))}
    found["diversity"]["after"]["pockets"] = draw(st.sampled_from([None, 3]))
    if found["locality"] is not None:
        found["locality"]["autocorrelation"] = [draw(st.one_of(st.none(), NUMBERS)) for _ in range(8)]
        found["locality"]["length"] = draw(st.one_of(st.none(), NUMBERS))
    if found["truth"] is not None:
        found["truth"]["index"] = {"gain": None, "reduction": 0.5, "index": None}
        found["truth"]["after"] = draw(st.sampled_from([None, found["truth"]["after"]]))
    return found


@settings(max_examples=30)
@given(odd_records())
def test_odd_records_have_a_page(found: dict[str, Any]) -> None:
    reader = read(found)
    assert "How to reproduce" in reader.text


@pytest.mark.parametrize("value", [math.nan, -math.inf, None])
def test_scores_that_are_no_number_are_counted_not_drawn(value: float | None) -> None:
    found = bare()
    found["scored"] = [{**s, "score": value if i < 3 else s["score"]} for i, s in enumerate(found["scored"])]
    assert "3 points without a finite figure are left out" in read(found).text
    found["scored"] = [{**s, "score": value} for s in found["scored"]]
    assert "Before and after" not in read(found).text


def test_twenty_thousand_points_make_a_page_that_opens() -> None:
    costs = [1_000_003 * i % 77_777_777 for i in range(20_000)]
    figures = [90 + math.sin(i) for i in range(20_000)]
    found = changed(before={"cost": costs, "figure": figures}, members={"cost": costs, "figure": figures})
    reader = read(found)
    assert len(page(found).encode()) < 5_000_000
    assert f"Of 20,000 grey points {MOST_FAINT:,}, drawn at random, are shown" in reader.text


def test_sizes_that_are_not_known_exactly_are_ranges() -> None:
    found = changed(size={"low": 10**18, "high": 2 * 10**18}, left={"low": 100, "high": 200, "digest": "d"})
    text = read(found).text
    assert "1·10^18 to 2·10^18" in text
    assert "100 to 200" in text
    assert "1·10^16" in text
