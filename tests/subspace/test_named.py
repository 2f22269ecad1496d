"""`within "FILE"` in a space: the same part as `Space.within` of that file, with a place where it is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.cli import main
from nasdsl.diagnostics import Diagnostic
from nasdsl.opening import check_file, load_unlimited
from nasdsl.subspace.value import Subspace
from nasdsl.syntax.format import format_text
from tests.house.test_lazy_imports import LEARNING, command, report
from tests.runtime.forks import ran
from tests.subspace.common import TEXTS, checked, every, key, subspaces

PLAIN = TEXTS["plain"]


def named(text: str, *files: str) -> str:
    """A text whose space is within the sub-spaces of files."""
    return text.replace("{", "{" + "".join(f'\n  within "{f}"' for f in files) + "\n", 1)


def whole() -> nasdsl.Space:
    return nasdsl.Space(checked("plain"))


def parts() -> tuple[Subspace, Subspace]:
    """Two sub-spaces that overlap."""
    space = whole()
    first = space.decisions[0]
    return space.balls(space.sample(2, seed=3), 2), space.restriction({first.path: first.options[:2]})


def put(folder: Path, text: str, **subs: Subspace) -> str:
    """Writes `s.nas` and sub-spaces beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sub in subs.items():
        sub.write(folder / f"{name}.json")
    (folder / "s.nas").write_text(text)
    return str(folder / "s.nas")


def members(space: nasdsl.Space) -> set[object]:
    return {key(c) for c in every("plain") if space.allows(c)}


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_it_is_the_part_that_the_file_holds(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sub = data.draw(subspaces(name))
    assume(sub.tally().high)
    path = put(tmp_path_factory.mktemp("s"), named(TEXTS[name], "part.json"), part=sub)
    space, same = nasdsl.load(path), nasdsl.Space(checked(name)).within(sub)
    assert space.fingerprint == same.fingerprint == checked(name).fingerprint
    assert space.within_digest == same.within_digest == sub.digest
    assert space.tally().low == same.tally().low
    assert space.sample(5, seed=1) == same.sample(5, seed=1)
    assert all(space.allows(c) == sub.contains(c) for c in every(name))


def test_several_intersect_and_so_does_the_option(tmp_path: Path) -> None:
    near, narrow = parts()
    both = put(tmp_path / "both", named(PLAIN, "near.json", "narrow.json"), near=near, narrow=narrow)
    one = put(tmp_path / "one", named(PLAIN, "near.json"), near=near)
    space = nasdsl.load(both)
    assert space.within_digest == (near & narrow).digest == nasdsl.load(one).within(narrow).within_digest
    assert space.within(near).within_digest == space.within_digest
    assert 0 < space.count() < min(near.tally().low, narrow.tally().low)


def test_limits_hold_beside_it(tmp_path: Path) -> None:
    near, _ = parts()
    limited = named(PLAIN, "near.json").replace("network", "limit params <= 500 network", 1)
    space = nasdsl.load(put(tmp_path, limited, near=near))
    low = {key(c) for c in every("plain") if near.contains(c) and whole().costs("params").at(c) <= 500}
    assert members(space) == low
    assert space.count() == len(low)
    assert 0 < len(low) < near.tally().low


def test_an_architecture_outside_is_refused(tmp_path: Path) -> None:
    near, _ = parts()
    path = put(tmp_path, named(PLAIN, "near.json"), near=near)
    space = nasdsl.load(path)
    outside = next(a for a in whole().sample(50) if a.choices not in near)
    inside = space.draw_choices(random.Random(0))
    assert nasdsl.load_architecture(path, space.architecture(inside).to_json())[1].choices == inside
    with pytest.raises(nasdsl.UserError, match="NAS405"):
        nasdsl.load_architecture(path, outside.to_json())


# --- where a file is looked for --------------------------------------------------


def test_it_is_looked_for_from_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, _ = parts()
    put(tmp_path / "home" / "parts", PLAIN, near=near)
    put(tmp_path / "home", named(PLAIN, "parts/near.json"))
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    for path in ("../home/s.nas", tmp_path / "home" / "s.nas"):
        assert nasdsl.load(path).within_digest == near.digest


def test_an_amendment_adds_one(tmp_path: Path) -> None:
    near, narrow = parts()
    put(tmp_path / "base", named(PLAIN, "part.json"), part=near)
    (tmp_path / "mine.nas").write_text('space mine from "base/s.nas" { within "part.json" }')
    narrow.write(tmp_path / "part.json")
    space = nasdsl.load(tmp_path / "mine.nas")
    assert members(space) == members(whole().within(near & narrow))
    # A shipped space is amended in the same way.
    shipped = nasdsl.load("nasbench201")
    shipped.balls(shipped.sample(1), 1).write(tmp_path / "part.json")
    (tmp_path / "mine.nas").write_text('space mine from "nasbench201.nas" { within "part.json" }')
    assert nasdsl.load(tmp_path / "mine.nas").count() == 25
    (tmp_path / "base" / "part.json").unlink()
    (tmp_path / "mine.nas").write_text('space mine from "base/s.nas" { doc "x" }')
    (problem,) = check_file(tmp_path / "mine.nas").errors
    assert problem.primary is not None
    assert problem.primary.span.source.name == str(tmp_path / "base" / "s.nas")


# --- what is wrong has its place -------------------------------------------------


def place(problems: Iterable[Diagnostic]) -> tuple[str, str]:
    """The code and the text at the place of the only error."""
    (problem,) = problems
    assert problem.primary is not None
    assert problem.help
    return problem.code, problem.primary.span.text


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "NAS005"),
        (b"\xff\xfe", "NAS404"),
        (b"", "NAS404"),
        (b"{}", "NAS404"),
        (b'{"space": "p", "fingerprint": "", "params": {}, "subspace": {"kind": "balls"}}', "NAS404"),
    ],
)
def test_a_file_that_is_missing_or_wrong(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = put(tmp_path, named(PLAIN, "part.json"))
    if content is not None:
        (tmp_path / "part.json").write_bytes(content)
    assert place(check_file(path).errors) == (code, '"part.json"')
    with pytest.raises(nasdsl.UserError, match=code):
        nasdsl.load(path)


@pytest.mark.parametrize("written", ["", "..", "a\\\\0b", "x" * 300])
def test_a_name_that_names_no_file(tmp_path: Path, written: str) -> None:
    assert place(check_file(put(tmp_path, named(PLAIN, written))).errors) == ("NAS005", f'"{written}"')


def test_a_sub_space_of_another_space_and_two_with_nothing_in_common(tmp_path: Path) -> None:
    other = nasdsl.load("nasbench201")
    path = put(tmp_path, named(PLAIN, "part.json"), part=other.balls(other.sample(1), 1))
    assert place(check_file(path).errors) == ("NAS404", '"part.json"')
    space, first = whole(), whole().decisions[0]
    apart = {name: space.restriction({first.path: [first.options[i]]}) for i, name in enumerate("ab")}
    path = put(tmp_path, named(PLAIN, "a.json", "b.json"), **apart)
    assert place(check_file(path).errors) == ("NAS404", '"b.json"')


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.json").write_text("[]")
    found = check_file(put(tmp_path, named(PLAIN, "b.json", "c.json"))).errors
    assert [d.primary and d.primary.span.text for d in found] == ['"b.json"', '"c.json"']


def test_check_shows_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path, named(PLAIN, "part.json"))
    assert main(["check", path]) == 1
    err = capsys.readouterr().err
    assert f"{path}:2:10" in err
    assert "NAS005" in err
    assert "help" in err


