"""This process's connection to a session: init, shutdown, and finding the session that is meant.

``init()`` looks at HPC_SESSION_DIR and HPC_ADDRESS (set by hpc-launch for its script), then it starts a session: on
the nodes of the allocation that it runs in, else on this machine.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpc.core.owner.current import current
from hpc.core.runenv.spec import KEY
from hpc.core.worker.context import process
from hpc.runtime_env import check as check_env
from hpc.runtime_env import worker_env

if TYPE_CHECKING:
    from hpc.core.owner.client import Client

_lock = threading.RLock()

#: Options of Ray's init that are accepted and mean nothing here.
MEANINGLESS_HERE = {
    "dashboard_host", "dashboard_port", "log_to_driver", "logging_config", "logging_format", "allow_multiple",
    "storage", "_enable_object_reconstruction", "_memory", "_metrics_export_port", "_node_ip_address", "_node_name",
    "_plasma_directory", "_redis_max_memory", "_redis_password", "_redis_username", "_system_config", "_temp_dir",
    "_tracing_startup_hook",
}  # fmt: skip


class _State:
    """What init made in this process."""

    session: Any = None
    pump: Any = None
    stopping = False
    namespace = ""
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


def is_initialized() -> bool:
    """Whether this process is connected to a session."""
    return current.client is not None


def ensure_client() -> Client:
    """The client of this process, connecting on first use."""
    client = current.client
    if client is None:
        init()
        client = current.client
        assert client is not None
    return client


def namespace_of(client: Client) -> str:
    """The namespace of actors' names here: the driver's."""
    return _state.namespace or str(process.job.get("namespace", "")) or "default"


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: Any = None,
    log_to_driver: bool = True,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    start_timeout_s: float = 120.0,
    **other: Any,
) -> Context:
    """Connect this process to a session, starting one where none is given.

    address: None (the one that HPC_SESSION_DIR names, else a new one: over the nodes of the allocation that this
        process runs in, or on this machine), "local" (always a new one on this machine), "auto" (one that is there:
        an error if there is none), or a session's id or node directory.
    num_cpus, num_gpus, resources, labels, object_store_memory: of each node of a new session; by default what the
        scheduler granted, or what this machine has.
    runtime_env: what all tasks and actors of this driver inherit (see hpc.runtime_env.RuntimeEnv).
    Raises RuntimeError when called twice without ignore_reinit_error, ConnectionError when there is no such session,
    SessionStartError when nodes do not come up, RuntimeEnvSetupError when the runtime_env's files cannot be packaged.
    """
    with _lock:
        if current.client is not None:
            if ignore_reinit_error and _state.context is not None:
                return _state.context
            raise RuntimeError("hpc.init() was called twice; ignore_reinit_error=True allows that")
        unknown = sorted(set(other) - MEANINGLESS_HERE)
        if unknown:
            raise TypeError(f"hpc.init() has no option {', '.join(unknown)}")
        if local_mode:
            raise NotImplementedError("local_mode is not supported; init(num_cpus=1) runs one task at a time")
        check_env(runtime_env)
        node_dir = _find(address)
        if node_dir is not None and (num_cpus is not None or num_gpus is not None or resources):
            raise ValueError("num_cpus, num_gpus and resources belong to a session's start; this one runs already")
        if node_dir is None:
            overrides = {
                "num_cpus": num_cpus,
                "num_gpus": num_gpus,
                "resources": dict(resources or {}),
                "labels": dict(labels or {}),
                "object_store_bytes": object_store_memory,
            }
            node_dir = _start(address == "local", overrides, start_timeout_s)
        try:
            context = _connect(node_dir, namespace, log_to_driver)
        except BaseException:
            _stop_session()
            raise
        try:
            _enter_env(runtime_env)
        except BaseException:
            shutdown()
            raise
        return context


def _enter_env(given: Mapping[str, Any] | None) -> None:
    """Make the job's environment what tasks inherit; set it up on all nodes at once where that takes time."""
    process.env = {}
    if not given:
        return
    process.env = worker_env(ensure_client(), given)
    if KEY in process.env and (given.get("config") or {}).get("eager_install", True):
        from hpc.remote_function import RemoteFunction
        from hpc.state import nodes
        from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ready = RemoteFunction(_ready, {"num_cpus": 0, "max_retries": 0, "name": "set-up of the runtime environment"})
        for node in nodes():
            if node["Alive"]:
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ready.options(scheduling_strategy=where).remote()


