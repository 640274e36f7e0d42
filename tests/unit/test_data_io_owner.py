"""One write at a time with ``resume=True`` has a folder: another is refused, or takes the place of one that ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from hpc.data.io import owner, writers
from hpc.data.io.filesink import FileSink
from hpc.data.io.owner import Ownership


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(owner, "hpc", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(owner, "spi", SimpleNamespace(whoami=lambda: SimpleNamespace(session="s1")))
    for name, seconds in (("BEAT_S", 0.02), ("GONE_S", 0.5), ("LOOK_S", 0.01)):
        monkeypatch.setattr(owner, name, seconds)


def of(path) -> Ownership:
    ledger = FileSink(str(path), writers.CsvWriter(), resume=True).ledger
    assert ledger is not None
    return Ownership(ledger)


def token(path, **fields) -> None:
    """An owner's file as another process has left it."""
    file = path / "_ledger" / "owner"
    file.parent.mkdir(exist_ok=True)
    given = {"write": "w", "host": "far", "machine": "another", "pid": 7, "began": "1", "session": "s0", "beat": 0}
    file.write_text(json.dumps(given | fields))


def is_free(path) -> bool:
    return not [*(path / "_ledger").glob("owner*")]


def test_a_second_write_is_refused_while_the_first_runs_and_says_which_that_is(tmp_path):
    with (
        of(tmp_path),
        pytest.raises(RuntimeError, match=r"process \d+ on .* \(session s1\) writes to .* now: .* remove .*/owner"),
    ):
        of(tmp_path).__enter__()
    assert is_free(tmp_path)
    with of(tmp_path):
        pass


def test_of_several_that_begin_at_the_same_time_one_goes_on(tmp_path):
    begins, over, taken = threading.Barrier(4), threading.Event(), []

    def write() -> None:
        mine = of(tmp_path)
        begins.wait()
        try:
            with mine:
                taken.append(True)
                over.wait(10.0)
        except RuntimeError:
            taken.append(False)
        if len(taken) == 4:
            over.set()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(taken) == [False, False, False, True] and is_free(tmp_path)


def test_the_place_of_a_process_that_has_ended_is_taken_at_once_on_its_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "GONE_S", 1000.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    token(tmp_path, machine=owner.machine(), pid=ended.pid)
    with of(tmp_path):
        assert json.loads((tmp_path / "_ledger" / "owner").read_text())["session"] == "s1"


def test_a_process_of_another_machine_has_ended_when_it_gives_no_sign_of_life(tmp_path, monkeypatch):
    token(tmp_path)
    with of(tmp_path):
        pass
    monkeypatch.setattr(owner, "GONE_S", 60.0)
    token(tmp_path)
    beats = threading.Timer(0.1, lambda: token(tmp_path, beat=1))
    beats.start()
    with pytest.raises(RuntimeError, match="process 7 on far"):
        of(tmp_path).__enter__()
    beats.join()


def test_a_write_whose_place_was_taken_says_so_at_its_end(tmp_path):
    with pytest.raises(RuntimeError, match="another write has taken"), of(tmp_path):
        token(tmp_path)
    assert not is_free(tmp_path), "it is the other's"


def test_an_owner_gives_signs_of_life(tmp_path):
    file = tmp_path / "_ledger" / "owner"
    with of(tmp_path):
        while not json.loads(file.read_text())["beat"]:
            pass


def test_the_question_who_writes_begins_no_session(tmp_path, monkeypatch):
    def begun():
        raise AssertionError("a session would begin")

    monkeypatch.setattr(owner, "hpc", SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setattr(owner, "spi", SimpleNamespace(whoami=begun))
    with of(tmp_path):
        assert json.loads((tmp_path / "_ledger" / "owner").read_text())["session"] == ""
