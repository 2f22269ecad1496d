"""The command `nasdsl`: one verb a file.

Takes the command line, returns an exit code: 0 fine, 1 the file or input is wrong, 2 the command
line is wrong, 3 our bug. Invariant: a verb's module, and what it needs, is imported only when that
verb is asked for.
"""

from nasdsl.cli.dispatch import main

__all__ = ["main"]
