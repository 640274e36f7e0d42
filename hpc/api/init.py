"""This process's connection to a session: init, shutdown, and finding the session that is meant.

``init()`` looks at HPC_SESSION_DIR and HPC_ADDRESS (set by hpc-launch for its script), then for a session that
``hpc start`` began here. Else it starts a session: on the nodes of the allocation that it runs in, or on this machine.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpc.api.connection import ensure_client, here
from hpc.api.environment import hooked, tell_without_effect
from hpc.api.logging_config import LoggingConfig, wanted_logging
from hpc.api.options import name_text
from hpc.api.runtime_env_checks import check as check_env
from hpc.api.worker_env import worker_env
from hpc.core.node.limits import raise_open_files
from hpc.core.owner.shell.forked import is_forked, watch_forks
from hpc.core.process.context import process
from hpc.core.process.current import current
from hpc.core.runenv.spec import KEY
from hpc.core.variables import NAMESPACE, text
from hpc.core.wire import PrepareEnv
from hpc.core.worker.logformat import apply as apply_logging
from hpc.host.find import find_node_dir, host_of
from hpc.job_config import JobConfig
from hpc.settings.node import overrides
from hpc.state.terminal import Looks, Terminal, wanted_looks

if TYPE_CHECKING:
    from hpc.core.owner.ports import ThisProcess
    from hpc.launchers.session_thread import SessionThread

_lock = threading.RLock()

#: Set by `hpc job submit` for the entrypoint.
JOB_RUNTIME_ENV = "HPC_JOB_RUNTIME_ENV"

#: Options of Ray's init that are accepted and mean nothing here.
MEANINGLESS_HERE = {
    "dashboard_host", "dashboard_port", "logging_format", "allow_multiple",
    "storage", "_enable_object_reconstruction", "_memory", "_metrics_export_port", "_node_ip_address", "_node_name",
    "_plasma_directory", "_redis_max_memory", "_redis_password", "_redis_username", "_system_config", "_temp_dir",
    "_tracing_startup_hook",
}  # fmt: skip


class _State:
    """What init made in this process."""

    session: SessionThread | None = None
    context: Context | None = None


_state = _State()


class Context:
    """What `init` returns; usable in a ``with`` statement, at whose end the session is left."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.address_info = info

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_error: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        """The same as `hpc.shutdown`."""
        shutdown()

    def __repr__(self) -> str:
        return f"<hpc session {self.address_info['session']}, node {self.address_info['node_id']}>"


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: float | None = None,
    object_spilling_directory: str | None = None,
    bulk_encryption: bool | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    job_config: JobConfig | None = None,
    configure_logging: bool = True,
    logging_level: Any = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    start_timeout_s: float | None = None,
    **other: Any,
) -> Context:
    """Connect this process to a session, starting one where none is given.

    address: None (the one that HPC_SESSION_DIR or HPC_ADDRESS names, else the one that ``hpc start`` began here, else
        a new one: over the nodes of the allocation that this process runs in, or on this machine), "local" (always a
        new one on this machine), "auto" (one that is there: an error if there is none), or a session's id or node
        directory.
    namespace: of actors' names; without one, this driver's names are its own.
    start_timeout_s: how long nodes may take to come up (120).
    num_cpus, num_gpus, resources, labels, object_store_memory (bytes): of each node of a new session; by
        default what the scheduler granted, or what this machine has. Other options of a new session come from
        HPC_<NAME>, ./hpc.toml and the other files that hpc-launch reads.
    object_spilling_directory: a directory on a disk of each node, to which objects move when the store is full; by
        default the node's own directory, if that is on a disk (see docs/memory.md).
    bulk_encryption: False sends the bytes of objects between the nodes of a new session unencrypted: faster, and
        anybody on the wire can read and change them (see docs/security.md).
    runtime_env: what all tasks and actors of this driver inherit (see hpc.runtime_env.RuntimeEnv).
    logging_config: how the root logger writes, here and in all workers of this driver (see hpc.LoggingConfig).
    log_to_driver: whether what workers print is shown here; by default what HPC_LOG_TO_DRIVER says, else yes.

    Raises RuntimeError for unknown options and when called twice without ignore_reinit_error. Raises ValueError for
    numbers out of their range, and for options that belong to the start of a session that runs already. Raises
    ConnectionError when there is no such session, and SessionStartError when nodes do not come up. Raises
    RuntimeEnvSetupError when the runtime_env's files cannot be packaged.
    """
    skip_hook = _skips_hook(other)
    with _lock:
        connected = _connected(ignore_reinit_error)
        if connected is not None:
            return connected
        _check_options(local_mode)
        logging = wanted_logging(logging_config)
        show = wanted_looks(log_to_driver, logging)
        runtime_env, namespace = _of_job(job_config, runtime_env, namespace, skip_hook)
        node_dir = find_node_dir(address)
        if node_dir is not None:
            _check_late(
                num_cpus=num_cpus, num_gpus=num_gpus, resources=resources or None, labels=labels or None,
                object_store_memory=object_store_memory, object_spilling_directory=object_spilling_directory,
                bulk_encryption=bulk_encryption,
            )  # fmt: skip
        if node_dir is None:
            wanted = overrides(
                {
                    "num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources, "labels": labels,
                    "object_store_memory": object_store_memory,
                }
            )  # fmt: skip
            config = _config(object_spilling_directory, bulk_encryption)
            node_dir = _start(address == "local", wanted, start_timeout_s, config)
        try:
            context = _connect(node_dir, namespace, show, logging)
        except BaseException:
            _stop_session()
            raise
        try:
            _enter_env(runtime_env)
        except BaseException:
            shutdown()
            raise
        return context


