"""The dashboard's gate: every combination of method, name, origin and cookie, and tokens that let one browser in."""

from __future__ import annotations

from itertools import product

import pytest

from hpc.dashboard.gate import ENTER, MOST_BROWSERS, Asked, Keys, decide, host_name

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
OWN_HOSTS = ("localhost:8265", "127.0.0.1:41", "LOCALHOST", "[::1]:8265", "proxy.site:443")
FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:8265",
    "localhost.evil.example",
    "127.0.0.1.evil.example:80",
    "",
    "[::2]:1",
)
PATHS = ("", "static/app.js", ENTER, "api/page/now", "api/feed/now")
NAMES = frozenset({"proxy.site"})


def served(asked: Asked) -> bool:
    """What is wanted, said another way than in the gate."""
    own_host = asked.host in OWN_HOSTS
    own_page = asked.origin in ("", f"http://{asked.host}", f"https://{asked.host}", "https://proxy.site")
    if not own_host or not own_page or asked.method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        return False
    if not asked.path.startswith("api/"):
        return asked.method != "POST"
    if asked.fetch_site in ("cross-site", "same-site") or (asked.method == "POST" and not asked.is_marked):
        return False
    return asked.method == "POST" if asked.path == ENTER else asked.is_known


def test_every_combination_is_decided_as_it_should_be():
    wrong, count = [], 0
    origins = ("", "null", "http://localhost:8265", "https://proxy.site", "http://evil.example", "http://localhost:9")
    for method, host, path, origin, site, marked, known in product(
        METHODS, (*OWN_HOSTS, *FOREIGN_HOSTS), PATHS, origins, ("", "same-origin", "cross-site", "same-site", "none"),
        (False, True), (False, True),
    ):  # fmt: skip
        asked = Asked(method, path, host, origin, site, marked, known)
        count += 1
        if (decide(asked, NAMES) is None) != served(asked):
            wrong.append(asked)
    assert count > 25_000 and not wrong, wrong[:5]


@pytest.mark.parametrize("method", METHODS)
def test_a_rebound_name_is_refused_on_every_method(method):
    refusal = decide(Asked(method, "api/page/now", "evil.example:80", is_marked=True, is_known=True))
    assert refusal is not None and refusal.status == 421 and "--host" in refusal.why


def test_without_a_cookie_it_is_said_how_to_come_in():
    refusal = decide(Asked("GET", "api/page/now", "localhost"))
    assert refusal is not None and refusal.status == 401 and "hpc dashboard" in refusal.why


@pytest.mark.parametrize(
    ("host", "name"), [("localhost:1", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("A", "a")]
)
def test_the_name_is_what_stands_before_the_port(host, name):
    assert host_name(host) == name


def test_a_token_lets_one_browser_in():
    texts = iter(f"key-{number}" for number in range(100))
    keys = Keys(lambda: next(texts))
    first = keys.token
    cookie = keys.enter(first)
    assert cookie and keys.knows(cookie) and keys.enter(first) is None
    assert not keys.knows("") and not keys.knows(first) and not keys.knows(keys.token)
    assert keys.enter("") is None and keys.enter("ä") is None
    for _ in range(MOST_BROWSERS):
        assert keys.enter(keys.token)
    assert not keys.knows(cookie), "the first of too many browsers has to come again"


def test_tokens_cannot_be_guessed():
    assert len({Keys().token for _ in range(100)}) == 100 and len(Keys().token) >= 22
