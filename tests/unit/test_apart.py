"""A vendor's library is asked in a process of its own: what it leaves behind, breaks or holds up stays there."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.table import Found
from hpc.core.node import apart, detect
from hpc.core.node.spec import Granted

ANSWER = Found((Device("0", "GPU", links=("1",)),), {"slice": 1.0}, {"a": "b"})


def children() -> set[str]:
    """The processes of this one: other tests may have left some that are ending."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_the_answer_comes_and_the_process_is_gone() -> None:
    before = children()
    assert apart.ask_apart(lambda: ANSWER, Found) == ANSWER
    many = Found(tuple(Device(str(i), "GPU", kind="x" * 100) for i in range(2000)))  # more than a pipe holds
    assert apart.ask_apart(lambda: many, Found) == many
    assert children() <= before


def test_threads_and_files_of_a_library_stay_there() -> None:
    before = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")

    def question() -> Found:
        open(os.devnull)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        return ANSWER

    assert apart.ask_apart(question, Found) == ANSWER
    assert (os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")) == before


def test_a_library_that_hangs_or_ends_the_process_gives_no_answer() -> None:
    with pytest.raises(apart.NotAnswered, match=r"within 0\.05 s"):
        apart.ask_apart(lambda: time.sleep(60) or ANSWER, Found, 0.05)
    with pytest.raises(apart.NotAnswered, match="has failed"):
        apart.ask_apart(lambda: os._exit(3), Found)


def test_without_an_answer_the_device_files_count_and_it_is_said(tmp_path, capsys) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()

    def silent(_question):
        raise apart.NotAnswered("no answer within 15 s")

    found = detect.granted_devices(Granted(), (), {}, str(tmp_path), silent)
    assert [device.id for device in found.devices] == ["0"]
    assert "by their device files alone" in capsys.readouterr().err
