"""Before a job ends: callbacks of the user's, and states that the next job begins with."""

from __future__ import annotations

from typing import Any

from hpc.api.connection import ensure_client
from hpc.core.process.ending import DrainCallback
from hpc.core.process.saved import SavedStates, states_in

SCRIPT = "script"


def on_drain(callback: DrainCallback) -> DrainCallback:
    """Have ``callback(notice)`` called in this process when its node drains: some time before the job's end, or when
    the scheduler warns (see docs/walltime.md).

    callback: gets a notice with ``reason`` (text) and ``left_s`` (seconds until the end, counted down; None where that
    is not known). It runs on a thread of its own, once, those of a process in turn; what it raises is printed.
    Where the node drains already it is called at once. Returns the callback, so that this can be a decorator. TypeError
    for what cannot be called.
    """
    if not callable(callback):
        raise TypeError(f"the callback must be a function of one argument, the notice, not {type(callback).__name__}")
    ensure_client().ending.call(callback)
    return callback


def save_state(name: str, value: Any) -> str:
    """Keep a value for the next job of this chain, or for this job when it is requeued. Returns the path of its file.

    name: of the state; saved again it replaces the value, in one step. Any process of the session may do so, one at a
    time for each name. Raises NoStateError where the session has no folder for states (--state-dir), the file cannot be
    written, or the value has ObjectRefs in it.
    """
    return _states().save(SCRIPT, _text(name), value)


def saved_state(name: str, default: Any = None) -> Any:
    """What `save_state` kept under this name, in this job or an earlier one of its chain; else the default. Raises
    NoStateError where it is there and cannot be read."""
    found, value = _states().load(SCRIPT, _text(name))
    return value if found else default


def _states() -> SavedStates:
    return states_in(str(ensure_client().registered.config.get("state_dir", "")))


def _text(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a state is a text that is not empty, not {name!r}")
    return name
