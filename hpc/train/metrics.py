"""What a report may say: values that can be sent to the driver and written there."""

from __future__ import annotations

from typing import Any

import cloudpickle

from hpc import spi

#: Python refuses to write larger integers as decimals.
MAX_INT_BITS = 8192
_PLAIN = frozenset((int, float, bool, str, type(None)))


def check_metrics(value: Any, where: str) -> None:
    """Raises TypeError or ValueError, with the place in the metrics, for what cannot be reported.

    A tensor would drag torch, and its device, into the driver. Keys are written to disk as JSON has them."""
    if type(value) in _PLAIN:
        if type(value) is int and value.bit_length() > MAX_INT_BITS:
            raise ValueError(f"{where} is an integer of {value.bit_length()} bits: report it as a text")
    elif isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, (str, int, float)):
                raise TypeError(f"{where} has a key {key!r}: names of metrics are texts or numbers")
            check_metrics(one, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            check_metrics(one, f"{where}[{index}]")
    elif type(value).__module__.split(".")[0] == "torch":
        raise ValueError(f"{where} is a {type(value).__name__}: report numbers, as value.item() gives them")
    elif type(value).__module__ != "numpy":
        try:
            cloudpickle.dumps(value)
        except Exception as error:
            raise TypeError(f"{where} is a {type(value).__name__}, which cannot be sent: {spi.said(error)}") from None
