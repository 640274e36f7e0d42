"""THE table of the runtime's options: what each takes, what it is where nobody says it, and who reads it.

An option comes from the ``[runtime]`` table of a TOML file, which travels in the start message. Else it comes from the
node's environment (HPC_<NAME>, then Ray's name for the same), else from this table. A value out of its range, and a
name that is not in the table, are errors where the session starts. Later would be too late: what they switch off, or
never reach, is missed when it is needed. docs/cli.md and docs/limits.md show the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

#: Words for a switch in a variable of the environment.
ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Number(Struct, frozen=True):
    """From ``low`` to ``high``, or ``also``, which means something else."""

    what: str
    low: float
    high: float = math.inf
    whole: bool = False
    also: float | None = None
    also_is: str = ""

    def allowed(self) -> str:
        """In words."""
        kind = "a whole number of " if self.whole else ""
        span = f"from {self.low:g} to {self.high:g}" if self.high < math.inf else f"from {self.low:g} on"
        return f"{kind}{self.what} {span}" + (f", or {self.also:g} ({self.also_is})" if self.also is not None else "")

    def read(self, value: Any, where: str, unit: float = 1.0) -> float:
        """The value as this number. Raises ValueError with its place (``where``) and its range."""
        try:
            found = float(value) * unit if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            found = math.nan
        whole = not self.whole or (math.isfinite(found) and found == int(found))
        if (self.low <= found <= self.high and whole) or found == self.also:
            return found
        unit_note = f" (1 is {unit:g} of ours)" if unit != 1.0 else ""
        raise ValueError(f"{where} is {value!r}{unit_note}; it takes {self.allowed()}")


class Switch(Struct, frozen=True):
    """On or off."""

    def allowed(self) -> str:
        """In words."""
        return "true or false"

    def read(self, value: Any, where: str, unit: float = 1.0) -> bool:
        """The value; a variable of the environment says it as 1 or 0 (yes, no, ...). Raises ValueError for what is
        neither."""
        word = value.lower() if isinstance(value, str) else ""
        if word in ON or word in OFF:
            return word in ON
        if not isinstance(value, bool):
            raise ValueError(f"{where} is {value!r}; it takes {self.allowed()}")
        return value


class Text(Struct, frozen=True):
    """Some text."""

    what: str

    def allowed(self) -> str:
        """In words."""
        return self.what

    def read(self, value: Any, where: str, unit: float = 1.0) -> str:
        """The value. Raises ValueError for what is no text."""
        if not isinstance(value, str):
            raise ValueError(f"{where} is {value!r}; it takes {self.allowed()}")
        return value


class HostPatterns(Struct, frozen=True):
    """Labels and the patterns of host names that they follow from."""

    def allowed(self) -> str:
        """In words."""
        return "LABEL=PATTERN of host names, with spaces between"

    def read(self, value: Any, where: str, unit: float = 1.0) -> str:
        """The value. Raises ValueError for what cannot be understood."""
        from hpc.core.policy.labels import host_patterns

        try:
            host_patterns(value)
        except (ValueError, AttributeError) as error:
            why = error if isinstance(error, ValueError) else "no text"
            raise ValueError(f"{where} is {value!r}, {why}; it takes {self.allowed()}") from None
        return str(value)


class Setting(Struct, frozen=True):
    """One option. ``default_is`` says in words what follows from other options. ``source``: whether the configuration
    can say it, or the environment, or both. ``ray`` is its variable in Ray, in which 1 is ``ray_unit`` of ours.
    ``reader`` is the file in which it has its effect."""

    takes: Number | Switch | Text | HostPatterns
    default: float | bool | str | None
    help: str
    reader: str
    default_is: str = ""
    source: Literal["config", "both", "environ"] = "config"
    ray: str = ""
    ray_unit: float = 1.0


def _time(low: float = 0.001, high: float = 1e7, **more: Any) -> Number:
    return Number("seconds", low, high, **more)


def _bytes(low: float = 1, **more: Any) -> Number:
    return Number("bytes", low, whole=True, **more)


_TIMES, _LINKS = "core/node/times.py", "core/net/links.py"
SETTINGS: dict[str, Setting] = {
    "heartbeat_s": Setting(_time(), 1.0, "between two reports of a node to the head", _TIMES),
    "suspect_s": Setting(
        _time(), None, "a node that is silent for this long gets nothing new", _TIMES, "a sixth of dead_s"
    ),
    "dead_s": Setting(_time(), 60.0, "a node that is silent for this long is declared dead, for good", _TIMES),
    "fence_s": Setting(
        _time(), None, "a node that has no answer from the head for this long ends itself", _TIMES,
        "three quarters of dead_s",
    ),
    "head_hang_s": Setting(
        _time(1.0, also=0, also_is="never"), 15.0, "a head whose loop does not turn for this long is started again",
        _TIMES,
    ),
    "bind_timeout_s": Setting(
        _time(0.1), 120.0, "a node ends that was not told its number within this time", "core/node/supervisor.py"
    ),
    "link_window_bytes": Setting(
        _bytes(), 256 << 20, "of one link that may wait: beyond, the senders of that node are not read", _LINKS
    ),
    "link_wire_window_bytes": Setting(
        _bytes(), 16 << 20, "of one link that may be on the wire without an acknowledgement", _LINKS
    ),
    "link_heartbeat_s": Setting(_time(), 3.0, "between two signs of life of a connection", _LINKS),
    "link_heartbeat_timeout_s": Setting(
        _time(), 10.0, "a connection that is silent for this long is cut and made anew", _LINKS
    ),
    "link_reconnect_s": Setting(_time(), 0.1, "before a lost connection is tried again, at first", _LINKS),
    "link_reconnect_max_s": Setting(_time(), 2.0, "the same, after many tries", _LINKS),
    "link_connect_timeout_s": Setting(_time(), 5.0, "a try to connect ends after this time", _LINKS),
    "link_handshake_s": Setting(_time(), 10.0, "the handshake of a connection must end within this time", _LINKS),
    "link_io_threads": Setting(
        Number("threads", 1, 64, whole=True), 1, "of ZeroMQ for the links of a node", _LINKS
    ),
    "bulk_encryption": Setting(
        Switch(), True, "whether bytes of objects between nodes are encrypted", "core/raylet/bulk.py"
    ),
    "memory_usage_threshold": Setting(
        Number("a share of the memory", 0.0, 1.0), 0.95,
        "of a node's memory above which the watchdog ends workers; 0 is never", "core/raylet/watchdog.py",
        source="both", ray="RAY_memory_usage_threshold",
    ),
    "memory_watch_interval_s": Setting(
        _time(0.01, 3600.0, also=0, also_is="nobody looks"), 0.25, "between two looks of the watchdog",
        "core/raylet/watchdog.py", source="both", ray="RAY_memory_monitor_refresh_ms", ray_unit=0.001,
    ),
    "memory_limit_bytes": Setting(
        _bytes(1 << 20, also=0, also_is="no limit of its own"), 0,
        "that count as all of a node's memory, where it is less than what the node has", "core/raylet/watchdog.py",
        source="both",
    ),
    "log_bytes": Setting(
        _bytes(64 << 10, also=0, also_is="no limit"), 64 << 20, "of one log file: beyond, its older half goes",
        "core/raylet/logfiles.py", source="both",
    ),
    "spill_dir": Setting(
        Text("a directory"), "", "on a disk of the node, for objects that memory has no room for",
        "core/raylet/store_shell.py", "the node's own directory", source="both",
    ),
    "spill_limit_bytes": Setting(
        _bytes(0, also=-1, also_is="what the disk has room for"), -1, "of objects on that disk",
        "core/raylet/store_shell.py", source="both",
    ),
    "store_full_timeout_s": Setting(
        _time(0.0, 1e7), 5.0, "a request for memory fails after this time, if nothing that runs can free any",
        "core/raylet/store_shell.py", source="both",
    ),
    "task_max_retries": Setting(
        Number("retries", 0, 2**31 - 1, whole=True, also=-1, also_is="without end"), 3,
        "of a task that says none itself, in the driver's environment", "hpc/api/options.py", source="environ",
        ray="RAY_TASK_MAX_RETRIES",
    ),
    "spin_us": Setting(
        Number("microseconds", 0, 1_000_000), 50, "a thread that waits looks again before it sleeps; 0 is never",
        "core/owner/shell/spin.py", source="environ",
    ),
    "task_events": Setting(
        Switch(), True, "whether workers remember what they ran", "core/worker/record.py", source="environ"
    ),
    "metrics": Setting(
        Switch(), True, "whether metrics are kept and brought together", "core/owner/shell/telling.py", source="environ"
    ),
    "env_cache": Setting(
        Text("a directory"), "", "for virtual environments of runtime environments", "core/runenv/interpreters.py",
        "beside the nodes' directories", source="environ",
    ),
    "worker_imports": Setting(
        Text("names of modules, with spaces between"), "",
        "that a node imports once, for all its workers: torch takes each of them a second otherwise",
        "core/node/zygote.py", source="both",
    ),
    "device_affinity": Setting(
        Switch(), True, "whether a worker with devices runs on the CPUs next to them and has its memory there",
        "core/node/nearness.py", source="both",
    ),
    "labels_of_host": Setting(
        HostPatterns(), "", "labels of a node that follow from its host's name: what the groups of the pattern match",
        "core/raylet/node_resources.py", source="both",
    ),
    "probe_root": Setting(
        Text("a directory"), "/", "below which devices, NUMA nodes and their CPUs are looked for; tests make one",
        "core/node/survey.py", source="environ",
    ),
    "rank_hang_report_s": Setting(
        _time(also=0, also_is="never"), 15.0,
        "that ranks of a plain script may wait for others: then it is said for which, and where those are",
        "hpc/launch/rank_watch.py", source="both",
    ),
    "rank_hang_end_s": Setting(
        _time(also=0, also_is="never"), 0.0, "the same, and all ranks are ended", "hpc/launch/rank_watch.py",
        source="both",
    ),
    "fabric_env": Setting(
        Text("NAME=VALUE ..., with quotes as in a shell"), "",
        "variables for network libraries on every node of a job, where the user has not set them",
        "core/node/surroundings.py", source="both",
    ),
    "cache_dir": Setting(
        Text("a directory"), "", "on a file system that the nodes share, for the archive of compilers' caches",
        "core/node/surroundings.py", "none: caches begin empty", source="both",
    ),
    "loopback": Setting(Switch(), False, "all nodes are on this machine", "core/node/spec.py"),
    "machine_share": Setting(
        Number("nodes on one machine", 1, 100_000, whole=True), 1,
        "that divide a machine among themselves", "core/node/spec.py",
    ),
}  # fmt: skip
#: Options that the launcher says: a file may not.
OF_LAUNCHER = ("loopback", "machine_share")


def _find(name: str, config: Mapping[str, Any], environ: Mapping[str, str] | None) -> float | bool | str | None:
    known = SETTINGS[name]
    if config.get(name) is not None:
        return known.takes.read(config[name], f"{name} of the [runtime] options")
    if known.source != "config":
        if environ is None:
            raise TypeError(f"{name} can be said by the environment: give it")
        ours = f"HPC_{name.upper()}"
        if environ.get(ours):
            return known.takes.read(environ[ours], ours)
        if known.ray and environ.get(known.ray):
            return known.takes.read(environ[known.ray], known.ray, known.ray_unit)
    return known.default


def setting(name: str, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> float:
    """An option that is a number. Raises ValueError for one that is out of its range."""
    found = _find(name, config, environ)
    assert isinstance(found, (int, float))
    return found


def switch(name: str, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> bool:
    """An option that is on or off. Raises ValueError for what is neither."""
    return bool(_find(name, config, environ))


def text(name: str, config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """An option that is text. Raises ValueError for what is none."""
    return str(_find(name, config, environ))


def check(config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """ValueError for an option of the configuration, or of the environment, that has a wrong value."""
    for name, known in SETTINGS.items():
        if config.get(name) is not None or known.source != "config":
            _find(name, config, environ)


def unknown(names: Mapping[str, Any]) -> dict[str, str]:
    """The names that are no options which a user's file can say, each with the one that is most likely meant."""
    import difflib

    said = [name for name, known in SETTINGS.items() if known.source != "environ" and name not in OF_LAUNCHER]
    wrong = [name for name in names if name not in said]
    return {name: next(iter(difflib.get_close_matches(name, said, 1)), "") for name in wrong}
