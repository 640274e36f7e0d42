"""Trials get datasets by reference: a plan, or blocks that lie in the store once."""

import numpy as np

import hpc
from hpc import cloudpickle, data, tune
from runtime.running import one_node

ROWS = 500_000


def trial(config, given=None):
    sums = [config["made"].sum("id"), given.sum("data")]
    tune.report({"sums": sums, "refs": [ref.hex() for ref in config["made"].get_internal_block_refs()]})


def test_trials_share_the_blocks_of_a_dataset_and_get_no_copy_of_it(tmp_path):
    with one_node(num_cpus=3):
        made = data.range(ROWS, override_num_blocks=2).materialize()
        given = data.from_numpy(np.arange(ROWS))
        assert max(len(cloudpickle.dumps(one)) for one in (made, given, data.range(ROWS))) < 20_000
        found = tune.Tuner(
            tune.with_resources(tune.with_parameters(trial, given=given), {"cpu": 1}),
            param_space={"made": made, "x": tune.grid_search([1, 2])},
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
        wanted = ROWS * (ROWS - 1) // 2
        refs = [ref.hex() for ref in made.get_internal_block_refs()]
        assert [one.metrics["sums"] for one in found] == [[wanted, wanted]] * 2
        assert [one.metrics["refs"] for one in found] == [refs, refs]


class Twice:
    """A pool of actors wants CPUs too."""

    def __call__(self, batch):
        return {"id": batch["id"] * 2}


def reading(config):
    tune.report({"sum": sum(int(batch["id"].sum()) for batch in config["rows"].iter_batches(batch_size=1000))})


def test_trials_that_hold_all_cpus_read_a_dataset(tmp_path):
    with one_node(num_cpus=2):
        rows = data.range(20_000, override_num_blocks=8).map_batches(Twice, concurrency=1, num_cpus=1)
        found = tune.Tuner(
            tune.with_resources(reading, {"cpu": 1}),
            param_space={"rows": rows, "x": tune.grid_search([1, 2])},
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
        assert [one.metrics["sum"] for one in found] == [20_000 * 19_999] * 2


class Holder:
    def here(self):
        return True


def test_a_dataset_goes_on_beside_actors_that_hold_all_cpus(capfd):
    with one_node(num_cpus=2):
        holders = [hpc.remote(Holder).options(num_cpus=1).remote() for _ in range(2)]
        assert hpc.get([one.here.remote() for one in holders]) == [True, True]
        for _ in range(2):
            assert data.range(1000, override_num_blocks=8).map(lambda row: {"id": row["id"] + 1}).sum("id") == 500_500
    assert capfd.readouterr().err.count("since others hold the CPUs") == 1
