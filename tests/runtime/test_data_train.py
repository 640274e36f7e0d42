"""Datasets of hpc.data in trainers: each rank its rows, and a position that goes on with another number of ranks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hpc
from hpc import tune
from hpc.data import DataContext, ExecutionOptions, range, read_parquet
from hpc.train import DataConfig, DataParallelTrainer, RunConfig, ScalingConfig
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=4):
        DataContext.get_current().enable_progress_bars = False
        yield


def loop(config):
    """Write down the rows of each batch, and where it ended."""
    from hpc import train

    rank, ranks = train.get_context().get_world_rank(), train.get_context().get_world_size()
    shard, names = train.get_dataset_shard("train"), train.get_dataset_shard("names")
    if config["state"] is not None:
        shard.load_state_dict(config["state"])
    batches = shard.iter_batches(batch_size=8 // ranks)
    found = [[int(row) for row in batch["id"]] for batch in itertools.islice(batches, config["batches"])]
    with open(f"{config['out']}/{rank}.json", "w") as file:
        json.dump({"batches": found, "state": shard.state_dict(), "names": list(names)}, file)


def trained(tmp_path, ranks, batches, state=None):
    out = tmp_path / f"{ranks}-{batches}"
    out.mkdir()
    trainer = DataParallelTrainer(
        loop,
        train_loop_config={"out": str(out), "batches": batches, "state": state},
        scaling_config=ScalingConfig(num_workers=ranks, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=str(tmp_path / "runs")),
        datasets={"train": read_parquet(str(tmp_path / "rows.parquet")), "names": ["a", "b", "c"]},
        dataset_config=DataConfig(["train"], ExecutionOptions(), shuffle_seed=5, shuffle_window=50),
    )
    trainer.fit()
    ended = [json.loads((out / f"{rank}.json").read_text()) for rank in itertools.islice(itertools.count(), ranks)]
    assert all(one["names"] == ["a", "b", "c"] for one in ended)
    order = [row for step in zip(*(one["batches"] for one in ended)) for part in step for row in part]
    return order, ended[0]["state"]


def test_training_goes_on_in_the_middle_of_an_epoch_with_another_number_of_ranks(tmp_path):
    rows = list(itertools.islice(itertools.count(), 400))
    pq.write_table(pa.table({"id": rows}), tmp_path / "rows.parquet", row_group_size=40)
    first, state = trained(tmp_path, 2, 20)
    assert len(first) == 160 and len(json.dumps(state)) < 1000
    rest, after = trained(tmp_path, 4, None, state)
    assert sorted(first + rest) == rows != first + rest and after["epoch"] == 1
    whole, _ = trained(tmp_path, 1, None)
    assert first + rest == whole


def test_a_dataset_goes_to_tasks_by_its_plan():
    @hpc.remote
    def count(data):
        return data.map(lambda row: row).count(), data.take(1)

    assert hpc.get(count.remote(range(30)), timeout=60) == (30, [{"id": 0}])
    assert hpc.get(count.remote(range(30).materialize()), timeout=60) == (30, [{"id": 0}])


def trial(config):
    from hpc import tune

    tune.report({"rows": config["data"].filter(expr=f"id < {config['most']}").count()})


def test_a_dataset_is_a_value_of_a_search(tmp_path):
    space = {"data": range(30).materialize(), "most": tune.grid_search([5, 10])}
    results = tune.Tuner(
        trial, param_space=space, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    ).fit()
    assert not results.errors and sorted(one.metrics["rows"] for one in results) == [5, 10]


def test_a_rank_whose_function_has_ended_holds_no_other_at_the_next_pass(tmp_path):
    def loop():
        from hpc import train

        rank, shard = train.get_context().get_world_rank(), train.get_dataset_shard("train")
        rows = [sum(len(batch["id"]) for batch in shard.iter_batches()) for _ in (1, 2, 3)[: 3 - 2 * rank]]
        (tmp_path / f"{rank}").write_text(str(rows))

    for deterministic, rows in ((True, 20), (False, 40)):
        DataParallelTrainer(
            loop,
            scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
            run_config=RunConfig(storage_path=str(tmp_path / "runs")),
            datasets={"train": range(40)},
            dataset_config=DataConfig(deterministic=deterministic, equal={"train": "pad"}),
        ).fit()
        assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == [f"[20, {rows}, {rows}]", "[20]"]


def test_ranks_that_hold_all_cpus_share_them_with_the_tasks_of_their_dataset(tmp_path):
    """Otherwise the tasks would wait for the ranks, which wait for rows."""

    def count(config):
        from hpc import train

        rows = sum(len(batch["id"]) for batch in train.get_dataset_shard("train").iter_batches())
        (tmp_path / f"{train.get_context().get_world_rank()}").write_text(str(rows))

    DataParallelTrainer(
        count,
        scaling_config=ScalingConfig(num_workers=4),
        run_config=RunConfig(storage_path=str(tmp_path / "runs")),
        datasets={"train": range(400).map(lambda row: row)},
    ).fit()
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1, 2, 3)] == ["100"] * 4
