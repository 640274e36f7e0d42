"""Training on real workers: ranks, the barrier of reports, checkpoints, failures; and torch's process group."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tables import rows_of

import hpc
from hpc.exceptions import ActorDiedError
from hpc.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    Progress,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from hpc.train.torch import TorchConfig, TorchTrainer
from hpc.train.trainer import DataParallelTrainer
from runtime.running import local_nodes, one_node

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo"

ROOT = Path(__file__).resolve().parents[2]


class Alone:
    """A backend for ranks that need nothing of one another."""

    def on_start(self, group):
        pass

    def on_end(self, group):
        pass


class PlainTrainer(DataParallelTrainer):
    def backend(self):
        return Alone()


@pytest.fixture
def session():
    with one_node(num_cpus=2):
        yield


def needs_torch(test):
    missing = importlib.util.find_spec("torch") is None
    return pytest.mark.torch(pytest.mark.skipif(missing, reason="needs PyTorch: pip install hpc[train]")(test))


def fit(function, tmp_path, workers=2, config=None, progress=None, trainer=PlainTrainer, **run):
    run.setdefault("name", "run")
    return trainer(
        function,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(storage_path=tmp_path, **run),
    ).fit(progress=progress)


def test_reports_checkpoints_and_the_result(session, tmp_path, capsys):
    seen = []

    class Watch(UserCallback):
        def after_report(self, run_context, metrics, checkpoint):
            seen.append(([m["rank"] for m in metrics], checkpoint and os.path.basename(checkpoint.path)))
            assert run_context.run_config.name == "run"

    def train(config):
        rank = hpc.train.get_context().get_world_rank()
        folder = Path(config["folder"], f"local{rank}")
        folder.mkdir()
        for step in range(3):
            (folder / f"rank{rank}").write_text(str(step))
            checkpoint = Checkpoint(folder) if step != 1 else None
            hpc.train.report({"rank": rank, "step": step}, checkpoint=checkpoint)
        latest = hpc.train.get_checkpoint()
        return os.path.basename(latest.path), hpc.get(config["ref"])

    config = {"folder": str(tmp_path), "ref": hpc.put("through a reference")}
    result = fit(train, tmp_path, config=config, callbacks=[Watch()], progress=Progress(key="step", total=3))
    assert seen == [([0, 1], "checkpoint_000000"), ([0, 1], None), ([0, 1], "checkpoint_000001")]
    assert result.metrics == {"rank": 0, "step": 2}
    assert result.path == str(tmp_path / "run")
    assert result.return_value == ("checkpoint_000001", "through a reference")
    assert [os.path.basename(c.path) for c, _ in result.best_checkpoints] == ["checkpoint_000000", "checkpoint_000001"]
    assert sorted(os.listdir(result.checkpoint.path)) == ["rank0", "rank1"]
    assert Path(result.checkpoint.path, "rank1").read_text() == "2"
    assert len(result.metrics_dataframe) == 3
    assert "training: step 2/3  rank=0" in capsys.readouterr().out
    names = [name for name in sorted(os.listdir(result.path)) if not name.startswith("manifest.")]
    assert names == ["checkpoint_000000", "checkpoint_000001", "metrics.jsonl"]


def test_an_exception_ends_all_ranks_and_shows_its_traceback(session, tmp_path):
    def train():
        import threading

        if hpc.train.get_context().get_world_rank() == 1:
            raise KeyError("no such weight")
        threading.Event().wait()

    with pytest.raises(TrainingFailedError, match=r"(?s)rank 1 on node 1 .*failed.*in train.*no such weight") as caught:
        fit(train, tmp_path)
    assert isinstance(caught.value, WorkerGroupError)
    assert isinstance(caught.value.worker_failures[1], KeyError)
    assert hpc.get(hpc.remote(num_cpus=2)(lambda: "the CPUs are free again").remote(), timeout=60)


def test_a_killed_rank_is_the_failure_that_is_shown(session, tmp_path):
    def train():
        import threading

        if hpc.train.get_context().get_world_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()

    with pytest.raises(TrainingFailedError, match=r"(?s)rank 1 on node 1 .* failed.*SIGKILL") as caught:
        fit(train, tmp_path)
    assert isinstance(caught.value.worker_failures[1], ActorDiedError)


def test_a_restart_goes_on_from_the_last_checkpoint(session, tmp_path, capfd):
    def train(config):
        rank, start = hpc.train.get_context().get_world_rank(), hpc.train.get_checkpoint()
        first = int(Path(start.path, "step").read_text()) + 1 if start else 0
        assert os.environ["TORCHELASTIC_RESTART_COUNT"] == ("1" if start else "0")
        for step in range(first, 4):
            checkpoint = None
            if rank == 1 and step == 2 and start is None:
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 0:
                folder = Path(config["folder"], "local")
                folder.mkdir(exist_ok=True)
                (folder / "step").write_text(str(step))
                checkpoint = Checkpoint(folder)
            hpc.train.report({"step": step}, checkpoint, delete_local_checkpoint_after_upload=True)

    result = fit(
        train,
        tmp_path,
        config={"folder": str(tmp_path)},
        failure_config=FailureConfig(max_failures=1),
        checkpoint_config=CheckpointConfig(num_to_keep=2),
    )
    assert [row["step"] for row in rows_of(result.metrics_dataframe)] == [0, 1, 2, 3]
    assert [m["step"] for _, m in result.best_checkpoints] == [2, 3]
    assert "starting again from checkpoint_000001 (failure 1 of at most 1)" in capfd.readouterr().err
    assert sorted(one.name for one in Path(result.path).glob("checkpoint_*")) == [
        "checkpoint_000002",
        "checkpoint_000003",
    ]


def test_ranks_that_report_unequally_often_are_told_so(session, tmp_path):
    def train():
        for _ in range(2 - hpc.train.get_context().get_world_rank()):
            hpc.train.report({})

    with pytest.raises(TrainingFailedError, match="rank 0 waits in its report number 2, but rank 1 has returned"):
        fit(train, tmp_path)


def test_what_can_never_fit_is_an_error_at_once(session, tmp_path):
    with pytest.raises(
        ControllerError, match=r"never be room for 3 workers with {CPU: 1} each .*more than the 1 nodes have"
    ):
        fit(lambda: None, tmp_path, workers=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ControllerError, match="cannot be used"):
        fit(lambda: None, tmp_path / "file")


def test_variables_of_the_user_stay(session, tmp_path):
    def train():
        names = ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MINE")
        return {name: os.environ.get(name) for name in names}

    env = {"GLOO_SOCKET_IFNAME": "mine0", "MINE": "yes", "OMP_NUM_THREADS": "3"}
    result = fit(train, tmp_path, workers=1, worker_runtime_env={"env_vars": env})
    assert result.return_value == {**env, "NCCL_SOCKET_IFNAME": "=lo"}


def test_one_rank_on_each_node_with_torchruns_environment(tmp_path):
    def train():
        context = hpc.train.get_context()
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
        numbers = [int(os.environ[name]) for name in names]
        hpc.train.report({"node": hpc.get_runtime_context().get_node_id(), "numbers": numbers})
        assert context.get_node_rank() == numbers[0]

    got = []

    class Watch(UserCallback):
        def after_report(self, run_context, metrics, checkpoint):
            got.extend((m["node"], m["numbers"]) for m in metrics)

    with local_nodes(2, num_cpus=2):
        for count, text in ((2, None), (3, "a node for each of 3 bundles, and only 2")):
            trainer = PlainTrainer(
                train,
                scaling_config=ScalingConfig(num_workers=count, placement_strategy="STRICT_SPREAD"),
                run_config=RunConfig(storage_path=tmp_path, callbacks=[Watch()]),
            )
            if text is None:
                trainer.fit()
            else:
                with pytest.raises(ControllerError, match=text):
                    trainer.fit()
    assert [numbers for _, numbers in got] == [[0, 0, 2, 1, 0, 2], [1, 0, 2, 1, 1, 2]]
    assert {node for node, _ in got} == {"1", "2"}


def test_ctrl_c_ends_the_workers(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, pathlib, sys, threading
            sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "tests" / "runtime")!r}]
            import hpc
            from test_train import PlainTrainer
            from hpc.train import RunConfig, ScalingConfig

            def train():
                if hpc.train.get_context().get_world_rank() == 0:
                    pathlib.Path({str(tmp_path)!r}, "pid").write_text(str(os.getpid()))
                    hpc.train.report({{}})
                else:
                    hpc.train.report({{}})
                    print("both are there", flush=True)
                threading.Event().wait()

            hpc.init(address="local", num_cpus=2)
            try:
                PlainTrainer(train, scaling_config=ScalingConfig(num_workers=2),
                             run_config=RunConfig(name="run", storage_path={str(tmp_path)!r})).fit()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                hpc.get(hpc.remote(num_cpus=2)(lambda: None).remote(), timeout=60)
                print("the CPUs are free again", flush=True)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "both are there" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert rest.split("\n")[:2] == ["interrupted", "the CPUs are free again"]
    assert process.returncode == 0
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


@needs_torch
def test_ddp_over_two_nodes(tmp_path):
    def train(config):
        import torch
        import torch.distributed as dist
        from torch.utils.data import DataLoader, TensorDataset

        from hpc.train.torch import get_device, prepare_data_loader, prepare_model

        rank = hpc.train.get_context().get_world_rank()
        facts = {
            "backend": dist.get_backend(),
            "world": dist.get_world_size(),
            "rank": dist.get_rank(),
            "threads": torch.get_num_threads(),
            "device": str(get_device()),
            "interface": os.environ["GLOO_SOCKET_IFNAME"],
            "master": os.environ["MASTER_ADDR"],
        }
        torch.manual_seed(rank)
        x = torch.arange(10.0).unsqueeze(1)
        loader = prepare_data_loader(DataLoader(TensorDataset(x, 3 * x), batch_size=5, shuffle=True))
        model = prepare_model(torch.nn.Linear(1, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        seen = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            for a, b in loader:
                seen.append(a.flatten().tolist())
                loss = torch.nn.functional.mse_loss(model(a), b)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        weight = model.module.weight.item()
        plain = DataLoader(TensorDataset(x), batch_sampler=[[0], [1]])
        with pytest.raises(ValueError, match="of its own"):
            prepare_data_loader(plain)
        assert isinstance(prepare_model(torch.nn.Linear(1, 1), parallel_strategy=None), torch.nn.Linear)
        hpc.train.report({"facts": facts, "weight": weight, "seen": seen})

    got = []

    class Watch(UserCallback):
        def after_report(self, run_context, metrics, checkpoint):
            got.extend(metrics)

    with local_nodes(2):
        TorchTrainer(
            train,
            torch_config=TorchConfig(timeout_s=60),
            train_loop_config={},
            scaling_config=ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"),
            run_config=RunConfig(storage_path=tmp_path, callbacks=[Watch()]),
        ).fit()
    common = {"backend": "gloo", "world": 2, "threads": 1, "device": "cpu", "interface": "lo", "master": "127.0.0.1"}
    assert [m["facts"] for m in got] == [{**common, "rank": rank} for rank in range(2)]
    assert got[0]["weight"] == got[1]["weight"]
    for epoch in range(2):
        assert sorted(got[0]["seen"][epoch] + got[1]["seen"][epoch]) == [float(i) for i in range(10)]
    assert got[0]["seen"][0] != got[0]["seen"][1]
