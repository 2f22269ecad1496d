"""Commands that the pages name: the verbs and flags exist, and cheap ones are run as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nasdsl.cli import main
from nasdsl.cli.verbs import VERBS
from tests.docs.blocks import indented_commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
COMMANDS = [(p.relative_to(ROOT), c) for p in PAGES for c in indented_commands(p)]
CHEAP = ("check", "count", "sample", "methods", "passes", "spaces")


def test_the_pages_name_commands() -> None:
    assert {p for p, _ in COMMANDS} >= {
        p.relative_to(ROOT) for p in PAGES if p.parent.parent.name == "examples"
    }
    assert (Path("README.md"), "make demo") in COMMANDS
    assert (Path("README.md"), "make test") in COMMANDS


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=str)
def test_a_command_exists(page: Path, command: str) -> None:
    words = shlex.split(command.split(" | ", maxsplit=1)[0])
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
        assert {w for w in words[1:] if "=" not in w} <= targets
    elif words[0] == "nasdsl":
        assert words[1] in VERBS, command
    else:
        assert words[0] in ("python", "pip"), command


CHEAP_COMMANDS = [
    (p, c) for p, c in COMMANDS if c.startswith("nasdsl ") and c.split()[1] in CHEAP and " | " not in c
]


@pytest.mark.parametrize(("page", "command"), CHEAP_COMMANDS, ids=str)
def test_a_cheap_command_runs(
    page: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[1:]
    if any(word == "my.nas" for word in words):
        pytest.skip("the reader's own file")
    code = main(words)
    assert code == 0, capsys.readouterr().err


EXAMPLES = sorted(ROOT.glob("examples/*/*.nas"))
COUNTS = {"tiny": 18, "pick": 1152 * 13312 * 16640, "macro": 3**4 * 2 * 2**2, "elastic": 505}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_checks_and_counts(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["count", str(path)]) == 0
    count = int(capsys.readouterr().out)
    assert count == COUNTS[path.stem]
    assert str(count) in (path.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_compiles_by_a_method_its_page_names(path: Path, tmp_path: Path) -> None:
    named = [c for p, c in COMMANDS if p.parent.name == path.parent.name and c.startswith("nasdsl compile")]
    assert named
    for command in named:
        words = shlex.split(command)[1:]
        words[words.index("-o") + 1] = str(tmp_path / "out")
        words[1] = str(ROOT / words[1])
        page = (path.parent / "README.md").read_text("utf-8")
        refused = f"{command}  # exits with 1" in page
        assert main(words) == (1 if refused else 0)
