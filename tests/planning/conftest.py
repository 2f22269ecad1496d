"""What tests of predicted memory share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def tensors_alone() -> Iterator[None]:
    """Convolutions without oneDNN, whose workspaces come on top of what is predicted.

    With AVX-512 they make a step of a small network take 1.6 times what its tensors do; without, nothing.
    """
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(before)
