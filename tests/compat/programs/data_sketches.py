"""Sketches: approximate quantiles and the most frequent values, and the summaries and scalers that are made of them."""
# needs: pyarrow, pandas, datasketches

import hpc as ray
from hpc.data.aggregate import ApproximateQuantile, ApproximateTopK, Count, Mean
from hpc.data.preprocessors import RobustScaler

ray.init(num_cpus=4)
ctx = ray.data.DataContext.get_current()
ctx.execution_options.preserve_order = True
ctx.enable_progress_bars = False


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


words = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"]
rows = [
    {
        "g": i % 2,
        "x": float(i),
        "n": None if i % 5 == 0 else i,
        "w": words[i],
        "l": ["p", "q"] if i % 3 else ["p"],
        "b": i % 3 == 0,
    }
    for i in range(11)
]
ds = ray.data.from_items(rows, override_num_blocks=3)
many = ray.data.range(2000, override_num_blocks=4)


def grouped(found):
    return sorted(found.take_all(), key=lambda row: str(row["g"]))


show("quantiles:", lambda: ds.aggregate(ApproximateQuantile("x", [0.1, 0.5, 0.9])))
show("the ends:", lambda: ds.aggregate(ApproximateQuantile("x", [0.0, 1.0])))
show("of a column with nulls:", lambda: ds.aggregate(ApproximateQuantile("n", [0.5])))
show("a name of its own:", lambda: ds.aggregate(ApproximateQuantile("x", [0.5], alias_name="median")))
show("none asked for:", lambda: ds.aggregate(ApproximateQuantile("x", [])))
show("a tuple:", lambda: ds.aggregate(ApproximateQuantile("x", (0.25, 0.75))))
show("of groups:", lambda: grouped(ds.groupby("g").aggregate(ApproximateQuantile("x", [0.5]))))
show("beside others:", lambda: grouped(ds.groupby("g").aggregate(ApproximateQuantile("x", [0.5]), Mean("x"), Count())))
show("name:", lambda: (ApproximateQuantile("x", [0.5]).name, ApproximateTopK("w", 2).name))
show("names of a result:", lambda: ds.aggregate(ApproximateQuantile("x", [0.5]), ApproximateTopK("w", 1)))
show(
    "many rows, within a percent:",
    lambda: all(
        abs(found - wanted) < 20
        for found, wanted in zip(
            many.aggregate(ApproximateQuantile("id", [0.1, 0.5, 0.9]))["approx_quantile(id)"], (200, 1000, 1800)
        )
    ),
)
show(
    "less precise, within ten:",
    lambda: (
        abs(many.aggregate(ApproximateQuantile("id", [0.5], quantile_precision=50))["approx_quantile(id)"][0] - 1000)
        < 200
    ),
)
show("types:", lambda: [type(v).__name__ for v in ds.aggregate(ApproximateQuantile("x", [0.5]))["approx_quantile(x)"]])
show("of integers:", lambda: ds.aggregate(ApproximateQuantile("g", [0.5])))
show("of flags:", lambda: ds.aggregate(ApproximateQuantile("b", [0.5])))
show("of texts:", lambda: ds.aggregate(ApproximateQuantile("w", [0.5])))
show("above 1:", lambda: ds.aggregate(ApproximateQuantile("x", [1.5])))
show("a missing column:", lambda: ds.aggregate(ApproximateQuantile("zz", [0.5])))
show("a precision of 1:", lambda: ds.aggregate(ApproximateQuantile("x", [0.5], quantile_precision=1)))
show("no rows:", lambda: ds.filter(lambda r: False).aggregate(ApproximateQuantile("x", [0.5])))
show(
    "nulls alone:",
    lambda: ray.data.from_items([{"x": None}, {"x": None}]).aggregate(ApproximateQuantile("x", [0.5])),
)

show("top 2:", lambda: ds.aggregate(ApproximateTopK("w", 2)))
show("top of all:", lambda: ds.aggregate(ApproximateTopK("w", 10)))
show("top 0:", lambda: ds.aggregate(ApproximateTopK("w", 0)))
show("top, a name:", lambda: ds.aggregate(ApproximateTopK("w", 1, alias_name="often")))
show("top of numbers:", lambda: ds.aggregate(ApproximateTopK("g", 2)))
show("top of floats:", lambda: len(ds.aggregate(ApproximateTopK("x", 20))["approx_topk(x)"]))
show("top of flags:", lambda: ds.aggregate(ApproximateTopK("b", 2)))
show("top of lists:", lambda: ds.aggregate(ApproximateTopK("l", 2)))
show("top of items:", lambda: ds.aggregate(ApproximateTopK("l", 2, encode_lists=True)))
show("top with nulls:", lambda: len(ds.aggregate(ApproximateTopK("n", 20))["approx_topk(n)"]))
show("top of groups:", lambda: grouped(ds.groupby("g").aggregate(ApproximateTopK("w", 1))))
show("top, little room:", lambda: ds.aggregate(ApproximateTopK("w", 1, log_capacity=3)))
show("top, no room:", lambda: ds.aggregate(ApproximateTopK("w", 1, log_capacity=0)))
show("top, a missing column:", lambda: ds.aggregate(ApproximateTopK("zz", 1)))
show("top, no rows:", lambda: ds.filter(lambda r: False).aggregate(ApproximateTopK("w", 1)))
show(
    "types of a top:",
    lambda: [type(v).__name__ for v in ds.aggregate(ApproximateTopK("g", 1))["approx_topk(g)"][0].values()],
)

summary = ds.select_columns(["g", "x"]).summary()
frame = summary.to_pandas()
show("summary, columns:", lambda: list(frame.columns))
show("summary, statistics:", lambda: sorted(frame["statistic"]))
for column in ("g", "x"):
    show(f"summary of {column}:", lambda column=column: sorted(summary.get_column_stats(column)["statistic"]))
show("summary, of some:", lambda: list(ds.summary(columns=["x"]).to_pandas().columns))
show("summary, a missing column:", lambda: ds.summary(columns=["zz"]))
show("summary, another:", lambda: summary.get_column_stats("zz"))


def value(column, statistic):
    found = summary.get_column_stats(column)
    return found[found["statistic"] == statistic]["value"].iloc[0]


for statistic in ("count", "mean", "min", "max", "std", "missing_pct", "zero_pct", "approx_quantile[0]"):
    show(f"x, {statistic}:", lambda statistic=statistic: round(float(value("x", statistic)), 4))

scaler = RobustScaler(columns=["x"])
show("scaler, first fit:", lambda: scaler.fit(ds) is scaler)
show("scaler, statistics:", lambda: {name: float(found) for name, found in sorted(scaler.stats_.items())})
show("scaler, scaled:", lambda: [round(float(row["x"]), 4) for row in scaler.transform(ds).take(3)])
show(
    "scaler, another range:",
    lambda: [
        round(float(row["x"]), 4)
        for row in RobustScaler(columns=["x"], quantile_range=(0.1, 0.9)).fit_transform(ds).take(3)
    ],
)
show(
    "scaler, its own column:",
    lambda: sorted(RobustScaler(columns=["x"], output_columns=["y"]).fit_transform(ds).columns()),
)
show("scaler, shown:", lambda: repr(scaler))
show("scaler of texts:", lambda: RobustScaler(columns=["w"]).fit(ds) is not None)
show("scaler of a missing column:", lambda: RobustScaler(columns=["zz"]).fit(ds) is not None)
