"""What verifying finds.

Takes nothing, returns nothing: data. Invariant: a finding says what differs, whether that matters, and, where
something can be done, what.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Finding:
    """One difference.

    Attributes:
        subject: the file, or what else differs.
        what: the difference and what follows from it.
        matters: whether results, or what the directory claims of them, can be other ones.
        cure: what to do about it; None where there is nothing to do.
    """

    subject: str
    what: str
    matters: bool
    cure: str | None = None


@attrs.define
class Report:
    """Everything that was looked at.

    Attributes:
        title: what was verified, in one line.
        good: what is as it was, each in one line.
        unknown: what could not be looked at and why; it is no finding.
    """

    title: str
    kind: str
    findings: list[Finding] = attrs.field(factory=list)
    good: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)

    def add(self, subject: str, what: str, *, matters: bool, cure: str | None = None) -> None:
        """Adds a finding."""
        self.findings.append(Finding(subject, what, matters, cure))

    @property
    def matters(self) -> bool:
        return any(finding.matters for finding in self.findings)


__all__ = ["Finding", "Report"]
