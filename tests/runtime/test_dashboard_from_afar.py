"""The dashboard from another machine: through ssh to its socket, and behind a portal's proxy, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hpc
from runtime.browsers import browsing, come_in_by, needs_browser, pages_of
from runtime.dashboards import Dashboard, dashboard_of
from runtime.proxies import a_proxy
from runtime.running import one_node
from runtime.ssh_beds import an_sshd, free_port, needs_ssh

pytest.importorskip("starlette")
pytestmark = needs_browser
#: A name that the browser is told to look for on this machine, and a path there.
PORTAL, ROOT = "portal.example", "/node/n01/8000"


@hpc.remote
def count(number: int) -> int:
    return number


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Dashboard]:
    from hpc.state.overview import own_directory

    with one_node(), dashboard_of(own_directory(), f"--root={ROOT}", f"--host={PORTAL}") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing(f"--host-resolver-rules=MAP {PORTAL} 127.0.0.1") as one:
        yield one


@contextmanager
def by_ssh(dashboard: Dashboard, folder: Path) -> Iterator[str]:
    port = free_port()
    with an_sshd(folder) as ssh, ssh.forwarding(dashboard.said[1], port):
        yield f"http://localhost:{port}"


@contextmanager
def by_proxy(dashboard: Dashboard, folder: Path) -> Iterator[str]:
    with a_proxy(ROOT, dashboard.port, strips=False) as port:
        yield f"http://{PORTAL}:{port}{ROOT}"


@contextmanager
def by_proxy_that_strips(dashboard: Dashboard, folder: Path) -> Iterator[str]:
    with a_proxy(ROOT, dashboard.port, strips=True) as port:
        yield f"http://{PORTAL}:{port}{ROOT}"


@pytest.mark.parametrize("way", [pytest.param(by_ssh, marks=needs_ssh), by_proxy, by_proxy_that_strips])
def test_all_pages_open_and_follow_the_session(dashboard, browser, tmp_path, way):
    with way(dashboard, tmp_path) as base:
        token = dashboard.link.partition("#")[2]
        with come_in_by(browser, f"{base}/#{token}") as page:
            dashboard.link = dashboard.next_link()
            assert page.evaluate("document.cookie") == "" and page.url.startswith(f"{base}/")
            pages = pages_of(page)
            assert len(pages) >= 10
            for one in pages:
                page.keyboard.press(one["key"])
                page.wait_for_selector(f"main[data-page={one['name']}]")
                page.wait_for_selector("header .state >> text=live")
            page.keyboard.press("1")
            name = f"count-{way.__name__}"
            hpc.get([count.options(name=name).remote(number) for number in range(7)])
            page.wait_for_selector(f"main[data-page=now] tr:has-text('{name}')", timeout=60_000)
            page.seen.check(page)
