"""Connectors: pipelines, the same work by arrays and by episodes, normalisation of several runners."""

from __future__ import annotations

import logging
import pickle

import gymnasium as gym
import numpy as np
import pytest

from hpc.rllib.agent import Decider
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from hpc.rllib.connectors.connector_v2 import ConnectorV2, works_on_arrays
from hpc.rllib.connectors.env_to_module import (
    AddObservationsFromEpisodesToBatch,
    BatchIndividualItems,
    EnvToModulePipeline,
    FlattenObservations,
    FrameStackingEnvToModule,
    MeanStdFilter,
    PrevActionsPrevRewards,
    WriteObservationsToEpisodes,
)
from hpc.rllib.connectors.learner import (
    AddColumnsFromEpisodesToTrainBatch,
    AddNextObservationsFromEpisodesToTrainBatch,
    AddOneTsToEpisodesAndTruncate,
    ComputeReturnsToGo,
    FrameStackingLearner,
    LearnerConnectorPipeline,
)
from hpc.rllib.connectors.module_to_env import NormalizeAndClipActions
from hpc.rllib.connectors.rows import Acts, Rows
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode

BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = gym.spaces.Discrete(3)
STEPS = 4


def steps_of(space: gym.Space, count: int = STEPS, seed: int = 0) -> list:
    space.seed(seed)
    return [space.sample() for _ in range(count + 1)]


def by_rows(connector: ConnectorV2, observations: list) -> list:
    """What the module sees step by step, with arrays of one environment."""
    memory: dict = {}
    out = []
    for t, observation in enumerate(observations):
        rows = Rows(
            {key: np.asarray(part)[None] for key, part in observation.items()}
            if isinstance(observation, dict)
            else np.asarray(observation)[None],
            np.array([t == 0]),
            None if t == 0 else np.array([t % 3]),
            None if t == 0 else np.array([float(t)], np.float32),
            memory=memory,
        )
        connector.on_rows(rows)
        out.append(rows.obs)
    return out


def by_episode(connector: ConnectorV2, observations: list, space: gym.Space) -> list:
    """The same with an episode."""
    episode = SingleAgentEpisode(observation_space=space, action_space=ACTIONS)
    out = []
    for t, observation in enumerate(observations):
        if t == 0:
            episode.add_env_reset(observation)
        else:
            episode.add_env_step(observation, t % 3, float(t))
        batch = connector(rl_module=None, batch={}, episodes=[episode])
        out.append(batch["obs"][(episode.id_,)][0] if "obs" in batch else episode.get_observations(-1))
    return out


@pytest.mark.parametrize(
    ("make", "space"),
    [
        (FlattenObservations, gym.spaces.Dict({"b": gym.spaces.Discrete(3), "a": BOX})),
        (FrameStackingEnvToModule, gym.spaces.Box(0, 1, (2, 2, 1), np.float32)),
        (MeanStdFilter, BOX),
        (PrevActionsPrevRewards, BOX),
    ],
)
def test_arrays_and_episodes_give_the_same(make, space):
    more = {"num_frames": 3} if make is FrameStackingEnvToModule else {}
    more |= {"n_prev_actions": 2, "n_prev_rewards": 2} if make is PrevActionsPrevRewards else {}
    one, other = (make(space, ACTIONS, **more) for _ in range(2))
    observations = steps_of(space)
    for fast, slow in zip(by_rows(one, observations), by_episode(other, observations, space)):
        if isinstance(slow, dict):
            assert all(np.allclose(fast[key][0], slow[key]) for key in slow)
            assert one.observation_space.contains({key: part[0] for key, part in fast.items()})
        else:
            assert np.allclose(fast[0], slow)
            assert one.observation_space.contains(fast[0])
    assert works_on_arrays(one, "on_rows")


def test_frames_of_before_the_start_are_0():
    frames = by_rows(
        FrameStackingEnvToModule(gym.spaces.Box(0, 9, (1, 1, 1)), num_frames=3), [np.full((1, 1, 1), t) for t in (1, 2)]
    )
    assert frames[0].ravel().tolist() == [0, 0, 1]
    assert frames[1].ravel().tolist() == [0, 1, 2]


