"""Training functions without a framework: ranks that meet by hpc.collective, and a user's own backend around them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

import hpc
from hpc.train import BackendConfig, ControllerError, DataParallelTrainer, RunConfig, ScalingConfig, WorkerGroupError
from hpc.train.backend import Backend
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


def fit(function, tmp_path, **options):
    return DataParallelTrainer(
        function,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=tmp_path, name="bare"),
        **options,
    ).fit()


def descend(inputs, targets, weights, reduce):
    """Ten steps of linear regression."""
    for _ in range(10):
        gradient = inputs.T @ (inputs @ weights - targets) / len(inputs)
        weights = weights - 0.1 * reduce(gradient)
    return weights


def data():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(32, 3))
    return inputs, inputs @ np.array([1.0, -2.0, 0.5])


def test_a_numpy_program_trains_on_its_own_with_hpc_collective(tmp_path):
    def train():
        from hpc import collective

        context = hpc.train.get_context()
        rank, size = context.get_world_rank(), context.get_world_size()
        collective.init_collective_group(size, rank, backend="shm", group_name="bare")

        def mean(gradient):
            collective.allreduce(gradient, group_name="bare", op=collective.ReduceOp.AVERAGE)
            return gradient

        inputs, targets = data()
        weights = descend(inputs[rank::size], targets[rank::size], np.zeros(3), mean)
        hpc.train.report({"weights": weights.tolist()})
        collective.destroy_collective_group("bare")

    result = fit(train, tmp_path)
    alone = descend(*data(), np.zeros(3), lambda gradient: gradient)
    np.testing.assert_allclose(result.metrics["weights"], alone, rtol=1e-12)


class Counted(Backend):
    def on_start(self, worker_group, backend_config):
        import os

        def give(name, value):
            os.environ[name] = value
            return hpc.train.get_context().get_world_rank()

        assert len(worker_group) == 2
        assert worker_group.get_resources_per_worker() == {"CPU": 1.0}
        assert worker_group.execute(give, "FROM_ALL", value=backend_config.word) == [0, 1]
        assert worker_group.execute_single(1, give, "FROM_ONE", value="x") == 1

    def on_training_start(self, worker_group, backend_config):
        backend_config.seen.append("training starts")

    def on_shutdown(self, worker_group, backend_config):
        import os

        backend_config.seen.append(hpc.get(worker_group.execute_async(os.getenv, "FROM_ALL")))


@dataclass
class Word(BackendConfig):
    word: str
    seen: list

    @property
    def backend_cls(self):
        return Counted

    @property
    def train_func_context(self):
        @contextmanager
        def entered():
            import os

            os.environ["INSIDE"] = "yes"
            yield

        return entered


def test_a_backend_of_ones_own_calls_the_ranks_before_and_after(tmp_path):
    def train(config):
        import os

        return config, [os.environ.get(name) for name in ("FROM_ALL", "FROM_ONE", "INSIDE")]

    config = Word("word", [])
    result = fit(train, tmp_path, train_loop_config={"lr": 1}, backend_config=config)
    assert result.return_value == ({"lr": 1}, ["word", None, "yes"])
    assert config.seen == ["training starts", ["word", "word"]]

    def fails():
        raise KeyError("no such weight")

    with pytest.raises(WorkerGroupError, match=r'last\):\n  File "[^"]*test_train_bare.py", line \d+, in fails'):
        fit(fails, tmp_path, backend_config=config)


def test_an_error_in_a_hook_ends_the_run_and_says_where_it_was(tmp_path):
    class Broken(Backend):
        def on_start(self, worker_group, backend_config):
            worker_group.execute(lambda: 1 // hpc.train.get_context().get_world_rank())

    class Breaks(BackendConfig):
        backend_cls = Broken

    with pytest.raises(ControllerError, match=r"(?s)test_train_bare.py.*ZeroDivisionError"):
        fit(lambda: None, tmp_path, backend_config=Breaks())


def test_a_backend_config_must_be_one():
    with pytest.raises(TypeError, match="backend_config must be a BackendConfig, not dict"):
        DataParallelTrainer(lambda: None, backend_config={})
