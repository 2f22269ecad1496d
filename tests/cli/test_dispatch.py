"""The command line as a contract: verbs, help, exit codes, colour, and what happens when things go wrong."""

from __future__ import annotations

import os
import pkgutil
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import nasdsl
import nasdsl.cli
from nasdsl.cli import main
from nasdsl.cli.arguments import Parser, color_argument
from nasdsl.cli.verbs import GROUPS, VERBS, Verb


def parser_of(name: str) -> Parser:
    parser = Parser(name, VERBS[name].summary)
    import_module(f"nasdsl.cli.{name}").configure(parser)
    color_argument(parser)
    return parser


def test_the_table_and_the_modules_agree() -> None:
    modules = (m.name for m in pkgutil.iter_modules(nasdsl.cli.__path__))
    assert {m for m in modules if hasattr(import_module(f"nasdsl.cli.{m}"), "configure")} == set(VERBS)
    assert {verb.group for verb in VERBS.values()} == set(GROUPS)


def test_help_lists_every_verb_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == [
        verb.name for group in GROUPS for verb in VERBS.values() if verb.group == group
    ]
    assert err == ""


def test_no_verb_at_all_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: nasdsl" in capsys.readouterr().out


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"nasdsl {name}" in out[out.rindex("example") :]
    assert err == ""


@pytest.mark.parametrize("name", VERBS)
def test_the_examples_of_the_help_parse(name: str) -> None:
    parser = parser_of(name)
    lines = [line.strip() for line in (parser.epilog or "").splitlines()[1:]]
    assert lines
    for command in (c for line in lines for c in line.split(" | nasdsl ")):
        words = shlex.split(command.removeprefix("nasdsl "))
        assert words[0] == name
        assert parser.parse(words[1:]).color == "auto"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nasdsl {nasdsl.__version__}\n"


def test_an_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cuont", "x.nas"]) == 2
    assert "did you mean `count`?" in capsys.readouterr().err


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_option_is_a_wrong_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = {
        "compile": ["--method", "darts"],
        "draw": ["-o", "x.svg"],
        "stats": ["--arch", "a"],
        "export": ["--arch", "a"],
        "fit": ["--between", "..1G"],
    }
    required |= {"diff": ["darts"], "completion": ["bash"]}
    required |= {"plan": ["--method", "darts"], "benchmark": ["--table", "x.csv"]}
    files = (
        []
        if name in {"methods", "passes", "spaces", "lsp", "completion"}
        else ["NAS203" if name == "explain" else "darts"]
    )
    assert main([name, *files, *required.get(name, []), "--colour", "never"]) == 2
    out, err = capsys.readouterr()
    assert (out, "did you mean `--color`?" in err) == ("", True)


def test_options_are_never_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "darts", "--dist"]) == 2
    assert "did you mean `--distinct`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check"], "FILE"),
        (["sample", "darts", "-n", "-1"], "`-1` is not an integer of 0 or more"),
        (["sample", "darts", "--seed", "x"], "`x` is not an integer"),
        (["count", "darts", "--param", "C"], "NAME=VALUE"),
        (["explain", "NAS2O3"], "did you mean `NAS203`?"),
        (["compile", "darts"], "--method"),
        (["ir", "darts", "--after", "relax"], "--method"),
        (["ir", "darts", "--method", "darts", "--after", "relax", "--after-all"], "not allowed"),
        (["ir", "-", "--param", "C=3"], "no other option"),
        (["draw", "darts", "-o", "darts.txt"], ".svg"),
        (["stats", "darts"], "--arch"),
        (["fit", "darts"], "--between"),
        (["fit", "darts", "--between", "3"], "is no budget"),
        (["fit", "darts", "--between", "2M..1M"], "is empty"),
        (["fit", "darts", "--between", "..1M", "--grow", "layers"], "is no range"),
        (["fit", "darts", "--between", "..1M", "--shrink", "C=9..3"], "is empty"),
        (["fit", "darts", "--between", "..1M", "--grow", "C[0]=1..3"], "numbered from 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_command_lines(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_pass_takes_a_value_that_starts_with_a_dash() -> None:
    words = ["darts", "--method", "toponas", "--pass", "-fold,+x", "--set", "epochs=2"]
    args = parser_of("compile").parse(words)
    assert (args.passes, args.settings) == ("-fold,+x", ["epochs=2"])


BROKEN = """
from nasdsl.errors import InternalError, UserError

def configure(parser):
    parser.add_argument("what")

def run(args):
    if args.what == "interrupt":
        raise KeyboardInterrupt
    if args.what == "user":
        raise UserError.plain("NAS005", "no such file", help="look again")
    raise InternalError("pass `fold` at node n3")
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb of another folder that fails as it is told."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.setattr(nasdsl.cli, "__path__", [*nasdsl.cli.__path__, str(tmp_path)])
    monkeypatch.setitem(VERBS, "broken", Verb("broken", "fails", GROUPS[0]))
    monkeypatch.delitem(sys.modules, "nasdsl.cli.broken", raising=False)


@pytest.mark.usefixtures("broken")
def test_a_bug_is_called_a_bug(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASDSL_DEBUG", raising=False)
    assert main(["broken", "bug"]) == 3
    err = capsys.readouterr().err
    assert "bug in nasdsl: InternalError: pass `fold` at node n3" in err
    assert "Traceback" not in err
    monkeypatch.setenv("NASDSL_DEBUG", "1")
    assert main(["broken", "bug"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("broken")
def test_an_interrupt_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broken", "interrupt"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("broken")
def test_colour_is_for_terminals_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = "error[NAS005]: no such file\n  help: look again\n"
    for option, colored in (("auto", False), ("never", False), ("always", True)):
        assert main(["broken", "user", "--color", option]) == 1
        err = capsys.readouterr().err
        assert ("\033[" in err) == colored
        assert colored or err == plain
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    for value, colored in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        main(["broken", "user"])
        assert ("\033[" in capsys.readouterr().err) == colored


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nasdsl", "explain"],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=root,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
