"""`hpc doctor [-N NODES]`: what is wrong with this machine, or with the nodes of a job, and what to do."""

from __future__ import annotations

import json
import os

from hpc.core.node.settings import text
from hpc.doctor import folders, machine, site
from hpc.doctor.finding import run as run_checks
from hpc.doctor.finding import worst
from hpc.doctor.page import show
from hpc.launch import jobdir
from hpc.launch.begin import begin
from hpc.launchers.registry import find_place
from hpc.settings.errors import CliError
from hpc.settings.options import load

USAGE = """\
hpc doctor [--json]                     this machine
       hpc doctor -N NODES [--json] [OPTIONS]  the nodes of a job, with hpc-launch's own options

The exit code is 1 where something has to be mended before a session can work."""


def run(words: list[str]) -> int:
    """Look; returns the exit code."""
    given = words[1:]
    as_json = "--json" in given
    options = [word for word in given if word != "--json"]
    settings = load(options, submits=True)
    if settings.script is not None:
        raise CliError("USAGE", f"hpc doctor takes no word {settings.script!r}", fix="hpc doctor --help")
    folder = jobdir.expand(settings["job_dir"])
    if settings.given("nodes"):
        quiet = [] if settings["verbose"] else ["--quiet"]
        inner = json.dumps([str(folder), settings["interface"], settings["tmpdir"]])
        script = [*options, *quiet, "-m", "hpc.doctor.nodes", *(["--json"] if as_json else []), inner]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return begin(load(script, submits=True))
    fabric_env = text("fabric_env", settings.runtime, os.environ)
    many_nodes = find_place(wanted=settings["scheduler"]).kind != "local"
    found = run_checks(
        [
            ("site", lambda: site.profile(settings)),
            ("scheduler", lambda: site.scheduler(settings["scheduler"])),
            *machine.checks(settings["interface"], fabric_env),
            ("job folder", lambda: folders.jobs_folder(folder, many_nodes)),
            ("local folder", lambda: folders.local_folder(os.environ, settings["tmpdir"])),
            ("imports", site.import_time),
            ("sessions", lambda: site.sessions(os.environ)),
        ]
    )
    show(found, as_json)
    return int(worst(found) == "fail")
