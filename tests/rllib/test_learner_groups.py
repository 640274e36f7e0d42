"""Groups of learners in a session: equal to one learner, and whole again after a death."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hpc
from hpc.rllib.algorithms.appo import APPOConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.core.learner.learner_group import LearnerGroup
from hpc.rllib.env.fragment import Fragment, Sample

SPACES = {"default_policy": (gym.spaces.Box(-1.0, 1.0, (4,), np.float32), gym.spaces.Discrete(2))}


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


def group_of(config: Any, learners: int) -> LearnerGroup:
    config = config.copy(copy_frozen=False).learners(num_learners=learners, num_cpus_per_learner=1)
    return LearnerGroup(config=config, module_spec=config.get_multi_rl_module_spec(spaces=SPACES))


def sample(seed: int, rows: int = 20, width: int = 4) -> Sample:
    rng = np.random.default_rng(seed)
    flags = np.zeros((rows, width), bool)
    columns = {
        "obs": rng.standard_normal((rows + 1, width, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, (rows, width)),
        "rewards": rng.standard_normal((rows, width)).astype(np.float32),
        "terminateds": flags,
        "truncateds": flags,
        "loss_mask": ~flags,
        "first": flags,
        "action_logp": np.full((rows, width), -0.7, np.float32),
        "action_dist_inputs": rng.standard_normal((rows, width, 2)).astype(np.float32),
        "vf_preds": rng.standard_normal((rows + 1, width)).astype(np.float32),
    }
    steps = rows * width
    return Sample(
        {"default_policy": Fragment(columns, rows, width)},
        steps,
        {"default_agent": steps},
        rows=rows,
        module_steps={"default_policy": steps},
    )


def weights_of(group: LearnerGroup) -> np.ndarray:
    weights = group.get_weights()["default_policy"]
    return np.concatenate([np.asarray(weights[name]).reshape(-1) for name in sorted(weights)])


CONFIG = IMPALAConfig().environment("CartPole-v1").debugging(seed=3)


@pytest.fixture(scope="module")
def two(session: None) -> Iterator[LearnerGroup]:
    """One group for all tests, since its processes take seconds to start; each test leaves it whole."""
    group = group_of(CONFIG, 2)
    yield group
    group.shutdown()


def _flat(learner: Any) -> np.ndarray:
    weights = learner.get_weights()["default_policy"]
    return np.concatenate([np.asarray(weights[name]).reshape(-1) for name in sorted(weights)])


def _pid(learner: Any) -> int:
    return os.getpid()


def test_two_learners_make_the_step_of_one(two: LearnerGroup) -> None:
    one = group_of(CONFIG, 0)
    assert np.array_equal(weights_of(one), weights_of(two))
    for turn in range(3):
        samples = [sample(2 * turn), sample(2 * turn + 1)]
        one.update(samples=samples)
        results = two.update(samples=samples)
        assert len(results) == 2
    np.testing.assert_allclose(weights_of(one), weights_of(two), atol=2e-5)
    first, second = two.foreach_learner(_flat)
    assert np.array_equal(first, second)
    assert one.weights_version == two.weights_version == 3
    two.set_state(one.get_state())
    assert np.array_equal(weights_of(one), weights_of(two))
    one.shutdown()


def test_a_checkpoint_of_two_learners_is_that_of_one(two: LearnerGroup, tmp_path: Any) -> None:
    one = group_of(CONFIG, 0)
    two.update(samples=[sample(0), sample(1)])
    two.save_to_path(tmp_path / "group")
    one.restore_from_path(tmp_path / "group")
    assert np.array_equal(weights_of(one), weights_of(two))
    assert one.weights_version == two.weights_version
    one.update(samples=[sample(2)])
    one.save_to_path(tmp_path / "again")
    two.restore_from_path(tmp_path / "again")
    assert np.array_equal(weights_of(one), weights_of(two))
    one.shutdown()


def test_weights_of_single_modules_are_loaded_by_all_learners(two: LearnerGroup, tmp_path: Any) -> None:
    other = group_of(CONFIG.copy(copy_frozen=False).debugging(seed=4), 0)
    path = other.save_to_path(tmp_path)
    modules = f"{path}/learner/rl_module"
    for given in (
        {"multi_rl_module_ckpt_dir": modules},
        {"rl_module_ckpt_dirs": {"default_policy": f"{modules}/default_policy"}},
    ):
        two.update(samples=[sample(1), sample(2)])
        two.load_module_state(**given)
        assert np.array_equal(weights_of(two), weights_of(other))
    found = two.foreach_learner(lambda learner: learner.get_weights()["default_policy"])
    assert len(found) == 2 and all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_results_of_asynchronous_updates_come_later(two: LearnerGroup) -> None:
    found: list[dict[str, Any]] = []
    before = two.weights_version
    for number in range(3):
        found += two.update(samples=[sample(number)], async_update=True, return_state=True)
    while len(found) < 6:
        two._read(1.0)
        found += two._results_of_earlier()
    assert sum("_rl_module_state_after_update" in result for result in found) == 3
    assert two.weights_version == before + 3


def test_what_a_learner_raises_is_raised(two: LearnerGroup) -> None:
    state = two.get_state()
    bad = sample(0)
    bad.modules["default_policy"].columns["rewards"][:] = np.nan
    with pytest.raises(ValueError, match=r"not finite|is nan"):
        two.update(samples=[bad])
    two.set_state(state)
    assert two.update(samples=[sample(1)])


def test_a_dead_learner_is_replaced_and_updates_go_on(two: LearnerGroup) -> None:
    keywords = {"num_epochs": 2, "minibatch_size": 40, "shuffle_batch_per_epoch": True}
    two.update(samples=[sample(0)], **keywords)
    before = two.weights_version
    for turn, victim in enumerate((1, 0)):
        os.kill(two.foreach_learner(_pid)[victim], signal.SIGKILL)
        assert two.update(samples=[sample(1)], **keywords)
        assert two.get_stats()["num_learners_died_lifetime"] == turn + 1
        while len(two.foreach_learner(_pid)) < 2:
            two._read(1.0)
        assert len(two.update(samples=[sample(3)], **keywords)) == 2
        first, second = two.foreach_learner(_flat)
        assert np.array_equal(first, second)
    assert two.weights_version == before + 4


def test_a_local_learner_takes_no_asynchronous_updates() -> None:
    group = group_of(APPOConfig().environment("CartPole-v1"), 0)
    with pytest.raises(ValueError, match="num_learners=0"):
        group.update(samples=[sample(0)], async_update=True)
    with pytest.raises(ValueError, match="give one of"):
        group.update()
    assert group.update(samples=[sample(0)], num_epochs=2, minibatch_size=40)
    group.shutdown()


def test_a_learner_without_room_is_told_of(two: LearnerGroup, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("hpc.rllib.core.learner.ranks.SAID_S", 0.2)

    @hpc.remote(num_cpus=2)  # the two learners have the rest
    class Holder:
        def here(self) -> bool:
            return True

    holder = Holder.remote()
    assert hpc.get(holder.here.remote())
    freed = threading.Timer(1.0, hpc.kill, [holder])
    freed.start()
    config = IMPALAConfig().learners(num_learners=1, num_cpus_per_learner=2)
    group = LearnerGroup(config=config, module_spec=config.get_multi_rl_module_spec(spaces=SPACES))
    freed.join()
    group.shutdown()
    assert "1 of 1 learners have not begun" in caplog.text and "num_learners=0" in caplog.text
