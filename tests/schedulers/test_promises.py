"""What every scheduler keeps: one list of promises, run against each real one that can be had on this machine.

bed.py says what a scheduler must offer for that; what one has not is skipped with its reason. Whatever is true of one
scheduler only (its refusals word by word, its own commands) has its place in the files named after it.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bed import Bed
from desk import Desk, Terminal, launcher, node_processes, nothing_left
from netbed import start_time, wait_for
from programs import HOSTS, PLAIN, WAITS

pytestmark = pytest.mark.scheduler


@pytest.fixture
def desk(any_bed: Bed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """At any scheduler, with the usual programs."""
    found = Desk.at(any_bed, request.node.name)
    for name, text in (("plain.py", PLAIN), ("waits.py", WAITS), ("hosts.py", HOSTS)):
        found.script(name, text)
    yield found
    any_bed.cancel_all()


def need(bed: Bed, promise: str) -> None:
    if promise in bed.lacks:
        pytest.skip(f"{bed.scheduler}: {bed.lacks[promise]}")


def in_order(bed: Bed, seen: list[str]) -> list[str]:
    """The first nodes in the scheduler's order; where it has none, as they were seen."""
    first = bed.hosts[: len(seen)]
    return seen if "order" in bed.lacks and sorted(seen) == first else first


def answer(text: str) -> dict[str, Any]:
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


@dataclass
class Waiting:
    """A followed job whose script waits."""

    process: subprocess.Popen[str]
    job_id: str
    driver: int  # its process id
    said: list[str]  # what it knew of its job


def waiting(desk: Desk, *options: str) -> Waiting:
    """Submit waits.py, and follow it until it waits."""
    process = desk.start(*launcher(), "--grace=2", *options, "waits.py")
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:1] == ["waits"], process.communicate(timeout=90)
    return Waiting(process, desk.job_id(), int(words[1]), words[2:])


def finish(job: Waiting, timeout_s: float = 90.0) -> tuple[int, str, str]:
    out, err = job.process.communicate(timeout=timeout_s)
    return job.process.returncode, out, err


# ---------------------------------------------------------------- the first: its job goes on until the last


@dataclass
class Short:
    """A job that has the shortest time limit that there is, in a place of its own."""

    desk: Desk
    job: Waiting


@pytest.fixture(scope="module")
def short(any_bed: Bed) -> Iterator[Short]:
    with any_bed.aside() as bed:
        desk = Desk.at(bed, f"short-{bed.scheduler}")
        desk.env["HPC_TMPDIR"] = str(desk.folder)  # what others leave is looked for where they have theirs
        desk.script("waits.py", WAITS)
        yield Short(desk, waiting(desk, "-N1", f"-t{bed.shortest_s}s"))
        bed.cancel_all()


def test_the_time_that_is_left_is_known(short: Short) -> None:
    assert 0 < float(short.job.said[2]) <= short.desk.bed.shortest_s


# ---------------------------------------------------------------- submitting and following


def test_output_state_and_exit_code_come_back(desk: Desk) -> None:
    done = desk.launch("-N2", "-t", "5m", "plain.py", "7", "--nodes")
    assert done.returncode == 7, done.stderr
    assert re.fullmatch(r"ran on \w+ \['7', '--nodes'\]\n", done.stdout)
    assert re.search(r"^queued +\w*\d+", done.stderr, re.M) and "ended     exit code 7" in done.stderr
    job = desk.jobs / "1"
    wait_for("the last process to put its folder away", lambda: len(list(job.iterdir())) == 7, 90.0)
    assert {p.name for p in job.iterdir()} >= {"driver.log", "events.jsonl", "job.json", "report.html", "status.json"}
    nothing_left(desk)


def test_detach_prints_the_id_and_attach_brings_the_exit_code(desk: Desk) -> None:
    done = desk.launch("-N1", "-t5", "--detach", "plain.py", "9")
    job_id = done.stdout.strip()
    assert done.returncode == 0 and re.fullmatch(r"\w*\d[^ \n]*\n", done.stdout), done.stderr
    assert desk.job_id() == job_id
    back = desk.hpc("attach", "last")
    assert back.returncode == 9 and "ran on" in back.stdout
    rows = json.loads(desk.hpc("ps", "--json").stdout)
    assert [(r["scheduler_id"], r["state"], r["exit_code"]) for r in rows] == [(job_id, "ended", 9)]
    for name in ("1", f"{desk.bed.scheduler}:{job_id}"):
        assert re.fullmatch(r"ran on \w+ \['9'\]\n", desk.hpc("logs", name).stdout)


