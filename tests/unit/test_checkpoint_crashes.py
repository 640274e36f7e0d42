"""A checkpoint survives a kill at any moment: a process dies before each step of a commit in turn, and of what puts the
run's directory in order afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from hpc.runs.files import ArrowFiles
from hpc.runs.storage import RunStorage
from hpc.runs.uploading import upload
from hpc.train import Checkpoint, CheckpointConfig, Result

#: What changes a directory. A process dies before one of these, and in the middle of one that copies.
CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "truncate")
METHODS = ("make_dirs", "write", "append", "put", "delete", "delete_tree")
#: More steps than a commit has.
MOST = 400


class Death:
    """The process dies at its n-th step."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.lock = threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def before(self, call):
        def stepped(*args, **kwargs):
            self.step()
            return call(*args, **kwargs)

        return stepped

    def copy(self, source, target, length=0):
        data = source.read()
        target.write(data[: len(data) // 2])
        target.flush()
        self.step()
        target.write(data[len(data) // 2 :])

    def arm(self) -> None:
        for name in CALLS:
            setattr(os, name, self.before(getattr(os, name)))
        for name in METHODS:
            setattr(ArrowFiles, name, self.before(getattr(ArrowFiles, name)))
        shutil.copyfileobj = self.copy


def dies(step, work):
    """Whether a child process that does this dies at its n-th step; it comes to its end otherwise."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            Death(step).arm()
            work()
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def make(folder, rank, step):
    """A rank's files of a step."""
    source = Path(folder, f"source{rank}")
    shutil.rmtree(source, ignore_errors=True)
    (source / "deep").mkdir(parents=True)
    (source / "deep" / f"rank{rank}").write_text(f"step {step}\n" * 100)
    (source / "common").write_text(f"step {step}\n")
    return Checkpoint(source)


def storage_of(where, filesystem):
    return RunStorage(where, "run", CheckpointConfig(num_to_keep=2), filesystem)


def add(storage, folder, step, validation=None):
    storage.history.append({"step": step})
    target = storage.begin(None)
    parts = [upload(make(folder, rank, step), storage.place, target.path, rank == 1) for rank in range(2)]
    return storage.commit(target, parts, {"step": step}, len(storage.history), validation)


def run_on(where, folder, filesystem):
    """A driver that goes on with a run: one more checkpoint, which pushes one out."""
    storage = storage_of(where, filesystem)
    storage.open()
    step = len(storage.history)
    stored = add(storage, folder, step, {"kwargs": {}, "timeout_s": None})
    storage.change(stored, "VALIDATED", {"seen": step})
    storage.close()


def check(where, filesystem):
    """The latest checkpoint's step. It is whole, and nothing that was begun is left."""
    storage = storage_of(where, filesystem)
    storage.open()
    latest = storage.ranking.latest
    step = latest.metrics["step"]
    with latest.checkpoint.as_directory() as path:
        assert Path(path, "common").read_text() == f"step {step}\n"
        for rank in range(2):
            assert Path(path, "deep", f"rank{rank}").read_text() == f"step {step}\n" * 100
    assert [row["step"] for row in storage.history] == list(range(step + 1))
    names = [name for name in storage.files.names(storage.path) if name not in (".run", "metrics.jsonl")]
    kept = {one.manifest.name for one in storage.ranking.kept}
    assert set(names) == kept | {f"manifest.{name}.json" for name in kept}
    pending = [one for one in storage.ranking.kept if one.manifest.status == "PENDING_VALIDATION"]
    assert len(kept) - len(pending) <= 2
    assert Result.from_path(f"{where}/run", filesystem).checkpoint == latest.checkpoint
    return step


@pytest.mark.parametrize("kind", ["local", "arrow"])
def test_a_kill_at_any_step_leaves_a_latest_that_can_be_loaded(tmp_path, kind):
    where, filesystem = str(tmp_path / "store"), None
    if kind == "arrow":
        fs = pytest.importorskip("pyarrow.fs", reason="needs pyarrow: pip install hpc[arrow]")
        (tmp_path / "store").mkdir()
        where, filesystem = "results", fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())
    storage = storage_of(where, filesystem)
    storage.open()
    for step in range(2):
        add(storage, tmp_path, step)
    storage.close()
    outcomes = set()
    for step in range(1, MOST):
        before = check(where, filesystem)
        if not dies(step, lambda: run_on(where, tmp_path, filesystem)):
            break
        # What puts things in order dies as well, here and there.
        dies(step % 9 + 1, lambda: storage_of(where, filesystem).open())
        after = check(where, filesystem)
        assert after - before in (0, 1)
        outcomes.add(after - before)
    else:
        raise AssertionError(f"a commit has more than {MOST} steps")
    assert outcomes == {0, 1}
    assert check(where, filesystem) == before + 1
    assert step > (20 if filesystem is None else 8)


def test_all_is_flushed_before_a_directory_is_a_checkpoint(tmp_path, monkeypatch):
    flushed, seen = set(), []
    fsync, rename = os.fsync, os.rename

    def note(descriptor):
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def look(old, new):
        inside = [old, *(os.path.join(at, name) for at, below, names in os.walk(old) for name in below + names)]
        seen.append({os.path.relpath(path, old): os.stat(path).st_ino in flushed for path in inside})
        rename(old, new)
        flushed.discard(os.stat(os.path.dirname(new)).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", look)
    storage = storage_of(str(tmp_path), None)
    storage.open()
    add(storage, tmp_path, 0)
    (rename_of_the_commit,) = seen
    assert set(rename_of_the_commit) == {".", "common", "deep", "deep/rank0", "deep/rank1"}
    assert all(rename_of_the_commit.values())
    assert os.stat(storage.path).st_ino in flushed
    assert os.stat(Path(storage.path, "manifest.checkpoint_000000.json")).st_ino in flushed
    assert os.stat(Path(storage.path, "metrics.jsonl")).st_ino in flushed
