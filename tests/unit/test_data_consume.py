"""Batches for consumers: exact counts, views where possible, a shuffle by row numbers, tensors with one copy."""

from __future__ import annotations

import itertools
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.block import build  # noqa: E402
from hpc.data.block.batch import rows  # noqa: E402
from hpc.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn, format_of  # noqa: E402
from hpc.data.consume import jax as jax_batches  # noqa: E402
from hpc.data.consume import tf as tf_batches  # noqa: E402
from hpc.data.consume.batches import assemble, count  # noqa: E402
from hpc.data.consume.shuffle import LocalShuffle  # noqa: E402

SIZES = st.lists(st.integers(0, 30), max_size=8)


def blocks(sizes):
    ends = [0, *itertools.accumulate(sizes)]
    whole = build.table(
        {
            "x": np.arange(ends[-1]),
            "s": [str(row) for row in range(ends[-1])],
            "t": np.arange(ends[-1] * 2, dtype=np.float32).reshape(-1, 2),
        },
        "f",
    )
    return [whole.slice(start, stop - start) for start, stop in itertools.pairwise(ends)]


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(1, 12), st.booleans(), st.sampled_from(["numpy", "pyarrow"]), st.none() | st.integers(0, 40))
def test_only_the_last_batch_is_short_with_and_without_a_shuffle(sizes, batch_size, drop_last, kind, window):
    shuffle = None if window is None else LocalShuffle(window, seed=3)
    total = sum(sizes)
    got = list(assemble(iter(blocks(sizes)), batch_size, kind, drop_last, shuffle))
    found = [(batch["x"], batch["s"], batch["t"]) for batch in got]
    lengths = [len(x) for x, _, _ in found]
    assert len(got) == count(total, batch_size, drop_last)
    assert all(length == batch_size for length in lengths[: None if drop_last else -1])
    order = [int(value) for x, _, _ in found for value in (x if kind == "numpy" else x.to_pylist())]
    texts = [text for _, s, _ in found for text in (s if kind == "numpy" else s.to_pylist())]
    assert texts == [str(row) for row in order]
    if kind == "numpy":
        assert [float(cell[0]) for _, _, t in found for cell in t] == [2.0 * row for row in order]
    if window is None:
        assert order == list(range(len(order)))
    elif not drop_last:
        assert sorted(order) == list(range(total))
        reach = max(window, batch_size)
        assert all(row < place - place % batch_size + reach for place, row in enumerate(order))


@settings(max_examples=80, deadline=None)
@given(SIZES, SIZES, st.integers(1, 9), st.integers(0, 40))
def test_the_order_of_a_shuffle_does_not_depend_on_the_blocks(sizes, other, batch_size, window):
    other = [*other, max(0, sum(sizes) - sum(other))]
    cut = [min(size, sum(sizes)) for size in other]
    while sum(cut) > sum(sizes):
        cut.pop(0)
    cut.append(sum(sizes) - sum(cut))
    order = [
        [
            int(x)
            for batch in assemble(iter(blocks(one)), batch_size, "numpy", False, LocalShuffle(window, 5))
            for x in batch["x"]
        ]
        for one in (sizes, cut)
    ]
    assert order[0] == order[1]


def test_a_shuffle_mixes_and_its_seed_decides():
    def order(seed, window=400):
        batches = assemble(iter(blocks([100] * 10)), 32, "numpy", False, LocalShuffle(window, seed))
        return [int(x) for batch in batches for x in batch["x"]]

    assert order(1) == order(1) != order(2)
    moved = np.abs(np.array(order(1)) - np.arange(1000))
    assert moved.mean() > 150


def test_a_shuffle_does_not_keep_blocks_of_which_few_rows_are_left():
    from hpc.data.consume.shuffle import Window, gather_numpy
    from hpc.data.consume.views import pieces

    window = Window(LocalShuffle(100, 1), 10)
    for views in pieces(iter(blocks([1000] * 20))):
        window.add(views)
        while window.ready():
            gather_numpy(window.parts(window.draw()))
            window.tidy()
        held = sum(kept.rows for number, kept in window.blocks.items() if number != window.next_block - 1)
        assert held <= 4 * window.size + 64 * len(window.blocks)


def test_batches_are_views_where_they_lie_in_one_block():
    table = build.table({"x": np.arange(10.0), "t": np.ones((10, 2))}, "f")
    first, second, last = assemble(iter([table]), 4)
    base = table.column("x").chunk(0).to_numpy()
    assert np.shares_memory(second["x"], base) and not second["x"].flags.writeable
    assert (len(first["x"]), len(last["t"])) == (4, 2)


