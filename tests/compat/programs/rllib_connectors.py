"""Connectors: pipelines, a user's own pieces, and those that come with the library, on episodes."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from hpc.rllib.connectors.connector_v2 import ConnectorV2
from hpc.rllib.connectors.env_to_module import (
    FlattenObservations,
    MeanStdFilter,
    PrevActionsPrevRewards,
)
from hpc.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from hpc.rllib.connectors.learner import GeneralAdvantageEstimation
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return (
        np.round(np.asarray(value, np.float64), 3).tolist()
        if hasattr(value, "dtype") or isinstance(value, float)
        else value
    )


class Named(ConnectorV2):
    def __init__(self, input_observation_space=None, input_action_space=None, *, word="", **kwargs):
        super().__init__(input_observation_space, input_action_space, **kwargs)
        self.word = word

    def __call__(self, *, rl_module, batch, episodes, explore=None, shared_data=None, metrics=None, **kwargs):
        batch["words"] = batch.get("words", "") + self.word
        return batch


class A(Named):
    pass


class B(Named):
    pass


class C(Named):
    pass


print("== pipelines")
pipe = ConnectorPipelineV2(connectors=[A(word="a"), B(word="b")])
run = lambda: pipe(rl_module=None, batch={}, episodes=[], explore=False, shared_data={})["words"]
print(len(pipe), run())
pipe.append(C(word="c"))
pipe.prepend(C(word="0"))
print(len(pipe), run(), [type(one).__name__ for one in pipe.connectors])
pipe.insert_before(B, A(word="<"))
pipe.insert_after("B", A(word=">"))
print(run())
pipe.remove("B")
print(run(), len(pipe))
tried("removal of one that is not there", lambda: pipe.remove("Zzz"))
print(type(pipe[0]).__name__, pipe[1].word)


def episode(observations, space):
    made = SingleAgentEpisode(observation_space=space, action_space=gym.spaces.Discrete(3))
    made.add_env_reset(observations[0])
    for t, observation in enumerate(observations[1:]):
        made.add_env_step(observation, action=t % 3, reward=float(t + 1))
    return made


def made(kind):
    piece = kind()
    piece.input_action_space = gym.spaces.Discrete(3)
    piece.input_observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
    return piece


print("== flattened")
space = gym.spaces.Dict({"a": gym.spaces.Box(-1.0, 1.0, (2,), np.float32), "b": gym.spaces.Discrete(3)})
one = episode(
    [{"a": np.array([0.5, -0.5], np.float32), "b": 2}, {"a": np.array([0.25, 0.0], np.float32), "b": 0}], space
)
flat = FlattenObservations(space, gym.spaces.Discrete(3))
print(flat.observation_space)
flat(rl_module=None, batch={}, episodes=[one], explore=False, shared_data={})
print(plain(one.get_observations(-1)), plain(one.get_observations(0)))

print("== mean and deviation")
box = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
filters = made(MeanStdFilter)
seen = episode([np.array([1.0, 2.0], np.float32)], box)
for step in range(4):
    filters(rl_module=None, batch={}, episodes=[seen], explore=True, shared_data={})
    if step < 3:
        seen.add_env_step(np.array([1.0 + step, 4.0], np.float32), action=0, reward=0.0)
print(plain(seen.get_observations()))
state = filters.get_state()
print(sorted(state))
other = made(MeanStdFilter)
other.set_state(state)
merged = other.merge_states([state, state])
print(sorted(merged) == sorted(state))

print("== a preprocessor")


class Twice(SingleAgentObservationPreprocessor):
    def recompute_output_observation_space(self, input_observation_space, input_action_space):
        return gym.spaces.Box(-20.0, 20.0, (2,), np.float32)

    def preprocess(self, observation, episode):
        return observation * 2


twice = Twice(input_observation_space=box, input_action_space=gym.spaces.Discrete(3))
print(twice.observation_space)
seen = episode([np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)], box)
twice(rl_module=None, batch={}, episodes=[seen], explore=True, shared_data={})
print(plain(seen.get_observations(-1)))

print("== previous actions")
previous = made(PrevActionsPrevRewards)
print(previous.observation_space)
seen = episode([np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)], box)
previous(rl_module=None, batch={}, episodes=[seen], explore=True, shared_data={})
print(plain(seen.get_observations(-1)))

print("== advantages")
print(GeneralAdvantageEstimation(gamma=0.9, lambda_=0.5).gamma)
