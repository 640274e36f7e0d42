"""Checkpoints: merged from all ranks, whole or not there, kept by score; and results read again."""

from __future__ import annotations

import errno
import math
import os
import shutil
from pathlib import Path

import pytest
from tables import rows_of

from hpc.runs.config import RunConfig
from hpc.runs.files import LocalFiles
from hpc.runs.storage import RunStorage
from hpc.runs.uploading import Place, StorageError, upload
from hpc.train import Checkpoint, CheckpointConfig, Result


def opened(path, filesystem=None, **config):
    storage = RunStorage(str(path), "run", CheckpointConfig(**config), filesystem)
    storage.open()
    return storage


def add(storage, *sources, name=None, take=False, validation=None, **metrics):
    """A report with a checkpoint of which each rank has a part."""
    storage.history.append(metrics)
    target = storage.begin(name)
    entries = [upload(Checkpoint(source), storage.place, target.path, take) for source in sources]
    return storage.commit(target, entries, metrics, len(storage.history), validation).checkpoint


def manifest_of(folder):
    return folder.with_name(f"manifest.{folder.name}.json")


def checkpoints(storage):
    return sorted(name for name in storage.files.names(storage.path) if not name.startswith(".") and "." not in name)


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
    (other / "deep" / "state").write_text("both ranks have one")
    checkpoint = add(storage, source, other)
    assert os.path.basename(checkpoint.path) == "checkpoint_000000"
    assert sorted(os.listdir(os.path.join(checkpoint.path, "deep"))) == ["empty", "rank1", "state"]
    assert sorted(os.listdir(checkpoint.path)) == ["deep", "model.pt"]
    assert opened(tmp_path / "results").latest == checkpoint


def test_a_name_of_the_users_must_be_new(tmp_path, source):
    storage = opened(tmp_path)
    assert add(storage, source, name="best").path.endswith("/best")
    with pytest.raises(FileExistsError, match="checkpoint_dir_name"):
        storage.begin("best")
    storage.begin("soon")
    with pytest.raises(FileExistsError, match="checkpoint_dir_name"):
        storage.begin("soon")


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
    for score in [1.0, 5.0, 3.0, 0.5]:
        add(storage, source, score=score)
    assert checkpoints(storage) == [f"checkpoint_{index:06d}" for index in left]
    assert storage.latest is not None
    assert storage.latest.path.endswith("checkpoint_000003")
    if config.get("checkpoint_score_attribute"):
        assert storage.result().best_checkpoints[-1][1]["score"] == (
            0.5 if config.get("checkpoint_score_order") == "min" else 5.0
        )


@pytest.mark.parametrize("bad", [math.nan, None, "high"])
def test_a_score_that_is_no_number_is_the_worst(tmp_path, source, bad):
    storage = opened(tmp_path, num_to_keep=1, checkpoint_score_attribute="score")
    add(storage, source, score=1.0)
    add(storage, source, score=bad)
    add(storage, source, score=0.5)
    assert [m["score"] for _, m in storage.result().best_checkpoints] == [0.5, 1.0]


def test_a_score_beyond_all_floats_is_a_score(tmp_path, source):
    storage = opened(tmp_path, num_to_keep=1, checkpoint_score_attribute="score")
    for score in (10**400, 2, -(10**400)):
        add(storage, source, score=score)
    assert [m["score"] > 2 for _, m in storage.result().best_checkpoints] == [False, True]


def test_the_same_name_goes_on_where_the_last_run_ended(tmp_path, source):
    storage = opened(tmp_path)
    add(storage, source, score=2)
    add(storage, source, score=1)
    storage.close()
    (tmp_path / "run" / ".staging-7").mkdir()
    again = opened(tmp_path)
    assert again.latest is not None
    assert again.latest.path.endswith("checkpoint_000001")
    assert again.history == [{"score": 2}, {"score": 1}]
    assert not (tmp_path / "run" / ".staging-7").exists()
    assert add(again, source).path.endswith("checkpoint_000002")


