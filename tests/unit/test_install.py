"""How the commands of the Makefile install: by the versions that were tried, and how they go on without them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deps import install, renew

PROJECT = (install.ROOT / "pyproject.toml").read_text()


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Stands for pip: notes its environment and arguments, and fails where there are constraints, if told so."""
    calls = []

    def run(command, cwd, env=None):
        held = (env or {}).get("PIP_CONSTRAINT", "")
        calls.append((command[command.index("-q") + 1 :], held))
        return subprocess.CompletedProcess(command, 1 if held and run.fails else 0)

    run.fails = False
    run.calls = calls
    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install.sys, "prefix", str(tmp_path))
    for name in ("PIP_ARGS", "NEWEST", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    return run


def test_the_tried_versions_are_installed(pip, tmp_path):
    assert install.main(["test", "demo"]) == 0
    (arguments, held), *more = pip.calls
    assert arguments == ["-e", ".[test,demo]"] and not more
    assert held == (tmp_path / "constraints.txt").as_uri()
    assert (tmp_path / "constraints.txt").exists()


def test_where_they_do_not_install_the_newest_are_taken_and_it_is_said(pip, capsys):
    pip.fails = True
    assert install.main([]) == 0
    assert [held for _, held in pip.calls][1:] == [""]
    assert "do not install here" in capsys.readouterr().err


def test_newest_and_the_arguments_for_pip(pip, monkeypatch):
    monkeypatch.setenv("NEWEST", "1")
    monkeypatch.setenv("PIP_ARGS", "--find-links 'a b'")
    assert install.main(["test"]) == 0
    assert pip.calls == [(["--find-links", "a b", "-e", ".[test]"], "")]


def test_the_users_own_constraints_hold_too(monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "mine.txt")
    assert install.holding_to(Path("/a b/c.txt"))["PIP_CONSTRAINT"] == "mine.txt file:///a%20b/c.txt"


def test_packages_from_elsewhere_are_left_alone(tmp_path, monkeypatch):
    for where, name in (("module", "Torch_X"), ("venv/lib", "inside")):
        folder = tmp_path / where / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(tmp_path / where))
    there = install.from_elsewhere(str(tmp_path / "venv"))
    assert "torch-x" in there and "inside" not in there
    assert install.pins_that_hold(["# a remark", "torch-x==2.0 ; python_version < '3.11'", "inside==2.0"], there) == [
        "# a remark",
        "inside==2.0",
    ]


def test_each_dependency_of_the_two_commands_has_its_tried_version():
    pinned = {install.plain(line.partition("==")[0]) for line in install.PINS.read_text().splitlines()}
    tables = {"dependencies", "requires", *renew.EXTRAS}
    needed = set()
    for table, entries in re.findall(r"^([a-z]+) = \[(.*?)\]$", PROJECT, re.MULTILINE | re.DOTALL):
        if table in tables:
            needed |= {install.plain(one) for one in re.findall(r'"([A-Za-z0-9._-]+)[>=<]', entries)}
    assert {"pyzmq", "torch", "pytest", "setuptools", "tomli"} <= needed
    assert needed <= pinned


def test_no_line_of_the_tried_versions_names_a_place():
    for line in install.PINS.read_text().splitlines():
        assert line[0] == "#" or re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( ; [a-z_0-9.'<>=!() *A-Z]+)?", line), line
