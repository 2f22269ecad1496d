"""What verifying finds.

Takes words, returns data. Invariant: a finding says what differs, whether that matters, and, where something can
be done, what; text of the folder that was verified is shown in one line without control characters.
"""

from __future__ import annotations

import attrs

from nasdsl.diagnostics.excerpt import printable as one_line


def printable(text: str) -> str:
    """A text in one line that a terminal can show."""
    return one_line(" ".join(text.split()))


@attrs.frozen
class Finding:
    """One difference.

    Attributes:
        subject: the file, or what else differs.
        what: the difference and what follows from it.
        matters: whether results, or what the folder claims of them, can be other ones.
        cure: what to do about it; None where there is nothing to do.
    """

    subject: str = attrs.field(converter=printable)
    what: str = attrs.field(converter=printable)
    matters: bool
    cure: str | None = attrs.field(default=None, converter=attrs.converters.optional(printable))


@attrs.define
class Report:
    """Everything that was looked at.

    Attributes:
        kind: `directory` or `run`.
        title: what was verified, in one line.
        good: what is as it was, a line each.
        unknown: what could not be looked at, and why; that is no finding.
    """

    kind: str
    title: str = attrs.field(converter=printable)
    findings: list[Finding] = attrs.field(factory=list)
    good: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)

    def add(self, subject: str, what: str, *, matters: bool, cure: str | None = None) -> None:
        """Adds a finding."""
        self.findings.append(Finding(subject, what, matters, cure))

    @property
    def matters(self) -> bool:
        """Whether any finding does."""
        return any(finding.matters for finding in self.findings)


__all__ = ["Finding", "Report", "printable"]
