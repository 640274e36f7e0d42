"""Ranks of a training run that hang are named, with where they are and what the others wait in; and so is a failure."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest

import hpc
from hpc.train import FailureConfig, RankHangError, RunConfig, ScalingConfig, TrainingFailedError
from hpc.train.torch import TorchTrainer
from hpc.train.trainer import DataParallelTrainer
from runtime.running import eventually, one_node
from runtime.test_train import PlainTrainer, needs_torch

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"

#: Ranks that have waited for so long are told of, and end the run.
REPORT_S, END_S = 0.5, 2.5


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=2):
        yield


def fit(function, tmp_path, trainer: type[DataParallelTrainer] = PlainTrainer, **run):
    settings = {"hang_report_s": REPORT_S, "hang_end_s": END_S} | run
    return trainer(
        function,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="run", storage_path=tmp_path, **settings),
    ).fit()


def hang(function, tmp_path, **more) -> str:
    """What is said of a run that hangs."""
    with pytest.raises(RankHangError) as caught:
        fit(function, tmp_path, **more)
    return str(caught.value)


def test_a_rank_in_an_endless_loop_is_named_by_those_that_wait_in_their_report(tmp_path, capfd):
    def train():
        hpc.train.report({"step": 0})
        while hpc.train.get_context().get_world_rank() == 1:
            pass  # for ever
        hpc.train.report({"step": 1})

    said = hang(train, tmp_path)
    assert re.search(r"rank 1 on node 1 \(.*\) has not come for \d+ s: rank 0 waits in report\(\) number 2", said)
    assert "it has begun 1 of the 2 operations there; it uses" in said
    assert "in train\n" in said and ("while hpc.train.get_context()" in said or "pass  # for ever" in said)
    assert "train: rank 1 on node 1" in capfd.readouterr().err


def test_a_rank_that_waits_for_a_lock_is_named_by_those_that_wait_in_a_collective_of_ours(tmp_path):
    def train():
        import threading

        import numpy as np

        from hpc import collective

        rank = hpc.train.get_context().get_world_rank()
        collective.init_collective_group(2, rank, "shm", "ours")
        lock = threading.Lock()
        lock.acquire()
        for step in range(3):
            if rank == 1 and step == 2:
                lock.acquire()
            collective.allreduce(np.ones(4), "ours")

    said = hang(train, tmp_path)
    assert re.search(r"rank 1 on .* has not come for \d+ s: rank 0 waits in allreduce number 3 of the group ours", said)
    assert "it has begun 2 of the 3 operations there; it uses 0 % of a core" in said and "lock.acquire()" in said


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes seconds: set HPC_TEST_SLOW=1")
def test_native_code_that_holds_the_interpreter_is_found_from_outside(tmp_path):
    def train():
        import ctypes

        hpc.train.report({"step": 0})
        if hpc.train.get_context().get_world_rank() == 1:
            ctypes.PyDLL(None).sleep(30)
        hpc.train.report({"step": 1})

    said = hang(train, tmp_path)
    assert "rank 0 waits in report() number 2" in said and "native code holds its interpreter" in said
    assert "ctypes.PyDLL(None).sleep(30)" in said


@needs_torch
def test_a_rank_that_skips_a_collective_is_found_out_and_the_run_starts_again(tmp_path, capfd):
    def train():
        import os

        import torch
        import torch.distributed as dist

        rank, again = dist.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
        pair = dist.new_group([0, 1], group_desc="pair")
        dist.all_reduce(torch.ones(4), group=pair)
        if rank == 0 or again:
            dist.all_reduce(torch.ones(4), group=pair)
        hpc.train.report({"again": again})

    result = fit(train, tmp_path, trainer=TorchTrainer, failure_config=FailureConfig(max_failures=1))
    assert result.metrics == {"again": True}
    said = capfd.readouterr().err
    assert re.search(
        r"ranks have waited for each other for \d+ s: rank 0 in all_reduce of 4 float number 2 of the group pair "
        r"for rank 1; rank 1 in report\(\) number 1 for rank 0",
        said,
    )
    assert "starting again from the beginning (failure 1 of at most 1)" in said


@needs_torch
def test_an_exception_is_told_within_seconds_though_others_wait_in_a_collective(tmp_path, capfd):
    raised = tmp_path / "raised"

    def train():
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.ones(4))
        print(f"noise of {dist.get_rank()}")
        if dist.get_rank() == 1:
            raised.write_text(str(time.time()))
            raise KeyError("no such weight")
        dist.all_reduce(torch.ones(4))

    with pytest.raises(TrainingFailedError) as caught:
        fit(train, tmp_path, trainer=TorchTrainer, hang_end_s=None)
    assert time.time() - float(raised.read_text()) < 30
    assert str(caught.value).endswith("KeyError: 'no such weight'") and caught.value.__cause__ is None
    kept = tmp_path / "run" / "ranks" / "attempt_0"
    for rank in (0, 1):
        assert (kept / f"rank{rank}.log").read_text().startswith(f"==== stdout\nnoise of {rank}\n")
    assert f"train: what the ranks wrote is in {kept}" in capfd.readouterr().err


def test_a_rank_that_comes_in_the_end_is_told_of_and_does_no_harm(tmp_path, capfd):
    def train():
        if hpc.train.get_context().get_world_rank() == 1:
            eventually((tmp_path / "told").exists)
        hpc.train.report({"step": 0})
        eventually((tmp_path / "over").exists)

    said = ""

    def listen():
        nonlocal said
        for words, file in (
            ("rank 1 on node 1", "told"),
            ("report() number 1 goes on: it had waited for rank 1", "over"),
        ):
            while words not in said and not ended.wait(0.02):
                said += capfd.readouterr().err
            (tmp_path / file).touch()

    ended = threading.Event()
    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert fit(train, tmp_path, hang_end_s=None).metrics == {"step": 0}
    finally:
        ended.set()
        listener.join()
    assert "rank 1 on node 1" in said and "report() number 1 goes on: it had waited for rank 1" in said


def test_limits_must_make_sense():
    with pytest.raises(ValueError, match=r"RunConfig.hang_report_s must be above 0 \(0: never\), not -1"):
        RunConfig(hang_report_s=-1)
    with pytest.raises(ValueError, match=r"RunConfig.hang_end_s must be above 0, not 0"):
        RunConfig(hang_end_s=0)
    with pytest.raises(TypeError, match=r"RunConfig.hang_end_s must be a number of seconds, not str"):
        RunConfig(hang_end_s="1m")