def test_the_figures_of_several_runners_make_those_of_one():
    data = np.random.default_rng(0).normal(3, 2, (3, 50, 2)).astype(np.float32)
    whole = MeanStdFilter(BOX)
    whole.on_rows(Rows(data.reshape(-1, 2), np.zeros(150, bool)))
    runners = [MeanStdFilter(BOX) for _ in range(3)]
    local = MeanStdFilter(BOX)
    for at in range(0, 50, 25):  # two rounds of sampling and merging
        for one, part in zip(runners, data):
            one.on_rows(Rows(part[at : at + 25], np.zeros(25, bool)))
        merged = local.merge_states([one.get_state() for one in runners])
        for one in (local, *runners):
            one.set_state(merged)
    wanted, found = whole.get_state()[None], local.get_state()[None]
    assert found["running_stats"][0]["count"] == 150
    for name in ("mean_array", "sum_sq_diff_array"):
        assert np.allclose(found["running_stats"][0][name], wanted["running_stats"][0][name])
    probe = Rows(np.array([[3.0, 3.0]], np.float32), np.zeros(1, bool))
    still = MeanStdFilter(BOX, update_stats=False)
    still.set_state(merged)
    still.on_rows(probe)
    assert np.abs(probe.obs).max() < 0.2
    assert still.get_state()[None]["running_stats"][0]["count"] == 150


def seeing(one: MeanStdFilter, records: np.ndarray) -> MeanStdFilter:
    one.on_rows(Rows(records.astype(np.float32), np.zeros(len(records), bool)))
    return one


def assert_same_figures(found: dict, wanted: dict) -> None:
    found, wanted = found[None]["running_stats"][0], wanted[None]["running_stats"][0]
    assert found["count"] == wanted["count"]
    for name in ("mean_array", "sum_sq_diff_array"):
        assert np.allclose(found[name], wanted[name])


def test_a_state_that_comes_late_is_not_counted_twice():
    data = np.random.default_rng(0).normal(3, 2, (4, 10, 2))
    one, other, local = (MeanStdFilter(BOX) for _ in range(3))
    first, slow = seeing(one, data[0]).get_state(), seeing(other, data[1]).get_state()
    late = seeing(one, data[2]).get_state()  # asked for before the merge of the first ones came
    local.set_state(local.merge_states([first, slow]))
    merged = local.merge_states([late, other.get_state()])
    assert_same_figures(merged, seeing(MeanStdFilter(BOX), data[:3].reshape(-1, 2)).get_state())
    for taker in (local, one, other):
        taker.set_state(merged)
    merged = local.merge_states([seeing(one, data[3]).get_state(), other.get_state()])
    assert_same_figures(merged, seeing(MeanStdFilter(BOX), data.reshape(-1, 2)).get_state())


def test_what_is_seen_between_a_state_and_its_merge_counts_in_the_next_one():
    data = np.random.default_rng(4).normal(2.0, 3.0, (6, 40, 2))
    one, other, local = (MeanStdFilter(BOX) for _ in range(3))
    states = [seeing(one, data[0]).get_state(), seeing(other, data[1]).get_state()]
    merged = local.merge_states(states)
    local.set_state(merged)
    seeing(one, data[2])
    # A second state is on its way when the first merge comes; the merge of that one comes after more was seen.
    second = one.get_state()
    one.set_state(merged)
    assert_same_figures(one.get_state(), seeing(MeanStdFilter(BOX), data[:3].reshape(-1, 2)).get_state())
    other.set_state(merged)
    merged = local.merge_states([second, seeing(other, data[3]).get_state()])
    local.set_state(merged)
    assert_same_figures(merged, seeing(MeanStdFilter(BOX), data[:4].reshape(-1, 2)).get_state())
    seeing(one, data[4]).set_state(merged)
    assert_same_figures(one.get_state(), seeing(MeanStdFilter(BOX), data[:5].reshape(-1, 2)).get_state())
    merged = local.merge_states([one.get_state(), seeing(other, data[5]).get_state()])
    assert merged[None]["running_stats"][0]["count"] == 240
    assert_same_figures(merged, seeing(MeanStdFilter(BOX), data.reshape(-1, 2)).get_state())
    one.set_state(MeanStdFilter(BOX).get_state())
    assert one.get_state()[None]["running_stats"][0]["count"] == 0


