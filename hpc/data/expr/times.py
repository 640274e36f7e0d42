"""Functions of times: `col("time").dt`."""

from __future__ import annotations

from typing import Literal

from hpc.data.datatype import DataType
from hpc.data.expr.nodes import Expr, compute

TemporalUnit = Literal[
    "year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond"
]
NUMBER = DataType.int64()


class DatetimeNamespace:
    """Functions of times and dates."""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def year(self) -> Expr:
        """The year."""
        return compute("year", self._expr, kind=NUMBER)

    def month(self) -> Expr:
        """The month, from 1."""
        return compute("month", self._expr, kind=NUMBER)

    def day(self) -> Expr:
        """The day of the month, from 1."""
        return compute("day", self._expr, kind=NUMBER)

    def hour(self) -> Expr:
        """The hour, from 0."""
        return compute("hour", self._expr, kind=NUMBER)

    def minute(self) -> Expr:
        """The minute, from 0."""
        return compute("minute", self._expr, kind=NUMBER)

    def second(self) -> Expr:
        """The second, from 0."""
        return compute("second", self._expr, kind=NUMBER)

    def strftime(self, fmt: str) -> Expr:
        """The time as text in a format of strftime."""
        return compute("strftime", self._expr, kind=DataType.string(), format=fmt)

    def ceil(self, unit: TemporalUnit) -> Expr:
        """The next full unit after it."""
        return compute("ceil_temporal", self._expr, kind=self._expr.data_type, multiple=1, unit=unit)

    def floor(self, unit: TemporalUnit) -> Expr:
        """The last full unit before it."""
        return compute("floor_temporal", self._expr, kind=self._expr.data_type, multiple=1, unit=unit)

    def round(self, unit: TemporalUnit) -> Expr:
        """The nearest full unit."""
        return compute("round_temporal", self._expr, kind=self._expr.data_type, multiple=1, unit=unit)
