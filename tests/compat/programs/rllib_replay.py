"""Buffers of episodes: what they hold, how much they drop, what comes out."""
# needs: torch, gymnasium

import numpy as np

from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
from hpc.rllib.utils.replay_buffers.prioritized_episode_buffer import PrioritizedEpisodeReplayBuffer


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, "refused")


def episode(start, length, done=True, name=None):
    return SingleAgentEpisode(
        id_=name or f"e{start}", observations=[np.float32(start + t) for t in range(length + 1)],
        actions=[t % 2 for t in range(length)], rewards=[float(t) for t in range(length)], terminated=done,
        len_lookback_buffer=0, t_started=0,
    )  # fmt: skip


print("== plain")
buffer = EpisodeReplayBuffer(capacity=50)
for number in range(4):
    buffer.add(episode(100 * number, 10))
print(len(buffer), buffer.get_num_timesteps(), buffer.get_num_episodes(), buffer.get_added_timesteps())
buffer.add([episode(1000, 25, done=False, name="long")])
print(len(buffer) <= 50, buffer.get_num_timesteps() <= 50, buffer.get_added_timesteps())
more = SingleAgentEpisode(
    id_="long", observations=[np.float32(1025 + t) for t in range(4)], actions=[0, 1, 0], rewards=[0.0, 1.0, 2.0],
    terminated=True, len_lookback_buffer=0, t_started=25,
)  # fmt: skip
buffer.add(more)
print(len(buffer) <= 50, buffer.get_added_timesteps())
batch = buffer.sample(batch_size_B=6, batch_length_T=4)
print(sorted(batch), batch["obs"].shape, batch["is_first"].shape, batch["obs"].dtype)
print(bool(((np.diff(batch["obs"], axis=1) == 1) | batch["is_first"][:, 1:]).all()))
out = buffer.sample(num_items=7, n_step=1, gamma=0.99, sample_episodes=True)
print(len(out), {type(one).__name__ for one in out}, {len(one) for one in out})
print(all(one.get_observations(1) == one.get_observations(0) + 1 for one in out))
out = buffer.sample(num_items=200, n_step=3, gamma=0.5, sample_episodes=True)
lengths = sorted({int(one.get_observations(-1) - one.get_observations(0)) for one in out})
print(len(out), lengths, sorted(out[0].extra_model_outputs))
whole = [one for one in out if one.get_observations(-1) - one.get_observations(0) == 3]
firsts = [(float(one.get_observations(0)) % 100, one.get_rewards(0)) for one in whole if one.get_observations(0) < 1000]
print(all(abs(reward - (t + 0.5 * (t + 1) + 0.25 * (t + 2))) < 1e-6 for t, reward in firsts))
print(buffer.get_sampled_timesteps() > 0)
state = buffer.get_state()
other = EpisodeReplayBuffer(capacity=50)
other.set_state(state)
print(len(other) == len(buffer), other.get_num_episodes() == buffer.get_num_episodes(), other.get_added_timesteps())

print("== by priority")
buffer = PrioritizedEpisodeReplayBuffer(capacity=30, alpha=1.0)
for number in range(3):
    buffer.add(episode(100 * number, 10))
print(len(buffer), buffer.get_num_timesteps(), buffer.get_num_episodes())
out = buffer.sample(num_items=8, n_step=1, beta=1.0, gamma=0.99)
print(len(out), sorted(out[0].extra_model_outputs), {len(one) for one in out})
print({round(float(one.get_extra_model_outputs("weights", 0)), 4) for one in out})
buffer.update_priorities(np.full(8, 1000.0))
seen = {float(one.get_observations(0)) for one in out}
again = buffer.sample(num_items=300, n_step=1, beta=1.0, gamma=0.99)
share = np.mean([float(one.get_observations(0)) in seen for one in again])
print(share > 0.95)
buffer.add(episode(500, 20))
print(len(buffer) <= 30, buffer.get_num_timesteps() == len(buffer))
out = buffer.sample(num_items=50, n_step=(2, 4), beta=0.4, gamma=0.9)
print({int(one.get_extra_model_outputs("n_step", 0)) for one in out} <= {1, 2, 3, 4})
tried("empty", lambda: EpisodeReplayBuffer(capacity=5).sample(num_items=2, sample_episodes=True))
tried("no alpha", lambda: PrioritizedEpisodeReplayBuffer(capacity=5, alpha=-1.0))
