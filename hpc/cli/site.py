"""`hpc site list | show | detect | new`: the profiles of machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from hpc.cli.table import show_table
from hpc.settings import sites
from hpc.settings.errors import CliError, report
from hpc.settings.files import user_config_dir

USAGE = """\
hpc site list                   the profiles that there are
       hpc site show [NAME]            what one says; without a name, that of this machine
       hpc site detect                 which one knows this machine
       hpc site new NAME               write one of your own, to be changed"""

NEW = """\
# {name}: what this machine wants. `hpc site show {name}` prints it; templates/sites has larger examples.

[site]
title = "{name}"
scheduler = "{scheduler}"
detect = ["host {host}"]         # signs of the machine: "host PATTERN" or "VARIABLE=value"

[nodes]
# interface = "hsn0"
# setup = ["module load python"]

[submit]
# account = "..."
# partition = "..."
"""


def run(words: list[str]) -> int:
    """Dispatch; returns the exit code."""
    verbs = {"list": _list, "show": _show, "detect": _detect, "new": _new}
    verb = words[1] if len(words) > 1 else "list"
    if verb not in verbs:
        raise CliError("USAGE", f"no such command: hpc site {verb}", why=f"there are: {', '.join(verbs)}")
    if len(words) > 3 or (len(words) == 3 and verb in ("list", "detect")):
        raise CliError("USAGE", f"hpc site {verb}: too many words", fix=f"hpc site {verb}")
    return verbs[verb](words[2] if len(words) > 2 else "")


def _list(_name: str) -> int:
    """Show all profiles. One that cannot be read is a row too, and its error follows the table."""
    config = user_config_dir(os.environ)
    rows: list[list[str]] = [["NAME", "SCHEDULER", "KINDS", "MACHINE"]]
    errors: list[CliError] = []
    for name in sites.names(config):
        try:
            site = sites.read(config, name)
        except CliError as error:
            errors.append(error)
            rows.append([name, "-", "-", "(cannot be used)"])
        else:
            rows.append([name, site.scheduler or "-", ",".join(site.kinds) or "-", site.title])
    show_table(rows)
    sys.stdout.flush()
    return max(map(report, errors), default=0)


def _detect(_name: str) -> int:
    found = sites.find(user_config_dir(os.environ), os.environ, os.uname().nodename)
    print(f"{found.name}, found by {found.found_by}" if found else "no profile knows this machine")
    return 0 if found else 1


def _show(name: str) -> int:
    config = user_config_dir(os.environ)
    site = sites.here(config, os.environ, name or None)
    if site is None:
        raise CliError("USAGE", "no profile knows this machine", fix="hpc site list")
    print(f"{site.title}\n  file       {site.path}")
    print(f"  scheduler  {site.scheduler or '-'}\n  signs      {', '.join(site.detect) or '-'}")
    if site.kinds:
        print(f"  kinds      {', '.join(site.kinds)} (shown: {site.kind})")
    titles = {
        "launch": "always",
        "nodes": "for nodes of a job",
        "submit": "where a job is submitted",
        "runtime": "runtime",
    }
    for table, title in titles.items():
        _print_table(title, site.tables[table])
    _print_table("facts", site.facts)
    _print_table("known from", site.source)
    return 0


def _print_table(title: str, values: Mapping[str, Any]) -> None:
    if not values:
        return
    print(f"{title}:")
    rows = []
    for name, value in values.items():
        lines = value if isinstance(value, list) else [value]
        rows += [[name if i == 0 else "", line] for i, line in enumerate(lines)]
    show_table(rows, indent="  ")


def _new(name: str) -> int:
    """Write a profile of the user's own: a copy of the one that is shipped, or an empty one."""
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise CliError("USAGE", "a profile needs a name of letters, digits, - and _", fix="hpc site new NAME")
    config = user_config_dir(os.environ)
    path = sites.user_folder(config) / f"{name}.toml"
    if path.exists():
        raise CliError("CONFIG", f"{path} is there already", fix=f"hpc site show {name}")
    shipped = sites.file_of(config, name)
    if shipped is not None:
        text = shipped.read_text()
    else:
        from hpc.launchers.registry import find_place

        text = NEW.format(name=name, scheduler=find_place().source.name, host=os.uname().nodename)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)
    return 0
