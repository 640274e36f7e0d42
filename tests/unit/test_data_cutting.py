"""Which numbers the rows have that the tasks cut which read them: an order at random is drawn by these."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from hpc.data.exec.operators.cutting import FAR, CuttingReadOperator


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
