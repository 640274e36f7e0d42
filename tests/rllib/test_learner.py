"""Learners: train batches, minibatches, gradients, schedules, state, and modules that come and go."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.connectors.learner import ComputeReturnsToGo
from hpc.rllib.core import ALL_MODULES, Columns
from hpc.rllib.core.default_modules.ppo import DefaultPPOTorchRLModule
from hpc.rllib.core.learner.batches import Minibatches, rows_of, sequences_of
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner
from hpc.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from hpc.rllib.core.rl_module.apis import SelfSupervisedLossAPI
from hpc.rllib.env.fragment import Fragment, Sample
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.trees import map_tree

BOX = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
TWO = gym.spaces.Discrete(2)


class Values(TorchLearner):
    """A learner that fits values to rewards, and remembers its minibatches."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        self.seen = getattr(self, "seen", [])
        self.seen.append((module_id, batch))
        values = self.module[module_id].unwrapped().compute_values(batch, embeddings=fwd_out[Columns.EMBEDDINGS])
        loss = (values - batch[Columns.REWARDS]).square()
        mask = batch.get(Columns.LOSS_MASK)
        return loss.mean() if mask is None else loss[mask].mean()


def config_of(**training: Any) -> AlgorithmConfig:
    """A config that a learner of this file takes."""
    return AlgorithmConfig().environment("CartPole-v1").training(lr=0.01, **training).debugging(seed=3)


def spec_of(**model_config: Any) -> RLModuleSpec:
    """A small module."""
    return RLModuleSpec(
        module_class=DefaultPPOTorchRLModule,
        observation_space=BOX,
        action_space=TWO,
        model_config={"fcnet_hiddens": [8], **model_config},
    )


def learner_of(config: AlgorithmConfig | None = None, cls: type = Values, ids: tuple[str, ...] = ("p",), **model: Any):
    """A built learner of modules with these ids."""
    spec = MultiRLModuleSpec(rl_module_specs={module_id: spec_of(**model) for module_id in ids})
    learner = cls(config=config or config_of(), module_spec=spec)
    learner.build()
    return learner


def fragment_of(rows: int = 6, width: int = 3, seed: int = 0, **columns: Any) -> Fragment:
    """A fragment with an episode's end in its first column, followed by a reset row."""
    rng = np.random.default_rng(seed)
    mask, first, terminated = (np.zeros((rows, width), bool) for _ in range(3))
    mask[:] = True
    first[0] = True
    if rows > 4:
        terminated[2, 0], mask[3, 0], first[4, 0] = True, False, True
    given = {
        Columns.OBS: rng.standard_normal((rows + 1, width, 4)).astype(np.float32),
        Columns.REWARDS: rng.standard_normal((rows, width)).astype(np.float32),
        Columns.ACTIONS: rng.integers(2, size=(rows, width)),
        Columns.TERMINATEDS: terminated,
        Columns.TRUNCATEDS: np.zeros_like(terminated),
        Columns.LOSS_MASK: mask,
        "first": first,
        **columns,
    }
    return Fragment(given, rows, width)


def sample_of(*ids: str, **kwargs: Any) -> Sample:
    """A sample of modules with these ids."""
    fragments = {module_id: fragment_of(**kwargs) for module_id in ids or ("p",)}
    return Sample(fragments, env_steps=max(one.valid_steps for one in fragments.values()))


