"""Episodes of one agent and of several: what getters give, cuts, chunks, slices, and what is refused.

Expected values are those that Ray 2.60 prints for the same calls.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from hpc.rllib.env.multi_agent_episode import MultiAgentEnvError, MultiAgentEpisode
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode


def ten_steps(**how) -> SingleAgentEpisode:
    episode = SingleAgentEpisode(**how)
    episode.add_env_reset(0)
    for t in range(10):
        episode.add_env_step(t + 1, t % 3, float(t), extra_model_outputs={"logp": -t})
    return episode


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize(
    ("indices", "how", "wanted"),
    [
        (slice(-3, None), {}, [7, 8, 9]),
        (slice(-4, 0), {"neg_index_as_lookback": True, "fill": 0.0}, [0, 0, 0, 0]),
        (slice(-2, 2), {"neg_index_as_lookback": True, "fill": -1.0}, [-1, -1, 0, 1]),
        (slice(8, 12), {"fill": -1.0}, [8, 9, -1, -1]),
        (slice(8, 12), {}, [8, 9]),
        (slice(5, 2, -1), {}, [5, 4, 3]),
        (slice(1, 8, 3), {}, [1, 4, 7]),
        ([0, -1], {}, [0, 9]),
        (-1, {}, 9),
        (12, {"fill": 5.0}, 5),
    ],
)
def test_getters_take_indices_ranges_and_fills(as_arrays, indices, how, wanted):
    episode = ten_steps()
    episode = episode.to_numpy() if as_arrays else episode
    assert np.array_equal(episode.get_rewards(indices, **how), wanted)


def test_discrete_parts_become_one_hot_and_are_filled():
    episode = ten_steps(action_space=gym.spaces.Discrete(3))
    found = episode.get_actions(slice(-1, 2), neg_index_as_lookback=True, fill=0.0, one_hot_discrete=True)
    assert np.array_equal(found, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"gym\.Space was NOT provided"):
        ten_steps().get_actions(-1, one_hot_discrete=True)


def test_a_cut_goes_on_with_a_lookback_and_the_chunks_make_the_whole():
    first = ten_steps()
    first.custom_data["seen"] = 1
    chunk = first.cut(len_lookback_buffer=2)
    assert (len(chunk), chunk.t_started, chunk.t, chunk.custom_data) == (0, 10, 10, {"seen": 1})
    assert chunk.get_rewards(slice(-2, 0), neg_index_as_lookback=True) == [8.0, 9.0]
    chunk.add_env_step(11, 0, 5.0, terminated=True, extra_model_outputs={"logp": 0})
    first.concat_episode(chunk)
    assert (len(first), first.is_terminated, first.get_return()) == (11, True, 50.0)
    assert first.get_observations(-1) == 11


def test_a_slice_keeps_the_end_only_where_it_reaches_it():
    episode = ten_steps()
    episode.add_env_step(11, 0, 1.0, truncated=True, extra_model_outputs={"logp": 0})
    part = episode[2:5]
    assert (len(part), part.t_started, part.is_done, part.get_observations()) == (3, 2, False, [2, 3, 4, 5])
    assert episode[8:].is_truncated
    with_past = episode.slice(slice(4, 6), len_lookback_buffer=3)
    assert with_past.get_rewards(-1, neg_index_as_lookback=True) == 3.0


def test_a_done_episode_takes_nothing_more():
    episode = ten_steps()
    episode.add_env_step(11, 0, 1.0, terminated=True, extra_model_outputs={"logp": 0})
    with pytest.raises(AssertionError, match="already done"):
        episode.add_env_step(12, 0, 1.0)


def test_writing_holds_the_number_of_records():
    episode = ten_steps()
    episode.set_rewards(new_data=[1.0, 2.0], at_indices=slice(0, 2))
    episode.set_observations(new_data=99, at_indices=-1)
    assert (episode.get_rewards(slice(0, 2)), episode.get_observations(-1)) == ([1.0, 2.0], 99)
    with pytest.raises(IndexError, match="does NOT have the same size"):
        episode.set_rewards(new_data=[1.0], at_indices=slice(0, 2))


def test_state_makes_an_equal_episode():
    episode = ten_steps(action_space=gym.spaces.Discrete(3)).to_numpy()
    again = SingleAgentEpisode.from_state(episode.get_state())
    assert again.rewards == episode.rewards
    assert again.actions == episode.actions
    assert (again.id_, len(again)) == (episode.id_, 10)


# ---------------------------------------------------------------- several agents


def three_agents() -> MultiAgentEpisode:
    """Agent b waits in the second step, a and c have hanging actions after the third."""
    episode = MultiAgentEpisode("e")
    episode.add_env_reset(observations={"a": 0, "b": 10})
    episode.add_env_step({"a": 1}, {"a": 100, "b": 110}, {"a": 1, "b": 2})
    episode.add_env_step({"a": 2, "b": 12, "c": 22}, {"a": 101}, {"a": 1, "b": 3, "c": 9})
    episode.add_env_step({"b": 13}, {"a": 102, "b": 112, "c": 122}, {"a": 1, "b": 5})
    return episode


def test_records_by_steps_of_the_environment():
    episode = three_agents()
    assert episode.get_observations() == {"a": [0, 1, 2], "b": [10, 12, 13], "c": [22]}
    assert episode.get_observations(-1) == {"b": 13}
    assert episode.get_observations(return_list=True) == [
        {"a": 0, "b": 10},
        {"a": 1},
        {"a": 2, "b": 12, "c": 22},
        {"b": 13},
    ]
    assert episode.get_actions() == {"a": [100, 101, 102], "b": [110, 112], "c": [122]}
    assert episode.get_actions(-1) == {"a": 102, "b": 112, "c": 122}
    assert episode.get_rewards() == {"a": [1, 1, 1], "b": [5, 5], "c": [0.0]}
    assert episode.get_observations(1, fill=7) == {"a": 1, "b": 7, "c": 7}
    assert episode.get_observations(-1, env_steps=False) == {"a": 2, "b": 13, "c": 22}
    assert (episode.get_agents_to_act(), episode.agent_steps(), len(episode)) == ({"b"}, 4, 3)


def test_hanging_actions_go_on_in_the_next_chunk():
    episode = three_agents()
    chunk = episode.cut()
    chunk.add_env_step({"a": 3, "c": 23}, {"b": 113}, {"a": 1, "b": 2, "c": 3})
    assert chunk.agent_episodes["a"].get_rewards() == [2]
    assert chunk.agent_episodes["a"].get_actions() == [102]
    episode.concat_episode(chunk)
    assert episode.get_actions() == {"a": [100, 101, 102], "b": [110, 112, 113], "c": [122]}
    assert episode.get_rewards(return_list=True)[2] == {"a": 2, "b": 5, "c": 3}
    part = episode[1:3]
    assert part.get_observations(return_list=True) == [{"a": 1}, {"a": 2, "b": 12, "c": 22}, {"b": 13}]


def test_agents_end_alone_and_all_at_once():
    episode = MultiAgentEpisode()
    episode.add_env_reset(observations={"a": 0, "b": 1})
    episode.add_env_step({"b": 2}, {"a": 0, "b": 0}, {"a": 1, "b": 1}, terminateds={"a": True, "__all__": False})
    assert episode.get_terminateds() == {"a": True, "b": False, "__all__": False}
    assert episode.get_agents_to_act() == {"b"}
    with pytest.raises(MultiAgentEnvError, match="still received data"):
        episode.add_env_step({"a": 4}, {"a": 1}, {"a": 1})
    with pytest.raises(MultiAgentEnvError, match="did NOT receive any reward"):
        three_agents().add_env_step({"b": 4}, {"b": 1}, {})
    episode = three_agents()
    episode.add_env_step({"a": 4, "b": 14, "c": 5}, {"b": 3}, {"a": 1, "b": 1, "c": 1}, terminateds={"__all__": True})
    assert episode.is_done and all(one.is_terminated for one in episode.agent_episodes.values())


@pytest.mark.parametrize("everyone", [{}, {"__all__": True}])
def test_agents_are_truncated_as_they_say_when_all_are_done(everyone):
    episode = MultiAgentEpisode()
    episode.add_env_reset(observations={"a": 0, "b": 1})
    ends, cuts = {"a": True, **everyone}, {"b": True}
    episode.add_env_step({"a": 1, "b": 2}, {"a": 0, "b": 0}, {"a": 1, "b": 1}, terminateds=ends, truncateds=cuts)
    assert episode.get_terminateds() == {"a": True, "b": False, "__all__": True}
    assert episode.get_truncateds() == {"a": False, "b": True, "__all__": False}


def test_an_agent_that_is_seen_first_when_the_others_end_goes_on():
    episode = MultiAgentEpisode()
    episode.add_env_reset(observations={"a": 0})
    episode.add_env_step({"a": 1, "b": 2}, {"a": 0}, {"a": 1}, terminateds={"a": True, "__all__": False})
    assert not episode.is_done
    assert episode.get_agents_to_act() == {"b"}


def test_a_truncated_agent_needs_a_last_observation():
    episode = MultiAgentEpisode()
    episode.add_env_reset(observations={"a": 0, "b": 1})
    with pytest.raises(MultiAgentEnvError, match=r"last \(truncation\) observation"):
        episode.add_env_step({"b": 2}, {"a": 0, "b": 0}, {"a": 1, "b": 1}, truncateds={"a": True, "__all__": False})


def test_a_module_is_asked_for_once_an_episode():
    asked = []

    def mapping(agent_id, episode):
        asked.append(agent_id)
        return f"module_{agent_id}"

    episode = MultiAgentEpisode(agent_to_module_mapping_fn=mapping)
    episode.add_env_reset(observations={"a": 0})
    assert episode.module_for("a") == episode.agent_episodes["a"].module_id == "module_a"
    assert asked == ["a"]
