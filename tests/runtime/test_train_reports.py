"""Reports of real ranks: uploads beside the training, checkpoints that ranks store themselves, validation, collective
calls, datasets, and a file system of pyarrow's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tables import rows_of

import hpc
import hpc.train.collective
from hpc.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointConsistencyMode,
    CheckpointUploadMode,
    ControllerError,
    DataConfig,
    FailureConfig,
    ReportedCheckpointStatus,
    RunConfig,
    ScalingConfig,
    StorageError,
    TrainingFailedError,
    UserCallback,
    ValidationConfig,
    ValidationTaskConfig,
)
from runtime.running import one_node
from runtime.test_train import PlainTrainer

ASYNC, NO_UPLOAD = CheckpointUploadMode.ASYNC, CheckpointUploadMode.NO_UPLOAD
COMMITTED = CheckpointConsistencyMode.COMMITTED


@pytest.fixture(scope="module")
def session():
    with one_node(num_cpus=3):
        yield


def fit(function, tmp_path, config=None, options=None, **run):
    return PlainTrainer(
        function,
        train_loop_config={"folder": str(tmp_path), **(config or {})},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="run", storage_path=tmp_path / "results", **run),
        **(options or {}),
    ).fit()


def rank():
    return hpc.train.get_context().get_world_rank()


def part(config, step, data=None):
    """This rank's files of a step."""
    folder = Path(config["folder"], f"step{step}-rank{rank()}")
    folder.mkdir(exist_ok=True)
    (folder / f"rank{rank()}").write_text(str(step) if data is None else data)
    return Checkpoint(folder)


def names(found):
    return [os.path.basename(one.checkpoint.path) for one in found]


def when_there(*paths):
    """Wait until another process has made these files."""
    deadline = time.monotonic() + 60
    while not all(os.path.exists(path) for path in paths):
        assert time.monotonic() < deadline, f"never seen: {paths}"
        time.sleep(0.01)


def test_uploads_go_on_beside_the_training_and_reports_do_not_overtake(session, tmp_path):
    seen = []

    class Watch(UserCallback):
        def after_report(self, run_context, metrics, checkpoint):
            seen.append((metrics[0]["step"], checkpoint and os.path.basename(checkpoint.path)))

    def train(config):
        gate = Path(config["folder"], "gate")

        def held(checkpoint, name):
            when_there(gate)
            place = Path(hpc.train.get_context().get_storage().experiment_fs_path, name)
            place.mkdir(exist_ok=True)
            Path(checkpoint.path, f"rank{rank()}").rename(place / f"rank{rank()}")
            return Checkpoint(place)

        hpc.train.report({"step": 0}, part(config, 0), checkpoint_upload_mode=ASYNC, checkpoint_upload_fn=held)
        hpc.train.report({"step": 1})
        hpc.train.report({"step": 2}, part(config, 2), checkpoint_upload_mode=ASYNC)
        early = hpc.train.get_checkpoint(), hpc.train.get_all_reported_checkpoints(COMMITTED, timeout_s=0.05)
        assert early == (None, [])
        hpc.train.collective.barrier()
        gate.touch()
        found = hpc.train.get_all_reported_checkpoints(COMMITTED)
        assert [one.metrics for one in found] == [{"step": 0}, {"step": 2}]
        assert {one.status for one in found} == {ReportedCheckpointStatus.COMMITTED}
        assert hpc.train.get_checkpoint() == found[-1].checkpoint
        assert not Path(config["folder"], f"step2-rank{rank()}").exists()
        hpc.train.report({"step": 3}, part(config, 3), checkpoint_upload_mode=ASYNC)  # stored when the function returns

    result = fit(train, tmp_path, callbacks=[Watch()])
    assert seen == [(0, "checkpoint_000000"), (1, None), (2, "checkpoint_000001"), (3, "checkpoint_000002")]
    assert sorted(os.listdir(result.checkpoint.path)) == ["rank0", "rank1"]
    assert [row["step"] for row in rows_of(result.metrics_dataframe)] == [0, 1, 2, 3]


