"""`make bench`: microbenchmarks beside the peers, in alternating rounds on the same machine.

    python -m bench [--quick] [--rounds N] [--seconds S] [--only NAME ...] [--no-peers] [--no-save]

Peers get environments of their own below .bench/; one that cannot be installed is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import report

ROOT = Path(__file__).resolve().parents[1]
CHILD = ROOT / "bench" / "child.py"
ROUND_TIMEOUT_S = 300

Results = dict[str, dict[str, list[float]]]


def peer_python(name: str, package: str) -> tuple[str, str]:
    """The interpreter of a peer's environment, made where missing; or why there is none."""
    home = ROOT / ".bench" / name
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if subprocess.run([str(python), "-c", f"import {name}, numpy"], capture_output=True).returncode:
        args = shlex.split(os.environ.get("PIP_ARGS", ""))
        command = [str(python), "-m", "pip", "install", "-q", *args, package, "numpy"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            return "", (result.stderr.strip().splitlines() or ["pip failed"])[-1]
    return str(python), ""


def version_of(python: str, name: str) -> str:
    """The installed version of a package."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def one_round(python: str, module: str, seconds: float, only: Sequence[str]) -> dict[str, float]:
    """The figures of one fresh process; empty, with the reason printed, if it failed."""
    command = [python, str(CHILD), module, str(seconds), *only]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ROUND_TIMEOUT_S, cwd="/")
    except subprocess.TimeoutExpired:
        print(f"{module}: a round took longer than {ROUND_TIMEOUT_S} s")
        return {}
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            figures: dict[str, float] = json.loads(line[7:])
            return figures
    print(f"{module}: a round failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return {}


def add(results: Results, module: str, figures: dict[str, float]) -> None:
    """Collect the figures of a round."""
    for name, value in figures.items():
        results.setdefault(module, {}).setdefault(name, []).append(value)


def import_seconds() -> float:
    """`import hpc` in a fresh interpreter, without the interpreter's own start."""
    code = "import time; t = time.perf_counter(); import hpc; hpc.init; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    return float(done.stdout)


def local_ready_seconds() -> float:
    """hpc-launch's own clock: from the start of the command until four local nodes accept work."""
    script = "import os; print('READY', os.environ['HPC_READY_S'])"
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"hpc-bench-{os.getpid()}.py"
    path.write_text(script)
    try:
        launch = str(Path(sys.executable).with_name("hpc-launch"))
        command = [launch, "--scheduler", "local", "--nodes", "4", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    finally:
        path.unlink()
    return ready_in(done.stdout)


def ready_in(output: str) -> float:
    """The figure in a script's output. Raises RuntimeError with the output if there is none."""
    for line in output.splitlines():
        if line.startswith("READY "):
            return float(line.split()[1])
    raise RuntimeError(f"the nodes did not come up: {output[-500:]}")


def slurm_ready_seconds(rounds: int) -> tuple[list[float], str]:
    """hpc-launch inside allocations of a real Slurm of four nodes on this machine; or why that was not possible."""
    missing = [tool for tool in ("slurmctld", "munged", "ip") if shutil.which(tool) is None]
    if os.getuid() or missing:
        return [], "needs root" if os.getuid() else f"{', '.join(missing)} not installed"
    script = Path("/tmp") / f"hpc-bench-{os.getpid()}.py"
    script.write_text("import os; print('READY', os.environ['HPC_READY_S'])")
    launch = str(Path(sys.executable).with_name("hpc-launch"))
    one = f"salloc -N4 -Q bash -c '{launch} {script}'"
    command = [sys.executable, str(ROOT / "tests/schedulers/slurm_bed.py"), "--nodes", "4", "--", "bash", "-c"]
    try:
        done = subprocess.run(
            [*command, "; ".join([one] * rounds)], capture_output=True, text=True, timeout=240, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return [], "the test bed did not end within 240 s"
    finally:
        script.unlink()
    figures = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("READY ")]
    return figures, "" if figures else (done.stderr.strip().splitlines() or ["no output"])[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Microbenchmarks beside the peers.")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="per measurement and round")
    parser.add_argument("--only", nargs="*", default=[], help="names of measurements")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-save", action="store_true", help="leave docs/ as it is")
    given = parser.parse_args(argv)
    rounds = given.rounds or (2 if given.quick else 5)
    seconds = given.seconds or (0.5 if given.quick else 1.0)
    pythons = {"hpc": sys.executable}
    versions = {"hpc": version_of(sys.executable, "hpc"), "pyzmq": version_of(sys.executable, "pyzmq")}
    if not given.no_peers:
        python, why = peer_python("ray", "ray")
        if python:
            pythons["ray"] = python
            versions["Ray"] = version_of(python, "ray")
        else:
            print(f"Ray is not compared: {why}")
        pythons["futures"] = sys.executable
    results: Results = {"hpc": {}}
    for number in range(rounds):
        for module, python in pythons.items():
            start = time.monotonic()
            add(results, module, one_round(python, module, seconds, given.only))
            print(f"round {number + 1}/{rounds}: {module} {time.monotonic() - start:.1f} s", flush=True)
        if not given.only:
            add(results, "hpc", {"import": import_seconds(), "4 local nodes ready": local_ready_seconds()})
    if not given.only:
        figures, why = slurm_ready_seconds(rounds)
        if figures:
            results["hpc"]["4 Slurm nodes ready"] = figures
        else:
            print(f"Slurm is not measured: {why}")
    about = report.machine({**versions, "rounds": str(rounds), "seconds per measurement": str(seconds)})
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    print(report.text(results))
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    data = {"about": about, "results": results}
    (folder / time.strftime("%Y%m%d-%H%M%S.json")).write_text(json.dumps(data, indent=1))
    if not given.no_save and not given.only:
        report.save(results, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
