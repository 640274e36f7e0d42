"""Datasets: the works of the benchmark (`works`), and beside it programs that show what a dataset promises.

Each of the others runs by itself, as `python -m bench.data.kill --what worker`, and exits with 1 where a promise is not
kept.
"""

from bench.data.works import LINES, WORKS, Found, Line, data, reached, row, takes_part

__all__ = ["LINES", "WORKS", "Found", "Line", "data", "reached", "row", "takes_part"]
