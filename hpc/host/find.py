"""Which sessions of this user run on this machine, and which of them is meant.

Every node's directory says which session it belongs to (`hpc.core.node.rundir`). A session that `hpc start` began has
one directory more, that of its host, numbered 0 as the head is. It has the host's socket, and the allocation in which
the session was begun. Nothing else is kept anywhere, so nothing can be stale: a directory whose lock is free is dead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpc.core.node import rundir
from hpc.core.variables import ADDRESS, TMPDIR, text
from hpc.launchers.registry import job_mark

SOCKET = "host.sock"


class SeveralSessions(ConnectionError):
    """Which one is meant is not clear: there are these."""

    def __init__(self, what: str, sessions: Sequence[str]) -> None:
        super().__init__(what)
        self.sessions = list(sessions)


@dataclass(frozen=True)
class HostInfo:
    """The host of a session that `hpc start` began. `node_dir` is the first node's directory, "" while it starts."""

    session: str
    dir: str
    pid: int
    started_s: float
    allocation: str
    namespace: str
    node_dir: str

    @property
    def socket(self) -> str:
        """Where the host listens."""
        return os.path.join(self.dir, SOCKET)


def bases(environ: Mapping[str, str] | None = None) -> list[str]:
    """Where sessions are looked for that are not named: in $HPC_TMPDIR (Ray's name too), else in $TMPDIR and /tmp."""
    environ = os.environ if environ is None else environ
    if text(TMPDIR, environ):
        return [os.path.abspath(text(TMPDIR, environ))]
    return list(dict.fromkeys([os.path.abspath(environ.get("TMPDIR") or "/tmp"), "/tmp"]))


def hosts(environ: Mapping[str, str] | None = None) -> list[HostInfo]:
    """The living hosts of this user on this machine, the oldest first."""
    found = []
    for base in bases(environ):
        try:
            names = [
                name for name in os.listdir(base) if name.startswith(f"hpc-{os.getuid()}-") and name.endswith("-0")
            ]
        except OSError:
            continue
        found += [info for info in (read_host(os.path.join(base, name)) for name in names) if info is not None]
    return sorted(found, key=lambda info: info.started_s)


def read_host(path: str) -> HostInfo | None:
    """What a host's directory says; None unless it is this user's alone and its host is alive."""
    if not rundir.is_alive(path) or not os.path.exists(os.path.join(path, SOCKET)):
        return None
    try:
        with open(os.path.join(path, "session.json"), encoding="utf-8") as file:
            facts = json.load(file)
        return HostInfo(
            session=str(facts["session"]),
            dir=path,
            pid=int(facts["pid"]),
            started_s=float(facts["started"]),
            allocation=str(facts["allocation"]),
            namespace=str(facts["namespace"]),
            node_dir=str(facts["node_dir"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def host_of(node_dir: str) -> HostInfo | None:
    """The host of the session that a node on this machine belongs to, if `hpc start` began it."""
    base, name = os.path.split(os.path.abspath(node_dir))
    return read_host(os.path.join(base, f"{name.rpartition('-')[0]}-0"))


def find_host(address: str | None = None, environ: Mapping[str, str] | None = None) -> HostInfo:
    """The host that an address means: a session's id, a node's directory, or "auto" (or None) for the only one.

    None first looks at HPC_SESSION_DIR and HPC_ADDRESS. ConnectionError says which there are when it is not clear.
    """
    environ = os.environ if environ is None else environ
    address = address or environ.get("HPC_SESSION_DIR") or environ.get("HPC_ADDRESS") or "auto"
    if os.path.isabs(address):
        info = host_of(address)
        if info is None:
            raise ConnectionError(f"the session of {address} was not begun by `hpc start`, or has ended")
        return info
    every = hosts(environ)
    meant = every if address == "auto" else [info for info in every if info.session == address]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(info.session for info in every) or "none"
    if address == "auto" and every:
        what = f"several sessions that `hpc start` began run here, name one of them: {listed}"
        raise SeveralSessions(what, [info.session for info in every])
    what = "no session" if address == "auto" else f"no session {address!r}"
    raise ConnectionError(
        f"{what} that `hpc start` began runs on this machine for this user (there are: {listed}); "
        "`hpc start --head` begins one"
    )


def started_here(environ: Mapping[str, str] | None = None) -> str | None:
    """The node directory that `hpc.init()` joins when it is told nothing: that of the session that `hpc start` began
    on this machine, in the same allocation. None without one; ConnectionError when there are several."""
    environ = os.environ if environ is None else environ
    allocation = job_mark(environ)
    ready = [info for info in hosts(environ) if info.allocation == allocation and info.node_dir]
    if len(ready) > 1:
        listed = ", ".join(info.session for info in ready)
        raise SeveralSessions(
            f'several sessions that `hpc start` began run here, name one of them as the address: {listed}; "local" '
            "starts one of this process's own",
            [info.session for info in ready],
        )
    return ready[0].node_dir if ready else None


def find_node_dir(address: str | None) -> str | None:
    """The directory of a node on this machine of the session that an address means; None: start a session."""
    if address == "local":
        return None
    if address is None:
        address = os.environ.get("HPC_SESSION_DIR") or os.environ.get("HPC_ADDRESS", "")
        if address.startswith("tcp://"):
            return started_here()
        address = address or _ray_address()
        if not address:
            return started_here()
        if address == "local":
            return None
    if os.path.isabs(address):
        if not os.path.exists(os.path.join(address, "raylet.sock")):
            raise ConnectionError(f"no raylet listens in {address}: the session has ended, or is on another machine")
        return address
    return _find_live(address)


def _ray_address() -> str:
    """What RAY_ADDRESS names, where that is a session of ours; ConnectionError where it is a cluster of Ray's."""
    address = os.environ.get(ADDRESS.ray, "")
    if ":" in address:
        raise ConnectionError(
            f"RAY_ADDRESS is {address!r}: a cluster of Ray's, which hpc.init() cannot join. Unset it, or let "
            'HPC_ADDRESS name a session of hpc (or be "local", for a new one)'
        )
    return address


def _find_live(address: str) -> str:
    live = rundir.live_sessions()
    if address == "auto":
        places = bases()
        live = [one for one in live if os.path.dirname(os.path.abspath(str(one["dir"]))) in places]
    else:
        live = [one for one in live if one["session"] == address]
    sessions = sorted({str(one["session"]) for one in live})
    if len(sessions) == 1:
        return str(min(live, key=lambda one: str(one["node"]).zfill(9))["dir"])
    if not sessions:
        what = "no session of yours runs" if address == "auto" else f"no session {address!r} of yours runs"
        raise ConnectionError(f"{what} on this machine; hpc.init() without an address starts one")
    listed = "; ".join(f"{s} (in {min(str(o['dir']) for o in live if o['session'] == s)})" for s in sessions)
    raise SeveralSessions(f"several sessions of yours run here, name one of them as the address: {listed}", sessions)
