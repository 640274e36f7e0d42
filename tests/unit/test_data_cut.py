"""Where blocks end depends on the rows and the settings alone; a schema is shown as Ray shows it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.block import build  # noqa: E402
from hpc.data.block.cut import Cutter, RowSizes, blocks_of, bounds_of_blocks, slice_rows  # noqa: E402
from hpc.data.block.schema import Schema  # noqa: E402
from hpc.data.shuffle.gather import take_cut  # noqa: E402

CELLS = st.fixed_dictionaries(
    {
        "i": st.integers(0, 9),
        "s": st.one_of(st.none(), st.text(max_size=20)),
        "l": st.lists(st.text(max_size=5), max_size=4),
        "n": st.lists(st.integers(0, 9), max_size=6),
    }
)
KIND = pa.schema([("i", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.string())), ("n", pa.large_list(pa.int8()))])


def cut(tables, target, min_rows=1, step=1):
    cutter = Cutter(target, min_rows, step)
    blocks = [block for table in tables for block in cutter.add(table)]
    return blocks + cutter.flush()


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 400), st.integers(1, 5))
def test_the_same_rows_are_cut_at_the_same_places_however_they_come(cells, ends, target, min_rows):
    whole = pa.Table.from_pylist(cells, schema=KIND)
    ends = [0, *sorted(min(end, len(cells)) for end in ends), len(cells)]
    pieces = [whole.slice(start, end - start) for start, end in itertools.pairwise(ends)]
    fresh = [pa.Table.from_pylist(piece.to_pylist(), schema=KIND) for piece in pieces]
    expected = cut([whole], target, min_rows)
    for tables in (pieces, fresh, slice_rows(whole, 1) if len(cells) else []):
        assert [block.num_rows for block in cut(tables, target, min_rows)] == [block.num_rows for block in expected]
    assert [row for block in expected for row in block.to_pylist()] == cells
    assert all(block.num_rows >= min_rows for block in expected[:-1])
    sizes = RowSizes()
    assert all(sizes.total(block) <= target or block.num_rows == min_rows for block in expected[:-1])


@settings(max_examples=100, deadline=None)
@given(st.lists(CELLS, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 400), st.integers(1, 7))
def test_blocks_of_whole_batches_are_cut_at_the_same_places_however_the_rows_come(cells, ends, target, step):
    whole = pa.Table.from_pylist(cells, schema=KIND)
    ends = [0, *sorted(min(end, len(cells)) for end in ends), len(cells)]
    expected = cut([whole], target, step=step)
    for tables in ([whole.slice(a, b - a) for a, b in itertools.pairwise(ends)], slice_rows(whole, 1)):
        found = cut([table for table in tables if table.num_rows], target, step=step)
        assert [block.num_rows for block in found] == [block.num_rows for block in expected]
    assert [row for block in expected for row in block.to_pylist()] == cells
    sizes = RowSizes()
    for block in expected[:-1]:
        assert sizes.total(block) <= 1.5 * target or block.num_rows == 1
        assert block.num_rows % step == 0 or sizes.total(block) <= target or block.num_rows == 1


def test_batches_that_are_a_little_larger_than_a_block_are_blocks_without_a_copy():
    batches = [build.table({"x": np.arange(64.0) + at}, "f") for at in range(4)]  # of 512 bytes
    blocks = cut(batches, 400, step=64)
    assert [block.num_rows for block in blocks] == [64] * 4
    assert [b.column("x").chunk(0).buffers()[1].address for b in blocks] == [
        b.column("x").chunk(0).buffers()[1].address for b in batches
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=20), st.integers(0, 10), st.integers(0, 10))
def test_the_sizes_of_rows_sum_up_to_that_of_a_table(cells, start, count):
    table = pa.Table.from_pylist(cells, schema=KIND).slice(start, count)
    sizes = RowSizes()
    assert sizes.rows(table).sum() == sizes.total(table)


def test_every_type_of_a_column_has_a_size():
    table = build.table(
        {
            "bool": [True, None], "tensor": np.ones((2, 3)), "ragged": [np.ones(1), np.ones(5)],
            "struct": [{"a": "x"}, {"a": "yy"}], "object": [1 + 1j, None], "null": [None, None],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "pairs": pa.array([["a", "b"], ["c", "dd"]], pa.list_(pa.string(), 2)),
            "dict": pa.array(["a", "b"]).dictionary_encode(), "view": pa.array(["a", "bb"], pa.string_view()),
        },
        "f",
    )  # fmt: skip
    sizes = RowSizes()
    for part in (table, table.slice(1)):
        assert sizes.rows(part).sum() == sizes.total(part) > 0
        assert len(sizes.rows(part)) == part.num_rows


def test_blocks_share_the_memory_of_the_tables_and_are_near_the_target():
    table = build.table({"x": np.arange(1000)}, "f")
    blocks = cut([table], 1600)
    assert [block.num_rows for block in blocks] == [200] * 5
    assert [block.num_rows for block in cut([table], 6000)] == [1000]
    assert blocks[2].column("x").chunk(0).buffers()[1].address == table.column("x").chunk(0).buffers()[1].address
    assert [block.num_rows for block in cut([table], None)] == [1000]
    assert cut([table.slice(0, 0)], 10) == []


def test_a_row_that_is_too_large_is_a_block_of_its_own():
    table = build.from_rows([{"b": b"x" * size} for size in (10, 1000, 10, 10)])
    assert [block.num_rows for block in cut([table], 100)] == [1, 1, 2]


def test_a_schema_reads_as_that_of_ray():
    schema = Schema(build.table({"a_long_name": [1], "t": np.ones((1, 2, 3)), "r": [np.ones(1)]}, "f").schema)
    assert repr(schema) == (
        "Column       Type\n------       ----\na_long_name  int64\n"
        "t            ArrowTensorTypeV2(shape=(2, 3), dtype=double)\n"
        "r            ArrowTensorTypeV2(shape=(1,), dtype=double)"
    )
    assert schema == Schema(schema.base_schema) and schema.names == ["a_long_name", "t", "r"]


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=40), st.one_of(st.none(), st.integers(1, 400)), st.randoms(), st.booleans())
def test_rows_in_another_order_are_taken_block_by_block_as_they_would_be_cut(cells, target, random, fixed):
    table = pa.Table.from_pylist(cells, schema=KIND)
    table = pa.concat_tables([table.slice(0, 7), table.slice(7)]).select(["i"] if fixed else KIND.names)
    order = np.array(random.sample(range(len(cells)), len(cells)), np.int64)
    ordered = table.take(order)
    bounds = bounds_of_blocks(table, order, target)
    taken = list(take_cut(table, order, bounds))
    assert pa.concat_tables(taken) == ordered
    assert [one for one in taken if one.num_rows] == cut([ordered], target)
    again = [block for one in taken for block in blocks_of([one], Cutter(target))]
    assert [one.num_rows for one in again] == [one.num_rows for one in taken if one.num_rows] or not len(cells)
