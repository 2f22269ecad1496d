"""One fixed text for an architecture, whichever way it is written.

Takes a text or choices, returns the key of a row: the space's notation where it declares one, JSON
otherwise, so that `Space.parse` reads it. Invariant: two architectures have the same key exactly when
they make the same choices; a text without a key is no architecture of the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nasdsl.errors import UserError
from nasdsl.space.architecture import Architecture, check_choices
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice
from nasdsl.space.notation import NOTATIONS


@attrs.frozen
class Keys:
    """The keys of one space's architectures."""

    space: CheckedSpace
    _seen: list[set[str]] = attrs.field(factory=list, init=False, repr=False)

    def of_choices(self, choices: Architecture | Mapping[str, Any]) -> str:
        """The key of an architecture. Raises UserError (NAS401)."""
        raw = choices.choices if isinstance(choices, Architecture) else choices
        return self._written(check_choices(self.space.table, raw))

    def of_text(self, text: str) -> str:
        """The key of what a row says. Raises UserError (NAS401, NAS403).

        A NAS-Bench-201 string describes its nodes one by one, and a table has each description many
        times: only a description that was not seen before is read. It is this that opens a table of all
        15,625 strings in a fraction of a second.
        """
        text = text.strip()
        if not (text.startswith("|") and self.space.notation == "nasbench201"):
            return self._written(self.choices(text))
        parts = text.split("+")
        if len(parts) != len(self._seen) or not all(map(set.__contains__, self._seen, parts)):
            self.choices(text)
            self._seen.extend(set() for _ in parts[len(self._seen) :])
            for seen, part in zip(self._seen, parts, strict=True):
                seen.add(part)
        return text

    def choices(self, text: str) -> dict[str, Choice]:
        """The choices of a row, read in full. Raises UserError (NAS401, NAS403)."""
        text = text.strip()
        table = self.space.table
        if text.startswith("{"):
            return check_choices(table, Architecture.from_json(text).choices)
        for notation in NOTATIONS.values():
            if notation.recognise(text):
                if notation.name != self.space.notation:
                    own = f"`{self.space.notation}`" if self.space.notation else "no notation"
                    raise UserError.plain(
                        "NAS403",
                        f"this is in the notation `{notation.name}`; space `{self.space.name}` declares {own}",
                    )
                return check_choices(table, notation.read(table, text))
        own = f"the notation `{self.space.notation}` or " if self.space.notation else ""
        raise UserError.plain("NAS401", f"this is not an architecture: write it in {own}JSON")

    def _written(self, choices: Mapping[str, Choice]) -> str:
        if self.space.notation is not None:
            return NOTATIONS[self.space.notation].write(self.space.table, choices)
        return Architecture(self.space.name, self.space.fingerprint, choices).to_json()