def test_what_goes_wrong_beside_the_training_is_raised_by_the_next_report(session, tmp_path, capfd):
    def broken(checkpoint, name):
        raise StorageError("no room")

    def train(config):
        hpc.train.report({"step": 0}, part(config, 0))
        bad = broken if rank() == 1 else None
        hpc.train.report({"step": 1}, part(config, 1), checkpoint_upload_mode=ASYNC, checkpoint_upload_fn=bad)
        assert names(hpc.train.get_all_reported_checkpoints(COMMITTED)) == ["checkpoint_000000"]
        if rank() == 1:
            with pytest.raises(StorageError, match="no room"):
                hpc.train.report({"step": 2})
        hpc.train.report({"step": 2}, part(config, 2), checkpoint_upload_mode=ASYNC, checkpoint_upload_fn=bad)

    with pytest.raises(TrainingFailedError, match=r"(?s)rank 1 .*StorageError: no room"):
        fit(train, tmp_path)
    assert (
        "report number 2 has no checkpoint: rank 1 could not store it: StorageError: no room" in capfd.readouterr().err
    )
    assert [one.name for one in (tmp_path / "results" / "run").glob("checkpoint_*")] == ["checkpoint_000000"]


def test_a_rank_that_dies_while_files_are_brought_loses_that_checkpoint_only(session, tmp_path):
    def train(config):
        start = hpc.train.get_checkpoint()

        def dies(checkpoint, name):
            if rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return checkpoint

        if start is None:
            hpc.train.report({"step": 0}, part(config, 0), checkpoint_upload_mode=ASYNC)
            hpc.train.get_all_reported_checkpoints(COMMITTED)
            hpc.train.report({"step": 1}, part(config, 1), checkpoint_upload_mode=ASYNC, checkpoint_upload_fn=dies)
            hpc.train.collective.barrier()
            signal.pause()
        hpc.train.report({"step": 1}, part(config, 1))
        return os.path.basename(start.path), Path(start.path, "rank1").read_text()

    result = fit(train, tmp_path, failure_config=FailureConfig(max_failures=1))
    assert result.return_value == ("checkpoint_000000", "0")
    assert [row["step"] for row in rows_of(result.metrics_dataframe)] == [0, 1]


def test_ranks_store_their_files_themselves(session, tmp_path):
    def train(config):
        place = Path(hpc.train.get_context().get_storage().experiment_fs_path, "own")
        place.mkdir(exist_ok=True)
        (place / f"rank{rank()}").write_text("mine")
        hpc.train.report({}, Checkpoint(place), checkpoint_upload_mode=NO_UPLOAD)
        with pytest.raises(ValueError, match="in the run's directory"):
            hpc.train.report({}, part(config, 1), checkpoint_upload_mode=NO_UPLOAD)
        return hpc.train.get_checkpoint().path

    result = fit(train, tmp_path)
    assert result.return_value == result.checkpoint.path == str(tmp_path / "results" / "run" / "own")
    assert sorted(os.listdir(result.checkpoint.path)) == ["rank0", "rank1"]

    def bad(config):
        hpc.train.report({}, part(config, 1), checkpoint_upload_fn=lambda checkpoint, name: checkpoint)

    with pytest.raises(TrainingFailedError, match="must store the checkpoint in the run's directory"):
        fit(bad, tmp_path)


def test_checkpoints_are_validated_beside_the_training(session, tmp_path, capfd):
    def check(checkpoint, gain, fail=False, wait_s=0.0):
        time.sleep(wait_s)
        if fail:
            raise RuntimeError("the model is no good")
        return {"eval": {"score": gain * int(Path(checkpoint.path, "rank0").read_text())}}

    def train(config):
        asked = [
            True,
            ValidationTaskConfig({"gain": -1}),
            ValidationTaskConfig({"fail": True}),
            ValidationTaskConfig({"wait_s": 60}, timeout_s=0.5),
            False,
        ]
        for step, validation in enumerate(asked):
            hpc.train.report({"step": step}, part(config, step + 5), validation=validation)
        return [(one.status.name, one.metrics) for one in hpc.train.get_all_reported_checkpoints()]

    config = ValidationConfig(check, ValidationTaskConfig({"gain": 2}), {"num_cpus": 1})
    keep = CheckpointConfig(2, "eval/score")
    result = fit(train, tmp_path, options={"validation_config": config}, checkpoint_config=keep)
    assert result.return_value == [
        ("COMMITTED", {"step": 4}),
        ("VALIDATED", {"step": 1, "eval": {"score": -6}}),
        ("VALIDATED", {"step": 0, "eval": {"score": 10}}),
    ]
    assert [metrics["step"] for _, metrics in result.best_checkpoints] == [4, 1, 0]
    said = capfd.readouterr().err
    assert "the model is no good" in said
    assert "took too long" in said


