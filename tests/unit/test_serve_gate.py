"""Which requests come in by a door of a service: names, pages of other sites, keys, rates; and where the door is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")

from hpc.serve.http import door
from hpc.serve.http.gate import Bucket, Gate, KeyFileError, Keys, Names
from hpc.serve.http.head import Head, Refused, read_head

KEY = "0123456789abcdef"


def asked(*fields: bytes, method: bytes = b"GET", path: bytes = b"/", host: bytes = b"localhost:8000") -> Head:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: " + host, *fields]
    return read_head(b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def status(gate: Gate, head: Head, client: str = "c", now: float = 0.0) -> int:
    try:
        gate.admit(head, client, now)
    except Refused as refused:
        return refused.status
    return 200


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of a friend\n\n{KEY}\nanother-key-of-length\n")
    path.chmod(0o600)
    return path


def test_foreign_names_are_refused_and_addresses_and_own_names_are_not() -> None:
    gate = Gate(Names(["node1"]))
    for host in (
        b"localhost",
        b"LOCALHOST:1",
        b"127.0.0.1:8",
        b"[::1]:8",
        b"10.1.2.3",
        b"node1:80",
        b"a.localhost",
        b"",
    ):
        assert status(gate, asked(host=host)) == 200
    for host in (b"evil.example", b"localhost.evil.example", b"node1.evil.example", b"127.0.0.1.evil.example"):
        assert status(gate, asked(host=host)) == 421
    assert status(Gate(Names(["*"])), asked(host=b"evil.example")) == 200


def test_pages_of_other_sites_change_nothing() -> None:
    gate = Gate(Names(["front.example"]))
    evil, null, good = (b"Origin: " + one for one in (b"https://evil.example", b"null", b"https://front.example"))
    own = b"Origin: http://localhost:8000"
    for fields in ((), (own,), (good,), (b"Origin: http://localhost:3000",)):
        assert status(gate, asked(*fields, method=b"POST")) == 200
    for field in (evil, null):
        assert status(gate, asked(field, method=b"POST")) == 403
        assert status(gate, asked(field)) == 200
        assert status(gate, asked(field, b"Connection: Upgrade", b"Upgrade: websocket")) == 403


def test_a_page_of_an_address_is_another_site_unless_it_is_the_services_own() -> None:
    gate = Gate(Names(["10.0.0.7"]))
    for origin in (b"http://203.0.113.5", b"http://203.0.113.5:8000", b"http://[2001:db8::1]:80"):
        field = b"Origin: " + origin
        assert status(gate, asked(field, method=b"POST")) == 403
        assert status(gate, asked(field, b"Connection: Upgrade", b"Upgrade: websocket")) == 403
    for origin in (b"http://127.0.0.1:3000", b"http://[::1]:3000", b"http://10.0.0.7"):
        assert status(gate, asked(b"Origin: " + origin, method=b"POST")) == 200
    own = b"Origin: http://203.0.113.5:8000"
    assert status(gate, asked(own, method=b"POST", host=b"203.0.113.5:8000")) == 200


def test_where_keys_are_each_request_has_one(keys: Path) -> None:
    gate = Gate(Names([]), Keys(str(keys)))
    assert status(gate, asked()) == 401
    assert status(gate, asked(path=b"/-/healthz")) == 200
    assert status(gate, asked(path=b"/-/healthz/x")) == 401
    # A websocket of this path goes to the application of the whole site, which is not open.
    assert status(gate, asked(b"Connection: Upgrade", b"Upgrade: websocket", path=b"/-/healthz")) == 401
    for field in (f"Authorization: Bearer {KEY}", f"authorization: bearer  {KEY}", "X-API-Key: another-key-of-length"):
        assert status(gate, asked(field.encode())) == 200
    for field in (
        f"Authorization: Basic {KEY}",
        f"Authorization: Bearer {KEY[:-1]}",
        "X-API-Key: # of a friend",
        "X-API-Key:",
    ):
        assert status(gate, asked(field.encode())) == 401
    evil = b"Origin: https://evil.example"
    assert status(gate, asked(evil, f"X-API-Key: {KEY}".encode(), method=b"POST")) == 200


def test_keys_change_with_their_file(keys: Path) -> None:
    known = Keys(str(keys))
    assert known.knows(KEY.encode())
    keys.write_text("a-new-key-that-is-long\n")
    known.read()
    assert not known.knows(KEY.encode()) and known.knows(b"a-new-key-that-is-long")
    known.close()
    assert not known.knows(b"a-new-key-that-is-long")
    known.read()
    assert known.knows(b"a-new-key-that-is-long")


def test_a_file_of_keys_may_hold_any_bytes(keys: Path) -> None:
    known = Keys(str(keys))
    keys.write_bytes(b"\xff\xfe-no-text-but-long-enough\n" + KEY.encode() + b"\r\n")
    known.read()
    assert known.knows(KEY.encode()) and not known.knows(b"another-key-of-length")


def test_a_file_of_keys_that_others_read_is_refused(keys: Path) -> None:
    for mode in (0o640, 0o604, 0o666):
        keys.chmod(mode)
        with pytest.raises(KeyFileError, match="chmod 600"):
            Keys(str(keys))
    keys.chmod(0o600)
    for text in ("", "# none\n", "short\n", f"{KEY}\nshort\n"):
        keys.write_text(text)
        with pytest.raises(KeyFileError, match="openssl"):
            Keys(str(keys))
    with pytest.raises(KeyFileError, match="cannot be read"):
        Keys(str(keys) + ".not")


def test_so_many_requests_a_second_for_each_client() -> None:
    bucket = Bucket(2.0)
    assert [bucket.take("a", 0.0) for _ in range(5)] == [True] * 4 + [False]
    assert bucket.take("b", 0.0)
    assert [bucket.take("a", 1.0) for _ in range(3)] == [True, True, False]
    gate = Gate(Names([]), rate=1.0)
    assert [status(gate, asked(), "a", 9.0) for _ in range(3)] == [200, 200, 429]


def test_clients_of_a_bucket_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.serve.http.gate.MOST_CLIENTS", 10)
    bucket = Bucket(1.0)
    for number in range(100):
        assert bucket.take(number, 0.0)
    assert len(bucket._clients) == 10


# ---------------------------------------------------------------- doors


def test_a_socket_goes_to_a_directory_of_the_users_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = door.socket_path(str(tmp_path))
    assert path == str(tmp_path / "serve.sock")
    tmp_path.chmod(0o750)
    with pytest.raises(door.DoorError, match="chmod 700"):
        door.socket_path(str(tmp_path))
    tmp_path.chmod(0o700)


def test_only_a_socket_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "s"
    door.clear(str(path))
    for _ in range(2):
        door.bound(str(path)).close()
        mode = os.stat(path).st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    door.clear(str(path))
    assert not path.exists()
    path.write_text("mine")
    door.clear(str(path))
    assert path.exists()


def test_the_line_for_ssh_leads_to_the_socket() -> None:
    assert door.ssh_line("/tmp/h/serve.sock", "n1", "me") == "ssh -N -L 8000:/tmp/h/serve.sock me@n1"
    assert door.ssh_line("/tmp/a b", "n1", "me", "login", 9) == "ssh -N -J me@login -L 9:'/tmp/a b' me@n1"
    assert door.user_name()


@pytest.mark.parametrize(
    ("found", "own", "told"),
    [
        (["10.1.2.3"], "10.1.2.3", "n1"),
        (["127.0.1.1"], "10.1.2.3", "10.1.2.3"),
        ([], "10.1.2.3", "10.1.2.3"),
        (["::1", "fe80::1%eth0"], "10.1.2.3", "n1"),
        ([], "127.0.0.1", "n1"),
    ],
)
def test_a_door_tells_a_name_that_others_know(
    monkeypatch: pytest.MonkeyPatch, found: list[str], own: str, told: str
) -> None:
    def look_up(name: str, port: None, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if not found:
            raise OSError("no such name")
        return [(2, 1, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(door.socket, "gethostname", lambda: "n1")
    monkeypatch.setattr(door.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(door, "get_node_ip_address", lambda: own)
    assert door.reachable_name() == told
