"""What job scripts of all schedulers have in common: the user's lines of --setup. The first of them that fails ends the
job and is named.

A trap, not `set -e`: files that such a line reads (`module`, conda's activation, /etc/profile) are not written for it.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The line in the job's output by which a follower knows that a line of --setup has failed.
FAILED = "hpc: --setup failed"

_TRAPS = (
    "# A line of --setup that fails ends the job and is named; what fails within a file that it reads does not count.",
    "trap 'hpc_code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || {"
    f""" echo "{FAILED} with exit code $hpc_code: $(sed -n "$LINENO"p "$0")" >&2; trap - EXIT; exit $hpc_code; """
    "}' ERR",
    f"""trap 'echo "{FAILED}: it ended with exit code $?" >&2' EXIT""",
)


def setup_lines(setup: Sequence[str]) -> list[str]:
    """The lines of a job script, for bash, that run the user's."""
    return [*_TRAPS, *setup, "trap - ERR EXIT"] if setup else []
