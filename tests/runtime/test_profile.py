"""`hpc profile`: a known split of CPU time is found, in all workers at once, and code that waits is told apart."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpc
from hpc.state import profiles
from hpc.state.overview import own_directory
from runtime.hosting import hpc_command
from runtime.running import eventually, one_node


@hpc.remote
def split(stop: str) -> None:
    def spend(cpu_s: float) -> None:
        begun_s = time.thread_time()
        while time.thread_time() - begun_s < cpu_s:
            sum(range(100))

    def heavy() -> None:
        spend(0.0007)

    def light() -> None:
        spend(0.0003)

    while not os.path.exists(stop):
        for _ in range(100):
            heavy()
            light()


@hpc.remote(num_cpus=0)
class Sleeper:
    def sleep(self, stop: str) -> None:
        while not os.path.exists(stop):
            time.sleep(0.01)


@pytest.fixture
def busy(no_leaks: None, tmp_path: Path) -> Iterator[str]:
    """Two workers that compute and an actor that waits; the session's address."""
    stop = tmp_path / "stop"
    with one_node():
        refs = [split.remote(str(stop)) for _ in range(2)]
        sleeper = Sleeper.remote()
        refs.append(sleeper.sleep.remote(str(stop)))
        eventually(lambda: len([row for row in profiles.candidates() if row["leased_by"]]) >= 3)
        yield own_directory()
        stop.touch()
        hpc.get(refs)


def below(stacks: dict[tuple[str, ...], tuple[float, float]]) -> list[float]:
    """The CPU time below heavy and light."""
    return [
        sum(cpu for stack, (_, cpu) in stacks.items() if any(re.search(rf"\b{name} \(", call) for call in stack))
        for name in ("heavy", "light")
    ]


def test_a_known_split_is_found_in_all_workers_at_once(busy):
    workers = [row["worker_id"] for row in profiles.candidates()]
    spent, looks = [0.0, 0.0], 0
    while sum(spent) < 3.0 and looks < 12:  # on a machine that is busy with other things it takes longer
        found = profiles.take(workers, 3.0, "split", hz=250.0)
        assert len(found.processes) >= 3 and not found.silent and not found.is_running
        spent, looks = [a + b for a, b in zip(spent, below(found.stacks), strict=True)], looks + 1
    heavy, light = (part / sum(spent) for part in spent)
    print(f"heavy {heavy:.3f}, light {light:.3f} of {sum(spent):.1f} s; the last look took {found.sampler_cpu_s:.3f} s")
    assert heavy == pytest.approx(0.7, abs=0.05) and light == pytest.approx(0.3, abs=0.05)
    waits = profiles.collect(workers, "Sleeper.sleep")
    passed_s, cpu_s = (sum(column) for column in zip(*waits.stacks.values(), strict=True))
    assert passed_s > 0 and cpu_s < 0.3 * passed_s


def test_the_command_prints_it_and_writes_a_file(busy, tmp_path):
    file = tmp_path / "out.json"
    done = hpc_command("profile", "--seconds=1", "--task=split", f"-o{file}", f"--address={busy}")
    assert done.returncode == 0, done.stderr
    assert "heavy (" in done.stdout and "s on CPUs in their code" in done.stdout
    frames = [frame["name"] for frame in json.loads(file.read_text())["shared"]["frames"]]
    assert any("light" in name for name in frames) and not any("sleep" in name for name in frames)
    for lost in (tmp_path, tmp_path / "no-such" / "out.json"):
        refused = hpc_command("profile", "--seconds=60", f"-o{lost}", f"--address={busy}")  # at once
        assert refused.returncode == 2 and f"cannot be written: {lost}" in refused.stderr
        assert "Traceback" not in refused.stderr
    wrong = hpc_command("profile", "9.9", f"--address={busy}")
    assert wrong.returncode == 2 and "no process 9.9" in wrong.stderr
