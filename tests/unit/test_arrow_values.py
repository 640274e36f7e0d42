"""Tables of pyarrow as values: written as streams with no more than their rows, read as views, whatever is in them."""

from __future__ import annotations

import datetime
import decimal
import pickle

import numpy as np
import pytest

from hpc.core import serialization
from hpc.core.serialization import Serialized

pa = pytest.importorskip("pyarrow")


class Celsius(pa.ExtensionType):
    """A type of this file: another process knows it once it has imported this."""

    def __init__(self, unit="C"):
        self.unit = unit
        super().__init__(pa.float64(), "tests.celsius")

    def __arrow_ext_serialize__(self):
        return self.unit.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls(serialized.decode())

    def __reduce__(self):
        return Celsius, (self.unit,)


NUMBERS = pa.table({"a": pa.array(range(1000)), "b": np.arange(1000) / 3})
TEXTS = pa.array([f"t{i}" if i % 3 else None for i in range(1000)])
VALUES = {
    "numbers": NUMBERS,
    "texts": pa.table({"t": TEXTS, "large": TEXTS.cast(pa.large_string()), "view": TEXTS.cast(pa.string_view())}),
    "nested": pa.table({"l": [[i] * (i % 4) for i in range(500)], "s": [{"x": i, "y": [None]} for i in range(500)]}),
    "dictionary": pa.table({"d": TEXTS.dictionary_encode()}),
    "dictionaries": pa.table({"d": pa.chunked_array([pa.array(x).dictionary_encode() for x in (["a"], ["b", "a"])])}),
    "others": pa.table({"t": [datetime.datetime(2026, 1, 1)], "d": [decimal.Decimal("1.25")], "n": pa.nulls(1)}),
    "maps": pa.table({"m": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))}),
    "chunks": pa.concat_tables([NUMBERS, NUMBERS.slice(10, 90)]),
    "no rows": NUMBERS.slice(0, 0),
    "no columns": NUMBERS.select([]),
    "nothing": pa.table({}),
    "said of it": NUMBERS.replace_schema_metadata({"who": "me"}),
    "tensors": pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(2400.0).reshape(100, 4, 6))}),
    "batch": NUMBERS.to_batches()[0],
    "empty batch": NUMBERS.to_batches()[0].slice(0, 0),
}  # fmt: skip


def through(value: object) -> object:
    """The value after it was packed and read again."""
    packed = serialization.dumps(value)
    data = packed.to_bytes()
    assert len(data) == packed.size
    return serialization.loads(data)


def streams(packed: Serialized) -> int:
    return sum(not isinstance(buffer, memoryview) for buffer in packed.buffers)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_a_table_comes_back_as_it_was(name, nested):
    value = VALUES[name]
    serialization.dumps([NUMBERS])  # the first value of its kind makes the way known
    packed = serialization.dumps({"it": (value, 1)} if nested else value)
    assert streams(packed) == 1 and not packed.refs
    again = serialization.loads(packed.to_bytes())
    again = again["it"][0] if nested else again
    assert type(again) is type(value) and again.num_rows == value.num_rows
    assert again.schema.equals(value.schema, check_metadata=True) and again.equals(value)
    again.validate(full=True)


def test_a_slice_takes_no_more_than_its_rows():
    serialization.dumps(NUMBERS)
    part = NUMBERS.slice(500, 10)
    assert serialization.dumps(part).size < 1500 < len(pickle.dumps(part))
    assert through(part).equals(part)
    texts = VALUES["texts"].slice(900, 9)
    assert serialization.dumps(texts).size < 4000 and through(texts).equals(texts)


def test_a_table_is_read_as_views_that_cannot_be_written_to():
    data = serialization.dumps(NUMBERS).to_bytes()
    array = serialization.loads(data)["b"].chunk(0)
    base = np.frombuffer(data, np.uint8).ctypes.data
    assert base <= array.buffers()[1].address < base + len(data)
    assert not array.to_numpy().flags.writeable


def test_several_tables_of_one_value_and_one_twice_keep_their_places():
    other = NUMBERS.slice(3, 5)
    first, again, second, array = through([NUMBERS, NUMBERS, other, np.arange(4000)])
    assert first is again and first.equals(NUMBERS) and second.equals(other) and array.sum() == 7998000


def test_types_of_users_are_known_where_the_table_is_read():
    degrees = pa.ExtensionArray.from_storage(Celsius("K"), pa.array([1.5, 2.5]))
    table = pa.table({"t": pa.ListArray.from_arrays([0, 2], degrees), "n": [1]})
    with pytest.raises(pa.ArrowKeyError):
        pa.unregister_extension_type("tests.celsius")
    packed = serialization.dumps(table)  # it is not registered: pyarrow pickles it
    assert not streams(packed) and serialization.loads(packed.to_bytes()).equals(table)
    pa.register_extension_type(Celsius())
    try:
        packed = serialization.dumps(table)
        assert streams(packed) == 1
        data = packed.to_bytes()
    finally:
        pa.unregister_extension_type("tests.celsius")
    try:
        again = serialization.loads(data)
        assert again.equals(table) and again.schema.field("t").type.value_type.unit == "K"
    finally:
        pa.unregister_extension_type("tests.celsius")


def test_a_serializer_of_the_user_for_tables_comes_first():
    serialization.register(pa.Table, lambda table: table.num_rows, lambda rows: f"{rows} rows")
    try:
        assert through(NUMBERS) == through([NUMBERS])[0] == "1000 rows"
    finally:
        serialization.deregister(pa.Table)
    assert through(NUMBERS).equals(NUMBERS)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000),
        np.arange(10),
        np.asfortranarray(np.arange(600.0).reshape(20, 30)),
        np.arange(6000).reshape(60, 100)[::2, ::3],
        np.array(["x" * 30] * 100),
        np.array([{1: 2}] * 500, object),
        np.zeros(300, [("a", "i4"), ("b", "f8")]),
        np.array(["2026-01-01"] * 300, "datetime64[s]"),
        np.zeros((0, 5)),
        np.float64(3).reshape(()),
    ],
    ids=lambda array: f"{array.dtype.kind}{array.shape}",
)
def test_arrays_come_back_the_same_alone_and_within_a_value(array):
    (within,) = through([array])
    again = through(array)
    assert again.dtype == array.dtype and again.shape == array.shape and (again == array).all()
    assert again.strides == within.strides and again.flags.writeable == within.flags.writeable
