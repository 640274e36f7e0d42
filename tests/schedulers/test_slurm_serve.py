"""A service over two short jobs of a real Slurm, behind one gateway."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from desk import Desk
from netbed import wait_for

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")
pytestmark = pytest.mark.slurm

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serve_jobs.py"


class Door(http.client.HTTPConnection):
    """The gateway's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(90)
        self.sock.connect(str(self._path))


def ask(path: Path, what: str = "/") -> tuple[int, str]:
    door = Door(path)
    door.request("GET", what)
    answer = door.getresponse()
    text = answer.read().decode()
    door.close()
    return answer.status, text


def test_a_service_outlives_its_job(desk: Desk) -> None:
    desk.script("serve_jobs.py", EXAMPLE.read_text())
    folder = desk.folder / "gw"
    submit = (
        f"{sys.executable} -m hpc launch --detach -N1 -c2 -t1 --drain=25s "
        f"serve_jobs.py --gateway {folder} --keys {folder}/keys"
    )
    gateway = desk.start(
        sys.executable, "-m", "hpc", "serve", "gateway", str(folder), "--next", submit, "--next-lead=45s",
        "--lead=15s", "--wait=40s",
    )  # fmt: skip
    given: list[tuple[int, str]] = []
    is_over = threading.Event()

    def client() -> None:
        while not is_over.is_set():
            given.append(ask(path))

    clients = [threading.Thread(target=client) for _ in range(4)]
    path = folder / f"gateway-{socket.gethostname()}.sock"
    try:
        wait_for("the gateway", path.exists, 60.0)
        ask(path)  # it waits until the first job serves
        for one in clients:
            one.start()
        wait_for("answers of two jobs", lambda: len({text for _, text in given}) > 1, 100.0)
        jobs = json.loads(ask(path, "/-/gateway")[1])["jobs"]
        first = given[0][1]
        wait_for("the first job's end", lambda: all(text != first for _, text in given[-50:]), 60.0)
    finally:
        is_over.set()
        for one in clients:
            if one.ident:
                one.join(60)
        gateway.send_signal(signal.SIGTERM)
        out, err = gateway.communicate(timeout=60)
        desk.hpc("cancel", "all")
    print(f"{len(given)} requests, failed={sum(status != 200 for status, _ in given)}")
    assert len(given) > 100 and {status for status, _ in given} == {200}
    assert len({text for _, text in given}) >= 2
    assert any(job["state"] == "serving" for job in jobs.values())
    assert gateway.returncode == 0, out + err
