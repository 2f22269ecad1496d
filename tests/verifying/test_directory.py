"""Compiled directories that were touched: what is said of every file, and whether it matters."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest

import nasdsl
from nasdsl import UserError
from nasdsl.cli import main
from nasdsl.codegen.lock import LOCK, WRITTEN, config_digest, digest_of, read_lock
from nasdsl.opening import compiled_again
from nasdsl.verifying import Finding, Report
from nasdsl.verifying.directory import verify_directory
from nasdsl.verifying.meaning import same_program
from nasdsl.verifying.versions import compare_versions
from tests.thinned import thinned
from tests.verifying.common import DAMAGES, SMALL, damage, edit, of, relock

WORDS = {"README.md", "rewrites.md"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("compiled")
    (here / "small.nas").write_text(SMALL)
    nasdsl.load(here / "small.nas", C=6).compile("darts", settings={"epochs": 3}).write(here / "out")
    return here / "out"


@pytest.fixture
def folder(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "dir"))


def test_what_nobody_touched_is_the_same(compiled: Path) -> None:
    report = verify_directory(compiled)
    assert (report.findings, report.unknown, len(report.good)) == ([], [], 3)


CASES: list[tuple[str, dict[str, int], str, dict[str, object], str]] = [
    ("nasbench201", {"N": 1, "C": 4}, "gdas", {"epochs": 2}, "-fold"),
    ("darts", {"layers": 3, "C": 4}, "toponas", {"recipe": "cream"}, ""),
    ("residual_mlp", {}, "evolution", {}, ""),
    ("autoformer", {}, "spos", {"search": "nsga2"}, ""),
]


@pytest.mark.parametrize(("space", "params", "method", "settings", "passes"), CASES)
def test_compiled_again_from_its_lock_every_file_is_the_same_to_the_byte(
    tmp_path: Path,
    space: str,
    params: dict[str, int],
    method: str,
    settings: dict[str, object],
    passes: str,
) -> None:
    program = nasdsl.load(space, **params).compile(method, settings=settings, passes=passes)
    program.write(tmp_path)
    assert compiled_again(tmp_path, read_lock(tmp_path)).files() == program.files()


def test_parts_and_amended_spaces_are_compiled_again(tmp_path: Path) -> None:
    space = nasdsl.load("nasbench201", N=1, C=4)
    part = space.balls(space.sample(2, seed=1), 1)
    inside = space.within(part).compile("darts")
    inside.write(tmp_path / "inside")
    assert compiled_again(tmp_path / "inside", read_lock(tmp_path / "inside")).files() == inside.files()
    (tmp_path / "amended.nas").write_text('space mine from "nasbench201.nas" { param N = 1 param C = 4 }\n')
    nasdsl.load(tmp_path / "amended.nas").compile("darts").write(tmp_path / "amended")
    # Places in its comments are those of the file that was amended; what it computes is the same.
    assert verify_directory(tmp_path / "amended").findings == []


@pytest.mark.parametrize(
    ("name", "change", "matters", "says"),
    [
        ("README.md", lambda t: t + "mine\n", False, "nothing but people"),
        ("rewrites.md", lambda t: "", False, "nothing but people"),
        ("space.nas", lambda t: t + "# a comment\n", False, "same space"),
        ("space.nas", lambda t: t.replace("conv(5, C)", "conv(7, C)"), True, "another space"),
        (
            "space.nas",
            lambda t: t.replace("conv(5, C)", "cnov(5, C)"),
            True,
            "cannot be compiled again (NAS101",
        ),
        ("supernet.py", lambda t: t + "# mine\n", False, "comments only"),
        ("supernet.py", lambda t: t.replace("padding=2", "padding=(2, 2)"), True, "edited by hand"),
        ("search.py", lambda t: t.replace("step / steps", "1.0"), True, "edited by hand"),
        (
            "search.py",
            lambda t: t.replace("def main() -> None:", "def main() -> None:  # begin"),
            False,
            "comments",
        ),
        ("retrain.py", lambda t: t + "print(3)\n", True, "edited by hand"),
        ("config.toml", lambda t: "# mine\n" + t, False, "every setting is as it was"),
        (
            "config.toml",
            lambda t: t.replace("epochs = 3", "epochs = 4", 1),
            True,
            "`epochs` of [search] was 3, is 4",
        ),
        (
            "config.toml",
            lambda t: t.replace('activation = "softmax"', 'activation = "sigmoid"'),
            True,
            "[compile]",
        ),
        ("config.toml", lambda t: t + "[", True, "no TOML"),
        ("config.toml", lambda t: t.replace("epochs = 3", "epochz = 3", 1), True, "refuse"),
    ],
)
def test_an_edit_matters_or_does_not(
    folder: Path, name: str, change: Callable[[str], str], matters: bool, says: str
) -> None:
    edit(folder / name, change)
    report = verify_directory(folder)
    mine = [f for f in report.findings if f.subject == name]
    assert any(says in f.what and f.matters == matters for f in mine), report.findings
    assert report.matters == matters


def test_a_space_that_is_another_one_changes_what_was_proved(folder: Path) -> None:
    edit(folder / "space.nas", lambda t: t.replace("conv(5, C)", "conv(7, C)"))
    assert "the space itself is another one" in of(verify_directory(folder), "passes").what


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("torch.py", True),
        ("json/__init__.py", True),
        ("supernet/__init__.py", True),
        ("mine.py", False),
        ("x", False),
    ],
)
def test_what_compile_did_not_write(folder: Path, name: str, matters: bool) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")
    (folder / "runs" / "0").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "gone.cpython-311.pyc").write_bytes(b"")  # beside no source it is never read
    report = verify_directory(folder)
    assert [(f.subject, f.matters) for f in report.findings] == [(name.partition("/")[0], matters)]


# --- damage ----------------------------------------------------------------------

NAMES = (
    "space.nas",
    "supernet.py",
    "search.py",
    "retrain.py",
    "config.toml",
    "rewrites.md",
    "README.md",
    LOCK,
)


@pytest.mark.parametrize(("name", "how"), thinned(product(NAMES, DAMAGES), 3))
def test_damage_of_any_file_is_said(
    folder: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / name, how)
    code = main(["verify", str(folder)])
    out, err = capsys.readouterr()
    if name == LOCK:
        # All that it says counts; the line end behind it is nothing that it says.
        assert (code, out == "") == ((0, False) if how == "last byte gone" else (1, True))
        assert how == "last byte gone" or "NAS701" in err or "NAS005" in err
        return
    assert name in out
    assert "MATTERS" in out or "harmless" in out
    assert err == ""
    if name in WORDS:
        assert code == 0
    elif how != "last byte gone" and "bit" not in how:
        assert code == 1


def test_a_report_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "config.toml", lambda t: t.replace("epochs = 3", "epochs = 4", 1))
    edit(folder / "README.md", lambda t: t + "x")
    assert main(["verify", str(folder), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["matters"] is True
    assert {(f["subject"], f["matters"]) for f in record["findings"]} == {
        ("config.toml", True),
        ("README.md", False),
    }
    assert record["kind"] == "directory"


def test_text_of_a_directory_cannot_steer_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder / "config.toml", lambda t: t + '\n"\\u001b[2J\\nMATTERS" = "\\u0007"\n')
    (folder / "a\x1b[2Jb.py").write_text("")
    main(["verify", str(folder)])
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "\nMATTERS" not in out


def test_python_in_a_space_is_not_imported_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ops_of_mine.py").write_text(
        "from pathlib import Path\n"
        "from torch import nn\n"
        "Path(__file__).with_name('imported').touch()\n"
        "class Mine(nn.Conv2d):\n"
        "    def __init__(self, c): super().__init__(c, c, 1)\n"
        "OPERATIONS = {'mine': Mine}\n"
    )
    (tmp_path / "py.nas").write_text(
        'space py {\n  use python "ops_of_mine"\n  input image(1, 8, 8)\n'
        "  network { stem: conv(3, 4) body: choose { a: mine, b: id } head: global_pool >> linear(10) }\n}\n"
    )
    nasdsl.load(tmp_path / "py.nas", allow_python=True).compile("darts").write(tmp_path / "out")
    (tmp_path / "imported").unlink()
    monkeypatch.delitem(sys.modules, "ops_of_mine")
    report = verify_directory(tmp_path / "out")
    assert report.findings == []
    assert any("--allow-python" in line for line in report.unknown)
    assert not (tmp_path / "imported").exists()
    assert any("ops_of_mine as when" in line for line in report.good)
    assert verify_directory(tmp_path / "out", allow_python=True).findings == []
    assert (tmp_path / "imported").exists()
    # The module is a part of what was compiled, wherever the scripts would find it.
    edit(tmp_path / "ops_of_mine.py", lambda t: t.replace("c, c, 1", "c, c, 3, padding=1"))
    assert of(verify_directory(tmp_path / "out"), "ops_of_mine").matters
    monkeypatch.undo()
    assert any("ops_of_mine" in line for line in verify_directory(tmp_path / "out").unknown)
    shutil.copy(tmp_path / "ops_of_mine.py", tmp_path / "out")
    report = verify_directory(tmp_path / "out")
    assert [f.subject for f in report.findings] == ["ops_of_mine"]


def test_a_module_beside_the_scripts_is_found_where_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/ops_beside.py").write_text(
        "from torch import nn\n"
        "class Mine(nn.Conv2d):\n"
        "    def __init__(self, c): super().__init__(c, c, 1)\n"
        "OPERATIONS = {'mine': Mine}\n"
    )
    (tmp_path / "py.nas").write_text(
        'space py {\n  use python "ops_beside"\n  input image(1, 8, 8)\n'
        "  network { stem: conv(3, 4) body: choose { a: mine, b: id } head: global_pool >> linear(10) }\n}\n"
    )
    line = (
        "import sys, nasdsl; sys.path.insert(0, 'out'); nasdsl.load('py.nas', allow_python=True)"
        ".compile('darts').write('out'); sys.path.pop(0); sys.modules.pop('ops_beside');"
        "from nasdsl.cli import main; sys.exit(main(['verify', 'out', '--allow-python']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing differs\n" in done.stdout


# --- a lock that was made to fit -------------------------------------------------


def named(config: str, data: str) -> str:
    """The settings with other data."""
    return re.sub(r'^name = ".*"$', f'name = "{data}"', config, flags=re.MULTILINE)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_lock_names_all_that_is_read(folder: Path, name: str) -> None:
    relock(folder, lambda data: data["files"].pop(name))
    with pytest.raises(UserError, match=f"NAS701.*{name}"):
        verify_directory(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("search.py", lambda t: "print('mine')\n"),
        ("retrain.py", lambda t: "print('mine')\n"),
        ("supernet.py", lambda t: t.replace("padding=2", "padding=(2, 2)")),
        ("config.toml", lambda t: t.replace("weight_lr = 0.025", "weight_lr = 0.5")),
        ("config.toml", lambda t: named(t, "mine:load")),
        ("config.toml", lambda t: t + "mine = 3\n"),
    ],
)
def test_what_compile_would_not_write_matters_though_the_lock_fits(
    folder: Path, name: str, change: Callable[[str], str]
) -> None:
    edit(folder / name, change)
    text = (folder / name).read_text()

    def fit(data: dict[str, Any]) -> None:
        data["files"][name] = digest_of(text)
        data["config"] = config_digest((folder / "config.toml").read_text())

    relock(folder, fit)
    report = verify_directory(folder)
    assert any(f.subject == name and f.matters for f in report.findings), report.findings


def test_code_as_data_is_said_and_so_is_the_module_beside_the_scripts(folder: Path) -> None:
    edit(folder / "config.toml", lambda t: named(t, "mine_data:load"))
    (folder / "mine_data.py").write_text("def load(): ...\n")
    report = verify_directory(folder)
    assert any("import and call it" in f.what for f in report.findings if f.subject == "config.toml")
    assert "config.toml names it as data" in of(report, "mine_data.py").what
    assert of(report, "mine_data.py").matters


def test_a_lock_that_names_a_module_does_not_make_it_one_of_the_directory(folder: Path) -> None:
    (folder / "torch.py").write_text("")
    relock(folder, lambda data: data["files"].update({"torch.py": digest_of("")}))
    assert "in the place of `torch`" in of(verify_directory(folder), "torch.py").what


# --- bytecode --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["UNCHECKED_HASH", "CHECKED_HASH", "TIMESTAMP"])
def test_bytecode_of_another_program_matters(folder: Path, tmp_path: Path, mode: str) -> None:
    cache = Path(importlib.util.cache_from_source(str(folder / "supernet.py")))
    source = folder / "supernet.py"
    py_compile.compile(str(source), str(cache), invalidation_mode=py_compile.PycInvalidationMode["TIMESTAMP"])
    assert verify_directory(folder).findings == []
    good, status = source.read_text(), source.stat()
    source.write_text(good[:-20] + "#" * 19 + "\n")  # of the same size and, then, of the same time
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    py_compile.compile(str(source), str(cache), invalidation_mode=py_compile.PycInvalidationMode[mode])
    source.write_text(good)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = verify_directory(folder)
    assert [f.matters for f in report.findings] == [True]
    assert "in the place of supernet.py" in report.findings[0].what
    cache.write_bytes(cache.read_bytes()[:16] + b"\xe3" * 40)
    assert verify_directory(folder).matters
    os.utime(source)  # Python would compile the source anew, or never looks at its time
    assert verify_directory(folder).matters == (mode != "TIMESTAMP")


# --- versions --------------------------------------------------------------------


def test_versions_that_compute_matter_and_others_do_not_if_all_comes_out_the_same() -> None:
    then = {"nasdsl": "0.0.9", "torch": "2.5.0", "lark": "1.2.0", "cuda": None}
    now = {"nasdsl": "0.1.0", "torch": "2.5.1", "lark": "1.2.0", "cuda": None}
    report = Report("directory", "x")
    compare_versions(then, now, report, same=True)
    assert {f.subject: f.matters for f in report.findings} == {"nasdsl": False, "torch": True}
    assert "last bits" in of(report, "torch").what
    report = Report("directory", "x")
    compare_versions(then, now, report, same=False)
    assert {f.subject: f.matters for f in report.findings} == {"nasdsl": True, "torch": True}


def test_a_version_that_writes_other_files_is_told_from_one_that_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasdsl.codegen.lock.__version__", "9.9.9")
    report = verify_directory(folder)
    assert (of(report, "nasdsl").matters, report.matters) == (False, False)


@pytest.mark.parametrize(
    "words",
    [["--replay"], ["--directory", "x"], ["--data", "digits"], ["--data-dir", "x"], ["--model", "x"]],
    ids=lambda words: words[0],
)
def test_options_of_runs_are_refused_for_directories(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(folder), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_a_hostile_lock_names_nothing_outside_its_folder(folder: Path, tmp_path: Path) -> None:
    """A lock that fits its own checksum may still be of somebody else's making."""
    from nasdsl.codegen import lock

    (tmp_path / "secret").write_text("here")
    data = json.loads((folder / LOCK).read_text())
    data["files"] = {**data["files"], "../secret": lock.digest_of("here")}
    data["method"], data["settings"] = "../../x", {"__class__": "x"}
    del data["checksum"]
    data["checksum"] = lock.checksum_of(data)
    (folder / LOCK).write_text(json.dumps(data))
    report = verify_directory(folder)
    assert "missing" in of(report, "../secret").what
    assert "NAS501" in of(report, "space.nas").what


def test_findings_are_plain_data() -> None:
    assert attrs.asdict(Finding("a\nb", "c\x1bd", True)) == {
        "subject": "a b",
        "what": "c\ufffdd",
        "matters": True,
        "cure": None,
    }


def test_what_is_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="NAS005"):
        verify_directory(tmp_path)
    assert main(["verify", str(tmp_path / "nosuch"), "--replay"]) == 1
    assert "NAS005" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("# a\nx = 1", "x = 1  # b", True),
        ('"""one"""\nx = 1', '"""two"""\nx = 1', True),
        ('"""one"""\nx = 1', "x = 1", False),
        ('def f():\n    "one"\n    return f.__doc__', "def f():\n    return f.__doc__", False),
        ('async def f():\n    "one"', 'async def f():\n    "two"', True),
        ("x = " + "-" * 3000 + "1", "x = 1", False),
        ("x = 1", "x = 2", False),
    ],
)
def test_what_a_program_says(left: str, right: str, same: bool) -> None:
    """Comments count for nothing, the words of docstrings neither; that there is one does."""
    assert same_program(left, right) == same == same_program(right, left)
