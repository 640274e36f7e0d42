"""Ranks mode: a plain script runs once per rank under torchrun's environment, and ends as one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from hpc.core.node.rank_processes import MAX_LINE_BYTES, Order, RankLines, rank_environment, without_ranks
from hpc.core.node.reap import descendants, is_running
from hpc.core.node.spec import NodeSpec, Strip
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.ranks_run import RanksRun
from hpc.launchers.registry import strip
from hpc.launchers.session import Session
from runtime.fake_machine import CPUS, two_numa_nodes

LIMIT_S = 60.0
EXPECTED = {
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"),
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_ERROR_FILE"),
    "TORCHELASTIC_SIGNALS_TO_HANDLE",
}


class Outcome:
    """A run that has ended: its exit code, its output by rank and descriptor, and the run itself."""

    def __init__(self, run: RanksRun, code: int, written: list[tuple[int, str]]) -> None:
        self.run, self.code, self.written = run, code, written

    def of(self, rank: int, fd: int = 1) -> list[str]:
        prefix = f"[rank {rank}] "
        return [
            line[len(prefix) :].rstrip("\n")
            for number, line in self.written
            if number == fd and line.startswith(prefix)
        ]


Launch = Callable[..., Outcome]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """launch(code, nodes=, per_node=, ...) runs a Python program as ranks."""
    sessions: list[Session] = []

    def run(
        code: str, *args: str, nodes: int = 2, per_node: int = 2, during=None, timeout_s=LIMIT_S, **options
    ) -> Outcome:
        script = tmp_path / "script.py"
        script.write_text(code)
        session = Session(LocalGroup(nodes), mode="ranks", start_timeout_s=LIMIT_S)
        sessions.append(session)
        written: list[tuple[int, str]] = []

        def write(fd: int, line: str) -> None:
            written.append((fd, line))
            if during is not None:
                during(session, ranks, line)

        ranks = RanksRun(session, [str(script), *args], per_node, write=write, **options)
        return Outcome(ranks, ranks.run(timeout_s), written)

    yield run
    for session in sessions:
        session.stop(grace_s=0.5)


def test_every_rank_has_torchruns_environment(launch: Launch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PMI_RANK", "7")
    monkeypatch.setenv("SLURM_PROCID", "7")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("WORLD_SIZE", "99")
    outcome = launch(
        "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], os.getcwd()]))", "--x", "1"
    )
    assert outcome.code == 0
    facts = [json.loads(outcome.of(rank)[0]) for rank in range(4)]
    envs = [fact[0] for fact in facts]
    assert [EXPECTED - set(env) for env in envs] == [set()] * 4
    assert [env["RANK"] for env in envs] == ["0", "1", "2", "3"]
    assert [env["LOCAL_RANK"] for env in envs] == ["0", "1", "0", "1"]
    assert [env["NODE_RANK"] for env in envs] == ["0", "0", "1", "1"]
    assert [env["GROUP_RANK"] for env in envs] == ["0", "0", "1", "1"]
    assert {env["WORLD_SIZE"] + env["LOCAL_WORLD_SIZE"] + env["GROUP_WORLD_SIZE"] for env in envs} == {"422"}
    assert {env["MASTER_ADDR"] for env in envs} == {"127.0.0.1"}
    assert len({env["MASTER_PORT"] for env in envs}) == 1
    assert {env["OMP_NUM_THREADS"] for env in envs} == {"1"}
    assert {env["SLURM_JOB_ID"] for env in envs} == {"4711"}
    assert not any({"PMI_RANK", "SLURM_PROCID"} & set(env) for env in envs)
    assert {fact[2] for fact in facts} == {os.getcwd()}
    assert [fact[1] for fact in facts] == [["--x", "1"]] * 4
    assert outcome.run.codes == {0: 0, 1: 0, 2: 0, 3: 0}


def test_the_users_variables_and_directory_win(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("UNWANTED", "1")
    outcome = launch(
        "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MINE'], 'UNWANTED' in os.environ, os.getcwd())",
        nodes=1,
        cwd=str(tmp_path),
        env={"MINE": "yes", "UNWANTED": None},
    )
    assert outcome.of(1) == [f"5 yes False {tmp_path}"]


def test_lines_arrive_whole_with_their_rank_and_stream(launch: Launch):
    outcome = launch(
        "import os, sys\n"
        "print('ünïcode', 'x' * 100_000)\n"
        "sys.stderr.write('to stderr\\n')\n"
        "os.write(1, b'\\xff bytes\\n')\n"
        "sys.stdout.write('no end')\n",
    )
    for rank in range(4):
        assert outcome.of(rank) == ["ünïcode " + "x" * 100_000, "\ufffd bytes", "no end"]
        assert outcome.of(rank, 2) == ["to stderr"]
    assert all(line.endswith("\n") for _, line in outcome.written)


def test_much_output_is_not_lost(launch: Launch):
    outcome = launch("for i in range(50_000): print(i)", env={"PYTHONUNBUFFERED": ""})
    for rank in range(4):
        assert outcome.of(rank) == [str(i) for i in range(50_000)]


def test_the_first_failing_rank_ends_the_others_and_is_kept_for_last(launch: Launch):
    outcome = launch(
        "import os, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        "if rank == 2:\n"
        "    print('about to fail', file=sys.stderr)\n"
        "    raise SystemExit(17)\n"
        "time.sleep(600)\n"
    )
    assert outcome.code == 17
    failure = outcome.run.failure
    assert failure is not None
    assert (failure.rank, failure.code, failure.node.node, failure.tail) == (2, 17, 2, ("about to fail",))
    assert failure.text().splitlines()[0].startswith("rank 2 on node 2 (")
    assert [code for rank, code in sorted(outcome.run.codes.items())] == [-15, -15, 17, -15]


def test_a_traceback_is_kept(launch: Launch):
    outcome = launch("import os\nif os.environ['RANK'] == '1': {}['the key']\n", nodes=1)
    assert outcome.code == 1
    assert outcome.run.failure.tail[-1] == "KeyError: 'the key'"


def test_the_error_file_of_a_rank_is_what_is_shown_of_its_end(launch: Launch):
    outcome = launch(
        "import json, os, sys, time\n"
        "if os.environ['RANK'] == '1':\n"
        "    extra = {'py_callstack': 'Traceback\\nValueError: bad batch', 'timestamp': '1700000000'}\n"
        "    told = {'message': 'ValueError: bad batch', 'extraInfo': extra}\n"
        "    open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write(json.dumps({'message': told}))\n"
        "    print('noise of the end', file=sys.stderr)\n"
        "    os._exit(1)\n"
        "time.sleep(600)\n",
    )
    name = outcome.run.failure.node.name
    assert outcome.run.failure.text() == (
        f"rank 1 on {name} ended with code 1\n    | Traceback\n    | ValueError: bad batch"
    )


def test_ranks_that_lost_another_are_no_cause_and_what_they_write_is_kept_aside(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hpc.launchers.ranks_run.TERM_GRACE_S", 30.0)
    aside: list[tuple[int, str]] = []
    folder = tmp_path / "there"
    folder.mkdir()
    outcome = launch(
        "import os, signal, socket, sys, time\n"
        "rank, path = int(os.environ['RANK']), sys.argv[1]\n"
        "def lost(*_):\n"
        "    print('the end is near', file=sys.stderr); raise ConnectionResetError('Connection reset by peer')\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN if rank == 2 else lost)\n"
        "open(f'{path}/{rank}', 'w').close()\n"
        "while len(os.listdir(path)) < 4: time.sleep(0.01)\n"
        "if rank == 0: raise ConnectionResetError('Connection reset by peer')\n"
        "if rank == 2: time.sleep(0.2); raise KeyError('no such weight')\n"
        "time.sleep(600)\n",
        str(folder),
        aside=lambda rank, line: aside.append((rank, line)),
    )
    assert sorted(one.rank for one in outcome.run.failures) == [0, 1, 2, 3]
    assert outcome.run.failure.rank == 2
    assert outcome.run.said[-1] == "KeyError: 'no such weight'"
    assert not any("Traceback" in line or "Error" in line for _, line in outcome.written)
    assert (0, "ConnectionResetError: Connection reset by peer") in aside
    assert {rank for rank, line in aside if line == "the end is near"} >= {1, 3}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL (out of memory?)"),
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
        ("os._exit(137)", "ended with code 137, as a shell says of a program that was killed by SIGKILL"),
        ("os._exit(3)", "ended with code 3"),
    ],
)
def test_how_a_rank_has_ended_is_said_in_words(launch: Launch, code: str, words: str):
    outcome = launch(f"import os; {code}", nodes=1, per_node=1)
    assert outcome.run.failure.text() == f"rank 0 on {outcome.run.failure.node.name} {words}"


def test_a_traceback_of_a_rank_that_goes_on_is_shown(launch: Launch):
    outcome = launch(
        "import sys, traceback\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.print_exc()\n",
        nodes=1,
        per_node=1,
    )
    assert outcome.code == 0
    assert outcome.of(0, 2)[-1] == "ZeroDivisionError: division by zero"


def test_a_rank_that_ignores_sigterm_is_killed(launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("hpc.launchers.ranks_run.TERM_GRACE_S", 0.5)
    folder = tmp_path / "there"
    folder.mkdir()
    outcome = launch(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(f\"{sys.argv[1]}/{os.environ['RANK']}\", 'w').close()\n"
        "while len(os.listdir(sys.argv[1])) < 4: time.sleep(0.01)\n"
        "if os.environ['RANK'] == '0': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "time.sleep(600)\n",
        str(folder),
    )
    assert outcome.code == 128 + signal.SIGSEGV
    assert outcome.run.codes == {0: -11, 1: -9, 2: -9, 3: -9}


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["/no/such/program"], 127, "cannot run /no/such/program: No such file or directory"),
        (["/etc/passwd"], 126, "cannot run /etc/passwd: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_run(argv: list[str], code: int, words: str):
    written: list[tuple[int, str]] = []
    with Session(LocalGroup(1), mode="ranks", start_timeout_s=LIMIT_S) as session:
        run = RanksRun(session, argv, 1, write=lambda fd, line: written.append((fd, line)))
        assert run.run(LIMIT_S) == code
    assert (2, f"[rank 0] {words}\n") in written


def test_a_directory_that_is_not_there(launch: Launch):
    outcome = launch("print('never')", nodes=1, per_node=1, cwd="/no/such/directory")
    assert outcome.code == 126
    assert outcome.of(0, 2) == ["cannot enter the working directory /no/such/directory: No such file or directory"]


def test_signals_reach_whole_process_groups(launch: Launch):
    program = (
        "import os, signal, sys, time\n"
        "read, write = os.pipe()\n"
        "child = os.fork()\n"
        "name = 'child' if child == 0 else 'leader'\n"
        "def on_usr2(*_):\n"
        "    if child: os.wait()\n"
        "    print(name, 'got it', flush=True); os._exit(0)\n"
        "signal.signal(signal.SIGUSR2, on_usr2)\n"
        "if child: os.read(read, 1); print('ready', flush=True)\n"
        "else: os.write(write, b'x')\n"
        "time.sleep(600)\n"
    )
    ready = []

    def during(session: Session, run: RanksRun, line: str) -> None:
        if line.endswith("ready\n"):
            ready.append(line)
            if len(ready) == 2:
                run.signal(signal.SIGUSR2)

    outcome = launch(program, nodes=1, during=during)
    assert outcome.code == 0
    assert sorted(outcome.of(0)) == ["child got it", "leader got it", "ready"]


def test_what_ranks_leave_behind_ends_with_the_run(launch: Launch):
    outcome = launch(
        "import os, time\npid = os.fork()\nif pid == 0:\n    os.setsid()\n    time.sleep(600)\nprint(pid)\n"
    )
    assert outcome.code == 0
    left = [int(outcome.of(rank)[0]) for rank in range(4)]
    assert not [pid for pid in left if is_running(pid)]


def test_a_lost_node_is_a_failure_of_its_ranks(launch: Launch):
    def during(session: Session, run: RanksRun, line: str) -> None:
        if line == "[rank 3] up\n":
            os.kill(session.nodes[2].hello["pid"], signal.SIGKILL)

    outcome = launch("import time; print('up'); time.sleep(600)", during=during)
    assert outcome.code == 123
    assert outcome.run.codes[2] == 123
    assert "the supervisor was killed by SIGKILL" in outcome.run.failure.tail[0]
    assert outcome.run.codes[0] == -15


@pytest.mark.skipif(len(CPUS) < 2, reason="there is one CPU only")
def test_ranks_see_the_gpus_of_their_node_and_run_next_to_their_own(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HPC_PROBE_ROOT", two_numa_nodes(tmp_path, 4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    outcome = launch(
        "import json, os; print(json.dumps([os.environ['CUDA_VISIBLE_DEVICES'], sorted(os.sched_getaffinity(0))]))"
    )
    assert outcome.code == 0
    seen = [json.loads(outcome.of(rank)[0]) for rank in range(4)]
    assert seen == [["0,1", CPUS[:1]], ["0,1", CPUS[1:]], ["2,3", CPUS[:1]], ["2,3", CPUS[1:]]]


def test_ranks_die_with_a_killed_supervisor(launch: Launch):
    pids: list[int] = []

    def during(session: Session, run: RanksRun, line: str) -> None:
        if "pid" in line and not pids:
            pids.extend(descendants(session.nodes[1].hello["pid"]))
            os.kill(session.nodes[1].hello["pid"], signal.SIGKILL)

    launch("import os, time; print('pid', os.getpid()); time.sleep(600)", nodes=1, per_node=1, during=during)
    assert len(pids) == 2  # the rank, and what listens for signals beside it
    assert not is_running(pids[0])


def test_the_time_allowed_can_be_bounded(launch: Launch):
    outcome = launch("import time; time.sleep(600)", nodes=1, timeout_s=1.0)
    assert outcome.code == 124


def test_a_standard_input_that_is_empty(launch: Launch):
    assert launch("import sys; print(repr(sys.stdin.read()))", nodes=1, per_node=1).of(0) == ["''"]


@pytest.mark.torch
def test_a_plain_distributed_script_trains_together(launch: Launch):
    pytest.importorskip("torch")
    outcome = launch(
        "import torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "x = torch.full((4,), float(dist.get_rank()))\n"
        "dist.all_reduce(x)\n"
        "print(dist.get_world_size(), x.tolist())\n"
        "dist.destroy_process_group()\n",
        per_node=1,
        timeout_s=120.0,
    )
    assert outcome.code == 0, outcome.written
    assert [outcome.of(rank) for rank in range(2)] == [["2 [1.0, 1.0, 1.0, 1.0]"]] * 2


# ---------------------------------------------------------------- pure parts


def test_the_job_stays_known_and_the_step_is_forgotten():
    env = {
        "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_ON_NODE": "4", "SLURM_STEP_GPUS": "0,1",
        "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1", "PMIX_RANK": "0", "PMI_FD": "3",
        "OMPI_COMM_WORLD_RANK": "0", "PALS_RANKID": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "PATH": "/bin",
    }  # fmt: skip
    assert sorted(without_ranks(env, msgspec.convert(strip(), Strip))) == [
        "PATH", "SLURM_CPUS_ON_NODE", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_STEP_GPUS",
    ]  # fmt: skip


def spec(rank: int, cpus: int) -> NodeSpec:
    return NodeSpec(
        session="abc", node=rank + 1, rank=rank, world=2, dir="/tmp/x", interface="ib0", interface_addr="10.0.0.1",
        cpus=cpus, granted_cpus=cpus, mem_bytes=1,
    )  # fmt: skip


def test_threads_are_divided_among_the_ranks_of_a_node():
    order = Order(argv=["x"], per_node=4, nodes=2, master_addr="10.0.0.1", master_port=1)
    assert rank_environment({}, spec(1, 10), order, 3)["OMP_NUM_THREADS"] == "2"
    assert rank_environment({}, spec(1, 1), order, 3)["OMP_NUM_THREADS"] == "1"
    assert rank_environment({}, spec(1, 10), order, 3)["RANK"] == "7"


def test_lines_are_whole_and_very_long_ones_come_in_pieces():
    lines = RankLines()
    assert lines.feed(b"a\nb") == "a\n"
    assert lines.feed(b"c\xc3") == ""
    assert lines.feed(b"\xbc\n") == "bcü\n"
    assert lines.feed(b"x" * (MAX_LINE_BYTES + 1)) == "x" * (MAX_LINE_BYTES + 1)
    assert lines.finish() == ""
