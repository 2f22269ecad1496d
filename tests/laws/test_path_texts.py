"""What methods of single paths take and refuse, and the text that they write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nasdsl
from nasdsl import Space, UserError
from nasdsl.compiler import compile_space
from nasdsl.methods import METHODS
from nasdsl.methods.single_path import MOST_AT_ONCE, READ_UNDER
from nasdsl.passes.switch import Switch
from nasdsl.resources import shipped_spaces
from nasdsl.runtime.paths import sampling
from nasdsl.runtime.paths.settings import PATH_RULES
from tests.laws.test_paths import ODD, SHIPPED
from tests.strategies import checked

SINGLE = ("spos", "fairnas", "sandwich", "random", "evolution", "cream", "lissnas")
REFUSED = {"nasbench101"}
MANY = {"darts", "ofa"}
"""Spaces that sampler=fair would train more paths of in one step than it does."""
HEAD = "head: global_pool >> linear(10) }"


def test_the_methods_of_single_paths_are_all_here() -> None:
    space = nasdsl.load("nasbench201", **SHIPPED["nasbench201"]).checked
    found = set()
    for name in METHODS.names():
        method = METHODS.load(name)
        steps = method.pipeline(space, method.resolve(space, {}))
        found |= {name} if any(isinstance(s, Switch) for s in steps) else set()
    assert found == set(SINGLE)


def test_every_method_writes_every_space_that_it_takes(tmp_path: Path) -> None:
    """The same bytes twice, and nothing that `ruff check --select F` finds."""
    codes: set[str] = set()
    for method in SINGLE:
        taken = set()
        for name in shipped_spaces():
            space = nasdsl.load(name, **SHIPPED.get(name, {}))
            try:
                made = METHODS.load(method)
                made.fits(space.checked, made.resolve(space.checked, {}))
            except UserError as refused:
                codes.add(refused.diagnostics[0].code)
                continue
            taken.add(name)
            if method == "spos":  # all of them only switch, so all write this text
                text = compile_space(space.checked, method).supernet.source
                assert compile_space(space.checked, method).supernet.source == text, name
                (tmp_path / f"{method}_{name}.py").write_text(text)
            assert made.pipeline(space.checked, made.resolve(space.checked, {})) == (Switch(),)
        assert taken == set(shipped_spaces()) - REFUSED - (MANY if method == "fairnas" else set()), method
    assert codes == {"NAS504", "NAS505"}
    for number, cells in enumerate(ODD.values()):
        space = Space(checked(f"space odd {{ input image(3, 8, 8) {cells} }}"))
        (tmp_path / f"odd_{number}.py").write_text(space.compile("spos").compilation.supernet.source)
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    ran = subprocess.run(
        [ruff, "check", "--isolated", "--select", "F", tmp_path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_places_in_the_text_are_lines_of_the_file() -> None:
    space = nasdsl.load("ofa")
    code = space.compile("spos").compilation.supernet
    lines = code.source.splitlines()
    assert len(code.line_map) > 100
    for number, loc in code.line_map.items():
        assert lines[number - 1].endswith(f"# {loc.file}:{loc.line}")
        assert space.checked.source.line(loc.line).strip()


def test_no_option_is_computed_ahead() -> None:
    """Every use of a module with weights in a cell stands under the condition of its option."""
    source = nasdsl.load("darts", layers=3).compile("spos").compilation.supernet.source
    body = source[source.index("class Normal(") : source.index("class Supernet(")]
    calls = re.findall(r"^( +)\S.*self\.(n\d_\w+)\(", body, re.MULTILINE)
    assert len(calls) > 100
    assert all(len(margin) > 8 for margin, _ in calls)


# --- refusals ---------------------------------------------------------------------------------------------

REFUSALS = {
    "a stride": ("conv(3, 8, stride=choose { 1, 2 })", "the `stride` of `conv` depend", "make it an option"),
    "a dilation": ("conv(3, 8, dilation=choose { 1, 2 })", "the `dilation` of `conv`", "make it an option"),
    "groups": ("conv(1, 8) >> conv(3, 8, groups=choose { 1, 2 })", "the `groups` of `conv`", "an option"),
    "a pooling": ("max_pool(choose { 3, 5 })", "the `k` of `max_pool`", "make it an option"),
    "a truncation": ("conv(1, 8) >> truncate(choose { 4, 5 })", "the `out` of `truncate`", "an option"),
    "a size that a cell gets": (
        "conv(1, 8) >> cut(C=choose { 4, 5 })",
        "the `out` of `truncate`",
        "an option",
    ),
    "a stride that a cell gets": ("hop(s=choose { 1, 2 })", "the `stride` of `conv` depend", "an option"),
    "an empty sum": ("maybe", "an empty choice of inputs (`maybe.m.inputs`)", "choose 1.."),
    "an empty concatenation": ("perhaps", "an empty choice of inputs (`perhaps.m.inputs`)", "choose 1.."),
}
CELLS = """
  cell cut(x; C) { n = x >> truncate(C)  return n }
  cell hop(x; s) { n = x >> conv(3, stride=s)  return n }
  cell maybe(x) { n = x >> conv(3)  m = sum of choose 0.. from (n)  return sum(x, m) }
  cell perhaps(x) { n = x >> conv(3)  m = concat of choose 0.. from (n)  return concat(x, m) }
