"""Each page of the dashboard by the keyboard alone, and what it looks like.

With HPC_TEST_SCREENSHOTS=1 the pages are kept as pictures in docs/screenshots.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
import hpc.data
import hpc.train
from hpc import serve, tune
from hpc.util.placement_group import placement_group
from hpc.util.state import list_runs
from runtime.browsers import browsing, come_in_by, needs_browser, pages_of
from runtime.dashboards import Dashboard, dashboard_of
from runtime.running import eventually, one_node
from runtime.test_train import PlainTrainer

pytest.importorskip("starlette")
pytestmark = needs_browser
SCREENS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
MOST_BYTES, MOST_COLOURS = 60_000, 128
CONTROLS = """window.controls = () => [...document.querySelectorAll(
  "a[href], button:not([disabled]), input:not([disabled]), select:not([disabled]), [tabindex='0']")]
  .filter((one) => one.getClientRects().length);
window.reached = new WeakSet();
window.arrive = () => {
  const here = document.activeElement, css = getComputedStyle(here), isNowhere = here === document.body;
  const isNew = !isNowhere && !reached.has(here);
  const isSeen = css.outlineStyle !== "none" && parseFloat(css.outlineWidth) > 0;
  reached.add(here);
  return [here.outerHTML.slice(0, 120), isNew, isNowhere || isSeen];
};
window.missed = () => controls().filter((one) => !reached.has(one)).map((one) => one.outerHTML.slice(0, 120));"""
HIDE = """() => { Object.defineProperty(document, "hidden", { value: true, configurable: true });
  document.dispatchEvent(new Event("visibilitychange")); }"""


@hpc.remote(max_retries=0)
def preprocess(number: int) -> bytes:
    time.sleep(0.004)
    if number == 7:
        for part in range(12):
            print(f"shard {number}, part {part:2d}: \x1b[32m{4096 - part} rows\x1b[0m")
        print("\x1b[33mshard 7 ends early\x1b[0m")
        raise OSError("shard 7 is truncated: 4,096 of 1,048,576 bytes")
    return bytes(200_000)


@hpc.remote
def train_step(*parts: bytes) -> int:
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        sum(range(1000))
    return len(parts)


def forward() -> int:
    return sum(number * number for number in range(6000))


def backward() -> int:
    return sum(forward() for _ in range(2)) + sum(range(4000))


@hpc.remote
def evaluate(gate: str) -> None:
    while not os.path.exists(gate):
        for _ in range(50):
            forward()
            backward()


@hpc.remote(num_gpus=4)
def on_gpus() -> None:
    pass


@hpc.remote(num_cpus=0)
class Ledger:
    def note(self, loss: float) -> float:
        return loss


@hpc.remote(num_cpus=0)
class Frail:
    def end(self) -> None:
        os._exit(3)


def trained(config: dict[str, Any]) -> None:
    for step in range(40):
        time.sleep(0.01)
        hpc.train.report({"loss": 2.3 / (1 + 0.2 * step), "accuracy": 1 - 0.9 / (1 + 0.1 * step)})


def tried(config: dict[str, Any]) -> None:
    for step in range(12):
        tune.report({"loss": abs(config["lr"] - 0.1) + 2 / (step + 1)})


def halved(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": batch["id"] // 2}


@serve.deployment(ray_actor_options={"num_cpus": 0}, num_replicas=2, graceful_shutdown_wait_loop_s=0)
class Digits:
    def __init__(self, version: str) -> None:
        self.version = version

    async def __call__(self, number: int) -> str:
        await asyncio.sleep(0.002 * (number % 5))
        return self.version


def use_service() -> None:
    """Two versions of an application, of which one is a canary."""
    serve.start(proxy_location="Disabled")
    handle = serve.run(Digits.bind("v1"), name="digits", route_prefix="/digits")
    serve.run(Digits.options(num_replicas=1).bind("v2"), name="digits-next", route_prefix=None)
    serve.split("digits", {"digits": 0.9, "digits-next": 0.1}, sticky="header:x-user", max_error_rate=0.05)

    def ask() -> bool:
        for response in [handle.remote(number) for number in range(40)]:
            response.result()
        found = [row for row in list_runs([("kind", "=", "serve")]) if row.name == "digits"]
        return bool(found) and found[0].numbers.get("requests_per_second", 0) > 0

    eventually(ask)


def use_libraries(folder: Path) -> None:
    """A service, a training, a search and a dataset."""
    use_service()
    run = hpc.train.RunConfig(name="digits", storage_path=folder, callbacks=[])
    PlainTrainer(trained, train_loop_config={}, run_config=run).fit()
    space = {"lr": tune.grid_search([0.01, 0.03, 0.1, 0.3])}
    tune.run(tried, name="learning-rate", config=space, metric="loss", mode="min", storage_path=str(folder), verbose=0)
    hpc.data.range(40_000, override_num_blocks=8).map_batches(halved).random_shuffle().materialize()


class Shown:
    """A session that has something to show, and the ids of some of it."""

    def __init__(self, gate: str) -> None:
        use_libraries(Path(gate).parent)
        shards = [preprocess.remote(number) for number in range(24)]
        good = [ref for number, ref in enumerate(shards) if number != 7]
        steps = [train_step.remote(*good[at : at + 4]) for at in range(0, 20, 2)]
        self.ledger, frail = Ledger.options(name="ledger").remote(), Frail.remote()
        hpc.get([self.ledger.note.remote(1 / (1 + hpc.get(step))) for step in steps])
        hpc.wait([shards[7], frail.end.remote()], num_returns=2)
        self.kept = [good, on_gpus.remote(), hpc.put(bytes(3_000_000)), evaluate.remote(gate), frail]
        self.kept.append(placement_group([{"CPU": 1}, {"CPU": 4}], name="wide"))
        self.failed = shards[7].hex()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    gate = tmp_path_factory.mktemp("gate") / "open"
    with one_node():
        yield Shown(str(gate))
        gate.touch()


@pytest.fixture(scope="module")
def dashboard(shown: Shown) -> Iterator[Dashboard]:
    from hpc.state.overview import own_directory

    with dashboard_of(own_directory()) as found:
        yield found


@pytest.fixture(scope="module")
def page(dashboard: Dashboard) -> Iterator[Any]:
    with browsing() as browser, come_in_by(browser, dashboard.link) as one:
        yield one


def test_each_page_can_be_walked_by_keys_alone(page, shown):
    """Tab comes to each control, and on; the one that it is at can be seen."""
    for one in pages_of(page):
        name = one["name"]
        page.evaluate("(hash) => { location.hash = hash; }", f"#/{name}?limit=10")
        page.wait_for_selector(f"main[data-page={name}]")
        page.evaluate(HIDE)  # nothing moves meanwhile
        page.evaluate(CONTROLS)
        there = page.evaluate("controls().length")
        assert there > len(pages_of(page)), name
        for _ in range(2 * there + 5):
            page.keyboard.press("Tab")
            said, is_new, is_seen = page.evaluate("arrive()")
            assert is_seen, f"{name}: nobody sees that the focus is at {said}"
            if not is_new and not page.evaluate("missed()"):
                break
        assert page.evaluate("missed()") == [], name
        page.evaluate(HIDE.replace("true", "false", 1))
    page.seen.check(page)


def test_shortcuts_work_on_each_page(page):
    page.keyboard.press("1")
    for one in pages_of(page):
        page.keyboard.press("Escape")
        page.keyboard.press(one["key"])
        page.wait_for_selector(f"main[data-page={one['name']}]")
        dark = page.evaluate("document.documentElement.dataset.theme")
        page.keyboard.press("t")
        page.wait_for_function("(before) => document.documentElement.dataset.theme !== before", arg=dark)
        page.keyboard.press("t")
        page.keyboard.press("?")
        page.wait_for_selector("[role=dialog]")
        page.keyboard.press("Escape")
        page.wait_for_selector("[role=dialog]", state="detached")
        if page.locator(".filter").count():
            page.keyboard.press("/")
            assert page.evaluate("document.activeElement.classList.contains('filter')")
            page.keyboard.type("1")  # a text, and no page
            assert page.get_attribute("nav a.on", "href") == f"#/{one['name']}"
            page.keyboard.press("Backspace")
            page.keyboard.press("Escape")
            assert page.evaluate("document.activeElement === document.body")
    page.seen.check(page)


def profiled(page: Any) -> None:
    page.click("button.begin")
    page.wait_for_selector(".flame button:nth-child(3)", timeout=60_000)
    page.wait_for_selector("button.begin:has-text('begin')", timeout=60_000)


def drawn(page: Any) -> None:
    """Charts have some points by now."""
    page.wait_for_selector(".plot canvas", timeout=60_000)
    if os.environ.get("HPC_TEST_SCREENSHOTS"):
        page.wait_for_timeout(15_000)


def opened(page: Any) -> None:
    """The first row, with all that is known of it."""
    page.wait_for_selector("tr.pick")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('id=')")
    page.wait_for_selector("section.panel:nth-of-type(2)")


#: What is chosen on a page for its picture: parameters of its address, and what is done there.
CHOSEN: dict[str, tuple[str, Callable[[Any], None] | None]] = {
    "now": ("", drawn),
    "nodes": ("id=1", None),
    "tasks": ("id={failed}", None),
    "timeline": ("span=0", None),
    "logs": ("task={failed}&suffix=out", None),
    "profile": ("seconds=2", profiled),
    "train": ("", opened),
    "tune": ("", opened),
    "data": ("", opened),
    "serve": ("sort=name", opened),
    "metrics": ("id=hpc_node_cpu_ratio", drawn),
}


def test_each_page_has_something_to_show(page, shown):
    for one in pages_of(page):
        name = one["name"]
        params, act = CHOSEN.get(name, ("", None))
        page.evaluate("(hash) => { location.hash = hash; }", f"#/{name}?{params.format(failed=shown.failed)}")
        page.wait_for_selector(f"main[data-page={name}]")
        if act is not None:
            act(page)
        eventually(lambda: "Asking" not in page.inner_text("main"))
        assert len(page.inner_text("main")) > 40, name
        if os.environ.get("HPC_TEST_SCREENSHOTS"):
            page.evaluate("document.activeElement.blur()")
            keep(page.screenshot(), SCREENS / f"{name}.png")
    page.seen.check(page)


def keep(picture: bytes, path: Path) -> None:
    """Write a picture with its most frequent colours, as it is small then."""
    image = pytest.importorskip("PIL.Image")
    SCREENS.mkdir(exist_ok=True)
    found = image.open(io.BytesIO(picture)).convert("RGB")
    colours = sorted(found.getcolors(1 << 24), reverse=True)[:MOST_COLOURS]
    palette = image.new("P", (1, 1))
    palette.putpalette([part for _, colour in colours for part in colour])
    found.quantize(palette=palette, dither=image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, f"{path.name} has {path.stat().st_size} bytes"


@pytest.mark.skipif(not os.environ.get("HPC_TEST_SCREENSHOTS"), reason="HPC_TEST_SCREENSHOTS=1 makes them")
def test_the_first_page_by_night(page):
    page.keyboard.press("1")
    page.keyboard.press("t")
    page.wait_for_selector("main[data-page=now] .plot canvas")
    keep(page.screenshot(), SCREENS / "now-dark.png")
    page.keyboard.press("t")


def test_a_tab_that_stays_open_keeps_no_more_and_more_memory(page):
    """Rounds through all pages, each with some events: what is live after a collection of garbage does not grow on."""
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable")
    pages = pages_of(page)

    def live_bytes() -> float:
        for one in pages:
            page.keyboard.press(one["key"])
            page.wait_for_selector(f"main[data-page={one['name']}]")
        page.keyboard.press("1")
        page.wait_for_selector("main[data-page=now] .plot canvas")
        client.send("HeapProfiler.collectGarbage")
        found = {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}
        return found["JSHeapUsedSize"]

    page.keyboard.press("Escape")
    sizes = [live_bytes() for _ in range(7)]
    print("live after each round: " + ", ".join(f"{size / 1e6:.2f} MB" for size in sizes))
    assert min(sizes[-3:]) < min(sizes[1:4]) * 1.1 + 200_000 and max(sizes) < 40e6
