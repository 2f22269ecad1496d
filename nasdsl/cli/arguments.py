"""What the verbs' command lines share.

Takes words from the command line, returns values; the parser every verb uses. Invariant: a bad
command line is a `CommandLineError` or argparse's own exit, both with code 2; values are data, and
nothing given on the command line is ever evaluated.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, Union

from nasdsl.diagnostics import did_you_mean

Value = Union[bool, int, float, str, list["Value"]]

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.?[0-9]+)([eE][+-]?[0-9]{1,3})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NESTING = 8


class CommandLineError(Exception):
    """The command line asks for something that cannot be; exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse with suggestions for unknown options, and values that may start with a dash.

    Options are never abbreviated: a script must not break when a longer option arrives.
    """

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(
            prog=f"nasdsl {verb}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parses the words after the verb."""
        args, extra = self.parse_known_args(_join_pass_values(words))
        if extra:
            word = extra[0]
            known = [o for o in self._option_string_actions if o.startswith("--")]
            hint = did_you_mean(word, known) if word.startswith("--") and word != "--" else ""
            self.error(f"unexpected argument `{word}`{hint}")
        return args

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, how the verb is used, and leaves with code 2."""
        self.exit(2, f"{self.prog}: {message}\n{self.format_usage()}")

    def example(self, *lines: str) -> None:
        """The examples at the end of `--help`."""
        title = "example:" if len(lines) == 1 else "examples:"
        self.epilog = "\n".join([title, *(f"  {line}" for line in lines)])


def file_argument(parser: argparse.ArgumentParser) -> None:
    """FILE: a path, or the name of a space that comes with nasdsl; with its --param."""
    parser.add_argument("file", metavar="FILE", help="a .nas file, or the name of a shipped space")
    param_argument(parser)


def param_argument(parser: argparse.ArgumentParser) -> None:
    """--param k=v, as often as wanted."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="K=V",
        help="set a parameter of the space, such as layers=20 or depths=[2,2,3]; may be repeated",
    )
    parser.add_argument(
        "--allow-python",
        action="store_true",
        help="let `use python` in the space import the module it names, which runs its code",
    )


def within_argument(parser: argparse.ArgumentParser) -> None:
    """--within SUBSPACE."""
    parser.add_argument(
        "--within",
        metavar="SUBSPACE",
        help="a file of a sub-space, as `nasdsl shrink` writes: only this part of the space counts",
    )


def method_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--method, --set, --pass."""
    parser.add_argument("--method", required=required, metavar="M", help="a name from `nasdsl methods`")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        dest="settings",
        help="set a hyper-parameter of the method, such as epochs=2; may be repeated",
    )
    parser.add_argument(
        "--pass",
        default="",
        metavar="+X,-Y",
        dest="passes",
        help="add pass X to the method's pipeline, leave pass Y out",
    )


def json_argument(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def color_argument(parser: argparse.ArgumentParser) -> None:
    """--color; every verb has it."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour in messages; auto: on a terminal, unless NO_COLOR is set",
    )


def at_least(low: int) -> Callable[[str], int]:
    """An argparse type: an integer, `low` or more."""

    def convert(text: str) -> int:
        if not _INTEGER.fullmatch(text) or int(text) < low:
            raise argparse.ArgumentTypeError(f"`{text}` is not an integer of {low} or more")
        return int(text)

    return convert


def assignments(option: str, pairs: Sequence[str], *, words: bool = False) -> dict[str, Value]:
    """`k=v` pairs as a mapping.

    Args:
        option: the option they were given to, for messages.
        pairs: what was given, in order.
        words: whether a value may be a bare word, as a method's setting may.

    Raises:
        CommandLineError: a pair without `=`, a name given twice, a value that is no value.
    """
    values: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not _NAME.fullmatch(name):
            raise CommandLineError(f"{option} takes NAME=VALUE, not `{_short(pair)}`")
        if name in values:
            raise CommandLineError(f"{option} {name} is given twice")
        try:
            values[name] = value_of(text, words=words)
        except ValueError as error:
            raise CommandLineError(f"{option} {name}: {error}") from None
    return values


def value_of(text: str, *, words: bool = False) -> Value:
    """The value a text stands for: a number, true, false, a list of values, with `words` any other text.

    Raises:
        ValueError: it stands for none.
    """
    return _value(text.strip(), words, 0)


def _value(text: str, words: bool, depth: int) -> Value:
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in {float("inf"), float("-inf")}:
            raise ValueError(f"`{_short(text)}` is too large")
        return number
    if text.startswith("[") and text.endswith("]"):
        if depth == _NESTING:
            raise ValueError(f"lists nest deeper than {_NESTING}")
        inside = text[1:-1].strip()
        return [_value(part.strip(), words, depth + 1) for part in _parts(inside)] if inside else []
    if words and text and not text.startswith("["):
        return text
    kinds = "a number, true, false or a list such as [1,2]"
    raise ValueError(f"`{_short(text)}` is not {kinds}" if text else f"the value is missing: {kinds}")


def _short(text: str) -> str:
    """What a message quotes of a text of any length."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parts(text: str) -> list[str]:
    """Cuts at the commas that no bracket encloses."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            raise ValueError("`]` without `[`")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    if depth:
        raise ValueError("`[` is not closed")
    return [*parts, text[start:]]


def _join_pass_values(words: Sequence[str]) -> list[str]:
    """`--pass -simplify` as `--pass=-simplify`: argparse would take the value for an option."""
    joined: list[str] = []
    waiting = iter(words)
    for word in waiting:
        value = next(waiting, None) if word == "--pass" else None
        joined.append(word if value is None else f"{word}={value}")
    return joined


def write_text(path: str, text: str) -> None:
    """Writes a file, or standard output for `-`.

    Raises:
        CommandLineError: the file cannot be written.
    """
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except OSError as error:
        raise CommandLineError(f"cannot write `{path}`: {error.strerror or error}") from error
