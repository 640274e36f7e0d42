"""Preprocessors: what they learn and make, with nulls, of batches of each format, in chains and elsewhere."""
# needs: pyarrow, pandas, datasketches

import numpy as np
import pandas as pd
import pyarrow as pa

import hpc as ray
from hpc.data import preprocessors as pp
from hpc.data.preprocessor import Preprocessor, PreprocessorNotFittedException

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


frame = pd.DataFrame(
    {
        "x": [1.0, 2.0, 3.0, 4.0],
        "y": [10.0, None, 30.0, 40.0],
        "c": ["a", "b", "a", "c"],
        "l": [["p"], ["p", "q"], [], ["r"]],
    }
)
ds = ray.data.from_pandas(frame)


def rows(made):
    return [{k: (v.tolist() if hasattr(v, "tolist") else v) for k, v in row.items()} for row in made.take_all()]


def fitted(preprocessor, columns):
    return rows(preprocessor.fit_transform(ds.select_columns(columns)))


for name, make, columns in (
    ("StandardScaler", lambda: pp.StandardScaler(columns=["x"]), ["x"]),
    ("MinMaxScaler", lambda: pp.MinMaxScaler(columns=["x"]), ["x"]),
    ("MaxAbsScaler", lambda: pp.MaxAbsScaler(columns=["x"]), ["x"]),
    ("RobustScaler", lambda: pp.RobustScaler(columns=["x"]), ["x"]),
    ("Normalizer", lambda: pp.Normalizer(columns=["x", "y"]), ["x", "y"]),
    ("SimpleImputer", lambda: pp.SimpleImputer(columns=["y"], strategy="mean"), ["y"]),
    ("SimpleImputer, constant", lambda: pp.SimpleImputer(columns=["y"], strategy="constant", fill_value=0.0), ["y"]),
    ("SimpleImputer, most frequent", lambda: pp.SimpleImputer(columns=["c"], strategy="most_frequent"), ["c"]),
    ("OrdinalEncoder", lambda: pp.OrdinalEncoder(columns=["c"]), ["c"]),
    ("OneHotEncoder", lambda: pp.OneHotEncoder(columns=["c"]), ["c"]),
    ("OneHotEncoder, two", lambda: pp.OneHotEncoder(columns=["c"], max_categories={"c": 2}), ["c"]),
    ("MultiHotEncoder", lambda: pp.MultiHotEncoder(columns=["l"]), ["l"]),
    ("LabelEncoder", lambda: pp.LabelEncoder(label_column="c"), ["c", "x"]),
    ("Concatenator", lambda: pp.Concatenator(columns=["x", "y"], output_column_name="both"), ["x", "y"]),
    ("UniformKBinsDiscretizer", lambda: pp.UniformKBinsDiscretizer(columns=["x"], bins=2), ["x"]),
    ("CustomKBinsDiscretizer", lambda: pp.CustomKBinsDiscretizer(columns=["x"], bins=[0, 2, 5]), ["x"]),
    ("PowerTransformer", lambda: pp.PowerTransformer(columns=["x"], power=2), ["x"]),
    ("FeatureHasher", lambda: pp.FeatureHasher(columns=["x", "y"], num_features=4, output_column="h"), ["x", "y"]),
    ("Tokenizer", lambda: pp.Tokenizer(columns=["c"]), ["c"]),
    ("CountVectorizer", lambda: pp.CountVectorizer(columns=["c"]), ["c"]),
    ("HashingVectorizer", lambda: pp.HashingVectorizer(columns=["c"], num_features=4), ["c"]),
    ("Chain", lambda: pp.Chain(pp.StandardScaler(columns=["x"]), pp.MinMaxScaler(columns=["x"])), ["x"]),
):
    show(f"{name}:", lambda make=make, columns=columns: fitted(make(), columns))
    show(f"{name} is shown as:", lambda make=make: make())
