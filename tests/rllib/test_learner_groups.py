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
from hpc import collective
from hpc.collective import CollectiveError
from hpc.rllib.algorithms.appo import APPOConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from hpc.rllib.core.learner.learner_group import LearnerGroup
from hpc.rllib.core.learner.remote_learner import RemoteLearner, Share
from hpc.rllib.core.rl_module.rl_module import RLModuleSpec
from hpc.rllib.env.fragment import Fragment, Sample

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"

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
    for number in range(8):
        found += two.update(samples=[sample(number)], async_update=True, return_state=True)
        assert two.get_stats()["actor_manager_num_outstanding_async_reqs"] <= 3
    while len(found) < 16:
        two._read(1.0)
        found += two._results_of_earlier()
    assert sum("_rl_module_state_after_update" in result for result in found) == 8
    assert two.weights_version == before + 8


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


def test_a_learner_that_is_made_anew_has_the_modules_of_the_others(two: LearnerGroup) -> None:
    def modules(learner: Any) -> list[str]:
        return sorted(learner.module.keys())

    like = two.foreach_learner(lambda learner: learner.module["default_policy"].unwrapped().model_config)[0]
    one = CONFIG.get_multi_rl_module_spec(spaces=SPACES).rl_module_specs["default_policy"]
    spec = RLModuleSpec(one.module_class, *SPACES["default_policy"], model_config=like)
    two.add_module(module_id="more", module_spec=spec)
    died = two.get_stats()["num_learners_died_lifetime"]
    os.kill(two.foreach_learner(_pid)[1], signal.SIGKILL)
    assert two.update(samples=[sample(1)])
    assert two.get_stats()["num_learners_died_lifetime"] == died + 1
    while len(two.foreach_learner(_pid)) < 2:
        two._read(1.0)
    assert two.foreach_learner(modules) == [["default_policy", "more"]] * 2
    two.remove_module("more")
    assert len(two.update(samples=[sample(3)])) == 2
    assert two.foreach_learner(modules) == [["default_policy"]] * 2


def test_where_no_learner_is_left_the_new_one_has_the_newest_weights(session: None) -> None:
    group = group_of(CONFIG, 1)
    first = group.get_weights()["default_policy"]
    group.set_weights({"default_policy": {name: value + 3.0 for name, value in first.items()}})
    group.foreach_learner(_raise_by_one)
    acting = hpc.get(group.weights_reference(inference_only=True))["default_policy"]
    os.kill(group.foreach_learner(_pid)[0], signal.SIGKILL)
    assert group.update(samples=[sample(0)])
    assert group.get_stats()["num_learners_died_lifetime"] == 1
    for name, value in group.get_weights()["default_policy"].items():
        # One step of Adam is as long as the learning rate.
        np.testing.assert_allclose(value, first[name] + (4.0 if name in acting else 3.0), atol=0.01)
    group.shutdown()


def test_target_networks_follow_where_no_learner_is_left(session: None) -> None:
    def far(learner: Any) -> float:
        pairs = learner.module["default_policy"].unwrapped().get_target_network_pairs()
        return max(
            float((one - other).detach().abs().max())
            for main, target in pairs
            for one, other in zip(main.parameters(), target.parameters())
        )

    group = group_of(APPOConfig().environment("CartPole-v1").debugging(seed=3), 1)
    group.foreach_learner(_raise_by_one)
    group.weights_reference(inference_only=True)
    os.kill(group.foreach_learner(_pid)[0], signal.SIGKILL)
    assert group.update(samples=[sample(0)])
    assert group.foreach_learner(far)[0] < 0.01
    group.shutdown()


def _raise_by_one(learner: Any) -> None:
    weights = learner.get_weights()["default_policy"]
    learner.set_weights({"default_policy": {name: value + 1.0 for name, value in weights.items()}})


def test_a_learner_that_could_not_join_makes_no_update_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_comes(*arguments: Any) -> None:
        raise CollectiveError("ranks did not come")

    config = CONFIG.copy(copy_frozen=False)
    one = RemoteLearner(IMPALATorchLearner, config, config.get_multi_rl_module_spec(spaces=SPACES), 0, 1)
    share = Share(samples=[(sample(0), None)]).wire()
    one.join("a", 0, 1, "shm")
    one.update(share, {}, False)
    before = _flat(one.learner)
    monkeypatch.setattr(collective, "init_collective_group", nobody_comes)
    with pytest.raises(CollectiveError, match="did not come"):
        one.join("b", 0, 2, "shm")
    with pytest.raises(CollectiveError, match="in no group"):
        one.update(share, {}, False)
    assert np.array_equal(_flat(one.learner), before)


def test_lambda_is_that_of_v_trace() -> None:
    found = []
    for factor in (1.0, 0.5):
        config = APPOConfig().environment("CartPole-v1").debugging(seed=3).training(lambda_=factor)
        group = group_of(config, 0)
        (result,) = group.update(samples=[sample(0)])
        found.append(float(result["default_policy"]["vf_loss"]))
        group.shutdown()
    # Targets that trust values more are closer to them.
    assert found[1] < 0.9 * found[0]


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
