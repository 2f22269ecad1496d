"""The errors of nasdsl.

Takes nothing. Invariant: every exception raised on purpose is a `NasError`;
`UserError` is the user's mistake, the others are ours.
"""

from __future__ import annotations

from nasdsl.diagnostics.exceptions import InternalError, NasError, UserError, VerifyError

__all__ = ["InternalError", "NasError", "UserError", "VerifyError"]
