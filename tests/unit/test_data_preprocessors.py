"""Preprocessors of hpc.data: what Ray Data 2.60 fits and gives for the same rows."""

from __future__ import annotations

from collections import Counter

import pytest

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
import numpy as np  # noqa: E402

from hpc.data import preprocessors as P  # noqa: E402
from hpc.data.block import batch, build  # noqa: E402
from hpc.data.shuffle.aggregate import Aggregated  # noqa: E402
from hpc.data.shuffle.local import run  # noqa: E402

NAN = float("nan")
STATUS = P.Preprocessor.FitStatus


class Rows:
    """A dataset within the process: what preprocessors ask of one."""

    def __init__(self, *blocks):
        self.blocks = blocks

    def aggregate(self, *fns):
        found = [row for table in run(Aggregated((), fns), [self.blocks]) for row in batch.rows(table)]
        return found[0] if found else None

    def map_batches(self, fn, batch_size=None, batch_format="default", **options):
        return Rows(*(build.table(fn(batch.to_batch(block, batch_format)), "fn") for block in self.blocks))

    def column(self, name):
        cells = [cell for block in self.blocks for cell in batch.cells_of(block.column(name))]
        return [cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in cells]


def rows(**columns):
    table = pa.table(columns)
    return Rows(table.slice(0, 3), table.slice(3))


DATA = rows(
    a=[1.0, -2.0, 3.0, 4.0, 0.5], b=[10, 20, 30, 40, 50], c=["x", "y", "x", "z", "x"], k=[1, 0, 0, 1, 1],
    t=["hello world", "a b a", "hello a", "zz", "b b b"],
)  # fmt: skip
HOLES = rows(a=[1.0, 2.0, 3.0, 4.0, None], c=["x", "y", "x", "z", "x"], l=[["p", "q"], ["p"], ["r"], [], ["q", "q"]])