def test_what_was_reported_after_the_latest_checkpoint_is_reported_again(tmp_path, source):
    storage = opened(tmp_path)
    storage.history.append({"step": 0})
    add(storage, source, step=1)
    storage.history.append({"step": 2})
    storage.close()
    assert [row["step"] for row in rows_of(Result.from_path(storage.path).metrics_dataframe)] == [0, 1, 2]
    again = opened(tmp_path)
    assert [row["step"] for row in again.history] == [0, 1]
    again.history.append({"step": 2.5})
    again.rewind()
    assert [row["step"] for row in again.history] == [0, 1]


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda folder: (folder / "model.pt").unlink(), "model.pt is missing"),
        (lambda folder: (folder / "model.pt").write_text("weigh"), "model.pt has 5 bytes instead of 7"),
        (lambda folder: (folder / "model.pt").write_text("WEIGHTS"), "the content of model.pt has changed"),
        (lambda folder: shutil.rmtree(folder), "its directory is gone"),
        (lambda folder: folder.with_name(f"manifest.{folder.name}.json").write_text("{"), "manifest cannot be read"),
        (
            lambda folder: folder.with_name(f"manifest.{folder.name}.json").write_bytes(bytes(200)),
            "manifest cannot be read",
        ),
    ],
)
def test_a_damaged_latest_is_passed_over_with_a_message(tmp_path, source, capsys, harm, text):
    storage = opened(tmp_path)
    first = add(storage, source, score=1)
    second = add(storage, source, name="step2", score=2)
    storage.close()
    harm(Path(second.path))
    again = opened(tmp_path)
    assert again.latest == first
    assert again.history == [{"score": 1}]
    said = capsys.readouterr().err
    assert text in said
    assert "the latest checkpoint is checkpoint_000000" in said
    assert add(again, source, name="step2").path == second.path  # the step is done again, under the same name
    assert opened(tmp_path).latest == second


def test_large_files_are_checked_in_pieces(tmp_path):
    size = 3 * 4096 * 4096
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights").write_bytes(os.urandom(1024) * (size // 1024))
    storage = opened(tmp_path)
    path = Path(add(storage, folder).path, "weights")
    assert opened(tmp_path).latest is not None
    with open(path, "r+b") as file:  # as after a power failure: the end was never written
        file.truncate(size - 2048)
        file.truncate(size)
    assert opened(tmp_path).latest is None


def test_files_are_moved_where_they_may_be_deleted(tmp_path, source):
    storage = opened(tmp_path)
    number = (source / "model.pt").stat().st_ino
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("linked")
    checkpoint = Path(add(storage, source, take=True).path)
    assert not source.exists()
    assert (checkpoint / "model.pt").stat().st_ino == number
    assert (checkpoint / "link").read_text() == "linked"
    assert not (checkpoint / "link").is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_said_and_earlier_checkpoints_stay(tmp_path, source, monkeypatch):
    storage = opened(tmp_path)
    first = add(storage, source)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = storage.begin(None)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"source cannot be stored in .*run: No space left") as caught:
            upload(Checkpoint(source), storage.place, target.path, False)
    assert caught.value.errno == errno.ENOSPC
    storage.abandon(target)
    assert checkpoints(storage) == ["checkpoint_000000"]
    assert not [name for name in os.listdir(storage.path) if name.startswith(".staging")]
    assert opened(tmp_path).latest == first


