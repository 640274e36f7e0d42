"""A node comes up, says so, and whatever is killed or lost, nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc.core.node.reap import children_of, descendants, is_running
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.launchers.session_errors import StartError
from hpc.launchers.session_nodes import Event

FAKE_NODE = str(Path(__file__).with_name("fake_node.py"))
LIMIT_S = 60.0

Make = Callable[..., Session]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(nodes, **config) starts a session of stand-ins; all are stopped at the end."""
    made: list[Session] = []

    def build(nodes: int = 1, *, group: LocalGroup | None = None, options: dict | None = None, **config) -> Session:
        chosen = {"start_timeout_s": LIMIT_S, **(options or {})}
        session = Session(group or fake_group(nodes), config=config, **chosen)
        made.append(session)
        return session

    yield build
    for session in made:
        session.stop(grace_s=1.0)


def fake_group(nodes: int = 1) -> LocalGroup:
    return LocalGroup(nodes, command=[sys.executable, FAKE_NODE])


def node_dir(session: Session, node: int = 1) -> Path:
    return Path(session.nodes[node].hello["dir"])


def pump_until(session: Session, condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s for {what}"
        session.pump(0.05)


def lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []


def worker_facts(session: Session, count: int, node: int = 1) -> list[dict]:
    """What the workers of a node wrote, when all have."""
    paths = [node_dir(session, node) / f"worker-{proc}.jsonl" for proc in range(count)]
    pump_until(session, lambda: all(lines(path) for path in paths), "the workers")
    return [lines(path)[0] for path in paths]


def process_named(session: Session, name: str, node: int = 1) -> int:
    """The pid of a process of a node, by its short name."""
    for pid in descendants(session.nodes[node].hello["pid"]):
        with contextlib.suppress(OSError):  # one that has just ended
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                return pid
    raise AssertionError(f"no {name}")


def wait_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.02)


# ---------------------------------------------------------------- coming up


def test_nodes_say_hello_and_are_ready(make: Make, base_dir: str):
    session = make(2)
    ready = session.wait_ready()
    assert [info.node for info in ready] == [1, 2]
    hello = ready[0].hello
    assert hello["head_pk"] == "key-of-head"
    assert hello["addr"] == "127.0.0.1"
    assert hello["cpus"] == max(1, len(os.sched_getaffinity(0)) // 2)
    assert "head_ep" not in ready[1].hello
    assert session.local_dir() == hello["dir"]
    assert os.path.dirname(hello["dir"]) == base_dir
    facts = json.loads((node_dir(session) / "session.json").read_text())
    assert facts["session"] == session.id
    assert facts["head_ep"] == hello["head_ep"]
    assert facts["pid"] == hello["pid"]


def test_the_head_is_told_the_keys_before_any_node_is_told_the_head(make: Make):
    session = make(2)
    session.wait_ready()

    def admitted() -> dict[str, str]:
        seen = [message for message in lines(node_dir(session) / "head.jsonl") if message["op"] == "admit"]
        return {key: value for message in seen for key, value in message["keys"].items()}

    # The head of these nodes is a process of its own, and nobody waits for its notes.
    pump_until(session, lambda: len(admitted()) == 2, "the notes of the head")
    assert admitted() == {"1": "key-of-1", "2": "key-of-2"}
    (welcome,) = lines(node_dir(session, 2) / "raylet.jsonl")
    assert welcome["op"] == "welcome"
    assert welcome["head_pk"] == "key-of-head"


def test_a_group_that_comes_later_joins_with_new_numbers(make: Make):
    session = make(1)
    session.wait_ready()
    (node,) = session.add_group(fake_group())
    assert node == 2
    session.wait_node(node, LIMIT_S)
    assert "head_pk" not in session.nodes[2].hello
    session.remove_node(2, grace_s=1.0)
    pump_until(session, lambda: session.nodes[2].state == "gone", "the removed node")
    assert session.state == "ready"
    (node,) = session.add_group(fake_group())
    assert node == 3
    session.wait_node(node, LIMIT_S)


def test_a_gateway_offers_nothing_and_has_no_zygote(make: Make):
    session = make(1)
    session.wait_ready()
    (node,) = session.add_group(fake_group(), gateway=True)
    info = session.wait_node(node, LIMIT_S)
    assert info.hello["cpus"] == 0
    assert len(descendants(info.hello["pid"])) == 1
    assert info not in session.ready()


def test_overrides_reach_the_node(make: Make):
    session = make(options={"overrides": {"num_cpus": 7, "num_gpus": 2, "memory_bytes": 1 << 30}})
    (info,) = session.wait_ready()
    assert info.hello["cpus"] == 7
    assert info.hello["devices"] == {"GPU": ["0", "1"]}
    assert info.hello["device_env"] == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert info.hello["mem_bytes"] == 1 << 30


def test_nodes_forked_from_a_launcher_of_one_thread(base_dir: str):
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(FAKE_NODE)!r})
import fake_node
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
group = LocalGroup(3, fork=True, supervisor=fake_node.run)
assert group.forked
with Session(group, start_timeout_s={LIMIT_S}) as session:
    print(len(session.wait_ready()))
