"""The lock of a compiled directory: what it says, that it is the same each time, that no changed one is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasdsl
from nasdsl import UserError
from nasdsl.codegen.lock import LOCK, config_digest, read_lock
from nasdsl.records import Each, check, record_of
from tests.verifying.common import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled directory; tests that change it take a copy."""
    here = tmp_path_factory.mktemp("lock")
    (here / "small.nas").write_text(SMALL)
    program = nasdsl.load(here / "small.nas", C=6).compile("darts", settings={"epochs": 3}, passes="-fold")
    program.write(here / "out")
    return here / "out"


def test_it_says_what_the_directory_was_made_from(folder: Path) -> None:
    data = json.loads((folder / LOCK).read_text())
    assert (data["format"], data["kind"]) == (1, "directory")
    lock = read_lock(folder)
    assert (lock.space, lock.source, lock.method, lock.edits) == ("small", "small.nas", "darts", "-fold")
    assert lock.fingerprint == nasdsl.load(folder / "space.nas", C=6).fingerprint
    assert (lock.parameters, lock.given, lock.settings) == ({"C": 6}, {"C": 6}, {"epochs": 3})
    assert [name for name, _ in lock.ir][:2] == ["space", "relax"]
    assert lock.config == config_digest((folder / "config.toml").read_text())
    assert set(lock.files) == {p.name for p in folder.iterdir()} - {LOCK}
    import torch

    assert lock.versions["torch"] == torch.__version__
    assert lock.versions["cuda"] == torch.version.cuda
    assert lock.versions["nasdsl"] == nasdsl.__version__


def test_versions_are_learned_without_importing_what_they_are_of() -> None:
    line = (
        "import sys; from nasdsl.codegen.lock import versions as v; assert v(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def _changed(data: Any) -> list[dict[str, Any]]:
    """The lock with each of its values changed, one at a time."""
    found = []
    for place in _places(data):
        copy = json.loads(json.dumps(data))
        at = copy
        for step in place[:-1]:
            at = at[step]
        old = at[place[-1]]
        at[place[-1]] = old + 1 if isinstance(old, int) else "x" if old is None else old[::-1] + "x"
        found.append(copy)
    return found


def _places(data: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if items is None:
        return [above]
    return [place for key, value in items for place in _places(value, (*above, key))]


def test_a_lock_that_was_changed_in_any_value_is_refused(folder: Path, tmp_path: Path) -> None:
    changed = _changed(json.loads((folder / LOCK).read_text()))
    assert len(changed) > 30
    for data in changed:
        (tmp_path / LOCK).write_text(json.dumps(data))
        with pytest.raises(UserError, match="NAS701"):
            read_lock(tmp_path)


HOSTILE = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"lock"',
    "[" * 100_000,
    '{"a":' * 100_000,
    "9" * 10_000,
    "NaN",
    "{}",
    '{"format": 1, "kind": "directory"}',
    '{"format": true, "kind": "directory"}',
    '{"format": 1, "kind": "run", "files": {}}',
    '{"format": 2, "kind": "directory"}',
    '{"format": 1, "kind": ["directory"], "space": "x"}',
    '{"format": 1, "kind": "directory", "space": {"name": 3}}',
    "\ud800",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_lock_gives_one_message(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as caught:
        read_lock(tmp_path)
    (problem,) = caught.value.diagnostics
    assert problem.code == "NAS701"
    assert problem.help is not None
    assert "\n" not in problem.message


def test_what_is_no_directory_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="NAS005"):
            read_lock(path)


# --- the reader ------------------------------------------------------------------

SHAPE = {"a": int, "b?": [str], "c": (str, type(None)), "d": Each({"e": float})}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "c": null, "d": {}}', None),
        ('{"a": 1, "b": ["x"], "c": "y", "d": {"any": {"e": 2}}}', None),
        ('{"a": true, "c": null, "d": {}}', "`a` is not an integer"),
        ('{"a": 1.0, "c": null, "d": {}}', "`a` is not an integer"),
        ('{"c": null, "d": {}}', "no `a`"),
        ('{"a": 1, "b": ["x", 3], "c": null, "d": {}}', r"`b\[1\]` is not a text"),
        ('{"a": 1, "c": 3, "d": {}}', "`c` is not a text or null"),
        ('{"a": 1, "c": null, "d": {"any": {"e": "x"}}}', "`d.any.e` is not a number"),
        ('{"a": 1, "c": null, "d": {"\\u001b[2J": []}}', r"`d.'\\x1b\[2J'` is not an object"),
        ('{"a": Infinity, "c": null, "d": {}}', "Infinity"),
    ],
)
def test_a_record_has_its_shape_or_says_where_not(text: str, says: str | None) -> None:
    if says is None:
        assert record_of(text, SHAPE) == json.loads(text)
        return
    with pytest.raises(ValueError, match=says):
        record_of(text, SHAPE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_json_fits_a_shape_or_is_a_value_error(data: Any) -> None:
    try:
        check(data, SHAPE)
    except ValueError:
        return
    assert set(data) >= {"a", "c", "d"}
