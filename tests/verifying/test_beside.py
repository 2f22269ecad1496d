"""A search in a directory that was damaged: one message with a cure, or the run that it would have been."""

from __future__ import annotations

import importlib.util
import py_compile
import shutil
import sys
from pathlib import Path

import pytest

import nasdsl
from nasdsl.verifying.beside import supernet_of
from tests.verifying.common import DAMAGES, LINE, SMALL, damage, edit, script


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("beside")
    (here / "small.nas").write_text(SMALL)
    nasdsl.load(here / "small.nas").compile("darts", settings={"epochs": 1}).write(here / "out")
    return here / "out"


def used(compiled: Path, tmp_path: Path, root: Path, name: str, how: str) -> tuple[int, str]:
    """What `search.py` does in a damaged directory."""
    folder = Path(shutil.copytree(compiled, tmp_path / "dir"))
    damage(folder / name, how)
    done = script(folder / "search.py", *LINE, "--stop-after", "1")
    return done.returncode, done.stderr


def clear(code: int, error: str, name: str) -> bool:
    """Whether this is the run as it is, perhaps with a note, or a message that names the file and a cure."""
    if "Traceback" in error or code not in (0, 1):
        return False
    return code == 0 or name in error


QUICK = [
    ("space.nas", "truncated"),
    ("supernet.py", "truncated"),
    ("supernet.py", "emptied"),
    ("config.toml", "bit flipped"),
    ("nasdsl.lock", "emptied"),
    ("README.md", "removed"),
]
IN_FULL = [
    (n, h) for n in ("space.nas", "supernet.py", "config.toml", "nasdsl.lock", "README.md") for h in DAMAGES
]


@pytest.mark.parametrize(("name", "how"), QUICK)
def test_a_damaged_directory_searches_or_says_what_is_wrong(
    compiled: Path, tmp_path: Path, root: Path, name: str, how: str
) -> None:
    code, error = used(compiled, tmp_path, root, name, how)
    assert clear(code, error, name), error


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), [case for case in IN_FULL if case not in QUICK])
def test_any_damage_of_a_file_that_a_search_reads(
    compiled: Path, tmp_path: Path, root: Path, name: str, how: str
) -> None:
    code, error = used(compiled, tmp_path, root, name, how)
    assert clear(code, error, name), error


def test_bytecode_does_not_stand_in_for_the_supernet(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is executed is what was compared: the text of `supernet.py`."""
    folder = Path(shutil.copytree(compiled, tmp_path / "dir"))
    (tmp_path / "other.py").write_text("Supernet = None\n")
    cache = importlib.util.cache_from_source(str(folder / "supernet.py"))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(tmp_path / "other.py"), cache, invalidation_mode=unchecked)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "supernet", None)  # which puts back what is there now
    monkeypatch.delitem(sys.modules, "supernet")
    assert supernet_of(folder) is not None
    assert sys.modules["supernet"].__file__ == str(folder / "supernet.py")
    del sys.modules["supernet"]
    assert importlib.import_module("supernet").Supernet is None  # which shows that it would have stood in
    monkeypatch.setitem(sys.modules, "supernet", None)
    monkeypatch.delitem(sys.modules, "supernet")
    (folder / "supernet.py").write_text("x = " + "(" * 5000)
    with pytest.raises(SystemExit):
        supernet_of(folder)


def test_a_supernet_that_was_edited_is_used_and_said(compiled: Path, tmp_path: Path, root: Path) -> None:
    folder = Path(shutil.copytree(compiled, tmp_path / "dir"))
    edit(folder / "supernet.py", lambda t: t + "# mine\n")
    done = script(folder / "search.py", *LINE, "--stop-after", "1")
    assert done.returncode == 0, done.stderr
    assert "note: supernet.py changed since" in done.stderr
    assert f"`nasdsl verify {folder}`" in done.stderr
    again = script(compiled / "search.py", *LINE, "--stop-after", "1", "--out", str(tmp_path / "r"))
    assert (again.returncode, again.stderr) == (0, "")
