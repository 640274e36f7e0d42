"""What makes a batch for a framework of a batch of a dataset: classes whose objects iter_torch_batches takes.

A class says by its base which format it wants, and its `__call__` gets batches of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


class CollateFn(ABC):
    """The base of all. `batch_format` is the format of the batches that it is called with."""

    batch_format: ClassVar[str] = "numpy"

    @abstractmethod
    def __call__(self, batch: Any) -> Any:
        """What the framework is to get of a batch."""


class ArrowBatchCollateFn(CollateFn):
    """It is called with tables of pyarrow."""

    batch_format = "pyarrow"

    @abstractmethod
    def __call__(self, batch: pa.Table) -> Any:
        """What the framework is to get of a table."""


class NumpyBatchCollateFn(CollateFn):
    """It is called with dicts of numpy arrays."""

    batch_format = "numpy"

    @abstractmethod
    def __call__(self, batch: dict[str, np.ndarray]) -> Any:
        """What the framework is to get of a dict of arrays."""


class PandasBatchCollateFn(CollateFn):
    """It is called with DataFrames of pandas."""

    batch_format = "pandas"

    @abstractmethod
    def __call__(self, batch: pd.DataFrame) -> Any:
        """What the framework is to get of a DataFrame."""


def format_of(collate_fn: Any) -> str:
    """The format of the batches that a function or an object wants: arrays, if it does not say, and for None.

    Raises ValueError for what cannot be called."""
    if collate_fn is not None and not callable(collate_fn):
        raise ValueError(f"collate_fn must be a function or an object of a CollateFn, not {type(collate_fn).__name__}")
    return getattr(collate_fn, "batch_format", "numpy") if isinstance(collate_fn, CollateFn) else "numpy"
