"""Which numbers the rows have that the tasks cut which read them: an order at random is drawn by these."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")

from hpc.data.exec.operators.cutting import FAR, CutExchangeOperator, CuttingReadOperator  # noqa: E402
from hpc.data.exec.work import Part  # noqa: E402
from hpc.data.shuffle.exchange import Place  # noqa: E402
from hpc.data.shuffle.order import SortKey  # noqa: E402
from hpc.data.shuffle.sort import Sort  # noqa: E402


def first_rows(*rows: int | None) -> list[int]:
    """The number of the first row of each part, of which so many rows are known."""
    op: Any = CuttingReadOperator("Read", lambda *_: None, None, None, -1)
    op.down = SimpleNamespace(exchange=SimpleNamespace(in_order=False), begin_cuts=lambda parts, samples: (None, None))
    op.units([SimpleNamespace(rows=count) for count in rows], True)
    return [part.note[2] for part in op.parts]


def test_no_two_rows_have_one_number() -> None:
    assert first_rows(5, 7, 9) == [0, 5, 12]
    assert first_rows(None, 7, 9) == [0, FAR, 2 * FAR]
    assert first_rows(5, None, 9) == [0, FAR, 2 * FAR]


def test_few_rows_are_cut_too_as_no_block_has_them() -> None:
    """Where parts that failed were left out, few bytes may be all that there is."""
    sort = Sort((SortKey("key"),))
    op = CutExchangeOperator("Sort", sort, 1)
    sample = sort.sample(0, pa.table({"key": [3, 1, 2]}), None)
    cut = op.begin_cuts([Part(0, (), SimpleNamespace(nbytes=24))], [sample])
    assert op.error is None and cut is not None
    (piece,) = cut[0].cut(Place(0, 0, 0), iter([pa.table({"key": [3, 1, 2]})]), None)
    assert piece.rows == 3
