"""The dashboard in a real browser: coming in, each page by its key, hostile texts, weight, and what it asks of whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpc
import hpc.data
import hpc.train
from hpc import serve, tune
from hpc.util.metrics import Counter
from hpc.util.placement_group import placement_group
from hpc.util.state import list_tasks
from runtime.browsers import WATCH, Seen, browsing, come_in_by, needs_browser, pages_of
from runtime.dashboards import Dashboard, dashboard_of
from runtime.hosting import hpc_command
from runtime.running import one_node
from runtime.test_train import PlainTrainer

pytest.importorskip("starlette")
HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'
pytestmark = needs_browser


@hpc.remote
def train_step(number: int) -> bytes:
    print(HOSTILE)
    time.sleep(0.002)
    if number % 20 == 7:
        raise ValueError(HOSTILE)
    return bytes(100_000 * (number % 3))


@hpc.remote(num_gpus=8)
def needs_gpus() -> None:
    pass


@hpc.remote(num_cpus=0)
class Ledger:
    def note(self) -> int:
        return 1


def trained(config: dict[str, Any]) -> None:
    for step in range(20):
        hpc.train.report({"loss": 1.0 / (step + 1), HOSTILE: step})


def tried(config: dict[str, Any]) -> None:
    for step in range(5):
        tune.report({"loss": config["x"] / (step + 1), HOSTILE: step})
    if config["x"] > 3:
        raise ValueError(HOSTILE)


@serve.deployment(ray_actor_options={"num_cpus": 0}, graceful_shutdown_wait_loop_s=0)
class Served:
    async def __call__(self) -> str:
        return HOSTILE


def use_libraries(folder: Path) -> None:
    """A service, a training, a search and a dataset, of which all has a hostile name."""
    serve.start(proxy_location="Disabled")
    serve.run(Served.bind(), name="next-<b>", route_prefix=None)
    handle = serve.run(Served.options(name=HOSTILE).bind(), name="serve-<b>", route_prefix="/x")
    serve.split("serve-<b>", {"serve-<b>": 3, "next-<b>": 1})
    assert handle.remote().result() == HOSTILE
    run = hpc.train.RunConfig(name="train-<b>", storage_path=folder, callbacks=[])
    PlainTrainer(trained, train_loop_config={}, run_config=run).fit()
    tune.run(
        tried, name="tune-<b>", config={"x": tune.grid_search([1, 2, 3, 4]), HOSTILE: 1}, metric="loss", mode="min",
        storage_path=str(folder), verbose=0, raise_on_failed_trial=False,
    )  # fmt: skip

    def slowly(batch: Any) -> Any:
        time.sleep(0.1)
        return batch

    slowly.__name__ = slowly.__qualname__ = HOSTILE
    hpc.data.range(8, override_num_blocks=4).map_batches(slowly).materialize()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: Any) -> Iterator[Dashboard]:
    """A session with tasks, failures, runs of libraries and hostile texts, and its dashboard."""
    from hpc.state.overview import own_directory

    with one_node(), dashboard_of(own_directory()) as found:
        use_libraries(tmp_path_factory.mktemp("runs"))
        refs = [train_step.options(max_retries=0).remote(number) for number in range(60)]
        Counter("lost", tag_keys=("kind",)).inc(1, {"kind": HOSTILE})
        group = placement_group([{"CPU": 1}], name=HOSTILE)
        refs += [train_step.options(name=HOSTILE).remote(0), needs_gpus.options(name=f"{HOSTILE} 2").remote()]
        ledger = Ledger.options(name=HOSTILE).remote()
        hpc.get([ledger.note.remote() for _ in range(10)])
        hpc.wait(refs[:-1], num_returns=len(refs) - 1)
        yield found
        del refs, ledger, group


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as one:
        yield one


@pytest.fixture
def come_in(dashboard: Dashboard, browser: Any) -> Iterator[Any]:
    """A page that has come in by the newest link; each test has a browser of its own."""
    with come_in_by(browser, dashboard.link) as page:
        dashboard.link = dashboard.next_link()
        yield page


def test_the_token_leaves_the_address_and_the_link_works_once(come_in, dashboard, browser):
    assert "#/" in come_in.url or "#" not in come_in.url
    assert come_in.evaluate("document.cookie") == "", "no script can read the cookie"
    context = browser.new_context()
    other = context.new_page()
    other.goto(f"http://localhost:{dashboard.port}/#{dashboard.token}")
    other.wait_for_selector("text=this link was used")
    other.goto(f"http://localhost:{dashboard.port}/")
    other.reload()
    other.wait_for_selector("text=no cookie of this dashboard")
    context.close()


def test_each_page_opens_by_its_key_and_runs_no_text(come_in):
    pages = pages_of(come_in)
    assert len(pages) >= 7
    for page in pages:
        come_in.keyboard.press(page["key"])
        come_in.wait_for_selector(f"main[data-page={page['name']}]")
        assert come_in.get_attribute("nav a.on", "href") == f"#/{page['name']}"
    come_in.keyboard.press("3")
    come_in.wait_for_selector("main[data-page=tasks] >> text=onerror")
    come_in.seen.check(come_in)


#: Where texts of programs are shown: pages with their parameters, and a piece of the text that has to be there.
TEXTS = [
    ("now", "", "onerror"),
    ("tasks", "q=onerror", "onerror"),
    ("tasks", "id={failed}", "what it wrote"),
    ("timeline", "span=0", "onerror"),
    ("actors", "q=onerror", "onerror"),
    ("groups", "q=onerror", "onerror"),
    ("metrics", "q=onerror", "onerror"),
    ("logs", "task={failed}", "onerror"),
    ("objects", "", "owned"),
    ("workers", "", "idle"),
]


@pytest.mark.parametrize(("name", "params", "words"), TEXTS)
def test_texts_of_programs_are_texts_wherever_they_are_shown(come_in, name, params, words):
    failed = next(row.task_id for row in list_tasks([("state", "=", "FAILED")]) if row.name == "train_step")
    come_in.evaluate("(hash) => { location.hash = hash; }", f"#/{name}?{params.format(failed=failed)}")
    come_in.wait_for_selector(f"main[data-page={name}]")
    come_in.wait_for_function(
        "(words) => document.querySelector('main').innerText.toLowerCase().includes(words)", arg=words
    )
    assert not come_in.evaluate("document.querySelectorAll('main img, main script').length")
    come_in.seen.check(come_in)


def test_texts_of_programs_are_texts_in_a_report(browser, dashboard, tmp_path):
    file = tmp_path / "report.html"
    assert hpc_command("report", "-o", str(file), f"--address={dashboard.address}").returncode == 0
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    seen = Seen(page)
    page.goto(file.as_uri())
    assert page.evaluate("[window.broken, window.kept]") == [None, []] and not seen.wrong
    assert "onerror" in page.inner_text("body") and seen.urls == [file.as_uri()]
    assert not page.evaluate("document.querySelectorAll('img, script').length")
    context.close()


@pytest.mark.parametrize(
    ("key", "page", "name", "shows"),
    [
        ("r", "train", "train-<b>", ["Ranks", "Checkpoints", "Starts", "loss"]),
        ("s", "tune", "tune-<b>", ["Best trial", "Trials", "Decisions", "FIFOScheduler", "x=1"]),
        ("v", "serve", "serve-<b>", ["Deployments", "Replicas", "Split", "requests a second", "canary"]),
        ("d", "data", "Dataset", ["Operators", "Budgets", "Statistics", "Remote wall time"]),
    ],
)  # fmt: skip
def test_a_run_of_a_library_opens_and_tells_all_of_it(come_in, key, page, name, shows):
    come_in.keyboard.press(key)
    come_in.wait_for_selector(f"main[data-page={page}] >> text={name}")
    come_in.keyboard.press("j")
    come_in.keyboard.press("Enter")
    for text in shows:
        come_in.wait_for_selector(f"main >> text={text}")
    assert "id=" in come_in.url and come_in.evaluate("window.broken") is None and not come_in.seen.wrong
    come_in.keyboard.press("Escape")
    come_in.wait_for_selector("text=Statistics", state="detached")


def test_a_row_opens_and_a_filter_chooses_by_keys_alone(come_in):
    come_in.keyboard.press("3")
    come_in.wait_for_selector("main[data-page=tasks]")
    come_in.keyboard.press("/")
    come_in.keyboard.type("state=failed name=train_step")  # calls of trials that were ended may have failed, too
    come_in.wait_for_selector("text=/^3 of/")
    assert come_in.locator("tr.pick").count() == 3
    come_in.keyboard.press("Escape")
    come_in.keyboard.press("j")
    come_in.keyboard.press("Enter")
    come_in.wait_for_selector("section.panel dl >> text=failed")
    assert "id=" in come_in.url
    come_in.keyboard.press("Escape")
    come_in.wait_for_selector("section.panel dl", state="detached")
    assert "id=" not in come_in.url
    come_in.keyboard.press("?")
    come_in.wait_for_selector("[role=dialog]")
    come_in.keyboard.press("Escape")
    come_in.wait_for_selector("[role=dialog]", state="detached")
    assert not come_in.seen.wrong


def test_the_first_chart_comes_soon_and_the_load_is_light(come_in):
    come_in.wait_for_selector(".plot canvas")
    came_ms = come_in.evaluate("performance.now()")
    marked_ms = come_in.evaluate("performance.getEntriesByName('hpc-now')[0].startTime")
    sizes = (
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/static/')).map((one) => one.%s)"
    )
    sent, whole = (sum(come_in.evaluate(sizes % name)) for name in ("transferSize", "decodedBodySize"))
    print(f"first event after {marked_ms:.0f} ms, chart there at {came_ms:.0f} ms; files: {sent} bytes sent of {whole}")
    assert 50_000 < whole <= 200_000 and sent < whole


def test_a_hidden_page_asks_nothing_and_goes_on_when_it_is_seen(come_in):
    come_in.wait_for_selector(".plot canvas")
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    come_in.evaluate(hide, True)
    feeds = [url for url in come_in.seen.urls if "/api/feed/" in url]
    with come_in.expect_request("**/api/feed/now*"):
        come_in.evaluate(hide, False)
    assert len(feeds) == 1
    assert not come_in.seen.wrong


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_readable_by_day_and_by_night(come_in, theme):
    come_in.emulate_media(color_scheme=theme)
    come_in.reload()
    come_in.wait_for_selector("main[data-page=now] .plot canvas")
    come_in.wait_for_selector("text=train_step")
    colours = come_in.evaluate(
        """() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"""
    )
    lights = [sum(map(int, colour.strip("rgb()").split(","))) for colour in colours]
    assert abs(lights[0] - lights[1]) > 450 and (lights[1] > 600) == (theme == "light")