scaler = pp.StandardScaler(columns=["x"])
show("not fitted:", lambda: scaler.transform(ds).take_all())
show("fit:", lambda: sorted(scaler.fit(ds).stats_.items()))
show("transform_batch:", lambda: scaler.transform_batch(frame)["x"].tolist())
show("fit_status:", lambda: scaler.fit_status().name)
show("a missing column:", lambda: pp.StandardScaler(columns=["zz"]).fit(ds))
show(
    "output_columns:",
    lambda: sorted(pp.StandardScaler(columns=["x"], output_columns=["z"]).fit_transform(ds).columns()),
)
show(
    "a value it has not seen:",
    lambda: rows(pp.OrdinalEncoder(columns=["c"]).fit(ds).transform(ray.data.from_items([{"c": "zz"}]))),
)

frame = pd.DataFrame(
    {
        "x": [1.0, 2.0, None, 4.0, 0.0],
        "y": [10.0, None, None, -40.0, 0.0],
        "i": [3, 1, 2, 5, 4],
        "c": ["a", None, "b", "a", "c"],
        "l": [["p"], ["p", "q"], [], ["r"], ["p", "p"]],
        "t": ["hello you", "Hello", "", "a b a", "you"],
    },
    index=[10, 11, 12, 13, 14],
)
ds = ray.data.from_pandas(frame.reset_index(drop=True))


def plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    return round(value, 6) if isinstance(value, float) else value


def rows(made):
    return [[plain(v) for v in row.values()] for row in made.take_all()]


def of_frame(make):
    made = make()
    if made.fit_status() is not Preprocessor.FitStatus.NOT_FITTABLE:
        made.fit(ds)
    found = made.transform_batch(frame.copy())
    return found.index.tolist(), [str(t) for t in found.dtypes], list(found.columns)


def schema_of(found):
    return [line.split(maxsplit=1)[1] for line in str(found.schema()).splitlines()[2:]]


