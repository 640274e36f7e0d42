"""One session, from the start of its supervisors to the end of the last: the launcher's side of bootstrap.

The first group has the head, on its rank 0. As nodes say hello their versions are compared with this process's. Their
public keys are given to the head's supervisor (`admit`), then the head's address to them (`welcome`). A node is ready
when its raylet has registered. Nodes that end, and why, are noticed by the end of their streams, which supervisors keep
open until nothing of the node is left.

Usable in two ways: blocking (`start`, `wait_ready`, `stop`), and driven by `launchers.loop.SessionLoop`. One thread at
a time.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hpc.core.node.bootstrap import Message, Report
from hpc.core.node.detect import boot_id
from hpc.core.node.reap import describe_code
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.node_group import Channel, NodeGroup
from hpc.launchers.registry import job_of, strip
from hpc.launchers.session_errors import SessionError, StartError
from hpc.launchers.session_nodes import Event, EventKind, SessionNode
from hpc.launchers.versions import own_versions, version_problem

START_TIMEOUT_S = 300.0
STOP_GRACE_S = 5.0
WARNED_GRACE_S = 2.0
STOP_MARGIN_S = 8.0  # beyond the grace period, for killing and clearing up
KILL_WAIT_S = 10.0
LEAVE_S = 0.5  # after the last node of a group whose starter does not know that another is gone
TICK_S = 0.05  # while waiting for a process whose stream has ended
ADMIT_BATCH = 500  # keys a message: the supervisor passes each on as one packet
#: All nodes of a group read what one of them is told. So nodes that come one after the other are welcomed together:
#: between two welcomes is this time for each node of the session, at most WELCOME_MAX_S.
WELCOME_S_PER_NODE = 0.002
WELCOME_MAX_S = 0.25
TAIL_LINES = 20

SessionState = Literal["new", "starting", "ready", "stopping", "ended"]


class Session:
    """A head and its nodes.

    group: the first nodes; the head is on its rank 0.
    mode: "cluster", or "ranks" (no runtime: see `launchers/ranks_run.py`).
    overrides, config, interface, base_dir, driver_host: fields of the start message.
    min_nodes: with fewer ready at `start_timeout_s` the start has failed; None is all of them.
    on_event: called for the status line.  on_output: given the messages of ranks mode.
    """

    def __init__(
        self,
        group: NodeGroup,
        *,
        mode: Literal["cluster", "ranks"] = "cluster",
        overrides: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        preload: Sequence[str] = (),
        interface: str | None = None,
        base_dir: str | None = None,
        driver_host: bool = False,
        min_nodes: int | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        on_event: Callable[[Event], None] | None = None,
        on_output: Callable[[SessionNode, Message], None] | None = None,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.mode = mode
        self.state: SessionState = "new"
        self.groups: list[NodeGroup] = []
        self.nodes: dict[int, SessionNode] = {}
        self.lost = ""  # why the whole session is lost, if it is
        self.failure: StartError | None = None  # why the start failed, if it did
        self.start_timeout_s = start_timeout_s
        self.min_nodes = group.size if min_nodes is None else min(min_nodes, group.size)
        self._first = group
        self._overrides = dict(overrides or {})
        self._config = dict(config or {})
        self._preload = list(preload)
        self._config.setdefault("loopback", group.local)
        self.interface = interface
        self._base_dir = base_dir
        self._driver_host = driver_host
        self.on_event = on_event
        self.on_output = on_output
        self.on_demand: Callable[[Message], None] | None = None  # what waits, where the head was asked to say it
        #: Called with a node that was told to end, and by which signal: true if it may stay until it is removed.
        self.on_warned: Callable[[SessionNode, str], bool] | None = None
        self._welcome: Message | None = None
        self._arrived: list[SessionNode] = []  # said hello, and not admitted and welcomed yet
        self._welcome_at = 0.0  # when the next are, unless all are there before
        self._selector = selectors.EpollSelector()
        self._writing: dict[Channel, int] = {}  # the stdin of channels that have bytes waiting
        self._first_nodes: dict[NodeGroup, int] = {}
        self._deadline = 0.0  # of the start, then of the stop
        self._killed = False
        self._broken: dict[NodeGroup, float | None] = {}  # has nodes that the head lost; since when all are gone
        self._versions: dict[str, str] | None = None

    def use_base_dir(self, path: str) -> None:
        """Where the directories of all nodes go; before the start."""
        self._base_dir = path

    # -------------------------------------------------------------- blocking use

    def start(self) -> None:
        """Start the first group; `wait_ready` or `pump` does the rest."""
        if self.state != "new":
            raise RuntimeError("a session starts once")
        self.state = "starting"
        self._deadline = time.monotonic() + self.start_timeout_s
        try:
            self.add_group(self._first, overrides=self._overrides)
        except OSError as error:
            self._end()
            raise StartError(f"cannot start {self._first.describe()}: {error}")

    def wait_ready(self, timeout_s: float | None = None) -> list[SessionNode]:
        """Wait until all nodes are ready or have failed, at most until the start timeout.

        Returns the ready nodes; StartError if they are fewer than `min_nodes` (the session is then stopped), or if
        `timeout_s` is over (it then goes on).
        """
        if self.state == "new":
            self.start()
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        while self.state == "starting":
            now = time.monotonic()
            if limit is not None and now >= limit:
                raise StartError(f"not ready after {timeout_s:g} s", self.missing())
            self.pump(1.0 if limit is None else max(0.0, min(limit - now, 1.0)))
        if self.state != "ready":
            failure = self.failure or StartError(self.lost or "the session was stopped", self.missing())
            self.stop(grace_s=1.0, why="the session did not start")
            raise failure
        return self.ready()

    def wait_node(self, node: int, timeout_s: float) -> SessionNode:
        """Wait until one node is ready; SessionError if it does not come."""
        deadline = time.monotonic() + timeout_s
        info = self.nodes[node]
        while info.state != "ready":
            left_s = deadline - time.monotonic()
            if left_s <= 0 or info.state == "gone" or info.refused or self.state in ("stopping", "ended"):
                raise SessionError(f"{info.name} is not ready", [info])
            self.pump(min(left_s, 1.0))
        return info

    def stop(self, grace_s: float = STOP_GRACE_S, why: str = "") -> None:
        """Stop all nodes and wait, at most some seconds longer than `grace_s`; may be called again."""
        self.begin_stop(grace_s, why)
        while self.state != "ended":
            self.pump(1.0)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # -------------------------------------------------------------- driven by a loop

    def fileno(self) -> int:
        """Readable when `pump` has something to do (it is called after `wait_s` in any case)."""
        return self._selector.fileno()

    def wait_s(self, now: float) -> float:
        """How long `pump` may be left alone when `fileno()` does not say that something has come."""
        if self.state == "stopping" and any(group.silent for group in self.groups):
            return TICK_S  # no stream will tell when its process has ended
        until = now + 1.0
        if self.state in ("starting", "stopping"):
            until = min(until, self._deadline)
        if self._arrived and self._welcome is not None:
            until = min(until, self._welcome_at)
        return max(0.0, until - now)

    def pump(self, timeout_s: float = 0.0) -> None:
        """Handle what has come, waiting at most `timeout_s` for something."""
        if self.state == "ended":
            return
        for key, events in self._selector.select(min(timeout_s, self.wait_s(time.monotonic()))):
            group, channel = key.data
            if events & selectors.EVENT_WRITE:
                channel.flush()
            if key.fd == channel.stdout_fd:
                self._read(group, channel)
        self._welcome_arrived()
        self._watch_pending()
        self._check_time()

    def begin_stop(self, grace_s: float = STOP_GRACE_S, why: str = "") -> None:
        """Tell all nodes to stop; `state` becomes "ended" in some later `pump`."""
        if self.state in ("stopping", "ended"):
            return
        if self.state == "new":
            self._end()
            return
        self.state = "stopping"
        self._deadline = time.monotonic() + grace_s + STOP_MARGIN_S
        self._emit("stop", why)
        self._broadcast({"op": "stop", "grace_s": grace_s, "why": why})
        self._check_time()

    # -------------------------------------------------------------- nodes

    def add_group(
        self,
        group: NodeGroup,
        *,
        gateway: bool = False,
        overrides: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Start further nodes and return their numbers; they are never used again."""
        first = max(self.nodes, default=0) + 1
        is_first = group is self._first
        fields = dict(group.start_fields())
        merged = {**self._config, **dict(fields.pop("config", {})), **dict(config or {})}
        start: Message = {
            "op": "start",
            "session": self.id,
            "mode": self.mode,
            "first_node": first,
            "world": group.size,
            "head_rank": 0 if is_first and self.mode == "cluster" else None,
            "interface": self.interface,
            "base_dir": self._base_dir,
            "overrides": dict(overrides or {}),
            "driver_host": self._driver_host and is_first,
            "gateway": gateway,
            "allocation": job_of(os.environ),
            "strip": strip(),
            **fields,
            "config": merged,
            "preload": self._preload,
        }
        group.interface = self.interface
        group.start()
        self.groups.append(group)
        self._first_nodes[group] = first
        numbers = list(range(first, first + group.size))
        for rank, node in enumerate(numbers):
            self.nodes[node] = SessionNode(node, rank, group, gateway, host=group.host_of(rank))
        for channel in group.channels:
            self._selector.register(channel.stdout_fd, selectors.EVENT_READ, (group, channel))
        group.send(start)
        self._emit("start", group.describe())
        if self._versions is None:
            self._versions = own_versions()  # imports, while the nodes do theirs
        return numbers

    def add_gateway(self, timeout_s: float = 60.0) -> SessionNode:
        """Start a node without resources on this machine, for a driver outside the allocation."""
        (node,) = self.add_group(LocalGroup(1), gateway=True)
        return self.wait_node(node, timeout_s)

    def drain_node(self, node: int, left_s: float, why: str) -> None:
        """Has nothing new begin on a node that leaves in so many seconds: callbacks run there, and actors save."""
        self.tell_head({"op": "time", "left_s": left_s, "nodes": [node], "drain": why})

    def remove_node(self, node: int, grace_s: float = STOP_GRACE_S) -> None:
        """Stop one node (not the head's); the others go on."""
        info = self.nodes[node]
        self.drain_node(node, grace_s, "it is removed")
        info.removed = True
        info.why = info.why or "removed"
        info.group.send({"op": "stop", "only": [info.rank], "grace_s": grace_s, "why": "removed"})

    def kill_node(self, node: int) -> None:
        """End the group of a node by force, as a crash of its machine would; the others go on."""
        info = self.nodes[node]
        info.removed = True
        info.why = info.why or "killed"
        info.group.kill()

    def give_up(self, node: int, why: str) -> None:
        """A node that is on its way is not waited for any more; a group that has no other is ended by force."""
        info = self.nodes[node]
        self._gone(info, why)
        info.group.send({"op": "stop", "only": [info.rank], "grace_s": 1.0, "why": why})
        if all(each.state == "gone" for each in self.nodes.values() if each.group is info.group):
            info.group.kill()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message to all nodes (ranks mode: "ranks", "signal")."""
        self._broadcast(message)

    def tell_head(self, message: Mapping[str, Any]) -> None:
        """Say something to the head; who else of its group hears it does not mind."""
        if self.state in ("starting", "ready"):
            self._first.send(message)

    def ready(self) -> list[SessionNode]:
        """The nodes that are ready, gateways left out."""
        return [info for info in self.nodes.values() if info.state == "ready" and not info.gateway]

    def missing(self) -> list[SessionNode]:
        """The nodes that are not ready: still on their way, or gone."""
        return [info for info in self.nodes.values() if info.state != "ready"]

    def local_dir(self) -> str | None:
        """The directory of a ready node on this very host, for a driver started here; None if there is none."""
        host, boot = socket.gethostname(), boot_id()
        for info in self.nodes.values():
            path = str(info.hello.get("dir", ""))
            same = info.hello.get("host") == host and info.hello.get("boot") == boot
            if info.state == "ready" and same and os.path.isdir(path):
                return path
        return None

    @property
    def first(self) -> NodeGroup:
        """The group with the head."""
        return self._first

    @property
    def head(self) -> SessionNode | None:
        """The node with the head (of the first group, in ranks mode: rank 0)."""
        return self._find(self._first, 0)

    # -------------------------------------------------------------- what supervisors say

    def _read(self, group: NodeGroup, channel: Channel) -> None:
        fd = channel.stdout_fd
        for item in channel.read():
            if isinstance(item, Report):
                self._on_report(group, item)
                continue
            self._emit("noise", item.text)
            info = self._find(group, channel.ranks[0]) if len(channel.ranks) == 1 else None
            if info is not None:  # a supervisor's own last words
                info.tail = [*info.tail[1 - TAIL_LINES :], item.text.rstrip()]
        if channel.eof:
            self._selector.unregister(fd)
            for rank in channel.ranks:
                info = self._find(group, rank)
                if info is not None:
                    self._gone(info, "its supervisor ended")

    def _on_report(self, group: NodeGroup, report: Report) -> None:
        info = self._find(group, report.rank)
        if info is None:
            return
        message = report.message
        op = message["op"]
        if op == "hello":
            self._on_hello(info, message)
        elif op == "ready":
            if info.state == "hello" and not info.refused:
                info.state = "ready"
                self._emit("ready", node=info)
        elif op in ("out", "rank_exit", "rank_watch", "rank_stack"):
            if self.on_output is not None:
                self.on_output(info, message)
        elif op in ("error", "exit"):
            self._on_trouble(info, message)
        elif op == "restarted":
            text = f"its {message.get('what')} {describe_code(int(message.get('code', 1)))} and was started again"
            text += f": {message['more']}" if message.get("more") else ""
            self._emit("restarted", f"{info.name}: {text}", info)
        elif op == "demand" and self.on_demand is not None:
            self.on_demand(message)
        elif op == "warned":
            self._on_warned(info, str(message.get("signal")))
        elif op == "drained":
            info.drained = True
            self._emit("drained", node=info)
        elif op == "left":
            size = int(message.get("bytes", 0)) / 1e6
            text = f"{info.name}: {message.get('objects')} values, {size:.1f} MB, did not move: no time, or no room"
            self._emit("left", text, info)
        elif op == "node_lost":
            self._on_node_lost(int(message.get("lost", 0)), str(message.get("why", "")))
        elif op == "bye":
            code = message.get("code")
            self._gone(info, str(message.get("why") or f"its supervisor ended with code {code}"))

    def _on_warned(self, info: SessionNode, signal_name: str) -> None:
        """Somebody wants the node to end: a scheduler that takes it away, most likely. It ends now, unless whoever runs
        the session sees to it."""
        warned = self.on_warned if self.state == "ready" and not info.removed else None
        why = f"it was told to end by {signal_name}"
        if warned is not None and warned(info, signal_name):
            info.group.send({"op": "stay", "only": [info.rank]})
        else:
            info.why = info.why or why
            info.group.send({"op": "stop", "only": [info.rank], "grace_s": WARNED_GRACE_S, "why": why})

    def _on_node_lost(self, node: int, why: str) -> None:
        """The head knows sooner than whoever started the node that it is gone."""
        info = self.nodes.get(node)
        if info is not None and info.state != "gone":
            self._broken.setdefault(info.group, None)
            self._gone(info, why)

    def _on_hello(self, info: SessionNode, hello: Message) -> None:
        if info.state != "starting":
            return
        info.state = "hello"
        info.host = str(hello.get("host") or info.host)
        info.hello = hello
        problem = version_problem(hello, self._versions or own_versions())
        if problem:
            info.refused = True
            info.why = problem
            self._emit("refused", info.problem(), info)
            info.group.send({"op": "stop", "only": [info.rank], "grace_s": 1.0, "why": problem})
            return
        self._emit("hello", node=info)
        if self.mode == "cluster":
            self._arrived.append(info)
        if info is self.head and hello.get("head_ep"):
            self._welcome = {"op": "welcome", "head_ep": hello["head_ep"], "head_pk": hello.get("head_pk")}

    def _welcome_arrived(self) -> None:
        """Give the head the keys of new nodes, and then these nodes the head: who dials too early is turned away."""
        if not self._arrived or self._welcome is None:
            return
        now = time.monotonic()
        if now < self._welcome_at and any(info.state == "starting" for info in self.nodes.values()):
            return
        self._welcome_at = now + min(WELCOME_MAX_S, WELCOME_S_PER_NODE * len(self.nodes))
        arrived, self._arrived = self._arrived, []
        keys = [(str(info.node), str(info.hello.get("pk"))) for info in arrived]
        for at in range(0, len(keys), ADMIT_BATCH):
            self._first.send({"op": "admit", "keys": dict(keys[at : at + ADMIT_BATCH])})
        for group in self.groups:
            ranks = [info.rank for info in arrived if info.group is group]
            if ranks:
                group.send({**self._welcome, "only": ranks})

    def _on_trouble(self, info: SessionNode, message: Message) -> None:
        if message["op"] == "exit":
            code = int(message.get("code", 1))
            info.tail = [str(line) for line in message.get("tail", [])][-TAIL_LINES:]
            text = f"its {message.get('what')} {describe_code(code)}"
            if message.get("not_restarted"):
                text += f" and was not started again: {message['not_restarted']}"
        else:
            text = str(message.get("why", "failed"))
        info.why = info.why or text
        self._emit("exit" if message["op"] == "exit" else "error", info.problem(), info)
        if info is self.head and self.mode == "cluster":
            self._lose(info)

    def _gone(self, info: SessionNode, why: str) -> None:
        if info.state == "gone":
            return
        expected = self.state == "stopping" or info.refused
        info.state = "gone"
        info.why = info.why or why
        if expected:
            return
        if not info.removed:
            self._emit("lost", info.problem(), info)
        if self.mode == "cluster" and info is self.head:
            self._lose(info)
        elif self.mode == "cluster":
            self._first.send({"op": "lost", "node": info.node, "why": info.why})

    def _lose(self, head: SessionNode) -> None:
        """Without the head there is no session."""
        self.lost = self.lost or f"the head is lost: {head.problem()}"
        if self.state == "ready":
            self.begin_stop(1.0, self.lost)

    # -------------------------------------------------------------- helpers

    def _find(self, group: NodeGroup, rank: int) -> SessionNode | None:
        first = self._first_nodes.get(group, -1)
        return self.nodes.get(first + rank) if first >= 0 and 0 <= rank < group.size else None

    def _broadcast(self, message: Mapping[str, Any]) -> None:
        for group in self.groups:
            group.send(message)

    def _emit(self, kind: EventKind, text: str = "", node: SessionNode | None = None) -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, text, node))

    def _watch_pending(self) -> None:
        """Has the selector wait for room in the pipes that have bytes waiting, and only in those."""
        for group in self.groups:
            for channel in group.channels:
                watched = self._writing.get(channel, -1)
                if watched >= 0 and not channel.wants_write:
                    self._selector.unregister(watched)  # also when the channel closed it
                    del self._writing[channel]
                elif watched < 0 and channel.wants_write:
                    self._selector.register(channel.stdin_fd, selectors.EVENT_WRITE, (group, channel))
                    self._writing[channel] = channel.stdin_fd

    def _check_time(self) -> None:
        if self.state == "starting":
            self._check_start()
        elif self.state == "ready":
            self._forget_ended()
        elif self.state == "stopping":
            if all(group.silent and group.poll() is not None for group in self.groups):
                self._end()
            elif time.monotonic() >= self._deadline:
                self._enforce()
            else:
                self._leave_broken()

    def _check_start(self) -> None:
        infos = [info for info in self.nodes.values() if info.group is self._first]
        ready = sum(info.state == "ready" for info in infos)
        hopeful = sum(info.state in ("starting", "hello") and not info.refused for info in infos)
        late = time.monotonic() >= self._deadline
        if ready == len(infos) or (ready >= self.min_nodes and (late or not hopeful)):
            self.state = "ready"
        elif late or self.lost or ready + hopeful < self.min_nodes:
            if not late and self._start_again(infos):
                return
            what = f"{ready} of {len(infos)} nodes came"
            if self.min_nodes < len(infos):
                what += f" and at least {self.min_nodes} were asked for"
            if late:
                what += f" within {self.start_timeout_s:g} s"
            guilty = [info for info in infos if info.host in self._first.refused]  # the others ended with them
            self.failure = StartError(what, guilty or self.missing())
            self.begin_stop(1.0, what)

    def _start_again(self, infos: list[SessionNode]) -> bool:
        """On other nodes, where some could not be started and took those with them that could. These are forgotten."""
        old, group = self._first, self._first.without_refused()
        if group is None or group.size < self.min_nodes:
            return False
        self._first, self._welcome, self._arrived, self.lost = group, None, [], ""
        del self._first_nodes[old]
        old.kill()
        self.add_group(group, overrides=self._overrides)
        for info in infos:
            info.state, info.why = "gone", old.refused.get(info.host or "", "")
            if not info.why:
                del self.nodes[info.node]
        refused = "; ".join(f"{host}: {why}" for host, why in old.refused.items())
        self._emit("restarted", f"{refused}; starting again on {group.size} other nodes")
        return True

    def _forget_ended(self) -> None:
        """Wait for the processes of further groups that have left, so that a long session keeps none of them."""
        for group in [group for group in self.groups if group.silent and group is not self._first]:
            if group.poll() is not None:
                group.close()
                self.groups.remove(group)

    def _leave_broken(self) -> None:
        """Whoever started a node that is gone may wait for it: not longer than the others take to end."""
        now = time.monotonic()
        for group, since in self._broken.items():
            if all(info.state == "gone" for info in self.nodes.values() if info.group is group):
                self._broken[group] = since = since or now
                if not group.silent and now > since + LEAVE_S:
                    group.leave()

    def _enforce(self) -> None:
        """The nodes had their time: kills, and at the next deadline leaves what cannot be killed."""
        if self._killed:
            self._end()
            return
        self._killed = True
        self._deadline = time.monotonic() + KILL_WAIT_S
        for group in self.groups:
            group.kill()

    def _end(self) -> None:
        self.state = "ended"
        for group in self.groups:
            group.close()
        self._selector.close()
        self._emit("end", self.lost)
