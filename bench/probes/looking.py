"""What it costs a session that somebody looks at it: one line ``@bench {json}`` for each figure.

    python looking.py tasks SECONDS PAGES      tasks a second and CPU for each, with so many pages of a dashboard open
    python looking.py names TASKS NAMES TAGS   what very many names and tags do to the head and the dashboard
    python looking.py tab SECONDS              a tab of a browser: its weight, its first chart, its memory
    python looking.py flame SECONDS            a known split of CPU time over 8 workers, as a profile finds it
    python looking.py top SECONDS              what `hpc top` writes to a terminal, and how it leaves it

The environment says whether metrics are kept (HPC_METRICS).
"""

import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hpc
from hpc.core.node.reap import descendants
from hpc.core.process.current import need_client

BATCH = 1000
#: The pages that are open, the first of them where it is one.
OPEN = ("now", "tasks", "nodes", "timeline", "metrics")
FOLLOWER = """
import http.client, sys, threading
port, cookie, pages = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
def follow(page):
    connection = http.client.HTTPConnection("localhost", port, timeout=120)
    connection.request("GET", f"/api/feed/{page}", headers={"cookie": cookie})
    answer = connection.getresponse()
    while line := answer.fp.readline():
        if line.startswith(b"data: "):
            seen.release()
seen = threading.Semaphore(0)
for page in pages:
    threading.Thread(target=follow, args=(page,), daemon=True).start()
for page in pages:
    seen.acquire()
print("follows", flush=True)
threading.Event().wait()
"""


def say(**figures: Any) -> None:
    print("@bench " + json.dumps(figures), flush=True)


@hpc.remote
def noop() -> bytes:
    return b"ok"


def run_tasks() -> None:
    hpc.get([noop.remote() for _ in range(BATCH)])


# ---------------------------------------------------------------- processes


def cpu_s(pids: list[int]) -> float:
    """Seconds of CPU of these processes so far; one that has ended has none."""
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def head_pid() -> int:
    """The process of the session's head."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(os.getpid())}
    return next(pid for pid, name in names.items() if name == "hpc-head")


class Dashboard:
    """A dashboard of this session, and the cookie of a browser in it."""

    def __init__(self, process: subprocess.Popen[str], link: str) -> None:
        self.process, self.link = process, link
        self.port = int(re.findall(r":(\d+)/", link)[0])
        self.cookie = ""

    def enter(self) -> None:
        """Use the link up."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        connection.request("POST", "/api/enter", self.link.partition("#")[2], {"x-hpc": "1"})
        self.cookie = connection.getresponse().getheader("set-cookie", "").partition(";")[0]
        connection.close()

    def page(self, name: str) -> tuple[float, int, Any]:
        """How long a page takes, its bytes, and what it is."""
        connection, begun_s = http.client.HTTPConnection("localhost", self.port, timeout=120), time.monotonic()
        connection.request("GET", f"/api/page/{name}?limit=500", headers={"cookie": self.cookie})
        body = connection.getresponse().read()
        took_s = time.monotonic() - begun_s
        connection.close()
        return took_s, len(body), json.loads(body)