MADE = {
    "StandardScaler": lambda: pp.StandardScaler(columns=["x", "y"]),
    "StandardScaler of ints": lambda: pp.StandardScaler(columns=["i"]),
    "StandardScaler beside": lambda: pp.StandardScaler(columns=["i"], output_columns=["z"]),
    "MinMaxScaler": lambda: pp.MinMaxScaler(columns=["x", "i"]),
    "MaxAbsScaler": lambda: pp.MaxAbsScaler(columns=["y", "i"]),
    "Normalizer l1": lambda: pp.Normalizer(columns=["x", "y"], norm="l1"),
    "Normalizer l2": lambda: pp.Normalizer(columns=["x", "y"]),
    "Normalizer max": lambda: pp.Normalizer(columns=["x", "y"], norm="max"),
    "Normalizer of ints": lambda: pp.Normalizer(columns=["i", "x"], output_columns=["j", "z"]),
    "PowerTransformer": lambda: pp.PowerTransformer(columns=["x", "y"], power=2),
    "PowerTransformer box-cox": lambda: pp.PowerTransformer(columns=["i"], power=0.5, method="box-cox"),
    "PowerTransformer of 0": lambda: pp.PowerTransformer(columns=["i"], power=0),
    "SimpleImputer mean": lambda: pp.SimpleImputer(columns=["x", "y"]),
    "SimpleImputer frequent": lambda: pp.SimpleImputer(columns=["c"], strategy="most_frequent"),
    "SimpleImputer constant": lambda: pp.SimpleImputer(columns=["c"], strategy="constant", fill_value="z"),
    "SimpleImputer beside": lambda: pp.SimpleImputer(columns=["x"], output_columns=["z"]),
    "OrdinalEncoder": lambda: pp.OrdinalEncoder(columns=["c"]),
    "OrdinalEncoder of ints": lambda: pp.OrdinalEncoder(columns=["i"]),
    "OrdinalEncoder of lists": lambda: pp.OrdinalEncoder(columns=["l"]),
    "OrdinalEncoder of whole lists": lambda: pp.OrdinalEncoder(columns=["l"], encode_lists=False),
    "OneHotEncoder": lambda: pp.OneHotEncoder(columns=["i"]),
    "OneHotEncoder, two": lambda: pp.OneHotEncoder(columns=["i"], max_categories={"i": 2}),
    "MultiHotEncoder": lambda: pp.MultiHotEncoder(columns=["l"]),
    "LabelEncoder": lambda: pp.LabelEncoder(label_column="i"),
    "Categorizer": lambda: pp.Categorizer(columns=["c"]),
    "Categorizer of given": lambda: pp.Categorizer(columns=["c"], dtypes={"c": pd.CategoricalDtype(["c", "a"])}),
    "Concatenator": lambda: pp.Concatenator(columns=["x", "i"]),
    "Concatenator of a type": lambda: pp.Concatenator(columns=["i"], dtype=np.float32, output_column_name="v"),
    "UniformKBins": lambda: pp.UniformKBinsDiscretizer(columns=["i"], bins=3),
    "UniformKBins, left": lambda: pp.UniformKBinsDiscretizer(columns=["i"], bins=2, right=False),
    "CustomKBins": lambda: pp.CustomKBinsDiscretizer(columns=["i"], bins=[0, 2, 4]),
    "CustomKBins, lowest": lambda: pp.CustomKBinsDiscretizer(columns=["i"], bins=[1, 2, 5], include_lowest=True),
    "CustomKBins of each": lambda: pp.CustomKBinsDiscretizer(columns=["i"], bins={"i": [0, 3, 6]}),
    "CustomKBins of intervals": lambda: pp.CustomKBinsDiscretizer(
        columns=["i"], bins=pd.IntervalIndex.from_tuples([(0, 2), (2, 4)])
    ),
    "CustomKBins with names": lambda: pp.CustomKBinsDiscretizer(
        columns=["i"], bins=[0, 3, 6], dtypes={"i": pd.CategoricalDtype(["low", "high"], ordered=True)}
    ),
    "CustomKBins of a type": lambda: pp.CustomKBinsDiscretizer(columns=["i"], bins=[0, 3, 6], dtypes={"i": "int8"}),
    "FeatureHasher": lambda: pp.FeatureHasher(columns=["i"], num_features=3, output_column="h"),
    "Tokenizer": lambda: pp.Tokenizer(columns=["t"]),
    "Tokenizer of characters": lambda: pp.Tokenizer(columns=["t"], tokenization_fn=list),
    "CountVectorizer": lambda: pp.CountVectorizer(columns=["t"]),
    "CountVectorizer, two": lambda: pp.CountVectorizer(columns=["t"], max_features=2),
    "HashingVectorizer": lambda: pp.HashingVectorizer(columns=["t"], num_features=3),
    "Chain": lambda: pp.Chain(pp.SimpleImputer(columns=["x"]), pp.StandardScaler(columns=["x"])),
}
for name, make in MADE.items():
    show(f"{name}:", lambda: rows(make().fit_transform(ds)))
    show(f"{name}, schema:", lambda: schema_of(make().fit_transform(ds)))
    show(f"{name}, of a frame:", lambda: of_frame(make))
    show(f"{name}, reads and writes:", lambda: (make().get_input_columns(), make().get_output_columns()))
    show(f"{name}, is shown as:", make)
    show(f"{name}, of an empty dataset:", lambda: rows(make().fit_transform(ds.filter(lambda r: False))))

chain = pp.Chain(pp.StandardScaler(columns=["i"]), pp.Concatenator(columns=["i"]))
show("status before:", lambda: chain.fit_status())
show("transform before:", lambda: chain.transform(ds))
show("transform_batch before:", lambda: chain.transform_batch(frame.copy()))
show("has_stats:", lambda: pp.StandardScaler(columns=["i"]).has_stats())
show("fit returns itself:", lambda: chain.fit(ds) is chain)
show("status after:", lambda: chain.fit_status())
show("a fit of what needs none:", lambda: pp.Concatenator(columns=["i"]).fit(ds).fit_status())
show("a class of errors:", lambda: issubclass(PreprocessorNotFittedException, RuntimeError))
scaler = pp.StandardScaler(columns=["i"]).fit(ds)
show("stats:", lambda: {k: round(v, 6) for k, v in scaler.stats_.items()})
show("through bytes:", lambda: rows(type(scaler).deserialize(scaler.serialize()).transform(ds.select_columns(["i"]))))


