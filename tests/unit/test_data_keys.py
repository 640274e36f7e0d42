"""Keys of hpc.data: equal values are one key, whatever the type that a task sees them in."""

from __future__ import annotations

import struct
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pytest

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
import numpy as np  # noqa: E402

from hpc.data.aggregate import Count  # noqa: E402
from hpc.data.block.codes import codes, codes_of_rows  # noqa: E402
from hpc.data.shuffle.aggregate import Aggregated  # noqa: E402
from hpc.data.shuffle.local import run  # noqa: E402
from hpc.data.shuffle.partition import hash_array  # noqa: E402
from hpc.data.transform.groups import group_ends  # noqa: E402

BIG = Decimal(10) ** 25

ALIKE = [
    ([datetime(2024, 3, 1, 12), datetime(1960, 1, 1), None], [pa.timestamp(u) for u in ("s", "ms", "us", "ns")]),
    ([timedelta(days=3), timedelta(seconds=-5), None], [pa.duration(u) for u in ("s", "ms", "us", "ns")]),
    ([time(3, 4, 5), time(0), None], [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
    ([date(2024, 3, 1), date(1960, 1, 1), None], [pa.date32(), pa.date64()]),
    ([Decimal("1.50"), Decimal("-0.07"), Decimal("12345678.9"), None],
     [pa.decimal128(10, 2), pa.decimal128(12, 4), pa.decimal128(38, 28), pa.decimal256(50, 3), pa.float64()]),
    ([Decimal(7), Decimal(-300), Decimal(0), None],
     [pa.decimal128(10, 2), pa.decimal128(38, 30), pa.decimal256(76, 40), pa.int64(), pa.int16(), pa.float32()]),
    ([BIG, -BIG, BIG / 4, None], [pa.decimal128(38, 0), pa.decimal128(38, 5), pa.decimal256(76, 30)]),
    ([Decimal(2**63), Decimal(2**64 - 1)], [pa.decimal128(38, 0), pa.decimal128(38, 8), pa.uint64()]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "kinds"), ALIKE, ids=lambda value: str(value)[:30])
def test_equal_values_of_other_units_and_scales_hash_alike(values, kinds):
    def cast(kind):
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found = [None if v is None else int(v) if pa.types.is_integer(kind) else float(v) for v in values]
            return pa.array(found, kind)
        return pa.array(values, kind)

    first = hash_array(cast(kinds[0]))
    assert len(set(first.tolist())) == len(values)
    for kind in kinds[1:]:
        assert hash_array(cast(kind)).tolist() == first.tolist(), kind
        assert hash_array(cast(kind)[1:]).tolist() == first[1:].tolist(), "of a slice"
    assert not len(hash_array(pa.array([], kinds[0])))


QUARTERS = [Decimal(k) / 4 for k in range(40)]
TIMES = [datetime(2024, 1, 1) + timedelta(hours=k) for k in range(40)]


@pytest.mark.parametrize(("keys", "kinds"), [
    (QUARTERS, (pa.decimal128(10, 2), pa.decimal128(12, 4))),
    (list(range(-20, 20)), (pa.decimal128(10, 2), pa.int64())),
    (TIMES, (pa.timestamp("us"), pa.timestamp("ns"))),
    (TIMES, (pa.timestamp("s"), pa.timestamp("ms"))),
], ids=["decimals", "decimal and int", "us and ns", "s and ms"])  # fmt: skip
def test_keys_of_two_types_meet(keys, kinds):
    first, second = (pa.table({"k": pa.array(keys, kind), "v": range(40)}) for kind in kinds)
    found = pa.concat_tables(run(Aggregated(("k",), (Count(),)), [[first, second]], 4), promote_options="permissive")
    assert sorted(found["k"].to_pylist()) == keys and set(found["count()"].to_pylist()) == {2}


NANS = np.array([struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 + n))[0] for n in range(2)])


@pytest.mark.parametrize("column", [
    pa.array(["a", "a", "b", None, None]).dictionary_encode(),
    pa.chunked_array([pa.array(["a", "a"]).dictionary_encode(), pa.array(["b", None, None]).dictionary_encode()]),
    pa.array([0.0, -0.0, 1.0, *NANS]),
    pa.array(np.array([0.0, -0.0, 1.0, *NANS], np.float16)),
    pa.array([[0.0], [-0.0], None, [float("nan")], [float("nan")]]),
    pa.array([{"x": 1}, {"x": 1}, {"x": 2}, None, None]),
])  # fmt: skip
def test_a_group_of_a_function_is_not_split(column):
    assert group_ends(pa.table({"k": column}), ["k"]) == [2, 3, 5]


def test_rows_of_several_columns_have_numbers_in_the_order_in_which_they_come_up():
    ids, count = codes_of_rows([pa.array([5, 5, 4, 5]), pa.array(["x", None, "x", "x"])])
    assert (ids.tolist(), count) == ([0, 1, 2, 0], 3)
    assert codes(pa.array([True, None, True]))[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize(("values", "groups"), [
    (pa.array(["a", "b", "a", "unused"]), {"a": 3, "b": 1, None: 1}),
    (pa.array(["a", "b", "a"], pa.string_view()), {"a": 3, "b": 1, None: 1}),
    (pa.array(["a", None, "a"]), {"a": 3, None: 2}),
    (pa.array([0.0, 1.0, -0.0]), {0.0: 3, 1.0: 1, None: 1}),
])  # fmt: skip
@pytest.mark.parametrize("parts", [1, 3])
def test_values_that_a_dictionary_has_twice_are_one_key(values, groups, parts):
    keys = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None, 0], pa.int8()), values)
    for several in (1, 2):
        blocks = [[pa.table({"k": keys, "v": range(5)})] * several]
        found = pa.concat_tables(run(Aggregated(("k",), (Count(),)), blocks, parts), promote_options="permissive")
        counts = list(zip(found["k"].to_pylist(), found["count()"].to_pylist(), strict=True))
        assert len(counts) == len(groups) and dict(counts) == {key: several * n for key, n in groups.items()}
