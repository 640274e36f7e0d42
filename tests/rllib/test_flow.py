"""The machines of the flow: under virtual time, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hpc.rllib.core.learner.remote_learner import Share
from hpc.rllib.core.learner.sharing import minibatches, of_batch, of_samples
from hpc.rllib.env.fragment import Fragment, Sample
from hpc.rllib.env.remote_runners import mean_version
from hpc.rllib.flow import machine as m
from hpc.rllib.flow import sim
from hpc.rllib.flow.replaying import Replaying, ReplaySettings
from hpc.rllib.flow.rounds import Round
from hpc.rllib.flow.shards import first_priorities
from hpc.rllib.flow.stream import Stream, StreamSettings


@pytest.mark.parametrize("seed", range(20))
def test_runs_under_virtual_time_hold(seed: int) -> None:
    sim.run(seed)


def test_a_run_is_the_same_by_its_seed() -> None:
    assert sim.run(3) == sim.run(3)


def test_a_round_gives_a_dead_runners_piece_to_another_one_and_ends_by_count() -> None:
    pool, tally = m.Pool([1, 2]), m.Tally()
    one = Round(pool, tally, 3)
    first, second = (command for command in one.begin() if isinstance(command, m.Sample))
    (third,) = one.step(m.SampleDone(1, first.request, 10), 1.0)
    assert isinstance(third, m.Sample) and third.runner == 1
    assert one.step(m.RunnerDied(2), 1.1) == []
    (again,) = one.step(m.SampleDone(1, third.request, 10), 2.0)
    assert isinstance(again, m.Sample) and again.piece == second.piece
    one.step(m.SampleDone(1, again.request, 10), 3.0)
    assert one.is_done and one.accepted() == [first.request, again.request, third.request]
    assert (tally.fragments_lost, tally.fragments_trained) == (1, 3)


def test_a_round_goes_on_until_its_steps_are_there() -> None:
    one = Round(m.Pool([1]), m.Tally(), 1, steps=25)
    (command,) = one.begin()
    asked = 0
    while not one.is_done:
        assert isinstance(command, m.Sample)
        asked += 1
        rest = one.step(m.SampleDone(1, command.request, 10), float(asked))
        command = rest[0] if rest else command
    assert asked == 3


def test_a_straggler_is_overtaken_and_its_late_answer_is_stale() -> None:
    pool, tally = m.Pool([1, 2]), m.Tally()
    one = Round(pool, tally, 2)
    first, second = (command for command in one.begin() if isinstance(command, m.Sample))
    assert one.step(m.SampleDone(1, first.request, 10), 1.0) == []
    assert one.look(2.0) == []
    (again,) = one.look(4.1)
    assert isinstance(again, m.Sample) and (again.runner, again.piece) == (1, second.piece)
    one.step(m.SampleDone(1, again.request, 10), 4.2)
    assert one.is_done
    one.step(m.SampleDone(2, second.request, 10), 9.0)
    assert tally.fragments_stale == 1


def test_a_stream_learns_in_order_and_tells_the_lag() -> None:
    stream = Stream(StreamSettings(batch_steps=20), (1,))
    (sample,) = stream.begin()
    assert isinstance(sample, m.Sample)
    (again,) = stream.step(m.SampleDone(1, sample.request, 10, 0))
    assert isinstance(again, m.Sample)
    commands = stream.step(m.SampleDone(1, again.request, 10, 0))
    (update,) = (command for command in commands if isinstance(command, m.Update))
    assert update.requests == (sample.request, again.request)
    assert stream.held_fragments == 2
    stream.step(m.UpdateDone(update.number))
    assert (stream.version, stream.held_fragments, stream.tally.fragments_trained) == (1, 0, 2)
    assert stream.tally.lag_mean == 0


def test_an_answer_that_comes_after_its_runner_has_failed_counts_once() -> None:
    """A call to a runner may fail while its sample is on its way."""
    stream = Stream(StreamSettings(batch_steps=20), (1, 2))
    flow = Replaying(ReplaySettings(batch_steps=20), (1, 2), (0,))
    tally, pool = m.Tally(), m.Pool([1, 2])
    one = Round(pool, tally, 2)
    for machine, its in ((stream, stream.tally), (flow, flow.tally), (one, tally)):
        asked = [command for command in machine.begin() if isinstance(command, m.Sample)]
        first = next(command for command in asked if command.runner == 1)
        now = (1.0,) if machine is one else ()
        machine.step(m.RunnerDied(1), *now)  # type: ignore[call-arg]
        its_lost = its.fragments_lost
        machine.step(m.SampleDone(1, first.request, 10), *now)  # type: ignore[call-arg]
        assert (its.fragments_received, its.fragments_lost) == (1, its_lost - 1)
    sim._balance(stream.tally, stream.pool.asked, stream.held_fragments)
    sim._balance(flow.tally, flow.pool.asked, flow.held_fragments)
    sim._balance(tally, pool.asked, 0)


def test_a_lost_update_is_counted_and_its_fragments_are_given_back() -> None:
    stream = Stream(StreamSettings(batch_steps=10), (1,))
    (sample,) = stream.begin()
    commands = stream.step(m.SampleDone(1, sample.request, 10, 0))  # type: ignore[union-attr]
    (update,) = (command for command in commands if isinstance(command, m.Update))
    after = stream.step(m.UpdateDone(update.number, is_lost=True))
    assert m.Drop(update.requests[0]) in after
    assert stream.tally.fragments_lost_with_learners == 1
    assert stream.version == 0


def test_replay_holds_its_ratio_by_credit() -> None:
    flow = Replaying(ReplaySettings(batch_steps=20, intensity=2.0), (1,), (0,))
    sample = next(command for command in flow.begin() if isinstance(command, m.Sample))
    (store, *_) = flow.step(m.SampleDone(1, sample.request, 10))
    assert store == m.Store(0, sample.request)
    commands = flow.step(m.Stored(0, sample.request, 10))
    (draw,) = (command for command in commands if isinstance(command, m.Draw))
    (learn,) = (c for c in flow.step(m.Drawn(0, draw.draw, 20)) if isinstance(c, m.Learn))
    assert not [c for c in flow.step(m.UpdateDone(learn.number)) if isinstance(c, m.Draw)]
    assert flow.ratio == 2.0


def test_a_runner_keeps_its_weights_for_so_many_steps() -> None:
    settings = ReplaySettings(batch_steps=1000, starts=10_000, in_flight=1, sync_steps=20)
    flow = Replaying(settings, (1,), (0,))
    commands, takes = flow.begin(), []
    for turn in range(8):
        (sample,) = (command for command in commands if isinstance(command, m.Sample))
        takes.append(sample.takes_weights)
        if turn == 4:
            flow.freshen()
        commands = flow.step(m.SampleDone(1, sample.request, 10))
        flow.step(m.Stored(0, sample.request, 10 * turn))
    assert takes == [True, False, True, False, True, True, False, True]


def test_a_fragment_that_was_lost_on_its_way_to_a_shard_is_counted() -> None:
    flow = Replaying(ReplaySettings(batch_steps=20), (1,), (0,))
    (sample, *_) = (command for command in flow.begin() if isinstance(command, m.Sample))
    flow.step(m.SampleDone(1, sample.request, 10))
    assert flow.held_fragments == 1
    flow.step(m.StoreFailed(0, sample.request))
    assert (flow.held_fragments, flow.tally.fragments_lost_with_shards, flow.stored_steps) == (0, 1, 0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="interval is 1 or more"):
        Stream(StreamSettings(batch_steps=0))
    with pytest.raises(ValueError, match="intensity is above 0"):
        Replaying(ReplaySettings(batch_steps=1, intensity=0))
    with pytest.raises(ValueError, match="1 request at a time or more"):
        m.Pool([1], 0)


def fragment(rows: int, width: int, seed: int = 0) -> Fragment:
    rng = np.random.default_rng(seed)
    dones = rng.random((rows, width)) < 0.2
    mask = np.ones((rows, width), bool)
    mask[1:] = ~dones[:-1]
    dones &= mask
    mask[1:] = ~dones[:-1]
    return Fragment(
        {
            "obs": rng.random((rows + 1, width, 2)).astype(np.float32),
            "actions": rng.integers(0, 3, (rows, width)),
            "rewards": rng.random((rows, width)).astype(np.float32) * mask,
            "terminateds": dones,
            "truncateds": np.zeros_like(dones),
            "loss_mask": mask,
            "first": np.zeros_like(mask),
            "action_dist_inputs": rng.random((rows, width, 3)).astype(np.float32),
        },
        rows,
        width,
    )


def test_first_priorities_are_those_of_a_slow_loop() -> None:
    one, steps, gamma = fragment(30, 4), 3, 0.9
    found = np.full((30, 4), np.nan)
    found[one.loss_mask] = first_priorities(one, steps, gamma)
    scores = one["action_dist_inputs"]
    for row in range(30):
        for column in range(4):
            if not one.loss_mask[row, column]:
                continue
            total, end = 0.0, None
            for step in range(steps + 1):
                at = row + step
                if at >= 30:
                    end = np.inf
                    break
                if step == steps:
                    end = total + gamma**step * scores[at, column].max()
                    break
                total += gamma**step * one["rewards"][at, column]
                if one.dones[at, column]:
                    end = total
                    break
            wanted = abs(end - scores[row, column, one["actions"][row, column]])
            assert found[row, column] == pytest.approx(wanted, rel=1e-5)


def sample_of(width: int, rows: int = 5, seed: int = 0) -> Sample:
    made = fragment(rows, width, seed)
    steps = made.valid_steps
    return Sample({"default_policy": made}, steps, module_steps={"default_policy": steps}, rows=rows)


def test_samples_are_divided_evenly() -> None:
    even = of_samples([(sample_of(4, seed=0), None)] * 4, 2)
    assert [len(share.samples or ()) for share in even] == [2, 2]
    uneven = of_samples([(sample_of(4), None)] * 3, 2)
    assert [share.part for share in uneven] == [(0, 2), (1, 2)]
    opened = [share.open()["samples"] for share in uneven]
    steps = [sum(sample.env_steps for sample in samples) for samples in opened]
    assert sum(steps) == 3 * sample_of(4).env_steps
    assert [samples[0].modules["default_policy"].width for samples in opened] == [2, 2]


def test_a_batch_is_divided_in_its_order() -> None:
    batch = {"default_policy": {"obs": np.arange(7), "state_in": {"h": np.arange(7)}}}
    parts = [share.open()["batch"]["default_policy"] for share in of_batch(batch, 3)]
    assert np.concatenate([part["obs"] for part in parts]).tolist() == list(range(7))
    assert np.concatenate([part["state_in"]["h"] for part in parts]).tolist() == list(range(7))
    assert Share(batch=batch).open()["batch"] is batch
    assert minibatches(1000, 2, 3, 128) == 12
    assert minibatches(1000, 2, 3, None) == 3


def test_the_version_of_a_sample_is_the_mean_over_its_rows() -> None:
    assert mean_version(Sample({}, 10, version=4, rows=10)) == 4.0
    assert mean_version(Sample({}, 10, version=4, versions=[(5, 6)], rows=10)) == 5.0