def test_states_of_before_and_after_a_merge_was_taken_count_once():
    data = np.random.default_rng(5).normal(2.0, 3.0, (4, 10, 2))
    one, local = MeanStdFilter(BOX), MeanStdFilter(BOX)
    first = local.merge_states([seeing(one, data[0]).get_state()])
    local.set_state(first)
    # Two states are on their way, and the first merge is taken between them.
    early = seeing(one, data[1]).get_state()
    one.set_state(first)
    late = seeing(one, data[2]).get_state()
    second = local.merge_states([early])
    local.set_state(second)
    third = local.merge_states([late])
    local.set_state(third)
    assert_same_figures(third, seeing(MeanStdFilter(BOX), data[:3].reshape(-1, 2)).get_state())
    seeing(one, data[3])
    for merged in (second, second, third, third):  # which a runner may be given again
        one.set_state(merged)
        assert_same_figures(one.get_state(), seeing(MeanStdFilter(BOX), data.reshape(-1, 2)).get_state())
    # A filter that merges for the first time is told what the figures have that it began from.
    for begun in (local, MeanStdFilter(BOX)):
        begun.set_state(third)
        merged = begun.merge_states([one.get_state()])
        assert_same_figures(merged, seeing(MeanStdFilter(BOX), data.reshape(-1, 2)).get_state())


def test_what_the_merging_filter_has_seen_counts_once():
    one = seeing(MeanStdFilter(BOX), np.ones((5, 2)))
    one.get_state()  # as a checkpoint takes it
    seeing(one, np.zeros((4, 2)))
    for count in (9, 12):
        one.set_state(one.merge_states([]))
        assert one.get_state()[None]["running_stats"][0]["count"] == count
        seeing(one, np.zeros((3, 2)))


def test_runners_that_never_take_a_merge_are_counted_once():
    data = np.random.default_rng(1).normal(3, 2, (3, 10, 2))
    one, local = MeanStdFilter(BOX), MeanStdFilter(BOX)
    for records in data:
        merged = local.merge_states([seeing(one, records).get_state()])
        local.set_state(merged)
    assert_same_figures(merged, one.get_state())


def test_a_merge_that_nobody_took_counts_for_nothing():
    one, local = seeing(MeanStdFilter(BOX), np.ones((5, 2))), MeanStdFilter(BOX)
    local.merge_states([one.get_state()])
    assert local.merge_states([one.get_state()])[None]["running_stats"][0]["count"] == 5


def test_copies_of_one_filter_are_several_sources():
    one = MeanStdFilter(BOX)
    copies = [seeing(pickle.loads(pickle.dumps(one)), np.full((5, 2), at)) for at in range(2)]
    assert one.merge_states([copy.get_state() for copy in copies])[None]["running_stats"][0]["count"] == 10


def test_figures_are_those_of_their_key():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-9, 9, (1,)), "b": gym.spaces.Box(-9, 9, (1,))})
    made = MeanStdFilter(space)
    episode = SingleAgentEpisode(observation_space=space)
    episode.add_env_reset({"b": np.array([5.0]), "a": np.array([1.0])})
    made(rl_module=None, batch={}, episodes=[episode])
    assert [stat["mean_array"].tolist() for stat in made.get_state()[None]["running_stats"]] == [[1.0], [5.0]]


class Custom(ConnectorV2):
    """A connector as users write them."""

    def __call__(self, *, rl_module, batch, episodes, **kwargs):
        batch["custom"] = [1]
        return batch


class Changed(FlattenObservations):
    """A shipped one with another way to work on episodes."""

    def __call__(self, **kwargs):
        return super().__call__(**kwargs)


def test_who_writes_only_a_call_does_not_work_on_arrays():
    assert not works_on_arrays(Custom(BOX), "on_rows")
    assert not works_on_arrays(Changed(BOX), "on_rows")
    pipeline = EnvToModulePipeline(BOX, ACTIONS, connectors=[FlattenObservations()])
    assert works_on_arrays(pipeline, "on_rows")
    pipeline.append(Custom())
    assert not works_on_arrays(pipeline, "on_rows")


def test_one_call_does_not_act_past_the_call_of_a_changed_connector():
    pipelines = ConnectorPipelineV2(connectors=[Changed(BOX)]), ConnectorPipelineV2()
    with pytest.raises(ValueError, match="Changed: these connectors work on episodes only"):
        Decider(PPOConfig(), lambda name: None, *pipelines)


