"""A journal is copied to a file system where files are only replaced whole; no driver takes the place of another."""

from __future__ import annotations

import os

import pytest

from hpc.runs.uploading import MARKER_FILE, Place
from hpc.tune import mirror
from hpc.tune.error import TuneError
from hpc.tune.journal import FILE, STATE_FILE, Journal, read
from hpc.tune.mirror import Mirror
from hpc.tune.records import Noted
from runtime.running import eventually

fs = pytest.importorskip("pyarrow.fs", reason="needs pyarrow")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A place on a file system of pyarrow's, whose driver is "me", and the directory that is behind it."""
    monkeypatch.setattr(mirror, "COPY_S", 0.0)
    monkeypatch.setattr(mirror, "TRY_AGAIN_S", 0.01)
    folder = tmp_path / "bucket" / "e"
    folder.mkdir(parents=True)
    (folder / MARKER_FILE).write_text("me")
    remote = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    return Place("", "e", "me", remote), folder


def begun(place, local):
    """A mirror and the journal that it copies, with one fact."""
    copy = Mirror(place, str(local))
    copy.fetch()
    made = Journal(str(local / FILE))
    made.write(Noted(1.0, "a", 1))
    made.commit(now=True)
    return copy, made


def test_what_is_on_disk_is_copied_and_another_driver_goes_on_with_it(bucket, tmp_path):
    place, folder = bucket
    copy, made = begun(place, tmp_path / "here")
    copy.turn(made.synced)
    eventually(lambda: copy.copied == made.synced)
    assert [record.key for _, record in read(str(folder / FILE))] == ["a"], (
        "a driver that is killed now has lost nothing"
    )
    made.keep({"search": [1]})
    made.write(Noted(1.0, "b", 1))
    made.close()
    copy.close(made.end)
    assert copy.copied == made.end and not (tmp_path / "here").exists()
    Mirror(place, str(tmp_path / "next")).fetch()
    assert [record.key for _, record in read(str(tmp_path / "next" / FILE))] == ["a", "b"]
    assert (tmp_path / "next" / STATE_FILE).read_bytes() == (folder / STATE_FILE).read_bytes()


def test_a_driver_learns_that_another_one_has_the_experiment_and_overwrites_nothing(bucket, tmp_path):
    place, folder = bucket
    copy, made = begun(place, tmp_path / "here")
    (folder / MARKER_FILE).write_text("another one")
    (folder / FILE).write_bytes(b"of the other one")

    def fails():
        try:
            copy.turn(made.synced)
        except TuneError as error:
            return "this driver has lost the experiment" in str(error)
        return False

    eventually(fails)
    made.close()
    with pytest.raises(TuneError, match="has lost the experiment"):
        copy.close(made.end)
    assert (folder / FILE).read_bytes() == b"of the other one"


def test_a_storage_that_fails_is_tried_again_and_at_the_end_the_journal_is_kept_here(bucket, tmp_path):
    place, folder = bucket
    copy, made = begun(place, tmp_path / "here")
    (folder / FILE).mkdir()  # nothing can be written there
    copy.turn(made.synced)
    eventually(lambda: copy.failure)
    assert copy.copied == 0, "nothing that the copy names may be deleted"
    (folder / FILE).rmdir()
    (folder / MARKER_FILE).unlink()
    (folder / MARKER_FILE).mkdir()  # nothing can be read there
    assert not copy._copy(made.synced) and copy.failure and not copy._taken, "this is nobody else's"
    (folder / MARKER_FILE).rmdir()
    (folder / MARKER_FILE).write_text("me")
    eventually(lambda: copy.turn(made.synced) or copy.copied == made.synced)
    assert not copy.failure
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    made.write(Noted(1.0, "b", 1))
    made.close()
    with pytest.raises(TuneError, match=r"It is whole in \S+: copy") as raised:
        copy.close(made.end)
    kept = str(raised.value).partition("whole in ")[2].partition(": copy")[0]
    assert [record.key for _, record in read(os.path.join(kept, FILE))] == ["a", "b"]
