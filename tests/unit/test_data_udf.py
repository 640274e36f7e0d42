"""Functions of users: rows and batches, generators and coroutines, classes and arguments, and errors of nonsense."""

from __future__ import annotations

import asyncio
import functools
import threading
import time

import numpy as np
import pytest

import hpc.cloudpickle as cloudpickle

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hpc.data.block import build  # noqa: E402
from hpc.data.block.batch import rows  # noqa: E402
from hpc.data.context import DataContext  # noqa: E402
from hpc.data.transform.base import TaskContext  # noqa: E402
from hpc.data.transform.groups import MapGroups  # noqa: E402
from hpc.data.transform.maps import FilterRows, FlatMap, MapBatches, MapRows  # noqa: E402
from hpc.exceptions import UserCodeException  # noqa: E402


def ids(count: int, of: int | None = None) -> list:
    table = build.table({"id": np.arange(count)}, "ids")
    return [table.slice(at, of or count) for at in range(0, count, of or count)]


def run(transform, tables=None, task=None):
    return [row for table in transform(iter(tables or ids(4)), task or TaskContext()) for row in rows(table)]


class Add:
    """Adds what its constructor and its call are given."""

    def __init__(self, a=0, *, k=0):
        self.sum = a + k

    def __call__(self, batch, more=0):
        return {"id": batch["id"] + self.sum + more}


class Slow:
    """A coroutine that takes longer for the first batches."""

    def __init__(self):
        self.most = self.now = 0

    async def __call__(self, batch):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01 if int(np.max(batch["id"])) < 2 else 0)
        self.now -= 1
        return batch


class Twice:
    """An async generator."""

    async def __call__(self, batch):
        yield batch
        await asyncio.sleep(0)
        yield batch


def test_map_gives_one_row_for_each():
    assert run(MapRows(lambda row: {"x": row["id"] * 2})) == [{"x": 0}, {"x": 2}, {"x": 4}, {"x": 6}]
    assert run(MapRows(lambda row: row.update(y=1) or row), ids(1)) == [{"id": 0, "y": 1}]
    assert run(MapRows(lambda row, a, k: {"x": row["id"] + a + k}, fn_args=(10,), fn_kwargs={"k": 100}), ids(1)) == [
        {"x": 110}
    ]
    assert run(MapRows(functools.partial(lambda k, row: {"k": k}, 1)), ids(1)) == [{"k": 1}]
    assert MapRows(lambda row: row).keeps_rows and MapRows(dict_of).name == "Map(dict_of)"
    assert run(MapRows(lambda row: {}), ids(2)) == [{}, {}]


def dict_of(row):
    return dict(row)


def test_flat_map_takes_any_iterable_of_rows():
    assert run(FlatMap(lambda row: (row for _ in range(row["id"]))), ids(3)) == [{"id": 1}, {"id": 2}, {"id": 2}]
    assert run(FlatMap(lambda row: [])) == []
    assert run(FlatMap(lambda row: (row, row)), ids(1)) == [{"id": 0}, {"id": 0}]


def test_filter_keeps_rows_as_they_are():
    (kept,) = FilterRows(lambda row: row["id"])(iter(ids(3)), TaskContext())
    assert kept.to_pylist() == [{"id": 1}, {"id": 2}] and kept.schema == ids(1)[0].schema
    assert run(FilterRows(lambda row: np.bool_(row["id"] > 1))) == [{"id": 2}, {"id": 3}]


def test_batches_have_exactly_the_size_that_was_asked_for():
    sizes = lambda size, tables: [  # noqa: E731
        row["n"] for row in run(MapBatches(lambda batch: {"n": [len(batch["id"])]}, batch_size=size), tables)
    ]
    assert sizes(3, ids(10, 4)) == [3, 3, 3, 1]
    assert sizes(None, ids(10, 4)) == [4, 4, 2]
    assert sizes("auto", ids(10, 4)) == [10]
    assert sizes(None, [ids(4)[0].slice(0, 0), *ids(4)]) == [4]


@pytest.mark.parametrize(
    ("batch_format", "kind"),
    [("default", dict), ("numpy", dict), ("pyarrow", pa.Table), (None, pa.Table), ("pandas", None), ("polars", None)],
)
def test_a_function_gets_the_format_that_it_asked_for(batch_format, kind):
    if kind is None:
        kind = pytest.importorskip(batch_format).DataFrame
    seen = []
    assert run(MapBatches(lambda batch: seen.append(type(batch)) or batch, batch_format=batch_format), ids(2)) == [
        {"id": 0},
        {"id": 1},
    ]
    assert issubclass(seen[0], kind)


def test_a_generator_gives_several_batches_for_one():
    def twice(batch):
        yield batch
        yield {"id": batch["id"] * 10}

    assert [row["id"] for row in run(MapBatches(twice), ids(2))] == [0, 1, 0, 10]
    assert run(MapBatches(lambda batch: {})) == []


