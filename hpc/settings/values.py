"""How each kind of option value is read from text and written back as text.

Apart from the table so that the table stays readable. Readers raise ValueError with the forms that they take.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Literal

from hpc.launchers import registry
from hpc.launchers.containers import RUNTIMES
from hpc.launchers.runtimes import table as runtimes
from hpc.launchers.units import clock_text
from hpc.settings.durations import parse_duration, parse_walltime


def read_text(text: str) -> str:
    if not text.strip() or "\n" in text:
        raise ValueError(f"not a value: {text!r}")
    return text


def read_count(text: str) -> int:
    if not re.fullmatch(r"\d+", text.strip()) or int(text) < 1:
        raise ValueError(f"not a count: {text!r} (a whole number from 1)")
    return int(text)


def read_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text.strip()):
        raise ValueError(f"not a number: {text!r} (a whole number from 0)")
    return int(text)


def read_nodes(text: str) -> tuple[int, int]:
    """`4` or `2-8`, as (least, most)."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"not a number of nodes: {text!r} (4, or 2-8)")
    least, most = int(match.group(1)), int(match.group(2) or match.group(1))
    if not 1 <= least <= most:
        raise ValueError(f"not a number of nodes: {text!r} (at least 1, the smaller first)")
    return least, most


def read_switch(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "yes", "true", "on"):
        return True
    if word in ("0", "no", "false", "off"):
        return False
    raise ValueError(f"neither yes nor no: {text!r}")


def read_memory(text: str) -> str:
    """16G, 500M; a bare number is MiB."""
    if not re.fullmatch(r"\d+[KMGTkmgt]?[bB]?", text.strip()):
        raise ValueError(f"not a size: {text!r} (16G, 500M, or MiB)")
    return text.strip().rstrip("bB").upper()


def read_gpus(text: str) -> str:
    """N or TYPE:N; some schedulers take several of them, with commas between."""
    if not all(re.fullmatch(r"([^:,=\s]+:)?\d+", each) for each in text.strip().split(",")):
        raise ValueError(f"not a number of GPUs: {text!r} (4, a100:4)")
    return text.strip()


def read_scheduler(text: str) -> str:
    if text not in registry.names():
        raise ValueError(f"no such scheduler: {text!r} (there are: {', '.join(registry.names())})")
    return text


def read_runtime(text: str) -> str:
    if text not in runtimes.NAMES:
        raise ValueError(f"no such runtime: {text!r} (there are: {', '.join(runtimes.NAMES)})")
    return text


def read_container_runtime(text: str) -> str:
    if text not in RUNTIMES:
        raise ValueError(f"no such container runtime: {text!r} (there are: {', '.join(RUNTIMES)})")
    return text


def read_preflight(text: str) -> str:
    if text not in ("report", "exclude"):
        raise ValueError(f"report or exclude, not {text!r}")
    return text


def read_env(text: str) -> str:
    """`KEY=VALUE`, or `KEY` to take the value from here."""
    key, equals, _ = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        raise ValueError(f"not a variable: {text!r} (KEY=VALUE, or KEY)")
    if not equals and key not in os.environ:
        raise ValueError(f"the variable {key} is not set here (or give {key}=VALUE)")
    return text if equals else f"{key}={os.environ[key]}"


#: What the text of an option is read as.
OptionKind = Literal[
    "text", "path", "count", "number", "nodes", "walltime", "duration", "memory", "switch", "scheduler", "runtime",
    "container", "env", "gpus", "preflight",
]  # fmt: skip
READERS: dict[OptionKind, Callable[[str], Any]] = {
    "text": read_text,
    "path": read_text,
    "count": read_count,
    "number": read_number,
    "nodes": read_nodes,
    "walltime": parse_walltime,
    "duration": parse_duration,
    "memory": read_memory,
    "gpus": read_gpus,
    "switch": read_switch,
    "scheduler": read_scheduler,
    "runtime": read_runtime,
    "container": read_container_runtime,
    "env": read_env,
    "preflight": read_preflight,
}


def show_value(kind: OptionKind, value: Any) -> str:
    """A value as text that its reader takes."""
    if kind == "nodes":
        least, most = value
        return str(most) if least == most else f"{least}-{most}"
    if kind == "walltime":
        return clock_text(value)
    if kind == "duration":
        return f"{value:g}s"
    if kind == "switch":
        return "yes" if value else "no"
    return str(value)
