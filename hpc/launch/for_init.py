"""A new session as the user wants it: what `hpc.init()` was given, then HPC_<NAME> and the TOML files of hpc-launch.

The same table and the same files as hpc-launch, so that a script that starts its own session gets what hpc-launch
would have given it. What only a scheduler can grant (time, partition, ...) is left alone: `init` submits nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from hpc.launch.limit import Drains
from hpc.launch.warning_signal import at_signal, signal_number
from hpc.launchers.loop import SessionLoop
from hpc.launchers.registry import find_place, make_group, session_options
from hpc.launchers.session import Session
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.node import overrides_of
from hpc.settings.options import Settings, load, runtime_config
from hpc.settings.preloaded import PRELOADED


def load_settings(argv: list[str] | None = None) -> Settings:
    """The options from all sources; ValueError for one that cannot be used, with its place."""
    try:
        return load(argv or [])
    except CliError as error:
        raise ValueError(error.text()) from None


def wanted_of_each(settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """What each node on this machine has: as given, else as the settings say."""
    return {**overrides_of(settings), **given}


def make_session(
    local: bool, given: Mapping[str, Any], timeout_s: float | None, config: Mapping[str, Any] | None = None
) -> tuple[Session, float, Callable[[SessionLoop], object]]:
    """The session that `init` starts, how long that may take, and what keeps its time once a loop drives it.

    local: on this machine even inside an allocation. given: resources that are the same on each node. config: runtime
    options that go before those of the settings.
    """
    settings = load_settings()
    place = find_place(wanted="local" if local else settings["scheduler"])
    nodes = int(settings["nodes"][1]) if place.kind == "local" else None  # elsewhere it speaks of a job to submit
    os.environ.update(dict(item.split("=", 1) for item in settings["env"]))
    timeout_s = float(settings["start_timeout"]) if timeout_s is None else timeout_s
    group = make_group(place, nodes, step_args=settings["step_arg"], base_dir=settings["tmpdir"])
    for notice in group.notices:
        errors.note(notice)
    try:
        warning = signal_number(settings["drain_signal"])
    except CliError as error:
        raise ValueError(error.text()) from None
    left_s, asked_at = group.start_fields().get("time_left_s"), time.monotonic()
    session = Session(
        group,
        overrides=wanted_of_each(settings, given) if place.kind == "local" else given,
        config={**runtime_config(settings), **(config or {})},
        preload=PRELOADED,
        interface=settings["interface"],
        base_dir=settings["tmpdir"],
        min_nodes=settings["min_nodes"],
        start_timeout_s=timeout_s,
        driver_host=session_options(place)["driver_host"],
    )

    def begin_clock(loop: SessionLoop) -> object:
        left = None if left_s is None else left_s - (time.monotonic() - asked_at)
        drains = Drains(
            loop, place, ask_s=settings["time_poll"], left_s=left, drain_s=settings["drain"],
            grace_s=settings["grace"], note=errors.note,
        )  # fmt: skip
        if warning:
            at_signal(warning, loop, drains.begin)
        return drains

    return session, timeout_s, begin_clock
