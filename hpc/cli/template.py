"""`hpc template [SCHEDULER [NAME]]`: the job scripts that are shipped, to be copied and changed."""

from __future__ import annotations

import sys

from hpc import templates
from hpc.settings.errors import CliError

USAGE = """\
hpc template [SCHEDULER]           the scripts that there are
       hpc template SCHEDULER NAME        print one, to be copied: ... > job.sh"""


def run(words: list[str]) -> int:
    """List the scripts, or print one; returns the exit code."""
    given = words[1:]
    if len(given) > 2:
        raise CliError("USAGE", f"hpc template takes two words at most, not {given[2]!r}", fix="hpc template --help")
    schedulers = templates.schedulers()
    if given and given[0] not in schedulers:
        raise CliError("USAGE", f"no templates for {given[0]!r}", why=f"there are some for: {', '.join(schedulers)}")
    if len(given) < 2:
        for scheduler in given or schedulers:
            for file in templates.scripts(scheduler):
                print(f"hpc template {scheduler} {file.rpartition('.')[0]}")
        return 0
    scheduler, name = given
    found = [file for file in templates.scripts(scheduler) if name in (file, file.rpartition(".")[0])]
    if not found:
        names = ", ".join(file.rpartition(".")[0] for file in templates.scripts(scheduler))
        raise CliError("USAGE", f"no template {name!r} for {scheduler}", why=f"there are: {names}")
    sys.stdout.write(templates.read_script(scheduler, found[0]))
    return 0
