"""What job scripts of all schedulers have in common: the folder, the modules to load, and the user's lines of --setup.
The first of them that fails ends the job and is named.

Modules are loaded once, by the job script: the nodes' processes inherit what that sets. A load on each node would have
a thousand nodes read the same files of the shared file system.

A trap, not `set -e`: files that such a line reads (`module`, conda's activation, /etc/profile) are not written for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

#: The line in the job's output by which a follower knows that a line of --setup has failed.
FAILED = "hpc: --setup failed"
#: The same for a module, with the module command's own words.
MODULE_FAILED = "hpc: --module failed"
#: The same for the folder in which the job was submitted.
FOLDER_FAILED = "hpc: the folder of the job cannot be entered"
#: Where Lmod and Environment Modules have what defines `module`, for shells that are no login shells.
MODULE_FILES = (
    "$LMOD_PKG/init/bash", "$MODULESHOME/init/bash", "/etc/profile.d/z00_lmod.sh", "/etc/profile.d/lmod.sh",
    "/etc/profile.d/modules.sh", "/usr/share/lmod/lmod/init/bash", "/usr/share/modules/init/bash",
    "/usr/share/Modules/init/bash", "/opt/cray/pe/lmod/lmod/init/bash",
)  # fmt: skip

_TRAPS = (
    "# A line of --setup that fails ends the job and is named; what fails within a file that it reads does not count.",
    "trap 'hpc_code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || {"
    f""" echo "{FAILED} with exit code $hpc_code: $(sed -n "$LINENO"p "$0")" >&2; trap - EXIT; exit $hpc_code; """
    "}' ERR",
    f"""trap 'echo "{FAILED}: it ended with exit code $?" >&2' EXIT""",
)


_MODULE = r"""hpc_module() {
    local said code
    said=$(mktemp) || exit
    module "$@" 2>"$said"
    code=$?
    cat "$said" >&2
    # The oldest of them says ERROR and ends with 0.
    if [ $code != 0 ] || grep -q ':ERROR:' "$said"; then
        trap - ERR EXIT
        echo "FAILED: module $*: $(grep -v '^[[:space:]]*$' "$said" | tr -s '[:space:]' ' ')" >&2
        rm -f "$said"
        exit 1
    fi
    rm -f "$said"
}""".replace("FAILED", MODULE_FAILED)


def module_lines(names: Sequence[str], *, purge: bool = False) -> list[str]:
    """The lines, for bash, that load modules by their names, in that order; purge: after all others were unloaded.

    Where there is no `module` in this shell, it is looked for; a load that fails ends the script with its own words.
    """
    if not names and not purge:
        return []
    files = " ".join(f'"{file}"' for file in MODULE_FILES)
    found = [
        "if ! type module >/dev/null 2>&1; then",
        f'    for hpc_file in {files}; do [ ! -r "$hpc_file" ] || {{ . "$hpc_file"; break; }}; done',
        "fi",
        f"type module >/dev/null 2>&1 || {{ echo '{MODULE_FAILED}: there is no module command here' >&2; exit 1; }}",
        *_MODULE.splitlines(),
    ]
    return [*found, *(["hpc_module purge"] if purge else []), *(f"hpc_module load {shlex.quote(n)}" for n in names)]


def folder_lines(cwd: str) -> list[str]:
    """The lines, for bash, that go to the folder in which the job was submitted.

    A job whose folder is not there must not go on elsewhere: its script would be looked for there.
    """
    said = f"{FOLDER_FAILED}: {cwd} (it was removed, or the nodes do not share its file system)"
    return [f"cd {shlex.quote(cwd)} || {{ echo {shlex.quote(said)} >&2; exit 1; }}"]


def setup_lines(setup: Sequence[str]) -> list[str]:
    """The lines of a job script, for bash, that run the user's."""
    return [*_TRAPS, *setup, "trap - ERR EXIT"] if setup else []
