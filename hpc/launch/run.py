"""Running where the nodes are: in an allocation, or on local nodes of this machine.

Starts the session, runs the script when enough nodes are ready, passes signals on, and ends everything, whatever
happens. It says what to do, while the session's loop waits. One thread: local supervisors are forked from this very
process.
Rejected: starting the driver while nodes still come up (a start that fails would have run half a script).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from hpc.launch.around import Around, driver_surroundings, surround
from hpc.launch.chain import EXIT_CONTINUE, STATES, Outcome
from hpc.launch.granted import as_rows, granted, too_few_gpus
from hpc.launch.growth import begin_growth, share_machine, wish_here
from hpc.launch.jobdir import JobDir
from hpc.launch.kept_caches import keep_caches, tell_problems
from hpc.launch.limit import drain_time, keep_time
from hpc.launch.modules import load_modules
from hpc.launch.ourselves import output_name, process_start_s, settled_bytes
from hpc.launch.report import Reporter
from hpc.launch.runtimes import Runtimes
from hpc.launch.status_line import StatusLine, line
from hpc.launch.taken import Taken
from hpc.launch.warning_signal import signal_number
from hpc.launch.work import Driver, Work, command
from hpc.launchers.fate import fate
from hpc.launchers.further import Growth
from hpc.launchers.hostnames import compress_nodes
from hpc.launchers.loop import LoopTimer, SessionLoop
from hpc.launchers.node_group import HERE, NodeGroup
from hpc.launchers.registry import Place, make_group, session_options
from hpc.launchers.runtimes import table as runtimes
from hpc.launchers.scheduler import JobInfo
from hpc.launchers.session import Session
from hpc.launchers.session_errors import SessionError, StartError
from hpc.launchers.session_nodes import Event
from hpc.launchers.signals import Signals
from hpc.launchers.timekeeper import Moment, Timekeeper
from hpc.report.ending import cause_of
from hpc.report.recorder import Recorder
from hpc.settings import errors
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.settings.node import overrides_of
from hpc.settings.options import Settings, runtime_config
from hpc.settings.preloaded import PRELOADED

WALLTIME_MARGIN_S = 10.0  # so long before the time limit the script is asked to end (less in a short job)
PREEMPTED_SHARE = 0.4  # of the time that nodes have which are taken for another job, at most this margin
TICK_S = 1.0
START_TICK_S = 0.25
LEFTOVERS_S = 5.0
CANCEL_NEWS_S = 1.5
LAST_WORDS_S = 0.3  # what a scheduler has to say about a start that failed comes a little later
#: Where it ends a job, busy nodes may be gone so long before this process is told.
TOLD_S = 2.0
DEAF_S = 1.0  # when the session stops, nodes that never answered get so long
LOOK_S = 0.25

#: Why a script is told to end before it has ended by itself.
EndCause = Literal["walltime", "preempted", "lost", "warned", "signal"]


class Interrupted(Exception):
    """A signal came before the script was started."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Run:
    """One run, from the first node to the last process."""

    def __init__(self, settings: Settings, place: Place, job: JobDir | None) -> None:
        self.settings = settings
        self.place = place
        self.began_s = process_start_s()
        submitted = settings["job"] is not None
        self.status = StatusLine(quiet=settings["quiet"] or submitted)
        self.reporter = Reporter(self.status, job, output=output_name(1) if submitted else "")
        self.verbose: bool = settings["verbose"]
        self.argv = command(settings.script, settings.args, module=settings["as_module"])
        self.ranks: int | None = settings["ranks_per_node"]
        #: Nodes that run no runtime of ours, but what they are told.
        self.plain = bool(self.ranks) or settings["runtime"] != runtimes.OWN
        self.other: Runtimes | None = None
        self.session: Session | None = None
        self.around = Around(HERE, self.argv)
        self.loop: SessionLoop
        self.signals = Signals()
        self.clock: Timekeeper | None = None  # once there is a session
        self.growth: Growth | None = None  # once one that may grow is ready
        self.drained = False
        self.limits_seen = 0  # how often the time limit was changed
        self.margin_s = WALLTIME_MARGIN_S
        self.drain_s = 0.0
        self.drain_moment: Moment | None = None
        self.end_moment: Moment | None = None
        self.work: Work | None = None  # once it runs
        self.recorder = Recorder()
        self.preempted = False
        self.drain_signal = signal_number(settings["drain_signal"])
        self.kill_timer: LoopTimer | None = None
        self.cause: EndCause | Literal[""] = ""  # why the script was told to end
        self.interrupts = 0
        self.stopped = 0  # the signal that came while a start failed
        self.lost_nodes: list[str] = []
        self.left_nodes = 0
        self.ready_s = 0.0  # from the start of this process until the nodes were ready

    # -------------------------------------------------------------- the whole

    def run(self) -> int:
        from hpc.core.node.process import become_subreaper

        become_subreaper()  # what the script leaves behind becomes ours to end
        code = errors.EXIT_OUR_FAULT
        why = ""
        with self.signals:
            try:
                code = self._run()
            except CliError as error:
                self.status.clear()
                code, why = errors.report(error), error.text()
            except Interrupted as stop:
                code, why = self._stopped_early(stop.signum)
            except SessionError as error:
                self.status.clear()
                told = self._start_error(error)  # nodes may have heard of the end of the job before we did
                code, why = self._stopped_early(self.stopped) if self.stopped else (errors.report(told), str(error))
            finally:
                self._stop_session()
                code, why = self._taken(code, why)
                self._finish(code, why)
        return code

    def _taken(self, code: int, why: str) -> tuple[int, str]:
        """What became of a job whose nodes were told to end: the scheduler says so once they have."""
        became = fate() if self.cause == "warned" and code not in (0, EXIT_CONTINUE) else ""
        if not became:
            return code, why
        error = CliError("SESSION-LOST", "the nodes were told to end before the script had ended", why=became)
        return errors.report(error), error.text()

    def _run(self) -> int:
        settings = self.settings
        os.environ.update(dict(item.split("=", 1) for item in settings["env"]))
        if not settings["job"]:  # a job script has loaded them
            load_modules(settings["module"], purge=settings["module_purge"])
        count = node_count(settings, self.place)
        self.around = surround(
            settings, self.place, count, self.argv, lambda text: self.status.note(f"hpc: {text}"), self._look
        )  # fmt: skip
        self.argv = list(self.around.argv)
        wish = wish_here(settings, self.place)

        def nodes() -> NodeGroup:
            made = make_group(
                self.place, count, fork=True, step_args=settings["step_arg"], base_dir=settings["tmpdir"],
                around=self.around.nodes,
            )  # fmt: skip
            share_machine(made, wish)
            return made

        group = self._fit(nodes) if settings["preflight"] else nodes()
        for notice in group.notices:
            self.status.note(f"hpc: {notice}")
        left_s = group.start_fields().get("time_left_s")
        if left_s is not None:
            self.margin_s = min(WALLTIME_MARGIN_S, max(3.0, 0.05 * left_s))
        self.drain_s = settings["drain"] if settings["drain"] is not None else drain_time(left_s)
        self.session = self._make_session(group, "ranks" if self.plain else "cluster")
        self.loop = SessionLoop(self.session, signals=self.signals, on_signal=self._interrupt, tick_s=START_TICK_S)
        ask_s = settings["time_poll"]
        self.clock = keep_time(self.loop, self.place, ask_s, left_s=left_s, on_change=self._on_new_limit)
        Taken(self.loop, self.place, settings["grace"], self._on_taken, self.status.note)
        self._start(self.session)
        self.growth = begin_growth(
            wish, self.loop, settings, self.place, self.reporter.job, overrides=overrides_of(settings),
            left_s=self._left_s, drain_s=self.drain_s, say=self.status.note,
        )  # fmt: skip
        work = self._start_work(self.session)
        return self._watch(self.session, work)

    def _look(self) -> None:
        """Whether a signal has come while something is waited for without a loop."""
        for signum in self.signals.take():
            self._interrupt(signum)

    def outcome(self, code: int) -> Outcome:
        """How the run that ended with this code came to its end."""
        if self.cause in ("signal", "warned"):
            return "signal"
        fewer = bool(self.drained or self.lost_nodes or self.left_nodes)
        goes_on = self.cause in ("walltime", "lost") or (fewer and code == EXIT_CONTINUE)
        goes_on = goes_on or (self.cause == "preempted" and code != 0)
        return "continue" if goes_on else "done"

    def _make_session(self, group: NodeGroup, mode: Literal["cluster", "ranks"]) -> Session:
        settings = self.settings
        return Session(
            group,
            mode=mode,
            overrides=overrides_of(settings) if self.place.kind == "local" else None,
            config=self._config(),
            preload=PRELOADED,
            interface=settings["interface"],
            base_dir=settings["tmpdir"],
            min_nodes=settings["min_nodes"],
            start_timeout_s=settings["start_timeout"],
            on_event=self._on_event,
            driver_host=session_options(self.place)["driver_host"],
        )

    def _fit(self, make: Callable[[], NodeGroup]) -> NodeGroup:
        """The nodes that go on after the preflight."""
        from hpc.launch.preflight import fit_nodes

        session = self._make_session(make(), "cluster")
        loop = SessionLoop(session, signals=self.signals, on_signal=self._interrupt, tick_s=START_TICK_S)
        return fit_nodes(self.settings, make, loop, self.status.note)

    def _config(self) -> dict[str, Any]:
        job = self.reporter.job
        return ({"state_dir": str(job.path / STATES)} if job is not None else {}) | runtime_config(self.settings)

    @property
    def group(self) -> NodeGroup | None:
        return self.session.first if self.session is not None else None

    def _start(self, session: Session) -> None:
        session.start()
        self.loop.until(lambda: self._has_started(session))
        if session.state != "ready":
            raise session.failure or StartError(session.lost or "the session ended", session.missing())
        ready = session.ready()
        self.ready_s = self._age_s()
        self.reporter.event("ready", nodes=len(ready), seconds=round(self.ready_s, 3))
        tell_problems(session, self.status.note)

    def _has_started(self, session: Session) -> bool:
        self._show_starting(session)
        return session.state != "starting"

    def _stopped_early(self, signum: int) -> tuple[int, str]:
        """The exit code, and why there is no other."""
        cancelled = signum == signal.SIGTERM and self.settings["job"]
        why = f"signal {signum} before the script was started"
        return errors.EXIT_CANCELLED if cancelled else 128 + signum, why

    def _interrupt(self, signum: int) -> None:
        """A signal before there is a script."""
        if signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            raise Interrupted(signum)

    def _show_starting(self, session: Session) -> None:
        came = len(session.ready())
        size = self.group.size if self.group else 0
        missing = [info for info in session.missing() if not info.gateway]
        names = compress_nodes([info.host or f"node {info.node}" for info in missing[:64]])
        self.reporter.state(
            "starting", f"{came}/{size} nodes {short(self._age_s())}", f" missing {names}" if missing else "",
            key=str(came), show=self.status.terminal or self._age_s() > 3.0, nodes=size, nodes_ready=came,
            missing=[info.problem() for info in missing[:8]],
            runs_again=self.group is not None and self.group.runs_again,
            scheduler_id=self.place.alloc.job_id if self.place.alloc is not None else "",
        )  # fmt: skip

    def _start_work(self, session: Session) -> Work:
        ready = session.ready()
        self.status.clear()
        if not self.status.terminal:
            self.status.show(line("running", f"{granted(ready)} ready after {short(self.ready_s)}"))
        self._save_running(session)
        unbuffered = {} if sys.stdout.isatty() or "PYTHONUNBUFFERED" in os.environ else {"PYTHONUNBUFFERED": "1"}
        folder = self.reporter.job.path if self.reporter.job is not None else None
        if self.plain:
            self.recorder.begin("", folder, as_rows(ready))
        if self.settings["runtime"] != runtimes.OWN:
            self.other = Runtimes(self.settings, self.loop, self.reporter, self.argv, self.ready_s)
            return self.other.start(unbuffered)
        if self.ranks:
            from hpc.launch.rank_watch import ranks_of

            if few := too_few_gpus(ready, self.ranks):
                self.status.note(f"hpc: {few}")
            return ranks_of(self.settings, self.loop, self.argv, unbuffered, self.reporter)
        here = session.local_dir() or str(session.add_gateway().hello["dir"])
        head = session.head.hello if session.head is not None else {}
        self.recorder.begin(here, folder)
        return Driver(self.argv, driver_env(here, head, len(ready), self.ready_s) | unbuffered)

    # -------------------------------------------------------------- while the script runs

    def _watch(self, session: Session, work: Work) -> int:
        self.loop.tick_s = TICK_S
        self.work = work
        self.loop.on_signal = lambda signum: self._on_signal(signum, work)
        if self.clock is not None:
            self.end_moment = self.clock.before_end(self.margin_s, lambda: self._on_time_limit(work))
            if self.drain_s:
                why = "the time limit comes near"
                self.drain_moment = self.clock.before_end(self.drain_s, lambda: self._drain(why))
        code: int | None = None

        def has_ended() -> bool:
            nonlocal code
            code = work.poll()
            if code is None:
                self._check_lost(session, work)
                self._save_running(session)
            return code is not None

        self.loop.until(has_ended)  # the session may end before the script does
        assert code is not None
        return self._outcome(session, work, code)

    def _on_signal(self, signum: int, work: Work) -> None:
        if signum == signal.SIGCHLD:
            return
        self.reporter.event("signal", signal=signal.Signals(signum).name)
        if signum == signal.SIGINT:
            self.interrupts += 1
            if self.interrupts == 1:
                work.signal(signal.SIGINT)
            else:
                self._end_work(work, "signal", kill=self.interrupts > 2)
        elif signum in (signal.SIGTERM, signal.SIGHUP):
            left_s = self._left_s()
            near = left_s is not None and left_s < 3 * self.margin_s
            again = self.cause in ("walltime", "preempted", "signal")
            if self.preempted:
                self.cause = "preempted"
            else:
                self.cause = "walltime" if near or self.cause == "walltime" else "signal"
            self._drain(signal.Signals(signum).name)
            self._end_work(work, self.cause, kill=again)
        elif signum == self.drain_signal:
            self._drain(signal.Signals(signum).name)
            if work.handles(signum):
                work.signal(signum)
        else:
            work.signal(signum)

    def _end_work(self, work: Work, cause: EndCause, *, kill: bool = False) -> None:
        """SIGTERM, and SIGKILL after the grace period."""
        self.cause = self.cause or cause
        if kill:
            work.signal(signal.SIGKILL)
        elif self.kill_timer is None:
            work.signal(signal.SIGTERM)
            self._kill_later(work)

    def _kill_later(self, work: Work) -> None:
        """SIGKILL after the grace period, again and again."""

        def kill() -> None:
            work.signal(signal.SIGKILL)
            self._kill_later(work)

        self.kill_timer = self.loop.at(time.monotonic() + self.settings["grace"], kill)

    def _drain(self, why: str, left_s: float | None = None) -> None:
        """Nothing new begins from now on; callbacks run, and actors save what they have."""
        session = self.session
        if self.drained or session is None or self.plain:
            return
        self.drained = True
        left_s = self._left_s() if left_s is None else left_s
        self.reporter.event("drain", why=why, left_s=left_s)
        left = "" if left_s is None else f", {short(left_s)} left"
        self.status.note(f"hpc: the session drains ({why}{left}): nothing new begins")
        session.tell_head({"op": "time", "left_s": left_s, "drain": why, "taken": self.preempted})
        if self.growth is not None:
            self.growth.drain()

    def _left_s(self) -> float | None:
        return self.clock.left_s if self.clock is not None else None

    def _on_taken(self, job: JobInfo | None, signal_name: str) -> None:
        """The nodes were told to end, and we were not. A pre-emption leaves them a time that the scheduler knows."""
        if self.cause or self.work is None or self.clock is None:
            return
        if job is None or not job.preempted:
            self._drain(f"{signal_name} to the nodes")
            self._end_work(self.work, "warned")
            return
        self.preempted = True
        if self.end_moment is not None and job.time_left_s is not None:
            self.end_moment.before_s = min(self.margin_s, PREEMPTED_SHARE * job.time_left_s)
        self._drain("the nodes are taken for another job", job.time_left_s)
        self.clock.learn(job)

    def _on_new_limit(self) -> None:
        left_s = self._left_s()
        if self.preempted:
            return  # that is said in other words
        if self.drain_moment is not None and self.settings["drain"] is None:
            self.drain_moment.before_s = drain_time(left_s)
        now = f"{short(left_s)} left" if left_s is not None else "there is none any more"
        self.limits_seen += 1
        self.reporter.event("limit", left_s=left_s)
        self.status.note(f"hpc: the time limit of the job was changed: {now}")

    def _on_time_limit(self, work: Work) -> None:
        if not self.cause and self.preempted:
            self._end_work(work, "preempted")
        elif not self.cause:
            self.status.note(f"hpc: the time limit is {self.margin_s:g} s away: the script is asked to end")
            self._end_work(work, "walltime")

    def _check_lost(self, session: Session, work: Work) -> None:
        if session.lost and not self.cause:
            self.status.note(f"hpc: {session.lost}; the script is given {self.settings['grace']:g} s to end")
            self.cause = "lost"
            self._kill_later(work)
            asked_s = time.monotonic() + self.settings["grace"] / 2  # its own error may come first
            self.loop.at(asked_s, lambda: work.signal(signal.SIGTERM))

    def _outcome(self, session: Session, work: Work, code: int) -> int:
        """The exit code: the script's own, unless the nodes or the time went first."""
        if code and not self.cause:
            self.loop.turn(time.monotonic() + 0.05)  # the news of a lost head may be on its way
        if code and session.lost and self.cause in ("", "lost"):
            # the scheduler ends nodes and us at once: which of them it was shows in a moment
            self.loop.until(lambda: self.cause not in ("", "lost"), time.monotonic() + CANCEL_NEWS_S)
        words = work.last_words()
        if words:
            sys.stdout.flush()
            self.status.note(f"hpc: {words}")
        if code and self.cause in ("", "lost") and session.lost:
            why = "\n".join(filter(None, [session.lost, fate()]))
            raise CliError("SESSION-LOST", "the session was lost while the script was running", why=why)
        if code and self.cause in ("signal", "warned") and session.lost:
            return 128 + signal.SIGTERM
        if self.cause == "preempted" and code not in (0, EXIT_CONTINUE):
            raise CliError("SESSION-LOST", "the nodes were taken for another job before the script ended")
        if self.cause == "walltime":
            raise CliError("WALLTIME", "the job's time was over before the script ended", fix="--time=TIME, longer")
        return code

    def _save_running(self, session: Session) -> None:
        left_s = self._left_s()
        ready = len(session.ready())
        alloc = self.place.alloc
        self.reporter.state(
            "running", granted(session.ready()), *self._growing(), key=f"{ready} {self.limits_seen} {self._growing()}",
            show=False, nodes_ready=ready, missing=[], left_s=left_s, node_dir=session.local_dir() or "",
            node_name=(alloc.here or "") if alloc is not None else "",
        )  # fmt: skip

    def _growing(self) -> list[str]:
        return self.growth.words() if self.growth is not None else []

    # -------------------------------------------------------------- the end

    def _stop_session(self) -> None:
        """Orderly, and by force when the user cannot wait."""
        session = self.session
        if session is None:
            self.around.clear(None)
            return
        if self.kill_timer is not None:
            self.kill_timer.cancel()
        if self.clock is not None:
            self.clock.close()
        if self.growth is not None:
            self.growth.close()
        if session.state == "ready":
            self.recorder.last_look(bool(self.cause or self.interrupts))
        self._keep_logs(session)
        keep_caches(self.settings["cache"], session, self.status.note)
        session.begin_stop(self.settings["grace"], "the script has ended")
        self.loop.on_signal = lambda signum: self._hurry(session, signum)
        self.loop.at(time.monotonic() + DEAF_S, lambda: self._kill_deaf(session))
        self.loop.until(lambda: session.state == "ended")
        if self.growth is not None:
            self.growth.end()
        self.loop.close()
        if self.other is not None:
            self.other.close()
        self.around.clear(session)

    def _hurry(self, session: Session, signum: int) -> None:
        if signum in (signal.SIGINT, signal.SIGTERM) and self.interrupts + bool(self.cause) > 1:
            for group in session.groups:
                group.kill()

    def _kill_deaf(self, session: Session) -> None:
        """What is left and never spoke to us will not hear us either."""
        answering = any(info.hello and info.state != "gone" for info in session.nodes.values())
        if session.state == "stopping" and not answering:
            for group in session.groups:
                group.kill()
        elif session.state != "ended":
            self.loop.at(time.monotonic() + LOOK_S, lambda: self._kill_deaf(session))

    def _keep_logs(self, session: Session) -> None:
        """What workers wrote that ended unexpectedly, for the job's folder; its end does not wait long for that."""
        node_dir = session.local_dir()
        job = self.reporter.job
        if job is None or self.plain or session.state != "ready" or node_dir is None:
            return
        from hpc.core.exceptions import HpcError
        from hpc.launch import archive

        hurry = self.cause or self.interrupts
        try:
            failed = archive.collect(node_dir, job.path, archive.HURRY_S if hurry else archive.COLLECT_S)
        except (OSError, HpcError, ConnectionError) as error:
            self.reporter.event("logs-lost", text=str(error))
            return
        if failed:
            self.reporter.event("logs", failed=failed)
            self.status.note(f"hpc: {failed} workers ended unexpectedly: hpc logs {job.number} --failed")

    def _finish(self, code: int, why: str) -> None:
        from hpc.core.node.reap import end_descendants

        cause = cause_of(self.cause, code)
        self.recorder.end(cause, why, code)
        end_descendants(LEFTOVERS_S)
        elapsed = short(self._age_s())
        what = f"ok {elapsed}" if code == 0 else f"exit code {code} after {elapsed}"
        lost = f"· lost: {compress_nodes(self.lost_nodes)}" if self.lost_nodes else ""
        log_bytes = settled_bytes(1) if self.settings["job"] else None
        self.reporter.final(code, what, lost, why=why, cause=cause, log_bytes=log_bytes)

    def _on_event(self, event: Event) -> None:
        if event.kind == "noise":
            if self.verbose:
                self.status.note(f"| {event.text}")
            return
        name = event.node.name if event.node is not None else ""
        if event.kind in ("lost", "exit", "error", "refused"):
            self.reporter.event(event.kind, node=name, text=event.text)
            if event.kind == "lost" and self.session is not None and self.session.state == "ready":
                self.lost_nodes.append((event.node.host if event.node else "") or name)
                self.status.note(f"hpc: lost {event.text}")
        elif event.kind in ("restarted", "left"):
            self.left_nodes += event.kind == "left"
            self.reporter.event(event.kind, node=name, text=event.text)
            self.status.note(f"hpc: {event.text}")
        elif self.verbose and event.kind in ("hello", "ready"):
            self.status.note(f"| {name} {event.kind} {short(self._age_s())}")

    # -------------------------------------------------------------- helpers

    def _age_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.began_s

    def _note_stop(self, signum: int) -> None:
        if signum in (signal.SIGINT, signal.SIGTERM):
            self.stopped = self.stopped or signum

    def _start_error(self, error: SessionError) -> CliError:
        session = self.session
        if session is not None:
            self.loop.on_signal = self._note_stop
            submitted = self.settings["job"] is not None
            ended = (lambda: bool(self.stopped)) if submitted else (lambda: session.state == "ended")
            self.loop.until(ended, time.monotonic() + (TOLD_S if submitted else LAST_WORDS_S))
        said = errors.unsaid(self.group.last_words if self.group is not None else (), str(error))
        lines = str(error).splitlines()
        came = self.group.size - len(error.nodes) if self.group is not None and error.nodes else 0
        fix = f"--min-nodes={came} goes on with those that came" if came else ""
        return CliError("TOO-FEW-NODES", lines[0], why="\n".join([*(x.strip() for x in lines[1:]), *said]), fix=fix)


