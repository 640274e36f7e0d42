"""Blocks of different schemas put together: every value stays what it was, in whatever order they come."""

from __future__ import annotations

import math
from functools import reduce
from itertools import permutations

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.block import build, promote  # noqa: E402
from hpc.data.block.batch import rows  # noqa: E402
from hpc.data.block.compact import compact  # noqa: E402
from hpc.data.block.errors import DataTypeError  # noqa: E402

NUMBERS = {
    "null": (pa.null(), st.none()),
    "int8": (pa.int8(), st.integers(-9, 9)),
    "int64": (pa.int64(), st.integers(-9, 9)),
    "uint16": (pa.uint16(), st.integers(0, 9)),
    "float": (pa.float32(), st.sampled_from([0.5, -2.0])),
    "double": (pa.float64(), st.sampled_from([1.5, 3.25])),
}
TEXTS = {
    "null": (pa.null(), st.none()),
    "string": (pa.string(), st.text(max_size=3)),
    "large": (pa.large_string(), st.text(max_size=3)),
    "dict": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "b"])),
    "dict2": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["c", "b"])),
}


@st.composite
def typed(draw, depth=2, family=None):
    """A type, and cells of it; types of one family go together."""
    family = family or draw(st.sampled_from(["numbers", "texts"]))
    kind, cell = draw(st.sampled_from(list((NUMBERS if family == "numbers" else TEXTS).values())))
    shape = draw(st.sampled_from(["list", "large", "fixed"])) if depth else "flat"
    return kind, cell, shape


def nested(kind, cell, shape):
    if shape == "flat":
        return kind, cell
    if shape == "list":
        return pa.list_(kind), st.lists(st.none() | cell, max_size=3)
    if shape == "large":
        return pa.large_list(kind), st.lists(st.none() | cell, max_size=3)
    return pa.list_(kind, 2), st.lists(st.none() | cell, min_size=2, max_size=2)


@st.composite
def tables(draw):
    """Tables with a flat column, lists and structs, of types that go together; each is a slice of a longer one."""
    families = {name: draw(st.sampled_from(["numbers", "texts"])) for name in "abcd"}
    made = []
    for _ in range(draw(st.integers(1, 4))):
        columns = {}
        count = draw(st.integers(0, 4))
        for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True)):
            kinds = NUMBERS if families[name] == "numbers" else TEXTS
            kind, cell = draw(st.sampled_from(list(kinds.values())))
            if name == "b":
                kind, cell = nested(kind, cell, draw(st.sampled_from(["list", "large", "fixed"])))
            elif name in "cd":
                fields = draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True))
                cell = st.fixed_dictionaries({field: st.none() | cell for field in fields})
                kind = pa.struct([(field, kind) for field in fields])
                if name == "d":
                    kind, cell = pa.list_(kind), st.lists(st.none() | cell, max_size=2)
            cells = draw(st.lists(st.none() | cell, min_size=count + 2, max_size=count + 2))
            columns[name] = pa.array(cells, kind)
        start = draw(st.integers(0, 2))
        made.append(pa.table(columns).slice(start, count))
    return made


def same(one, two):
    """Whether a cell is the same, with fields that are not there as nulls."""
    if isinstance(two, dict):
        return one is not None and all(same((one or {}).get(name), two.get(name)) for name in {*one, *two})
    if isinstance(two, list):
        return one is not None and len(one) == len(two) and all(map(same, one, two))
    return one == two


@settings(max_examples=250, deadline=None)
@given(tables())
def test_values_stay_the_same_and_missing_ones_are_null(parts):
    whole = promote.concat(parts)
    whole.validate()
    expected = [row for part in parts for row in part.to_pylist()]
    assert whole.num_rows == len(expected)
    assert all(
        same(found.get(name), row.get(name))
        for found, row in zip(whole.to_pylist(), expected)
        for name in whole.column_names
    )
    backwards = promote.concat(parts[::-1])
    assert {field.name: sorted_type(field.type) for field in whole.schema} == {
        field.name: sorted_type(field.type) for field in backwards.schema if field.name in whole.column_names
    } or any(part.num_rows == 0 for part in parts)


