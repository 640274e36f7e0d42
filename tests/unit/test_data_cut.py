"""Where blocks end depends on the rows and the settings alone; a schema is shown as Ray shows it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc import spi  # noqa: E402
from hpc.core import serialization  # noqa: E402
from hpc.data.block import build  # noqa: E402
from hpc.data.block.cut import SLACK, Cutter, RowSizes, slice_rows  # noqa: E402
from hpc.data.block.schema import Schema  # noqa: E402
from hpc.data.shuffle import moved  # noqa: E402
from hpc.data.shuffle.exchange import Reordering  # noqa: E402
from hpc.data.shuffle.reorder import reordered  # noqa: E402

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


class Backwards(Reordering):
    """Each partition from its last row to its first."""

    def order_of(self, table, rows, partition):
        assert table().num_rows == rows
        return np.arange(rows - 1, -1, -1)


def stored(made):
    return serialization.loads(serialization.dumps(made).to_bytes())


def pieces(rows, parts, random):
    """Where partitions begin and end in pieces of so many rows."""
    bounds = sorted(random.randint(0, rows) for _ in range(random.randint(0, 3)))
    pairs = itertools.pairwise([0, *bounds, rows])
    return np.array([[a, *sorted(random.randint(a, b) for _ in range(parts - 1)), b] for a, b in pairs])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELLS, max_size=20), min_size=1, max_size=3), st.one_of(st.none(), st.integers(1, 400)),
       st.integers(1, 4), st.randoms(), st.booleans())  # fmt: skip
def test_partitions_in_their_order_are_blocks_of_about_a_size(cells, target, parts, random, fixed):
    names = ["i"] if fixed else KIND.names
    tables = [pa.Table.from_pylist(some, schema=KIND).select(names) for some in cells]
    ends = [pieces(len(some), parts, random) for some in cells]
    moved.LEAST_BYTES, before = random.choice([0, moved.LEAST_BYTES]), moved.LEAST_BYTES
    try:
        made = [stored(one) for one in reordered(Backwards(), tables, ends, 0, target)]
    finally:
        moved.LEAST_BYTES = before
    wanted = []
    for part in range(parts):
        rows = [t.slice(e[part], e[part + 1] - e[part]) for t, some in zip(tables, ends) for e in some]
        wanted.append(pa.concat_tables(rows).take(np.arange(sum(map(len, rows)) - 1, -1, -1)))
    assert pa.concat_tables(made) == pa.concat_tables(wanted)
    if target is None or not sum(map(len, cells)):
        assert len(made) == 1
        return
    ends = {0, *np.cumsum([table.num_rows for table in wanted]).tolist()}
    assert all(one.num_rows for one in made)
    for start, one in zip(np.cumsum([0, *map(len, made)]).tolist(), made):
        assert RowSizes().total(one) <= SLACK * target or one.num_rows == 1
        if start not in ends:  # a partition is cut where a block would have too many bytes
            assert sum(RowSizes().total(table) for table in wanted) > target


def test_a_table_of_chunks_is_made_in_one_piece_where_it_is_stored():
    rows = 50_000
    chunk = pa.table({
        "i": np.arange(rows), "b": np.arange(rows) % 2 == 0, "n": pa.array([None, 1] * (rows // 2)),
        "v": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3.0 * rows)), 3), "s": ["a"] * rows,
    })  # fmt: skip
    table = pa.concat_tables([chunk, chunk.slice(7, 100), chunk.slice(rows)])
    made = moved.in_one_piece(table)
    assert isinstance(made, spi.PlacedTable) and len(made.fills) == 3
    assert made.table.schema == table.schema and made.table.nbytes >= rows * 32
    assert stored(made) == table == stored([made, 1])[0]
    assert all(column.num_chunks == 1 for column in stored(made).columns)
    one = moved.in_one_piece(chunk)
    assert one is chunk
    broken = spi.PlacedTable()
    broken.table = pa.table([pa.Array.from_buffers(pa.int64(), 9, [None, broken.buffer(72, lambda to: 1 / 0)])], ["i"])
    with pytest.raises(ZeroDivisionError):
        serialization.dumps(broken).to_bytes()
