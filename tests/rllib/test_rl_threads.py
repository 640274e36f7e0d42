"""Numbers of threads: limited within, and afterwards what they were."""

from __future__ import annotations

import pytest
import torch

from hpc.rllib.utils.threads import _openblas, limited_threads


def numbers() -> tuple[int, int]:
    """Threads of torch and of numpy's OpenBLAS."""
    found = _openblas()
    return torch.get_num_threads(), found[0]() if found else 0


def test_threads_are_limited_within_and_then_as_before() -> None:
    before = numbers()
    with limited_threads(1):
        assert numbers() in ((1, 1), (1, 0))
    assert numbers() == before
    with pytest.raises(KeyError), limited_threads(1):
        raise KeyError
    assert numbers() == before
