"""`hpc dashboard` of a session that runs: who comes in by which door, what the pages say, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import hpc
from hpc.util import state
from runtime.dashboards import Dashboard, dashboard_of
from runtime.hosting import hpc_command, started
from runtime.running import eventually, one_node

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Dashboard, str]]:
    """A session of one node with something to see, its dashboard, and a cookie."""
    with one_node(), dashboard_of(node_dir(), "--root=/node/h/8000") as dashboard:
        status, cookie = dashboard.enter()
        assert status == 200 and cookie
        dashboard.token = dashboard.next_link().partition("#")[2]
        yield dashboard, cookie


def node_dir() -> str:
    from hpc.state.overview import own_directory

    return own_directory()


@hpc.remote
def square(number: int) -> int:
    if number < 0:
        raise ValueError("<b>below zero</b>")
    return number * number


@hpc.remote(num_gpus=1)
def with_gpu() -> None:
    pass


@hpc.remote(num_cpus=0)
class Keeper:
    def keep(self) -> int:
        return 1


def test_the_line_that_is_printed_leads_to_it(watched):
    dashboard, _ = watched
    assert f":{dashboard.socket} " in dashboard.said[1] and dashboard.said[1].strip().startswith(
        "from your own machine:  ssh -N -L 8265"
    )
    assert stat.S_IMODE(os.stat(dashboard.socket).st_mode) == 0o600
    assert dashboard.ask("", by_socket=True)[0] == 200


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_cannot_use_the_socket(watched):
    dashboard, _ = watched
    code = "import os, socket, sys; os.setuid(65534); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, dashboard.socket], capture_output=True, text=True, timeout=30)
    assert done.returncode and "PermissionError" in done.stderr


def test_without_a_cookie_nothing_is_told_on_either_door(watched):
    dashboard, cookie = watched
    for by_socket in (False, True):
        assert dashboard.ask("api/page/now", by_socket=by_socket)[0] == 401
        assert dashboard.ask("api/feed/now", by_socket=by_socket, cookie="hpc_dashboard=guess")[0] == 401
        assert dashboard.ask("api/pages", by_socket=by_socket, cookie=cookie)[0] == 200


def test_a_link_lets_one_browser_in(watched):
    dashboard, _ = watched
    used, token = dashboard.link.partition("#")[2], dashboard.token
    assert dashboard.enter(used)[0] == 403 and dashboard.enter("none")[0] == 403
    status, headers, _ = dashboard.ask("api/enter", "POST", token, x_hpc="1")
    assert status == 200 and "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    dashboard.token = dashboard.next_link().partition("#")[2]
    assert dashboard.enter(token)[0] == 403 and dashboard.token not in (used, token)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"])
def test_foreign_names_and_pages_are_refused(watched, method):
    dashboard, cookie = watched
    assert dashboard.ask("api/pages", method, cookie=cookie, host="evil.example", x_hpc="1")[0] == 421
    assert dashboard.ask("api/pages", method, cookie=cookie, origin="http://evil.example", x_hpc="1")[0] == 403


def test_every_answer_has_the_headers_that_keep_foreign_code_out(watched):
    dashboard, cookie = watched
    for path in ("", "static/app.js", "api/pages", "api/page/no-such-page", "static/../app.py"):
        status, headers, _ = dashboard.ask(path, cookie=cookie)
        assert status in (200, 404) and "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["static/../app.py", "static/%2e%2e/app.py", "app.py", "static/vendor/../../gate.py"])
def test_no_other_file_is_served(watched, path):
    assert watched[0].ask(path)[0] == 404


def test_it_works_below_a_path_that_a_proxy_leaves_in_place(watched):
    dashboard, cookie = watched
    assert b"app.js" in dashboard.ask("node/h/8000/")[2]
    assert dashboard.ask("node/h/8000/api/pages", cookie=cookie)[0] == 200
    assert dashboard.ask("node/h/8000/api/pages")[0] == 401


def test_a_file_is_not_sent_again(watched):
    dashboard, _ = watched
    _, headers, body = dashboard.ask("static/app.js")
    again, _, nothing = dashboard.ask("static/app.js", if_none_match=headers["etag"])
    assert body and again == 304 and not nothing


def test_the_pages_say_what_the_commands_say(watched):
    dashboard, cookie = watched
    assert hpc.get([square.remote(number) for number in range(5)]) == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="below zero"):
        hpc.get(square.remote(-1))
    waits, keeper, value = with_gpu.remote(), Keeper.options(name="keeper").remote(), hpc.put(bytes(1000))
    hpc.get(keeper.keep.remote())

    def of(path: str) -> Any:
        return dashboard.page(path, cookie)["data"]

    def counted() -> bool:
        by_name = {row["name"]: row for row in of("page/now")["tasks"]}
        return "square" in by_name and (by_name["square"]["finished"], by_name["square"]["failed"]) == (5, 1)

    eventually(counted)
    now = of("page/now")
    assert now["nodes"] == {"alive": 1, "dead": 0, "suspect": 0} and now["course"]["times"]
    assert now["spent"]["cpu_s"] >= now["spent"]["cpu_given_s"] >= 0
    assert any("with_gpu" in row["names"] and "no node" in row["why"] for row in now["waiting"])
    assert [row["node_id"] for row in of("page/nodes")["rows"]] == ["1"] and of("page/nodes?heat=store")[
        "heat"
    ] == "store"
    tasks = of("page/tasks?q=square%20state%3Dfailed")
    assert tasks["matching"] == 1 and tasks["rows"][0]["name"] == "square"
    ident = tasks["rows"][0]["task_id"]
    assert [one["state"] for one in of(f"page/tasks?id={ident}")["ones"]] == ["FAILED"]
    actors = {row["actor_id"]: row["state"] for row in of("page/actors")["rows"]}
    assert actors == {row.actor_id: row.state for row in state.list_actors()}
    assert value.hex() in {row["object_id"] for row in of(f"page/objects?q={value.hex()}")["rows"]}
    assert {row["worker_id"] for row in state.list_workers()} <= {
        row["worker_id"] for row in of("page/workers")["rows"]
    }
    assert of("page/groups")["total"] == 0
    told = of("page/events")
    assert {"NODE_JOINED", "DRIVER_JOINED"} <= set(told["kinds"]) and told["missing"] == 0
    assert sorted(row["number"] for row in told["rows"]) == [row.number for row in state.list_events()]
    one = dashboard.page("more/nodes/one?id=1", cookie)
    assert one["node"]["node_id"] == "1" and {"raylet.log"} <= {row["file"] for row in one["files"]}
    del waits


@hpc.remote
def chatter(lines: int) -> None:
    for number in range(lines):
        print(f"line {number} \x1b[31mred\x1b[0m")
    time.sleep(0.01)  # so long that its part of the log is noted


def test_logs_are_read_by_pieces_and_searched(watched):
    dashboard, cookie = watched
    ref = chatter.remote(5000)
    hpc.get(ref)

    def of(what: str) -> Any:
        return dashboard.page(f"more/logs/{what}", cookie)

    def written() -> bool:
        status, _, body = dashboard.ask(f"api/more/logs/read?task={ref.hex()}", cookie=cookie)
        return status == 200 and "line 4999 " in json.loads(body)["text"]

    eventually(written)
    piece = of(f"read?task={ref.hex()}")
    assert "hpc:name" not in piece["text"] and "\x1b[31mred" in piece["text"]
    whole, at = piece["text"], piece["at"]
    while at > piece["first"]:
        before = of(f"read?task={ref.hex()}&before={at}")
        assert before["end"] == at
        whole, at = before["text"] + whole, before["at"]
    lines = [line for line in whole.splitlines() if line.startswith("line ")]
    assert [int(line.split()[1]) for line in lines] == list(range(5000))
    found = of(f"search?task={ref.hex()}&text=LINE%20123")["found"]
    wanted = {123, *range(1230, 1240)}
    assert {int(one["text"].split()[1]) for one in found} == wanted
    around = of(f"read?task={ref.hex()}&at={found[0]['at']}")
    assert around["text"].startswith("line 1239 ")
    file = f"node={piece['node']}&file={piece['file']}"
    assert "line 4999 " in of(f"read?{file}")["text"] and of(f"search?{file}&text=no-such")["is_whole"]
    assert dashboard.page("page/logs?q=worker-", cookie)["data"]["matching"] >= 1


@pytest.mark.parametrize(
    "query", ["task=00", "node=1", "node=1&file=../../lock", "node=9&file=raylet.log", "", "worker=x"]
)
def test_a_log_that_is_not_there_is_said(watched, query):
    dashboard, cookie = watched
    status, _, body = dashboard.ask(f"api/more/logs/read?{query}", cookie=cookie)
    assert status == 404 and json.loads(body)["error"]


def test_the_timeline_has_what_ran(watched):
    dashboard, cookie = watched
    hpc.get([square.remote(number) for number in range(50)])

    def drawn() -> bool:
        found = dashboard.page("page/timeline?span=0", cookie)["data"]
        many = {one["name"]: one["tasks"] for one in found["totals"]}
        ours = sum(rect[4] for rect in found["rects"] if found["names"][rect[3]] == "square")
        return many.get("square", 0) >= 50 and ours == many["square"]

    eventually(drawn)


def test_a_profile_is_begun_by_post_alone(watched):
    dashboard, cookie = watched
    begin = "api/more/profile/begin?seconds=0.5"
    assert dashboard.ask(begin, cookie=cookie)[0] == 404 and dashboard.ask(begin, "POST", cookie=cookie)[0] == 403
    assert dashboard.ask("api/more/profile/result", "POST", cookie=cookie, x_hpc="1")[0] == 404
    status, _, body = dashboard.ask(begin, "POST", cookie=cookie, x_hpc="1")
    begun = json.loads(body)
    assert status == 200 and begun["workers"] and not begun["silent"]
    asked = f"workers={','.join(begun['workers'])}"

    def ended() -> Any:
        found = dashboard.page(f"more/profile/result?{asked}", cookie)
        return found["samples"] and not found["is_running"] and found

    found = eventually(ended)
    assert found["tree"]["name"] == "all" and set(found["processes"]) == set(begun["workers"])
    assert "shared" in dashboard.page(f"more/profile/speedscope?{asked}", cookie)


def test_metrics_have_their_newest_values_and_their_course(watched):
    dashboard, cookie = watched
    hpc.get([square.remote(number) for number in range(20)])

    def told() -> bool:
        rows = dashboard.page("page/metrics?q=hpc_tasks_finished_total", cookie)["data"]["rows"]
        return any("name=square" in row["labels"] and row["value"] >= 20 for row in rows)

    eventually(told)
    whole = dashboard.page("page/metrics?id=hpc_node_cpu_ratio&limit=500", cookie)["data"]
    assert whole["nodes"] == 1 and not whole["silent"] and "CPU" in whole["about"] and whole["age_s"] < 60
    assert {row["kind"] for row in whole["rows"]} == {"counter", "gauge", "histogram"}

    def drawn() -> bool:
        found = dashboard.page("more/metrics/course?name=hpc_node_cpu_ratio", cookie)
        return any(value is not None for value in found["points"].get("line0", []))

    eventually(drawn)
    assert dashboard.page("more/metrics/course?name=no_such", cookie)["lines"] == []


def test_a_feed_brings_the_newest_state_and_all_of_it(watched):
    dashboard, cookie = watched

    def events(count: int) -> list[Any]:
        import http.client

        connection = http.client.HTTPConnection("localhost", dashboard.port, timeout=60)
        connection.request("GET", "/api/feed/now", headers={"cookie": cookie})
        answer, found = connection.getresponse(), []
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        while len(found) < count:
            line = answer.fp.readline().decode()
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
        connection.close()
        return found

    first, then = events(2)
    assert then["session"]["session"] == hpc.get_runtime_context().get_job_id() and then["now_s"] > first["now_s"]
    (later,) = events(1)
    assert len(later["data"]["course"]["times"]) >= len(then["data"]["course"]["times"]) > 1
    assert abs(later["now_s"] - time.time()) < 60 and later["about"]["overview"]["took_s"] >= 0


def test_strangers_at_the_port_keep_nobody_out_of_the_socket(watched):
    """More than there is room for: those are closed, and those that say nothing after a while."""
    from hpc.dashboard.callers import MOST_CONNECTIONS

    dashboard, cookie = watched
    with ExitStack() as stack:
        strangers = []
        for _ in range(MOST_CONNECTIONS + 20):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", dashboard.port), timeout=30))
            one.setblocking(False)
            strangers.append(one)

        def closed() -> int:
            return sum(is_closed(one) for one in strangers)

        eventually(lambda: closed() >= 20)
        assert closed() == 20
        with pytest.raises(OSError):
            dashboard.ask("api/pages", cookie=cookie)
        assert dashboard.ask("api/pages", cookie=cookie, by_socket=True)[0] == 200
        eventually(lambda: closed() == len(strangers))
    eventually(lambda: dashboard.ask("api/pages", cookie=cookie)[0] == 200)


def is_closed(one: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing was said."""
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_the_dashboard_ends_with_its_session_and_says_so(no_leaks, tmp_path):
    with started() as facts, dashboard_of(facts["session"]) as dashboard:
        _, cookie = dashboard.enter()
        dashboard.page("page/now", cookie)
        assert hpc_command("stop", f"--session={facts['session']}", "--grace=2s").returncode == 0

        def ended() -> bool:
            dashboard.ask("api/page/now", cookie=cookie) if dashboard.process.poll() is None else None
            return dashboard.process.poll() is not None

        with_errors(lambda: eventually(ended))
        assert dashboard.process.wait(timeout=30) == 0
        assert "the session has ended" in (dashboard.process.stdout.read() if dashboard.process.stdout else "")
        assert not Path(dashboard.socket).exists()


def with_errors(act: Any) -> None:
    """Do something that may find the server gone."""
    while True:
        try:
            return act()
        except ConnectionError:
            continue


def test_a_job_or_a_session_that_is_not_there_is_an_error():
    done = hpc_command("dashboard", "--address=no-such-session")
    assert done.returncode != 0 and "NO-SESSION" in done.stderr
    done = hpc_command("dashboard", "1", "2")
    assert done.returncode == 2 and "one job" in done.stderr