# (preprocessor, rows, what Ray fits, output column, what Ray gives)
AS_RAY = [
    (
        P.StandardScaler(["a", "b"]), DATA,
        {"mean(a)": 1.3, "mean(b)": 30.0, "std(a)": 2.0880613017821097, "std(b)": 14.142135623730951}, "a",
        [-0.14367394278317275, -1.5804133706149, 0.8141523424379788, 1.2930654850485548, -0.38313051408846066],
    ),
    (
        P.StandardScaler(["a"], output_columns=["s"]), HOLES, {"mean(a)": 2.5, "std(a)": 1.118033988749895}, "s",
        [-1.3416407864998738, -0.4472135954999579, 0.4472135954999579, 1.3416407864998738, None],
    ),
    (
        P.MinMaxScaler(["a", "b"]), DATA, {"min(a)": -2.0, "min(b)": 10, "max(a)": 4.0, "max(b)": 50}, "a",
        [0.5, 0.0, 0.8333333333333334, 1.0, 0.4166666666666667],
    ),
    (P.MaxAbsScaler(["a", "b"]), DATA, {"abs_max(a)": 4.0, "abs_max(b)": 50}, "b", [0.2, 0.4, 0.6, 0.8, 1.0]),
    (P.OrdinalEncoder(["c"]), DATA, {"unique_values(c)": {"x": 0, "y": 1, "z": 2}}, "c", [0, 1, 0, 2, 0]),
    (
        P.OrdinalEncoder(["l"]), HOLES, {"unique_values(l)": {"p": 0, "q": 1, "r": 2}}, "l",
        [[0, 1], [0], [2], [], [1, 1]],
    ),
    (
        P.OrdinalEncoder(["l"], encode_lists=False), HOLES,
        {"unique_values(l)": {(): 0, ("p",): 1, ("p", "q"): 2, ("q", "q"): 3, ("r",): 4}}, "l", [2, 1, 4, 0, 3],
    ),
    (
        P.OneHotEncoder(["c"]), DATA, {"unique_values(c)": {"x": 0, "y": 1, "z": 2}}, "c",
        [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]],
    ),
    (
        P.OneHotEncoder(["c"], max_categories={"c": 2}), DATA, {"unique_values(c)": {"x": 0, "y": 1}}, "c",
        [[1, 0], [0, 1], [1, 0], [0, 0], [1, 0]],
    ),
    (
        P.MultiHotEncoder(["l"]), HOLES, {"unique_values(l)": {"p": 0, "q": 1, "r": 2}}, "l",
        [[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 2, 0]],
    ),
    (P.LabelEncoder("c"), DATA, {"unique_values(c)": {"x": 0, "y": 1, "z": 2}}, "c", [0, 1, 0, 2, 0]),
    (P.Categorizer(["c"]), DATA, {"c": pd.CategoricalDtype(["x", "y", "z"])}, "c", ["x", "y", "x", "z", "x"]),
    (P.SimpleImputer(["a"]), HOLES, {"mean(a)": 2.5}, "a", [1.0, 2.0, 3.0, 4.0, 2.5]),
    (P.SimpleImputer(["c"], strategy="most_frequent"), HOLES, {"most_frequent(c)": "x"}, "c", list("xyxzx")),
    (P.SimpleImputer(["a"], strategy="constant", fill_value=7.0), HOLES, None, "a", [1.0, 2.0, 3.0, 4.0, 7.0]),
    (
        P.UniformKBinsDiscretizer(["a", "b"], bins=3), DATA,
        {"a": np.array([-2.006, 0.0, 2.0, 4.0]), "b": np.array([9.96, 70 / 3, 110 / 3, 50.0])}, "a", [1, 0, 2, 2, 1],
    ),
    (
        P.UniformKBinsDiscretizer(["a", "b"], bins={"a": 2, "b": 4}, right=False), DATA,
        {"a": np.array([-2.0, 1.0, 4.006]), "b": np.array([10.0, 20.0, 30.0, 40.0, 50.04])}, "b", [0, 1, 2, 3, 3],
    ),
    (P.CustomKBinsDiscretizer(["a"], bins=[-3, 0, 2, 5]), DATA, None, "a", [1, 0, 2, 2, 1]),
    (
        P.Normalizer(["a", "b"]), DATA, None, "a",
        [0.09950371902099892, -0.09950371902099892, 0.09950371902099892, 0.09950371902099892, 0.009999500037496875],
    ),
    (P.Normalizer(["a", "b"], norm="max"), DATA, None, "a", [0.1, -0.1, 0.1, 0.1, 0.01]),
    (
        P.PowerTransformer(["a"], power=0.5), DATA, None, "a",
        [0.8284271247461903, -2.797434948471088, 2.0, 2.4721359549995796, 0.4494897427831779],
    ),
    (
        P.PowerTransformer(["b"], power=2, method="box-cox"), DATA, None, "b", [49.5, 199.5, 449.5, 799.5, 1249.5],
    ),
    (
        P.HashingVectorizer(["t"], num_features=4), DATA, None, "t",
        [[1, 0, 0, 1], [0, 1, 0, 2], [1, 0, 0, 1], [0, 1, 0, 0], [0, 3, 0, 0]],
    ),
    (
        P.CountVectorizer(["t"]), DATA,
        {"token_counts(t)": Counter({"b": 4, "a": 3, "hello": 2, "world": 1, "zz": 1})}, "t",
        [[0, 0, 1, 1, 0], [1, 2, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [3, 0, 0, 0, 0]],
    ),
    (
        P.CountVectorizer(["t"], max_features=2), DATA, {"token_counts(t)": Counter({"b": 4, "a": 3})}, "t",
        [[0, 0], [1, 2], [0, 1], [0, 0], [3, 0]],
    ),
    (
        P.Tokenizer(["t"]), DATA, None, "t",
        [["hello", "world"], ["a", "b", "a"], ["hello", "a"], ["zz"], ["b", "b", "b"]],
    ),
    (P.Tokenizer(["t"], tokenization_fn=lambda text: list(text[:2])), DATA, None, "t", [
        ["h", "e"], ["a", " "], ["h", "e"], ["z", "z"], ["b", " "]]),
]  # fmt: skip


