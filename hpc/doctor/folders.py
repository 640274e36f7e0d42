"""Checks of file systems: the folder of jobs, which all nodes share, and the node-local one for sockets and logs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpc.core.node import rundir
from hpc.doctor.finding import Finding, fail, ok, warn

#: File systems that several machines see, as /proc/mounts names them.
SHARED = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "cephfs", "ceph", "panfs", "wekafs", "fuse.weka", "cifs", "smb3", "9p",
    "afs", "orangefs", "pvfs2", "glusterfs", "fuse.glusterfs", "daos", "fuse.daos", "virtiofs", "fuse.sshfs", "vast",
}  # fmt: skip
IN_MEMORY = {"tmpfs", "ramfs", "hugetlbfs"}
#: A small file that takes longer than this to be made and read makes imports and job folders slow.
SLOW_S = 0.05
#: Clocks that differ by more than this make times in logs hard to compare.
SKEW_S = 2.0
LEAST_FREE_BYTES = 100 << 20


def kind_of(path: Path, mounts: str = "/proc/mounts") -> str:
    """The type of the file system at a path ("lustre", "ext4", ...); "" when it cannot be told."""
    try:
        lines = Path(mounts).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    target = os.path.realpath(path)
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if (target == point or target.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def jobs_folder(path: Path, many_nodes: bool) -> Iterator[Finding]:
    """It can be written, how fast, and whether other nodes will see it. many_nodes: jobs run on other machines."""
    name = "job folder"
    kind = kind_of(path if path.exists() else path.parent)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        took_s, skew_s = _probe(path)
    except OSError as error:
        yield fail(name, f"{path}: {error}", "--job-dir=DIR on a shared file system with room (quota -s, lfs quota)")
        return
    seen = f"{path} on {kind or 'an unknown file system'}, a small file takes {took_s * 1000:.1f} ms"
    if many_nodes and kind in IN_MEMORY:
        yield fail(name, seen, "it is memory of this machine: --job-dir=DIR on a file system that nodes share")
    elif took_s > SLOW_S:
        yield warn(
            name, seen, "slow: --job-dir=DIR on another file system; the many small files of Python are slow there, too"
        )
    elif many_nodes and kind not in SHARED:
        yield warn(name, seen, "no shared file system that is known here: hpc doctor -N2 sees whether nodes share it")
    else:
        yield ok(name, seen)
    free = os.statvfs(path)
    if free.f_bavail * free.f_frsize < LEAST_FREE_BYTES:
        yield warn(name, "less than 100 MB are free", "clean up, or --job-dir=DIR")
    if abs(skew_s) > SKEW_S:
        yield warn("clock", f"{skew_s:+.1f} s from that of the file server", "tell the centre: their clocks differ")
    else:
        yield ok("clock", f"{skew_s:+.2f} s from that of the file server")


def _probe(folder: Path) -> tuple[float, float]:
    """Make, write, read and remove a file: the time of one round, and the file server's clock minus ours, in s."""
    probe = folder / f".doctor-{os.getpid()}"
    begin = time.monotonic()
    with open(probe, "w") as file:
        file.write("x" * 4096)
        file.flush()
        os.fsync(file.fileno())
    now = time.time()
    skew_s = probe.stat().st_mtime - now
    probe.read_text()
    probe.unlink()
    return time.monotonic() - begin, skew_s


def local_folder(env: Mapping[str, str], option: str | None) -> Iterator[Finding]:
    """The folder for sockets and logs of a node: writable, its path not too long, and on no shared file system."""
    try:
        base = rundir.choose_base("x" * 12, 9999, option, env)
    except rundir.RunDirError as error:
        yield fail("local folder", str(error), "--tmpdir=DIR, a node-local folder with a short path")
        return
    kind = kind_of(Path(base))
    ignored = env.get("TMPDIR")
    note = f" (TMPDIR={ignored} is not usable)" if ignored and os.path.abspath(ignored) != base and not option else ""
    if kind in SHARED:
        yield warn(
            "local folder", f"{base} on {kind}{note}", "--tmpdir=DIR on the node's own disk: sockets and logs go there"
        )
    else:
        yield ok("local folder", f"{base} on {kind or 'an unknown file system'}{note}")
