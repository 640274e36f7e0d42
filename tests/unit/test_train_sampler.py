"""The samples of a run whose number of ranks changes: each exactly once in an epoch."""

from __future__ import annotations

import random

import pytest

from hpc.train.sampler import ElasticSampler


def ranks(size, world, batch, state=None, **options):
    made = [ElasticSampler(size, batch, rank=rank, world_size=world, **options) for rank in range(world)]
    for sampler in made:
        if state is not None:
            sampler.load_state_dict(state)
    return made


def step(iterators, samplers):
    """One step of all ranks: what each of them got."""
    got = [next(iterator) for iterator in iterators]
    for sampler in samplers:
        sampler.step()
    return got


@pytest.mark.parametrize("size", [7, 8, 64, 65, 67, 100])
@pytest.mark.parametrize(("world", "batch"), [(1, 1), (2, 4), (3, 5), (7, 1), (4, 100)])
def test_every_sample_comes_once_in_an_epoch_and_ranks_have_equally_many_batches(size, world, batch):
    samplers = ranks(size, world, batch)
    batches = [list(sampler) for sampler in samplers]
    assert sorted(index for part in batches for one in part for index in one) == list(range(size))
    assert {len(part) for part in batches} == {len(samplers[0])}
    assert all(0 < len(one) <= batch + 1 for part in batches for one in part)


@pytest.mark.parametrize("seed", range(40))
def test_sizes_that_change_at_any_step_lose_and_double_nothing(seed):
    chance = random.Random(seed)
    size, epochs = chance.randint(8, 60), 3
    seen, state = [], None
    while True:
        world, batch = chance.randint(1, 8), chance.randint(1, 4)
        samplers = ranks(size, world, batch, state, seed=seed)
        before = [sampler.epochs(epochs) for sampler in samplers]
        end = False
        while not end:
            if [next(one, None) for one in before] == [None] * world:
                left = samplers[0].state_dict()["carried"]
                assert sorted(seen + left) == sorted(list(range(size)) * epochs)
                assert len(left) < 8
                return
            iterators = [iter(sampler) for sampler in samplers]
            for _ in range(len(samplers[0])):
                seen += [index for one in step(iterators, samplers) for index in one]
                states = [sampler.state_dict() for sampler in samplers]
                assert all(one == states[0] for one in states)
                state = states[0]
                if chance.random() < 0.15:
                    end = True  # the run is resized here
                    break


def test_a_loader_may_take_batches_ahead_of_the_steps():
    (sampler,) = ranks(10, 1, 2, shuffle=False)
    ahead = list(sampler)
    sampler.step()
    (again,) = ranks(10, 1, 2, sampler.state_dict(), shuffle=False)
    assert list(again) == ahead[1:]
    assert len(again) == 4


def test_the_order_is_another_one_in_each_epoch_and_the_same_for_a_seed():
    (one,), (other,) = ranks(50, 1, 50, seed=3), ranks(50, 1, 50, seed=3)
    assert list(one) == list(other)
    first = list(one)
    epochs = one.epochs(2)
    next(epochs)
    one.step()
    assert next(epochs) == 1
    assert list(one) != first


def test_what_makes_no_sense_is_refused():
    (sampler,) = ranks(4, 1, 4)
    sampler.step()
    with pytest.raises(RuntimeError, match="more often than there are batches"):
        sampler.step()
    (early,) = ranks(4, 1, 2)
    epochs = early.epochs(2)
    next(epochs)
    with pytest.raises(RuntimeError, match="call step"):
        next(epochs)
    with pytest.raises(ValueError, match="size=4, and now it is 5"):
        ranks(5, 1, 1, sampler.state_dict())
    for options, text in (({"world_size": 9}, "9 ranks"), ({"batch_size": 0}, "batch_size"), ({"rank": 3}, "rank")):
        with pytest.raises(ValueError, match=text):
            ElasticSampler(**{"size": 8, "rank": 0, "world_size": 2, **options})
    with pytest.raises(RuntimeError, match="training function"):
        ElasticSampler(8)