def test_a_disk_that_fills_while_a_checkpoint_is_made_loses_that_one_only(tmp_path, source, monkeypatch, capsys):
    fsync, full = os.fsync, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    storage = opened(tmp_path)
    first = add(storage, source, step=0)
    for allowed in range(9):  # after each of the steps of a commit
        left = [allowed]

        def fills(descriptor, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise full
            fsync(descriptor)

        target = storage.begin(None)
        storage.history.append({"step": 1})
        entries = [upload(Checkpoint(source), storage.place, target.path, False)]
        monkeypatch.setattr("os.fsync", fills)
        try:
            made = storage.commit(target, entries, {"step": 1}, len(storage.history))
        except OSError:
            made = None
        storage.close()
        monkeypatch.setattr("os.fsync", fsync)
        assert "lacks the last reports" in capsys.readouterr().err
        storage = opened(tmp_path)
        assert storage.latest in (first, Checkpoint(Path(storage.path, target.name)))
        assert made is None or storage.latest == made.checkpoint
        if storage.latest != first:
            break
    assert allowed > 3
    assert storage.latest != first


def test_links_are_followed(tmp_path, source):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "weights").write_text("linked")
    (source / "snapshot").symlink_to(tmp_path / "blobs")
    (source / "latest").symlink_to("model.pt")
    checkpoint = Path(add(opened(tmp_path), source).path)
    assert (checkpoint / "snapshot" / "weights").read_text() == "linked"
    assert (checkpoint / "latest").read_text() == "weights"
    (source / "deep" / "up").symlink_to(source)
    with pytest.raises(StorageError, match="a link leads to the directory that it is in"):
        add(opened(tmp_path), source)


def test_a_directory_of_the_users_in_the_runs_becomes_a_checkpoint(tmp_path, source):
    storage = opened(tmp_path, num_to_keep=1)
    own = Path(storage.path, "mine", "first")
    shutil.copytree(source, own)
    storage.history.append({})
    storage.adopt(str(own), {}, 1)
    storage = opened(tmp_path, num_to_keep=1)
    assert storage.latest == Checkpoint(own)
    with pytest.raises(FileExistsError, match="new directory"):
        storage.adopt(str(own), {}, 1)
    with pytest.raises(ValueError, match="not in the run's directory"):
        storage.adopt(str(source), {}, 1)
    add(storage, source)
    assert not own.exists()


def test_a_checkpoint_that_is_validated_yet_is_not_deleted(tmp_path, source):
    storage = opened(tmp_path, num_to_keep=1, checkpoint_score_attribute="eval/acc")
    add(storage, source, validation={"kwargs": {}, "timeout_s": None})
    add(storage, source)
    assert checkpoints(storage) == ["checkpoint_000000", "checkpoint_000001"]
    again = opened(tmp_path, num_to_keep=1, checkpoint_score_attribute="eval/acc")
    pending = again.ranking.kept[0]
    assert (pending.manifest.status, pending.manifest.validation["kwargs"]) == ("PENDING_VALIDATION", {})
    again.change(pending, "VALIDATED", {"eval": {"acc": 0.5}})
    assert again.result().get_best_checkpoint("eval/acc", "max") == pending.checkpoint
    assert checkpoints(again) == ["checkpoint_000000", "checkpoint_000001"]  # the best one, and the latest


def test_a_result_can_be_read_again(tmp_path, source):
    storage = opened(tmp_path)
    add(storage, source, loss=0.5, acc=0.8)
    add(storage, source, loss=0.3, acc=0.7)
    storage.close()
    result = Result.from_path(tmp_path / "run")
    assert result.metrics == {"loss": 0.3, "acc": 0.7}
    assert result.checkpoint == Checkpoint(tmp_path / "run" / "checkpoint_000001")
    assert result.get_best_checkpoint("acc", "max") == Checkpoint(tmp_path / "run" / "checkpoint_000000")
    assert result.get_best_checkpoint("loss", "min") == result.checkpoint
    with pytest.raises(RuntimeError, match="no checkpoint has a metric 'other'; there are acc, loss"):
        result.get_best_checkpoint("other", "min")
    with pytest.raises(ValueError, match='"max" or "min"'):
        result.get_best_checkpoint("acc", "best")
    assert sorted(os.listdir(result.path)) == [
        "checkpoint_000000",
        "checkpoint_000001",
        "manifest.checkpoint_000000.json",
        "manifest.checkpoint_000001.json",
        "metrics.jsonl",
    ]
    with pytest.raises(FileNotFoundError, match="no training run"):
        Result.from_path(tmp_path)


