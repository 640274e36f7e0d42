"""Settings of datasets, limits of executions and strategies of computing: values, texts and errors are those of Ray."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pathlib
import re
import subprocess
import sys
import threading

import pytest

pytest.importorskip("pyarrow")

from hpc.data import (
    ActorPoolStrategy,
    DataContext,
    ExecutionOptions,
    ExecutionResources,
    FileShuffleConfig,
    RandomSeedConfig,
    TaskPoolStrategy,
)
from hpc.data.compute import strategy_of
from hpc.data.context import WITHOUT_EFFECT, ShuffleStrategy
from hpc.data.exec.settings import settings_of


class Model:
    def __call__(self, batch):
        return batch


def test_resources_are_shown_as_ray_shows_them():
    assert repr(ExecutionResources(1, 2, 3, 1500)) == (
        "ExecutionResources(cpu=1, gpu=2, object_store_memory=3.0B, memory=1.5KiB)"
    )
    assert repr(ExecutionResources.for_limits(cpu=1)) == (
        "ExecutionResources(cpu=1, gpu=inf, object_store_memory=inf, memory=inf)"
    )
    assert str(ExecutionResources(memory=2**45).memory_str()) == "32.0TiB"


def test_resources_add_and_compare_kind_by_kind():
    one, two = ExecutionResources(1, 0, 10, 5), ExecutionResources(2, 1, 5, 5)
    assert one.add(two) == ExecutionResources(3, 1, 15, 10)
    assert two.subtract(one) == ExecutionResources(1, 1, -5, 0) and not two.subtract(one).is_non_negative()
    assert one.max(two) == ExecutionResources(2, 1, 10, 5) and one.min(two) == ExecutionResources(1, 0, 5, 5)
    assert one.scale(2) == ExecutionResources(2, 0, 20, 10)
    assert ExecutionResources.inf().scale(0) == ExecutionResources.zero()
    assert one.floordiv(ExecutionResources(0.5, 0, 3, 10)) == ExecutionResources(2, math.inf, 3, 0)
    assert not one.satisfies_limit(two) and one.satisfies_limit(two, ignore_object_store_memory=True)
    assert ExecutionResources.combine_sum([one, two, one]) == ExecutionResources(4, 1, 25, 15)
    assert ExecutionResources.from_resource_dict(one.to_resource_dict()) == one
    with pytest.raises(AttributeError):
        one.cpu = 3


def test_a_limit_and_an_exclusion_of_one_kind_exclude_each_other():
    options = ExecutionOptions(ExecutionResources.for_limits(cpu=1), ExecutionResources(gpu=1))
    options.validate()
    options.exclude_resources = ExecutionResources(cpu=1)
    with pytest.raises(ValueError, match="cpu"):
        options.validate()
    with pytest.raises(TypeError, match="resource_limits"):
        ExecutionOptions(resource_limits=3)
    assert ExecutionOptions() == ExecutionOptions() and ExecutionOptions().is_resource_limits_default()


def test_a_limit_of_one_kind_leaves_the_others_unlimited():
    options = ExecutionOptions(ExecutionResources(cpu=2, gpu=0))
    assert options.resource_limits == ExecutionResources.for_limits(cpu=2, gpu=0)
    options.resource_limits = ExecutionResources(object_store_memory=100)
    assert options.resource_limits == ExecutionResources.for_limits(object_store_memory=100)
    context = DataContext()
    context.execution_options.resource_limits = ExecutionResources(cpu=2)
    found = settings_of(context)
    assert (found.cpu_limit, found.gpu_limit, found.store_limit) == (2, math.inf, math.inf)
    options.resource_limits = ExecutionResources()
    assert options.is_resource_limits_default() and "(resource_limits=ExecutionResources(cpu=inf" in repr(options)
    options.exclude_resources = None
    assert options.exclude_resources == ExecutionResources.zero()
    with pytest.raises(TypeError, match="resource_limits must be"):
        options.resource_limits = {"cpu": 2}


def test_sizes_of_a_pool_are_checked():
    assert vars(ActorPoolStrategy(size=2)) == vars(ActorPoolStrategy(min_size=2, max_size=2))
    assert ActorPoolStrategy().max_size == math.inf and ActorPoolStrategy(max_size=3).min_size == 1
    for wrong in (
        {"size": 0}, {"size": 2, "min_size": 1}, {"min_size": 0}, {"min_size": 3, "max_size": 2},
        {"min_size": 1, "max_size": 4, "initial_size": 5}, {"min_size": 2, "initial_size": 1},
        {"max_tasks_in_flight_per_actor": 0}, {"max_concurrent_calls_per_actor": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            ActorPoolStrategy(**wrong)
    with pytest.raises(ValueError):
        TaskPoolStrategy(0)


def test_a_function_runs_in_tasks_and_a_class_on_a_pool():
    assert strategy_of(len, None, None) == TaskPoolStrategy()
    assert strategy_of(len, None, 3) == TaskPoolStrategy(3)
    assert strategy_of(Model, None, None) == ActorPoolStrategy()
    assert strategy_of(Model, None, 3) == ActorPoolStrategy(size=3)
    assert strategy_of(Model, None, (1, 4, 2)) == ActorPoolStrategy(min_size=1, max_size=4, initial_size=2)
    for fn, compute, concurrency in (
        (Model, TaskPoolStrategy(), None), (len, ActorPoolStrategy(), None), (len, None, (1, 2)), (len, None, 0),
        (len, TaskPoolStrategy(), 2), (Model, None, (1,)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            strategy_of(fn, compute, concurrency)


def test_a_seed_that_is_reseeded_gives_each_execution_its_own_and_the_same_in_each_run():
    same, other = RandomSeedConfig(7, reseed_after_execution=False), RandomSeedConfig(7)
    assert [same.of_execution(n) for n in range(3)] == [7, 7, 7]
    seeds = [other.of_execution(n) for n in range(3)]
    assert len({*seeds}) == 3 and seeds == [RandomSeedConfig(7).of_execution(n) for n in range(3)]
    assert RandomSeedConfig().of_execution(1) is None and FileShuffleConfig(7).get_seed(1) == seeds[1]
    assert RandomSeedConfig.create_seed_config(5) == RandomSeedConfig(5, False)
    for wrong in (RandomSeedConfig, FileShuffleConfig):
        with pytest.raises(ValueError, match="Seed must be"):
            wrong("a")


def test_settings_are_of_the_process_and_copies_share_nothing():
    mine = DataContext.get_current()
    copy = mine.copy()
    copy.max_errored_blocks = 4
    copy.set_config("key", [1])
    copy.execution_options.preserve_order = False
    assert mine.max_errored_blocks == 0 and mine.get_config("key", 5) == 5 and mine.execution_options.preserve_order
    with DataContext.current(copy):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(DataContext.get_current()))
        thread.start()
        thread.join()
        assert seen == [copy] and DataContext.get_current() is copy
    assert DataContext.get_current() is mine
    copy.shuffle_strategy = "hash_shuffle"
    assert copy.shuffle_strategy is ShuffleStrategy.HASH_SHUFFLE


def test_a_setting_without_effect_says_so():
    context = DataContext()
    with pytest.warns(UserWarning, match="use_push_based_shuffle has no effect"):
        context.use_push_based_shuffle = True
    with pytest.warns(UserWarning, match="label_selector has no effect.*give it to each read"):
        context.execution_options.label_selector = {"zone": "a"}
    with pytest.warns(UserWarning, match="actor_locality_enabled has no effect"):
        ExecutionOptions(actor_locality_enabled=False)


#: Any value of these means what is here: there is one way to exchange rows, and nothing is printed at the start.
MEANS_THE_SAME = {"_shuffle_strategy", "print_on_execution_start"}


def test_each_setting_is_read_somewhere_or_says_that_it_has_no_effect():
    package = pathlib.Path(inspect.getfile(DataContext)).parent
    texts = [path.read_text() for path in package.rglob("*.py") if path.name != "context.py"]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    fields = {one.name for one in dataclasses.fields(DataContext)}
    assert not WITHOUT_EFFECT - fields
    assert not fields - words - WITHOUT_EFFECT - MEANS_THE_SAME


def test_the_package_is_an_attribute_of_hpc_and_is_not_imported_with_it():
    program = (
        "import sys, hpc; assert 'pyarrow' not in sys.modules and 'hpc.data' not in sys.modules;"
        "assert hpc.data.DataContext.get_current().max_errored_blocks == 0; assert 'pandas' not in sys.modules;"
        "sys.modules['pyarrow'] = None; del sys.modules['hpc.data'], hpc.data\n"
        "try: hpc.data\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "hpc.data needs pyarrow: pip install 'hpc[data]'\n", done.stderr