"""


@pytest.mark.parametrize("method", SINGLE)
@pytest.mark.parametrize("title", REFUSALS)
def test_what_no_path_can_be_cut_to_is_refused_at_its_place(title: str, method: str) -> None:
    step, what, cure = REFUSALS[title]
    text = f"space odd {{ input image(3, 8, 8) {CELLS}  network {{ a: {step}\n  b: choose {{ id, relu }}\n  {HEAD} }}"
    space = Space(checked(text))
    with pytest.raises(UserError) as refused:
        space.compile(method)
    (found,) = refused.value.diagnostics
    assert found.code == "NAS504"
    assert what in found.message
    assert cure in str(found.help)
    assert found.primary is not None
    line = space.checked.source.line(found.primary.span.line)
    cell = step.split("(")[0].split(" ")[-1]
    named = {"maybe": "cell maybe", "perhaps": "cell perhaps", "hop": "cell hop"}.get(cell, step)
    assert ("cell cut" if "cut(" in step else named) in line


def test_shared_widths_are_refused_at_their_place() -> None:
    space = nasdsl.load("nasbench101")
    with pytest.raises(UserError) as refused:
        space.compile("spos")
    (found,) = refused.value.diagnostics
    assert "widths that its members share" in found.message
    assert found.primary is not None
    assert "into split(C)" in space.checked.source.line(found.primary.span.line)
    assert found.help is not None


@pytest.mark.parametrize("method", SINGLE)
def test_a_space_without_decisions_is_refused(method: str) -> None:
    space = Space(checked(f"space none {{ input image(3, 8, 8) network {{ a: conv(3, 4)  {HEAD} }}"))
    with pytest.raises(UserError, match="makes no decision") as refused:
        space.compile(method)
    assert refused.value.diagnostics[0].code == "NAS504"
    assert "choose" in str(refused.value.diagnostics[0].help)


def test_an_image_that_is_not_square_keeps_its_size() -> None:
    text = f"space odd {{ input image(3, 8, s)  s = choose {{ 8, 12 }}  network {{ a: conv(3, 4)  {HEAD} }}"
    with pytest.raises(UserError, match="is not square"):
        Space(checked(text)).compile("spos")


CONFLICTS: tuple[tuple[dict[str, object], str], ...] = (
    ({"search": "board", "distillation": "off"}, "keeps a board"),
    ({"search": "board", "distillation": "inplace", "sampler": "sandwich"}, "keeps a board"),
    ({"distillation": "inplace", "sampler": "uniform"}, "largest path of a sandwich"),
    ({"distillation": "board", "sampler": "fair"}, "one path a step"),
    ({"distillation": "board", "sampler": "sandwich"}, "one path a step"),
    ({"sampler": "sandwich", "distillation": "off", "paths": 1}, "paths=4"),
    ({"batch_size": 8, "board_images": 5, "distillation": "board"}, "two halves"),
    ({"bin_low": 3e8, "bin_high": 2e8, "sampler": "bins"}, "bins have a width"),
)


@pytest.mark.parametrize(("given", "why"), CONFLICTS)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, object], why: str) -> None:
    space = nasdsl.load("nasbench201", **SHIPPED["nasbench201"])
    with pytest.raises(UserError, match=why) as refused:
        space.compile("spos", settings=given)
    (found,) = refused.value.diagnostics
    assert found.code == "NAS505"
    for name in list(given)[:2]:
        value = given[name]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        assert f"{name}={shown}" in found.message or name == "distillation"


BOARD: dict[str, object] = {"distillation": "board"}
SHRINK: dict[str, object] = {"search": "shrink"}
UNREAD: tuple[tuple[str, dict[str, object], str, str, dict[str, object]], ...] = (
    # method, settings of which nothing reads the first, the axis that is in the way, the cure
    ("spos", {"board_size": 4}, "distillation=off", "board_size=10", BOARD),
    ("spos", {"board_margin": 1.0}, "distillation=off", "board_margin=5.0", BOARD),
    ("spos", {"board_images": 2}, "distillation=off", "board_images=4", BOARD),
    ("sandwich", {"meta": "off"}, "distillation=inplace", "meta=full", {**BOARD, "sampler": "uniform"}),
    ("spos", {"meta_start": 3}, "distillation=off", "meta_start=20", BOARD),
    ("spos", {"meta_interval": 3}, "distillation=off", "meta_interval=200", BOARD),
    ("spos", {"meta_lr": 0.5, "meta": "off", **BOARD}, "meta=off", "meta_lr=0.0001", {"meta": "first"}),
    ("cream", {"meta_rate": "weights", "meta": "off"}, "meta=off", "meta_rate=meta", {"meta": "full"}),
    ("spos", {"legacy": True}, "distillation=off", "legacy=false", BOARD),
    ("spos", {"bin_low": 1e4}, "sampler=uniform", "bin_low=290000000.0", {"sampler": "bins"}),
    ("spos", {"bin_high": 3e8}, "sampler=uniform", "bin_high=360000000.0", {"sampler": "bins"}),
    ("fairnas", {"bins": 2}, "sampler=fair", "bins=7", {"sampler": "bins"}),
    ("fairnas", {"paths": 2}, "sampler=fair", "paths=1", {"sampler": "uniform"}),
    ("cream", {"evaluations": 9}, "search=board", "evaluations=1000", {"search": "random"}),
    ("random", {"population": 4}, "search=random", "population=50", {"search": "aging"}),
    ("spos", {"parents": 4, "search": "nsga2"}, "search=nsga2", "parents=10", {"search": "evolution"}),
    ("evolution", {"mutation": 0.5}, "search=aging", "mutation=0.1", {"search": "nsga2"}),
    ("spos", {"shrink_samples": 9}, "search=evolution", "shrink_samples=500", SHRINK),
    ("random", {"shrink_fresh": 9}, "search=random", "shrink_fresh=250", SHRINK),
    ("cream", {"shrink_top": 0.5}, "search=board", "shrink_top=0.15", SHRINK),
    ("evolution", {"shrink_bins": 2}, "search=aging", "shrink_bins=5", SHRINK),
    ("fairnas", {"shrink_radius": 2}, "search=evolution", "shrink_radius=0", SHRINK),
    ("sandwich", {"shrink_predictor": False}, "search=evolution", "shrink_predictor=true", SHRINK),
    ("lissnas", {"shrink_least": 9, "search": "random"}, "search=random", "shrink_least=128", SHRINK),
    ("lissnas", {"population": 4}, "search=shrink", "population=50", {"search": "aging"}),
    ("spos", {"latency_table": "t.json"}, "objective=macs", "latency_table out", {"objective": "latency"}),
)


@pytest.mark.parametrize(("method", "given", "axis", "back", "cure"), UNREAD)
def test_a_setting_that_nothing_reads_is_refused(
    method: str, given: dict[str, object], axis: str, back: str, cure: dict[str, object]
) -> None:
    """Its default is not; nor is it where the axis reads it."""
    space, made, name = nasdsl.load("nasbench201").checked, METHODS.load(method), next(iter(given))
    with pytest.raises(UserError) as refused:
        made.fits(space, made.resolve(space, given))
    (found,) = refused.value.diagnostics
    assert found.code == "NAS505"
    assert found.message.startswith(f"{name}={str(given[name]).lower()} has no effect")
    assert axis in found.message
    assert str(found.help).endswith(f"or leave {back}")
    read = made.resolve(space, {**given, **cure})
    made.fits(space, read)
    default = {s.name: s.default for s in made.settings}[name]
    made.fits(space, made.resolve(space, {**given, name: default}))


def test_every_setting_that_may_go_unread_is_refused_once() -> None:
    assert {next(iter(given)) for _, given, *_ in UNREAD} == set(READ_UNDER)


def test_what_a_preset_sets_may_go_unread() -> None:
    space, made = nasdsl.load("nasbench201").checked, METHODS.load("cream")
    off: dict[str, object] = {"distillation": "off", "search": "evolution"}
    made.fits(space, made.resolve(space, {**off, "preset": "legacy"}))
    with pytest.raises(UserError, match="legacy=false has no effect"):
        made.fits(space, made.resolve(space, {**off, "preset": "legacy", "legacy": False}))


def test_fair_refuses_more_paths_a_step_than_its_search_would_train() -> None:
    assert MOST_AT_ONCE == sampling.MOST_AT_ONCE
    with pytest.raises(UserError, match="a step would train 210 paths") as refused:
        nasdsl.load("darts").compile("fairnas")
    assert refused.value.diagnostics[0].code == "NAS505"
    assert "sampler=uniform" in str(refused.value.diagnostics[0].help)


def test_latency_without_a_table_is_refused() -> None:
    with pytest.raises(UserError, match="objective=latency has no table") as refused:
        nasdsl.load("nasbench201").compile("spos", settings={"objective": "latency"})
    assert refused.value.diagnostics[0].code == "NAS605"
    assert "latency_table=FILE" in str(refused.value.diagnostics[0].help)


@pytest.mark.parametrize("method", SINGLE)
def test_settings_are_what_their_rules_say(method: str) -> None:
    """The compiler and the search script read the same types, bounds and words."""
    found = [s for s in METHODS.load(method).settings if s.table in ("search", "data")]
    for s in found:
        rule = PATH_RULES["name" if s.name == "data" else s.name]
        bounds = (float("-inf") if s.low is None else s.low, float("inf") if s.high is None else s.high)
        assert (type(s.default), bounds, s.choices) == (rule.kind, (rule.low, rule.high), rule.words), s.name
        assert rule.read(s.default) == s.default
    assert {"name" if s.name == "data" else s.name for s in found} == set(PATH_RULES)


@pytest.mark.parametrize("name", ["lift_none", "simplify", "checkpoint"])
def test_passes_over_weighted_sums_are_refused(name: str) -> None:
    space = nasdsl.load("nasbench201", **SHIPPED["nasbench201"])
    with pytest.raises(UserError) as caught:
        space.compile("spos", passes=f"+{name}")
    (found,) = caught.value.diagnostics
    assert found.code == "NAS503"
    assert name in found.message
    assert found.help is not None


def test_the_order_of_decisions_does_not_depend_on_hashes() -> None:
    program = (
        "from tests.laws.test_paths import ODD\nfrom tests.strategies import checked\n"
        "for cells in ODD.values():\n"
        "    space = checked('space odd { input image(3, 8, 8) ' + cells + ' }')\n"
        "    print([d.path for d in space.table.decisions])\n"
    )
    root = Path(__file__).resolve().parents[2]
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("0", "2")
    }
    assert len(texts) == 1
