"""`hpc debug sim`: replays of the simulator that the protocol is tested with."""

from __future__ import annotations

from hpc.settings.errors import CliError

USAGE = "hpc debug sim [options]     (hpc debug sim -h lists them)"


def run(words: list[str]) -> int:
    """`hpc debug sim ...`; returns the exit code."""
    if words[1:2] != ["sim"]:
        raise CliError("USAGE", "hpc debug what? There is: sim", fix="hpc debug sim --seed 1 --story")
    from hpc.core.sim.__main__ import main

    return main(words[2:])
