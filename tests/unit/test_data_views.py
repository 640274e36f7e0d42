"""Columns of views, of which pyarrow takes no values: rows are taken, filtered and compared all the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpc.data.aggregate import Count, CountDistinct, Max, Min, Sum, Unique
from hpc.data.block.batch import to_batch
from hpc.data.block.codes import whole
from hpc.data.block.passing import passing
from hpc.data.block.views import plain, plain_table, plain_type, rows_of, taken_of
from hpc.data.io.writers import ParquetWriter
from hpc.data.shuffle import gather
from hpc.data.shuffle.aggregate import Aggregated
from hpc.data.shuffle.exchange import Exchange
from hpc.data.shuffle.hashed import HashShuffle
from hpc.data.shuffle.join import Joining
from hpc.data.shuffle.local import run
from hpc.data.shuffle.order import SortKey
from hpc.data.shuffle.random import RandomShuffle
from hpc.data.shuffle.sort import Sort

WORDS = [None if i % 5 == 0 else f"a word that is longer than twelve letters {97 * i % 50:02}" for i in range(50)]
TABLE = pa.table(
    {
        "n": np.arange(50),
        "text": pa.array(WORDS, pa.string_view()),
        "data": pa.array([None if word is None else word.encode() for word in WORDS], pa.binary_view()),
        "list": pa.array([[word] for word in WORDS], pa.list_(pa.string_view())),
        "struct": pa.array([{"x": word} for word in WORDS], pa.struct([("x", pa.string_view())])),
    }
)


#: Of each word its place among four; null where there is none.
PLACES = pa.array([None if i % 7 == 0 else i % 4 for i in range(50)], pa.int8())
FOUR = [f"a word that is longer than twelve letters {i}" for i in range(4)]
ENCODED = pa.DictionaryArray.from_arrays(PLACES, pa.array(FOUR, pa.string_view()))
#: Lists that are views, and dictionaries of views, also inside of others.
OTHERS = {
    "list views": pa.array([[word] if i % 3 else None for i, word in enumerate(WORDS)], pa.list_view(pa.string_view())),
    "large list views": pa.array([[word] for word in TABLE["data"].to_pylist()], pa.large_list_view(pa.binary_view())),
    "list views of numbers": pa.array([[i % 5, i % 2] for i in range(50)], pa.list_view(pa.int64())),
    "dictionaries": ENCODED,
    "dictionaries of bytes": ENCODED.cast(pa.dictionary(pa.int8(), pa.binary_view())),
    "lists of dictionaries": pa.ListArray.from_arrays(pa.array(range(51), pa.int32()), ENCODED),
    "lists of list views": pa.array([[[word]] for word in WORDS], pa.list_(pa.list_view(pa.string_view()))),
    "structs": pa.StructArray.from_arrays(
        [
            pa.array(WORDS, pa.string_view()),
            pa.array([[word] for word in WORDS], pa.list_view(pa.string_view())),
            ENCODED,
        ],
        ["text", "list", "encoded"],
    ),
}
each_other = pytest.mark.parametrize("name", OTHERS)


def rows(tables):
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize(
    "exchange",
    [
        Sort((SortKey("n", True),)),
        Sort((SortKey("text"),)),
        RandomShuffle(3),
        HashShuffle(("n",)),
        HashShuffle(("data",)),
    ],
    ids=["sort", "sort by views", "shuffle", "partitions", "partitions by views"],
)
def test_exchanges_move_views_and_keep_their_types(exchange: Exchange):
    found = list(run(exchange, [[TABLE.slice(0, 20), TABLE.slice(20)]], 3))
    assert all(table.schema.types == TABLE.schema.types for table in found)
    assert sorted(rows(found), key=lambda row: row["n"]) == TABLE.to_pylist()


def test_a_sort_by_views_is_that_of_texts():
    plain = TABLE.set_column(1, "text", pa.array(WORDS))
    by_text = Sort((SortKey("text"),))
    assert rows(run(by_text, [[TABLE]], 3)) == rows(run(by_text, [[plain]], 3))


def test_joins_compare_views():
    few = pa.table({"text": pa.array([WORDS[1], WORDS[7], "absent"], pa.string_view()), "m": [1, 7, 0]})
    joining = Joining("inner", ("text",), ("text",), "", "")
    (found,) = joining.tables(TABLE, few)
    assert sorted(zip(found["n"].to_pylist(), found["m"].to_pylist())) == [(1, 1), (7, 7)]
    assert found.schema.field("data").type == pa.binary_view()


def test_rows_are_taken_and_filtered():
    numbers = pa.array([3, 0, None, 49])
    assert taken_of(TABLE["list"], numbers).to_pylist() == [[WORDS[3]], [None], None, [WORDS[49]]]
    assert rows_of(TABLE, pa.array([4, 4])).to_pylist() == [TABLE.slice(4, 1).to_pylist()[0]] * 2
    assert gather.take(TABLE, np.array([7, 2])).to_pylist() == [
        TABLE.slice(7, 1).to_pylist()[0],
        TABLE.slice(2, 1).to_pylist()[0],
    ]
    kept = passing(TABLE, pa.array([i % 2 == 0 for i in range(50)]))
    assert kept.schema == TABLE.schema and kept.to_pylist() == TABLE.to_pylist()[::2]


def test_batches_of_numpy_have_texts():
    batch = to_batch(TABLE, "numpy")
    assert batch["text"].tolist() == WORDS and batch["list"][1].tolist() == [WORDS[1]]


def by_number(tables):
    return sorted(rows(tables), key=lambda row: row["n"])


@each_other
def test_lists_that_are_views_and_dictionaries_of_views_are_moved_taken_and_filtered(name):
    table = pa.table({"n": np.arange(50), "c": OTHERS[name]})
    for exchange in (Sort((SortKey("n", True),)), RandomShuffle(3), HashShuffle(("n",)), HashShuffle(("c",))):
        found = list(run(exchange, [[table.slice(0, 20), table.slice(20)]], 3))
        assert all(one.schema.types == table.schema.types for one in found)
        assert by_number(found) == table.to_pylist()
    assert passing(table, pa.array([i % 2 == 0 for i in range(50)])).to_pylist() == table.to_pylist()[::2]
    assert taken_of(table["c"], pa.array([3, None])).to_pylist() == [table["c"][3].as_py(), None]
    outer = Joining("left_outer", ("m",), ("n",)).tables(pa.table({"m": [1, 99]}), table)
    assert sorted(rows(outer), key=lambda row: row["m"])[1] == {"m": 99, "c": None}


@each_other
def test_values_that_are_looked_at_are_plain(name):
    for array in (OTHERS[name], OTHERS[name].slice(7, 9), pa.chunked_array([OTHERS[name], OTHERS[name].slice(3)])):
        found = plain(array)
        found.validate(full=True)
        assert found.to_pylist() == array.to_pylist() and "view" not in str(found.type)


@each_other
@pytest.mark.parametrize("form", ["numpy", "pandas", "pyarrow"])
def test_batches_have_lists_that_are_views_and_dictionaries_of_views(name, form):
    table = pa.table({"n": np.arange(50), "c": OTHERS[name]})
    batch = to_batch(table, form)
    assert len(batch["c"]) == 50
    if name == "dictionaries":
        found = batch["c"].to_pylist() if form == "pyarrow" else list(batch["c"])
        assert found[1:7] == OTHERS[name].to_pylist()[1:7]


@each_other
def test_rows_are_grouped_by_lists_that_are_views_and_by_dictionaries_of_views(name):
    table = pa.table({"n": np.arange(50), "c": OTHERS[name]})
    found = rows(run(Aggregated(("c",), (Count(), Sum("n"))), [[table.slice(0, 20), table.slice(20)]], 3))
    wanted: dict = {}
    for row in table.to_pylist():
        count, total = wanted.get(str(row["c"]), (0, 0))
        wanted[str(row["c"])] = count + 1, total + row["n"]
    assert {str(row["c"]): (row["count()"], row["sum(n)"]) for row in found} == wanted


@pytest.mark.parametrize("name", ["dictionaries", "dictionaries of bytes"])
def test_dictionaries_of_views_are_sorted_joined_and_aggregated_as_texts(name):
    encoded = OTHERS[name]
    texts = pa.array(encoded.to_pylist())
    tables = [pa.table({"n": np.arange(50), "c": column}) for column in (encoded, texts)]
    by_text, aggregates = Sort((SortKey("c"),)), (Min("c"), Max("c"), Unique("c"), CountDistinct("c"))
    found, wanted = (
        [rows(run(by_text, [[one]], 3)), rows(run(Aggregated((), aggregates), [[one]], 1))] for one in tables
    )
    assert found == wanted
    for few in (texts.slice(1, 1), texts.slice(1, 1).cast(type_of_views(texts.type)), encoded.slice(1, 1)):
        side = pa.table({"c": few, "m": [1]})
        joined = [by_number(Joining("inner", ("c",), ("c",)).tables(one, side)) for one in tables]
        assert joined[0] == joined[1] and len(joined[0]) > 5


def type_of_views(kind):
    return pa.string_view() if kind == pa.string() else pa.binary_view()


def test_the_least_and_the_largest_of_views_are_texts():
    table = pa.table({"text": TABLE["text"]})
    (row,) = rows(run(Aggregated((), (Min("text"), Max("text"))), [[table]], 1))
    known = [word for word in WORDS if word is not None]
    assert row == {"min(text)": min(known), "max(text)": max(known)}


@each_other
def test_parquet_files_have_lists_that_are_views_and_dictionaries_of_views(name, tmp_path):
    table = pa.table({"n": np.arange(50), "c": OTHERS[name]})
    with pa.OSFile(str(tmp_path / "a.parquet"), "wb") as file:
        written = ParquetWriter().begin(file, table.schema)
        written.write(table)
        written.close()
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == table.to_pylist()


def test_what_has_no_views_stays_as_it_is():
    plain = TABLE.select(["n"])
    assert plain_table(plain) is plain and plain_type(pa.list_(pa.string())) is None
    assert plain_type(pa.map_(pa.string_view(), pa.int64())) == pa.map_(pa.large_string(), pa.int64())
    assert plain_type(pa.list_(pa.binary_view(), 2)) == pa.list_(pa.large_binary(), 2)
    assert plain_type(pa.large_list(pa.string_view())) == pa.large_list(pa.large_string())
    assert plain_type(pa.list_view(pa.string_view())) is None
    encoded = pa.dictionary(pa.int8(), pa.string_view(), ordered=True)
    assert plain_type(encoded) == pa.dictionary(pa.int8(), pa.large_string(), ordered=True)


@each_other
def test_columns_without_a_chunk_are_columns_without_values(name):
    kind = OTHERS[name].type
    nothing = pa.chunked_array([], kind)
    for found in (whole(nothing), gather.whole(nothing), plain(nothing)):
        assert len(found) == 0
    table = pa.table({"k": nothing, "v": pa.array([], pa.int64())})
    assert gather.combine(table).schema == table.schema
    exchange = Aggregated(("k",), (Sum("v"), Count()))
    assert pa.concat_tables(run(exchange, [[table, table]], 2)).num_rows == 0
