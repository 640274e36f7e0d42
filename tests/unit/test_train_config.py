"""Configuration of training: Ray's names and defaults, and no field that is silently ignored."""

from __future__ import annotations

import importlib.util

import pytest

import hpc.train.torch
from hpc.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from hpc.train.torch import TorchConfig, TorchTrainer


def test_defaults_are_rays():
    scaling, run, torch = ScalingConfig(), RunConfig(), TorchConfig()
    assert (scaling.num_workers, scaling.use_gpu, scaling.placement_strategy) == (1, False, "PACK")
    assert (run.name, run.storage_path, run.failure_config.max_failures) == (None, None, 0)
    assert (run.checkpoint_config.num_to_keep, run.checkpoint_config.checkpoint_score_order) == (None, "max")
    assert (torch.backend, torch.init_method, torch.timeout_s) == (None, "env", 1800)
    assert run.storage()[1].endswith("/hpc_results")


@pytest.mark.parametrize(
    ("given", "resources"),
    [
        ({}, {"CPU": 1}),
        ({"use_gpu": True}, {"GPU": 1}),
        ({"resources_per_worker": {"CPU": 2, "special": 0}}, {"CPU": 2}),
        ({"use_gpu": True, "resources_per_worker": {"CPU": 4}}, {"CPU": 4, "GPU": 1}),
        ({"use_gpu": True, "resources_per_worker": {"GPU": 2}}, {"GPU": 2}),
    ],
)
def test_what_a_worker_holds(given, resources):
    assert ScalingConfig(**given).worker_resources == resources


def tpus(count, **more):
    return ScalingConfig(count, use_tpu=True, **{"topology": "2x2x2", "accelerator_type": "TPU-V4", **more})


