"""`--stage`: the environment is packed where a job is submitted, and brought to the nodes' own disks where it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from hpc.core.node.address import InterfaceError, node_address
from hpc.launch import jobdir
from hpc.launchers.registry import Place
from hpc.launchers.staging import pack
from hpc.launchers.staging.deliver import Look, Staged, choose_base, deliver
from hpc.launchers.staging.node import size_text
from hpc.launchers.staging.pack import Archived, StageError
from hpc.settings.durations import short
from hpc.settings.errors import CliError
from hpc.settings.options import Settings, Value

Tell = Callable[[str], object]


def packed(settings: Settings, tell: Tell) -> Archived:
    """The archive that the settings mean, packed if need be. CliError where that is impossible."""
    wanted = list(settings["stage"])
    try:
        if len(wanted) == 1 and wanted[0].endswith(pack.SUFFIX):
            return pack.read(Path(os.path.abspath(wanted[0])))
        found = pack.pack(wanted, jobdir.expand(settings["job_dir"]), tell)
    except StageError as error:
        raise as_cli_error(error, settings) from None
    if found.facts["left"]:
        trees = ", ".join(found.facts["left"])
        tell(f"nodes read these source trees where they are (--stage=DIR takes one along): {trees}")
    return found


def prepare(settings: Settings, tell: Tell) -> None:
    """Where a job is submitted: pack now, so that it runs with the environment of this moment."""
    if settings["stage"]:
        found = packed(settings, tell)
        settings.values["stage"] = Value([str(found.path)], settings.origin("stage"))


def bring(settings: Settings, place: Place, nodes: int | None, tell: Tell, look: Look) -> Staged | None:
    """Where the nodes are: bring it to their disks. None where nothing was asked for, or there are no other disks."""
    if not settings["stage"]:
        return None
    if place.alloc is None:
        tell("the nodes are on this machine: they read the environment where it is, and nothing comes of --stage")
        return None
    found = packed(settings, tell)
    hosts = place.alloc.nodes[: nodes or len(place.alloc.nodes)]
    base = choose_base(settings["stage_dir"] or settings["tmpdir"], place.scheduler.disk_env, os.environ)
    began = time.monotonic()
    tell(f"bringing the environment ({size_text(found.size)}) to {base} of {len(hosts)} nodes")
    try:
        addr = node_address(wanted=settings["interface"], loopback=False, many_nodes=True).addr
    except InterfaceError as error:
        raise CliError("STAGE", "the nodes cannot reach each other", why=str(error)) from None
    try:
        staged = deliver(found, place.scheduler, place.alloc, hosts, base, look, addr)
    except StageError as error:
        raise as_cli_error(error, settings) from None
    tell(f"the environment is on {len(hosts)} nodes after {short(time.monotonic() - began)}")
    return staged


def as_cli_error(error: StageError, settings: Settings) -> CliError:
    return CliError("STAGE", str(error), where=f"--stage ({settings.origin('stage')})", why=error.why, fix=error.fix)