def test_ranks_meet_in_collective_calls(session, tmp_path):
    def train(config):
        given = hpc.train.collective.broadcast_from_rank_zero({"from": rank()})
        hpc.train.collective.barrier()
        assert hpc.train.collective.broadcast_from_rank_zero("x" * 100_000) == "x" * 100_000
        hpc.train.report({})
        return given

    assert fit(train, tmp_path).return_value == {"from": 0}

    def uneven(config):
        if rank() == 0:
            hpc.train.report({})
        hpc.train.collective.barrier()

    with pytest.raises(TrainingFailedError, match=r"rank 0 waits in its report number 1, but rank 1 in barrier\(\)"):
        fit(uneven, tmp_path)


def test_each_row_of_a_dataset_goes_to_one_rank(session, tmp_path):
    def train(config):
        shard = hpc.train.get_dataset_shard("train")
        rows = [list(shard), [int(x) for batch in shard.iter_batches(batch_size=2) for x in batch]]
        assert rows[0] == rows[1]
        Path(config["folder"], f"rows{rank()}").write_text(repr(rows[0]))
        hpc.train.collective.barrier()
        with pytest.raises(KeyError, match="'other'"):
            hpc.train.get_dataset_shard("other")
        return list(hpc.train.get_dataset_shard("check")), len(shard)

    options = {
        "datasets": {"train": list(range(7)), "check": hpc.put(["a", "b"])},
        "dataset_config": DataConfig(["train"]),
    }
    assert fit(train, tmp_path, options=options).return_value == (["a", "b"], 4)
    assert [(tmp_path / f"rows{one}").read_text() for one in range(2)] == ["[0, 2, 4, 6]", "[1, 3, 5]"]


class Halves(DataConfig):
    """Ranks get neighbouring rows; of "check" what Ray would give them."""

    def configure(self, datasets, world_size, worker_handles, worker_node_ids, **kwargs):
        assert len(worker_handles) == len(worker_node_ids) == world_size
        parts = super().configure(datasets, world_size, worker_handles, worker_node_ids)
        rows, each = datasets["train"], -(-len(datasets["train"]) // world_size)
        return [{**part, "train": rows[i * each :][:each]} for i, part in enumerate(parts)]


def test_datasets_are_divided_as_a_configure_of_the_users_says(session, tmp_path, monkeypatch):
    def train(config):
        Path(config["folder"], f"rows{rank()}").write_text(repr(list(hpc.train.get_dataset_shard("train"))))
        hpc.train.collective.barrier()
        (batch,) = hpc.train.get_dataset_shard("check").iter_torch_batches()
        return batch.tolist()

    pytest.importorskip("torch")
    datasets = {"train": list(range(7)), "check": hpc.put([5, 6])}
    options = {"datasets": datasets, "dataset_config": Halves(["train"])}
    assert fit(train, tmp_path, options=options).return_value == [5, 6]
    assert [(tmp_path / f"rows{one}").read_text() for one in range(2)] == ["[0, 1, 2, 3]", "[4, 5, 6]"]
    monkeypatch.setattr(Halves, "configure", lambda *_, **__: [{}])
    with pytest.raises(ControllerError, match="must return a list of 2 dicts"):
        fit(train, tmp_path, options=options)


def test_a_run_on_a_file_system_of_pyarrows_goes_on_after_a_failure(session, tmp_path):
    fs = pytest.importorskip("pyarrow.fs", reason="needs pyarrow: pip install hpc[arrow]")
    (tmp_path / "bucket").mkdir()
    bucket = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())

    def train(config):
        start = hpc.train.get_checkpoint()
        first = 0
        if start is not None:
            with start.as_directory() as path:
                first = int(Path(path, f"rank{rank()}").read_text()) + 1
        for step in range(first, 3):
            if step == 2 and start is None:
                raise RuntimeError("once")
            hpc.train.report(
                {"step": step}, part(config, step), checkpoint_upload_mode=ASYNC if step else CheckpointUploadMode.SYNC
            )
        return first

    result = PlainTrainer(
        train,
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name="run", storage_path="deep/results", storage_filesystem=bucket, failure_config=FailureConfig(1)
        ),
    ).fit()
    assert result.return_value in (1, 2)  # the upload of step 1 may have been cut off by the failure
    assert result.checkpoint.path == f"deep/results/run/checkpoint_{2:06d}"
    assert [row["step"] for row in rows_of(result.metrics_dataframe)] == [0, 1, 2]
    assert result.filesystem == bucket