def test_blocks_of_several_schemas_and_chunks_become_batches():
    tables = [pa.table({"x": [1, 2]}), pa.table({"x": [None, 0.5], "y": ["a", "b"]}), pa.table({"x": [3]})]
    whole = next(assemble(iter(tables), 5))
    assert (
        whole["x"].tolist()[:2] == [1, 2]
        and np.isnan(whole["x"][2])
        and whole["y"].tolist() == [None, None, "a", "b", None]
    )
    chunked = pa.concat_tables([pa.table({"x": [1, 2]}), pa.table({"x": [3, 4, 5]})])
    assert [batch["x"].tolist() for batch in assemble(iter([chunked]), 4)] == [[1, 2, 3, 4], [5]]
    shuffled = next(assemble(iter(tables), 5, "numpy", False, LocalShuffle(5, 1)))
    assert sorted(str(one) for one in shuffled["y"]) == ["None", "None", "None", "a", "b"]
    assert [table.num_rows for table in assemble(iter(tables), None, None)] == [2, 2, 1]
    assert [batch["x"].tolist() for batch in assemble(iter([pa.table({"x": [True, None]})]), 2)] == [[True, None]]


@pytest.mark.parametrize(
    ("size", "kind", "shuffle", "said"),
    [(0, "numpy", None, "positive"), (2.5, "numpy", None, "positive"), (1, "x", None, "batch_format"),
     (None, "numpy", LocalShuffle(3), "Must specify a batch_size")],
)  # fmt: skip
def test_bad_arguments_are_refused_at_once(size, kind, shuffle, said):
    with pytest.raises(ValueError, match=said):
        assemble(iter([]), size, kind, False, shuffle)


def batch_of(columns):
    return next(assemble(iter([build.table(columns, "f")]), 100))


def test_a_collate_class_says_which_batches_it_wants():
    class Arrow(ArrowBatchCollateFn):
        def __call__(self, batch):
            return batch

    class Numpy(NumpyBatchCollateFn):
        def __call__(self, batch):
            return batch

    class Pandas(PandasBatchCollateFn):
        def __call__(self, batch):
            return batch

    assert [format_of(one) for one in (Arrow(), Numpy(), Pandas(), len)] == ["pyarrow", "numpy", "pandas", "numpy"]
    with pytest.raises(TypeError):
        ArrowBatchCollateFn()
    with pytest.raises(ValueError, match="must be a function"):
        format_of(3)


def each(*batches):
    yield from batches


def test_arrays_of_jax_own_their_memory_and_have_the_dtypes_that_are_asked_for():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    batch = batch_of({"i": [1, 2], "f": [1.0, 2.0]})
    (made,) = jax_batches.shared_out(each(batch), 2, {"i": "float32"}, None, False, False)
    assert isinstance(made["i"], jax.Array) and made["i"].dtype == np.float32
    assert made["f"].sharding.spec == jax.sharding.PartitionSpec("rows")
    mine = np.arange(4.0, dtype=np.float32)
    (made,) = jax_batches.shared_out(each(mine), 4, "bfloat16", None, False, False)
    mine[:] = 0
    assert made.tolist() == [0, 1, 2, 3] and made.dtype == jax.numpy.bfloat16
    with pytest.raises(KeyError, match="dtypes has"):
        list(jax_batches.shared_out(each(batch), 2, {"z": "float32"}, None, False, False))


def test_values_that_jax_has_no_array_for_are_refused():
    with pytest.raises(TypeError, match="which no tensor holds"):
        jax_batches.numeric(batch_of({"s": ["a"]}))
    with pytest.raises(TypeError, match="an array of numpy or a dict of them, not list"):
        jax_batches.checked({"i": [1, 2]})
    for size in (0, 3, None, True):
        with pytest.raises(ValueError, match="a positive multiple of the 2 devices"):
            jax_batches.check(size, 2)


def in_step(of_processes, **how):
    """What `in_step` gives each process: all of them run side by side, and tell each other their rows."""
    meeting, said = threading.Barrier(len(of_processes)), [0] * len(of_processes)

    def run(rank):
        def gather(rows):
            said[rank] = rows
            meeting.wait(10)
            found = list(said)
            meeting.wait(10)
            return found

        try:
            batches = (np.ones(rows) for rows in of_processes[rank])
            return [len(batch) for batch in jax_batches.in_step(batches, gather, **how)]
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(len(of_processes)) as pool:
        return list(pool.map(run, range(len(of_processes))))