@pytest.mark.parametrize(("made", "data", "stats", "column", "wanted"), AS_RAY, ids=lambda value: type(value).__name__)
def test_stats_and_outputs_are_those_of_ray(made, data, stats, column, wanted):
    found = made.fit_transform(data)
    assert repr(made.stats_) == repr(stats) or all(
        np.allclose(made.stats_[name], value) for name, value in stats.items()
    )
    values = found.column(column)
    assert values == wanted or values == pytest.approx(wanted)
    assert made.fit_status() is (STATUS.NOT_FITTABLE if stats is None else STATUS.FITTED)
    again = P.Preprocessor.deserialize(made.serialize())
    assert again.transform(data).column(column) == values


def test_a_batch_is_of_the_kind_that_was_given():
    scaler = P.StandardScaler(["a"]).fit(DATA)
    wanted = [-0.14367394278317275, 0.335239199827403]
    assert scaler.transform_batch({"a": np.array([1.0, 2.0])})["a"].tolist() == pytest.approx(wanted)
    assert scaler.transform_batch(pd.DataFrame({"a": [1.0, 2.0]}))["a"].tolist() == pytest.approx(wanted)
    assert scaler.transform_batch(pa.table({"a": [1.0, 2.0]}))["a"].to_pylist() == pytest.approx(wanted)


def test_vectors_of_columns():
    found = P.Concatenator(["a", "k"], output_column_name="f", dtype=np.float32).transform(DATA)
    assert found.blocks[0].column_names == ["b", "c", "t", "f"]
    assert found.column("f") == [[1.0, 1.0], [-2.0, 0.0], [3.0, 0.0], [4.0, 1.0], [0.5, 1.0]]
    both = P.Concatenator(["f", "b"], flatten=True).transform(found)
    assert both.column("concat_out")[1] == [-2.0, 0.0, 20.0]
    hashed = P.FeatureHasher(["a", "b", "k"], num_features=4, output_column="h").transform(DATA)
    assert [sum(row) for row in hashed.column("h")] == [12.0, 18.0, 33.0, 45.0, 51.5]


def test_a_column_of_one_value_becomes_zero():
    same = rows(q=[3.0, 3.0, 3.0, 3.0])
    for made in (P.StandardScaler(["q"]), P.MinMaxScaler(["q"])):
        assert made.fit_transform(same).column("q") == [0.0] * 4


def test_unknown_categories_are_null_or_zeros():
    new = pa.table({"c": ["new", "y"]})
    assert P.OrdinalEncoder(["c"]).fit(DATA).transform_batch(new)["c"].to_pylist() == [None, 1]
    assert batch.cells_of(P.OneHotEncoder(["c"]).fit(DATA).transform_batch(new)["c"])[0].tolist() == [0, 0, 0]


def test_labels_come_back():
    encoder = P.LabelEncoder("c").fit(DATA)
    assert encoder.inverse_transform(encoder.transform(DATA)).column("c") == DATA.column("c")


def test_a_chain_fits_each_to_what_those_before_it_give():
    chain = P.Chain(P.SimpleImputer(["a"]), P.MinMaxScaler(["a"]))
    assert chain.fit_status() is STATUS.NOT_FITTED
    assert chain.fit_transform(HOLES).column("a") == pytest.approx([0, 1 / 3, 2 / 3, 1.0, 0.5])
    assert chain.fit_status() is STATUS.FITTED
    assert repr(chain).startswith("Chain(SimpleImputer(columns=['a'], strategy='mean', fill_value=None,")
    assert P.Chain(P.Normalizer(["a"])).fit_status() is STATUS.NOT_FITTABLE


class Doubled(P.Preprocessor):
    _is_fittable = False

    def _transform_pandas(self, df):
        return df.assign(b=df["b"] * 2)


