"""A page that is open while the dashboard, the head or a node is killed: it says so, and goes on by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hpc
from runtime.browsers import browsing, come_in_by, needs_browser
from runtime.dashboards import dashboard_of
from runtime.running import Heads, kill9, local_nodes, on
from runtime.ssh_beds import free_port

pytest.importorskip("starlette")
pytestmark = [needs_browser, pytest.mark.usefixtures("no_leaks")]


@hpc.remote
def count(number: int) -> int:
    return number


@hpc.remote
def pid_above() -> int:
    """The process above its worker, without which its node is lost."""
    return os.getppid()


@pytest.fixture
def browser() -> Iterator[Any]:
    with browsing() as one:
        yield one


def waits(page: Any, what: str, words: str) -> None:
    """Until the page says this."""
    begun_s = time.monotonic()
    page.wait_for_selector(f"{what} >> text={words}", timeout=60_000)
    print(f"{words}: said after {time.monotonic() - begun_s:.1f} s")


def test_an_open_page_says_what_was_lost_and_goes_on(browser):
    with local_nodes(2) as nodes:
        address, port = nodes.local_dir(), free_port()
        node = hpc.get(pid_above.options(scheduling_strategy=on(2)).remote())

        def counted(name: str) -> None:
            hpc.get([count.options(name=name).remote(number) for number in range(5)])
            waits(page, "main[data-page=now]", name)

        with dashboard_of(address, f"--port={port}") as dashboard, come_in_by(browser, dashboard.link) as page:
            counted("before")
            kill9(node)
            begun_s = time.monotonic()
            while not page.locator("main >> text=1 dead").count():
                nodes.pump(0.02)
                assert time.monotonic() < begun_s + 60
            print(f"a lost node: said after {time.monotonic() - begun_s:.1f} s")
            Heads(nodes).kill()
            counted("after-the-head")
            dashboard.process.kill()
            waits(page, "header .state", "the dashboard does not answer")
            with dashboard_of(address, f"--port={port}") as other:
                waits(page, "header .state", "no cookie of this dashboard")
                beside = page.context.new_page()  # the same browser comes in by the new link
                beside.goto(other.link)
                beside.wait_for_selector("main[data-page=now]")
                waits(page, "header .state", "live")
                counted("after-all")