def sorted_type(kind):
    """A type without the order of its fields."""
    if pa.types.is_struct(kind):
        return sorted((field.name, str(sorted_type(field.type))) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [str(kind).partition("<")[0], sorted_type(kind.value_type)]
    return kind


SHAPES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)) | st.tuples(st.integers(0, 4)) | st.none(), max_size=5
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(SHAPES, st.sampled_from(["i2", "f4", "f8"])), min_size=1, max_size=4), st.integers(0, 2))
def test_tensors_keep_their_numbers_and_get_dimensions_in_front(parts, start):
    cells, blocks = [], []
    for shapes, dtype in parts:
        made = [None if shape is None else np.arange(math.prod(shape), dtype=dtype).reshape(shape) for shape in shapes]
        blocks.append(pa.table({"t": build.column(made)}).slice(start))
        cells += made[start:]
    found = [row["t"] for row in rows(promote.concat(blocks))]
    assert len(found) == len(cells)
    for one, two in zip(found, cells):
        assert (one is None) == (two is None)
        if two is not None:
            assert one.reshape(-1).tolist() == two.reshape(-1).tolist()
            assert one.shape[-two.ndim :] == two.shape and set(one.shape[: -two.ndim]) <= {1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.string()),
        (pa.list_(pa.int64()), pa.int64()),
        (pa.struct([("x", pa.int8())]), pa.list_(pa.int8())),
        (pa.list_(pa.string()), pa.list_(pa.int8())),
        (pa.bool_(), pa.string()),
        (pa.fixed_shape_tensor(pa.int8(), (2,)), pa.int8()),
    ],
)
def test_types_that_do_not_go_together_are_refused_in_both_orders(one, other):
    for kinds in ((one, other), (other, one)):
        with pytest.raises(DataTypeError, match="column 'a'"):
            promote.unify([pa.schema([("a", kind)]) for kind in kinds])


def test_decimals_and_integers_have_a_decimal_that_holds_both():
    many = pa.decimal128(10, 2)
    for integer in (pa.int8(), pa.int64(), pa.uint64()):
        assert promote.common(many, integer) == promote.common(integer, many) == pa.decimal128(22, 2)
    assert promote.common(pa.decimal128(38, 30), pa.int64()) == pa.decimal256(50, 30)
    with pytest.raises(promote.Conflict):
        promote.common(pa.decimal256(76, 70), pa.int64())
    tables = [pa.table({"x": pa.array([2**63 - 1])}), pa.table({"x": pa.array([1], many)})]
    assert promote.concat(tables)["x"].to_pylist() == [2**63 - 1, 1]


def test_the_order_of_blocks_does_not_make_the_type_of_numbers():
    kinds = [pa.int8(), pa.uint16(), pa.decimal128(10, 2), pa.float32(), pa.float16(), pa.int64()]
    for some in permutations(kinds, 3):
        found = {reduce(promote.common, order) for order in permutations(some)}
        assert len(found) == 1, (some, found)


def test_an_index_without_a_value_below_a_null_struct_is_null():
    kinds = [pa.list_(pa.struct([("x", pa.dictionary(index, pa.string()))])) for index in (pa.int8(), pa.int32())]
    whole = promote.concat([pa.table({"d": pa.array([None, [None]], kind)}) for kind in kinds])
    assert whole["d"].to_pylist() == [None, [None]] * 2


def test_categories_of_many_blocks_may_be_more_than_small_indices_count():
    pd = pytest.importorskip("pandas")
    frames = [pd.DataFrame({"c": pd.Categorical([f"{block}-{n}" for n in range(100)])}) for block in range(4)]
    blocks = [build.table(frame, "f") for frame in frames]
    assert {block.schema.field("c").type.index_type for block in blocks} == {pa.int32()}
    texts = [pa.array(block["c"].to_pylist()).dictionary_encode() for block in blocks]
    small = [pa.DictionaryArray.from_arrays(text.indices.cast(pa.int8()), text.dictionary) for text in texts]
    narrow = [pa.table({"c": column}) for column in small]
    other = pa.table({"c": pa.array(["x"], pa.dictionary(pa.int16(), pa.string()))})
    values = [f"{block}-{n}" for block in range(4) for n in range(100)]
    for tables, more in ((blocks, []), (narrow, []), ([*narrow, other], ["x"])):
        found = compact(promote.concat(tables))
        assert found["c"].num_chunks == 1 and found["c"].to_pylist() == values + more