def join_as_guest(address: str) -> None:
    """Connect to a session that is there, to look at it: its list of jobs has no guest, and nothing is printed here.
    Raises ConnectionError where there is no such session."""
    with _lock:
        if _connected(False) is None:
            node_dir = find_node_dir(address)
            assert node_dir is not None, f"{address!r} begins no session"
            _connect(node_dir, None, None, None, guest=True)


def _connected(ignore_reinit_error: bool) -> Context | None:
    """What `init` returns where this process is connected already; RuntimeError unless that may be."""
    if current.client is not None and is_forked():
        current.client = None  # an explicit init gives a forked child a connection of its own
    if current.client is None:
        return None
    if not ignore_reinit_error:
        raise RuntimeError("hpc.init() was called twice; ignore_reinit_error=True allows that")
    return _state.context or _context(current.client)


def _skips_hook(other: dict[str, Any]) -> bool:
    """Of the options without a name in the signature, the one that means something; RuntimeError for unknown ones."""
    skip_hook = bool(other.pop("_skip_env_hook", False))
    unknown = sorted(set(other) - MEANINGLESS_HERE)
    if unknown:
        raise RuntimeError(f"hpc.init() has no option {', '.join(unknown)}")
    return skip_hook


def _check_options(local_mode: bool) -> None:
    """NotImplementedError for what `init` cannot do, a warning for variables of Ray's without effect."""
    if local_mode:
        raise NotImplementedError("local_mode is not supported; init(num_cpus=1) runs one task at a time")
    tell_without_effect()


def _of_job(
    config: JobConfig | None, runtime_env: Mapping[str, Any] | None, namespace: str | None, skip_hook: bool
) -> tuple[Mapping[str, Any] | None, str | None]:
    """The runtime environment, checked, and the namespace: those given to init itself come first, then those of the
    job_config, then the environment's."""
    if config is not None:
        if not isinstance(config, JobConfig):
            raise TypeError(f"job_config must be a JobConfig, not {type(config).__name__}")
        runtime_env, namespace = runtime_env or config.runtime_env or None, namespace or config.ray_namespace
    if not skip_hook:
        runtime_env = hooked(runtime_env)
    check_env(runtime_env)
    name_text("namespace", namespace)
    return runtime_env, namespace or text(NAMESPACE) or None


def _check_late(**given: Any) -> None:
    """ValueError for options that come too late for a session that runs."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ValueError(f"{', '.join(names)} belong to a session's start; this one runs already")


def _config(spill_dir: str | None, bulk_encryption: bool | None) -> dict[str, Any]:
    """The configuration that `init` adds to that of the settings."""
    if bulk_encryption is not None and not isinstance(bulk_encryption, bool):
        raise TypeError(f"bulk_encryption must be True or False, not {bulk_encryption!r}")
    given = {"spill_dir": spill_dir and os.path.abspath(spill_dir), "bulk_encryption": bulk_encryption}
    return {name: value for name, value in given.items() if value is not None}


def _job_runtime_env() -> dict[str, Any] | None:
    """What `hpc job submit` was told for all of the job, this driver being part of it."""
    text = os.environ.get(JOB_RUNTIME_ENV)
    if not text:
        return None
    return {name: value for name, value in json.loads(text).items() if name != "working_dir"}


def _enter_env(given: Mapping[str, Any] | None) -> None:
    """Make the job's environment what tasks inherit; set it up on all nodes at once where that takes time."""
    process.env = {}
    process.env = worker_env(ensure_client(), _job_runtime_env())
    process.env = worker_env(ensure_client(), given)
    if KEY in process.env and ((given or {}).get("config") or {}).get("eager_install", True):
        ensure_client().conversation.tell_head(lambda number: PrepareEnv(number, process.env))


