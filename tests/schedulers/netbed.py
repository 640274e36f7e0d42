"""Several "machines" on one: a bridge, and network + host name namespaces behind it, for real schedulers.

The one reason to exist: each test bed (Slurm now, others later) needs nodes that have their own host name and
their own address, and must leave nothing behind. A bed takes a *slot*: the slot's number names its bridge,
namespaces and scratch folder and picks its subnet, and is held by an abstract Unix socket, which the kernel
gives back when the holder dies. So two beds can live side by side, and what a killed one left is recognised
(its slot is free but its things are there) and swept by the next.
Rejected: containers (not on every machine), `ip netns exec` (it mounts /sys anew and slurmd then finds no
cgroup file system), names from the process id alone (says nothing about whether the owner still lives).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLOTS = 40
PREFIX = "hbed"  # bridges hbed<slot>, namespaces hbed<slot>n<i>; an interface name has at most 15 letters
SCRATCH = "bed-"  # scratch folders /tmp/bed-<slot>, and /run/bed-<slot> for what must not lie where all can write


USER, USER_ID = "bed", 64123


class BedError(RuntimeError):
    """The bed could not be made; says what was awaited and what the daemons wrote last."""


def missing(programs: Sequence[str]) -> str | None:
    """Why no bed can be made here, in words, or None."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [p for p in ("ip", "nsenter", "unshare", "setpriv", *programs) if shutil.which(p, path=path) is None]
    if lacking:
        return "not installed: " + ", ".join(lacking)
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    probe = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True, timeout=20)
    if probe.returncode != 0:
        return "network namespaces are not allowed here: " + probe.stderr.strip()
    return None


def wait_for(what: str, check: Callable[[], bool], timeout_s: float, tick_s: float = 0.02) -> None:
    """Wait, bounded, until `check` says yes."""
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            raise BedError(f"{what}: not within {timeout_s:g} s")
        time.sleep(tick_s)


def start_time(pid: int) -> int | None:
    """The kernel's start time of a process (ticks), which with the pid names it for good; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else int(fields[19])


def process_name(pid: int) -> str:
    """As ps shows it; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def end_processes(pids: Sequence[tuple[int, int | None]], grace_s: float) -> None:
    """SIGTERM, wait, SIGKILL, for exactly these processes (pid and start time)."""

    def alive() -> list[int]:
        return [pid for pid, born in pids if born is not None and start_time(pid) == born]

    for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        for pid in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        end = time.monotonic() + wait_s
        while alive() and time.monotonic() < end:
            time.sleep(0.02)


def _links() -> list[str]:
    """The network interfaces of this machine."""
    return os.listdir("/sys/class/net")