@ray.remote
def elsewhere(made, batch):
    return made.transform_batch(batch)["i"].round(6).tolist()


show("in a task:", lambda: ray.get(elsewhere.remote(scaler, frame.copy())))
for name, stats in {
    "OrdinalEncoder": lambda: pp.OrdinalEncoder(columns=["c"]),
    "OneHotEncoder": lambda: pp.OneHotEncoder(columns=["i"], max_categories={"i": 2}),
    "MultiHotEncoder": lambda: pp.MultiHotEncoder(columns=["l"]),
    "LabelEncoder": lambda: pp.LabelEncoder(label_column="i"),
    "SimpleImputer": lambda: pp.SimpleImputer(columns=["x"]),
    "MinMaxScaler": lambda: pp.MinMaxScaler(columns=["x"]),
    "UniformKBins": lambda: pp.UniformKBinsDiscretizer(columns=["i"], bins=2),
    "CountVectorizer": lambda: pp.CountVectorizer(columns=["t"]),
}.items():
    show(f"stats of {name}:", lambda: stats().fit(ds).stats_)
encoder = pp.LabelEncoder(label_column="i").fit(ds)
show("back:", lambda: rows(encoder.inverse_transform(encoder.transform(ds.select_columns(["i"])))))


class AddOne(Preprocessor):
    _is_fittable = False

    def _transform_pandas(self, df):
        return df.assign(i=df["i"] + 1)


class Shift(Preprocessor):
    def _fit(self, ds):
        self.stats_ = {"least": ds.min("i")}
        return self

    def _transform_numpy(self, batch):
        return {**batch, "i": batch["i"] - self.stats_["least"]}


show("of the user:", lambda: [r[0] for r in rows(AddOne().transform(ds.select_columns(["i"])))])
show("of the user, fitted:", lambda: [r[0] for r in rows(Shift().fit_transform(ds.select_columns(["i"])))])
show("of the user, not fitted:", lambda: Shift().transform(ds))
show("of a dict:", lambda: type(scaler.transform_batch({"i": np.array([1, 2])})).__name__)
show("of a table:", lambda: type(scaler.transform_batch(pa.table({"i": [1, 2]}))).__name__)
show("of the user, a frame:", lambda: AddOne().transform_batch(pd.DataFrame({"i": [1, 2]}, index=[5, 6])).to_dict())
show("of the user, a dict:", lambda: type(AddOne().transform_batch({"i": np.array([1, 2])})).__name__)
show(
    "of the user, in a chain:",
    lambda: [r[0] for r in rows(pp.Chain(AddOne(), Shift()).fit_transform(ds.select_columns(["i"])))],
)
for name, bad in {
    "norm": lambda: pp.Normalizer(columns=["x"], norm="l3"),
    "strategy": lambda: pp.SimpleImputer(columns=["x"], strategy="some"),
    "no fill_value": lambda: pp.SimpleImputer(columns=["x"], strategy="constant"),
    "method": lambda: pp.PowerTransformer(columns=["x"], power=1, method="some"),
    "bins of text": lambda: pp.UniformKBinsDiscretizer(columns=["x"], bins="3"),
    "output_columns": lambda: pp.StandardScaler(columns=["x"], output_columns=["a", "b"]),
    "a missing column": lambda: pp.Concatenator(columns=["zz"]).transform(ds).take_all(),
    "text": lambda: pp.StandardScaler(columns=["c"]).fit(ds),
    "nulls to encode": lambda: pp.LabelEncoder(label_column="c").fit(ds),
}.items():
    show(f"bad, {name}:", bad)
