"""From the command line to a verb, and from what happens there to an exit code.

Takes the words of the command line, returns 0, 1, 2 or 3 (130 and 141 as the shell has them for
an interrupt and a closed pipe). Invariant: a traceback is shown only with NASDSL_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from nasdsl import __version__
from nasdsl.cli.arguments import CommandLineError, Parser, color_argument
from nasdsl.cli.verbs import GROUPS, VERBS
from nasdsl.diagnostics import did_you_mean, render
from nasdsl.errors import UserError

FINE, WRONG_INPUT, WRONG_COMMAND, OUR_BUG = 0, 1, 2, 3
INTERRUPTED, CLOSED_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code; raises nothing."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help, or a command line it refuses
        return stop.code if isinstance(stop.code, int) else WRONG_COMMAND
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:  # noqa: BLE001  # the last place where a bug can be told from a mistake
        return _our_bug(error)


def _run(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(_help())
        return FINE if words else WRONG_COMMAND
    name, rest = words[0], words[1:]
    if name == "--version":
        print(f"nasdsl {__version__}")
        return FINE
    if name not in VERBS:
        return _complain(_unknown(name))
    color = "auto"
    try:
        module = import_module(f"nasdsl.cli.{name}")
        parser = Parser(name, VERBS[name].summary)
        module.configure(parser)
        color_argument(parser)
        args = parser.parse(rest)
        color = args.color
        if getattr(args, "allow_python", False) and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # a module in this folder, as `python -m` has it
        code: int = module.run(args)
        return code
    except CommandLineError as error:
        return _complain(f"nasdsl {name}: {error}")
    except UserError as error:
        print(render(error.diagnostics, color=wants_color(color)), file=sys.stderr)
        unavailable = {d.code for d in error.diagnostics} == {"NAS901"}
        return WRONG_COMMAND if unavailable else WRONG_INPUT


def wants_color(choice: str) -> bool:
    """Whether messages on standard error are coloured."""
    if choice != "auto":
        return choice == "always"
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return WRONG_COMMAND


def _unknown(name: str) -> str:
    if name.startswith("-"):
        return f"nasdsl: unknown option `{name}`; the verb comes first: `nasdsl VERB --help`"
    return f"nasdsl: there is no verb `{name}`{did_you_mean(name, VERBS)}\n`nasdsl --help` lists the verbs"


def _our_bug(error: Exception) -> int:
    if os.environ.get("NASDSL_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    print(
        f"this is a bug in nasdsl: {type(error).__name__}: {error}\n"
        "Please report it with the command and the file; NASDSL_DEBUG=1 shows where it happened.",
        file=sys.stderr,
    )
    return OUR_BUG


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [
        "usage: nasdsl VERB ...",
        "",
        "Write a search space once, search it with any method, leave with plain PyTorch.",
    ]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        lines += [f"  {v.name:<{width}}{v.summary}" for v in VERBS.values() if v.group == group]
    lines += [
        "",
        "`nasdsl VERB --help` has the options and an example; `nasdsl --version` the version.",
        "Start with: nasdsl check darts",
    ]
    return "\n".join(lines) + "\n"
