"""What another user of the same machine, and a broken process of one's own, can do: nothing."""

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import hpc
from hpc.core.ids import Address
from hpc.core.wire import WIRE_VERSION, Register, encode_frame
from runtime.running import children, eventually, hpc_json, one_node

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


@pytest.fixture
def node_dir():
    with one_node():
        hpc.get(echo.remote(1))
        yield os.path.dirname(hpc.nodes()[0]["RayletSocketName"])


@hpc.remote
def echo(x):
    return x


def as_nobody(code: str) -> str:
    """What a program prints that runs as another user."""
    program = f"import os, socket\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n{code}"
    python = os.path.realpath(sys.executable)
    done = subprocess.run([python, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=30, cwd="/")
    return done.stdout.strip() + done.stderr.strip()


def below(pid: int) -> list[int]:
    """All processes below one."""
    found = children(pid)
    return found + [p for child in found for p in below(child)]


def test_the_directory_of_a_node_is_its_users_alone(node_dir):
    assert stat.S_IMODE(os.stat(node_dir).st_mode) == 0o700
    assert "secret" not in Path(node_dir, "session.json").read_text().lower()


@needs_root
@pytest.mark.parametrize("name", ["raylet.sock", "w1.sock"])
def test_another_user_cannot_connect_to_the_sockets(node_dir, name):
    code = f"s=socket.socket(socket.AF_UNIX)\ntry:\n s.connect({node_dir + '/' + name!r}); print('in')\n"
    assert "Permission denied" in as_nobody(code + "except OSError as e:\n print(e)")


@needs_root
def test_another_user_cannot_open_the_shared_memory(node_dir):
    raylet = next(
        p for p in below(int(hpc_json(node_dir)["pid"])) if "hpc-raylet" in Path(f"/proc/{p}/comm").read_text()
    )
    memory = [fd for fd in os.listdir(f"/proc/{raylet}/fd") if "hpc-arena" in os.readlink(f"/proc/{raylet}/fd/{fd}")]
    assert memory
    assert not any("hpc" in name for name in os.listdir("/dev/shm"))
    code = f"try:\n os.open('/proc/{raylet}/fd/{memory[0]}', os.O_RDWR); print('in')\nexcept OSError as e:\n print(e)"
    assert "Permission denied" in as_nobody(code)


@needs_root
def test_another_users_connection_to_the_ports_gets_nothing(node_dir):
    address = hpc.nodes()[0]
    host, port = address["NodeManagerAddress"], address["NodeManagerPort"]
    code = (
        f"s=socket.socket()\ns.settimeout(2)\ns.connect(({host!r},{port}))\n"
        "s.sendall(b'\\xff\\0\\0\\0\\0\\0\\0\\0\\x01\\x7f\\x03\\0NULL'.ljust(64, b'\\0'))\n"
        "data=b''\ntry:\n while True:\n  more=s.recv(4096)\n  if not more: break\n  data+=more\n"
        "except OSError: pass\nprint(b'READY' not in data, len(data) <= 64)"
    )
    assert as_nobody(code) == "True True"
    assert hpc.get(echo.remote(2), timeout=60) == 2


def test_no_secret_key_is_in_any_command_line_environment_or_file(node_dir):
    """Z85 keys have 40 characters; the public ones of the session are known, others must not be seen."""
    import re

    pattern = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
    texts = {}
    for pid in [os.getpid(), *below(int(hpc_json(node_dir)["pid"]))]:
        for what in ("cmdline", "environ"):
            texts[f"{pid}/{what}"] = Path(f"/proc/{pid}/{what}").read_bytes()
    for path in Path(node_dir).rglob("*"):
        if path.is_file():
            texts[str(path)] = path.read_bytes()
    for name, text in texts.items():
        for word in text.replace(b"\0", b" ").split():
            if pattern.fullmatch(word):
                pytest.fail(f"{name} has something like a key: {word!r}")


@pytest.mark.parametrize("registered", [False, True])
def test_garbage_on_a_socket_ends_that_connection_only(node_dir, registered):
    rng = random.Random(7)
    worker = next(path.name for path in Path(node_dir).glob("w*.sock"))
    for name in ["raylet.sock", worker]:
        for size in (1, 19, 20, 500, 70_000):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(f"{node_dir}/{name}")
                if registered and name == "raylet.sock":
                    me = Address(0, 0)
                    sock.sendall(encode_frame(me, me, [Register("driver", 0, os.getpid(), WIRE_VERSION)]))
                    sock.recv(4096)
                try:
                    sock.sendall(rng.randbytes(size))
                except OSError:
                    pass
        assert hpc.get(echo.remote(3), timeout=60) == 3


def test_a_frame_that_claims_to_be_huge_is_refused(node_dir):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(f"{node_dir}/raylet.sock")
        sock.sendall(b"\xff\xff\xff\xff" + bytes(16))
        assert sock.recv(10) == b""
    assert hpc.get(echo.remote(4), timeout=60) == 4


def test_the_arena_has_no_name(node_dir):
    assert not list(Path(node_dir).glob("*arena*"))
    eventually(lambda: not [n for n in os.listdir("/dev/shm") if "hpc" in n])
