"""Checkpoints: merged from all ranks, whole or not there, kept by score; and results read again."""

from __future__ import annotations

import math
import os

import pytest

from hpc.runs.storage import Place, RunStorage, stage, staging_name
from hpc.train import Checkpoint, CheckpointConfig, Result


def opened(path, **config):
    storage = RunStorage(str(path), "run", CheckpointConfig(**config))
    storage.open()
    return storage


def add(storage, source, number, **metrics):
    stage(str(source), storage.place, staging_name(0, number))
    storage.history.append(metrics)
    return storage.commit(staging_name(0, number), None, metrics)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "model.pt").write_text("weights")
    (folder / "deep" / "state").write_text("state")
    return folder


def test_the_files_of_all_ranks_come_into_one_directory(tmp_path, source):
    storage = opened(tmp_path / "results")
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep" / "rank1").write_text("1")
    stage(str(source), storage.place, ".staging-0-1")
    stage(str(other), storage.place, ".staging-0-1")
    checkpoint = storage.commit(".staging-0-1", None, {})
    assert os.path.basename(checkpoint.path) == "checkpoint_000000"
    assert sorted(os.listdir(os.path.join(checkpoint.path, "deep"))) == ["empty", "rank1", "state"]
    assert sorted(os.listdir(checkpoint.path)) == ["deep", "model.pt"]


def test_a_name_of_the_users_must_be_new(tmp_path, source):
    storage = opened(tmp_path)
    stage(str(source), storage.place, ".staging-0-1")
    assert storage.commit(".staging-0-1", "best", {}).path.endswith("/best")
    stage(str(source), storage.place, ".staging-0-2")
    with pytest.raises(FileExistsError, match="checkpoint_dir_name"):
        storage.commit(".staging-0-2", "best", {})


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({}, [0, 1, 2, 3]),
        ({"num_to_keep": 2}, [2, 3]),
        ({"num_to_keep": 2, "checkpoint_score_attribute": "score"}, [1, 2, 3]),
        ({"num_to_keep": 1, "checkpoint_score_attribute": "score"}, [1, 3]),
        ({"num_to_keep": 2, "checkpoint_score_attribute": "score", "checkpoint_score_order": "min"}, [0, 3]),
    ],
)
def test_the_best_stay_and_the_latest_always(tmp_path, source, config, left):
    storage = opened(tmp_path, **config)
    for number, score in enumerate([1.0, 5.0, 3.0, 0.5]):
        add(storage, source, number, score=score)
    there = sorted(name for name in os.listdir(storage.path) if name.startswith("checkpoint_"))
    assert there == [f"checkpoint_{index:06d}" for index in left]
    assert storage.latest is not None
    assert storage.latest.path.endswith("checkpoint_000003")
    if config.get("checkpoint_score_attribute"):
        assert storage.result().best_checkpoints[-1][1]["score"] == (
            0.5 if config.get("checkpoint_score_order") == "min" else 5.0
        )


@pytest.mark.parametrize("bad", [math.nan, None, "high"])
def test_a_score_that_is_no_number_is_the_worst(tmp_path, source, bad):
    storage = opened(tmp_path, num_to_keep=1, checkpoint_score_attribute="score")
    add(storage, source, 0, score=1.0)
    add(storage, source, 1, score=bad)
    add(storage, source, 2, score=0.5)
    assert [m["score"] for _, m in storage.result().best_checkpoints] == [0.5, 1.0]


def test_the_same_name_goes_on_where_the_last_run_ended(tmp_path, source):
    storage = opened(tmp_path)
    add(storage, source, 0, score=2)
    add(storage, source, 1, score=1)
    storage.close()
    (tmp_path / "run" / ".staging-0-7").mkdir()
    again = opened(tmp_path)
    assert again.latest is not None
    assert again.latest.path.endswith("checkpoint_000001")
    assert again.history == [{"score": 2}, {"score": 1}]
    assert not (tmp_path / "run" / ".staging-0-7").exists()
    assert add(again, source, 2).path.endswith("checkpoint_000002")


def test_a_checkpoint_that_was_recorded_but_never_made_is_none(tmp_path, source):
    storage = opened(tmp_path)
    add(storage, source, 0, score=1)
    with pytest.raises(FileNotFoundError):
        storage.commit(".staging-0-9", None, {})
    again = opened(tmp_path)
    assert again.latest is not None
    assert again.latest.path.endswith("checkpoint_000000")


def test_a_result_can_be_read_again(tmp_path, source):
    storage = opened(tmp_path)
    add(storage, source, 0, loss=0.5, acc=0.8)
    add(storage, source, 1, loss=0.3, acc=0.7)
    storage.close()
    result = Result.from_path(tmp_path / "run")
    assert result.metrics == {"loss": 0.3, "acc": 0.7}
    assert result.checkpoint == Checkpoint(tmp_path / "run" / "checkpoint_000001")
    assert result.get_best_checkpoint("acc", "max") == Checkpoint(tmp_path / "run" / "checkpoint_000000")
    assert result.get_best_checkpoint("loss", "min") == result.checkpoint
    assert result.get_best_checkpoint("other", "min") is None
    assert sorted(os.listdir(result.path)) == ["checkpoint_000000", "checkpoint_000001", "checkpoints.json"]
    with pytest.raises(FileNotFoundError, match="no training run"):
        Result.from_path(tmp_path)


def test_a_directory_that_is_not_the_drivers_is_refused(tmp_path, source, monkeypatch):
    monkeypatch.setattr("hpc.runs.storage.MARKER_PATIENCE_S", 0.0)
    opened(tmp_path)
    with pytest.raises(RuntimeError, match="shared file system"):
        stage(str(source), Place(str(tmp_path), "run", "another token"), ".staging-0-1")
    with pytest.raises(FileNotFoundError, match="no directory"):
        stage(str(source / "nothing"), Place(str(tmp_path), "run", "x"), ".staging-0-1")


def test_numbers_of_numpy_are_recorded_as_numbers(tmp_path, source):
    numpy = pytest.importorskip("numpy")
    storage = opened(tmp_path)
    add(storage, source, 0, loss=numpy.float32(0.5))
    assert Result.from_path(storage.path).metrics == {"loss": 0.5}


def test_a_checkpoint_is_a_directory(tmp_path, source):
    checkpoint = Checkpoint.from_directory(source)
    with checkpoint.as_directory() as path:
        assert path == str(source)
    copy = checkpoint.to_directory(tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "state").read_text() == "state"
    assert checkpoint.get_metadata() == {}
    Checkpoint(copy).set_metadata({"epoch": 1})
    Checkpoint(copy).update_metadata({"step": 2})
    assert Checkpoint(copy).get_metadata() == {"epoch": 1, "step": 2}
    assert sorted(os.listdir(copy)) == [".metadata.json", "deep", "model.pt"]
    with pytest.raises(NotImplementedError):
        Checkpoint(copy, filesystem=object())
