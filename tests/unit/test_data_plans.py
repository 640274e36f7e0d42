"""What the methods of a dataset say before anything runs: plans, texts, numbers of rows, errors of arguments."""

from __future__ import annotations

import builtins
import pickle

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from hpc.data import (
    ActorPoolStrategy,
    DataContext,
    Dataset,
    RandomSeedConfig,
    TaskPoolStrategy,
    facts,
    planned,
    range,
    read_parquet,
    read_text,
)
from hpc.data import dataset as datasets
from hpc.data.expressions import col
from hpc.data.plan import nodes
from hpc.data.plan.physical import physical

TABLE = """\
shape: (10, 1)
╭───────╮
│ id    │
│ ---   │
│ int64 │
╰───────╯
(Dataset isn't materialized)"""


class Model:
    def __init__(self, size=1):
        self.size = size

    def __call__(self, batch):
        return batch


def twice(row):
    return {"id": row["id"] * 2}


def held(*tables):
    """A dataset whose blocks are these tables, without a session."""
    handles = [nodes.BlockHandle(table, datasets.running.meta_of(table)) for table in tables]
    return datasets.from_handles(handles)


def test_a_dataset_is_shown_as_its_columns_or_as_its_steps():
    ten = range(10)
    assert repr(ten) == str(ten) == repr(ten.randomize_block_order()) == TABLE
    assert repr(ten.limit(3)) == TABLE.replace("10", "3")
    assert repr(ten.union(ten).limit(30)).startswith("shape: (20, 1)")
    mapped = ten.map(twice)
    assert repr(mapped) == "Map(twice)\n+- Dataset(num_rows=10, schema={id: int64})"
    assert repr(mapped.map_batches(Model).limit(3)) == (
        "limit=3\n+- MapBatches(Model)\n   +- Map(twice)\n      +- Dataset(num_rows=10, schema={id: int64})"
    )
    assert repr(mapped.union(ten)) == "Union\n+- Map(twice)\n   +- Dataset(num_rows=10, schema={id: int64})"
    ten.set_name("numbers")
    assert repr(ten) == f"name: numbers\n{TABLE}" and ten.name == "numbers"


def test_a_materialized_dataset_shows_its_rows(monkeypatch):
    monkeypatch.setattr(datasets.running, "get", lambda handle: handle.ref)
    few = held(pa.table({"a": [1, 2], "b": ["x", None]}), pa.table({"a": [3], "b": ["y" * 60]}))
    assert repr(few).splitlines()[-6:] == [
        "╞═══════╪══════════════════════════════════════════╡",
        "│ 1     ┆ x                                        │",
        "│ 2     ┆ None                                     │",
        "│ 3     ┆ yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy… │",
        "╰───────┴──────────────────────────────────────────╯",
        "(Showing 3 of 3 rows)",
    ]
    many = repr(held(pa.table({"id": [0, 1, 2, 3, 4, 5]}), *(pa.table({"id": [n]}) for n in (6, 7, 8, 9, 10))))
    cells = [line.strip("│ ") for line in many.splitlines() if line.startswith("│")]
    assert cells[3:] == ["0", "1", "2", "3", "4", "…", "6", "7", "8", "9", "10"]
    assert many.endswith("(Showing 10 of 11 rows)")
    assert repr(datasets.from_handles([])) == "MaterializedDataset(num_rows=0, schema=Unknown schema)"


def test_columns_and_rows_are_known_without_a_run_where_the_plan_tells_them():
    ten = range(10)
    assert (ten.count(), ten.limit(3).count(), ten.union(ten, ten).count(), ten.limit(0).count()) == (10, 3, 30, 0)
    assert ten.schema().names == ["id"] and ten.columns() == ["id"] and ten.input_files() == []
    assert ten.map(twice).schema(fetch_if_missing=False) is None
    assert ten.map(twice).columns(fetch_if_missing=False) is None
    assert facts.schema_of(ten.zip(ten, ten).plan).names == ["id", "id_1", "id_2"]
    assert facts.rows_of(ten.map(twice).plan) is None


def test_a_dataset_is_neither_a_list_nor_of_a_length():
    with pytest.raises(TypeError, match="iter_rows"):
        iter(range(3))
    with pytest.raises(AttributeError, match="count"):
        len(range(3))
    assert range(3)
    with pytest.raises(NotImplementedError, match="materialize"):
        range(3).num_blocks()


@pytest.mark.parametrize(
    ("error", "made"),
    [
        (TypeError, lambda ds: ds.map(3)),
        (ValueError, lambda ds: ds.map(twice, fn_constructor_args=[1])),
        (ValueError, lambda ds: ds.map(object)),
        (ValueError, lambda ds: ds.map(Model, compute=TaskPoolStrategy())),
        (ValueError, lambda ds: ds.map(twice, compute=ActorPoolStrategy())),
        (ValueError, lambda ds: ds.map(twice, num_cpus=-1)),
        (ValueError, lambda ds: ds.map_batches(twice, batch_size=0)),
        (TypeError, lambda ds: ds.map_batches(twice, batch_size=1.5)),
        (ValueError, lambda ds: ds.map_batches(twice, batch_format="x")),
        (ValueError, lambda ds: ds.map_batches(Model, num_gpus=1)),
        (ValueError, lambda ds: ds.filter()),
        (ValueError, lambda ds: ds.filter(twice, expr=twice)),
        (TypeError, lambda ds: ds.filter(expr=3)),
        (TypeError, lambda ds: ds.union([ds])),
        (ValueError, lambda ds: ds.mix(ds, weights=[1])),
        (ValueError, lambda ds: ds.mix(ds, weights=[0, 1])),
        (TypeError, lambda ds: ds.limit("a")),
        (TypeError, lambda ds: ds.take("a")),
        (ValueError, lambda ds: ds.take_batch(batch_format="x")),
    ],
)
def test_wrong_arguments_are_errors_at_once(error, made):
    with pytest.raises(error):
        made(range(4))