def node_count(settings: Settings, place: Place) -> int | None:
    """How many nodes to start. In an allocation only the flag counts (a TOML file may speak of another place)."""
    least, most = settings["nodes"]
    if place.alloc is None:
        return int(least)
    have = len(place.alloc.nodes)
    if settings.origin("nodes") != "--nodes":
        return None
    if least > have:
        where = f"{place.scheduler.title} job {place.alloc.job_id}: {compress_nodes(place.alloc.nodes)}"
        raise CliError(
            "TOO-MANY-NODES", f"{least} nodes asked for, but this allocation has {have}", where=where,
            fix=f"--nodes={have}", exit_code=errors.EXIT_TOO_FEW_NODES,
        )  # fmt: skip
    return min(int(most), have)


def driver_env(node_dir: str, head: Mapping[str, Any], nodes: int, ready_s: float) -> dict[str, str]:
    """The driver's environment: what its node has set for networks and caches, as for its own processes. Where the node
    and its head are, and how long it took until they were ready."""
    return {
        **driver_surroundings(node_dir),
        **os.environ,
        "HPC_SESSION_DIR": node_dir,
        "HPC_ADDRESS": str(head.get("head_ep", "")),
        "HPC_NUM_NODES": str(nodes),
        "HPC_READY_S": f"{ready_s:.3f}",
    }
