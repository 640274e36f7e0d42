"""What the processes of a job find around them on a real Slurm: modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import SlurmDesk

pytestmark = pytest.mark.scheduler


@pytest.mark.skipif(not Path("/etc/profile.d/modules.sh").exists(), reason="Environment Modules are not installed")
def test_modules_reach_the_script_and_the_nodes_and_one_that_is_not_there_ends_the_job(desk: SlurmDesk) -> None:
    files = desk.folder / "files"
    files.mkdir()
    for name in ("tool", "more"):
        (files / name).write_text(f"#%Module1.0\nsetenv {name.upper()} {name}\nprepend-path ORDER {name}\n")
    desk.script("env.py", """
        import os
        import hpc
        hpc.init()
        @hpc.remote(scheduling_strategy="SPREAD", num_cpus=2)
        def seen():
            return os.environ["TOOL"], os.environ["ORDER"]
        print(os.environ["MORE"], set(hpc.get([seen.remote() for _ in range(2)])))
    """)  # fmt: skip
    env = {"MODULEPATH": str(files)}
    done = desk.launch("-N2", "-c2", "-t5", "--module=tool", "--module=more", "env.py", env=env)
    assert done.stdout == "more {('tool', 'more:tool')}\n", done.stderr
    inside = desk.salloc(1, "hpc-launch", "-Q", "--module=tool", "--module=more", "env.py", env=env)
    assert inside.stdout == done.stdout, inside.stderr
    for refused in (
        desk.launch("-N2", "-t5", "--module=tolo", "env.py", env=env),
        desk.salloc(1, "hpc-launch", "--module=tolo", "env.py", env=env),
    ):
        said = refused.stdout + refused.stderr
        assert "error[SETUP]" in said and "Unable to locate a modulefile for 'tolo'" in said, said
        assert "more {" not in refused.stdout and refused.returncode == 125
