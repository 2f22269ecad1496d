"""The exceptions of nasdsl; `nasdsl.errors` is where everyone imports them from.

Takes diagnostics or a message. Invariant: a user's mistake is a `UserError` that
carries diagnostics; anything else that escapes is a bug of ours and says where.

They live in this package because the collector raises `UserError` and `UserError`
renders diagnostics: in two packages the imports would go in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable

from nasdsl.diagnostics.diagnostic import Diagnostic
from nasdsl.diagnostics.render import render


class NasError(Exception):
    """Anything that nasdsl raises on purpose."""


class UserError(NasError):
    """Bad input: a file, an architecture, a setting. `diagnostics` say what and where."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return render(self.diagnostics)

    @classmethod
    def plain(cls, code: str, message: str, help: str | None = None) -> UserError:
        """An error that has no place in a file."""
        return cls((Diagnostic(code=code, message=message, primary=None, help=help),))


class VerifyError(NasError):
    """An IR module breaks a rule of its stage: a bug in a pass, or hand-written IR."""


class InternalError(NasError):
    """A bug of ours; the message names the pass and the node."""
