"""Columns of views, of which pyarrow takes no values: rows are taken, filtered and compared all the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hpc.data.block.batch import to_batch
from hpc.data.block.passing import passing
from hpc.data.block.views import plain_table, plain_type, rows_of, taken_of
from hpc.data.shuffle import gather
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


def test_what_has_no_views_stays_as_it_is():
    plain = TABLE.select(["n"])
    assert plain_table(plain) is plain and plain_type(pa.list_(pa.string())) is None
    assert plain_type(pa.map_(pa.string_view(), pa.int64())) == pa.map_(pa.large_string(), pa.int64())
    assert plain_type(pa.list_(pa.binary_view(), 2)) == pa.list_(pa.large_binary(), 2)
    assert plain_type(pa.large_list(pa.string_view())) == pa.large_list(pa.large_string())
