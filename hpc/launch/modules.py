"""Environment modules where no job script loads them: in an allocation that is there, and on this machine.

A shell loads them and tells what its environment has become; this process, and with it all nodes, takes that over.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence

from hpc.launchers.jobscript import MODULE_FAILED, module_lines
from hpc.launchers.run import run_command
from hpc.settings.errors import CliError

TIMEOUT_S = 120.0
#: Variables of the shell's own.
_OF_THE_SHELL = ("_", "SHLVL", "PWD", "OLDPWD")


def load_modules(names: Sequence[str], *, purge: bool = False) -> None:
    """Load them into this process's environment; CliError with the module command's words where that fails."""
    lines = module_lines(names, purge=purge)
    if not lines:
        return
    with tempfile.NamedTemporaryFile(prefix="hpc-modules-") as found:
        script = "\n".join([*lines, f"env -0 >{shlex.quote(found.name)}"])
        answer = run_command(["bash", "-c", script], timeout_s=TIMEOUT_S)
        if not answer.ok:
            said = [line for line in answer.err.splitlines() if line.startswith(MODULE_FAILED)]
            why = said[-1].removeprefix("hpc: ") if said else answer.why()
            raise CliError("SETUP", "a module could not be loaded, and the script was not started", why=why)
        env = dict(item.partition("=")[::2] for item in found.read().decode(errors="surrogateescape").split("\0"))
    for name in [name for name in os.environ if name not in env and name not in _OF_THE_SHELL]:
        del os.environ[name]
    os.environ.update({n: value for n, value in env.items() if n and n not in _OF_THE_SHELL})
