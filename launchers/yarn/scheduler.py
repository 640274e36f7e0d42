"""YARN behind the face of all schedulers (launchers/scheduler.py).

site.py finds the installation, commands.py makes and reads what is said, and words.py explains it. manager.py asks the
ResourceManager, container.py is what runs in the containers, and group.py makes their nodes one session.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hpc.launchers.node_group import node_command
from hpc.launchers.run import PROBE_TIMEOUT_S, SUBMIT_TIMEOUT_S, Background, CommandAnswer, run_command
from hpc.launchers.scheduler import (
    Allocation,
    Command,
    Diagnosis,
    Forecast,
    JobInfo,
    JobNews,
    NoAnswer,
    Refused,
    Reply,
    Request,
    StepVariables,
)  # fmt: skip
from hpc.launchers.yarn import commands, orders, site, words

if TYPE_CHECKING:
    from hpc.launchers.node_group import Surroundings
    from hpc.launchers.yarn.group import YarnGroup
    from hpc.launchers.yarn.manager import Manager

LOOK_S = 0.1
ORDER_S = 10.0  # so long a signal may take on its way through the job's folder
#: In the job's folder: the client's configuration for files that nobody else may read.
PRIVATE = ".conf"
#: The ResourceManager kills a job that was asked to end after so long: no command of ours has to wait for that.
CANCEL_GRACE_S = 60.0


class Yarn:
    """The face."""

    name: ClassVar[str] = "yarn"
    title: ClassVar[str] = "YARN"
    job_env: ClassVar[str] = commands.JOB
    submits_with: ClassVar[str] = "yarn jar"
    starts_with: ClassVar[str] = ""
    reads_env: ClassVar[str] = "HADOOP_"
    disk_env: ClassVar[Sequence[str]] = ()
    script_name: ClassVar[str] = "job.yarn"
    node_ranges: ClassVar[bool] = False
    gpu_kinds: ClassVar[bool] = False
    output_patterns: ClassVar[str] = "%j, %x, %u"
    numbers_env: ClassVar[str] = commands.SHELL_ID
    column: ClassVar[Mapping[str, str]] = commands.COLUMN
    strip: ClassVar[StepVariables] = commands.STRIP

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        return commands.allocation(env)

    def configured(self, env: Mapping[str, str]) -> bool:
        """Whether the client is here, knows a cluster, and has the application that we submit."""
        return site.client(env) is not None and site.shell_jar(env) is not None

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> YarnGroup:
        from hpc.launchers.yarn.group import YarnGroup

        if alloc is None:
            raise ValueError("without an allocation of YARN's there are no nodes of it")
        if around is not None and not around.usual:
            raise NoAnswer("YARN starts the nodes with the job, as they are")
        return YarnGroup(alloc, nodes=nodes, fork=fork)

    # -------------------------------------------------------------- before there is a job

    def carries(self) -> bool:
        return True

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        program = [sys.executable, "-c", commands.CONTAINER_PROGRAM]
        return commands.job_script(request, cwd=cwd, setup=setup, command=command, container=program)

    def submission(self, script: str, request: Request, *, estimate: bool = False, brought: bool = False) -> list[str]:
        jar = site.shell_jar(os.environ) or site.JAR_NAME
        return commands.client_command("yarn", jar, script, request, extra=request.submit_arg, brought=brought)

    def step(self, nodes: Sequence[str], *, whole: bool = True, step_args: Sequence[str] = ()) -> list[str]:
        """What runs on the last node: YARN starts it with the job, not hpc-launch."""
        from hpc.launchers.joiner import joiner_command

        if len(nodes) < 2:
            return [*node_command(), "--rank", "0"]
        return joiner_command(commands.JOIN_FILE, len(nodes) - 1)

    def output_file(self, output: str, job_id: str, job_name: str) -> str | None:
        import getpass

        return commands.output_file(output, job_id, job_name, getpass.getuser())

    # -------------------------------------------------------------- a job

    def submit(self, command: Sequence[str], request: Request) -> str:
        """The client stays until the application has ended: it is let go once the application was taken."""
        self._check(command, request)
        env = dict(os.environ)
        if commands.BRINGS in command:  # what is in that file is for nobody else
            env = site.private(env, Path(command[command.index(commands.BRINGS) + 1]).parent / PRIVATE)
        env["HADOOP_ROOT_LOGGER"] = "INFO,console"
        client = Background(command, timeout_s=SUBMIT_TIMEOUT_S, env=env)
        try:
            while True:
                answer = client.poll()
                job_id = commands.parse_submitted(client.said() if answer is None else answer.err + answer.out)
                if job_id is not None:
                    return job_id
                if answer is not None:
                    raise Refused(_refusal(answer))
                time.sleep(LOOK_S)
        finally:
            client.close()

    def estimate(self, command: Sequence[str], request: Request) -> str:
        self._check(command, request)
        return "YARN makes none; nothing in this request is more than the cluster has"

    def forecast(self, script: str, request: Request) -> Forecast:
        """YARN plans no starts: how much is free, and how full the queue is, is all that it tells."""
        self._check(self.submission(script, request), request)
        asked = commands.resources(request)
        manager = _manager()
        try:
            free = words.free_nodes(asked, words.parse_free(manager.get(words.NODES_PATH)))
            queue = words.queue_in_words(manager.get(words.QUEUES_PATH), request.partition)
        except NoAnswer as silence:
            raise Refused(
                Diagnosis("SCHEDULER-DOWN", "the ResourceManager does not answer", why=str(silence))
            ) from None
        most = request.nodes[1]
        why = "; ".join(filter(None, ["the scheduler does not tell when a job would start", queue]))
        return Forecast(None, why, asked["vcores"] * most, asked.get("yarn.io/gpu", 0) * most, free)

    def _check(self, command: Sequence[str], request: Request) -> None:
        """What the client would take though it can never run, or would run with less. Refused."""
        if site.shell_jar(os.environ) is None or site.client(os.environ) is None:
            what = "the client of YARN, or its DistributedShell, is not on this machine"
            hint = "HADOOP_HOME says where it is; --scheduler=local runs on this machine"
            raise Refused(Diagnosis("NO-SCHEDULER", what, hint=hint))
        most = request.nodes[1]
        script = command[command.index("-shell_args") + 1].strip("'")
        if letter := commands.unfit(script):
            what = f"the path of the job's folder has a {letter!r}, which YARN's shells do not pass on: {script}"
            raise Refused(Diagnosis("JOB-DIR", what, hint="--job-dir=DIR, without it"))
        if (ticket := self._ticket()) is not None:
            raise Refused(ticket)
        manager = _manager()
        try:
            answer = manager.get(words.NODES_PATH)
            refused = words.unknown_label(request, answer)
            if refused is not None:
                raise Refused(refused)
            nodes = words.parse_nodes(answer, request.constraint)
            queues = words.parse_queues(manager.get(words.QUEUES_PATH))
            apart = most == 1 or manager.setting(words.HANDLER) != "disabled"
        except NoAnswer as silence:
            what = "the ResourceManager does not answer; nothing was submitted"
            raise Refused(Diagnosis("SCHEDULER-DOWN", what, why=str(silence))) from None
        if not apart:
            raise Refused(words.without_constraints(most))
        refused = words.compare(request, commands.resources(request), nodes, queues, commands.MASTER_MB)
        if refused is not None:
            raise Refused(refused)

    def _ticket(self) -> Diagnosis | None:
        """Why the client would be nobody here, as far as `klist` can tell. It says so at once; the client says it in
        the words of Java, after a minute of trying."""
        if site.properties(os.environ).get("hadoop.security.authentication") != "kerberos":
            return None
        asked = run_command(["klist", "-s"], timeout_s=PROBE_TIMEOUT_S)
        if asked.code != 1:
            return None
        said = run_command(["klist"], timeout_s=PROBE_TIMEOUT_S)
        return words.no_ticket(said.out + said.err)

    def inquire(self, job_id: str, *, position: bool) -> YarnInquiry:
        return YarnInquiry(_manager(), job_id, position)

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobInfo]:
        found = {str(app.get("id")): app for app in _manager().apps()}
        return {job_id: commands.parse_app(found[job_id]) for job_id in job_ids if job_id in found}

    def cancel(self, job_id: str) -> Reply:
        """While it waits it is killed. Else hpc-launch is asked to end it: between YARN's SIGTERM and its SIGKILL is a
        quarter of a second, too short for any script. The ResourceManager kills it should that take long."""
        from hpc.launchers.yarn.manager import NotKnown

        manager = _manager()
        try:
            if commands.all_are_there(manager.app(job_id)):
                now = time.time()
                manager.kill_at(job_id, now + CANCEL_GRACE_S, now)
                for container in manager.containers(job_id):
                    manager.signal(container, commands.SIGNALS["TERM"])
            else:
                manager.kill(job_id)
        except NotKnown:
            return Reply(False, unknown=True, why=f"YARN knows no {job_id}")
        except NoAnswer as silence:
            return Reply(False, why=str(silence))
        return Reply(True)

    def requeue(self, job_id: str) -> Reply:
        return Reply(False, why="YARN starts no application again")

    def signal(self, job_id: str, name: str, folder: str) -> Reply:
        from hpc.launchers.yarn.manager import NotKnown

        if name not in commands.SIGNALS:
            return self._order_signal(Path(folder, job_id), name)
        manager = _manager()
        try:
            for container in manager.containers(job_id):
                manager.signal(container, commands.SIGNALS[name])
        except NotKnown:
            return Reply(False, unknown=True, why=f"YARN knows no {job_id}")
        except NoAnswer as silence:
            return Reply(False, why=str(silence))
        return Reply(True)

    def on_each(
        self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str], step_args: Sequence[str] = ()
    ) -> list[Command]:
        raise NoAnswer("YARN runs nothing more in a container that is there")

    def broadcast(self, alloc: Allocation, nodes: Sequence[str], source: str, target: str) -> Command | None:
        return None

    def run_in(self, job_id: str, host: str, argv: Sequence[str], folder: str) -> Command:
        """YARN runs nothing more in a container that is there: the job's first process does, by an order."""
        return Command((sys.executable, "-c", orders.PROGRAM, str(Path(folder, job_id)), *argv), dict(os.environ))

    def _order_signal(self, folder: Path, name: str) -> Reply:
        """Of those that YARN does not know."""
        try:
            order = orders.give(folder, {"signal": name})
        except OSError as error:
            return Reply(False, why=f"YARN cannot send SIG{name}, and no order can be given: {error}")
        taken = orders.wait(order, taken_s=ORDER_S) == 0
        orders.withdraw(order)
        return Reply(taken, why="" if taken else f"YARN cannot send SIG{name}, and the job takes no orders")


