"""Every verb on the shipped spaces and on broken files: what it prints, where, and its exit code."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from nasdsl.cli import main
from nasdsl.diagnostics import CODES
from nasdsl.resources import shipped_spaces

SPACES = tuple(shipped_spaces())
NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
BROKEN = "space broken {\n  input image(3, 8, 8)\n  network { head: global_pool >> linaer(10) }\n}\n"


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "broken.nas"
    path.write_text(BROKEN)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_check_is_quiet_about_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", *SPACES) == (0, "".join(f"{s}: ok\n" for s in SPACES), "")
    assert run(capsys, "check", *SPACES, "--format", "json") == (0, "[]\n", "")


def test_check_reports_every_file(capsys: pytest.CaptureFixture[str], broken: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.nas")
    code, out, err = run(capsys, "check", broken, missing, "darts")
    assert (code, out) == (1, "darts: ok\n")
    assert "NAS101" in err
    assert "did you mean `linear`" in err
    assert f"{broken}:3:" in err
    assert "NAS005" in err
    code, out, err = run(capsys, "check", broken, missing, "--format", "json")
    found = json.loads(out)
    assert (code, err) == (1, "")
    assert {"NAS101", "NAS005"} <= {d["code"] for d in found}
    place = next(d["primary"]["place"] for d in found if d["code"] == "NAS101")
    assert (place["file"], place["line"]) == (broken, 3)


def test_every_verb_that_takes_a_file_refuses_a_broken_one(
    capsys: pytest.CaptureFixture[str], broken: str, tmp_path: Path
) -> None:
    rest = {
        "stats": ["--arch", NB201],
        "draw": ["-o", str(tmp_path / "x.svg")],
        "compile": ["--method", "darts"],
    }
    for verb in ("check", "count", "sample", "stats", "draw", "ir", "compile"):
        code, out, err = run(capsys, verb, broken, *rest.get(verb, []))
        assert (verb, code, out) == (verb, 1, "")
        assert "NAS101" in err
    assert {p.name for p in tmp_path.iterdir()} == {"broken.nas"}


def test_parameters_reach_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check", "darts", "--param", "chanels=3")
    assert code == 1
    assert "NAS109" in err
    assert run(capsys, "check", "darts", "--param", "C=-3")[0] == 1
    for name in ("path", "self", "parameters"):  # names that our own functions use
        assert "NAS109" in run(capsys, "count", "darts", "--param", f"{name}=3")[2]
    words = ["stats", "nasbench201", "--arch", NB201, "--json"]
    small, large = (json.loads(run(capsys, *words, "--param", f"C={c}")[1])["params"] for c in (4, 8))
    assert small < large


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(capsys: pytest.CaptureFixture[str], code: str) -> None:
    status, out, err = run(capsys, "explain", code.lower())
    assert (status, err) == (0, "")
    assert code in out
    assert code in run(capsys, "explain")[1]


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["darts"], 1037664180**2),
        (["darts", "--cell", "normal"], 1037664180),
        (["nasbench201"], 15625),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_count_prints_the_published_sizes(
    capsys: pytest.CaptureFixture[str], words: list[str], size: int
) -> None:
    assert run(capsys, "count", *words) == (0, f"{size}\n", "")
    code, out, _ = run(capsys, "count", *words, "--json")
    assert (code, json.loads(out)["count"]) == (0, size)


def test_count_of_an_unknown_cell_names_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "count", "darts", "--cell", "norml")
    assert (code, out) == (1, "")
    assert "normal" in err


def test_count_distinct_counts_or_says_not_yet(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "count", "nasbench201", "--distinct")
    assert (code, out) in {(0, "5425\n"), (2, "")}
    assert code == 0 or "NAS901" in err


@pytest.mark.parametrize("space", SPACES)
def test_sample_prints_a_record_a_line(capsys: pytest.CaptureFixture[str], space: str) -> None:
    code, out, err = run(capsys, "sample", space, "-n", "5", "--seed", "3")
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 5
    assert run(capsys, "sample", space, "-n", "5", "--seed", "3")[1] == out
    assert run(capsys, "sample", space, "-n", "5", "--seed", "4")[1] != out
    assert run(capsys, "sample", space, "-n", "0") == (0, "", "")
    for line in out.splitlines():
        code, answer, _ = run(capsys, "stats", space, "--arch", line, "--json")
        assert (code, set(json.loads(answer)) >= {"params", "macs"}) == (0, True)


def test_stats_as_table_and_as_json_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "stats", "nasbench201", "--arch", NB201, "--json")
    figures = json.loads(out)
    assert (code, err) == (0, "")
    code, table, _ = run(capsys, "stats", "nasbench201", "--arch", NB201)
    shown = dict(line.split()[:2] for line in table.splitlines())
    others = {f"{c}.{name}" for c, values in figures.pop("conventions").items() for name in values}
    assert shown.keys() == figures.keys() | others
    assert int(shown["params"].replace(",", "")) == figures["params"] > 0
    # One architecture, given as a file.
    (tmp_path / "a.json").write_text(run(capsys, "sample", "nasbench201")[1])
    assert run(capsys, "stats", "nasbench201", "--arch", str(tmp_path / "a.json"))[0] == 0


@pytest.mark.parametrize("text", ["", "|nope|", "{}", "[" * 3000, '{"space": 3}', "no/such/file.json"])
def test_stats_of_what_is_no_architecture(capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, out, err = run(capsys, "stats", "nasbench201", "--arch", text)
    assert (code, out) == (1, "")
    assert "NAS4" in err or "NAS005" in err


@pytest.mark.parametrize("space", SPACES)
def test_draw_writes_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path, space: str) -> None:
    path = tmp_path / "x.svg"
    assert run(capsys, "draw", space, "-o", str(path)) == (0, f"{path}\n", "")
    assert ET.parse(path).getroot().tag.endswith("svg")
    (tmp_path / "a.json").write_text(run(capsys, "sample", space)[1])
    code, out, _ = run(capsys, "draw", space, "--arch", str(tmp_path / "a.json"), "-o", "-")
    assert (code, ET.fromstring(out).tag.endswith("svg")) == (0, True)
    assert out != path.read_text()


def test_draw_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "draw", "darts", "-o", str(tmp_path / "no" / "x.svg"))
    assert (code, out) == (2, "")
    assert "cannot write" in err


REFUSED = {"autoformer", "nasbench101", "nats_size", "ofa", "residual_mlp"}
"""Spaces that methods for weighted sums cannot search: numbers are chosen, or a limit is set."""


@pytest.mark.parametrize("words", [[], ["--method", "darts"], ["--method", "toponas"]], ids=" ".join)
@pytest.mark.parametrize("space", SPACES)
def test_ir_reads_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, space: str, words: list[str]
) -> None:
    code, out, err = run(capsys, "ir", space, *words)
    if words and space in REFUSED:
        assert (code, "NAS504" in err or "NAS901" in err) == (1 if "NAS504" in err else 2, True)
        return
    assert (code, err) == (0, "")
    monkeypatch.setattr("sys.stdin", io.StringIO(out))
    assert run(capsys, "ir", "-") == (0, out, "")


def test_ir_after_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    every = run(capsys, "ir", "nasbench201", "--method", "toponas", "--after-all")
    assert every[0] == 0
    relaxed = run(capsys, "ir", "nasbench201", "--method", "toponas", "--after", "relax")
    assert relaxed[0] == 0
    assert relaxed[1] != run(capsys, "ir", "nasbench201", "--method", "toponas")[1]
    assert "relax" in every[1]
    code, out, err = run(capsys, "ir", "nasbench201", "--method", "toponas", "--after", "relx")
    assert (code, out) == (1, "")
    assert "NAS503" in err


@pytest.mark.parametrize("text", ["", "nonsense", "{", "\x00", "(" * 5000])
def test_ir_of_what_is_no_ir(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, out, err = run(capsys, "ir", "-")
    assert (code, out) == (1, "")
    assert err


def test_compile_writes_the_directory_and_names_what_it_wrote(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    words = [
        "compile",
        "darts",
        "--method",
        "toponas",
        "--param",
        "C=4",
        "--param",
        "layers=3",
        "-o",
        str(folder),
    ]
    code, out, err = run(capsys, *words, "--set", "epochs=2")
    assert (code, err) == (0, "")
    written = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    expected = {
        "space.nas",
        "supernet.py",
        "search.py",
        "retrain.py",
        "config.toml",
        "rewrites.md",
        "nasdsl.lock",
        "README.md",
    }
    assert written == expected
    assert all(str(folder / name) in out for name in expected)
    before = {name: (folder / name).read_bytes() for name in written}
    assert run(capsys, *words, "--set", "epochs=2")[0] == 0
    assert {name: (folder / name).read_bytes() for name in written} == before
    assert run(capsys, *words, "--set", "epochs=3")[0] == 0
    assert (folder / "config.toml").read_bytes() != before["config.toml"]


def test_explain_prints_the_report_after_the_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["compile", "nasbench201", "--method", "darts", "-o", str(tmp_path)]
    plain, told = run(capsys, *words), run(capsys, *words, "--explain")
    report = (tmp_path / "rewrites.md").read_text("utf-8")
    files, _, rest = told[1].partition("\n\n")
    assert rest.startswith(report)
    assert plain == (0, f"{files}\n{rest.removeprefix(report)}", "")
    run(capsys, *words, "--pass", "-share")
    assert "share" in report
    assert "share" not in (tmp_path / "rewrites.md").read_text("utf-8")


def test_the_default_directory_is_named_after_space_and_method(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "compile", "nasbench201", "--method", "darts")[0] == 0
    assert (tmp_path / "build" / "nasbench201-darts" / "search.py").is_file()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--method", "dart"], "NAS501"),
        (["--method", "darts", "--set", "epoch=3"], "NAS502"),
        (["--method", "darts", "--set", "epochs=few"], "NAS502"),
        (["--method", "darts", "--pass", "-fodl"], "NAS503"),
        (["--method", "darts", "--pass", "+nothing"], "NAS503"),
        (["--method", "darts", "--pass", "fold"], "NAS503"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_compile_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], code: str
) -> None:
    status, out, err = run(capsys, "compile", "darts", *words, "-o", str(tmp_path / "out"))
    assert (status, out) == (1, "")
    assert code in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["methods", "passes", "spaces"])
def test_tables_and_json_say_the_same(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, err = run(capsys, verb, "--json")
    records = json.loads(out)
    assert (code, err, len(records) > 1) == (0, "", True)
    table = run(capsys, verb)[1]
    assert len(table.splitlines()) == len(records) + 1
    assert all(cell in table for record in records for cell in record.values())
    assert all(cell for record in records for cell in record.values())


@pytest.mark.parametrize("name", ["darts", "toponas"])
def test_a_method_lists_its_settings(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, "methods", name, "--json")
    record = json.loads(out)
    text = run(capsys, "methods", name)[1]
    assert code == 0
    assert all(s["name"] in text and s["doc"] in text for s in record["settings"])
    assert all(line in text for key in ("papers", "authors", "differences") for line in record[key])


def test_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "methods", "toponass")
    assert (code, out) == (1, "")
    assert "did you mean `toponas`" in err


def test_a_pass_without_a_sign_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """It once said: there is no pass `simplify`; did you mean `simplify`?"""
    assert main(["plan", "darts", "--method", "darts", "--pass", "simplify"]) == 1
    told = capsys.readouterr().err
    assert "`simplify` says neither" in told
    assert "did you mean" not in told
    assert "write +name or -name" in told
