"""Blocks and orders: repartition, split, sorts, shuffles, joins."""
# needs: pyarrow, pandas

import hpc as ray

ray.init(num_cpus=4)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.range(10, override_num_blocks=3)


def rows(found):
    return [[r["id"] for r in one.take_all()] for one in found]


def blocks(found):
    return [b.num_rows for b in ray.get(found.to_arrow_refs())]


show("blocks:", lambda: ds.materialize().num_blocks())
show("repartition:", lambda: blocks(ds.repartition(5)))
show("repartition to fewer:", lambda: blocks(ds.repartition(2)))
show("repartition, shuffle:", lambda: sorted(r["id"] for r in ds.repartition(4, shuffle=True).take_all()))
show("repartition to more than rows:", lambda: sum(blocks(ds.repartition(12))))
show("rows each:", lambda: blocks(ds.repartition(target_num_rows_per_block=4)))
show("both:", lambda: blocks(ds.repartition(2, target_num_rows_per_block=4)))
show("neither:", lambda: blocks(ds.repartition()))
show("repartition to 0:", lambda: blocks(ds.repartition(0)))
show("by keys:", lambda: sum(blocks(ds.map(lambda r: {"id": r["id"], "k": r["id"] % 2}).repartition(2, keys=["k"]))))
show("split:", lambda: sorted(sum(rows(ds.split(2)), [])))
show("split, equal:", lambda: [len(r) for r in rows(ds.split(3, equal=True))])
show("split into 0:", lambda: ds.split(0))
show("split into more than blocks:", lambda: len(ds.split(5)))
show("at indices:", lambda: rows(ds.split_at_indices([2, 5])))
show("at 0 and the end:", lambda: rows(ds.split_at_indices([0, 10])))
show("beyond:", lambda: rows(ds.split_at_indices([4, 20])))
show("unsorted:", lambda: rows(ds.split_at_indices([5, 2])))
show("none:", lambda: rows(ds.split_at_indices([])))
show("negative:", lambda: rows(ds.split_at_indices([-1])))
show("proportions:", lambda: rows(ds.split_proportionately([0.2, 0.5])))
show("proportions of 1:", lambda: rows(ds.split_proportionately([0.5, 0.5])))
show("no proportions:", lambda: rows(ds.split_proportionately([])))
show("train_test:", lambda: rows(ds.train_test_split(0.3)))
show("by a count:", lambda: rows(ds.train_test_split(4)))
show("shuffled:", lambda: [len(r) for r in rows(ds.train_test_split(0.3, shuffle=True, seed=1))])
show("too much:", lambda: ds.train_test_split(1.5))
show("too many:", lambda: ds.train_test_split(11))
labelled = ds.map(lambda r: {"id": r["id"], "y": r["id"] % 2})
show(
    "stratified:",
    lambda: [sorted(r["y"] for r in one.take_all()) for one in labelled.train_test_split(0.4, stratify="y")],
)
parts = ds.streaming_split(2, equal=True)
show("streaming_split:", lambda: (len(parts), type(parts[0]).__mro__[1].__name__))


@ray.remote(num_cpus=0)
def consume(part, epochs):
    return [sum(len(b["id"]) for b in part.iter_batches(batch_size=3)) for _ in range(epochs)]


show("its ranks:", lambda: ray.get([consume.remote(part, 2) for part in parts]))
uneven = ds.streaming_split(3)
show(
    "all rows go somewhere:", lambda: sum(sum(found) for found in ray.get([consume.remote(part, 1) for part in uneven]))
)
show("streaming_split into 0:", lambda: ds.streaming_split(0))