def _ip(*args: str, batch: str | None = None) -> str:
    command = ["ip", *args] if batch is None else ["ip", *args, "-batch", "-"]
    done = subprocess.run(command, input=batch, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise BedError(f"{' '.join(command)}: {done.stderr.strip()}\n{batch or ''}")
    return done.stdout


def _hold(slot: int) -> socket.socket | None:
    """Take a slot: bind its abstract address, or None when somebody has it."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder.bind(f"\0{PREFIX}-slot-{slot}")
    except OSError:
        holder.close()
        return None
    return holder


def _namespaces(slot: int) -> list[str]:
    folder = Path("/run/netns")
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return [n for n in names if n.startswith(f"{PREFIX}{slot}n")]


def _closed_folder(path: Path) -> Path | None:
    """The folder above a path that other users cannot pass, if there is one."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)


def _left_over(slot: int) -> bool:
    return (
        Path(f"/tmp/{SCRATCH}{slot}").exists()
        or Path(f"/run/{SCRATCH}{slot}").exists()
        or Path(f"/sys/class/net/{PREFIX}{slot}").exists()
        or bool(_namespaces(slot))
    )


def _demolish(slot: int) -> None:
    """Remove everything that a slot may have: processes, namespaces, bridge, folder."""
    scratch = Path(f"/tmp/{SCRATCH}{slot}")
    recorded: list[tuple[int, int | None]] = []
    with contextlib.suppress(OSError, ValueError):
        recorded = [
            (int(p), int(b)) for p, b in map(str.split, (scratch / "pids").read_text().splitlines()) if b != "None"
        ]
    end_processes(recorded, 3.0)
    for name in _namespaces(slot):
        inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=20)
        end_processes([(int(p), start_time(int(p))) for p in inside.stdout.split()], 0.5)
        _ip("netns", "del", name)
    if Path(f"/sys/class/net/{PREFIX}{slot}").exists():
        _ip("link", "del", f"{PREFIX}{slot}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(f"/run/{SCRATCH}{slot}", ignore_errors=True)


def sweep() -> list[int]:
    """Remove what killed beds left; returns their slots."""
    swept = []
    for slot in range(SLOTS):
        if not _left_over(slot):
            continue
        holder = _hold(slot)
        if holder is not None:
            with contextlib.closing(holder):
                _demolish(slot)
                swept.append(slot)
    return swept


@dataclass
class NetBed:
    """N namespaces `<node>` with addresses 10.77.<slot>.1..N, joined by a bridge that has 10.77.<slot>.254."""

    names: list[str]
    #: Whether the names can be looked up, on the nodes and by what `login` wraps; nothing else can be looked up there
    #: (where no name server answers, each question takes seconds).
    look_up: bool = False
    #: Whether there is an ordinary user, known where the names are, who is the one at the login node.
    user: bool = False
    #: What of the scratch folder nodes do not share: each has an empty folder there, and in /var/tmp.
    unshared: Sequence[str] = ()
    slot: int = -1
    scratch: Path = Path()
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _holder: socket.socket | None = None

    def __enter__(self) -> NetBed:
        sweep()
        first = os.getpid() % SLOTS
        for slot in (*range(first, SLOTS), *range(first)):
            self._holder = None if _left_over(slot) else _hold(slot)
            if self._holder is not None:
                self.slot = slot
                break
        else:
            raise BedError(f"all {SLOTS} slots for test beds are taken")
        self.scratch = Path(f"/tmp/{SCRATCH}{self.slot}")
        try:
            self.scratch.mkdir(mode=0o755)
            self.private.mkdir(mode=0o755)
            self._wire()
            self._write_names()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def private(self) -> Path:
        """Where root alone may write; everybody may read."""
        return Path(f"/run/{SCRATCH}{self.slot}")

    @property
    def gateway(self) -> str:
        return f"10.77.{self.slot}.254"

    def address(self, name: str) -> str:
        return f"10.77.{self.slot}.{self.names.index(name) + 1}"

    def _space(self, name: str) -> str:
        return f"{PREFIX}{self.slot}n{self.names.index(name) + 1}"

    def _wire(self) -> None:
        bridge = f"{PREFIX}{self.slot}"
        # The kernel takes links away some time after their namespace; a bed of this slot may have ended just now.
        wait_for("the links before to go", lambda: not any(n.startswith(f"{bridge}v") for n in _links()), 90.0)
        lines = [f"link add {bridge} type bridge", f"addr add {self.gateway}/24 dev {bridge}", f"link set {bridge} up"]
        for i, name in enumerate(self.names, 1):
            space = self._space(name)
            lines += [
                f"netns add {space}",
                f"link add {bridge}v{i} type veth peer name eth0 netns {space}",
                f"link set {bridge}v{i} master {bridge} up",
            ]
        _ip(batch="\n".join(lines) + "\n")
        for name in self.names:
            inner = ["link set lo up", f"addr add {self.address(name)}/24 dev eth0", "link set eth0 up"]
            inner.append(f"route add default via {self.gateway}")
            _ip("-n", self._space(name), batch="\n".join(inner) + "\n")

    def _write_names(self) -> None:
        rows = [f"{self.address(name)} {name}" for name in self.names]
        rows += ["127.0.0.1 localhost", f"{self.gateway} {os.uname().nodename}"]
        (self.private / "hosts").write_text("\n".join(rows) + "\n")
        kinds = ("passwd", "group", "shadow", "hosts", "services", "protocols", "networks", "ethers")
        (self.private / "nsswitch.conf").write_text("".join(f"{kind}: files\n" for kind in kinds))
        if self.user:
            home = self.scratch / "home"
            home.mkdir()
            os.chown(home, USER_ID, USER_ID)
            entries = {"passwd": f"{USER}:x:{USER_ID}:{USER_ID}::{home}:/bin/bash", "group": f"{USER}:x:{USER_ID}:"}
            for name, entry in entries.items():
                (self.private / name).write_text(f"{Path('/etc', name).read_text().rstrip()}\n{entry}\n")

    def _mounts(self) -> list[str]:
        """Commands that give a process what it sees otherwise than this machine does."""
        files = ["hosts", "nsswitch.conf", *(("passwd", "group") if self.user else ())]
        found = [f"mount --bind {self.private}/{name} /etc/{name}" for name in files]
        closed = _closed_folder(Path(sys.base_prefix)) if self.user else None
        if closed is not None:  # the user is to run this Python, which lies in a folder of somebody else's
            inner = Path(sys.base_prefix).relative_to(closed)
            open_one = self.private / "open" / inner
            open_one.mkdir(parents=True, exist_ok=True)
            found += [f"mount --bind {sys.base_prefix} {open_one}", f"mount --rbind {self.private}/open {closed}"]
        return found

    def login(self, argv: Sequence[str], *, root: bool = False) -> list[str]:
        """The command line that runs `argv` at the login node (this machine), as the bed's user if there is one."""
        if not self.look_up:
            return list(argv)
        become = ["setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups"]
        words = [*become, *argv] if self.user and not root else argv
        return ["unshare", "--mount", "bash", "-c", f'{" && ".join(self._mounts())} && exec "$@"', "bash", *words]

    def inside(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the node `name`."""
        renamed = 'hostname "$0" && exec "$@"'
        argv = self.login(argv, root=True)
        if self.unshared:
            places = [*(f"{self.scratch}/{name}" for name in self.unshared), "/var/tmp"]
            mounts = " && ".join(f"mount -t tmpfs -o mode=1777 tmpfs {place}" for place in places)
            argv = ["unshare", "--mount", "bash", "-c", f'{mounts} && exec "$@"', "bash", *argv]
        return [
            "nsenter", f"--net=/run/netns/{self._space(name)}", "unshare", "--uts", "bash", "-c", renamed, name, *argv
        ]  # fmt: skip

    def daemon(self, argv: Sequence[str], node: str | None, host: str, env: Mapping[str, str]) -> None:
        """Start a daemon in the foreground on `node` (None: here, under the host name `host`); it ends with us."""
        if node is None:
            command = ["unshare", "--uts", "bash", "-c", 'hostname "$0" && exec "$@"', host, *argv]
        else:
            command = self.inside(node, argv)
        log = self.scratch / f"{Path(argv[0]).name}-{host}.out"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(env), cwd=self.scratch,
                start_new_session=True,
            )  # fmt: skip
        self.daemons.append(process)
        with (self.scratch / "pids").open("a") as pids:
            pids.write(f"{process.pid} {start_time(process.pid)}\n")

    def check_daemons(self) -> None:
        """Raise with the last words of a daemon that has ended."""
        for process in self.daemons:
            if process.poll() is not None:
                outs = sorted(self.scratch.glob("*.out")) + sorted(self.scratch.glob("*.log"))
                tails = "\n".join(f"{p.name}: {p.read_text(errors='replace')[-600:]}" for p in outs)
                raise BedError(f"{process.args!r} ended with {process.returncode}\n{tails}")

    def power_off(self, name: str, spared: Iterable[str]) -> None:
        """As when a machine loses its power: nothing of it is heard any more, not even the end of a connection, and
        all its processes are gone. Daemons (`spared`, by name) stay as they are: they are there when it comes back."""
        self._link(name, "down")
        self.kill_all(name, *spared)

    def power_on(self, name: str) -> None:
        self._link(name, "up")

    def _link(self, name: str, state: str) -> None:
        _ip("link", "set", f"{PREFIX}{self.slot}v{self.names.index(name) + 1}", state)

    def pids(self, name: str) -> list[int]:
        """Processes on a node."""
        out = subprocess.run(["ip", "netns", "pids", self._space(name)], capture_output=True, text=True, timeout=20)
        return [int(p) for p in out.stdout.split()]

    def kill_all(self, name: str, *spared: str) -> None:
        """SIGKILL for all processes on a node, but for those of these names.

        They are stopped first: of a machine that loses its power no process sees another one end."""

        def left() -> list[int]:
            found = []
            for pid in self.pids(name):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().strip() not in spared:
                        found.append(pid)
            return found

        while pids := left():
            for signum in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signum)
            time.sleep(0.01)

    def stop_daemons(self, which: Iterator[subprocess.Popen[bytes]] | None = None, grace_s: float = 5.0) -> None:
        """Stop daemons in the reverse order of their start (SIGTERM, then SIGKILL) and reap them."""
        chosen = list(self.daemons if which is None else which)
        for process in reversed(chosen):
            process.terminate()
        end = time.monotonic() + grace_s
        for process in reversed(chosen):
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            self.daemons.remove(process)

    def close(self) -> None:
        """Take everything down; safe to call twice."""
        self.stop_daemons()
        if self._holder is not None:
            _demolish(self.slot)
            self._holder.close()
            self._holder = None


def describe() -> str:
    """The beds that are there now, as JSON (for people who wonder what these bridges are)."""
    slots = [slot for slot in range(SLOTS) if _left_over(slot)]
    return json.dumps([{"slot": s, "namespaces": _namespaces(s), "folder": f"/tmp/{SCRATCH}{s}"} for s in slots])
