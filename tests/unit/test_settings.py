"""The table of the runtime's options: what each takes, where it comes from, and who reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpc.core.net.links import LinkConfig
from hpc.core.net.session import WIRE_WINDOW_BYTES
from hpc.core.node.settings import SETTINGS, Number, check, setting, switch, text, unknown
from hpc.core.raylet.object_store import FULL_TIMEOUT_S
from hpc.settings.errors import CliError
from hpc.settings.options import load

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {name: one.takes for name, one in SETTINGS.items() if isinstance(one.takes, Number)}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_option_is_read_where_the_table_says(name):
    source = (ROOT / SETTINGS[name].reader).read_text()
    said = [name, name.removeprefix("link_")] if name.startswith("link_") else [name]
    if name.startswith(("memory_", "bind")):  # handed to the watchdog by the raylet that makes it
        source += (ROOT / "core/raylet/main.py").read_text()
    if name == "head_hang_s":
        source += (ROOT / "core/node/pulse.py").read_text()
    assert any(re.search(rf"\b{one}\b", source) for one in said)


def test_every_default_fits_its_own_range():
    for name, known in SETTINGS.items():
        if known.default is not None:
            assert known.takes.read(known.default, name) == known.default
        else:
            assert known.default_is


def test_pure_parts_have_the_same_defaults():
    assert setting("store_full_timeout_s", {}, {}) == FULL_TIMEOUT_S
    assert setting("link_wire_window_bytes", {}, {}) == WIRE_WINDOW_BYTES


def test_a_name_that_is_none_is_refused_with_the_nearest(tmp_path, monkeypatch):
    assert unknown({"daed_s": 1, "dead_s": 2, "zzz": 3, "loopback": True}) == {
        "daed_s": "dead_s", "zzz": "", "loopback": "",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc.toml").write_text("[runtime]\nhaertbeat_s = 3\n")
    with pytest.raises(CliError, match=r"no such option under .* haertbeat_s") as error:
        load([], {"HOME": str(tmp_path)})
    assert "heartbeat_s = ..." in error.value.text()


def test_switches_and_texts():
    assert switch("bulk_encryption", {}, {}) and not switch("bulk_encryption", {"bulk_encryption": False}, {})
    assert not switch("task_events", {}, {"HPC_TASK_EVENTS": "0"}) and switch("task_events", {}, {})
    assert text("spill_dir", {}, {"HPC_SPILL_DIR": "/x"}) == "/x" and text("spill_dir", {"spill_dir": "/y"}, {}) == "/y"
    for wrong in ({"bulk_encryption": 2}, {"spill_dir": 5}):
        with pytest.raises(ValueError, match="it takes"):
            check(wrong, {})


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_that_its_error_names(name):
    known = NUMBERS[name]
    for wrong in (known.low - 1e6, "much", "nan", True, *([known.high + 1] if known.high < 1e300 else [])):
        with pytest.raises(ValueError, match=f"of the .runtime. options is .*it takes .*{known.what}"):
            check({name: wrong}, {})
    for right in (known.low, *([] if known.also is None else [known.also])):
        assert known.read(right, name) == right
        check({name: str(right)}, {})


@pytest.mark.parametrize("name", [name for name in NUMBERS if SETTINGS[name].source != "config"])
def test_the_environment_says_it_too(name):
    known, ours = NUMBERS[name], f"HPC_{name.upper()}"
    assert setting(name, {}, {}) == SETTINGS[name].default
    assert setting(name, {}, {ours: str(known.low)}) == known.low
    assert setting(name, {name: known.low}, {ours: "much"}) == known.low
    with pytest.raises(ValueError, match=f"{ours} is 'much'; it takes"):
        check({}, {ours: "much"})


def test_rays_names_say_the_same_in_their_units():
    environ = {
        "RAY_memory_monitor_refresh_ms": "500",
        "RAY_memory_usage_threshold": "0.8",
        "RAY_TASK_MAX_RETRIES": "-1",
    }
    check({}, environ)
    assert setting("memory_watch_interval_s", {}, environ) == 0.5
    assert setting("memory_usage_threshold", {}, environ) == 0.8
    assert setting("task_max_retries", {}, environ) == -1
    assert setting("memory_usage_threshold", {}, {**environ, "HPC_MEMORY_USAGE_THRESHOLD": "0.7"}) == 0.7
    assert setting("memory_watch_interval_s", {}, {"RAY_memory_monitor_refresh_ms": "0"}) == 0
    with pytest.raises(ValueError, match="RAY_memory_monitor_refresh_ms is '1'"):
        check({}, {"RAY_memory_monitor_refresh_ms": "1"})


def test_the_links_options_are_among_them():
    assert {f"link_{name}" for name in LinkConfig.__struct_fields__} <= set(NUMBERS)


def test_the_launcher_says_it_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="wrong value") as error:
        load([], {"HPC_MEMORY_USAGE_THRESHOLD": "-1", "HOME": str(tmp_path)})
    assert "HPC_MEMORY_USAGE_THRESHOLD is '-1'" in error.value.text()
    (tmp_path / "hpc.toml").write_text("[runtime]\ndead_s = -3\n")
    with pytest.raises(CliError) as error:
        load([], {"HOME": str(tmp_path)})
    assert "dead_s of the [runtime] options is -3; it takes seconds from 0.001" in error.value.text()
