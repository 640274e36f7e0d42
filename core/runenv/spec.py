"""What a runtime environment is between processes: environment variables, and one reserved name for all the rest.

A worker is started for an environment, and pools, leases and messages tell environments apart by their variables. So
everything that is no variable travels as JSON under one name among them (`KEY`), in one canonical spelling: equal
environments are equal strings. Files are named by the hash of their content. Rejected: a field of its own in every
message that carries an environment (the same bytes, in five places).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

#: The reserved name; users cannot set it.
KEY = "HPC_RUNTIME_ENV"
#: The field that names the function that each worker calls first.
HOOK = "worker_process_setup_hook"
#: What the URI of an uploaded package begins with; its hash follows.
PACKAGE = "pkg:"
#: The namespace of the packages in the head's key-value store.
NAMESPACE = "hpc:runtime_env"
#: A package travels in pieces: well below what one frame may hold.
CHUNK_BYTES = 8 << 20
#: How long a set-up may take where config says nothing.
SETUP_TIMEOUT_S = 600

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def pack(env_vars: Mapping[str, str], rest: Mapping[str, Any]) -> dict[str, str]:
    """The environment as the variables of a worker; ``rest`` are the fields that are no variables."""
    env = dict(env_vars)
    if rest:
        env[KEY] = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return env


def unpack(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The reverse of `pack`."""
    text = env.get(KEY)
    rest: dict[str, Any] = json.loads(text) if text else {}
    return {name: value for name, value in env.items() if name != KEY}, rest


def _value_in(known: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: known.get(match[1], "")


def expand(given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with their final values. ``${NAME}`` in one stands for another of them. In the variable of that
    name itself, and where none is given, it stands for the value in the node's environment, if any."""
    pending = dict(given)
    done: dict[str, str] = {}
    while pending:
        ready = [name for name, value in pending.items() if not pending.keys() & set(_VARIABLE.findall(value)) - {name}]
        for name in ready or [next(iter(pending))]:  # in a circle, one has to begin with the node's values
            known = {**environ, **{other: value for other, value in done.items() if other != name}}
            done[name] = _VARIABLE.sub(_value_in(known), pending.pop(name))
    return done


def meta_key(digest: str) -> bytes:
    """The key of a package: its number of chunks, set when all of them are there."""
    return f"pkg/{digest}".encode()


def chunk_key(digest: str, index: int) -> bytes:
    """The key of one chunk."""
    return f"pkg/{digest}/{index}".encode()


def has_setup(env: tuple[tuple[str, str], ...]) -> bool:
    """Whether a worker of this environment has something to set up before it is ready."""
    return any(name == KEY for name, _ in env)
