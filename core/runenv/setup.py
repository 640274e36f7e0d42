"""A worker makes its runtime environment between its fork and its registration: only tasks that need it wait for it.

Packages are fetched from the head and unpacked into the node's directory, once per node. What needs another interpreter
(pip, uv, conda, a container) ends in an exec. The same process, with the same place in the raylet's books, goes on as
``hpc.core.worker.exec_worker``. A failure is left in a file for the raylet, which tells the owners of tasks that wait
for the environment.

Rejected: a set-up service beside the raylet, which is one more process to watch and would fork the same helpers.
Rejected too: the raylet fetching packages. It would block, or need a second, asynchronous copy of all this.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc.core.node.process import fork_child
from hpc.core.node.rundir import remove
from hpc.core.node.spec import NodeSpec
from hpc.core.runenv import interpreters
from hpc.core.runenv.once_per_node import Deadline, SetupError, made_once, write_whole
from hpc.core.runenv.package import PackageError, digest_of, unpack_zip
from hpc.core.runenv.spec import NAMESPACE, PACKAGE, SETUP_TIMEOUT_S, chunk_key, meta_key, unpack

if TYPE_CHECKING:
    from hpc.core.owner.shell.client import Client

#: Exit code of a worker whose environment could not be made.
FAILED = 70
TAIL_BYTES = 16 << 10


@dataclass
class WorkerPaths:
    """What a worker's process takes from its environment, besides variables: where it works and what it can import."""

    working_dir: str = ""
    paths: list[str] = field(default_factory=list)


def enter(spec: NodeSpec, proc: int, env: Mapping[str, str]) -> None:
    """In a worker just forked: make its environment and enter it. Returns in the same interpreter, or does not return:
    it goes on in another one, or ends with the reason left for the raylet."""
    _, rest = unpack(env)
    try:
        place = make_paths(spec, rest)
        launch = interpreters.choose(spec, rest, Deadline(timeout_of(rest)))
        if launch is not None:
            interpreters.start(spec, proc, dict(env), place.working_dir, place.paths, launch)
    except SetupError as error:
        fail(spec, proc, str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        fail(spec, proc, f"{type(error).__name__}: {error}")
    apply(place)


def fail(spec: NodeSpec, proc: int, why: str) -> None:
    """Leave the reason for the raylet and end."""
    print(f"hpc: the runtime environment could not be made: {why}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        write_whole(failure_path(spec, proc), why)
    os._exit(FAILED)


def failure_path(spec: NodeSpec, proc: int) -> str:
    """Where a worker says why its environment could not be made."""
    return os.path.join(spec.dir, f"w{proc}.failed")


def why_failed(spec: NodeSpec, proc: int, ended: str) -> str:
    """For the raylet: why a worker ended before it was ready; by its own words, else by the end of its error output."""
    where = f"on node {spec.node}"
    path = failure_path(spec, proc)
    try:
        with open(path, encoding="utf-8") as file:
            why = file.read()
        os.unlink(path)
        return f"{where}: {why}"
    except OSError:
        pass
    try:
        with open(spec.log_path(f"worker-{proc}.err"), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            said = log.read().decode("utf-8", "replace").strip()
    except OSError:
        said = ""
    return f"{where}: the worker {ended} before it was ready" + (f"; it said:\n{said}" if said else "")


def timeout_of(rest: Mapping[str, Any]) -> float:
    """Seconds that the set-up may take."""
    return float((rest.get("config") or {}).get("setup_timeout_seconds", SETUP_TIMEOUT_S))


# ---------------------------------------------------------------- files


def make_paths(spec: NodeSpec, rest: Mapping[str, Any]) -> WorkerPaths:
    """Have the files of the environment on this node."""
    deadline = Deadline(timeout_of(rest))
    place = WorkerPaths()
    uri = rest.get("working_dir")
    if uri:
        place.working_dir = _directory(spec, uri, deadline)
        place.paths.append(place.working_dir)
    for module in rest.get("py_modules") or []:
        path = _directory(spec, module, deadline)
        in_place = module.startswith("file://") and not module.endswith((".zip", ".whl"))
        path = os.path.dirname(path) if in_place else path
        if path not in place.paths:
            place.paths.append(path)
    return place


def _directory(spec: NodeSpec, uri: str, deadline: Deadline) -> str:
    """The directory on this node of a URI."""
    base = os.path.join(spec.dir, "env")
    if uri.startswith(PACKAGE):
        digest = uri.removeprefix(PACKAGE)
        target = os.path.join(base, digest)
        made_once(target, lambda: _in_child(target, deadline, lambda: fetch(spec.dir, digest)), deadline)
        return target
    path = uri.removeprefix("file://")
    if os.path.isdir(path):
        return path
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror} (a file:// path must be visible on every node)") from None
    target = os.path.join(base, digest_of(data))
    made_once(target, lambda: _in_child(target, deadline, lambda: data), deadline)
    return target


def _in_child(target: str, deadline: Deadline, get: Any) -> None:
    """Get a package and unpack it, in a process of its own. The worker's own connection comes later, and nothing of
    this one stays behind in it."""
    said = target + ".said"

    def body() -> int:
        try:
            partial = target + ".part"
            remove(partial)
            unpack_zip(get(), partial)
            remove(target)
            os.rename(partial, target)
            return 0
        except BaseException as error:
            shown = isinstance(error, (PackageError, SetupError))
            write_whole(said, str(error) if shown else f"{type(error).__name__}: {error}")
            return 1

    pid = fork_child(body, name="hpc-setup")
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        try:
            deadline.left_s()
        except SetupError:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise
        time.sleep(0.002)
    if status:
        why = "the process that unpacks it was killed"
        with contextlib.suppress(OSError), open(said, encoding="utf-8") as file:
            why = file.read()
        raise SetupError(why)


def fetch(node_dir: str, digest: str) -> bytes:
    """The bytes of a package, from the head's key-value store, by a connection of its own."""
    from hpc.core.owner.shell.client import Client

    client = Client(node_dir, "driver", b"")
    try:
        return package_bytes(client, digest)
    finally:
        client.close()


def package_bytes(client: Client, digest: str) -> bytes:
    """The bytes of a package, from the head's key-value store. Raises SetupError where they are not there."""
    from hpc.core.wire import Answer, KvGet

    def stored(key: bytes) -> Answer:
        return client.conversation.ask_head(lambda number: KvGet(number, NAMESPACE, key))

    meta = stored(meta_key(digest))
    if not meta.ok:
        raise SetupError(f"the head does not have the package {digest} (any more)")
    pieces = []
    for index in range(int(meta.data)):
        piece = stored(chunk_key(digest, index))
        if not piece.ok:
            raise SetupError(f"the head does not have all of the package {digest} (any more)")
        pieces.append(piece.data)
    data = b"".join(pieces)
    if digest_of(data) != digest:
        raise SetupError(f"the package {digest} arrived damaged")
    return data


# ---------------------------------------------------------------- entering


def apply(place: WorkerPaths) -> None:
    """Work where the environment says, and import from there first."""
    from hpc.core.process.context import process

    process.working_dir, process.paths = place.working_dir, list(place.paths)
    if place.paths:
        old = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*place.paths, *([old] if old else [])])
        sys.path[:0] = place.paths
    if place.working_dir:
        os.chdir(place.working_dir)
