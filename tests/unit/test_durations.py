"""Times as people, sbatch and our status line write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.launchers.units import clock_text, parse_clock
from hpc.settings.durations import parse_duration, parse_walltime, short


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("90", 5400),
        ("1:30", 90),
        ("10:00", 600),
        ("1:00:00", 3600),
        ("2-0", 172800),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("2h", 7200),
        ("30m", 1800),
        ("30min", 1800),
        ("90s", 90),
        ("1h30m", 5400),
        ("1d12h", 129600),
        ("1.5h", 5400),
        (" 2H ", 7200),
    ],
)
def test_walltimes(text: str, seconds: float) -> None:
    assert parse_walltime(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "abc", "2x", "1:2:3:4", "-5", "1-", "h", "2h 30", "1-2-3", "٣"])
def test_what_is_no_walltime_says_which_forms_are(text: str) -> None:
    with pytest.raises(ValueError, match="understood: 30m, 2h"):
        parse_walltime(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("0.5", 0.5), ("5m", 300), ("2h", 7200), ("1:00:00", 3600), ("0", 0)]
)
def test_durations_take_a_bare_number_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1-0", "-1"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(1, 10**7))
def test_what_we_write_for_schedulers_reads_back(seconds: int) -> None:
    assert parse_walltime(clock_text(seconds)) == seconds
    assert parse_clock(clock_text(seconds)) == seconds


def test_parts_of_seconds_are_rounded_up_for_schedulers() -> None:
    assert clock_text(59.2) == "00:01:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (3.14, "3.1 s"), (60, "1:00"), (2830, "47:10"), (11564, "3:12:44"), (90061, "1-01:01:01")],
)
def test_short_times(seconds: float, text: str) -> None:
    assert short(seconds) == text
