"""Compiled directories that were touched: what is said of every file, and whether it matters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import nasdsl
from nasdsl import UserError
from nasdsl.cli import main
from nasdsl.codegen.lock import LOCK, read_lock
from nasdsl.opening import compiled_again
from nasdsl.verifying import Finding, Report
from nasdsl.verifying.directory import verify_directory
from nasdsl.verifying.versions import compare_versions
from tests.verifying.test_lock import SMALL

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


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text("utf-8")
    path.write_text(change(before), "utf-8")
    assert path.read_text("utf-8") != before


def of(report: Report, subject: str) -> Finding:
    (finding,) = [f for f in report.findings if f.subject == subject]
    return finding


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


def _flip(data: bytes, place: float) -> bytes:
    at = int(len(data) * place)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "emptied": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "bit flipped": lambda data: _flip(data, 0.3),
    "another bit": lambda data: _flip(data, 0.71),
    "no text": lambda data: data[:40] + b"\xff\x00" + data[40:],
    "removed": lambda data: None,
}


def damage(path: Path, how: str) -> None:
    data = DAMAGES[how](path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
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
    monkeypatch.delitem(__import__("sys").modules, "ops_of_mine")
    report = verify_directory(tmp_path / "out")
    assert report.findings == []
    assert any("--allow-python" in line for line in report.unknown)
    assert not (tmp_path / "imported").exists()
    assert verify_directory(tmp_path / "out", allow_python=True).findings == []
    assert (tmp_path / "imported").exists()


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
    [["--replay"], ["--directory", "x"], ["--data", "digits"], ["--data-dir", "x"]],
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


def test_what_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NAS005"):
        verify_directory(tmp_path)
