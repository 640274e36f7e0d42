"""Experiments whose trials a searcher suggests: beside schedulers that pause and stop, and with errors of its own."""

from __future__ import annotations

import pytest

from hpc import tune
from hpc.tune.schedulers.async_hyperband import ASHAScheduler
from hpc.tune.schedulers.hb_bohb import HyperBandForBOHB
from hpc.tune.search import ConcurrencyLimiter, Searcher
from hpc.tune.search.bohb import TuneBOHB
from runtime.running import one_node

SPACE = {"x": tune.uniform(-5, 5)}


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


@pytest.fixture
def run(tmp_path):
    """Run an experiment of eight trials with a searcher, and perhaps a scheduler."""

    def fitted(search_alg, scheduler=None):
        def train(config):
            for step in range(1, 5):
                tune.report({"loss": (config["x"] - 1) ** 2 + 1 / step})

        config = tune.TuneConfig(metric="loss", mode="min", search_alg=search_alg, scheduler=scheduler, num_samples=8)
        where = tune.RunConfig(storage_path=str(tmp_path), name="e", verbose=0)
        return tune.Tuner(train, param_space=SPACE, tune_config=config, run_config=where).fit()

    return fitted


def test_optuna_suggests_and_a_promoting_scheduler_pauses(run):
    pytest.importorskip("optuna", reason="needs Optuna: pip install optuna")
    from hpc.tune.search.optuna import OptunaSearch

    search = OptunaSearch(seed=1)
    grid = run(ConcurrencyLimiter(search, 3), ASHAScheduler(max_t=4, reduction_factor=2, promote=True))
    assert len(grid) == 8 and grid.num_errors == 0
    states = [one.state.name for one in search._study.trials]
    assert len(states) == 8 and "COMPLETE" in states and set(states) <= {"COMPLETE", "PRUNED"}


def test_bohb_learns_on_the_budgets_of_its_scheduler(run):
    search = TuneBOHB(seed=1)
    grid = run(search, HyperBandForBOHB(max_t=4, reduction_factor=2))
    assert len(grid) == 8 and grid.num_errors == 0
    assert len(search._seen) > 1 and sum(map(len, search._seen.values())) >= 8
    assert not search.running and not search.paused


def test_an_error_of_a_searcher_ends_the_experiment_with_it(run):
    class Broken(Searcher):
        made = 0

        def set_search_properties(self, metric, mode, config, **spec):
            return True

        def suggest(self, trial_id):
            self.made += 1
            if self.made == 3:
                raise KeyError("the searcher is broken")
            return {"x": 1.0}

        def on_trial_complete(self, trial_id, result=None, error=False): ...

    with pytest.raises(KeyError, match="the searcher is broken"):
        run(Broken())