def _check_patches() -> None:
    """RuntimeError where gevent has taken away what the runtime waits with: epoll, and threads of the kernel."""
    monkey = sys.modules.get("gevent.monkey")
    patched = [name for name in ("select", "threading") if monkey is not None and monkey.is_module_patched(name)]
    if patched:
        raise RuntimeError(
            f"gevent has patched {' and '.join(patched)}, with which the runtime waits: it works beside gevent after "
            "gevent.monkey.patch_all(select=False, thread=False)"
        )


def _start(local: bool, wanted: dict[str, Any], timeout_s: float | None, config: dict[str, Any]) -> str:
    """Start a session over the allocation, or on this machine; returns the node directory to connect to."""
    from hpc.core.exceptions import SessionStartError
    from hpc.launch.for_init import make_session
    from hpc.launchers.session_errors import SessionError
    from hpc.launchers.session_thread import SessionThread

    _check_patches()
    session, timeout_s, begin_clock = make_session(local, wanted, timeout_s, config)
    try:
        session.start()
        import hpc.core.owner.shell.client  # noqa: F401  while the nodes come up

        session.wait_ready(timeout_s)
        node_dir = session.local_dir()
        if node_dir is None:
            session.add_gateway(timeout_s)
            node_dir = session.local_dir()
    except SessionError as error:
        session.stop(1.0, "it did not come up")
        raise SessionStartError(str(error)) from None
    except BaseException:
        session.stop(1.0, "the start was interrupted")
        raise
    assert node_dir is not None
    _state.session = SessionThread(session)
    with _state.session.hold():
        begin_clock(_state.session.loop)
    return node_dir


def _connect(
    node_dir: str, namespace: str | None, show: Looks | None, logging: dict[str, Any] | None, *, guest: bool = False
) -> Context:
    from hpc.core.owner.shell.client import Client
    from hpc.core.process.job import pack_job

    _check_patches()
    main = sys.modules.get("__main__")
    path = [p for p in sys.path if p and "site-packages" not in p and not p.endswith(".zip")]
    file = getattr(main, "__file__", None)
    if file is None:
        path.insert(0, os.getcwd())
    raise_open_files()
    host = host_of(node_dir)
    namespace = namespace or (host.namespace if host is not None else "") or f"anonymous-{secrets.token_hex(8)}"
    here.namespace = namespace
    program = os.path.splitext(os.path.basename(file or ""))[0]
    facts = {"sys_path": path, "cwd": os.getcwd(), "namespace": namespace, "logging": logging, "program": program}
    job = b"" if guest else pack_job(facts)
    if logging is not None:
        apply_logging(logging)
    try:
        client = Client(node_dir, "driver", job)
    except OSError as error:
        raise ConnectionError(f"cannot connect to the session in {node_dir}: {error}") from error
    if show is not None:
        client.printed.show_on(Terminal(client.addr.node, show))
    current.client = client
    watch_forks()
    client.start()
    _state.context = _context(client)
    return _state.context


def _context(client: ThisProcess) -> Context:
    registered, node_dir = client.registered, client.node_dir
    return Context(
        {
            "session": registered.session,
            "address": registered.session,
            "node_id": str(registered.node),
            "node_dir": node_dir,
            "session_dir": node_dir,
            "raylet_socket_name": os.path.join(node_dir, "raylet.sock"),
            "webui_url": None,
        }
    )


def shutdown(_exiting_interpreter: bool = False, *, wait_for_processes: bool = True) -> None:
    """Leave the session; it ends with this process's leaving if `init` started it. Does nothing when not connected.

    It returns when the processes that `init` started have ended, whatever ``wait_for_processes`` says.
    """
    with _lock:
        if is_forked():
            return
        client, current.client = current.client, None
        if client is not None and client.kind == "driver":
            try:
                client.close()
            except OSError:
                pass
        elif client is not None:
            current.client = client
            return
        _state.context = None
        process.env = {}
        _stop_session()


def _stop_session() -> None:
    session, _state.session = _state.session, None
    if session is not None:
        session.stop(2.0, "the driver has left")


def _after_fork_in_child() -> None:
    """A forked child has no session: what `init` made stays with the parent (see `hpc.core.owner.shell.forked`)."""
    global _lock
    _lock = threading.RLock()
    session, _state.session, _state.context, here.namespace = _state.session, None, None, ""
    if session is not None:
        session.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _at_exit() -> None:
    if not is_forked() and (current.client is None or current.client.kind == "driver"):
        shutdown(True)


atexit.register(_at_exit)
