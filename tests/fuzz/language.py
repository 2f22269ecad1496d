"""A coverage-guided fuzzer of the whole language.

    pip install atheris
    python -m tests.fuzz.language --seconds 600

Takes texts that atheris makes out of the shipped spaces, the examples of the documentation and the
cases of the diagnostics; the law is that a text is answered with diagnostics or compiles: no
exception, no silence, and what compiles reads back. Findings are written to `build/fuzz` and kept
as tests in `tests/fuzz/test_findings.py`.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```nas[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def seeds() -> list[str]:
    """Texts to start from."""
    found = [p.read_text("utf-8") for p in sorted(ROOT.glob("spaces/*.nas"))]
    for page in (*ROOT.glob("docs/*.md"), *ROOT.glob("tests/diagnostics/cases/*.md")):
        found += FENCE.findall(page.read_text("utf-8"))
    return found


def law(text: str) -> None:
    """Whatever the text, an answer."""
    from nasdsl.cases import TooManyCasesError
    from nasdsl.diagnostics import Diagnostics, Source, render
    from nasdsl.identity.encodings import Encodings
    from nasdsl.ir.text import parse_module, print_module
    from nasdsl.ir.verify import verify
    from nasdsl.space.checked import check_source
    from nasdsl.syntax.parse import parse
    from nasdsl.syntax.print import to_text

    try:
        space, found = check_source(Source("fuzz.nas", text))
    except TooManyCasesError as error:
        raise AssertionError("a limit of the proof reached the user") from error
    render(found.items)
    assert (space is None) == bool(found.errors)
    if space is None:
        return
    verify(space.module, "elaboration")
    assert parse_module(print_module(space.module)) == space.module
    if len(space.table.decisions) < 60:
        assert Encodings(space.table).count() > 0
    file = parse(Source("fuzz.nas", text), Diagnostics())
    assert file is not None
    assert parse(Source("again.nas", to_text(file)), Diagnostics()) == file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    args = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=["nasdsl"]):
        for name in ("nasdsl.space.checked", "nasdsl.syntax.print"):
            import_module(name)
    folder = ROOT / "build" / "fuzz"
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(seeds()):
        (corpus / f"seed{number}").write_text(text, "utf-8")
    words = sorted(set(re.findall(r"[A-Za-z_]+|[^\sA-Za-z_0-9]{1,2}", "\n".join(seeds()))))
    dictionary = folder / "words.dict"
    dictionary.write_text(
        "".join(f'"{w}"\n' for w in words if '"' not in w and "\\" not in w and w.isascii())
    )

    def one(data: bytes) -> None:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return
        law(text)

    options = ["-max_len=3000", "-timeout=60", f"-dict={dictionary}", f"-artifact_prefix={folder}/finding-"]
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={args.seconds}", *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
