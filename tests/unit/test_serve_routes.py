"""Which application a path goes to, and what keeps a client at one of a split."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from hpc.serve.canary import Split
from hpc.serve.config import DeploymentConfig
from hpc.serve.control.machine import Machine
from hpc.serve.control.tables import routes_of
from hpc.serve.exceptions import RayServeException
from hpc.serve.http.routes import Routes, ingress_of, plain_path, sticky_key
from hpc.serve.messages import RouteRow, RouteTable, deployment_key
from hpc.serve.specs import AppSpec, DeploymentSpec


def routes(*prefixes: str) -> Routes:
    return Routes(RouteTable(1, [RouteRow(prefix, f"app{prefix}", "D") for prefix in prefixes]))


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/", None),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/ab", None),
        ("/a/b", "/a/b"),
        ("/a/bc", "/a"),
        ("/a/b/c/d", "/a/b"),
        ("", None),
        ("*", None),
        ("/a//b", "/a"),
        ("/A", None),
    ],
)
def test_the_longest_prefix_at_the_end_of_a_part(path: str, prefix: str | None) -> None:
    row = routes("/a", "/a/b").match(path)
    assert (row.prefix if row else None) == prefix


def test_a_path_of_thousands_of_parts_is_looked_up_in_no_time() -> None:
    found = routes("/", "/a", "/a/b")
    began = time.perf_counter()
    for path, prefix in (("/" * 16_000, "/"), ("/a/b" + "/" * 16_000, "/a/b"), ("/a" + "/b" * 8000, "/a/b")):
        for _ in range(100):
            assert found.match(path).prefix == prefix  # type: ignore[union-attr]
    assert time.perf_counter() - began < 1  # where each part was looked up, one path took 0.05 s


def test_the_root_takes_all_other_paths() -> None:
    found = routes("/", "/a")
    assert [found.match(path).prefix for path in ("/", "/x", "/ab", "/a/c", "//")] == ["/", "/", "/", "/a", "/"]  # type: ignore[union-attr]
    assert found.match("*") is None
    assert found.listing() == {"/": "app/", "/a": "app/a"}
    assert not routes()


def test_paths_are_compared_as_text() -> None:
    assert plain_path(b"/a%20b/%C3%BC") == "/a b/ü"
    assert plain_path(b"/a") == "/a"


def test_what_keeps_a_client_at_one_application() -> None:
    headers = [(b"x-user", b"eva"), (b"cookie", b"a=b; uid=7 ; uidx=8"), (b"cookie", b"z=1")]
    row = {
        sticky: RouteRow("/", "a", "D", sticky=sticky)
        for sticky in ("", "header:X-User", "cookie:uid", "cookie:z", "cookie:q", "session")
    }
    assert sticky_key(row[""], headers, "s") is None
    assert sticky_key(row["header:X-User"], headers, "") == b"eva"
    assert sticky_key(row["cookie:uid"], headers, "") == b"7"
    assert sticky_key(row["cookie:z"], headers, "") == b"1"
    assert sticky_key(row["cookie:q"], headers, "") is None
    assert sticky_key(row["session"], headers, "s1") == b"s1"
    assert sticky_key(row["session"], headers, "") is None


def test_a_canary_without_a_route_gets_requests_at_its_own_ingress() -> None:
    machine = Machine(lambda: "r")
    for app, route, ingress in (("old", "/", "Old"), ("new", None, "New")):
        spec = DeploymentSpec(ingress, b"", b"", DeploymentConfig(), "v")
        machine.deploy([AppSpec(app, route, ingress, [spec])], 0.0)
    machine.split("old", Split(weights={"old": 9, "new": 1}), 0.0)
    row = Routes(routes_of(1, machine.apps.table, machine.deployments, machine.splits, None)).match("/")
    assert row is not None and [name for name, _ in row.split] == ["old", "new"]
    assert (ingress_of(row, "old"), ingress_of(row, "new")) == ("Old", "New")


def test_a_file_deletes_what_an_earlier_file_has_deployed_and_nothing_else() -> None:
    machine = Machine(lambda: "r")

    def app(name: str, route: str, is_declared: bool = True) -> AppSpec:
        spec = DeploymentSpec("D", b"", b"", DeploymentConfig(), "v")
        return AppSpec(name, route, "D", [spec], source="declarative" if is_declared else "imperative")

    machine.deploy([app("one", "/one"), app("two", "/two")], 0.0, only=True)
    machine.deploy([app("own", "/own", False)], 0.0)
    with pytest.raises(RayServeException, match="own"):
        machine.deploy([app("three", "/own")], 0.0, only=True)
    machine.deploy([app("two", "/one")], 0.0, only=True)
    assert [name for name, one in machine.apps.table.items() if one.deleting] == ["one"]


def test_names_with_a_slash_have_keys_of_their_own() -> None:
    assert deployment_key("a/b", "c") != deployment_key("a", "b/c")


@pytest.mark.parametrize(("status", "failure", "errors"), [(200, 500, 1), (0, 408, 1), (0, 503, 1), (0, 404, 0)])
def test_a_stream_that_breaks_and_an_answer_that_is_late_count_against_a_canary(
    status: int, failure: int, errors: int
) -> None:
    pytest.importorskip("httptools", reason="needs pip install 'hpc[serve]'")
    from hpc.serve.http.accesslog import AccessLog
    from hpc.serve.http.head import read_head
    from hpc.serve.http.numbers import METHODS, Numbers
    from hpc.serve.http.proxy import Asked, Failure, Proxy

    def reply(code: int, headers: object, body: bytes) -> None:
        exchange.status = code

    head = read_head(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    exchange = SimpleNamespace(is_gone=False, status=status, head=head, abort=lambda: None, reply=reply)
    one = object.__new__(Proxy)
    one._outcomes, one._log, one._counts = {}, AccessLog(), Numbers("http", METHODS, 400)
    asked = Asked(head, None)
    asked.row, asked.app = RouteRow("/", "old", "D", split=[("old", 9.0), ("new", 1.0)]), "new"
    one._fail(exchange, asked, Failure(failure, "why"))  # type: ignore[arg-type]
    one._note(exchange, asked, "/")  # type: ignore[arg-type]
    told = one._outcomes["new"].take()
    assert told is not None and (told.requests, told.errors) == (1, errors)