def write(batch):
    batch["id"][0] = 7
    return batch


def test_a_batch_is_read_only_unless_copies_are_asked_for():
    with pytest.raises(UserCodeException, match="zero_copy_batch=False gives copies") as caught:
        run(MapBatches(write))
    assert isinstance(caught.value.__cause__, ValueError)
    tables = ids(2)
    assert run(MapBatches(write, zero_copy_batch=False), tables) == [{"id": 7}, {"id": 1}]
    assert tables[0].to_pylist() == [{"id": 0}, {"id": 1}]


def test_an_object_of_a_class_is_made_once_and_gets_its_arguments():
    given = {"fn_constructor_args": (1,), "fn_constructor_kwargs": {"k": 10}, "fn_args": (100,)}
    transform = cloudpickle.loads(cloudpickle.dumps(MapBatches(Add, **given)))
    transform.begin()
    made = transform.udf.target
    assert [row["id"] for row in run(transform)] == [111, 112, 113, 114]
    assert transform.udf.target is made and transform.udf.is_class
    transform.bind(Add(5))
    assert [row["id"] for row in run(transform, ids(1))] == [105]
    again = cloudpickle.loads(cloudpickle.dumps(transform))
    assert again.udf.target is None
    assert run(MapBatches(Add(5)), ids(1)) == [{"id": 5}]
    assert transform.name == "MapBatches(Add)"