# --- verbs, with no option given ---------------------------------------------------


def test_verbs_keep_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near, _ = parts()
    path = put(tmp_path, named(PLAIN, "near.json"), near=near)

    def out(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    size = near.tally().low
    assert out("check", path) == f"{path}: ok\n"
    assert out("count", path) == f"{size}\n"
    record = json.loads(out("count", path, "--json"))
    assert (record["count"], record["within"]) == (size, near.digest)
    drawn = map(nasdsl.Architecture.from_json, out("sample", path, "-n", "30").splitlines())
    assert all(a.choices in near for a in drawn)
    assert json.loads(out("plan", path, "--json"))["encodings"]["low"] == size
    rows = sorted({a.to_json() for a in whole().sample(40, seed=5)})
    inside = [nasdsl.Architecture.from_json(r).choices in near for r in rows]
    quoted = ['"' + r.replace('"', '""') + '"' for r in rows]
    table = ["arch,accuracy", *(f"{q},{i}" for i, q in enumerate(quoted))]
    (tmp_path / "t.csv").write_text("\n".join(table) + "\n")
    summary = json.loads(out("benchmark", path, "--table", str(tmp_path / "t.csv"), "--check", "--json"))
    assert 0 < sum(inside) < len(rows)
    assert (summary["checked"], summary["rows"]) == (len(rows), sum(inside))
    assert summary["within"] == near.digest


def test_what_takes_no_limits_does_not_read_it(tmp_path: Path) -> None:
    path = put(tmp_path, named(PLAIN, "nowhere.json"))
    space = load_unlimited(path, False, {})
    assert (space.count(), space.subspace) == (whole().count(), None)


def test_diff_tells_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near, narrow = parts()
    small = put(tmp_path / "small", named(PLAIN, "part.json"), part=near)
    other = put(tmp_path / "other", named(PLAIN, "part.json"), part=narrow)
    plain = put(tmp_path / "plain", PLAIN)
    for old, new, holds in ((plain, small, 1), (small, plain, 0), (small, other, 1), (small, small, 0)):
        assert main(["diff", old, new, "--level", "architectures"]) == holds
        assert ("within" in capsys.readouterr().out) == (old != new)


# --- text ---------------------------------------------------------------------------


def test_the_formatter_keeps_comments() -> None:
    text = 'space p {\n  # above\n  within   "a.json"   # behind\n  within "b.json"\n}\n'
    made = 'space p {\n  # above\n  within "a.json"  # behind\n  within "b.json"\n}\n'
    assert format_text(text) == format_text(made) == made


def test_an_editor_shows_what_is_wrong(tmp_path: Path) -> None:
    from nasdsl.lsp.knowledge import read_document

    text = named(PLAIN, "part.json")
    assert place(read_document(str(tmp_path / "s.nas"), text).problems) == ("NAS005", '"part.json"')
    (tmp_path / "part.json").write_text("{}")
    document = read_document(str(tmp_path / "s.nas"), text)
    assert place(document.problems) == ("NAS404", '"part.json"')
    assert "within" in {s.label for s in document.suggestions(0)}
    put(tmp_path, text, part=parts()[0])
    assert read_document(str(tmp_path / "s.nas"), text).space is not None


# --- a compiled directory --------------------------------------------------------------


def unpacked(folder: Path, files: dict[str, str]) -> nasdsl.Space:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return nasdsl.load(folder / "space.nas")


def test_a_compiled_directory_is_whole(tmp_path: Path) -> None:
    near, narrow = parts()
    put(tmp_path / "base", named(PLAIN, "part.json"), part=near)
    (tmp_path / "mine.nas").write_text('space mine from "base/s.nas" { within "part.json" }')
    narrow.write(tmp_path / "part.json")
    space = nasdsl.load(tmp_path / "mine.nas")
    files = dict(space.compile("spos").files())
    for path in (tmp_path / "part.json", tmp_path / "base" / "part.json"):
        path.unlink()
    again = unpacked(tmp_path / "out", files)
    assert (again.fingerprint, again.within_digest) == (space.fingerprint, space.within_digest)
    # What a search and `nasdsl rank` load: the part once more, which changes nothing.
    assert again.within(tmp_path / "out" / "subspace.json").within_digest == space.within_digest
    assert json.loads(files["nasdsl.lock"])["files"].keys() >= {"part.json", "2-part.json"}


@pytest.mark.parametrize("name", ["subspace", "config.toml", "runs", "q\\\\u", 'a\\"b'])
def test_a_file_named_as_one_of_the_directory_takes_the_place_of_none(tmp_path: Path, name: str) -> None:
    near, _ = parts()
    plain = name.replace('\\"', '"').replace("\\\\", "\\")
    written = named(PLAIN, f"{name}.json", "near.json")
    text = f'{written}# within "{name}.json" in a comment\n'
    space = nasdsl.load(put(tmp_path, text, **{plain: near, "near": near}))
    files = dict(space.compile("spos").files())
    again = unpacked(tmp_path / "out", files)
    assert again.within_digest == near.digest
    assert f'# within "{name}.json" in a comment' in files["space.nas"]


def test_a_search_stays_inside_and_needs_no_more_than_its_directory(tmp_path: Path) -> None:
    near, _ = parts()
    path = put(tmp_path, named(PLAIN, "near.json"), near=near)
    assert main(["compile", path, "--method", "random", "-o", str(tmp_path / "out")]) == 0
    (tmp_path / "near.json").unlink()
    (tmp_path / "s.nas").unlink()
    line = ("--data", "digits", "--device", "cpu", "--limit-batches", "1", "--epochs", "1")
    ended = ran(
        tmp_path / "out", "search.py", *line, "--set", "evaluations=6", "--out", str(tmp_path / "run")
    )
    assert ended.returncode == 0, ended.stderr
    judged = json.loads((tmp_path / "run" / "judged.json").read_text())
    assert judged
    assert all(near.contains(j["choices"]) for j in judged)


def test_checking_imports_no_torch(tmp_path: Path) -> None:
    near, _ = parts()
    put(tmp_path, named(PLAIN, "near.json"), near=near)
    found = report(command("check", "s.nas"), tmp_path)
    assert found["code"] == 0
    assert not {*LEARNING} & {*found["loaded"]}  # type: ignore[misc]
