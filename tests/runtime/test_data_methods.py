"""Methods that run a dataset: what they give is what Ray gives, and each loop is another run."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import types
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

import hpc
from hpc.data import DataContext, Dataset, from_arrow, range, range_tensor
from hpc.data.collate_fn import ArrowBatchCollateFn, PandasBatchCollateFn
from hpc.data.expressions import col
from hpc.data.plan import nodes
from hpc.data.transform.tally import RowCount
from runtime.running import one_node

FIRST_TEN = [{"id": number} for number in itertools.islice(itertools.count(), 10)]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=2):
        DataContext.get_current().enable_progress_bars = False
        yield


def numbers(count):
    return [*itertools.islice(itertools.count(), count)]


def test_rows_are_looked_at():
    ten = range(10)
    assert ten.take(3) == FIRST_TEN[:3] and ten.take(0) == ten.take(-1) == [] and ten.take_all() == FIRST_TEN
    assert len(ten.take_all(limit=10)) == 10
    with pytest.raises(ValueError, match="more than the given limit of 5 records"):
        ten.take_all(limit=5)
    assert ten.take_batch(3)["id"].tolist() == [0, 1, 2]
    assert ten.take_batch(3, batch_format="pyarrow") == pa.table({"id": [0, 1, 2]})
    with pytest.raises(ValueError, match="empty"):
        ten.limit(0).take_batch()


def test_functions_and_expressions_make_rows():
    ten = range(10)
    assert ten.map(lambda row: {"y": row["id"] * 2}).take(2) == [{"y": 0}, {"y": 2}]
    assert ten.filter(lambda row: row["id"] > 7).count() == ten.filter(expr="id > 7").count() == 2
    assert ten.filter(expr=col("id") > 7).take_all() == FIRST_TEN[8:]
    more = ten.with_column("y", col("id") + 1).with_columns({"z": col("id") * 2})
    assert more.take(1) == [{"id": 0, "y": 1, "z": 0}] and more.columns() == ["id", "y", "z"]
    assert more.select_columns(["z", "id"]).drop_columns(["id"]).rename_columns({"z": "a"}).take(2)[1] == {"a": 2}
    assert more.rename_columns(["a", "b", "c"]).columns() == ["a", "b", "c"]
    assert ten.add_column("y", lambda frame: frame["id"] + 1).take(1) == [{"id": 0, "y": 1}]
    assert 20 < range(100).random_sample(0.5, seed=1).count() < 80
    assert ten.union(ten).count() == 20 and ten.zip(ten).take(1) == [{"id": 0, "id_1": 0}]


def test_columns_come_from_a_run_of_one_row_where_nothing_else_tells_them():
    mapped = range(10).map(lambda row: {"y": float(row["id"])})
    assert mapped.schema(fetch_if_missing=False) is None and mapped.schema().types == [pa.float64()]
    nothing = range(10).filter(lambda row: False)
    assert nothing.take() == [] and nothing.columns() == ["id"]


def test_batches_are_of_exact_sizes_in_each_format_and_each_loop():
    ten = range(10, override_num_blocks=3)
    for ahead in (0, 1, 3):
        batches = ten.iter_batches(batch_size=4, prefetch_batches=ahead)
        assert [len(batch["id"]) for batch in batches] == [len(batch["id"]) for batch in batches] == [4, 4, 2]
    assert [len(batch["id"]) for batch in ten.iter_batches(batch_size=4, drop_last=True)] == [4, 4]
    assert [batch.num_rows for batch in ten.iter_batches(batch_size=None, batch_format="pyarrow")] == [4, 3, 3]
    shuffled = [ten.iter_batches(batch_size=4, local_shuffle_buffer_size=8, local_shuffle_seed=1) for _ in (1, 2)]
    one, two = ([int(number) for batch in batches for number in batch["id"]] for batches in shuffled)
    assert one == two != sorted(one) == numbers(10)
    assert [*ten.iter_rows()] == FIRST_TEN and len([*ten.iterator().iter_batches(batch_size=3)]) == 4
    for wrong in ({"batch_size": 0}, {"batch_format": "x"}, {"prefetch_batches": -1}):
        with pytest.raises(ValueError):
            ten.iter_batches(**wrong)


def test_tensors_have_their_dtypes_and_shapes():
    torch = pytest.importorskip("torch")
    (batch,) = range_tensor(3, shape=(2, 2)).iter_torch_batches(dtypes=torch.float32)
    assert batch["data"].shape == (3, 2, 2) and batch["data"].dtype == torch.float32
    (made,) = range(3).iter_torch_batches(collate_fn=lambda arrays: type(arrays["id"]))
    assert made is np.ndarray
    with pytest.raises(ValueError, match="collate_fn"):
        range(3).iter_torch_batches(collate_fn=len, dtypes=torch.float32)
    ((features, label),) = (
        range(3).with_column("y", col("id") * 2.0).iterator().to_torch(label_column="y", batch_size=3)
    )
    assert features.tolist() == [[0], [1], [2]] and label.tolist() == [[0], [2], [4]]


def test_a_loop_that_is_left_ends_the_run():
    endless = range(10**9, override_num_blocks=10_000).iter_batches(batch_size=4)
    assert next(iter(endless))["id"].tolist() == [0, 1, 2, 3]
    before = threading.active_count()
    for _ in endless:
        break
    assert threading.active_count() <= before + 4


def test_statistics_tell_of_a_run_that_goes_on_and_of_one_that_failed(tmp_path):
    def odd(row):
        if row["id"] == 90:
            while not (tmp_path / "go").exists():
                time.sleep(0.01)
            raise ValueError("ninety")
        return row

    data = range(100, override_num_blocks=10).map(odd)
    assert data.stats() == ""
    data.set_name("odds")
    blocks = data.handles()
    next(blocks)
    assert "odds: running" in data.stats()
    (tmp_path / "go").touch()
    with pytest.raises(Exception, match="ninety"):
        list(blocks)
    assert "odds: failed" in data.stats() and "* Remote cpu time: " in data.stats()


def test_what_is_materialized_is_kept():
    made = []
    kept = range(10, override_num_blocks=2).map(lambda row: {"id": row["id"]}).materialize()
    assert (
        kept.num_blocks() == 2 and kept.count() == 10 and kept.size_bytes() == 80 and "Showing 10 of 10" in repr(kept)
    )
    assert kept.take(1) == FIRST_TEN[:1] and kept.limit(7).count() == 7 and "10 rows" in kept.stats()
    assert [table.num_rows for table in hpc.get(kept.to_arrow_refs())] == [5, 5]
    assert [part.tolist() for part in hpc.get(kept.to_numpy_refs(column="id"))] == [numbers(5), numbers(10)[5:]]
    assert kept.to_pandas()["id"].tolist() == numbers(10) and len(hpc.get(kept.to_pandas_refs())[0]) == 5
    with pytest.raises(ValueError, match="given limit of 5 rows: 10"):
        kept.to_pandas(limit=5)
    assert not made and isinstance(kept.map(lambda row: row), Dataset)


def test_a_dataset_is_divided_by_blocks_rows_and_parts():
    ten = range(10, override_num_blocks=5)
    assert [[row["id"] for row in part.take_all()] for part in ten.split(3, equal=True)] == [
        [0, 1, 2], [3, 4, 5], [6, 7, 8],
    ]  # fmt: skip
    assert [part.count() for part in ten.split(3)] == [4, 4, 2]
    assert [part.count() for part in ten.split_at_indices([2, 5])] == [2, 3, 5]
    assert [part.count() for part in ten.split_at_indices([5, 20])] == [5, 5, 0]
    assert [part.count() for part in ten.split_proportionately([0.2, 0.5])] == [2, 5, 3]
    for wrong in ([], [5, 2], [-1]):
        with pytest.raises(ValueError, match="indices"):
            ten.split_at_indices(wrong)
    for wrong in ([], [0.5, 0.5], [0, 0.5]):
        with pytest.raises(ValueError, match="proportions"):
            ten.split_proportionately(wrong)
    with pytest.raises(ValueError, match="non-empty"):
        range(1).split_proportionately([0.1, 0.1])
    with pytest.raises(ValueError, match="not positive"):
        ten.split(0)


def test_rows_are_told_apart_as_they_stream():
    for how in ({"seed": 1}, {"split_type": "hash", "hash_column": "id"}):
        train, test = range(1000).streaming_train_test_split(0.2, **how)
        one, two = ({row["id"] for row in part.take_all()} for part in (train, test))
        assert one | two == {*numbers(1000)} and not one & two and 120 < len(two) < 280
        assert {row["id"] for row in test.take_all()} == two
    for wrong in ({"split_type": "hash"}, {"hash_column": "id"}, {"split_type": "x"}):
        with pytest.raises(ValueError):
            range(10).streaming_train_test_split(0.2, **wrong)


def test_tables_come_in_and_an_error_of_a_function_names_it():
    assert from_arrow(pa.table({"a": [1, 2]})).take_all() == [{"a": 1}, {"a": 2}]

    def broken(row):
        raise KeyError("no such field")

    with pytest.raises(Exception, match="function broken failed"):
        range(4).map(broken).take()


def test_a_count_moves_numbers_and_no_rows():
    mapped = range_tensor(1000, shape=(64,)).map_batches(lambda batch: batch)
    run = mapped.begin(nodes.Apply(mapped.plan, RowCount()))
    assert sum(block.meta.nbytes for block in run) < 1000
    few = mapped.filter(lambda row: row["data"][0] < 10)
    assert (mapped.count(), few.count(), few.limit(4).count(), mapped.union(few).count()) == (1000, 10, 4, 1010)
    assert range(10).filter(lambda row: False).count() == 0 and range(0).map(lambda row: row).count() == 0


class Sizes:
    """How many rows each batch has."""

    def __call__(self, batch):
        return {"rows": [len(batch["id"])]}


def test_small_blocks_are_brought_together_for_a_batch():
    """Each time: the sizes that Ray's functions see."""

    def sizes(data, size, *, pool=None):
        function = Sizes if pool else Sizes().__call__
        return [row["rows"] for row in data.map_batches(function, batch_size=size, concurrency=pool).take_all()]

    small, thrice = range(100, override_num_blocks=20), [12, 3] * 6 + [10]
    assert sizes(range(10, override_num_blocks=2), 100) == [10]
    assert sizes(range(1000, override_num_blocks=2), 300) == [300, 200] * 2
    assert sizes(small, None) == [5] * 20 and sizes(small, 10) == [10] * 10 and sizes(small, 7) == [7, 3] * 10
    assert sizes(small, 12) == sizes(small, 12, pool=1) == sizes(small.materialize(), 12) == thrice
    assert sizes(small.map(lambda row: row), 12) == thrice
    assert sizes(small.filter(lambda row: row["id"] % 2 == 0), 12) == [12, 1, 12, 12, 1, 12]
    assert sizes(small.limit(33), 12) == [12, 3, 12, 3, 3]
    same = small.map_batches(lambda batch: batch, batch_size=12)
    assert sizes(same, 12) == thrice and sizes(same, 30) == [30, 30, 30, 10]
    assert same.materialize().num_blocks() == 7