def test_an_object_of_a_class_is_called_by_one_thread_at_a_time():
    inside, most = [], []

    class Count:
        def __call__(self, batch):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0)
            inside.pop()
            return batch

    transform = MapBatches(Count, batch_size=1)
    threads = [threading.Thread(target=run, args=(transform, ids(200))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 400 and max(most) == 1


def test_coroutines_of_a_class_run_side_by_side_and_keep_the_order():
    transform = MapBatches(Slow, batch_size=1)
    assert [row["id"] for row in run(transform, ids(20))] == list(range(20))
    assert 1 < transform.udf.target.most <= 4
    assert [row["id"] for row in run(MapBatches(Twice, batch_size=1), ids(3))] == [0, 0, 1, 1, 2, 2]
    assert [row["id"] for row in run(MapRows(Slow), ids(20))] == list(range(20))
    assert [row["id"] for row in run(FlatMap(Twice), ids(2))] == [0, 0, 1, 1]
    assert not MapRows(Twice).keeps_rows


def test_coroutines_that_are_no_classes_and_those_of_filters_are_awaited():
    async def odd(row):
        return row["id"] % 2

    async def both(row):
        return [row, row]

    assert run(FilterRows(odd)) == [{"id": 1}, {"id": 3}]
    assert run(FlatMap(both), ids(1)) == [{"id": 0}, {"id": 0}]


def test_what_a_coroutine_raises_is_told_as_that_of_the_function():
    async def bad(batch):
        raise KeyError("nokey")

    for transform in (MapBatches(bad), MapRows(bad), FlatMap(bad), FilterRows(bad)):
        with pytest.raises(UserCodeException, match="function bad failed on") as caught:
            run(transform)
        assert isinstance(caught.value.__cause__, KeyError)


def failing(item):
    raise ZeroDivisionError("by zero")


def stopping(item):
    raise StopIteration


@pytest.mark.parametrize("kind", [MapRows, FlatMap, FilterRows, MapBatches])
def test_an_error_names_the_function_and_what_was_read_and_has_it_as_cause(kind):
    task = TaskContext(source="/data/a.csv rows 5-9")
    with pytest.raises(UserCodeException, match=r"function failing failed on .* from /data/a.csv rows 5-9") as caught:
        run(kind(failing), task=task)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    context = DataContext.get_current().copy()
    context.raise_original_map_exception = True
    with pytest.raises(ZeroDivisionError):
        run(kind(failing), task=TaskContext(context=context))


@pytest.mark.parametrize("kind", [MapRows, FlatMap, FilterRows])
def test_a_function_that_raises_stop_iteration_loses_no_rows(kind):
    with pytest.raises(UserCodeException):
        run(kind(stopping))


def test_an_error_of_the_input_is_not_told_as_one_of_the_function():
    def broken():
        yield ids(1)[0]
        raise OSError("disk")

    for transform in (
        MapRows(dict_of),
        MapBatches(Slow),
        MapBatches(lambda batch: batch),
        MapRows(Slow),
        FlatMap(Twice),
    ):
        with pytest.raises(OSError, match="disk"):
            list(transform(broken(), TaskContext()))


@pytest.mark.parametrize(
    ("transform", "error", "said"),
    [
        (MapRows(lambda row: None), ValueError, "gave a row that is None"),
        (MapRows(lambda row: 3), ValueError, "gave a row that is a int"),
        (MapRows(lambda row: [row]), ValueError, "gave a row that is a list"),
        (MapRows(lambda row: {1: 2}), ValueError, "a column named 1"),
        (FlatMap(lambda row: None), TypeError, "must return a list of rows"),
        (FlatMap(lambda row: row), ValueError, "gave a row that is a str"),
        (FlatMap(lambda row: [1]), ValueError, "gave a row that is a int"),
        (MapBatches(lambda batch: None), ValueError, "returned None"),
        (MapBatches(lambda batch: [batch]), ValueError, "returned a list"),
        (MapBatches(lambda batch: iter([batch])), ValueError, "returned a list_iterator"),
        (MapBatches(lambda batch: {"a": 3}), ValueError, "the column 'a' as a int"),
        (
            MapBatches(lambda b: {"id": b["id"][:1]}, udf_modifying_row_count=False),
            ValueError,
            "1 rows for a batch of 4",
        ),
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_function(transform, error, said):
    with pytest.raises(error, match="function <lambda>") as caught:
        run(transform)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"fn": 3}, TypeError, "needs a function or a class"),
        ({"fn": type("Empty", (), {})}, TypeError, "Empty has no __call__"),
        (
            {"fn": dict_of, "fn_constructor_args": (1,)},
            ValueError,
            "fn_constructor_args can only be given with a class",
        ),
        ({"fn": dict_of, "batch_size": 0}, ValueError, "must be a positive number"),
        ({"fn": dict_of, "batch_size": 2.5}, ValueError, "must be a positive number"),
        ({"fn": dict_of, "batch_size": "x"}, ValueError, "or 'auto'"),
        ({"fn": dict_of, "batch_format": "x"}, ValueError, "batch_format is one of"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, error, said):
    with pytest.raises(error, match=said):
        MapBatches(arguments.pop("fn"), **arguments)


class Refill:
    """Fills one buffer again and again."""

    def __init__(self):
        self.one, self.many = np.zeros(2), np.zeros((2, 3))

    def __call__(self, batch):
        self.one[:] = self.many[:] = batch["id"][0]
        return {"x": self.one, "t": self.many, "part": self.many[:, 0]}


def refill(batch):
    buffer = np.zeros(2)
    for value in range(3):
        buffer[:] = value
        yield {"x": buffer}


def test_a_function_may_fill_one_buffer_again_and_again():
    made = run(MapBatches(Refill, batch_size=2), ids(6))
    assert [row["x"] for row in made] == [0, 0, 2, 2, 4, 4] == [row["part"] for row in made]
    assert [row["t"].tolist() for row in made[::2]] == [[0] * 3, [2] * 3, [4] * 3]
    tables = list(MapBatches(refill)(iter(ids(1)), TaskContext()))
    assert [table.column("x").to_pylist() for table in tables] == [[0, 0], [1, 1], [2, 2]]


def test_arrays_that_nobody_else_has_are_not_copied():
    addresses = []

    def fresh(batch):
        made = np.ones(4)
        addresses.append(made.ctypes.data)
        return {"x": made, "flat": np.ones((2, 2)).reshape(4), "same": batch["id"]}

    (table,) = MapBatches(fresh)(iter(ids(4)), TaskContext())
    assert table.column("x").chunk(0).buffers()[1].address == addresses[0]
    given = ids(4)
    (table,) = MapBatches(fresh)(iter(given), TaskContext())
    same = [one.chunk(0).buffers()[1].address for one in (table.column("same"), given[0].column("id"))]
    assert same[0] == same[1]


def test_groups_end_where_a_key_changes():
    table = build.table(
        {"k": [None, None, 1.0, float("nan"), float("nan")], "s": list("aabbb"), "v": [1, 2, 3, 4, 5]}, "f"
    )
    sums = MapGroups(lambda group: {"n": [len(group["v"])], "sum": [group["v"].sum()]}, ["k", "s"])
    assert [(row["n"], row["sum"]) for row in run(sums, [table])] == [(2, 3), (1, 3), (2, 9)]
    whole = MapGroups(lambda group: {"n": [group.num_rows]}, [], batch_format="pyarrow")
    assert run(whole, [table]) == [{"n": 5}]
    lists = build.table({"k": [[1], [1], [2]]}, "f")
    assert [row["n"] for row in run(MapGroups(lambda group: {"n": [len(group["k"])]}, ["k"]), [lists])] == [2, 1]


def test_rows_of_images_become_tables_in_pieces_that_fit_in_memory():
    image = np.zeros((512, 512, 8), np.uint8)
    tables = list(MapRows(lambda row: {"image": image})(iter(ids(40)), TaskContext()))
    assert max(table.num_rows for table in tables) <= 16 and sum(table.num_rows for table in tables) == 40