print(session.state, session.nodes[1].state)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * LIMIT_S)
    assert done.stdout.split() == ["3", "ended", "gone"], done.stderr
    assert not list(Path(base_dir).glob("hpc-*"))


# ---------------------------------------------------------------- what goes wrong at the start


@pytest.mark.parametrize(
    ("options", "config", "words"),
    [
        ({"base_dir": "/no/such/place"}, {}, "base_dir=/no/such/place: no such directory"),
        ({"interface": "nope9"}, {}, r"interface nope9 is not on this machine; there are: lo \(127.0.0.1\)"),
        ({}, {"fake_raylet": "crash"}, "its raylet ended with code 7"),
        ({}, {"fake_head": "crash"}, "its head ended with code 9"),
        ({}, {"fake_raylet": "refuse"}, "raylet: no socket today"),
        ({}, {"fake_raylet": "silent", "bind_timeout_s": 0.2}, "not listening within the time allowed: .*raylet"),
        ({"overrides": {"num_cpus": "many"}}, {}, "num_cpus"),
        ({"start_timeout_s": 0.5}, {"fake_raylet": "silent"}, "its supervisor has not answered"),
    ],
)
def test_a_node_that_cannot_start_says_why(make: Make, options: dict, config: dict, words: str):
    session = make(options=options, **config)
    with pytest.raises(StartError, match=words):
        session.wait_ready()
    assert session.state == "ended"


def test_the_last_lines_of_a_crashed_child_are_in_the_error(make: Make):
    with pytest.raises(StartError) as caught:
        make(fake_raylet="crash").wait_ready()
    assert "| the raylet's last line" in str(caught.value)


def test_a_node_program_that_is_not_there(make: Make):
    with pytest.raises(StartError, match="cannot start 1 local node"):
        make(group=LocalGroup(1, command=["/no/such/python"])).wait_ready()
    with pytest.raises(StartError, match="its supervisor ended") as caught:
        make(group=LocalGroup(1, command=[sys.executable, "-c", "import no_such_module"])).wait_ready()
    assert "| ModuleNotFoundError: No module named 'no_such_module'" in str(caught.value)


