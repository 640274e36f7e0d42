"""Variables of the environment that a user of Ray may have set: ours for each, and those that have no effect here.

A program of Ray's finds its settings under Ray's names too; where both are set ours counts. Numbers of a session that
the environment can say are in `hpc.core.node.settings`, with Ray's names for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from hpc.core.node.settings import OFF, ON


class Variable(Struct, frozen=True):
    """One variable under both names, and what it says."""

    name: str
    ray: str
    what: str


def _same(suffix: str, what: str) -> Variable:
    return Variable(f"HPC_{suffix}", f"RAY_{suffix}", what)


ADDRESS = _same("ADDRESS", "the session that `init` joins: its id, a node's directory, `auto` or `local`")
NAMESPACE = _same("NAMESPACE", "the namespace of actors' names where `init` is given none")
TMPDIR = _same("TMPDIR", "the directory in which nodes make theirs")
RUNTIME_ENV_HOOK = _same(
    "RUNTIME_ENV_HOOK", "`module.function`: gets the runtime_env of `init` and returns the one to use"
)
LOG_TO_DRIVER = _same("LOG_TO_DRIVER", "0: the driver does not show what workers print (`init(log_to_driver=)`)")
DEDUP_LOGS = _same("DEDUP_LOGS", "0: each line of each worker is shown, none are folded")
DEDUP_WINDOW = _same("DEDUP_LOGS_AGG_WINDOW_S", "seconds for which equal lines are counted before they are shown (5)")
DEDUP_ALLOW = _same("DEDUP_LOGS_ALLOW_REGEX", "lines in which this is found are never folded")
DEDUP_SKIP = _same("DEDUP_LOGS_SKIP_REGEX", "other lines in which this is found are never shown")
COLOR_PREFIX = _same("COLOR_PREFIX", "0: no colours in front of workers' lines; 1: a colour for each process")
NO_PREFIX = _same("DISABLE_WORKER_LOG_PREFIX", "1: workers' lines are shown without the name and process in front")
LOGGING_ENCODING = _same(
    "LOGGING_CONFIG_ENCODING", "JSON or TEXT: as `init(logging_config=LoggingConfig(encoding=...))`"
)
AUTO_CONNECT = _same("ENABLE_AUTO_CONNECT", "0: the first use does not call `init` by itself, it raises RuntimeError")
UNHANDLED = _same("IGNORE_UNHANDLED_ERRORS", "set: errors that nobody gets are not shown")
INSTANCE_ID = _same("CLOUD_INSTANCE_ID", "the id of this machine where it is rented: `util.get_node_instance_id`")

VARIABLES = (
    ADDRESS, NAMESPACE, TMPDIR, RUNTIME_ENV_HOOK, LOG_TO_DRIVER, DEDUP_LOGS, DEDUP_WINDOW, DEDUP_ALLOW, DEDUP_SKIP,
    COLOR_PREFIX, NO_PREFIX, LOGGING_ENCODING, AUTO_CONNECT, UNHANDLED, INSTANCE_ID,
)  # fmt: skip

#: Names of Ray's that are read as they are: they are for vendors' software too, or for the process that has them.
TAKEN_AS_THEY_ARE = {
    "RAY_EXPERIMENTAL_NOSET_*": "1: this variable of visible devices is left alone ([accelerators](accelerators.md))",
    "RAY_TPU_RESOURCE_PER_CHIP": "how many devices a TPU chip counts as",
}

_DEBUGGER = "`hpc stack` shows where processes are; attach a debugger by process id"
_CLUSTERS = ("RAY_UP_*", "RAY_ON_SPARK_*", "RAY_FAKE_CLUSTER", "RAY_AUTOSCALER_*", "RAY_KUBERAY_*")
_LIBRARIES = ("RAY_DATA_*", "RAY_SERVE_*", "RAY_TUNE_*", "RAY_AIR_*", "RAY_CGRAPH_*", "RAY_LLM_*")
#: Names of Ray's that have no effect here, as patterns of `fnmatch`, and why. The first that fits counts.
NOT_TAKEN: dict[str, str] = {
    "RAY_RUNTIME_ENV": "is for Ray's client: give `init` a runtime_env",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "the runtime_env of `init` always goes over that of the job, field by field",
    "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": "`excludes` of a runtime_env says what stays out",
    "RAY_RUNTIME_ENV_*": "runtime environments are set up as their own fields say",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "`uv run` is no runtime environment here: name its packages in runtime_env",
    "RAY_OVERRIDE_RESOURCES": "say resources to `init`, hpc-launch or hpc.toml",
    "RAY_OVERRIDE_LABELS": "say labels to `init`",
    "RAY_USE_MULTIPROCESSING_CPU_COUNT": "CPUs are those that the process may use (affinity, control groups)",
    "RAY_DEFAULT_OBJECT_STORE_*": "`init(object_store_memory=)` says how large the store is",
    "RAY_ROTATION_*": "HPC_LOG_BYTES says what a log file may take",
    "RAY_LOG_TO_STDERR": "nodes log into files of their own",
    "RAY_LOGGER_LEVEL": "set the level of the logger that you want to hear",
    "RAY_BACKEND_LOG_LEVEL": "logs of nodes have one level",
    "RAY_FLUSH_DRIVER_LOGS": "workers' lines are written out as they come",
    "RAY_SCHEDULER_EVENTS": "nodes are those of the batch job: none come or go by load",
    "RAY_TQDM*": "bars of workers are shown as lines",
    **dict.fromkeys(("RAY_DEBUG*", "RAY_PDB*"), _DEBUGGER),
    "RAY_PICKLE_VERBOSE_DEBUG": "the error names the part that cannot be pickled",
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "the store is memory",
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "torch's CPU tensors always come without a copy",
    "RAY_PROFILING": "`ray.timeline` always has what workers remember",
    "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "which part of a log a call wrote is always noted",
    **dict.fromkeys(("RAY_AUTH_*", "RAY_USE_TLS", "RAY_TLS_*"), "sessions have keys, and links between nodes use them"),
    **dict.fromkeys(
        ("RAY_DASHBOARD_*", "RAY_DISABLE_DASHBOARD_*", "RAY_GRAFANA_*", "RAY_PROMETHEUS_*"), "there is no dashboard"
    ),
    "RAY_USAGE_STATS_*": "nothing is sent to anybody",
    "RAY_REDIS_*": "there is no Redis",
    "RAY_CLIENT_*": "`init` joins a session; there is no client's server",
    **dict.fromkeys(("RAY_JOB_HEADERS", "RAY_JOB_STOP_*", "RAY_JOB_START_*"), "jobs are those of `hpc job submit`"),
    **dict.fromkeys(_LIBRARIES, "belongs to a library that is not here"),
    **dict.fromkeys(_CLUSTERS, "starts clusters of Ray's"),
    "RAY_[a-z]*": "tunes Ray's own services",
}


def text(variable: Variable, environ: Mapping[str, str] | None = None) -> str:
    """What the variable says; empty where it is not set."""
    environ = os.environ if environ is None else environ
    return environ.get(variable.name) or environ.get(variable.ray) or ""


def named(variable: Variable, environ: Mapping[str, str] | None = None) -> str:
    """The name under which it is set."""
    environ = os.environ if environ is None else environ
    return variable.name if environ.get(variable.name) or not environ.get(variable.ray) else variable.ray


def switch(variable: Variable, default: bool, environ: Mapping[str, str] | None = None) -> bool:
    """Whether it is on; ValueError for what is neither yes nor no."""
    found = text(variable, environ).lower()
    if not found:
        return default
    if found not in (*ON, *OFF):
        raise ValueError(f"{named(variable, environ)} is {found!r}; it takes 1 or 0")
    return found in ON


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def without_effect(environ: Mapping[str, str] | None = None, known: frozenset[str] = frozenset()) -> dict[str, str]:
    """Variables of Ray's that are set and mean nothing here, with the reason. ``known``: others that are taken."""
    environ = os.environ if environ is None else environ
    taken = known | {variable.ray for variable in VARIABLES}
    found = {}
    for name in sorted(environ):
        if name.startswith("RAY_") and name not in taken and not _fits(name, TAKEN_AS_THEY_ARE):
            why = next((why for pattern, why in NOT_TAKEN.items() if fnmatchcase(name, pattern)), None)
            if why is not None:
                found[name] = why
    return found