def _ready() -> None:
    """Runs as soon as a node has the job's environment."""


def _find(address: str | None) -> str | None:
    """The node directory of an existing session, or None to start one."""
    if address == "local":
        return None
    if address is None:
        address = os.environ.get("HPC_SESSION_DIR") or os.environ.get("HPC_ADDRESS", "")
        if not address or address.startswith("tcp://"):
            return None
    if os.path.isabs(address):
        if not os.path.exists(os.path.join(address, "raylet.sock")):
            raise ConnectionError(f"no raylet listens in {address}: the session has ended, or is on another machine")
        return address
    return _find_live(address)


def _find_live(address: str) -> str:
    from hpc.core.node.rundir import live_sessions

    live = live_sessions()
    if address != "auto":
        live = [one for one in live if one["session"] == address]
    sessions = sorted({str(one["session"]) for one in live})
    if len(sessions) == 1:
        return str(min(live, key=lambda one: str(one["node"]).zfill(9))["dir"])
    if not sessions:
        what = "no session of yours runs" if address == "auto" else f"no session {address!r} of yours runs"
        raise ConnectionError(f"{what} on this machine; hpc.init() without an address starts one")
    listed = "; ".join(f"{s} (in {min(str(o['dir']) for o in live if o['session'] == s)})" for s in sessions)
    raise ConnectionError(f"several sessions of yours run here, name one of them as the address: {listed}")


def _start(local: bool, overrides: dict[str, Any], timeout_s: float) -> str:
    """Start a session over the allocation, or on this machine; returns the node directory to connect to."""
    from hpc.launchers.pick import find_place, make_group, session_options
    from hpc.launchers.session import Session, SessionError

    place = find_place(wanted="local" if local else None)
    given = {name: value for name, value in overrides.items() if value not in (None, {})}
    from hpc.core.exceptions import SessionStartError

    alone = session_options(place)["driver_host"]
    session = Session(make_group(place), overrides=given, start_timeout_s=timeout_s, driver_host=alone)
    try:
        session.start()
        import hpc.core.owner.client  # noqa: F401  while the nodes come up

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
    _state.session = session
    _state.stopping = False
    _state.pump = threading.Thread(target=_pump, args=(session,), name="hpc-session", daemon=True)
    _state.pump.start()
    return node_dir


def _pump(session: Any) -> None:
    """Keep the session's channels read while this process uses it."""
    while not _state.stopping and session.state not in ("ended",):
        try:
            session.pump(0.2)
        except Exception as error:
            if not _state.stopping:
                print(f"hpc: the session has failed: {error}", file=sys.stderr)
                session.begin_stop(1.0, str(error))
            return


def _connect(node_dir: str, namespace: str | None, log_to_driver: bool) -> Context:
    from hpc.core.owner.client import SPIN_S, Client, pack_job

    main = sys.modules.get("__main__")
    path = [p for p in sys.path if p and "site-packages" not in p and not p.endswith(".zip")]
    if getattr(main, "__file__", None) is None:
        path.insert(0, os.getcwd())
    _state.namespace = namespace or ""
    job = pack_job({"sys_path": path, "cwd": os.getcwd(), "namespace": namespace or ""})
    try:
        client = Client(node_dir, "driver", job, spin_s=float(os.environ.get("HPC_SPIN_US", SPIN_S * 1e6)) / 1e6)
    except OSError as error:
        raise ConnectionError(f"cannot connect to the session in {node_dir}: {error}") from error
    from hpc.logs import show_log_lines

    client.on_other = show_log_lines if log_to_driver else client.on_other
    current.client = client
    client.start()
    registered = client.registered
    _state.context = Context(
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
    return _state.context


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Leave the session; it ends with this process's leaving if `init` started it. Does nothing when not connected."""
    with _lock:
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
    if session is None:
        return
    _state.stopping = True
    if _state.pump is not None:
        _state.pump.join(timeout=5.0)
        _state.pump = None
    session.stop(2.0, "the driver has left")


def _at_exit() -> None:
    if current.client is None or current.client.kind == "driver":
        shutdown(True)


atexit.register(_at_exit)
