"""Each algorithm runs in this process, with each of its parts, and says so in its results."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.cql import CQLConfig
from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.dqn.replaying import calculate_rr_weights
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.connectors.learner import ComputeReturnsToGo
from hpc.rllib.core.default_modules.ppo import DefaultPPOTorchRLModule
from hpc.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModuleSpec
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole
from hpc.rllib.math.losses import cql_actor_loss

SMALL = DefaultModelConfig(fcnet_hiddens=[16], head_fcnet_hiddens=[16], fusionnet_hiddens=[16])
LSTM = DefaultModelConfig(fcnet_hiddens=[16], use_lstm=True, lstm_cell_size=8, max_seq_len=6)


def ran(config, iterations=2):
    """The result of the last iteration, and the algorithm, which has stopped."""
    algo = config.env_runners(num_env_runners=0).debugging(seed=1).build_algo()
    try:
        for _ in range(iterations):
            result = algo.train()
        return result, algo
    finally:
        algo.stop()


def ppo(env="CartPole-v1", model=SMALL, **settings):
    config = PPOConfig().environment(env).rl_module(model_config=model)
    return config.training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=2, **settings)


def dqn(env="CartPole-v1", model=SMALL, **settings):
    config = DQNConfig().environment(env).rl_module(model_config=model)
    settings = {"train_batch_size_per_learner": 16, "num_steps_sampled_before_learning_starts": 60, **settings}
    return config.training(**settings).reporting(min_sample_timesteps_per_iteration=100)


def sac(env="Pendulum-v1", **settings):
    config = SACConfig().environment(env).rl_module(model_config=SMALL)
    settings = {"train_batch_size_per_learner": 16, "num_steps_sampled_before_learning_starts": 60, **settings}
    return config.training(**settings).reporting(min_sample_timesteps_per_iteration=80, min_time_s_per_iteration=0)


def finite(result, module_id="default_policy", *names):
    stats = result["learners"][module_id]
    for name in names:
        assert np.isfinite(stats[name]), name
    return stats


PPO_NAMES = ("policy_loss", "vf_loss", "vf_loss_unclipped", "vf_explained_var", "entropy", "mean_kl_loss", "total_loss")
DQN_NAMES = ("qf_loss", "qf_mean", "qf_min", "qf_max", "td_error_mean", "gradients_default_optimizer_global_norm")
SAC_NAMES = ("policy_loss", "qf_loss", "qf_twin_loss", "alpha_loss", "alpha_value", "logps", "td_error_mean")


def test_ppo_and_its_coefficients():
    result, algo = ran(ppo(entropy_coeff=[[0, 0.1], [256, 0.0]], kl_target=1.0))
    stats = finite(result, "default_policy", *PPO_NAMES)
    assert result["num_env_steps_sampled_lifetime"] >= 256
    # The target of KL was never reached: half of the coefficient twice.
    assert stats["curr_kl_coeff"] == pytest.approx(0.05)
    assert stats["curr_entropy_coeff"] == pytest.approx(0.0, abs=0.01)
    assert result["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"] > 0
    assert algo.config.algo_class.__name__ == "PPO"


@pytest.mark.parametrize(
    "settings",
    [{"use_critic": False}, {"use_kl_loss": False, "grad_clip": 0.5}, {"lambda_": 0.9}],
)
def test_ppo_with_parts_off(settings):
    result, _ = ran(ppo(**settings), 1)
    finite(result, "default_policy", "policy_loss", "total_loss")


def test_ppo_with_continuous_actions_and_a_state():
    result, _ = ran(ppo("Pendulum-v1"), 1)
    finite(result, "default_policy", *PPO_NAMES)
    result, _ = ran(ppo(model=LSTM), 1)
    finite(result, "default_policy", *PPO_NAMES)


@pytest.mark.parametrize("shared", [True, False])
def test_runners_of_stateful_modules_have_the_critic_that_learns(shared):
    model = DefaultModelConfig(**{**vars(LSTM), "vf_share_layers": shared})
    algo = ppo(model=model).env_runners(num_env_runners=0).debugging(seed=1).build_algo()
    try:
        algo.train()
        learnt = algo.learner_group.get_weights()["default_policy"]
        acts = algo.env_runner.module.get_state()
        assert learnt.keys() == acts.keys()
        assert all(np.array_equal(learnt[name], acts[name]) for name in learnt)
    finally:
        algo.stop()


def test_episodes_of_stateful_modules_train_as_their_fragments_do():
    one, other = (ppo(model=LSTM).env_runners(num_env_runners=0).debugging(seed=1).build_algo() for _ in range(2))
    try:
        learner = one.learner_group._learner
        # The second chunk begins in the middle of an episode, with the state that it looks back at.
        for chunk in range(2):
            by_fragment = learner.prepare([one.env_runner.sample_fragment(steps=45)])["default_policy"]
            by_episode = learner.prepare(episodes=other.env_runner.sample(num_timesteps=45))["default_policy"]
            for name in ("obs", "loss_mask", "value_targets", "advantages"):
                torch.testing.assert_close(by_episode[name], by_fragment[name], rtol=1e-4, atol=1e-4)
            for name in ("h", "c"):
                torch.testing.assert_close(by_episode["state_in"][name], by_fragment["state_in"][name])
            assert by_fragment["state_in"]["h"][0].any() == (chunk == 1)
    finally:
        one.stop()
        other.stop()


@pytest.mark.parametrize("model", [SMALL, LSTM])
def test_advantages_are_of_the_rewards_that_a_connector_made_in_the_batch(model):
    def in_batch(*, batch, **kwargs):
        batch["default_policy"]["rewards"] = batch["default_policy"]["rewards"] + 10.0
        return batch

    algo = ppo(model=model).env_runners(num_env_runners=0).debugging(seed=1).build_algo()
    try:
        learner = algo.learner_group._learner
        sample = algo.env_runner.sample_fragment(steps=40)
        pipeline = learner._learner_connector
        learner._learner_connector = lambda **kwargs: in_batch(batch=pipeline(**kwargs))
        found = learner.prepare([sample])["default_policy"]
        learner._pipeline = None
        fragment = sample.modules["default_policy"]
        fragment.columns["rewards"] = fragment["rewards"] + np.float32(10.0)
        expected = learner.prepare([sample])["default_policy"]
        mask = expected.get("loss_mask", torch.ones_like(expected["rewards"], dtype=torch.bool))
        for name in ("rewards", "value_targets"):
            torch.testing.assert_close(found[name][mask], expected[name][mask], rtol=1e-4, atol=1e-3)
    finally:
        algo.stop()


def test_ppo_of_two_agents():
    config = ppo(MultiAgentCartPole).environment(env_config={"num_agents": 2})
    config.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, *args, **kwargs: f"p{agent_id}")
    result, _ = ran(config, 1)
    finite(result, "p0", *PPO_NAMES)
    finite(result, "p1", *PPO_NAMES)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"double_q": False, "dueling": False, "td_error_loss_fn": "mse"},
        {"n_step": (2, 5), "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 500}},
        {"num_atoms": 5, "v_min": 0.0, "v_max": 20.0, "noisy": True, "n_step": 3},
    ],
)
def test_dqn_with_each_of_its_parts(settings):
    result, algo = ran(dqn(**settings))
    finite(result, "default_policy", *DQN_NAMES)
    assert "td_error" not in result["learners"]["default_policy"]
    buffer = result["replay_buffer"]
    assert buffer["num_env_steps_added_lifetime"] == result["num_env_steps_sampled_lifetime"]
    assert buffer["num_env_steps_sampled_lifetime"] > 0
    assert type(algo.local_replay_buffer).__name__ == algo.config.replay_buffer_config["type"]


@pytest.mark.parametrize("num_atoms", [1, 5])
def test_dqn_with_a_state_burns_in(num_atoms):
    settings = {"replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 500}, "burn_in_len": 2}
    result, _ = ran(dqn(model=LSTM, train_batch_size_per_learner=64, num_atoms=num_atoms, **settings))
    finite(result, "default_policy", *DQN_NAMES)
    with pytest.raises(ValueError, match="burn_in_len"):
        dqn(model=LSTM, burn_in_len=6).validate()


class Scaled(MultiRLModule):
    """Modules that act through one number that they share: it makes action 1 certain."""

    def _forward_exploration(self, batch, **kwargs):
        out = super()._forward_exploration(batch, **kwargs)
        for one in out.values():
            one["action_dist_inputs"] = one["action_dist_inputs"] + torch.tensor([0.0, 100.0])
        return out

    _forward_inference = _forward_exploration


def test_modules_that_act_together_do_so_in_runners_and_by_one_call(tmp_path):
    config = ppo(MultiAgentCartPole, model=None).environment(env_config={"num_agents": 2})
    config.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, *args, **kwargs: f"p{agent_id}")
    one = {name: RLModuleSpec(module_class=DefaultPPOTorchRLModule, model_config=SMALL) for name in ("p0", "p1")}
    config.rl_module(rl_module_spec=MultiRLModuleSpec(multi_rl_module_class=Scaled, rl_module_specs=one))
    algo = config.env_runners(num_env_runners=0).debugging(seed=1).build_algo()
    try:
        sample = algo.env_runner.sample_fragment(steps=20)
        for fragment in sample.modules.values():
            assert fragment["actions"][fragment.loss_mask].all()
        obs = np.zeros(4, np.float32)
        assert algo.act(obs, agent_id=0) == 1
        assert Agent.from_checkpoint(algo.save_to_path(tmp_path)).act(obs, agent_id=0) == 1
    finally:
        algo.stop()


def test_dqn_of_two_agents_has_a_buffer_for_each():
    config = dqn(MultiAgentCartPole).environment(env_config={"num_agents": 2})
    config.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, *args, **kwargs: f"p{agent_id}")
    result, algo = ran(config)
    finite(result, "p0", *DQN_NAMES)
    finite(result, "p1", *DQN_NAMES)
    assert set(algo.local_replay_buffer.get_module_ids()) == {"p0", "p1"}


def test_sac_of_both_kinds_of_actions():
    result, _ = ran(sac(), 1)
    finite(result, "default_policy", *SAC_NAMES)
    assert result["learners"]["default_policy"]["target_entropy"] == -1.0
    result, _ = ran(sac("CartPole-v1", n_step=3), 1)
    finite(result, "default_policy", *SAC_NAMES)
    result, _ = ran(sac(twin_q=False), 1)
    finite(result, "default_policy", "qf_loss", "td_error_mean")


def test_a_restored_schedule_of_entropy_goes_on_where_it_was():
    spaces = {"default_policy": (gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2))}
    config = ppo(entropy_coeff=[[0, 0.5], [100, 0.1]])
    learner, other = (config.copy().build_learner(spaces=spaces) for _ in range(2))
    learner.after_gradient_based_update(timesteps={"num_env_steps_sampled_lifetime": 50})
    assert learner.entropy_coeff("default_policy") == pytest.approx(0.3)
    other.set_state(learner.get_state())
    assert other.entropy_coeff("default_policy") == pytest.approx(0.3)


def test_the_temperature_is_restored_by_a_state_that_was_taken_before():
    spaces = {"default_policy": (gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (1,)))}
    learner = sac().build_learner(spaces=spaces)
    alpha = learner.log_alpha("default_policy")
    learner.build()
    assert learner.log_alpha("default_policy") is alpha, "a second build changes nothing"
    state = learner.get_state()
    with torch.no_grad():
        learner.log_alpha("default_policy").fill_(5.0)
    learner.set_state(state)
    assert learner.log_alpha("default_policy").item() == 0.0


def test_cql_clones_in_as_many_updates_as_bc_iters_says(monkeypatch):
    clones = []

    def noted(**kwargs):
        clones.append(kwargs["logp_data"] is not None)
        return cql_actor_loss(**kwargs)

    monkeypatch.setattr("hpc.rllib.algorithms.cql.torch.cql_torch_learner.cql_actor_loss", noted)
    spaces = {"default_policy": (gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (1,)))}
    config = CQLConfig().rl_module(model_config=SMALL).training(bc_iters=2)
    learner = config.offline_data(dataset_num_iters_per_learner=1).build_learner(spaces=spaces)
    zeros = np.zeros(4, np.float32)
    batch = {"obs": np.zeros((4, 2), np.float32), "new_obs": np.zeros((4, 2), np.float32), "rewards": zeros}
    batch |= {"actions": np.zeros((4, 1), np.float32), "terminateds": np.zeros(4, bool), "n_step": zeros + 1}
    for _ in range(3):
        learner.update(batch={"default_policy": batch})
    assert clones == [True, True, False]


class Masked(gym.Env):
    """Action 0 is allowed in each second step only; an action that is not ends the test."""

    def __init__(self, config=None):
        self.action_space = gym.spaces.Discrete(3)
        box = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {"observations": box, "action_mask": gym.spaces.Box(0.0, 1.0, (3,), np.float32)}
        )

    def _obs(self):
        self.mask = np.array([self.t % 2, 1.0, 0.0], np.float32)
        return {"observations": np.full(2, self.t / 20, np.float32), "action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        assert self.mask[action] == 1.0, "an action that the mask forbids"
        self.t += 1
        return self._obs(), float(action == 0), self.t == 12, False, {}


@pytest.mark.parametrize("make", [ppo, dqn, sac])
def test_masks_of_actions_hold(make):
    result, _ = ran(make(Masked))
    finite(result, "default_policy", "total_loss")
    if make is ppo:
        assert result["env_runners"]["episode_len_mean"] == 12


class Splits(DefaultPPOTorchRLModule):
    """Takes masks out of observations by itself, as RLlib's example does: values leave them for training."""

    def __init__(self, *, observation_space, **kwargs):
        super().__init__(observation_space=observation_space["observations"], **kwargs)

    @staticmethod
    def _split(batch):
        mask = batch["obs"].pop("action_mask")
        batch["obs"] = batch["obs"].pop("observations")
        return mask

    def _masked(self, out, mask):
        out["action_dist_inputs"] += torch.clamp(torch.log(mask), min=torch.finfo(torch.float32).min)
        return out

    def _forward_inference(self, batch, **kwargs):
        mask = self._split(batch)
        return self._masked(super()._forward_inference(batch), mask)

    def _forward_exploration(self, batch, **kwargs):
        mask = self._split(batch)
        return self._masked(super()._forward_exploration(batch), mask)

    def _forward_train(self, batch, **kwargs):
        return self._masked(super()._forward_train(batch), batch["action_mask"])

    def compute_values(self, batch, embeddings=None):
        if isinstance(batch["obs"], dict):
            batch["action_mask"] = self._split(batch)
        return super().compute_values(batch, embeddings)