class YarnInquiry:
    """A question that a thread waits for: about the application, and where it waits for its place in the queue."""

    def __init__(self, manager: Manager, job_id: str, position: bool) -> None:
        self._news: list[JobNews] = []
        self._asked = threading.Event()  # all that will be known is in `_news`
        self._closed = False
        threading.Thread(target=self._ask, args=(manager, job_id, position), name="hpc-inquiry", daemon=True).start()

    def _ask(self, manager: Manager, job_id: str, position: bool) -> None:
        from hpc.launchers.yarn.manager import NotKnown

        try:
            info = commands.own_limit(commands.parse_app(manager.app(job_id)), os.environ, time.time())
            self._news.append(JobNews(info))
            if position and info.state == "ACCEPTED":
                self._news.append(JobNews(info, position=manager.position(job_id, info.partition)))
        except NotKnown:
            self._news.append(JobNews(known=False))
        except NoAnswer:
            self._news.append(JobNews())
        finally:
            self._asked.set()

    @property
    def over(self) -> bool:
        return self._closed or (self._asked.is_set() and not self._news)

    def poll(self) -> JobNews | None:
        return self._news.pop(0) if self._news and not self._closed else None

    def close(self) -> None:
        self._closed = True


def _manager() -> Manager:
    from hpc.launchers.yarn.manager import Manager

    return Manager(client=commands.JOB not in os.environ)  # a container has no ticket


def _refusal(answer: CommandAnswer) -> Diagnosis:
    """The client's no. Its last words are Java's; the first line that names an exception says more."""
    if answer.timed_out:
        what = "YARN did not answer; `hpc ps` and `yarn application -list` show whether it took the job"
        return Diagnosis("SCHEDULER-DOWN", what, why=answer.why())
    said = answer.err + answer.out
    named = [line.strip() for line in said.splitlines() if "Exception" in line and not line.startswith("\tat ")]
    return words.explain_refusal(said, named[0][-400:] if named else answer.why())
