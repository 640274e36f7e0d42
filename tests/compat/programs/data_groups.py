"""Groups, aggregates and expressions, with nulls among the values."""
# needs: pyarrow, pandas

import datetime

import hpc as ray
from hpc.data.aggregate import (
    AbsMax,
    AggregateFn,
    AggregateFnV2,
    AsList,
    Count,
    CountDistinct,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Quantile,
    Std,
    Sum,
    Unique,
    ZeroPercentage,
)
from hpc.data.expressions import col

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


rows = [{"g": i % 3, "h": "xy"[i % 2], "v": float(i), "n": None if i % 4 == 0 else i} for i in range(12)]
ds = ray.data.from_items(rows, override_num_blocks=3)


def ordered(found, *keys):
    return sorted(found.take_all(), key=lambda r: tuple(str(r[k]) for k in keys))


for name in ("sum", "min", "max", "mean", "std"):
    show(f"{name}:", lambda name=name: ordered(getattr(ds.groupby("g"), name)("v"), "g"))
show("count:", lambda: ordered(ds.groupby("g").count(), "g"))
show("sum of two:", lambda: ordered(ds.groupby("g").sum(["v", "n"]), "g"))
show("sum of all:", lambda: ordered(ds.select_columns(["g", "v"]).groupby("g").sum(), "g"))
show("two keys:", lambda: ordered(ds.groupby(["g", "h"]).max("v"), "g", "h"))
show("by text:", lambda: ordered(ds.groupby("h").min("v"), "h"))
show("with nulls:", lambda: ordered(ds.groupby("g").mean("n"), "g"))
show("nulls that count:", lambda: ordered(ds.groupby("g").sum("n", ignore_nulls=False), "g"))
show("std, ddof 0:", lambda: ordered(ds.groupby("g").std("v", ddof=0), "g"))
show(
    "aggregate:",
    lambda: ordered(ds.groupby("g").aggregate(Sum("v"), Mean("v", alias_name="m"), Count(), Count("n")), "g"),
)
show(
    "others:",
    lambda: ordered(
        ds.groupby("g").aggregate(AbsMax("v"), Quantile("v"), Quantile("v", q=0.25, alias_name="q1"), Std("v")), "g"
    ),
)
show(
    "distinct:",
    lambda: ordered(
        ds.groupby("g").aggregate(CountDistinct("h"), MissingValuePercentage("n"), ZeroPercentage("v")), "g"
    ),
)
show(
    "lists:",
    lambda: [
        {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in r.items()}
        for r in ordered(ds.groupby("g").aggregate(AsList("v"), Unique("h")), "g")
    ],
)
show("of all rows:", lambda: ds.aggregate(Sum("v"), Min("v"), Max("v"), Mean("v"), Count()))
show("sum of the dataset:", lambda: (ds.sum("v"), ds.min("v"), ds.max("v"), ds.mean("v"), round(ds.std("v"), 6)))
show("of two columns:", lambda: ds.sum(["v", "n"]))
show("without a column:", lambda: ray.data.range(4).sum())
show("unique:", lambda: sorted(ds.unique("h")))
show("unique with nulls:", lambda: sorted(map(str, ds.unique("n"))))
show("empty:", lambda: ds.filter(lambda r: False).sum("v"))
show("empty groups:", lambda: ds.filter(lambda r: False).groupby("g").count().take_all())
show("a missing key:", lambda: ds.groupby("zz").count().take_all())
show("a missing column:", lambda: ds.groupby("g").sum("zz").take_all())
show("text summed:", lambda: ds.groupby("g").sum("h").take_all())
show("map_groups:", lambda: ordered(ds.groupby("g").map_groups(lambda b: {"g": b["g"][:1], "n": [len(b["v"])]}), "g"))
show(
    "map_groups, pandas:",
    lambda: ordered(ds.groupby("g").map_groups(lambda df: df.nlargest(1, "v")[["g", "v"]], batch_format="pandas"), "g"),
)
show(
    "map_groups, two keys:",
    lambda: ordered(
        ds.groupby(["g", "h"]).map_groups(lambda b: {"k": [f"{b['g'][0]}{b['h'][0]}"], "s": [b["v"].sum()]}), "k"
    ),
)
show("schema:", lambda: ds.groupby("g").aggregate(Sum("v"), Count()).schema().names)


class Product(AggregateFnV2):
    def __init__(self, on):
        super().__init__(name=f"product({on})", zero_factory=lambda: 1, on=on, ignore_nulls=True)

    def aggregate_block(self, block):
        out = 1
        for value in (
            block.column(self._target_col_name).to_pylist()
            if hasattr(block, "column")
            else block[self._target_col_name]
        ):
            out *= value + 1
        return out

    def combine(self, current, new):
        return current * new

    def finalize(self, found):
        return found


