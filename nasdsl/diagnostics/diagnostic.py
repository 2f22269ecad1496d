"""What is wrong, where, why, and what to do.

Takes codes, words and places, returns plain data. Invariant: a diagnostic holds
everything that its two forms, text and JSON, say.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from difflib import get_close_matches

import attrs

from nasdsl.diagnostics.source import Span

SHORT_LIST = 6
"""So many candidates are listed in full when none of them resembles the word."""


class Severity(enum.Enum):
    """An error rejects the input; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@attrs.frozen
class Label:
    """A place with a few words."""

    span: Span
    message: str


@attrs.frozen
class Note:
    """Something more to know, with a place if it has one."""

    message: str
    span: Span | None = None


@attrs.frozen
class Diagnostic:
    """One mistake or doubt.

    Attributes:
        code: stable, `NAS101`; `nasdsl explain` says more.
        primary: the one place where it shows; None for what has no place in a file.
        secondary: the places that cause it.
        help: what to do about it.
    """

    code: str
    message: str
    primary: Label | None
    secondary: tuple[Label, ...] = ()
    notes: tuple[Note, ...] = ()
    help: str | None = None
    severity: Severity = Severity.ERROR


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was most likely meant to be, None when none resembles it."""
    known = sorted(set(candidates))
    # Very long words resemble nothing and would cost quadratic time.
    if len(word) > 60:
        return None
    same_letters = [k for k in known if k.lower() == word.lower() and k != word]
    if same_letters:
        return same_letters[0]
    close = get_close_matches(word, [k for k in known if k != word], n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """What to put after "there is no `word`": `; did you mean ...?`, a short list in full, or nothing."""
    known = sorted(set(candidates))
    close = closest(word, known)
    if close is not None:
        return f"; did you mean `{close}`?"
    if 0 < len(known) <= SHORT_LIST:
        return f"; there is {', '.join(f'`{k}`' for k in known)}"
    return ""
