"""Environment modules: loaded in order, and a load that fails says so in the module command's own words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpc.launch.modules import load_modules
from hpc.launch.plan import make_plan
from hpc.launchers.jobscript import MODULE_FAILED, module_lines, setup_lines
from hpc.launchers.registry import SCHEDULERS
from hpc.settings.errors import CliError
from hpc.settings.options import load

REAL = "/etc/profile.d/modules.sh"

#: Stands for the module command where a machine has none: its words go to stderr, as those of the real ones.
STAND_IN = """\
module() {
    case "$*" in
        "load good"*) export LOADED="$LOADED ${2}" ;;
        purge) export LOADED="" ;;
        "load old") echo "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'old'" >&2 ;;
        *) echo "no such thing: $2" >&2; return 3 ;;
    esac
}
"""


def run(folder: Path, lines: list[str], before: str = STAND_IN) -> tuple[int, str, str]:
    script = folder / "job.sh"
    script.write_text("\n".join(["#!/bin/bash", before, *lines, "exec bash -c 'echo ran:$LOADED:$A'", ""]))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LMOD", "MODULE", "BASH"))}
    done = subprocess.run(["bash", script], cwd=folder, capture_output=True, text=True, timeout=20, env=env)
    said = [line for line in done.stderr.splitlines() if line.startswith(MODULE_FAILED)]
    return done.returncode, done.stdout.strip(), said[-1].removeprefix(MODULE_FAILED) if said else ""


def test_modules_are_loaded_in_their_order_and_ahead_of_setup(tmp_path: Path) -> None:
    lines = [*module_lines(["good/1", "good 2"]), *setup_lines(["export A=$LOADED"])]
    assert run(tmp_path, lines) == (0, "ran: good/1 good 2: good/1 good 2", "")


def test_purging_comes_first(tmp_path: Path) -> None:
    lines = ["export LOADED=before", *module_lines(["good"], purge=True)]
    assert run(tmp_path, lines)[1] == "ran: good:"
    assert module_lines([]) == []


@pytest.mark.parametrize(
    ("name", "said"), [("bad", "no such thing: bad"), ("old", "Unable to locate a modulefile for 'old'")]
)
@pytest.mark.parametrize("setup", [[], ["true"]])
def test_a_load_that_fails_ends_the_script_with_the_commands_own_words(
    tmp_path: Path, name: str, said: str, setup: list[str]
) -> None:
    code, out, why = run(tmp_path, [*module_lines(["good", name]), *setup_lines(setup)])
    assert (code, out) == (1, "") and why.startswith(f": module load {name}: ") and said in why


def test_where_there_is_no_module_command_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.launchers.jobscript.MODULE_FILES", ("/nowhere/init",))
    assert run(tmp_path, module_lines(["x"]), "") == (1, "", ": there is no module command here")


def test_those_of_the_site_profile_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sites = tmp_path / "config" / "hpc" / "sites"
    sites.mkdir(parents=True)
    (sites / "mine.toml").write_text('[submit]\nmodule = ["PrgEnv", "rocm"]\n')
    (tmp_path / "x.py").touch()
    argv = ["--site=mine", "--scheduler=slurm", "--module=python/3.11", "x.py"]
    settings = load(argv, {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": "/usr/bin"}, submits=True)
    assert settings["module"] == ["PrgEnv", "rocm", "python/3.11"]
    assert settings.origin("module") == "site profile mine, then --module"
    for scheduler in SCHEDULERS.values():
        text = make_plan(settings, scheduler, tmp_path / "1").text
        loads = [line.split()[-1] for line in text.splitlines() if line.startswith("hpc_module ")]
        assert loads == ["PrgEnv", "rocm", "python/3.11"]
        assert text.index("hpc_module load python") < text.rindex("exec")
        assert "--module" not in text.splitlines()[-1]  # the job does not load them twice


def test_without_a_job_script_this_process_takes_over_what_they_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "BASH_FUNC_module%%", "() { export A=a${2}; unset B; [ $2 != bad ] || { echo hm >&2; return 1; }; }"
    )
    monkeypatch.setenv("A", "")
    monkeypatch.setenv("B", "b")
    load_modules(["good"])
    assert os.environ["A"] == "agood" and "B" not in os.environ
    with pytest.raises(CliError, match="could not be loaded") as raised:
        load_modules(["bad"])
    assert "module load bad: hm" in raised.value.why


@pytest.mark.skipif(not Path(REAL).exists(), reason="Environment Modules are not installed")
def test_the_real_module_command(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "tool").write_text("#%Module1.0\nsetenv LOADED tool\nprepend-path PATH /tool/bin\n")
    lines = module_lines(["tool"])
    use = f"export MODULEPATH={files}"
    assert run(tmp_path, lines, use) == (0, "ran:tool:", "")
    code, out, why = run(tmp_path, module_lines(["tool", "tolo"]), use)
    assert (code, out) == (1, "") and "module load tolo" in why and "Unable to locate a modulefile for 'tolo'" in why
