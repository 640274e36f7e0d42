"""Trials get datasets by reference: a plan, or blocks that lie in the store once."""

import numpy as np

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