@contextmanager
def a_dashboard() -> Iterator[Dashboard]:
    command = [sys.executable, "-m", "hpc", "dashboard", f"--address={need_client().node_dir}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(5))
        yield Dashboard(process, re.findall(r"on this machine: +(\S+)", said)[0])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@contextmanager
def followed(dashboard: Dashboard, pages: tuple[str, ...]) -> Iterator[int]:
    """A process that follows these pages, as tabs of a browser do; its id."""
    command = [sys.executable, "-c", FOLLOWER, str(dashboard.port), dashboard.cookie, *pages]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "follows\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------- tasks


def measure(seconds: float, not_ours: set[int]) -> None:
    ours = [os.getpid(), *(pid for pid in descendants(os.getpid()) if pid not in not_ours)]
    head, lookers = head_pid(), list(not_ours)
    for _ in range(20):
        run_tasks()
    done, began = 0, time.monotonic()
    before, of_head, of_lookers = cpu_s(ours), cpu_s([head]), cpu_s(lookers)
    while time.monotonic() < began + seconds:
        run_tasks()
        done += BATCH
    took = time.monotonic() - began
    say(
        rate=done / took, cpu_us=1e6 * (cpu_s(ours) - before) / done, head_share=(cpu_s([head]) - of_head) / took,
        dashboard_share=(cpu_s(lookers) - of_lookers) / took,
    )  # fmt: skip


def tasks(seconds: float, pages: int) -> None:
    hpc.init(address="local", num_cpus=2)
    run_tasks()
    if pages:
        with a_dashboard() as dashboard:
            dashboard.enter()
            with followed(dashboard, OPEN[:pages]) as follower:
                measure(seconds, {dashboard.process.pid, follower})
    else:
        measure(seconds, set())
    hpc.shutdown()


# ---------------------------------------------------------------- names


def names(tasks: int, count: int, tags: int) -> None:
    from hpc.state import metrics
    from hpc.util.metrics import Counter

    hpc.init(address="local", num_cpus=2)
    run_tasks()
    with a_dashboard() as dashboard:
        dashboard.enter()
        with followed(dashboard, OPEN):
            head, each = head_pid(), max(1, tasks // count)
            for name in OPEN:
                dashboard.page(name)
            before = {pid: resident_mb(pid) for pid in (head, dashboard.process.pid)}
            user, step = Counter("user", tag_keys=("kind",)), max(1, BATCH // each)
            for first in range(0, count, step):
                named = [noop.options(name=f"name-{number}") for number in range(first, min(count, first + step))]
                hpc.get([one.remote() for one in named for _ in range(each)])
                for number in range(first * tags // count, (first + step) * tags // count):
                    user.inc(1, {"kind": f"tag-{number}"})
            time.sleep(5.0)  # what was counted last is told
            answers = {name: dashboard.page(name) for name in OPEN for _ in range(2)}
            grown = {pid: resident_mb(pid) - mb for pid, mb in before.items()}
            dropped, shown = metrics.latest().dropped, answers["metrics"][2]["data"]["dropped"]
            slowest = max(answers, key=lambda name: answers[name][0])
            say(
                tasks=each * count, names=count, tags=tags, head_mb=grown[head],
                dashboard_mb=grown[dashboard.process.pid], dropped=dropped, shown=shown, slowest=slowest,
                slowest_ms=1e3 * answers[slowest][0], largest_bytes=max(size for _, size, _ in answers.values()),
            )  # fmt: skip
    hpc.shutdown()


# ---------------------------------------------------------------- a tab


def tab(seconds: float) -> None:
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    hpc.init(address="local", num_cpus=2)
    run_tasks()
    with a_dashboard() as dashboard, sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=browser_path, args=options)
        page = browser.new_page()
        page.goto(dashboard.link)
        page.wait_for_selector("main[data-page=now] .plot canvas")
        chart_ms = page.evaluate("performance.now()")
        files = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/static/'))"
        weight, sent = (
            page.evaluate(f"{files}.map((one) => one.{size}).reduce((a, b) => a + b)")
            for size in ("decodedBodySize", "transferSize")
        )
        client = page.context.new_cdp_session(page)
        client.send("Performance.enable")

        def live_mb() -> float:
            client.send("HeapProfiler.collectGarbage")
            found = {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}
            return float(found["JSHeapUsedSize"]) / 1e6

        sizes, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            run_tasks()
            page.wait_for_timeout(1e3 * seconds / 20)
            sizes.append(live_mb())
        say(weight=weight, sent=sent, chart_ms=chart_ms, sizes_mb=sizes)
        browser.close()
    hpc.shutdown()


# ---------------------------------------------------------------- a flame graph


@hpc.remote(num_cpus=0.25)
def split(stop: str) -> float:
    """Spends 70 and 30 parts of its CPU time in two functions; returns turns for each second of CPU."""

    def spend(cpu_s: float) -> None:
        begun_s = time.thread_time()
        while time.thread_time() - begun_s < cpu_s:
            sum(range(100))

    def heavy() -> None:
        spend(0.0007)

    def light() -> None:
        spend(0.0003)

    turns = 0
    while not os.path.exists(stop):
        heavy()
        light()
        turns += 1
    return turns


def flame(seconds: float) -> None:
    from hpc.state import profiles

    hpc.init(address="local", num_cpus=2)
    stop = Path(need_client().node_dir) / "stop"
    refs = [split.remote(str(stop)) for _ in range(8)]
    while len([row for row in profiles.candidates() if row["leased_by"]]) < 8:
        time.sleep(0.05)
    workers = [row["worker_id"] for row in profiles.candidates() if row["leased_by"]]
    found = profiles.take(workers, seconds, "split")
    spent = {
        name: sum(cpu for stack, (_, cpu) in found.stacks.items() if any(re.search(rf"\b{name} \(", c) for c in stack))
        for name in ("heavy", "light")
    }
    whole = sum(spent.values())
    stop.touch()
    hpc.get(refs)
    say(
        processes=len(found.processes), heavy=spent["heavy"] / whole, light=spent["light"] / whole, cpu_s=whole,
        samples=found.samples, overhead=found.sampler_cpu_s / (found.passed_s * len(found.processes)),
    )  # fmt: skip
    hpc.shutdown()


# ---------------------------------------------------------------- a terminal


def top(seconds: float) -> None:
    hpc.init(address="local", num_cpus=2)
    run_tasks()
    for how in (signal.SIGINT, signal.SIGTERM):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "hpc", "top", f"--address={need_client().node_dir}"]
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        text, begun_s, sizes = b"", time.monotonic(), [0, 0]
        while process.poll() is None:
            if select.select([ours], [], [], 0.05)[0]:
                text += os.read(ours, 65536)
            run_tasks()
            at_s = time.monotonic() - begun_s
            if at_s < 3.0:  # the first screens
                sizes[0] = len(text)
            elif at_s > 3.0 + seconds:
                sizes[1] = sizes[1] or len(text)
                process.send_signal(how)
                process.wait(timeout=30)
        while select.select([ours], [], [], 0.2)[0]:
            text += os.read(ours, 65536)
        os.close(ours)
        os.close(theirs)
        is_clean = text.rstrip().endswith(b"\x1b[?1049l") and b"\x1b[?25h" in text
        say(how=how.name, bytes_s=(sizes[1] - sizes[0]) / seconds, is_clean=is_clean, code=process.returncode)
    hpc.shutdown()


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    {"tasks": tasks, "names": names, "tab": tab, "flame": flame, "top": top}[what](
        *(int(one) if what == "names" or at else float(one) for at, one in enumerate(given))
    )
