"""Moments on the dashboard's pages: the day and the time of one clock, that of the machine with the browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import hpc.dashboard

UI = Path(hpc.dashboard.__file__).parent / "static" / "ui.js"
#: Half past midnight on the fourth of March, two hours ahead of UTC: there it is still the third.
PROGRAM = """
globalThis.window = globalThis;
const { when } = await import(process.argv[1]);
console.log([when(Date.UTC(2025, 2, 3, 22, 30)), when(0), when(Date.now()).length].join("|"));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_a_moment_of_another_day_has_the_day_of_its_own_clock():
    command = ["node", "--experimental-default-type=module", "--input-type=module", "-e", PROGRAM, str(UI)]
    env = {"PATH": os.environ["PATH"], "TZ": "Etc/GMT-2"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60.0, env=env, check=False)
    assert ran.stdout.strip() == "03-04 00:30:00||8", ran.stderr