def test_slices_of_tpus_have_a_worker_for_each_host_or_as_many_as_their_resources_say():
    each = tpus((2, 4))
    assert each.resources_per_worker == {"TPU": 4, "CPU": 1}
    assert each.worker_resources == {"TPU": 4, "CPU": 1, "accelerator_type:TPU-V4": 0.001}
    assert each.workers_per_slice == 2
    assert tpus(8, resources_per_worker={"TPU": 1}).workers_per_slice == 8
    assert ScalingConfig(use_tpu=True).worker_resources == {"TPU": 1}
    assert ScalingConfig(use_tpu=True).workers_per_slice == 0, "no slice, but a chip of any host"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ScalingConfig(num_workers=0), ValueError, "at least 1"),
        (lambda: ScalingConfig(num_workers=2.0), TypeError, "integer"),
        (lambda: ScalingConfig(num_workers=(0, 2)), ValueError, "at least 1"),
        (lambda: ScalingConfig(num_workers=(3, 2)), ValueError, "min <= max"),
        (lambda: ScalingConfig(num_workers=(1, 2, 3)), ValueError, r"\(min, max\)"),
        (lambda: ScalingConfig(elastic_resize_monitor_interval_s=-1), ValueError, "not be negative"),
        (lambda: ScalingConfig(use_tpu=True, use_gpu=True), ValueError, "one of them"),
        (lambda: ScalingConfig(resources_per_worker={"TPU": 4}), ValueError, "set use_tpu=True"),
        (lambda: ScalingConfig(topology="2x2"), ValueError, "topology: set use_tpu=True"),
        (lambda: ScalingConfig(use_tpu=True, resources_per_worker={"TPU": 0}), ValueError, "0 TPUs"),
        (lambda: ScalingConfig(2, use_tpu=True, accelerator_type="TPU-V4"), ValueError, "topology is needed"),
        (lambda: ScalingConfig(2, use_tpu=True, topology="4x4"), ValueError, "accelerator_type is needed"),
        (lambda: tpus(3), ValueError, "must be a multiple of 2, the workers of a slice 2x2x2"),
        (lambda: tpus((1, 4)), ValueError, "min_workers is 1: it must be a multiple of 2"),
        (lambda: tpus(2, label_selector={"zone": "a"}), ValueError, "the slices choose the nodes"),
        (lambda: tpus(2, topology="2xB"), ValueError, "no topology"),
        (lambda: tpus(4, topology="2x2x7", accelerator_type="TPU-V4"), ValueError, "topology"),
        (lambda: ScalingConfig(placement_strategy="WIDE"), ValueError, "STRICT_SPREAD"),
        (lambda: ScalingConfig(resources_per_worker={"GPU": 1}), ValueError, "use_gpu"),
        (lambda: ScalingConfig(use_gpu=True, resources_per_worker={"GPU": 0}), ValueError, "0 GPUs"),
        (lambda: ScalingConfig(resources_per_worker={"CPU": -1}), ValueError, "from 0 on"),
        (lambda: ScalingConfig(resources_per_worker={"CPU": float("nan")}), ValueError, "from 0 on, not nan"),
        (lambda: ScalingConfig(resources_per_worker={"CPU": float("inf")}), ValueError, "from 0 on, not inf"),
        (lambda: ScalingConfig(resources_per_worker={"CPU": 0}), ValueError, "nothing to hold"),
        (lambda: ScalingConfig(resources_per_worker={5: 1}), TypeError, "names of resources are texts"),
        (lambda: ScalingConfig(elastic_resize_monitor_interval_s="1"), TypeError, "number of seconds"),
        (lambda: ScalingConfig(elastic_resize_monitor_interval_s=float("nan")), ValueError, "not be negative"),
        (lambda: RunConfig(name=5), TypeError, "RunConfig.name must be a str, not int"),
        (lambda: CheckpointConfig(checkpoint_score_attribute=5), TypeError, "must be a str"),
        (lambda: ScalingConfig(trainer_resources={}), TypeError, "trainer_resources"),
        (lambda: FailureConfig(max_failures=-2), ValueError, "at least -1"),
        (lambda: FailureConfig(controller_failure_limit=-2), ValueError, "controller_failure_limit"),
        (lambda: FailureConfig(preemption_grace_s=-1), ValueError, r"preemption_grace_s must be above 0 \(0: none\)"),
        (lambda: FailureConfig(relax_collectives_on_preemption=1), TypeError, "must be a bool"),
        (lambda: CheckpointConfig(num_to_keep=0), ValueError, "at least 1"),
        (lambda: CheckpointConfig(checkpoint_score_order="best"), ValueError, "min"),
        (lambda: CheckpointConfig(checkpoint_frequency=1), TypeError, "checkpoint_frequency"),
        (lambda: RunConfig(name="a/b"), ValueError, "directory"),
        (lambda: RunConfig(storage_path="nowhere://bucket").storage(), (ValueError, ImportError), "pyarrow"),
        (lambda: RunConfig(logging_config=object()), NotImplementedError, "logging_config"),
        (lambda: RunConfig(callbacks=[print]), TypeError, "UserCallback"),
        (lambda: RunConfig(failure_config=3), TypeError, "FailureConfig"),
        (lambda: TorchConfig(init_method="file"), ValueError, "tcp"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_missing_torch_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install hpc\[train\]"):
        TorchTrainer(lambda: None)


async def _coroutine():
    pass


def _generator():
    yield


@pytest.mark.parametrize(
    ("function", "options", "error", "text"),
    [
        (3, {}, TypeError, "function"),
        (lambda a, b: None, {}, ValueError, "one argument"),
        (_coroutine, {}, TypeError, "async"),
        (_generator, {}, TypeError, "generator"),
        (lambda: None, {"train_loop_config": {"lr": 1}}, ValueError, "no argument"),
        (lambda c: None, {"train_loop_config": [1]}, TypeError, "dict"),
        (lambda: None, {"datasets": []}, TypeError, "dict of datasets"),
        (lambda: None, {"validation_config": 1}, TypeError, "ValidationConfig"),
        (lambda: None, {"scaling_config": {"num_workers": 2}}, TypeError, "ScalingConfig"),
        (lambda: None, {"torch_config": {}}, TypeError, "TorchConfig"),
    ],
)
def test_a_trainer_checks_what_it_is_given(monkeypatch, function, options, error, text):
    monkeypatch.setattr(hpc.train.torch.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(error, match=text):
        TorchTrainer(function, **options)
