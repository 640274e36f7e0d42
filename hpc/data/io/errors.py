"""The error of data that cannot be read, which says where it is."""

from __future__ import annotations


class ReadError(ValueError):
    """A file, or part of one, is not what it should be. The first cause is in ``__cause__``.

    ``path`` is the file. ``rows`` has the first row that could not be read, counted from 0 in this file. The end of
    the range stands beside it where it is known. ``column`` is the column where one is at fault.
    """

    def __init__(
        self, what: str, path: str, rows: tuple[int, int | None] | None = None, column: str | None = None
    ) -> None:
        super().__init__(what, path, rows, column)
        self.what, self.path, self.rows, self.column = what, path, rows, column

    def __str__(self) -> str:
        where = self.path
        if self.rows is not None:
            first, end = self.rows
            where += f", rows {first} and following" if end is None else f", rows {first} to {end - 1}"
        if self.column is not None:
            where += f", column {self.column!r}"
        return f"{where}: {self.what}"