def test_processes_come_to_the_same_batches_or_all_to_the_same_error():
    assert in_step([[4, 4], [4, 4]], drop_last=False, is_padded=False) == [[4, 4], [4, 4]]
    assert in_step([[4, 4], [4]], drop_last=True, is_padded=False) == [[4], [4]]
    assert in_step([[4, 4, 2], [4]], drop_last=False, is_padded=True) == [[4, 4, 2], [4, 0, 0]]
    for batches, how, words in [
        ([[4, 4], [4]], {"is_padded": False}, "some processes have batches left"),
        ([[4, 4], [4, 2]], {"is_padded": False}, "different numbers of rows"),
        ([[4], []], {"is_padded": True}, "a process has no rows at all"),
    ]:
        first, second = in_step(batches, drop_last=False, **how)
        assert words in first and first == second


def test_padding_fills_up_to_the_size_of_a_batch():
    padded = jax_batches.pad(batch_of({"i": [1, 2], "t": np.ones((2, 2))}), 3, {"i": 0, "t": -1})
    assert padded["i"].tolist() == [1, 2, 0] and padded["t"].tolist() == [[1, 1], [1, 1], [-1, -1]]
    assert jax_batches.pad(padded, 2, 0)["i"].tolist() == [1, 2, 0]
    assert jax_batches.pad(np.ones(1), 2, {"x": 3}).tolist() == [1, 3]
    with pytest.raises(KeyError, match="no value for the column 't'"):
        jax_batches.pad(padded, 9, {"i": 0})


def test_tensors_of_tensorflow_are_made_of_numbers_texts_and_ragged_cells(monkeypatch):
    """TensorFlow is large, and so its names stand in for it: what reaches each of them is looked at."""
    fake = types.ModuleType("tensorflow")
    fake.convert_to_tensor = lambda value: np.asarray(value)
    fake.cast = lambda value, dtype: ("cast", dtype)
    fake.ragged = types.SimpleNamespace(stack=lambda values: ("ragged", [len(value) for value in values]))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    made = tf_batches.collate(batch_of({"i": [1, 2], "s": ["a", "b"], "r": [[1], [2, 3]]}))
    assert made["i"].tolist() == [1, 2] and made["s"].tolist() == ["a", "b"] and made["r"] == ("ragged", [1, 2])
    assert tf_batches.collate(batch_of({"i": [1]}), {"i": "float32"}) == {"i": ("cast", "float32")}
    with pytest.raises(KeyError, match="dtypes has"):
        tf_batches.collate(batch_of({"i": [1]}), {"z": "float32"})


def test_a_dataset_of_tensorflow_has_the_types_of_the_columns(monkeypatch):
    fake = types.ModuleType("tensorflow")
    fake.convert_to_tensor = lambda value: np.asarray(value)
    fake.cast = lambda value, dtype: ("cast", dtype)
    fake.as_dtype, fake.string = np.dtype, "string"

    class TensorSpec(NamedTuple):
        shape: tuple
        dtype: object
        name: str | None = None

    class RaggedTensorSpec(NamedTuple):
        shape: tuple
        dtype: object

    fake.TensorSpec, fake.RaggedTensorSpec = TensorSpec, RaggedTensorSpec
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    schema = build.table({"i": [1], "s": ["a"], "r": [[1, 2]], "t": np.ones((1, 2, 3))}, "f").schema
    assert tf_batches.specs_of(schema, "i") == TensorSpec((None,), np.dtype("int64"), "i")
    assert tf_batches.specs_of(schema, ["t", "s"]) == {
        "t": TensorSpec((None, 2, 3), np.dtype("float64"), "t"),
        "s": TensorSpec((None,), "string", "s"),
    }
    assert tf_batches.specs_of(schema, "r") == RaggedTensorSpec((None, None), np.dtype("int64"))
    with pytest.raises(ValueError, match="no column 'z': its columns are"):
        tf_batches.specs_of(schema, ["i", "z"])
    with pytest.raises(ValueError, match=r"give the tf\.TypeSpec"):
        tf_batches.specs_of(pa.schema([("d", pa.struct([("x", pa.int64())]))]), "d")


def test_rows_are_dicts_of_python_values():
    assert list(rows(build.table({"x": [1, None], "s": ["a", "b"]}, "f"))) == [
        {"x": 1, "s": "a"},
        {"x": None, "s": "b"},
    ]