def test_options_of_a_stage_are_those_of_the_call():
    plan = range(4).map(Model, concurrency=(1, 4), num_cpus=0.5, memory=1e6, resources={"x": 1}, max_retries=2).plan
    assert plan.pool == nodes.Pool(1, 4, 1, None, 1)
    assert (plan.options.num_cpus, plan.options.memory) == (0.5, 1_000_000)
    assert plan.options.remote == {"resources": {"x": 1}, "max_retries": 2}
    assert range(4).map(twice, concurrency=3).plan.options.concurrency == 3
    assert range(4).map_batches(twice, batch_size=7).plan.bundle_rows == 7


def test_settings_are_copied_when_a_dataset_is_made():
    ten = range(10)
    assert ten.context is not DataContext.get_current() and ten.map(twice).context is ten.context


def test_a_seed_that_is_reseeded_is_another_number_in_each_run():
    shuffled = range(10).randomize_block_order(seed=RandomSeedConfig(3))
    seeds = [planned.with_seeds(shuffled.limit(3).plan, run).input.seed for run in (0, 1, 0)]
    assert seeds[0] == seeds[2] != seeds[1] and all(isinstance(seed, int) for seed in seeds)
    fixed = range(10).randomize_block_order(seed=3)
    assert planned.with_seeds(fixed.plan, 5) is fixed.plan


def test_a_dataset_of_a_source_goes_to_another_session_and_one_of_objects_does_not():
    data = range(10).map(twice)
    assert data.has_serializable_lineage()
    assert repr(Dataset.deserialize_lineage(data.serialize_lineage())) == repr(data)
    assert repr(pickle.loads(pickle.dumps(range(10)))) == TABLE
    with pytest.raises(ValueError, match="this session"):
        held(pa.table({"a": [1]})).serialize_lineage()
    with pytest.raises(TypeError, match="no dataset"):
        Dataset.deserialize_lineage(pickle.dumps(3))


def test_a_plan_is_explained_as_it_was_made_and_as_it_would_run(capsys):
    range(10).map(twice).limit(3).explain()
    assert capsys.readouterr().out == (
        "\n-------- Logical Plan --------\nLimit[limit=3]\n+- Map[Map(twice)]\n   +- Read[ReadRange]\n"
        "\n-------- Logical Plan (Optimized) --------\nMap[Map(twice)]\n+- Limit[limit=3]\n   +- Read[ReadRange]\n"
        "\n-------- Physical Plan --------\nLimitOperator[Limit[3]]\n+- TaskPoolMapOperator[Map(twice)]\n"
        "   +- TaskPoolMapOperator[ReadRange]\n      +- InputDataBuffer[Input]\n"
        "\n-------- Physical Plan (Optimized) --------\nTaskPoolMapOperator[Map(twice)]\n+- LimitOperator[Limit[3]]\n"
        "   +- TaskPoolMapOperator[ReadRange]\n      +- InputDataBuffer[Input]\n\n"
    )


def test_operators_are_explained_with_what_is_fused_and_what_each_wants(capsys, tmp_path):
    class Model:
        def __call__(self, batch):
            return batch

    path = str(tmp_path / "a.parquet")
    parquet.write_table(pa.table({"a": [1, 2], "b": [3, 4]}), path)
    made = read_parquet(path).select_columns(["a"]).filter(expr=col("a") > 1)
    made.map(twice).map_batches(Model, concurrency=(1, 4), num_gpus=0.5, batch_size=8).explain()
    best = capsys.readouterr().out.split("(Optimized) --------\n")
    assert "Read[ReadParquet] (columns a; where " in best[1]
    assert best[2] == (
        "ActorPoolMapOperator[MapBatches(Model)] (1 to 4 actors, 0.5 GPU each, blocks of 8 rows together)\n"
        "+- TaskPoolMapOperator[ReadParquet->Select->Map(twice)]\n   +- InputDataBuffer[Input]\n\n"
    )


def test_small_files_of_texts_are_brought_together_for_a_size_of_batches(tmp_path):
    for number in builtins.range(4):
        (tmp_path / f"{number}.txt").write_text("a\nb\n")
    small = read_text(str(tmp_path), override_num_blocks=4).map_batches(lambda batch: batch, batch_size=8)
    assert physical(small.plan).bundle_rows == 8 and len(physical(small.plan).inputs) == 1
    one_by_one = read_text(str(tmp_path), override_num_blocks=4).map_batches(lambda batch: batch, batch_size=1)
    assert not physical(one_by_one.plan).inputs
    (tmp_path / "large.txt").write_text("a\n" * (5 << 20))
    large = read_text(str(tmp_path), override_num_blocks=4).map_batches(lambda batch: batch, batch_size=8)
    assert not physical(large.plan).inputs
