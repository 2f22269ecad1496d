"""What every test of the runtime gives back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A run takes signals for itself; the tests' process takes them back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGUSR1)]
    yield
    for number, handler in before:
        signal.signal(number, handler)