def results_of(learner: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What an update logged, as numbers."""
    return MetricsLogger.peek_results(learner.update(*args, **kwargs))


def weights_of(learner: Any) -> np.ndarray:
    """All weights in one array."""
    return np.concatenate([weight.ravel() for state in learner.get_weights().values() for weight in state.values()])


# batches


def test_rows_leave_out_what_is_no_step() -> None:
    fragment = fragment_of()
    batch = learner_of().prepare([Sample({"p": fragment}, 17)])["p"]
    assert batch[Columns.OBS].shape == (17, 4)
    assert Columns.LOSS_MASK not in batch
    mask = fragment.loss_mask
    np.testing.assert_array_equal(batch[Columns.OBS], fragment[Columns.OBS][:-1][mask])
    np.testing.assert_array_equal(batch[Columns.NEXT_OBS], fragment[Columns.OBS][1:][mask])


def test_rows_by_column_are_those_of_episodes() -> None:
    fragment = fragment_of()
    rows = rows_of({Columns.REWARDS: fragment[Columns.REWARDS], Columns.LOSS_MASK: fragment.loss_mask}, by_column=True)
    expected = np.concatenate([fragment[Columns.REWARDS][a:b, c] for c, a, b in fragment.segments()])
    np.testing.assert_array_equal(rows[Columns.REWARDS], expected)


def test_sequences_end_with_episodes_and_are_padded() -> None:
    fragment = fragment_of()
    states = {"h": np.arange(18, dtype=np.float32).reshape(6, 3, 1)}
    columns = {"x": np.arange(1, 19).reshape(6, 3), Columns.STATE_IN: states, Columns.LOSS_MASK: fragment.loss_mask}
    out = sequences_of(columns, fragment.segments(), max_seq_len=4)
    # Column 0 has rows 0 to 2 and 4 to 5, the others 0 to 3 and 4 to 5.
    np.testing.assert_array_equal(out[Columns.LOSS_MASK].sum(1), [3, 2, 4, 2, 4, 2])
    np.testing.assert_array_equal(out["x"][0], [1, 4, 7, 0])
    np.testing.assert_array_equal(out["x"][1], [13, 16, 0, 0])
    np.testing.assert_array_equal(out[Columns.STATE_IN]["h"][:, 0], [0, 12, 1, 13, 2, 14])


def test_a_stateful_module_gets_sequences_of_its_length() -> None:
    learner = learner_of(use_lstm=True, lstm_cell_size=4, max_seq_len=4)
    state = {name: np.zeros((6, 3, 1, 4), np.float32) for name in ("h", "c")}
    sample = sample_of(**{Columns.STATE_IN: state})
    batch = learner.prepare([sample])["p"]
    assert batch[Columns.OBS].shape == (6, 4, 4)
    assert batch[Columns.STATE_IN]["h"].shape == (6, 1, 4)
    assert batch[Columns.LOSS_MASK].sum() == 17
    assert np.isfinite(results_of(learner, [sample], minibatch_size=4, num_epochs=2)["p"]["total_loss"])


def test_fragments_stay_side_by_side_if_a_learner_wants_them() -> None:
    class Whole(Values):
        batch_layout = "fragments"

    learner = learner_of(cls=Whole)
    learner.update([sample_of(), sample_of(seed=1)], minibatch_size=2)
    shapes = [tuple(batch[Columns.REWARDS].shape) for _, batch in learner.seen]
    assert shapes == [(6, 2)] * 3
    assert learner.seen[0][1][Columns.OBS].shape == (6, 2, 4)


def test_minibatches_cover_each_row_once_in_each_pass() -> None:
    batch = {"x": torch.arange(10)}
    minis = Minibatches({"a": batch}, epochs=3, size=4, permutation=lambda n: torch.randperm(n), cat=torch.cat)
    rows = torch.cat([mini["a"]["x"] for mini in minis])
    assert len(rows) == 32
    for start in (0, 10, 20):
        assert sorted(rows[start : start + 10].tolist()) == list(range(10))
    in_order = Minibatches({"a": batch}, epochs=1, size=5, cat=torch.cat)
    assert [mini["a"]["x"].tolist() for mini in in_order] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_large_batch_is_shuffled_row_by_row(monkeypatch) -> None:
    monkeypatch.setattr("hpc.rllib.core.learner.batches.SHUFFLED_WHOLE_BYTES", 0)
    minis = Minibatches({"a": {"x": torch.arange(10)}}, epochs=2, size=5, permutation=torch.randperm, cat=torch.cat)
    rows = [mini["a"]["x"] for mini in minis]
    assert sorted(torch.cat(rows[:2]).tolist()) == list(range(10))
    assert sorted(torch.cat(rows[2:]).tolist()) == list(range(10))


def test_modules_with_fewer_rows_go_over_them_again() -> None:
    batches = {"a": {"x": torch.arange(8)}, "b": {"x": torch.arange(2)}}
    minis = list(Minibatches(batches, epochs=1, size=4, cat=torch.cat))
    assert [len(mini["a"]["x"]) for mini in minis] == [4, 4]
    assert [len(mini["b"]["x"]) for mini in minis] == [2, 2]


def test_the_number_of_minibatches_can_be_given() -> None:
    learner = learner_of()
    learner.update([sample_of()], minibatch_size=5, num_total_minibatches=7)
    assert len(learner.seen) == 7


def test_a_stateful_module_has_as_many_times_fewer_minibatches_as_its_sequences_are_long() -> None:
    learner = learner_of(use_lstm=True, lstm_cell_size=4, max_seq_len=4)
    state = {name: np.zeros((6, 3, 1, 4), np.float32) for name in ("h", "c")}
    sample = sample_of(**{Columns.STATE_IN: state})
    # Of 18 steps in minibatches of 2 rows: 9, but of 6 sequences it is 3, with each pass.
    learner.update([sample], minibatch_size=2, num_epochs=2, num_total_minibatches=18)
    assert len(learner.seen) == 2 * 3


# updates


def test_updates_fit_and_say_what_they_did() -> None:
    learner = learner_of(config_of(grad_clip=100.0))
    sample = sample_of()
    first = results_of(learner, [sample])
    for _ in range(150):
        last = results_of(learner, [sample], num_epochs=2, minibatch_size=9, shuffle_batch_per_epoch=True)
    assert last["p"]["total_loss"] < 0.2 * first["p"]["total_loss"]
    mine, everyone = last["p"], last[ALL_MODULES]
    assert mine["default_optimizer_learning_rate"] == pytest.approx(0.01)
    assert mine["gradients_default_optimizer_global_norm"] > 0
    assert mine["num_module_steps_trained"] == everyone["num_module_steps_trained"] == 36
    assert mine["module_train_batch_size_mean"] == 9
    assert mine["weights_seq_no"] == 151
    assert everyone["num_env_steps_trained"] == 36
    assert everyone["num_trainable_parameters"] == 67
    assert mine["diff_num_grad_updates_vs_sampler_policy"] == 151


def test_episodes_and_batches_train_as_their_samples_do() -> None:
    sample = sample_of()
    by_sample, by_episodes, by_batch = learner_of(), learner_of(), learner_of()
    by_sample.update([sample])
    episodes = sample.single_agent_episodes()
    for episode in episodes:
        episode.module_id = "p"
    by_episodes.update(episodes=episodes)
    by_batch.update(batch=by_batch.prepare([sample]))
    np.testing.assert_allclose(weights_of(by_episodes), weights_of(by_sample), atol=1e-6)
    np.testing.assert_array_equal(weights_of(by_batch), weights_of(by_sample))


def test_what_is_given_to_update_is_checked() -> None:
    learner = learner_of()
    with pytest.raises(ValueError, match="either samples"):
        learner.update()
    with pytest.raises(ValueError, match="unknown"):
        learner.update(batch={"unknown": {"obs": np.zeros((1, 4))}})
    with pytest.raises(TypeError, match="typo"):
        learner.update([sample_of()], typo=1)
    with pytest.raises(ValueError, match="build"):
        Values(config=config_of(), module_spec=spec_of()).update([sample_of()])


def test_only_chosen_modules_are_trained() -> None:
    config = config_of().multi_agent(
        policies={"a", "b"}, policies_to_train=["a"], policy_mapping_fn=lambda *a, **k: "a"
    )
    learner = learner_of(config, ids=("a", "b"))
    before = learner.get_weights()
    results = results_of(learner, [sample_of("a", "b")])
    after = learner.get_weights()
    assert "total_loss" in results["a"] and "total_loss" not in results.get("b", {})
    assert any(not np.array_equal(before["a"][name], after["a"][name]) for name in after["a"])
    assert all(np.array_equal(before["b"][name], after["b"][name]) for name in after["b"])


def test_a_sample_without_a_step_changes_nothing() -> None:
    learner = learner_of()
    before = weights_of(learner)
    fragment = fragment_of(rows=2)
    fragment.loss_mask[:] = False
    learner.update([Sample({"p": fragment}, 0)])
    np.testing.assert_array_equal(weights_of(learner), before)


def test_learning_rates_follow_their_schedule() -> None:
    learner = learner_of(config_of().training(lr=[[0, 0.1], [100, 0.0]]))
    for step, rate in ((0, 0.1), (50, 0.05), (200, 0.0)):
        results = results_of(learner, [sample_of()], timesteps={"num_env_steps_sampled_lifetime": step})
        assert results["p"]["default_optimizer_learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_gradients_are_clipped(by: str) -> None:
    learner = learner_of(config_of(grad_clip=0.01, grad_clip_by=by))
    seen: list[Any] = []
    apply = learner.apply_gradients
    learner.apply_gradients = lambda gradients: (seen.extend(gradients.values()), apply(gradients))
    learner.update([sample_of()])
    gradients = [gradient for gradient in seen if gradient is not None]
    if by == "value":
        assert max(g.abs().max() for g in gradients) == pytest.approx(0.01)
    elif by == "norm":
        assert max(g.norm() for g in gradients) == pytest.approx(0.01, rel=1e-3)
    else:
        assert torch.stack([g.norm() for g in gradients]).norm() == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_no_number_is_an_error_that_names_the_module() -> None:
    sample = sample_of()
    sample.modules["p"][Columns.REWARDS][0, 0] = np.nan
    with pytest.raises(ValueError, match="loss of module 'p' is nan"):
        learner_of().update([sample])


def test_a_gradient_that_is_no_number_is_an_error_that_names_weights() -> None:
    class Steep(Values):
        def compute_loss_for_module(self, **kwargs: Any) -> torch.Tensor:
            loss = super().compute_loss_for_module(**kwargs)
            # The square root of 0 has an infinite gradient, and 0 times it is NaN.
            return loss + ((loss - loss).abs()).sqrt()

    learner = learner_of(cls=Steep)
    with pytest.raises(ValueError, match=r"weights of module 'p' are not finite.*vf\.net"):
        learner.update([sample_of()])
    before = weights_of(learner_of(cls=Steep))
    skips = learner_of(config_of().framework(torch_skip_nan_gradients=True), cls=Steep)
    results = results_of(skips, [sample_of()], num_epochs=3)
    np.testing.assert_array_equal(weights_of(skips), before)
    assert results["p"]["num_skipped_updates_lifetime"] == 3
    sample = sample_of()
    sample.modules["p"][Columns.REWARDS][0, 0] = np.nan
    results = results_of(skips, [sample])
    assert results["p"]["num_skipped_updates_lifetime"] == 1, "a loss that is no number is left out as well"
    np.testing.assert_array_equal(weights_of(skips), before)


def test_ranks_that_average_gradients_train_as_one_that_has_all_rows() -> None:
    samples = [sample_of(seed=seed, rows=3) for seed in (1, 2)]
    alone = learner_of()
    alone.update(samples)
    flats: list[torch.Tensor] = []
    for sample in samples:
        rank = learner_of()
        rank.reduce_gradients = lambda flat: flats.append(flat.clone())
        rank.update([sample])
    mean = (flats[0] + flats[1]) / 2
    rank = learner_of()
    rank.reduce_gradients = lambda flat: flat.copy_(mean)
    rank.update([samples[0]])
    np.testing.assert_allclose(weights_of(rank), weights_of(alone), atol=1e-6)


def test_a_rank_without_rows_takes_part_in_the_average() -> None:
    learner = learner_of()
    calls: list[int] = []
    learner.reduce_gradients = lambda flat: (calls.append(flat.numel()), flat.fill_(1.0))
    before = weights_of(learner)
    learner.update([], num_total_minibatches=3)
    # 67 weights in 6 tensors, each with a mark that some rank has its gradient.
    assert calls == [67 + 6] * 3
    assert not np.array_equal(before, weights_of(learner))


def test_a_module_that_no_rank_trains_stays_where_it_is() -> None:
    learner = learner_of(ids=("p", "q"))
    learner.reduce_gradients = lambda flat: None
    learner.update([sample_of("p", "q")])
    learner.config.multi_agent(policies_to_train=["p"])
    before = copy.deepcopy(learner.get_weights())
    learner.update([sample_of("p", "q")])
    after = learner.get_weights()
    assert all(np.array_equal(before["q"][name], after["q"][name]) for name in before["q"])
    assert not all(np.array_equal(before["p"][name], after["p"][name]) for name in before["p"])


def test_a_scaler_of_losses_changes_no_step_and_leaves_infinite_ones_out() -> None:
    def scaled(factor: float) -> Any:
        config = config_of(grad_clip=0.5)
        config._torch_grad_scaler_class = lambda: torch.amp.GradScaler("cpu", init_scale=factor)
        return learner_of(config)

    plain, by_64, too_far = learner_of(config_of(grad_clip=0.5)), scaled(64.0), scaled(2.0**127)
    for learner in (plain, by_64):
        learner.update([sample_of()], num_epochs=3)
    np.testing.assert_allclose(weights_of(by_64), weights_of(plain), atol=1e-6)
    before = weights_of(too_far)
    results = results_of(too_far, [sample_of(**{Columns.REWARDS: np.full((6, 3), 1e4, np.float32)})])
    np.testing.assert_array_equal(weights_of(too_far), before)
    assert results["p"]["_torch_grad_scaler_current_scale"] == 2.0**127
    assert too_far._grad_scalers["p"].get_scale() == 2.0**126


def test_schedulers_of_torch_move_learning_rates_once_an_update() -> None:
    config = config_of()
    config._torch_lr_scheduler_classes = [lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]
    learner = learner_of(config)
    rates = [results_of(learner, [sample_of()], num_epochs=2)["p"]["default_optimizer_learning_rate"] for _ in range(3)]
    assert rates == pytest.approx([0.005, 0.0025, 0.00125])


def test_schedulers_of_torch_go_on_after_a_restore() -> None:
    def learner_with_scheduler() -> Any:
        config = config_of()
        config._torch_lr_scheduler_classes = [lambda one: torch.optim.lr_scheduler.StepLR(one, step_size=2, gamma=0.5)]
        return learner_of(config)

    def rates(learner: Any, count: int) -> list[float]:
        found = [results_of(learner, [sample_of()])["p"] for _ in range(count)]
        return [one["default_optimizer_learning_rate"] for one in found]

    whole, first, second = (learner_with_scheduler() for _ in range(3))
    unused = pickle.loads(pickle.dumps(whole.get_state()))
    rates(whole, 3)
    whole.set_state(unused)
    expected = rates(whole, 5)
    assert expected == pytest.approx([0.01, 0.005, 0.005, 0.0025, 0.0025])
    rates(first, 3)
    second.set_state(pickle.loads(pickle.dumps(first.get_state())))
    assert rates(second, 2) == expected[3:]
    np.testing.assert_array_equal(weights_of(second), weights_of(whole))
    plain = config_of()
    plain._torch_lr_scheduler_classes = []
    with pytest.raises(ValueError, match="saved with 1 schedulers, and has 0 now"):
        learner_of(plain).set_state(first.get_state())


# state


def test_a_restored_learner_goes_on_bit_by_bit() -> None:
    kwargs = {"num_epochs": 2, "minibatch_size": 5, "shuffle_batch_per_epoch": True}
    whole, first = learner_of(), learner_of()
    np.testing.assert_array_equal(weights_of(whole), weights_of(first))
    for learner in (whole, first):
        learner.update([sample_of()], **kwargs)
    second = learner_of(config_of().debugging(seed=99))
    second.set_state(first.get_state())
    for learner in (whole, second):
        learner.update([sample_of(seed=1)], **kwargs)
    np.testing.assert_array_equal(weights_of(whole), weights_of(second))
    assert second._weights_seq_no == 2


def test_a_learner_draws_from_its_own_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = learner_of()
    torch.randn(3)
    second = learner_of()
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    torch.set_rng_state(before)
    first.update([sample_of()], minibatch_size=4, shuffle_batch_per_epoch=True, num_epochs=2)
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(weights_of(learner_of(config_of().debugging(seed=None))), weights_of(second))


def test_ranks_build_equal_modules_and_draw_differently() -> None:
    ranks = []
    for index in (0, 1):
        learner = Values(config=config_of(), module_spec=spec_of())
        learner._set_learner_index_and_placement_group(learner_index=index)
        learner.build()
        ranks.append(learner)
    np.testing.assert_array_equal(weights_of(ranks[0]), weights_of(ranks[1]))
    assert not torch.equal(ranks[0]._random_state, ranks[1]._random_state)


def test_a_learner_is_saved_with_its_modules(tmp_path) -> None:
    learner = learner_of()
    learner.update([sample_of()])
    learner.save_to_path(tmp_path)
    assert (tmp_path / "rl_module" / "p").is_dir()
    other = learner_of(config_of().debugging(seed=4))
    other.restore_from_path(tmp_path)
    np.testing.assert_array_equal(weights_of(other), weights_of(learner))
    for one in (other, learner):
        one.update([sample_of(seed=2)])
    np.testing.assert_array_equal(weights_of(other), weights_of(learner))


# modules


def test_modules_come_and_go_with_their_optimizers() -> None:
    learner = learner_of(ids=("a",))
    spec = learner.add_module(module_id="b", module_spec=spec_of(), config_overrides={"lr": 0.5})
    assert sorted(spec.rl_module_specs) == ["a", "b"]
    assert results_of(learner, [sample_of("a", "b")])["b"]["default_optimizer_learning_rate"] == pytest.approx(0.5)
    spec = learner.remove_module("b")
    assert sorted(spec.rl_module_specs) == ["a"]
    results = results_of(learner, [sample_of("a", "b")])
    assert "total_loss" not in results.get("b", {})
    with pytest.raises(KeyError, match="no optimizer"):
        learner.get_optimizer("b")
    with pytest.raises(KeyError, match="no module 'b'"):
        learner.remove_module("b")


def test_a_module_may_have_a_loss_of_its_own() -> None:
    class OwnLoss(DefaultPPOTorchRLModule, SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, batch: Any, fwd_out: Any, **kwargs: Any) -> torch.Tensor:
            return fwd_out[Columns.ACTION_DIST_INPUTS].square().mean()

    spec = spec_of()
    spec.module_class = OwnLoss
    learner = Values(config=config_of(), module_spec=spec)
    learner.build()
    sample = Sample({"default_policy": fragment_of()}, 17)
    losses = [results_of(learner, [sample])["default_policy"]["total_loss"] for _ in range(30)]
    assert losses[-1] < losses[0]
    assert not hasattr(learner, "seen")


def test_values_of_a_fragment_are_the_modules() -> None:
    learner = learner_of()
    fragment = fragment_of()
    values = learner.values_of_fragment("p", fragment)
    assert values.shape == (7, 3)
    module = learner.module["p"]
    expected = module.compute_values({Columns.OBS: torch.from_numpy(fragment[Columns.OBS][4])})
    np.testing.assert_allclose(values[4], expected.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_values_of_a_stateful_fragment_start_from_its_states(shared: bool) -> None:
    learner = learner_of(use_lstm=True, lstm_cell_size=4, vf_share_layers=shared)
    module = learner.module["p"]
    fragment = fragment_of(rows=3)
    state = map_tree(lambda leaf: leaf.unsqueeze(0).repeat(3, 1, 1), module.get_initial_state())
    states, expected = [], []
    for row in range(4):
        batch = {Columns.OBS: torch.from_numpy(fragment[Columns.OBS][row][:, None]), Columns.STATE_IN: state}
        expected.append(module.compute_values(batch)[:, 0].detach().numpy())
        states.append(map_tree(lambda leaf: leaf.numpy(), state))
        state = module.forward_inference(batch)[Columns.STATE_OUT]
    fragment.columns[Columns.STATE_IN] = map_tree(lambda *rows: np.stack(rows), *states[:3])
    np.testing.assert_allclose(learner.values_of_fragment("p", fragment), np.stack(expected), atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_padded_stateful_episode_led_to_is_valued_from_its_last_state(shared: bool) -> None:
    learner = learner_of(use_lstm=True, lstm_cell_size=4, vf_share_layers=shared)
    module = learner.module["p"]
    episodes, expected = [], []
    for steps in (2, 4):
        obs = np.random.default_rng(steps).standard_normal((steps + 1, 4)).astype(np.float32)
        state = map_tree(lambda leaf: leaf.unsqueeze(0), module.get_initial_state())
        states = []
        for row in obs[:, None, None]:
            states.append(map_tree(lambda leaf: leaf[0].numpy(), state))
            batch = {Columns.OBS: torch.from_numpy(row), Columns.STATE_IN: state}
            value = module.compute_values(batch).item()
            state = module.forward_inference(batch)[Columns.STATE_OUT]
        expected.append(value)
        episodes.append(
            SingleAgentEpisode(
                observations=list(obs),
                actions=[0] * steps,
                rewards=[1.0] * steps,
                truncated=True,
                extra_model_outputs={Columns.STATE_IN: states[:-1]},
                len_lookback_buffer=0,
            )
        )
    values = learner.values_of_fragment("p", Fragment.of_episodes(episodes))
    np.testing.assert_allclose([values[2, 0], values[4, 1]], expected, atol=1e-6)


def test_what_values_write_into_their_batch_is_told() -> None:
    class Writes(DefaultPPOTorchRLModule):
        def compute_values(self, batch: Any, embeddings: Any = None) -> Any:
            batch["twice"] = 2.0 * batch[Columns.OBS]
            return super().compute_values(batch, embeddings)

    spec = spec_of()
    spec.module_class = Writes
    learner = Values(config=config_of(), module_spec=MultiRLModuleSpec(rl_module_specs={"p": spec}))
    learner.build()
    fragment, written = fragment_of(), {}
    learner.values_of_fragment("p", fragment, written=written)
    assert list(written) == ["twice"]
    np.testing.assert_array_equal(written["twice"], 2.0 * fragment[Columns.OBS])


def test_a_learner_of_the_user_adds_connectors_when_it_is_built() -> None:
    class Returns(Values):
        def build(self) -> None:
            super().build()
            self._learner_connector.prepend(ComputeReturnsToGo(gamma=1.0))

    learner = learner_of(cls=Returns, ids=("default_policy",))
    sample = sample_of("default_policy")
    batch = learner.prepare([sample])["default_policy"]
    expected = [np.cumsum(one.get_rewards()[::-1])[::-1] for one in sample.single_agent_episodes()]
    np.testing.assert_allclose(batch[Columns.RETURNS_TO_GO], np.concatenate(expected), rtol=1e-5, atol=1e-6)
    assert len(batch[Columns.OBS]) == len(batch[Columns.RETURNS_TO_GO])
    assert learner_of(ids=("default_policy",))._pipeline is None


def test_a_connector_of_the_user_changes_rewards_and_adds_columns() -> None:
    class Doubled:
        def __call__(self, *, episodes: Any, batch: Any, **kwargs: Any) -> Any:
            rewards = []
            for episode in episodes:
                doubled = 2.0 * np.asarray(episode.get_rewards())
                episode.set_rewards(new_data=doubled)
                rewards.extend(doubled)
            return {"p": {"seen": np.array(rewards, np.float32)}}

    config = config_of().learners(learner_connector=lambda obs_space, act_space: None)
    learner = learner_of(config)
    learner._learner_connector = Doubled()
    sample = sample_of()
    for fragment in sample.modules.values():
        plain = rows_of(
            {Columns.REWARDS: fragment[Columns.REWARDS], Columns.LOSS_MASK: fragment.loss_mask}, by_column=True
        )
    batch = learner.prepare([sample])["p"]
    np.testing.assert_allclose(batch[Columns.REWARDS], 2.0 * plain[Columns.REWARDS], rtol=1e-6)
    np.testing.assert_allclose(batch["seen"], batch[Columns.REWARDS])
    learner._learner_connector = lambda **kwargs: {"p": {"short": np.zeros(2)}}
    with pytest.raises(ValueError, match="2 rows of column 'short'"):
        learner.prepare([sample])
