"""Latency by a table: sums of entries, and limits on them."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import pytest

import nasdsl
from nasdsl import Space, UserError
from nasdsl.diagnostics import Source
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.latency import needed_units
from nasdsl.passes.specialise import Specialise
from nasdsl.space.checked import check_source
from nasdsl.space.decisions import DecisionTable
from nasdsl.space.latency import LatencyTable, Machine, read_table
from nasdsl.space.units import Units
from tests.laws.common import small
from tests.runtime.forks import ran

MACHINE = Machine("cpu", "a processor", 1, "fp32", 1, "2.0", "channels_last")
TINY = """space tiny {{
  input image(3, 8, 8)
  {limit}
  network {{
    stem: conv(3, 4)
    body: choose {{ short: id, long: sum(id, conv(3) >> relu), wide: concat(conv(1, 2), conv(3, 2)) }}
    end:  choose {{ conv(1, 4), conv(5, 4) }}
    head: global_pool >> linear(10)
  }}
}}
"""


def tiny(limit: str = "", folder: Path | None = None) -> Space:
    name = "tiny.nas" if folder is None else str(folder / "tiny.nas")
    space, diagnostics = check_source(Source(name, TINY.format(limit=limit)))
    diagnostics.raise_if_errors()
    assert space is not None
    return Space(space)


def table_of(space: Space, constant: int = 0, scale: float = 1.0) -> LatencyTable:
    """Made-up times that differ from each other."""
    entries = {key: 1 + crc32(key.encode()) % 97 for key in needed_units(space.checked)}
    return LatencyTable("made_up.json", MACHINE, entries, constant, scale)


def written(space: Space, folder: Path, name: str = "times.json") -> LatencyTable:
    table = LatencyTable(str(folder / name), MACHINE, table_of(space).entries, 5)
    table.write()
    return table


def test_the_units_of_a_space_by_hand() -> None:
    conv = "conv(bias=false, dilation=1, groups=1, k={}, out={}, pad=same, stride=1) image[{}, 8, 8]".format
    assert set(needed_units(tiny().checked)) == {
        conv(3, 4, 3),
        conv(3, 4, 4),
        "relu image[4, 8, 8]",
        "add image[4, 8, 8]",
        conv(1, 2, 4),
        conv(3, 2, 4),
        "concat image[2, 8, 8] image[2, 8, 8]",
        conv(1, 4, 4),
        conv(5, 4, 4),
        "global_pool image[4, 8, 8]",
        "linear(bias=true, out=10) vector[4]",
    }


def test_a_prediction_is_the_sum_of_the_entries() -> None:
    space = tiny()
    table = table_of(space, constant=1000, scale=1.5)
    costs = space.costs("latency", table)

    def times(*starts: str) -> int:
        found = [k for s in starts for k in table.entries if k.startswith(s)]
        assert len(found) == len(starts)
        return sum(round(1.5 * table.entries[key]) for key in found)

    conv = "conv(bias=false, dilation=1, groups=1, k={}, out={}, pad=same, stride=1) image[{},".format
    always = 1000 + times(conv(3, 4, 3), "global_pool", "linear")
    assert costs.at({"body.op": "short", "end.op": "conv(1, 4)"}) == always + times(conv(1, 4, 4))
    assert costs.at({"body.op": "long", "end.op": "conv(1, 4)"}) == always + times(
        conv(3, 4, 4), "relu", "add", conv(1, 4, 4)
    )
    assert costs.at({"body.op": "wide", "end.op": "conv(5, 4)"}) == always + times(
        conv(1, 2, 4), conv(3, 2, 4), "concat", conv(5, 4, 4)
    )


@pytest.mark.parametrize("name", ["cream", "darts", "nasbench201", "nats_size"])
def test_tables_over_decisions_agree_with_the_network_cut_out(name: str) -> None:
    space = nasdsl.load(name) if name == "nats_size" else small(name)
    table = table_of(space, constant=17, scale=1.3)
    costs = space.costs("latency", table)
    for arch in space.sample(4, seed=1):
        module = Specialise(arch.choices, dead=True)(space.checked.module)
        units = Units(module, DecisionTable(()))
        total = 17
        for use in module.uses():
            for node in use.graph.nodes:
                for unit, number in units.parts(use, node)[1]({}):
                    total += number * round(1.3 * table.entries[unit.key])
        assert costs.at(arch.choices) == total
        assert costs.low is not None
        assert costs.high is not None
        assert costs.low <= total <= costs.high


def test_a_limit_counts_and_draws_what_enumeration_finds(tmp_path: Path) -> None:
    table = written(tiny(), tmp_path)
    costs = tiny().costs("latency", table)
    every = list(Encodings(tiny().checked.table).all())
    times = sorted({costs.at(c) for c in every})
    for relation, bound in (("<=", times[2]), ("<", times[2]), (">=", times[3]), (">", times[3])):
        space = tiny(f'limit latency("times.json") {relation} {bound}us', tmp_path)
        (limit,) = space.checked.limits
        kept = [c for c in every if limit.holds(costs.at(c))]
        assert space.count() == len(kept)
        drawn = [dict(a.choices) for a in space.sample(60, seed=3)]
        assert all(c in kept for c in drawn)
        assert len({json.dumps(c) for c in drawn}) == len(kept)
        for choices in every:
            if choices in kept:
                assert dict(space.architecture(choices).choices) == choices
            else:
                with pytest.raises(UserError, match=r"NAS401.*takes"):
                    space.architecture(choices)


def test_limits_on_latency_stand_beside_others(tmp_path: Path) -> None:
    table = written(tiny(), tmp_path)
    costs, macs = tiny().costs("latency", table), tiny().costs("macs")
    every = list(Encodings(tiny().checked.table).all())
    slow = sorted(costs.at(c) for c in every)[-2]
    heavy = sorted(macs.at(c) for c in every)[-2]
    lines = f'limit latency("times.json") <= {slow}us  limit macs <= {heavy}'
    space = tiny(lines, tmp_path)
    kept = [c for c in every if costs.at(c) <= slow and macs.at(c) <= heavy]
    assert 0 < len(kept) < len(every)
    drawn = [dict(a.choices) for a in space.sample(20, seed=0)]
    assert all(c in kept for c in drawn)


def test_tables_of_one_name_from_two_folders_lie_beside_a_compiled_space_under_two(tmp_path: Path) -> None:
    plain = tiny()
    for name, factor in (("here", 1), (".", 3)):
        (tmp_path / name).mkdir(exist_ok=True)
        entries = {k: factor * v for k, v in table_of(plain).entries.items()}
        LatencyTable(str(tmp_path / name / "t.json"), MACHINE, entries).write()
    space = tiny('limit latency("here/t.json") <= 1s  limit latency("t.json") <= 2s', tmp_path)
    files = space.compile("spos").files()
    assert 'latency("t.json") <= 1s' in files["space.nas"]
    assert 'latency("2-t.json") <= 2s' in files["space.nas"]
    assert files["t.json"] == read_table(tmp_path / "here/t.json").text()
    assert files["2-t.json"] == read_table(tmp_path / "t.json").text()


@pytest.mark.parametrize(
    "name", ["config.toml", "search.py", "space.nas", "subspace.json", "nasdsl.lock", "runs"]
)
def test_a_table_named_as_a_file_of_the_directory_takes_the_place_of_none(tmp_path: Path, name: str) -> None:
    table = written(tiny(), tmp_path, name)
    files = tiny(f'limit latency("{name}") <= 1s', tmp_path).compile("spos").files()
    assert f'latency("2-{name}") <= 1s' in files["space.nas"]
    assert files[f"2-{name}"] == table.text()
    assert files.get(name) != table.text()


def test_the_table_that_a_search_names_lies_in_the_directory(tmp_path: Path) -> None:
    """Beside one of a limit that has its name; the search finds it wherever the directory is put."""
    (tmp_path / "own").mkdir()
    limiting = written(tiny(), tmp_path)
    named = LatencyTable(
        str(tmp_path / "own/times.json"), MACHINE, {k: 3 * v for k, v in limiting.entries.items()}
    )
    named.write()
    settings = {"objective": "latency", "latency_table": named.path}
    files = (
        tiny('limit latency("times.json") <= 1s', tmp_path)
        .compile("spos", settings={**settings, "evaluations": 4, "epochs": 1})
        .files()
    )
    assert (files["times.json"], files["2-times.json"]) == (limiting.text(), named.text())
    assert 'latency_table = "2-times.json"' in files["config.toml"]
    assert json.loads(files["nasdsl.lock"])["files"].keys() >= {"times.json", "2-times.json"}
    with pytest.raises(UserError, match="NAS605"):
        tiny().compile("spos", settings={**settings, "latency_table": "none.json"}).files()

    home, elsewhere = tmp_path / "compiled", tmp_path / "elsewhere"
    home.mkdir()
    (elsewhere / "mine").mkdir(parents=True)
    for name, text in files.items():
        (home / name).write_text(text, "utf-8")
    Path(named.path).rename(elsewhere / "mine/times.json")
    found = {}
    for run, given in {"own": (), "mine": ("--set", "latency_table=mine/times.json")}.items():
        line = ("--data", "digits", "--device", "cpu", *given, "--limit-batches", "1", "--out", run)
        ended = ran(elsewhere, str(home / "search.py"), *line)
        assert ended.returncode == 0, ended.stderr
        judged = json.loads((elsewhere / run / "judged.json").read_text("utf-8"))
        found[run] = [j["latency"] for j in judged]
        assert found[run] == [tiny().costs("latency", named).at(j["choices"]) for j in judged]
    assert found["own"] == found["mine"]


def test_limits_by_two_tables_are_two_limits(tmp_path: Path) -> None:
    one = written(tiny(), tmp_path, "one.json")
    LatencyTable(str(tmp_path / "two.json"), MACHINE, {k: 3 * v for k, v in one.entries.items()}).write()
    two = read_table(tmp_path / "two.json")
    first, second = tiny().costs("latency", one), tiny().costs("latency", two)
    bound = second.low
    space = tiny(f'limit latency("one.json") <= 1s  limit latency("two.json") <= {bound}us', tmp_path)
    (arch,) = {json.dumps(dict(a.choices)) for a in space.sample(5, seed=0)}
    assert second.at(json.loads(arch)) == bound
    assert first.at(json.loads(arch)) < second.at(json.loads(arch))
    assert [str(m) for m in space.checked.limits] == [
        'latency("one.json") <= 1,000,000 us',
        f'latency("two.json") <= {bound} us',
    ]


@pytest.mark.parametrize(("text", "microseconds"), [("5ms", 5000), ("0.5s", 500_000), ("2000us", 2000)])
def test_units_of_time(tmp_path: Path, text: str, microseconds: int) -> None:
    written(tiny(), tmp_path)
    space = tiny(f'limit latency("times.json") <= {text}', tmp_path)
    assert space.checked.limits[0].bound == microseconds


def test_a_limit_that_nobody_meets_is_told(tmp_path: Path) -> None:
    table = written(tiny(), tmp_path)
    low = tiny().costs("latency", table).low
    assert low is not None
    with pytest.raises(UserError, match="NAS305"):
        tiny('limit latency("times.json") <= 6us', tmp_path)
    assert tiny(f'limit latency("times.json") <= {low}us', tmp_path).count() >= 1


def test_a_table_without_an_entry_is_refused_with_the_command_that_adds_it(tmp_path: Path) -> None:
    table = written(tiny(), tmp_path)
    lost = next(k for k in table.entries if k.startswith("relu"))
    kept = {k: v for k, v in table.entries.items() if k != lost}
    LatencyTable(table.path, MACHINE, kept).write()
    with pytest.raises(UserError) as caught:
        tiny('limit latency("times.json") <= 5ms', tmp_path)
    (problem,) = caught.value.diagnostics
    assert problem.code == "NAS606"
    assert lost in problem.message
    assert "nasdsl latency" in str(problem.help)
    assert str(table.path) in str(problem.help)
    with pytest.raises(UserError, match="NAS606"):
        tiny().costs("latency", table.path)


def test_without_a_table_there_is_no_latency(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NAS605"):
        tiny().costs("latency")
    with pytest.raises(UserError, match="NAS605"):
        tiny().costs("latency", tmp_path / "none.json")
    with pytest.raises(UserError, match="NAS311"):
        tiny().costs("macs", tmp_path / "none.json")
    table = written(tiny(), tmp_path)
    own = tiny('limit latency("times.json") <= 5ms', tmp_path)
    arch = own.sample(1)[0]
    assert own.costs("latency").at(arch.choices) == tiny().costs("latency", table).at(arch.choices)


def test_shapes_that_the_whole_architecture_settles_cannot_be_listed() -> None:
    with pytest.raises(UserError, match="NAS310"):
        needed_units(nasdsl.load("nasbench101").checked)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = written(tiny(), tmp_path)
    assert read_table(table.path) == table
    half = table.with_entry("relu image[9, 1, 1]", 7, 3).with_entry("relu image[9, 1, 1]", 4, 3)
    half.write()
    assert read_table(table.path) == half
    assert (half.entries["relu image[9, 1, 1]"], half.unfinished) == (4, {"relu image[9, 1, 1]": 2})
    assert not half.with_entry("relu image[9, 1, 1]", 5, 3).unfinished


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"unit": "ms"},
        {"threads": "1"},
        {"entries": []},
        {"entries": {"relu image[1, 1, 1]": 0}},
        {"entries": {"relu image[1, 1, 1]": 1.5}},
        {"fit": {"constant": -1}},
        {"fit": {"scale": 0}},
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    table = written(tiny(), tmp_path)
    data = json.loads(Path(table.path).read_text("utf-8"))
    Path(table.path).write_text(json.dumps({**data, **change}), "utf-8")
    with pytest.raises(UserError, match="NAS605"):
        read_table(table.path)