@pytest.mark.parametrize(("model", "connects"), [(SMALL, False), (SMALL, True), (LSTM, False)])
def test_a_module_of_the_user_gets_masks_in_its_observations_and_trains_on_what_values_left(model, connects):
    config = ppo(Masked, model=None).rl_module(rl_module_spec=RLModuleSpec(module_class=Splits, model_config=model))
    if connects:
        config.learners(learner_connector=lambda *args: ComputeReturnsToGo(gamma=0.9))
    result, _ = ran(config)
    finite(result, "default_policy", *PPO_NAMES)
    assert result["env_runners"]["episode_len_mean"] == 12


@pytest.mark.parametrize("make", [ppo, dqn, sac])
def test_the_same_seed_gives_the_same_weights_bit_by_bit(make):
    weights = []
    for _ in range(2):
        _, algo = ran(make(), 2)
        weights.append(algo.learner_group.get_weights()["default_policy"])
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert np.array_equal(value, weights[1][name]), name


def test_what_goes_on_from_one_checkpoint_is_equal_bit_by_bit_and_keeps_its_schedules(tmp_path):
    made = ppo(lr=[[0, 0.01], [2000, 0.0]], entropy_coeff=[[0, 1.0], [600, 0.0]])
    _, algo = ran(made.copy(), 2)
    path = algo.save_to_path(tmp_path)
    weights = []
    for _ in range(2):
        again = Algorithm.from_checkpoint(path)
        (learner,) = again.learner_group.foreach_learner(lambda learner: learner)
        assert learner.entropy_coeff("default_policy") == pytest.approx(1 - 256 / 600, abs=0.01)
        assert learner.get_optimizer().param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 256 / 2000), rel=0.01)
        again.train()
        weights.append(again.get_weights()["default_policy"])
        again.stop()
    assert all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items())
    fixed = Algorithm.from_checkpoint(path, config={"entropy_coeff": 0.25})
    (learner,) = fixed.learner_group.foreach_learner(lambda learner: learner)
    assert learner.entropy_coeff("default_policy") == 0.25, "a coefficient without a schedule is the configuration's"
    fixed.stop()


