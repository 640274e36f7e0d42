"""Ranks of a plain script that hang are named, with where they are; the script knows nothing of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hpc.launch.rank_watch import RankWatch, rank_watch
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.ranks_run import RanksRun
from hpc.launchers.session import Session
from runtime.test_train import needs_torch

LIMIT_S = 60.0
SHOWN = """
import json, os, sys
told = "_hpc_rank_recorder" in sys.modules, "HPC_RANK_WATCH_FD" in os.environ
print(json.dumps([mine, os.environ["PYTHONPATH"], *told]))
"""


class Outcome:
    """A run that has ended: its exit code, what was said of hangs meanwhile, what the ranks wrote, and the run."""

    def __init__(self, tmp_path: Path, code: str, *, report_s: float = 0.5, end_s: float = 0.0, ranks: int = 2, **more):
        script = tmp_path / "script.py"
        script.write_text(code)
        self.said: list[str] = []
        self.written: list[str] = []
        with Session(LocalGroup(1), mode="ranks", start_timeout_s=LIMIT_S) as session:
            self.run = RanksRun(
                session, [str(script)], ranks, write=lambda fd, line: self.written.append(line),
                watcher=RankWatch(report_s, end_s, self.said.append), **more,
            )  # fmt: skip
            self.code = self.run.run(LIMIT_S)

    def of(self, rank: int) -> str:
        return "".join(line.partition("] ")[2] for line in self.written if line.startswith(f"[rank {rank}]"))


@needs_torch
def test_a_rank_that_hangs_is_named_with_the_collective_and_its_stack_and_ends_the_run(tmp_path):
    outcome = Outcome(
        tmp_path,
        "import threading, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "dist.all_reduce(torch.ones(3))\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "if dist.get_rank() == 1: lock.acquire()\n"
        "dist.all_reduce(torch.ones(3))\n",
        end_s=4.0,
    )
    assert outcome.code == 1
    lines = next(text for text in outcome.said if " number 2" in text).splitlines()
    assert re.match(
        r"rank 1 on node 1 \(.*\) has not come for \d+ s: rank 0 waits in all_reduce of 3 float number 2", lines[0]
    )
    assert lines[1].endswith("): it has begun 1 of the 2 operations there")
    assert lines[-2].endswith("line 5, in <module>")
    assert lines[-1].strip() == "if dist.get_rank() == 1: lock.acquire()"
    assert outcome.run.failure is not None and outcome.run.failure.text().startswith("rank 1 on node 1 (")


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("HPC_TEST_SLOW"), reason="takes seconds: set HPC_TEST_SLOW=1")
@needs_torch
def test_a_rank_that_is_late_is_told_of_once_and_ends_nothing(tmp_path):
    outcome = Outcome(
        tmp_path,
        "import time, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "if dist.get_rank() == 1: time.sleep(4)\n"
        "dist.all_reduce(torch.ones(3))\n"
        "time.sleep(1.5)\n",
    )
    assert outcome.code == 0
    named, over = outcome.said
    assert "rank 1 on" in named and "time.sleep(4)" in named
    assert over == "all_reduce of 3 float number 1 of the default group goes on: it had waited for rank 1"


def test_the_script_its_programs_and_the_users_own_sitecustomize_are_as_without_it(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import builtins; builtins.mine = 'yes'\n")
    outcome = Outcome(
        tmp_path,
        "import json, os, subprocess, sys\n"
        f"code = {SHOWN!r}\n"
        "exec(code)\n"
        "sys.stdout.flush()\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
        "print(json.dumps([__name__, sys.argv[0] == __file__, os.path.abspath('x') in sys.path]))\n",
        ranks=1,
        env={"PYTHONPATH": str(tmp_path / "own")},
    )
    path = str(tmp_path / "own")
    here, below, main = (json.loads(line) for line in outcome.of(0).splitlines())
    assert (here, below) == (["yes", path, True, False], ["yes", path, False, False])
    assert main == ["__main__", True, False] and outcome.code == 0


@pytest.mark.parametrize(("report_s", "end_s", "watches"), [(0, 0, False), (15, 0, True), (0, 60, True)])
def test_no_limit_is_no_watch(report_s, end_s, watches):
    assert (rank_watch(report_s, end_s, print) is not None) is watches