def test_a_collate_function_gets_the_batches_that_its_class_says():
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Arrow(ArrowBatchCollateFn):
        def __call__(self, batch):
            return type(batch).__name__, torch.as_tensor(batch["id"].to_numpy().copy())

    class Pandas(PandasBatchCollateFn):
        def __call__(self, batch):
            return type(batch).__name__, torch.as_tensor(batch["id"].to_numpy().copy())

    for made, name in [(Arrow(), "Table"), (Pandas(), "DataFrame"), (lambda b: (type(b).__name__, b["id"]), "dict")]:
        found = list(range(4).iter_torch_batches(batch_size=3, collate_fn=made))
        assert [(kind, ids.tolist()) for kind, ids in found] == [(name, [0, 1, 2]), (name, [3])]


def test_frames_of_other_libraries_are_made_of_all_rows(monkeypatch):
    """Their constructors stand in for them: these libraries are large, or need a service."""
    modin = types.ModuleType("modin.pandas")
    modin.DataFrame = lambda frame: ("modin", frame["id"].tolist())
    monkeypatch.setitem(sys.modules, "modin.pandas", modin)
    spark = types.SimpleNamespace(createDataFrame=lambda frame: ("spark", frame["id"].tolist()))
    assert range(3).to_modin() == ("modin", [0, 1, 2]) and range(3).to_spark(spark) == ("spark", [0, 1, 2])


@pytest.mark.parametrize(
    ("module", "use", "words"),
    [
        ("tensorflow", lambda: range(3).to_tf("id", "id"), "pip install tensorflow"),
        ("tensorflow", lambda: range(3).iter_tf_batches(), "pip install tensorflow"),
        ("jax", lambda: range(3).iter_jax_batches(), r"pip install 'hpc\[jax\]'"),
        ("modin.pandas", lambda: range(3).to_modin(), "pip install modin"),
        ("daft", lambda: range(3).to_daft(), "pip install daft"),
        ("dask.dataframe", lambda: range(3).to_dask(), r"pip install 'dask\[dataframe\]'"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch, module, use, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        use()
