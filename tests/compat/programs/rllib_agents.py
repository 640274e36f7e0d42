"""Several agents: those that act in turn, that end early, episodes of theirs, and what an environment must have."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.env.multi_agent_env import MultiAgentEnv, make_multi_agent
from hpc.rllib.env.multi_agent_episode import MultiAgentEpisode
from hpc.rllib.examples.envs.classes.multi_agent.rock_paper_scissors import RockPaperScissors

BOX = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


class InTurn(MultiAgentEnv):
    """One acts, then the other; `short` ends after its third step, and the other one goes on alone to eight."""

    def __init__(self, config=None):
        super().__init__()
        self.agents = self.possible_agents = ["long", "short"]
        self.observation_spaces = {"long": BOX, "short": BOX}
        self.action_spaces = {"long": gym.spaces.Discrete(2), "short": gym.spaces.Discrete(3)}

    def reset(self, *, seed=None, options=None):
        self.t, self.over = 0, False
        self.agents = ["long", "short"]
        return {"long": np.zeros(2, np.float32)}, {}

    def step(self, actions):
        assert len(actions) == 1, actions
        self.t += 1
        (agent,) = actions
        assert self.action_spaces[agent].contains(actions[agent]), actions
        seen = np.full(2, self.t / 20, np.float32)
        rewards, terminateds = {agent: 1.0}, {"__all__": False}
        following = "long" if agent == "short" or self.over else "short"
        observations = {following: seen}
        if self.t == 6:
            self.over = True
            self.agents = ["long"]
            observations["short"] = seen
            terminateds["short"] = True
            rewards["long"] = 0.5
        if self.t == 11:
            terminateds["__all__"] = True
            observations = {"long": seen}
        return observations, rewards, terminateds, {"__all__": False}, {}


print("== the environment")
env = InTurn()
print(env.num_agents, env.max_num_agents, env.get_observation_space("long"), env.get_action_space("short"))
Two = make_multi_agent("CartPole-v1")
two = Two({"num_agents": 2})
observations, infos = two.reset(seed=1)
print(sorted(observations), two.observation_spaces[0].shape, two.possible_agents, sorted(infos))
print(sorted(two.step({0: 1, 1: 0})[2], key=str))
print(plain(RockPaperScissors({}).step({"player1": 1, "player2": 0})[:3]))

print("== training")
config = (
    PPOConfig()
    .environment(InTurn)
    .env_runners(num_env_runners=0, batch_mode="complete_episodes")
    .training(train_batch_size_per_learner=22, minibatch_size=20, num_epochs=1)
    .rl_module(model_config={"fcnet_hiddens": [4]})
    .multi_agent(policies={"long", "short"}, policy_mapping_fn=lambda agent_id, episode, **kw: agent_id)
)
algo = config.build_algo()
result = algo.train()
runners = result["env_runners"]
print(runners["episode_return_mean"], runners["episode_len_mean"], runners["num_episodes"])
print(sorted((key, float(value)) for key, value in runners["agent_episode_returns_mean"].items()))
print(sorted((key, float(value)) for key, value in runners["module_episode_returns_mean"].items()))
print(sorted((key, float(value)) for key, value in runners["num_agent_steps_sampled"].items()))
print(float(runners["num_env_steps_sampled"]), sorted(key for key in result["learners"]))
print(sorted(algo.get_module("short").get_state()) == sorted(algo.get_module("long").get_state()))
algo.stop()

print("== trained in part")
algo = config.copy(copy_frozen=False).multi_agent(policies_to_train=["short"]).build_algo()
before = {key: value.copy() for key, value in algo.learner_group.get_weights()["long"].items()}
first = {key: value.copy() for key, value in algo.learner_group.get_weights()["short"].items()}
result = algo.train()
after = algo.learner_group.get_weights()
print(all(np.array_equal(before[key], after["long"][key]) for key in before))
print(any(not np.array_equal(first[key], after["short"][key]) for key in first))
print(sorted(result["learners"]))
algo.stop()

print("== an episode")
episode = MultiAgentEpisode(id_="m1")
episode.add_env_reset(observations={"a": 0, "b": 10})
episode.add_env_step(observations={"a": 1}, actions={"a": 1, "b": 2}, rewards={"a": 1.0})
episode.add_env_step(observations={"b": 12, "a": 2}, actions={"a": 0}, rewards={"a": 2.0, "b": 5.0})
episode.add_env_step(
    observations={"a": 3}, actions={"a": 1, "b": 1}, rewards={"a": 3.0}, terminateds={"__all__": False, "a": True},
)  # fmt: skip
print(len(episode), episode.is_done, episode.get_return(), episode.env_steps(), episode.agent_steps())
print(
    sorted(episode.agent_ids),
    sorted(episode.agent_episodes),
    episode.get_agents_to_act(),
    sorted(episode.get_agents_that_stepped()),
)
print(plain(episode.get_observations()))
print(plain(episode.get_observations(-1)), plain(episode.get_observations(0)))
print(plain(episode.get_actions()), plain(episode.get_rewards()))
print(plain(episode.get_actions(-1)), plain(episode.get_rewards(-1)))
print(episode.agent_episodes["a"].is_done, len(episode.agent_episodes["a"]))
episode.add_env_step(observations={"b": 13}, actions={}, rewards={"b": 1.0}, terminateds={"__all__": True})
print(episode.is_done, episode.is_terminated, episode.get_return(), len(episode))
print(episode.get_agents_to_act(), sorted(one for one, own in episode.agent_episodes.items() if own.is_done))