def test_a_buffer_is_saved_where_it_is_wanted(tmp_path):
    config = dqn(store_buffer_in_checkpoints=True).env_runners(num_env_runners=0).debugging(seed=1)
    algo, other = config.copy().build_algo(), config.copy().build_algo()
    try:
        algo.train()
        other.set_state(algo.get_state())
        kept, found = algo.local_replay_buffer, other.local_replay_buffer
        assert len(found) == len(kept) > 0
        a, b = (buffer.sample_batch(16, n_step=2, beta=0.4) for buffer in (kept, found))
        assert np.array_equal(a["obs"], b["obs"])
        assert np.array_equal(a["weights"], b["weights"])
    finally:
        algo.stop()
        other.stop()


def test_a_buffer_that_was_not_saved_is_filled_before_the_next_update():
    settings = {"replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 500}, "burn_in_len": 2}
    config = dqn(model=LSTM, **settings).env_runners(num_env_runners=0).debugging(seed=1)
    algo, other = config.copy().build_algo(), config.copy().build_algo()
    try:
        algo.train()
        state = algo.get_state()
        other.set_state(state)
        before = other.learner_group.get_weights()["default_policy"]
        for steps in range(1, 60):
            other.training_step()
            assert len(other.local_replay_buffer) == steps
        after = other.learner_group.get_weights()["default_policy"]
        assert all(np.array_equal(before[name], after[name]) for name in before)
        other.training_step()
        after = other.learner_group.get_weights()["default_policy"]
        assert not all(np.array_equal(before[name], after[name]) for name in before)
        algo.set_state(state)
        algo.training_step()
        after = algo.learner_group.get_weights()["default_policy"]
        assert not all(np.array_equal(before[name], after[name]) for name in before), "its buffer is still there"
    finally:
        algo.stop()
        other.stop()


@pytest.mark.parametrize(
    ("intensity", "batch", "rounds"), [(None, 32, (1, 1)), (32, 32, (1, 4)), (2, 32, (4, 1)), (8, 32, (1, 1))]
)
def test_training_intensity_is_replayed_steps_for_each_sampled_one(intensity, batch, rounds):
    config = DQNConfig().training(training_intensity=intensity, train_batch_size_per_learner=batch)
    config.env_runners(num_envs_per_env_runner=2, rollout_fragment_length=2, num_env_runners=0)
    assert calculate_rr_weights(config) == rounds


def test_settings_that_contradict_each_other_are_told():
    base = DQNConfig().environment("CartPole-v1")
    with pytest.raises(ValueError, match="rollout_fragment_length=5"):
        base.copy().training(n_step=(2, 5)).env_runners(rollout_fragment_length=3).validate()
    with pytest.raises(ValueError, match="PrioritizedEpisodeReplayBuffer"):
        base.copy().training(replay_buffer_config={"type": "ReplayBuffer"}).validate()
    with pytest.raises(ValueError, match="huber"):
        base.copy().training(td_error_loss_fn="l1").validate()
    with pytest.raises(ValueError, match="actor_lr"):
        SACConfig().environment("Pendulum-v1").training(lr=0.1).validate()
    with pytest.raises(ValueError, match="minibatch_size"):
        PPOConfig().environment("CartPole-v1").training(train_batch_size_per_learner=64).validate()
    with pytest.raises(ValueError, match="complete_episodes"):
        PPOConfig().environment("CartPole-v1").training(use_gae=False).validate()


def test_targets_move_by_tau():
    from hpc.rllib.core.learner.utils import make_target_network, update_target_network

    main = torch.nn.Linear(2, 2)
    target = make_target_network(main)
    with torch.no_grad():
        main.weight += 1.0
    before = target.weight.clone()
    update_target_network(main_net=main, target_net=target, tau=0.25)
    torch.testing.assert_close(target.weight, before + 0.25)
    update_target_network(main_net=main, target_net=target, tau=1.0)
    torch.testing.assert_close(target.weight, main.weight)
