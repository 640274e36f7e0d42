"""The test bed itself: its nodes are apart, and what a killed bed left is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import netbed
import pytest
from desk import Desk
from slurm_bed import reason_to_skip

pytestmark = pytest.mark.slurm


def test_every_node_has_its_own_name_and_address(desk: Desk) -> None:
    out = desk.run("srun", "-N4", "-t1", "bash", "-c", "echo $(hostname) $(hostname -I)", check=True).stdout
    bed = desk.bed
    assert sorted(out.split("\n")[:4]) == [f"{host} {bed.net.address(host)}" for host in bed.hosts]


def test_two_beds_live_side_by_side_and_a_killed_one_is_swept(desk: Desk) -> None:
    program = Path(__file__).parent / "slurm_bed.py"
    command = [sys.executable, str(program), "--nodes", "1", "--", "sh", "-c", "echo up; exec sleep 300"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "up\n"
        mine = desk.bed.net.slot
        slots = [s for s in range(netbed.SLOTS) if netbed._left_over(s)]
        assert len(slots) >= 2 and mine in slots
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait(10)
        other.stdout.close()
    swept = netbed.sweep()
    assert mine not in swept
    assert not any(netbed._left_over(slot) for slot in swept)
    assert len(desk.run("sinfo", "-h", "-N", "-p", "batch", "-t", "idle").stdout.splitlines()) == 4


def test_the_reason_to_skip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netbed, "missing", netbed.missing)
    monkeypatch.setattr(netbed.shutil, "which", lambda name, path=None: None)
    why = reason_to_skip()
    assert why is not None and "slurmctld" in why
