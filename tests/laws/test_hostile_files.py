"""Files of somebody else's making: architectures, sub-spaces, tables, scores, locks. Wrong ones are one message.

Nothing in such a file is executed, none of it reaches a terminal as a control character, and none brings a command
down: exit code 1 or 2, never 3.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl import Space, UserError
from nasdsl.cli import main
from nasdsl.ranking.trained import from_files
from nasdsl.scoring.cache import Cache
from nasdsl.space.latency import LatencyTable, Machine
from nasdsl.subspace.files import text_of

TEXT = """
space small {
  param C = 4
  input image(1, 8, 8)
  network { stem: choose { a: conv(3, C), b: conv(5, C) } head: global_pool >> linear(10) }
}
"""
VALUES: list[Any] = [
    None,
    True,
    3,
    -1,
    1e300,
    "x",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [None],
    "__import__('os')",
]
TEXTS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b'"x"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 10_000,
    b"1e999",
    b"NaN",
    b"\xff\xfe\x00",
    b"\x00" * 10,
    b'{"choices": NaN}',
    "\ud800".encode("utf-8", "surrogatepass"),
    b'{"__class__": "os.system", "__reduce__": ["os.system", ["touch executed"]]}',
    b"cos\nsystem\n(S'touch executed'\ntR.",
    b"!!python/object/apply:os.system ['touch executed']",
]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "small.nas"
    path.write_text(TEXT)
    return nasdsl.load(path)


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of plain data."""
    if above:
        yield above
    for key, value in (
        data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    ):
        yield from places(value, (*above, key))


def wrong(data: Any) -> Iterator[Any]:
    """Data with one value replaced, or taken out, at every place."""
    for place in places(data):
        for value in (*VALUES, "absent"):
            changed = copy.deepcopy(data)
            at = changed
            for step in place[:-1]:
                at = at[step]
            if value == "absent":
                del at[place[-1]]
            else:
                at[place[-1]] = value
            yield changed


def refused(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    """Reads, or is one message without control characters."""
    path.write_bytes(content)
    said: UserError | None = None
    try:
        read(path)
    except UserError as error:
        said = error
    if said is not None:
        assert all(c.isprintable() or c == "\n" for c in str(said))
        assert len(said.diagnostics) == 1


def table_of(space: Space) -> dict[str, Any]:
    from nasdsl.identity.latency import needed_units

    machine = Machine(device="cpu", name="x", threads=1, precision="fp32", batch=1, torch="2", layout="x")
    table = LatencyTable("t", machine, dict.fromkeys(needed_units(space.checked), 5), 0, 1.0)
    return dict(json.loads(table.text()))


def readers(space: Space) -> dict[str, tuple[Any, Callable[[Path], object]]]:
    """What is read of others, with a right example."""
    arch, other = space.sample(2, seed=1)

    def latency(path: Path) -> object:
        return space.costs("latency", path).at(arch.choices)

    def cached(path: Path) -> object:
        return Cache(path, "x").scores

    return {
        "architecture": (json.loads(arch.to_json()), lambda path: space.parse(str(path))),
        "sub-space": (json.loads(text_of(space.members([arch]))), space.read_subspace),
        "ball": (json.loads(text_of(space.balls([other], 1))), space.read_subspace),
        "latency": (table_of(space), latency),
        "trained": (
            {"architecture": json.loads(arch.to_json()), "accuracy": 0.5},
            lambda p: from_files(space, [str(p)], 9, 0),
        ),
        "scores": ({"of": "x", "id": "y", "choices": dict(arch.choices), "score": 0.5}, cached),
    }


NAMES = ["architecture", "sub-space", "ball", "latency", "trained", "scores"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_kind_in_any_place_is_read_or_refused(
    name: str, space: Space, tmp_path: Path
) -> None:
    right, read = readers(space)[name]
    (tmp_path / "right").write_text(json.dumps(right) + "\n")
    read(tmp_path / "right")
    for data in wrong(right):
        refused(read, tmp_path / "file", (json.dumps(data) + "\n").encode())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_something_else_is_refused_and_not_executed(
    name: str, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, read = readers(space)[name]
    for content in TEXTS:
        refused(read, tmp_path / "file", content)
        refused(read, tmp_path / "file", content + b"\n")
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(JSON, st.sampled_from(NAMES))
def test_any_json_is_read_or_refused(data: Any, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.nas").write_text(TEXT)
        one = nasdsl.load(Path(folder) / "small.nas")
        refused(readers(one)[name][1], Path(folder) / "file", (json.dumps(data) + "\n").encode())


# --- the same from the command line ------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["stats", "SPACE", "--arch", "FILE"],
        ["export", "SPACE", "--arch", "FILE", "-o", "out.py"],
        ["draw", "SPACE", "--arch", "FILE", "-o", "out.svg"],
        ["count", "SPACE", "--within", "FILE"],
        ["compile", "SPACE", "--method", "spos", "--within", "FILE", "-o", "out"],
        ["latency", "SPACE", "--arch", "ARCH", "--table", "FILE"],
        ["benchmark", "SPACE", "--table", "FILE"],
        ["score", "SPACE", "--cost", "params", "--archs", "FILE"],
        ["score", "SPACE", "--predictor", "FILE", "-n", "2"],
        ["verify", "FOLDER"],
        ["rank", "FOLDER", "--trained", "FILE"],
    ],
    ids=lambda words: f"{words[0]} {words[2]}" if len(words) > 2 else words[0],
)
def test_no_file_brings_a_verb_down(
    words: list[str],
    space: Space,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.nas").write_text(TEXT)
    (tmp_path / "folder").mkdir()
    known = {"SPACE": "small.nas", "FILE": "file", "FOLDER": "folder", "ARCH": space.sample(1)[0].to_json()}
    for content in TEXTS:
        (tmp_path / "file").write_bytes(content)
        (tmp_path / "folder" / "nasdsl.lock").write_bytes(content)
        code = main([known.get(word, word) for word in words])
        out, err = capsys.readouterr()
        assert code in (1, 2), (content[:40], out, err)
        assert "this is a bug" not in err
        assert all(c.isprintable() or c == "\n" for c in err)
    assert not (tmp_path / "executed").exists()
