"""Batches as a dataset of torch, for programs that want one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


class IterableBatches(torch.utils.data.IterableDataset[Any]):
    """The batches of an iterable, anew in each loop."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)
