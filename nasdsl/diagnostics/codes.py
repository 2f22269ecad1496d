"""The table of codes and their explanations.

Takes a code, returns its title and its page. Invariant: a code, once published,
keeps its meaning; each has a page in `pages/` with an example and a cure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from nasdsl.diagnostics.diagnostic import Severity

_PAGES = Path(__file__).resolve().parent / "pages"


@attrs.frozen
class Code:
    """A stable code: its severity and what it is about."""

    code: str
    severity: Severity
    title: str

    @property
    def page(self) -> str:
        """The explanation, in Markdown."""
        return (_PAGES / f"{self.code}.md").read_text("utf-8")


_WARNINGS = frozenset({"NAS106", "NAS304", "NAS309"})
_TITLES = {
    "NAS001": "syntax error",
    "NAS002": "unexpected character",
    "NAS003": "unbalanced bracket",
    "NAS004": "nesting too deep",
    "NAS005": "file cannot be read",
    "NAS006": "not exactly one space in the file",
    "NAS101": "unknown name",
    "NAS102": "wrong arguments",
    "NAS103": "defined twice",
    "NAS104": "recursion",
    "NAS105": "hides another definition",
    "NAS106": "unused declaration",
    "NAS107": "ambient name not bound at the place of use",
    "NAS108": "missing or repeated section",
    "NAS109": "unknown or unfit parameter value",
    "NAS110": "file to amend cannot be read",
    "NAS111": "operations in Python not allowed, or not to be had",
    "NAS201": "wrong kind of value",
    "NAS202": "shapes differ in a sum",
    "NAS203": "shapes differ in a concat",
    "NAS204": "options of one choice have different shapes",
    "NAS205": "operation does not accept its input",
    "NAS206": "not an integer, or out of range",
    "NAS207": "division by zero, or number too large",
    "NAS208": "the network does not end in a vector",
    "NAS209": "even kernel with pad=same",
    "NAS301": "impossible choice",
    "NAS302": "option or source named twice",
    "NAS303": "two decisions with one path",
    "NAS304": "`none` under a choice of inputs",
    "NAS305": "limit that nobody can meet",
    "NAS306": "unknown measure in a limit",
    "NAS307": "expansion too large",
    "NAS308": "value that depends on too many decisions",
    "NAS309": "end of a range is not reached",
    "NAS310": "number of architectures out of reach",
    "NAS311": "limit without its table or unit",
    "NAS401": "architecture does not fit the space",
    "NAS402": "architecture of another space",
    "NAS403": "the space declares no such notation",
    "NAS404": "sub-space does not fit the space",
    "NAS405": "architecture outside the sub-space",
    "NAS501": "unknown method",
    "NAS502": "unknown setting or unfit value",
    "NAS503": "unknown pass",
    "NAS504": "the method does not fit the space",
    "NAS505": "settings that do not combine",
    "NAS601": "mistake in a table of results",
    "NAS602": "table of results with another checksum",
    "NAS603": "not in the table of results",
    "NAS604": "kind of table that is not to be had",
    "NAS605": "no latency table, or one of another machine",
    "NAS606": "latency table without an entry that is needed",
    "NAS607": "a run that cannot be used",
    "NAS608": "an architecture could not be scored",
    "NAS609": "a folder that is no run",
    "NAS701": "a lock, or a record of a run, that cannot be used",
    "NAS801": "a network that cannot be exported",
    "NAS802": "weights of another network",
    "NAS901": "not yet available",
}

CODES: Mapping[str, Code] = MappingProxyType(
    {
        code: Code(code, Severity.WARNING if code in _WARNINGS else Severity.ERROR, title)
        for code, title in _TITLES.items()
    }
)


def explain(code: str) -> str:
    """The explanation of a code. Raises KeyError for an unknown one."""
    return CODES[code].page