show("of the user:", lambda: ordered(ds.groupby("g").aggregate(Product("v")), "g"))
show(
    "of the user, old:",
    lambda: ordered(
        ds.groupby("g").aggregate(
            AggregateFn(
                init=lambda k: 0, accumulate_row=lambda a, r: a + r["v"], merge=lambda a, b: a + b, name="total"
            )
        ),
        "g",
    ),
)

rows = [
    {
        "i": 7,
        "f": 2.5,
        "s": "Hello",
        "l": [3, 1, 2],
        "n": 1,
        "t": datetime.datetime(2024, 5, 6, 7, 8, 9),
        "st": {"x": 1},
    },
    {"i": -3, "f": -0.5, "s": "wörld x", "l": [], "n": None, "t": datetime.datetime(2023, 1, 1), "st": {"x": 2}},
]
ds = ray.data.from_items(rows)


def values(expr):
    return [r["out"] for r in ds.with_column("out", expr).take_all()]


for name, make in {
    "add": lambda: col("i") + col("f"),
    "sub": lambda: 1 - col("i"),
    "mul": lambda: col("i") * 2,
    "div": lambda: col("i") / 2,
    "floordiv": lambda: col("i") // 2,
    "mod": lambda: col("i") % 4,
    "pow": lambda: col("i").power(2),
    "neg": lambda: -col("i"),
    "eq": lambda: col("i") == 7,
    "ne": lambda: col("i") != 7,
    "lt": lambda: col("f") < 0,
    "and": lambda: (col("i") > 0) & (col("f") > 0),
    "or": lambda: (col("i") > 0) | (col("f") > 0),
    "not": lambda: ~(col("i") > 0),
    "is_null": lambda: col("n").is_null(),
    "is_not_null": lambda: col("n").is_not_null(),
    "is_in": lambda: col("i").is_in([7, 8]),
    "not_in": lambda: col("i").not_in([7, 8]),
    "null plus": lambda: col("n") + 1,
    "null eq": lambda: col("n") == 1,
    "abs": lambda: col("i").abs(),
    "ceil": lambda: col("f").ceil(),
    "floor": lambda: col("f").floor(),
    "round": lambda: col("f").round(),
    "trunc": lambda: col("f").trunc(),
    "sign": lambda: col("i").sign(),
    "exp": lambda: (col("i") * 0).exp(),
    "ln": lambda: (col("i") * col("i")).ln().round(),
    "sin": lambda: (col("i") * 0).sin(),
    "cos": lambda: (col("i") * 0).cos(),
    "log2": lambda: (col("i") * 0 + 8).log2(),
    "log10": lambda: (col("i") * 0 + 100).log10(),
    "upper": lambda: col("s").str.upper(),
    "lower": lambda: col("s").str.lower(),
    "len": lambda: col("s").str.len(),
    "reverse": lambda: col("s").str.reverse(),
    "starts": lambda: col("s").str.starts_with("He"),
    "ends": lambda: col("s").str.ends_with("x"),
    "contains": lambda: col("s").str.contains("or"),
    "replace": lambda: col("s").str.replace("l", "L"),
    "strip": lambda: col("s").str.strip(),
    "capitalize": lambda: col("s").str.capitalize(),
    "slice": lambda: col("s").str.slice(1, 3),
    "pad": lambda: col("s").str.pad(8),
    "is_alpha": lambda: col("s").str.is_alpha(),
    "list len": lambda: col("l").list.len(),
    "list sort": lambda: col("l").list.sort(),
    "list get": lambda: col("l").list.get(0),
    "list slice": lambda: col("l").list.slice(0, 1),
    "struct": lambda: col("st").struct.field("x"),
    "struct []": lambda: col("st").struct["x"],
    "year": lambda: col("t").dt.year(),
    "month": lambda: col("t").dt.month(),
    "day": lambda: col("t").dt.day(),
    "hour": lambda: col("t").dt.hour(),
    "minute": lambda: col("t").dt.minute(),
    "second": lambda: col("t").dt.second(),
    "strftime": lambda: col("t").dt.strftime("%Y-%m"),
}.items():
    show(name + ":", lambda make=make: values(make()))
show("cast:", lambda: [ds.with_column("out", col("i").cast(t)).schema().types[-1] for t in ()])
show("repr:", lambda: str(col("a") + 1))
show("repr of more:", lambda: repr((col("a") > 1) & col("b").is_null()))
show("alias:", lambda: (col("a") + 1).alias("x").name)
show("truth of an expression:", lambda: bool(col("a") == 1))
show("equals:", lambda: (col("a") + 1).structurally_equals(col("a") + 1))
show("differs:", lambda: (col("a") + 1).structurally_equals(col("a") + 2))
show("a wrong type:", lambda: values(col("s") + 1))
show("a namespace of a wrong type:", lambda: values(col("i").str.upper()))
