"""Episodes of one agent: what is added, read, cut and joined."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np

from hpc.rllib.env.single_agent_episode import SingleAgentEpisode


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


episode = SingleAgentEpisode(id_="e1", observation_space=gym.spaces.Discrete(100), action_space=gym.spaces.Discrete(10))
print(len(episode), episode.is_reset, episode.is_done, episode.is_numpy, episode.id_)
episode.add_env_reset(observation=0, infos={"i": 0})
print(len(episode), episode.is_reset, episode.t, episode.t_started)
for t in range(6):
    episode.add_env_step(
        observation=t + 1,
        action=t % 3,
        reward=0.5 * t,
        infos={"i": t + 1},
        extra_model_outputs={"action_logp": -0.1 * t, "state": {"h": np.array([t, t])}},
    )
print(len(episode), episode.is_done, episode.get_return(), episode.t)

print("== getters")
print(plain(episode.get_observations()), plain(episode.get_actions()), plain(episode.get_rewards()))
print(plain(episode.get_observations(-1)), plain(episode.get_observations(0)), plain(episode.get_rewards(-1)))
print(plain(episode.get_observations([0, -1])), plain(episode.get_actions([0, 2])))
print(plain(episode.get_observations(slice(1, 3))), plain(episode.get_observations(slice(-3, None))))
print(plain(episode.get_infos(-1)), plain(episode.get_infos([0, 1])))
print(plain(episode.get_extra_model_outputs("action_logp", -1)), plain(episode.get_extra_model_outputs("state", -1)))
tried("beyond the end", lambda: episode.get_observations(20))
tried("beyond the end, filled", lambda: plain(episode.get_observations([5, 6, 7, 8], fill=-1)))
tried("before the start, filled", lambda: plain(episode.get_actions(slice(-9, -4), fill=-1)))
tried(
    "neg_index_as_lookback, filled",
    lambda: plain(episode.get_observations([-2, -1, 0], neg_index_as_lookback=True, fill=77)),
)
tried("one hot", lambda: plain(episode.get_actions(-1, one_hot_discrete=True)))
tried("one hot of a slice", lambda: plain(episode.get_actions(slice(0, 2), one_hot_discrete=True)))
tried("no such output", lambda: episode.get_extra_model_outputs("no such"))

print("== setters")
episode.set_rewards(new_data=9.0, at_indices=1)
print(plain(episode.get_rewards()), episode.get_return())
episode.set_observations(new_data=50, at_indices=-1)
print(plain(episode.get_observations()))

print("== cut")
chunk = episode.cut(len_lookback_buffer=2)
print(len(chunk), chunk.id_, chunk.t_started, chunk.t, chunk.is_done, chunk.is_reset)
print(plain(chunk.get_observations()), plain(chunk.get_rewards()))
print(plain(chunk.get_observations(slice(-2, None), neg_index_as_lookback=True)))
print(plain(chunk.get_actions([-1, -2], neg_index_as_lookback=True)))
chunk.add_env_step(
    observation=60,
    action=1,
    reward=1.0,
    infos={"i": 7},
    extra_model_outputs={"action_logp": 0.0, "state": {"h": np.array([7, 7])}},
)
chunk.add_env_step(
    observation=70,
    action=2,
    reward=2.0,
    infos={"i": 8},
    terminated=True,
    extra_model_outputs={"action_logp": 0.0, "state": {"h": np.array([8, 8])}},
)
print(len(chunk), chunk.is_terminated, chunk.is_truncated, chunk.is_done, chunk.get_return())
tried("a step after the end", lambda: chunk.add_env_step(observation=1, action=1, reward=1.0))
tried("cut of a finished one", lambda: chunk.cut())

print("== joined")
episode.concat_episode(chunk)
print(len(episode), episode.is_terminated, episode.get_return(), plain(episode.get_observations()))
other = SingleAgentEpisode(id_="e2", observations=[1, 2], actions=[0], rewards=[1.0], len_lookback_buffer=0)
tried("joined with another", lambda: episode.concat_episode(other))

print("== numpy")
as_numpy = episode.slice(slice(-2, None)).to_numpy()
print(
    as_numpy.is_numpy,
    as_numpy.get_observations().dtype,
    type(as_numpy.get_rewards()).__name__,
    as_numpy.get_rewards().dtype,
)
print(plain(as_numpy.get_observations()), plain(as_numpy.get_extra_model_outputs("state")))

print("== slices")
for cut in (slice(0, 3), slice(2, 5), slice(-3, None), slice(None, 2), slice(3, 3)):
    part = episode[cut]
    print(
        cut,
        len(part),
        part.t_started,
        part.t,
        part.is_terminated,
        plain(part.get_observations()),
        plain(part.get_rewards()),
    )
part = episode.slice(slice(3, 6), len_lookback_buffer=2)
print(len(part), plain(part.get_observations(slice(-2, 2), neg_index_as_lookback=True)))

print("== made of lists")
made = SingleAgentEpisode(
    id_="e3", observations=[10, 11, 12, 13, 14], actions=[0, 1, 2, 3], rewards=[1.0, 2.0, 3.0, 4.0],
    infos=[{}, {}, {}, {}, {}], truncated=True, len_lookback_buffer=2, t_started=7,
)  # fmt: skip
print(len(made), made.t, made.t_started, made.get_return(), made.is_truncated, plain(made.get_observations()))
print(plain(made.get_rewards(slice(-2, None), neg_index_as_lookback=True)))
tried(
    "lengths that do not fit",
    lambda: len(SingleAgentEpisode(observations=[1, 2, 3], actions=[1], rewards=[1.0, 2.0], len_lookback_buffer=0)),
)
tried("length and env_steps", lambda: (len(made), made.env_steps(), made.agent_steps()))
state = made.get_state()
back = SingleAgentEpisode.from_state(state)
print(len(back), back.id_, back.is_truncated, plain(back.get_observations()), back.t_started)
batch = SingleAgentEpisode(
    observations=[1, 2, 3], actions=[0, 1], rewards=[1.0, 2.0], terminated=True, len_lookback_buffer=0
)
print(sorted(batch.get_data_dict()))
print(batch.validate(), repr(batch).replace(batch.id_, "ID"))