def test_a_directory_that_is_not_the_drivers_is_refused(tmp_path, source, monkeypatch):
    monkeypatch.setattr("hpc.runs.uploading.MARKER_PATIENCE_S", 0.0)
    storage = opened(tmp_path)
    given = Checkpoint(source)
    with pytest.raises(StorageError, match="no such directory on this node"):
        upload(given, Place(str(tmp_path / "elsewhere"), "run", "token"), str(tmp_path / "x"), False)
    opened(tmp_path)
    with pytest.raises(StorageError, match="another run with this name"):
        upload(given, storage.place, str(tmp_path / "x"), False)
    with pytest.raises(FileNotFoundError, match="no directory"):
        upload(Checkpoint(source / "nothing"), storage.place, str(tmp_path / "x"), False)


def test_a_run_whose_directory_another_has_taken_over_changes_nothing_there(tmp_path, source, capsys):
    first = opened(tmp_path)
    add(first, source, a=1)
    target, staged = first.begin(None), first.next_name()
    second = opened(tmp_path)
    begun = second.begin(None)
    for call in (
        lambda: first.begin(None),
        lambda: first.commit(target, [[]], {}, 2),
        lambda: first.adopt(os.path.join(first.path, staged), {}, 2),
        lambda: first.change(first.ranking.kept[0], "VALIDATED", {"b": 1}),
        first.rewind,
    ):
        with pytest.raises(StorageError, match="another run with this name and storage_path has begun"):
            call()
    first.history.append({"late": 1})
    first.close()
    assert "lacks the last reports" in capsys.readouterr().err
    entries = [upload(Checkpoint(source), second.place, begun.path, False)]
    assert os.path.isdir(second.commit(begun, entries, {"a": 2}, 2).checkpoint.path)
    second.close()
    with pytest.raises(StorageError, match="has begun and ended there"):
        first.rewind()
    assert [c.metrics for c in opened(tmp_path).ranking.kept] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("harm", ["written", "cut"])
def test_a_file_that_changes_while_it_is_stored_makes_no_checkpoint(tmp_path, source, monkeypatch, harm):
    storage = opened(tmp_path / "results")
    file, put = source / "model.pt", LocalFiles.put

    def disturbed(self, opened, path, size):
        put(self, opened, path, size)
        if path.endswith("model.pt"):
            file.write_text("WEIGHTS" if harm == "written" else "w")

    monkeypatch.setattr(LocalFiles, "put", disturbed)
    with pytest.raises(StorageError, match=r"a file has changed while it was stored .*model\.pt"):
        add(storage, source)
    assert storage.latest is None


def test_a_file_that_grows_is_stored_as_it_was(tmp_path, source, monkeypatch):
    log = source / "model.pt"
    read = open(log, "rb")

    def grows(path):
        with open(path, "ab") as file:
            file.write(b" and more")
        return open(path, "rb")

    monkeypatch.setattr(LocalFiles, "open", lambda self, path: grows(path) if path == str(log) else open(path, "rb"))
    storage = opened(tmp_path / "results")
    checkpoint = add(storage, source)
    assert Path(checkpoint.path, "model.pt").read_bytes() == read.read(7) == b"weights"
    monkeypatch.undo()
    assert opened(tmp_path / "results").latest == checkpoint


def test_a_pipe_in_a_checkpoint_is_refused_and_not_waited_for(tmp_path, source):
    os.mkfifo(source / "pipe")
    with pytest.raises(StorageError, match=r"neither a file nor a directory: .*pipe"):
        add(opened(tmp_path / "results"), source)


@pytest.mark.parametrize("name", ["manifest.x", "metrics.jsonl", "ranks", "begun.x", "damaged.x"])
def test_a_name_of_the_runs_own_files_is_no_checkpoints(tmp_path, name):
    with pytest.raises(ValueError, match="a name of the run's own files"):
        opened(tmp_path).begin(name)


class _Mute:
    def __str__(self):
        raise ValueError("no text")