ds = ray.data.from_items([{"k": (i * 7) % 5, "s": "edcba"[i % 5], "v": i} for i in range(12)], override_num_blocks=4)
show("by one:", lambda: [r["k"] for r in ds.sort("k").take_all()])
show("descending:", lambda: [r["k"] for r in ds.sort("k", descending=True).take_all()])
show("by two:", lambda: [(r["k"], r["v"]) for r in ds.sort(["k", "v"]).take_all()])
show(
    "by two, each its way:",
    lambda: [(r["k"], r["v"]) for r in ds.sort(["k", "v"], descending=[True, False]).take_all()],
)
show("by text:", lambda: [r["s"] for r in ds.sort("s").take_all()])
show("directions that do not fit:", lambda: ds.sort(["k", "v"], descending=[True]).take_all())
show("by a missing one:", lambda: ds.sort("zz").take_all())
show("by none:", lambda: ds.sort([]).take_all())
show("by None:", lambda: ds.sort(None).take_all())
show("boundaries:", lambda: [r["v"] for r in ds.sort("v", boundaries=[4, 8]).take_all()])
show("blocks of boundaries:", lambda: ds.sort("v", boundaries=[4, 8]).materialize().num_blocks())
nulls = ray.data.from_items([{"x": 3.0}, {"x": None}, {"x": 1.0}, {"x": 2.0}, {"x": None}])
show("nulls:", lambda: [r["x"] for r in nulls.sort("x").take_all()])
show("nulls, descending:", lambda: [r["x"] for r in nulls.sort("x", descending=True).take_all()])
show("empty:", lambda: ds.filter(lambda r: False).sort("k").take_all())
show("count after:", lambda: ds.sort("k").count())
show("sort, then map:", lambda: ds.sort("v").map(lambda r: {"w": r["v"] + 1}).take(3))
show("sort, then limit:", lambda: ds.sort("v", descending=True).limit(2).take_all())
show("shuffled, sorted:", lambda: [r["v"] for r in ds.random_shuffle(seed=3).sort("v").take_all()])
show("shuffled has all:", lambda: sorted(r["v"] for r in ds.random_shuffle().take_all()))
show("the same seed:", lambda: ds.random_shuffle(seed=3).take_all() == ds.random_shuffle(seed=3).take_all())
show(
    "another order:",
    lambda: (
        [r["v"] for r in ray.data.range(100).map(lambda r: {"v": r["id"]}).random_shuffle(seed=1).take_all()]
        != list(range(100))
    ),
)
show("block order:", lambda: sorted(r["v"] for r in ds.randomize_block_order(seed=1).take_all()))
show("sample of all:", lambda: ds.random_sample(1.0).count())
show("sample of none:", lambda: ds.random_sample(0.0).count())
show("sample of 2:", lambda: ds.random_sample(2.0).count())
show(
    "sample with a seed:", lambda: ds.random_sample(0.5, seed=1).take_all() == ds.random_sample(0.5, seed=1).take_all()
)

left = ray.data.from_items([{"id": i, "l": f"l{i}"} for i in range(5)] + [{"id": 3, "l": "again"}])
right = ray.data.from_items([{"id": i, "r": i * 10} for i in range(3, 8)])


def ordered(found):
    return sorted(found.take_all(), key=lambda r: str(sorted(r.items(), key=str)))


for kind in ("inner", "left_outer", "right_outer", "full_outer", "left_semi", "right_semi", "left_anti", "right_anti"):
    show(f"{kind}:", lambda kind=kind: ordered(left.join(right, kind, 2)))
    show(f"{kind} has columns:", lambda kind=kind: left.join(right, kind, 2).schema().names)
show("on:", lambda: ordered(left.join(right, "inner", 2, on=("id",))))
other = right.rename_columns({"id": "key"})
show("right_on:", lambda: ordered(left.join(other, "inner", 2, on=("id",), right_on=("key",))))
both = right.rename_columns({"r": "l"})
show("names in both:", lambda: ordered(left.join(both, "inner", 2)))
show("suffixes:", lambda: ordered(left.join(both, "inner", 2, left_suffix="_a", right_suffix="_b")))
show("another type:", lambda: ordered(left.join(right, "cross", 2)))
show("a missing key:", lambda: ordered(left.join(right, "inner", 2, on=("zz",))))
two = ray.data.from_items([{"a": i % 2, "b": i % 3, "x": i} for i in range(6)])
show("two keys:", lambda: ordered(two.join(two.rename_columns({"x": "y"}), "inner", 2, on=("a", "b"))))
