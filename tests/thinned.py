"""Tables of cases of which `make test` runs a part, `make slow` the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int, first: int = 0) -> list[Any]:
    """Cases for `parametrize`: one of so many is run by `make test`, the others are marked slow.

    Args:
        cases: values, or tuples where several are parametrized.
        every: how many cases there are for each that is kept.
        first: the number of the first that is kept.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if number % every == first else pytest.mark.slow,
        )
        for number, case in enumerate(cases)
    ]
