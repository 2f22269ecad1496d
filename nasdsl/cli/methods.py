"""`nasdsl methods`: the search methods, or all that can be said of one.

Takes perhaps a method's name, prints a table or JSON. Invariant: does not import torch; what is said
of a method is what its own file declares.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasdsl.cli.arguments import Parser, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.table import print_records, print_table

if TYPE_CHECKING:
    from nasdsl.methods import Method, Setting


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="all of one method: sources and settings")
    json_argument(parser)
    parser.example("nasdsl methods", "nasdsl methods toponas")


def run(args: argparse.Namespace) -> int:
    """Prints every method in a line, or one at length."""
    from nasdsl.methods import METHODS

    if args.name is not None:
        _print_method(METHODS.load(args.name), as_json=args.json)
        return FINE
    methods = [METHODS.load(name) for name in METHODS.names()]
    records = [{"name": m.name, "title": m.title, "summary": m.summary} for m in methods]
    print_records(records, as_json=args.json)
    return FINE


def _print_method(method: Method, *, as_json: bool) -> None:
    if as_json:
        record: dict[str, object] = {
            "name": method.name,
            "title": method.title,
            "summary": method.summary,
            "papers": method.papers,
            "authors": method.authors,
            "reconstructions": method.reconstructions,
            "differences": method.differences,
            "settings": [_record(s) for s in method.settings],
            "presets": {notation: dict(values) for notation, values in method.presets.items()},
            "variants": {word: dict(values) for word, values in method.variants.items()},
            "recipes": {word: dict(values) for word, values in method.recipes.items()},
        }
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    print(f"{method.title}: {method.summary}")
    lists = {
        "papers": method.papers,
        "the authors'": method.authors,
        "reconstructions": method.reconstructions,
        "the search form differs from the retrain form": method.differences,
    }
    for title, lines in lists.items():
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"  {line}" for line in lines))
    print("\nsettings (--set NAME=VALUE):")
    print_table([("name", "default", "unit", "meaning", "source"), *map(_row, method.settings)], indent=2)
    for word, values in method.variants.items():
        print(f"\npreset={word}: {_given(values)}")
    for word, values in method.recipes.items():
        if values:
            print(f"\nrecipe={word}: {_given(values)}")
    for notation, values in method.presets.items():
        print(f"\non a space with `notation {notation}`: {_given(values)}")


def _given(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items())


def _row(setting: Setting) -> tuple[str, ...]:
    words = f" ({', '.join(setting.choices)})" if setting.choices else ""
    return (setting.name, _text(setting.default), setting.unit, f"{setting.doc}{words}", setting.source)


def _record(setting: Setting) -> dict[str, object]:
    return {
        "name": setting.name,
        "table": setting.table,
        "default": setting.default,
        "unit": setting.unit,
        "doc": setting.doc,
        "source": setting.source,
        "choices": list(setting.choices),
        "low": setting.low,
        "high": setting.high,
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
