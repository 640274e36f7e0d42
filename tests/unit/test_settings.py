"""Numbers of the configuration and of the environment, and their ranges."""

from __future__ import annotations

import pytest

from hpc.cli.errors import CliError
from hpc.cli.options import load
from hpc.core.net.links import LinkConfig
from hpc.core.node.settings import NUMBERS, check, number, setting


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_that_its_error_names(name):
    known = NUMBERS[name]
    for wrong in (known.low - 1e6, "much", "nan", True, *([known.high + 1] if known.high < 1e300 else [])):
        with pytest.raises(ValueError, match=f"of the .runtime. options is .*it takes .*{known.what}"):
            check({name: wrong}, {})
    for right in (known.low, *([] if known.also is None else [known.also])):
        assert number(name, right, name) == right
        check({name: str(right)}, {})


@pytest.mark.parametrize("name", [name for name, known in NUMBERS.items() if known.environ])
def test_the_environment_says_it_too(name):
    known, ours = NUMBERS[name], f"HPC_{name.upper()}"
    assert setting(name, {}, 7.0, {}) == 7.0
    assert setting(name, {}, 7.0, {ours: str(known.low)}) == known.low
    assert setting(name, {name: known.low}, 7.0, {ours: "much"}) == known.low
    with pytest.raises(ValueError, match=f"{ours} is 'much'; it takes"):
        check({}, {ours: "much"})


def test_rays_names_say_the_same_in_their_units():
    environ = {
        "RAY_memory_monitor_refresh_ms": "500",
        "RAY_memory_usage_threshold": "0.8",
        "RAY_TASK_MAX_RETRIES": "-1",
    }
    check({}, environ)
    assert setting("memory_watch_interval_s", {}, 0.25, environ) == 0.5
    assert setting("memory_usage_threshold", {}, 0.95, environ) == 0.8
    assert setting("task_max_retries", {}, 3, environ) == -1
    assert setting("memory_usage_threshold", {}, 0.95, {**environ, "HPC_MEMORY_USAGE_THRESHOLD": "0.7"}) == 0.7
    assert setting("memory_watch_interval_s", {}, 0.25, {"RAY_memory_monitor_refresh_ms": "0"}) == 0
    with pytest.raises(ValueError, match="RAY_memory_monitor_refresh_ms is '1'"):
        check({}, {"RAY_memory_monitor_refresh_ms": "1"})


def test_the_links_options_are_among_them():
    assert {f"link_{name}" for name in LinkConfig.__dataclass_fields__} <= set(NUMBERS)


def test_the_launcher_says_it_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="range") as error:
        load([], {"HPC_MEMORY_USAGE_THRESHOLD": "-1", "HOME": str(tmp_path)})
    assert "HPC_MEMORY_USAGE_THRESHOLD is '-1'" in error.value.text()
    (tmp_path / "hpc.toml").write_text("[runtime]\ndead_s = -3\n")
    with pytest.raises(CliError) as error:
        load([], {"HOME": str(tmp_path)})
    assert "dead_s of the [runtime] options is -3; it takes seconds from 0.001" in error.value.text()