def test_numbers_of_numpy_are_recorded_as_numbers_and_all_else_as_text(tmp_path, source):
    numpy = pytest.importorskip("numpy")
    storage = opened(tmp_path)
    given = {
        "loss": numpy.float32(0.5), "bad": numpy.float32("nan"), "day": numpy.datetime64("2020-01-02"),
        "wave": numpy.complex64(1j), "raw": numpy.bytes_(b"x"), "bytes": b"y", "mute": _Mute(),
    }  # fmt: skip
    add(storage, source, **given)
    found = Result.from_path(storage.path).metrics
    assert math.isnan(found.pop("bad"))
    assert found == {
        "loss": 0.5, "day": "2020-01-02", "wave": "1j", "raw": "b'x'", "bytes": "b'y'", "mute": "<_Mute>",
    }  # fmt: skip


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
    with pytest.raises(TypeError, match="as_directory"):
        os.fspath(checkpoint)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Checkpoint(tmp_path / "nothing").to_directory()
    with pytest.raises(ValueError, match="URL"):
        Checkpoint.from_directory("s3://bucket/x")


# ---------------------------------------------------------------- file systems of pyarrow's


@pytest.fixture(params=["subtree", "mock"])
def filesystem(request, tmp_path):
    fs = pytest.importorskip("pyarrow.fs", reason="needs pyarrow: pip install hpc[arrow]")
    if request.param == "mock":
        return fs.FileSystem.from_uri("mock:///")[0]
    (tmp_path / "bucket").mkdir()
    return fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())


def test_checkpoints_go_to_a_file_system_of_pyarrows(tmp_path, source, filesystem):
    storage = opened("results/here", filesystem, num_to_keep=2)
    for step in range(3):
        found = add(storage, source, step=step)
    assert checkpoints(storage) == ["checkpoint_000001", "checkpoint_000002"]
    assert found.filesystem == filesystem
    with found.as_directory() as path, found.as_directory() as same:
        assert path == same
        assert Path(path, "deep", "state").read_text() == "state"
    assert not os.path.exists(path)
    assert not os.path.exists(f"{path}.lock")
    assert Path(found.to_directory(tmp_path / "copy"), "model.pt").read_text() == "weights"
    found.set_metadata({"epoch": 1})
    assert found.get_metadata() == {"epoch": 1}
    storage.close()
    result = Result.from_path("results/here/run", filesystem)
    assert (result.checkpoint, result.filesystem) == (found, filesystem)
    assert [row["step"] for row in rows_of(result.metrics_dataframe)] == [0, 1, 2]


def test_an_upload_that_was_cut_off_is_no_checkpoint(source, filesystem):
    storage = opened("results", filesystem)
    first = add(storage, source)
    target = storage.begin(None)
    upload(Checkpoint(source), storage.place, target.path, False)
    again = opened("results", filesystem)
    assert again.latest == first
    assert checkpoints(again) == ["checkpoint_000000"]
    second = add(again, source)
    filesystem.delete_file(f"{second.path}/model.pt")
    assert opened("results", filesystem).latest == first


def test_paths_and_urls(tmp_path, filesystem):
    fs = pytest.importorskip("pyarrow.fs")
    if filesystem.type_name == "mock":
        with pytest.raises(TypeError, match="cannot be sent to workers"):
            RunConfig(storage_path="a/b", storage_filesystem=filesystem)
        return
    assert RunConfig(storage_path="a/b", storage_filesystem=filesystem).storage() == (filesystem, "a/b")
    assert RunConfig(storage_path=f"file://{tmp_path}").storage() == (None, str(tmp_path))
    assert RunConfig(storage_path=tmp_path, storage_filesystem=fs.LocalFileSystem()).storage() == (None, str(tmp_path))
    with pytest.raises(ValueError, match="pyarrow cannot open 'nowhere://x'"):
        RunConfig(storage_path="nowhere://x").storage()
    with pytest.raises(ValueError, match="URL"):
        RunConfig(storage_path="s3://bucket", storage_filesystem=filesystem)
    with pytest.raises(TypeError, match=r"pyarrow\.fs\.FileSystem"):
        RunConfig(storage_filesystem=object())