def test_pieces_are_put_in_and_taken_out_by_name_and_class(caplog):
    pipeline = EnvToModulePipeline(BOX, ACTIONS, connectors=[AddObservationsFromEpisodesToBatch()])
    pipeline.append(BatchIndividualItems())
    pipeline.prepend(MeanStdFilter())
    assert pipeline.insert_before("BatchIndividualItems", WriteObservationsToEpisodes()) is pipeline[3]
    pipeline.insert_after(MeanStdFilter, FlattenObservations())
    names = ["MeanStdFilter", "FlattenObservations", "AddObservationsFromEpisodesToBatch"]
    names += ["WriteObservationsToEpisodes", "BatchIndividualItems"]
    assert [piece.name for piece in pipeline.connectors] == names
    assert pipeline.observation_space.shape == (2,)
    assert pipeline[FlattenObservations][0].input_observation_space.high[0] == 10.0
    pipeline.remove("MeanStdFilter")
    assert pipeline[FlattenObservations][0].input_observation_space.high[0] == 1.0
    with caplog.at_level(logging.WARNING, "hpc.rllib"):
        pipeline.remove("Nothing")
    assert "non-existent connector Nothing" in caplog.text
    with pytest.raises(ValueError, match="Can not find connector"):
        pipeline.insert_after("Nothing", Custom())
    assert str(pipeline).split("\n")[1] == "    FlattenObservations"


def test_a_connector_that_returns_no_batch_is_named():
    class Forgetful(Custom):
        def __call__(self, **kwargs):
            return None

    with pytest.raises(ValueError, match="Forgetful must be a dict"):
        ConnectorPipelineV2(connectors=[Forgetful()])(rl_module=None, batch={}, episodes=[])


def test_a_pipeline_is_made_again_of_its_arguments():
    pipeline = EnvToModulePipeline(BOX, ACTIONS, connectors=[MeanStdFilter(clip_by_value=3.0), FlattenObservations()])
    args, kwargs = pipeline.get_ctor_args_and_kwargs()
    again = EnvToModulePipeline(*args, **kwargs)
    assert str(again) == str(pipeline)
    assert again[0].clip_by_value == 3.0
    assert again.observation_space == pipeline.observation_space


def test_actions_are_stretched_clipped_and_shifted():
    space = gym.spaces.Box(0.0, 4.0, (1,), np.float32)

    def for_env(connector: NormalizeAndClipActions, actions: list) -> list:
        acts = Acts(np.array(actions), np.array(actions))
        connector.on_actions(acts)
        return acts.for_env.tolist()

    stretch = NormalizeAndClipActions(BOX, space, normalize_actions=True, clip_actions=False)
    assert for_env(stretch, [[-1.0], [0.0], [3.0]]) == [[0.0], [2.0], [4.0]]
    clip = NormalizeAndClipActions(BOX, space, normalize_actions=False, clip_actions=True)
    assert for_env(clip, [[-1.0], [5.0]]) == [[0.0], [4.0]]
    shift = NormalizeAndClipActions(BOX, gym.spaces.Discrete(3, start=5), normalize_actions=True, clip_actions=False)
    assert for_env(shift, [0, 2]) == [5, 7]


def episode(steps: int = 3) -> SingleAgentEpisode:
    out = SingleAgentEpisode("e")
    out.add_env_reset(np.zeros((2, 2, 1)))
    for t in range(1, steps + 1):
        out.add_env_step(np.full((2, 2, 1), t), t, float(t), terminated=t == steps)
    return out.to_numpy()


def test_learner_connectors_make_columns_of_episodes():
    pipeline = LearnerConnectorPipeline(
        connectors=[
            FrameStackingLearner(num_frames=2),
            AddColumnsFromEpisodesToTrainBatch(),
            AddNextObservationsFromEpisodesToTrainBatch(),
            ComputeReturnsToGo(gamma=0.5),
            BatchIndividualItems(),
        ]
    )
    batch = pipeline(rl_module=None, batch={}, episodes=[episode()], shared_data={})
    assert batch["obs"].shape == (3, 2, 2, 2)
    assert batch["obs"][:, 0, 0].tolist() == [[0, 0], [0, 1], [1, 2]]
    assert batch["new_obs"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert batch["terminateds"].tolist() == [False, False, True]
    assert batch["returns_to_go"].tolist() == [2.75, 3.5, 3.0]


def test_one_more_step_that_no_loss_counts():
    one = episode()
    batch = AddOneTsToEpisodesAndTruncate()(rl_module=None, batch={}, episodes=[one], shared_data={})
    assert (len(one), one.is_truncated, one.get_rewards(-1)) == (4, True, 0.0)
    assert batch["loss_mask"][("e_0",)] == [True, True, True, False]
    assert batch["terminateds"][("e_0",)] == [False, False, True, False]