def test_a_class_of_ones_own_transforms_frames():
    assert Doubled().transform(DATA).column("b") == [20, 40, 60, 80, 100]
    assert Doubled().transform_batch({"b": np.array([1])})["b"].tolist() == [2]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: P.StandardScaler(["a"]).transform(DATA), P.PreprocessorNotFittedException, "call `fit` before `trans"),
        (
            lambda: P.StandardScaler(["a"]).transform_batch(pa.table({"a": [1]})),
            P.PreprocessorNotFittedException,
            "fit",
        ),
        (lambda: P.StandardScaler(["zz"]).fit(DATA), ValueError, "no column 'zz'"),
        (lambda: P.StandardScaler(["a", "b"], output_columns=["x"]), ValueError, "1 names for 2 columns"),
        (lambda: P.OrdinalEncoder(["a"]).fit(HOLES), ValueError, "null values cannot be fitted"),
        (lambda: P.SimpleImputer(["a"], strategy="zz"), ValueError, "'zz' is none of mean"),
        (lambda: P.SimpleImputer(["a"], strategy="constant"), ValueError, "fill_value"),
        (lambda: P.Normalizer(["a"], norm="zz"), ValueError, "'zz' is none of l1"),
        (lambda: P.PowerTransformer(["a"], power=1, method="zz"), ValueError, "'zz' is none of yeo"),
        (lambda: P.Concatenator(["zz"]).transform(DATA), ValueError, "no column 'zz'"),
        (lambda: P.UniformKBinsDiscretizer(["a"], bins={"b": 2}), ValueError, "no number for the columns"),
    ],
)
def test_wrong_uses_are_told(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


def test_a_robust_scaler_uses_quantiles():
    pytest.importorskip("datasketches")
    made = P.RobustScaler(["a"])
    assert made.fit_transform(DATA).column("a") == [0.0, -1.2, 0.8, 1.2, -0.2]
    assert made.stats_ == {"low_quantile(a)": 0.5, "median(a)": 1.0, "high_quantile(a)": 3.0}


def test_nulls_count_as_nothing_and_stay_null():
    found = P.Normalizer(["x", "y"]).transform(rows(x=[3.0, 2.0, None], y=[4.0, None, None]))
    assert found.column("x") == [0.6, 1.0, None] and found.column("y") == [0.8, None, None]
    assert P.PowerTransformer(["x"], power=1).transform(rows(x=[1.0, None])).column("x") == [1.0, None]


def test_bins_are_intervals_of_pandas():
    bins = pd.IntervalIndex.from_tuples([(0, 2), (2, 4)])
    given = rows(x=[1, 3, 9])
    assert P.CustomKBinsDiscretizer(["x"], bins=bins).transform(given).column("x") == [0, 1, None]
    named = pd.CategoricalDtype(["low", "high"])
    found = P.CustomKBinsDiscretizer(["x"], bins=bins, dtypes={"x": named}).transform(given)
    assert found.column("x") == ["low", "high", None]


def test_a_frame_keeps_its_index_and_the_types_of_columns_that_are_not_written():
    frame = pd.DataFrame({"a": [1, 3], "b": ["x", None], "c": pd.array([1, None], "Int64")}, index=[7, 8])
    found = P.StandardScaler(["a"]).fit(rows(a=[1, 3])).transform_batch(frame)
    assert found["a"].to_dict() == {7: -1.0, 8: 1.0} and found.index.equals(frame.index)
    assert found["a"].dtype == np.float64 and found["b"].dtype == frame["b"].dtype and found["c"].dtype == "Int64"


def test_a_chain_tells_what_it_reads_and_writes():
    chain = P.Chain(P.StandardScaler(["a"], output_columns=["z"]), P.Concatenator(["z", "b"], "v"))
    assert chain.get_input_columns() == ["a", "b"] and chain.get_output_columns() == ["z", "v"]


def test_types_that_are_given_need_no_run():
    made = P.Categorizer(["a"], dtypes={"a": pd.CategoricalDtype(["y", "x"])})
    assert made.fit_transform(rows(a=["x", "zz"])).column("a") == ["x", None]
