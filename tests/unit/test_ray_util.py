"""The small names of Ray's that work without a session: logging once, and what stands in for a client."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hpc
from hpc.util import debug


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("seen", set()), ("disabled", False), ("periodic", False), ("last_s", 0.0)):
        monkeypatch.setattr(debug._Once, name, value)


@pytest.mark.parametrize(
    "use",
    [
        lambda: hpc.client("ray://host:10001"),
        lambda: hpc.ClientBuilder("host:10001"),
        lambda: hpc.util.connect("host:10001", namespace="n"),
        lambda: hpc.util.disconnect(),
    ],
)
def test_a_client_of_rays_says_how_to_join_instead(use: object) -> None:
    with pytest.raises(NotImplementedError, match=r"hpc\.init\(address\)"):
        use()  # type: ignore[operator]


def test_modules_of_util_are_attributes_after_the_import_alone() -> None:
    text = "import hpc; print(hpc.util.actor_pool.ActorPool is hpc.util.ActorPool, hpc.util.client.__name__)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "hpc.util.client"], done.stderr


def test_a_key_is_logged_once_until_it_is_reset() -> None:
    assert [hpc.util.log_once("a"), hpc.util.log_once("a"), hpc.util.log_once("b")] == [True, False, True]
    debug.reset_log_once("a")
    assert [hpc.util.log_once("a"), hpc.util.log_once("b")] == [True, False]
    hpc.util.disable_log_once_globally()
    assert not hpc.util.log_once("c")


def test_periodic_logging_forgets_the_keys_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(debug.time, "monotonic", lambda: now[0])
    hpc.util.enable_periodic_logging()
    assert hpc.util.log_once("a")
    now[0] += debug.PERIOD_S + 1
    assert [hpc.util.log_once("a"), hpc.util.log_once("a")] == [False, True]
