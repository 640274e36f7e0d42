"""Which GPU a learner takes."""

from __future__ import annotations

import pytest
import torch

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.core.learner.torch.torch_learner import TorchLearner


def test_a_learner_of_the_users_process_takes_the_gpu_that_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    def index_of(**settings):
        return TorchLearner(config=AlgorithmConfig().learners(num_gpus_per_learner=1, **settings))._gpu_index()

    assert index_of() == 0 and index_of(local_gpu_idx=2) == 2
    assert index_of(local_gpu_idx=2, num_learners=1) == 0, "an actor has its own GPU only"
    with pytest.raises(ValueError, match="sees 4 GPUs"):
        index_of(local_gpu_idx=4)