def test_another_version_is_refused_and_named(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hpc.launchers.session.own_versions", lambda: {"Python": "3.99", "hpc": "0.1.0", "zmq": "1.0"})
    session = make()
    with pytest.raises(StartError, match=r"node 1 \(.+\): Python 3\.\d+ there, 3.99 here; zmq .* there, 1.0 here"):
        session.wait_ready()


def test_fewer_nodes_are_enough_when_the_user_said_so(make: Make):
    first_only = (
        f"import os, sys; rank = sys.argv[sys.argv.index('--rank') + 1]; "
        f"rank == '0' and os.execv(sys.executable, [sys.executable, {FAKE_NODE!r}, *sys.argv[1:]])"
    )
    group = LocalGroup(2, command=[sys.executable, "-c", first_only])
    session = make(group=group, options={"min_nodes": 1})
    assert [info.node for info in session.wait_ready()] == [1]
    assert [info.problem() for info in session.missing()] == ["node 2: its supervisor ended"]


def test_wait_ready_can_be_bounded_and_repeated(make: Make):
    session = make(fake_raylet="silent")
    with pytest.raises(StartError, match="not ready after"):
        session.wait_ready(timeout_s=0.3)
    assert session.state == "starting"


# ---------------------------------------------------------------- ends


def everything() -> list[int]:
    """All processes below this one but its nurseries: those of the session under test."""
    return [pid for pid in descendants(os.getpid()) if is_running(pid) and name_of(pid) != "hpc-nursery"]


def name_of(pid: int) -> str:
    """The name of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_stop_is_told_to_the_children_and_leaves_nothing(make: Make):
    session = make(1, fake_workers=2, fake_worker="daemon")
    session.wait_ready()
    worker_facts(session, 2)
    directory = node_dir(session)
    pids = everything()
    assert len(pids) >= 9  # keeper, supervisor, raylet, head, zygote, two workers and their daemons
    began = time.monotonic()
    session.stop(grace_s=60.0)
    assert time.monotonic() - began < 30.0
    assert not [pid for pid in pids if is_running(pid)]
    assert not directory.exists()


def test_a_child_that_does_not_stop_is_killed_after_the_grace_period(make: Make):
    session = make(fake_raylet="stubborn")
    session.wait_ready()
    pids = everything()
    began = time.monotonic()
    session.stop(grace_s=0.5)
    assert time.monotonic() - began > 0.4
    assert not [pid for pid in pids if is_running(pid)]


@pytest.mark.parametrize("name", ["hpc-raylet", "hpc-zygote"])
def test_a_node_whose_child_is_killed_ends_and_says_so(make: Make, name: str):
    events: list[Event] = []
    session = make(2, fake_workers=1, fake_worker="daemon", options={"on_event": events.append})
    session.wait_ready()
    worker_facts(session, 1, node=2)
    pids = [session.nodes[2].hello["pid"], *descendants(session.nodes[2].hello["pid"])]
    directory = node_dir(session, 2)
    os.kill(process_named(session, name, node=2), signal.SIGKILL)
    pump_until(session, lambda: session.nodes[2].state == "gone", "the node's end")
    assert session.state == "ready"
    assert f"its {name[4:]} was killed by SIGKILL" in session.nodes[2].why
    assert [event.kind for event in events if event.node is session.nodes[2]][-2:] == ["exit", "lost"]
    wait_ended(pids)
    assert not directory.exists()
    pump_until(session, lambda: lines(node_dir(session) / "head.jsonl")[-1]["op"] == "lost", "the head's news")
    assert lines(node_dir(session) / "head.jsonl")[-1]["node"] == 2


def test_the_death_of_the_head_ends_the_session(make: Make):
    session = make(2)
    session.wait_ready()
    pids = everything()
    os.kill(process_named(session, "hpc-head"), signal.SIGKILL)
    pump_until(session, lambda: session.state == "ended", "the session's end")
    assert "its head was killed by SIGKILL" in session.lost
    wait_ended(pids)


def test_a_killed_supervisor_is_cleared_up_after(make: Make):
    session = make(2, fake_workers=2, fake_worker="daemon")
    session.wait_ready()
    worker_facts(session, 2, node=2)
    pids = [session.nodes[2].hello["pid"], *descendants(session.nodes[2].hello["pid"])]
    assert len(pids) == 7
    directory = node_dir(session, 2)
    os.kill(session.nodes[2].hello["pid"], signal.SIGKILL)
    pump_until(session, lambda: session.nodes[2].state == "gone", "the node's end")
    assert "the supervisor was killed by SIGKILL" in session.nodes[2].why
    assert not [pid for pid in pids if is_running(pid)]
    assert not directory.exists()
    assert session.state == "ready"


def test_a_killed_keeper_ends_its_node(make: Make):
    session = make(2, fake_workers=1, fake_worker="daemon")
    session.wait_ready()
    worker_facts(session, 1, node=2)
    supervisor = session.nodes[2].hello["pid"]
    pids = [supervisor, *descendants(supervisor)]
    keeper = next(pid for pid in children_of(os.getpid()) if supervisor in children_of(pid))
    directory = node_dir(session, 2)
    os.kill(keeper, signal.SIGKILL)
    pump_until(session, lambda: session.nodes[2].state == "gone", "the node's end")
    wait_ended(pids)
    assert not directory.exists()


def test_the_directory_of_a_node_killed_at_once_is_removed_by_the_next(make: Make):
    session = make(2)
    session.wait_ready()
    supervisor = session.nodes[2].hello["pid"]
    keeper = next(pid for pid in children_of(os.getpid()) if supervisor in children_of(pid))
    pids = [supervisor, *descendants(supervisor)]
    directory = node_dir(session, 2)
    os.kill(keeper, signal.SIGSTOP)  # it would clear up otherwise
    os.kill(supervisor, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    pump_until(session, lambda: session.nodes[2].state == "gone", "the node's end")
    wait_ended(pids)
    assert directory.exists()
    (node,) = session.add_group(fake_group())
    session.wait_node(node, LIMIT_S)
    pump_until(session, lambda: not directory.exists(), "the sweep")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_a_node_in_order(make: Make, signum: int):
    session = make(2, fake_workers=1)
    session.wait_ready()
    worker_facts(session, 1, node=2)
    supervisor = session.nodes[2].hello["pid"]
    pids = [supervisor, *descendants(supervisor)]
    keeper = next(pid for pid in children_of(os.getpid()) if supervisor in children_of(pid))
    os.kill(keeper, signum)  # as a scheduler would: the process that it started
    pump_until(session, lambda: session.nodes[2].state == "gone", "the node's end")
    assert session.nodes[2].why == f"it was told to end by {signal.Signals(signum).name}"
    wait_ended(pids)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_warnings_to_the_processes_of_a_node_end_nothing(make: Make, signum: int):
    session = make(fake_workers=1)
    session.wait_ready()
    worker_facts(session, 1)
    supervisor = session.nodes[1].hello["pid"]
    below = descendants(supervisor)
    others = [] if signum == signal.SIGINT else [supervisor]
    for pid in below + others:
        os.kill(pid, signum)
    time.sleep(0.2)
    assert all(is_running(pid) for pid in below)
    session.pump()
    assert session.state == "ready"


LAUNCHER = f"""
import os, sys, time
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
session = Session(LocalGroup(2, command=[sys.executable, {FAKE_NODE!r}]), start_timeout_s=20,
                  config={{"fake_workers": 1, "fake_worker": "daemon"}})
session.wait_ready()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(600)  # a child of the user's program has its end of the pipes
print(*(info.hello["pid"] for info in session.ready()), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("also", [(), ("fork",)])
def test_the_death_of_the_launcher_ends_all_nodes(also: tuple[str, ...], base_dir: str):
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, *also], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        assert select.select([launcher.stdout], [], [], LIMIT_S)[0]
        supervisors = [int(word) for word in launcher.stdout.readline().split()]
        assert len(supervisors) == 2
        pids = [pid for supervisor in supervisors for pid in [supervisor, *descendants(supervisor)]]
        forked = [pid for pid in children_of(launcher.pid) if not set(children_of(pid)) & set(supervisors)]
        launcher.kill()
        launcher.wait(LIMIT_S)
        wait_ended(pids)
        assert len(forked) == len(also)
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_S
    while list(Path(base_dir).glob("hpc-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stopped_supervisor_is_ended_by_force(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hpc.launchers.session.STOP_MARGIN_S", 0.3)
    session = make(fake_workers=1, fake_worker="daemon")
    session.wait_ready()
    worker_facts(session, 1)
    pids = everything()
    directory = node_dir(session)
    os.kill(session.nodes[1].hello["pid"], signal.SIGSTOP)
    session.stop(grace_s=0.2)
    assert session.state == "ended"
    wait_ended(pids)
    assert not directory.exists()


# ---------------------------------------------------------------- the zygote


def raylet_heard(session: Session, op: str, count: int) -> list[dict]:
    path = node_dir(session) / "raylet.jsonl"
    found: list[dict] = []

    def enough() -> bool:
        found[:] = [message for message in lines(path) if message["op"] == op]
        return len(found) >= count

    pump_until(session, enough, f"{count} × {op}")
    return found


def test_workers_are_forked_with_their_own_world(make: Make):
    session = make(fake_workers=3, fake_modules=["numpy", "msgspec"])
    session.wait_ready()
    facts = worker_facts(session, 3)
    forked = {message["proc"]: message["pid"] for message in raylet_heard(session, "forked", 3)}
    assert forked == {fact["proc"]: fact["pid"] for fact in facts}
    assert len({fact["draw"] for fact in facts}) == 3
    assert len({fact["numpy_draw"] for fact in facts}) == 3
    assert [fact["env"] for fact in facts] == ["0", "1", "2"]
    assert [fact["home"] for fact in facts] == [None] * 3
    assert [fact["omp"] for fact in facts] == [os.environ.get("OMP_NUM_THREADS")] * 3
    assert all(fact["fds"] == [0, 1, 2] for fact in facts)
    logs = node_dir(session) / "logs"
    for stream in ("err", "out"):
        log = logs / f"worker-2.{stream}"
        pump_until(session, lambda log=log, stream=stream: log.read_text() == f"{stream} of 2\n", "the log")


@pytest.mark.parametrize(("mode", "code"), [("draw", 3), ("crash", -signal.SIGSEGV)])
def test_the_raylet_hears_how_its_workers_ended(make: Make, mode: str, code: int):
    session = make(fake_workers=20, fake_worker=mode)
    session.wait_ready()
    ended = raylet_heard(session, "exited", 20)
    assert sorted(message["proc"] for message in ended) == list(range(20))
    assert {os.waitstatus_to_exitcode(message["status"]) for message in ended} == {code}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("starts_a_thread", "zygote: the zygote has 2 threads after its imports"),
        ("no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_zygote_that_must_not_fork_says_so(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: str
):
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    session = make(fake_modules=[module], fake_workers=1)
    session.start()
    refused: list[dict] = []

    def heard() -> bool:
        for path in Path(session.nodes[1].hello.get("dir", "/nowhere")).glob("raylet.jsonl"):
            refused[:] = [message for message in lines(path) if message["op"] == "error"] or refused
        return session.state == "ended"

    pump_until(session, heard, "the end of the only node")
    assert words in session.lost
    # A raylet that asked for a worker before the end is told the reason too, without the name of the process.
    reason = words.removeprefix("zygote: ")
    assert not [message for message in refused if reason not in message["why"] or message["proc"] != 0]