def test_output_goes_where_it_was_asked_to_and_names_can_have_spaces(desk: Desk) -> None:
    need(desk.bed, "cheap")
    done = desk.launch("-t5", "-J", "mine", "-o", "out of it.txt", "plain.py", "0", "a b")
    assert done.returncode == 0 and done.stdout.endswith("['0', 'a b']\n"), done.stderr
    assert (desk.folder / "out of it.txt").read_text() == done.stdout


def test_all_that_is_written_until_the_end_comes_through(desk: Desk) -> None:
    need(desk.bed, "cheap")
    desk.script("talks.py", "for i in range(40000): print('line', i)")
    done = desk.launch("-N2", "-t5", "talks.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"line {i}" for i in range(40000)]


def test_setup_lines_and_variables_reach_the_script(desk: Desk) -> None:
    need(desk.bed, "cheap")
    desk.script("env.py", "import os; print(os.environ['A'], os.environ['B'])")
    done = desk.launch("-t5", "--setup", "export A='a \"b\"'", "--env", "B=c,d e", "env.py")
    assert done.stdout == 'a "b" c,d e\n', done.stderr


def test_ranks_have_torchruns_environment_in_the_order_of_the_nodes(desk: Desk) -> None:
    need(desk.bed, "cheap")
    desk.script("rank.py", """
        import os, socket
        e = os.environ
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")
        print(*(e[name] for name in names), socket.gethostname())
    """)  # fmt: skip
    done = desk.launch("-N4", "-c2", "-t5", "--ranks-per-node", "2", "rank.py")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    hosts = in_order(desk.bed, [line.split()[-1] for line in lines[::2]])
    assert lines == [f"[rank {r}] {r} {r % 2} 8 2 {r // 2} {hosts[r // 2]}" for r in range(8)]


def test_the_first_failing_rank_is_shown_last_and_ends_the_others(desk: Desk) -> None:
    need(desk.bed, "cheap")
    desk.script("rank.py", """
        import os, time
        if os.environ["RANK"] == "3":
            raise RuntimeError("rank three gives up")
        time.sleep(300)
    """)  # fmt: skip
    done = desk.launch("-N2", "-t5", "--ranks-per-node", "2", "rank.py")
    assert done.returncode == 1, done.stderr
    assert "hpc: rank 3 on node 2" in done.stdout and "RuntimeError: rank three gives up" in done.stdout
    nothing_left(desk)


def test_an_ordinary_user(desk: Desk) -> None:
    need(desk.bed, "ordinary user")
    user = pwd.getpwnam("nobody")
    can = "import os, sys; os.setuid(65534); os.execv(sys.executable, [sys.executable, '-c', 'import hpc'])"
    if subprocess.run([sys.executable, "-c", can], cwd="/", capture_output=True, timeout=30).returncode:
        pytest.skip(f"another user cannot run {sys.executable}")
    desk.script("who.py", """
        import os
        import hpc as ray
        ray.init()
        print(ray.get(ray.remote(os.getuid).remote()), os.getuid())
    """)  # fmt: skip
    done = desk.launch("-N2", "-t5", "who.py", env={"HOME": str(desk.folder)}, user=user.pw_uid, group=user.pw_gid)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{user.pw_uid} {user.pw_uid}\n"
    assert (desk.jobs / "1").stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- the nodes


def test_every_node_has_its_place_one_raylet_and_what_was_asked_for(desk: Desk) -> None:
    """The nodes are in the scheduler's order, the head and the driver are on the first; no key is to be seen."""
    job = waiting(desk, "-N4", "-c2", "-t5")
    nodes = desk.bed.nodes_of(job.job_id)
    assert nodes == in_order(desk.bed, nodes) and len(nodes) == 4
    there = {host: node_processes(desk, host) for host in nodes}
    count = {host: (len(p.get("hpc-head", [])), len(p.get("hpc-raylet", []))) for host, p in there.items()}
    assert count == {host: (int(host == nodes[0]), 1) for host in nodes}
    assert job.driver in desk.bed.pids(nodes[0])
    if "look" not in desk.bed.lacks:
        (row,) = json.loads(desk.hpc("status", "1", "--json").stdout)
        assert len(row["session"]["nodes"]) == 4
        assert (row["session"]["scheduler"], row["session"]["job_id"]) == (desk.bed.scheduler, job.job_id)
    scheduler, job_id, left_s = job.said
    assert (scheduler, job_id) == (desk.bed.scheduler, job.job_id) and 200 < float(left_s) <= 300
    assert keys_seen(desk, job) == []
    (desk.folder / "go").touch()
    assert finish(job)[0] == 0
    nothing_left(desk)


KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def keys_seen(desk: Desk, job: Waiting) -> list[str]:
    """What looks like a key (40 characters in Z85) where other users may look, and is no word of the user's own."""
    texts = {"the scheduler's record": desk.bed.record(job.job_id)}
    pids = [pid for host in desk.bed.hosts for pid in desk.bed.pids(host)]
    for pid in [*pids, job.process.pid]:
        for what in ("cmdline", "environ"):
            try:
                texts[f"{what} of {pid}"] = Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
            except OSError:
                continue
    known = {word for value in {**os.environ, **desk.bed.env, **desk.env}.values() for word in words_of(value)}
    return [
        f"{name}: {word}"
        for name, text in texts.items()
        for word in words_of(text)
        if KEY.fullmatch(word) and word not in known and not os.path.exists(word)
    ]


def words_of(text: str) -> list[str]:
    return re.split(r"[\s\0=,;'\"|]+", text)


def test_what_looks_like_a_key_is_found() -> None:
    assert [w for w in words_of(f"A={'x7^' * 13}Z,b") if KEY.fullmatch(w)] == ["x7^" * 13 + "Z"]


def test_tasks_run_on_every_node_with_the_cpus_that_were_asked_for(desk: Desk) -> None:
    for cpus in (2,) if "cheap" in desk.bed.lacks else (1, 2):
        done = desk.launch("-N4", f"-c{cpus}", "-t5", "hosts.py", "4")
        assert done.returncode == 0, done.stderr
        said = answer(done.stdout)
        nodes = in_order(desk.bed, said["nodes"])
        assert said == {"hosts": sorted(nodes), "nodes": nodes, "cpus": 4.0 * cpus, "here": nodes[0]}
        assert len(nodes) == 4


def test_a_job_script_of_the_users_own(desk: Desk) -> None:
    """hpc-launch in it, and hpc.init() of a plain script, use all nodes of the job; its exit code is the script's."""
    need(desk.bed, "own script")
    hosts = desk.bed.hosts[:3]
    desk.script("both.py", """
        import subprocess, sys
        for command in (["hpc-launch"], [sys.executable], ["hpc-launch", "--nodes=2"]):
            subprocess.run([*command, "hosts.py", sys.argv[1] if len(command) < 2 else "2"], check=True)
        more = subprocess.run(["hpc-launch", "--nodes=9", "hosts.py"], capture_output=True, text=True)
        print("nine:", more.returncode, more.stderr)
        sys.exit(subprocess.run(["hpc-launch", "-Q", "plain.py", "7"]).returncode)
    """)  # fmt: skip
    code, out = desk.own(3, sys.executable, "both.py", "3")
    said = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [(s["nodes"], s["here"]) for s in said] == [(hosts, hosts[0]), (hosts, hosts[0]), (hosts[:2], hosts[0])], out
    assert "nine: 122" in out and "9 nodes asked for, but this allocation has 3" in out
    assert code == 7, out
    nothing_left(desk)


def test_an_unknown_interface_lists_those_there_are(desk: Desk) -> None:
    done = desk.launch("-N2", "-t5", "--interface=ib7", "plain.py")
    assert done.returncode == 122
    assert "error[TOO-FEW-NODES]" in done.stdout and "ib7" in done.stdout and "eth0" in done.stdout


# ---------------------------------------------------------------- refusals


def test_an_unknown_queue_is_refused_with_the_schedulers_words(desk: Desk) -> None:
    done = desk.launch("-t5", "-p", "nowhere", "plain.py")
    assert done.returncode == 120, done.stderr
    assert "error[PARTITION]" in done.stderr and "'nowhere'" in done.stderr and "why:" in done.stderr
    assert list(desk.jobs.iterdir()) == []


@pytest.mark.parametrize("options", [["-N9"], ["-N1", "-c99"]], ids=["nodes", "cpus"])
def test_what_can_never_run_is_said(desk: Desk, options: list[str]) -> None:
    """Refused, or queued with the reason in the line that is shown."""
    process = desk.start(*launcher(), *options, "-t5", "plain.py")
    assert process.stderr is not None
    said = ""
    while not re.search(r"never|TOO-MANY|will not start", said):
        line = process.stderr.readline()
        assert line, said
        said += line
    if "error[" not in said:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == (120 if "error[" in said else 121), said + err


# ---------------------------------------------------------------- before submitting


def test_an_estimate_says_when_and_at_what_cost_or_that_it_is_not_told_and_submits_nothing(desk: Desk) -> None:
    with desk.bed.full():
        done = desk.launch("--estimate", "--json", "-N2", "-c2", "-t", "30m", "plain.py")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    wanted, *others = said["shapes"]
    assert said["scheduler"] == desk.bed.scheduler
    assert (wanted["nodes"], wanted["time_s"], wanted["node_hours"], wanted["cpu_hours"]) == (2, 1800, 1.0, 2.0)
    if wanted["start"] is None:  # a scheduler that plans no start says so, and how many nodes are free: none
        assert "tell" in wanted["why"] and wanted["free_nodes"] == 0
    else:
        assert wanted["wait_s"] > 60
    assert {(s["nodes"], s["time_s"]) for s in others} == {(1, 1800), (2, 900), (2, 450), (1, 900)}
    assert not desk.jobs.exists()
    refused = desk.launch("--estimate", "-p", "nowhere", "-t5", "plain.py")
    if "estimates" not in desk.bed.lacks:
        assert refused.returncode == 120 and "error[PARTITION]" in refused.stderr


# ---------------------------------------------------------------- ends


def test_a_job_cancelled_in_the_queue(desk: Desk) -> None:
    with desk.bed.full():
        process = desk.start(*launcher(), "-N1", "-t5", "plain.py")
        desk.job_id()
        (row,) = json.loads(desk.hpc("ps", "--json").stdout)
        assert row["state"] == "queued"
        assert desk.hpc("cancel", "1").returncode == 0
        _, err = process.communicate(timeout=90)
    assert process.returncode == 121, err
    assert "error[CANCELLED]" in err


def test_a_running_job_cancelled(desk: Desk) -> None:
    job = waiting(desk, "-N2", "-t5")
    assert desk.hpc("cancel", "last").returncode == 0
    code, _, err = finish(job)
    assert code == 128 + signal.SIGTERM, err
    again = desk.hpc("cancel", "last")
    assert again.returncode == 0 and "has ended already" in again.stdout
    nothing_left(desk)


def test_a_running_job_ended_by_the_schedulers_own_command(desk: Desk) -> None:
    job = waiting(desk, "-N2", "-t5")
    desk.bed.end(job.job_id)
    code, _, err = finish(job)
    assert code == 128 + signal.SIGTERM, err
    nothing_left(desk)


def test_ctrl_c_without_a_terminal_cancels(desk: Desk) -> None:
    with desk.bed.full():
        process = desk.start(*launcher(), "-N1", "-t5", "plain.py")
        job_id = desk.job_id()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 121
        wait_for("the end of the job", lambda: desk.bed.phase(job_id) == "ended", 90.0)


def test_ctrl_c_once_in_the_queue_detaches_and_attach_comes_back(desk: Desk) -> None:
    with desk.bed.full():
        shell = Terminal(desk, *launcher(), "-N1", "-t5", "plain.py", "4")
        shell.see(r"queued +\w*\d+")
        shell.interrupt()
        shell.see("still queued; Ctrl-C again within 2 s cancels")
        assert shell.end() == 130
        assert "hpc attach 1" in shell.text
    assert desk.hpc("attach").returncode == 4


def test_ctrl_c_twice_in_the_queue_cancels(desk: Desk) -> None:
    need(desk.bed, "cheap")
    with desk.bed.full():
        shell = Terminal(desk, *launcher(), "-N1", "-t5", "plain.py")
        shell.see(r"queued +\w*\d+")
        shell.interrupt()
        shell.see("still queued")
        shell.interrupt()
        assert shell.end() == 121


def test_ctrl_c_twice_while_it_runs_interrupts_the_script(desk: Desk) -> None:
    need(desk.bed, "signal")
    shell = Terminal(desk, *launcher(), "-N1", "-t5", "waits.py")
    shell.see("waits")
    shell.see(r"running +1 node,")
    shell.interrupt()
    shell.see("sends SIGINT to the script")
    shell.interrupt()
    assert shell.end() == 5
    assert "script got KeyboardInterrupt" in shell.text


def test_a_job_may_run_twice_where_that_was_asked_for(desk: Desk) -> None:
    need(desk.bed, "requeue")
    job = waiting(desk, "-N2", "-t5", *desk.bed.may_run_twice)
    (desk.folder / "go").touch()  # for the second run; the first is held until it is ended
    os.kill(job.driver, signal.SIGSTOP)
    desk.bed.requeue(job.job_id)
    code, out, err = finish(job, 60.0)
    assert code == 0 and "went" in out, (out, err)
    nothing_left(desk)


CHAINED = """
    import os, sys, time
    import hpc
    hpc.init()
    context = hpc.get_runtime_context()
    done = hpc.saved_state("done", [])
    print("link", os.environ["HPC_CHAIN_LINK"], "has", done, flush=True)
    while len(done) < 2 and not context.draining():
        time.sleep(0.1)
    if len(done) < 2:
        hpc.save_state("done", [*done, os.environ["HPC_CHAIN_LINK"]])
        sys.exit(75)
    print("result", done)
"""


def test_a_chain_of_jobs_goes_on_until_the_script_has_ended(desk: Desk) -> None:
    desk.script("chained.py", CHAINED)
    limit_s = max(30, desk.bed.shortest_s)
    options = [f"-t{limit_s}s", "--chain=4", f"--drain={limit_s - 3}s"]
    done = desk.launch("-N1", *options, "chained.py", timeout_s=180)
    assert done.returncode == 0 and "result ['1', '2']" in done.stdout, done.stdout + done.stderr
    assert re.findall(r"link (\d)", done.stdout) == ["1", "2", "3"]
    nothing_left(desk)


# ---------------------------------------------------------------- sudden deaths


def test_the_script_killed(desk: Desk) -> None:
    need(desk.bed, "cheap")
    job = waiting(desk, "-N2", "-t5")
    os.kill(job.driver, signal.SIGKILL)
    code, _, _ = finish(job)
    assert code == 128 + signal.SIGKILL
    nothing_left(desk)


def test_hpc_launch_killed_without_a_word(desk: Desk) -> None:
    need(desk.bed, "codes")
    job = waiting(desk, "-N2", "-t5")
    os.kill(desk.status()["pid"], signal.SIGKILL)
    code, _, err = finish(job)
    assert code == 128 + signal.SIGKILL, err
    wait_for("the driver has ended", lambda: start_time(job.driver) is None, 90.0)
    nothing_left(desk)


def test_a_head_that_is_killed_is_started_again(desk: Desk) -> None:
    need(desk.bed, "cheap")
    job = waiting(desk, "-N2", "-t5")
    host = desk.bed.nodes_of(job.job_id)[0]
    first = node_processes(desk, host)["hpc-head"][0]
    os.kill(first, signal.SIGKILL)
    wait_for("another head", lambda: set(node_processes(desk, host).get("hpc-head", [])) - {first}, 90.0)
    (desk.folder / "go").touch()
    assert finish(job)[0] == 0
    nothing_left(desk)


@pytest.mark.parametrize("which", ["hpc-raylet", "hpc-node"])
def test_a_node_whose_processes_die_is_the_only_loss(desk: Desk, which: str) -> None:
    need(desk.bed, "cheap")
    job = waiting(desk, "-N3", "-t5")
    host = desk.bed.nodes_of(job.job_id)[2]
    for pid in node_processes(desk, host)[which]:
        os.kill(pid, signal.SIGKILL)
    desk.wait_status("the node is lost", lambda status: status["nodes_ready"] == 2)
    (desk.folder / "go").touch()
    code, out, err = finish(job)
    assert code == 0, err
    assert f"lost node 3 ({host})" in out + err
    nothing_left(desk)


def test_a_node_that_crashes_is_the_only_loss(desk: Desk) -> None:
    need(desk.bed, "crash")
    desk.script("goes_on.py", """
        import time
        import hpc
        hpc.init()
        place = hpc.remote(lambda: (time.sleep(0.05), hpc.get_runtime_context().get_node_id())[1])
        seen = set()
        while len(seen) < 3:
            seen |= set(hpc.get([place.remote() for _ in range(12)]))
        print("all three", flush=True)
        while len(hpc.nodes()) > 2 and sum(n["Alive"] for n in hpc.nodes()) > 2:
            hpc.get([place.remote() for _ in range(6)])
        print("two go on", len(set(hpc.get([place.remote() for _ in range(40)]))), flush=True)
    """)  # fmt: skip
    process = desk.start(*launcher(), "-N3", "-c2", "-t5", "goes_on.py")
    assert process.stdout is not None and process.stdout.readline() == "all three\n", process.communicate(timeout=90)
    host = desk.bed.nodes_of(desk.job_id())[2]
    desk.bed.crash(host)
    try:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        assert "two go on 2\n" in out, out
    finally:
        desk.bed.repair(host)
        desk.bed.cancel_all()
    nothing_left(desk, swept=True)


def test_a_job_whose_first_node_crashes_ends(desk: Desk) -> None:
    need(desk.bed, "first node")
    job = waiting(desk, "-N2", "-t5")
    host = desk.bed.nodes_of(job.job_id)[0]
    desk.bed.crash(host)
    try:
        code, _, err = finish(job, 90.0)
        assert code == 123 and "error[SESSION-LOST]" in err, err
        wait_for("the end of the job", lambda: desk.bed.phase(job.job_id) == "ended", 60.0)
    finally:
        desk.bed.repair(host)
        desk.bed.cancel_all()
    nothing_left(desk, swept=True)


# ---------------------------------------------------------------- the last: it takes as long as the shortest limit


def test_a_script_is_asked_to_end_before_the_time_limit(short: Short) -> None:
    code, out, err = finish(short.job, short.desk.bed.shortest_s + 60.0)
    assert code == 124 and "error[WALLTIME]" in out, (out, err)
    nothing_left(short.desk)


# ---------------------------------------------------------------- sessions that grow

#: Tasks for two nodes, of which the first job has one, until both have run some; then nothing, until one is left.
GROWS = """
    import json, sys, time
    import hpc
    hpc.init()

    @hpc.remote(num_cpus=2, max_retries=0)
    def one(seconds):
        time.sleep(seconds)
        return hpc.get_runtime_context().get_node_id()

    def alive():
        return sorted(node["NodeID"] for node in hpc.nodes() if node["Alive"])

    seen, refs, end = [], [], time.monotonic() + float(sys.argv[1])
    while len(set(seen)) < 2 and time.monotonic() < end:
        refs += [one.remote(0.5) for _ in range(4 - len(refs))]
        ready, refs = hpc.wait(refs)
        seen += hpc.get(ready)
    seen += hpc.get(refs)
    while len(alive()) > 1 and time.monotonic() < end:
        time.sleep(0.1)
    print(json.dumps({"seen": sorted(set(seen)), "after": alive()}))
"""


def test_a_session_grows_by_a_further_job_and_gives_it_back(desk: Desk) -> None:
    """Where the nodes cannot submit, that is said, and the session goes on."""
    desk.script("grows.py", GROWS)
    limit_s = "5" if "further jobs" in desk.bed.lacks else "90"
    done = desk.launch(
        "-N1-2", "-c2", "-t5m", "--grow-after=0.5s", "--shrink-after=1s", "grows.py", limit_s, timeout_s=150.0
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = answer(done.stdout)
    log = (desk.jobs / "1" / "driver.log").read_text()
    if "further jobs" in desk.bed.lacks:
        assert "further nodes do not come: the client of" in log and said == {"seen": ["1"], "after": ["1"]}, log
        return
    assert len(said["seen"]) == 2 and len(said["after"]) == 1, (said, log)
    assert json.loads((desk.jobs / "1" / "further.json").read_text())["ids"] == []
