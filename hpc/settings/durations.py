"""Times as people and schedulers write them, read into seconds; and seconds for the status line.

Two readings, because one bare number means two things. For a walltime it is minutes, as most schedulers have it; for a
duration such as --start-timeout it is seconds. `2h`, `30m`, `1d12h` and `90s` work in both. Rejected: a library for
durations (none reads the schedulers' forms, D-HH:MM:SS).
"""

from __future__ import annotations

import re

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_UNIT_FORM = re.compile(
    r"(?:(?P<d>[0-9]+(?:\.[0-9]+)?)d)?(?:(?P<h>[0-9]+(?:\.[0-9]+)?)h)?(?:(?P<m>[0-9]+(?:\.[0-9]+)?)m(?:in)?)?(?:(?P<s>[0-9]+(?:\.[0-9]+)?)s)?"
)
WALLTIME_FORMS = "30m, 2h, 1d12h, minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
DURATION_FORMS = "seconds, 30s, 5m, 2h or HH:MM:SS"


def _with_units(text: str) -> float | None:
    match = _UNIT_FORM.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    return sum(float(n) * _UNITS_S[unit] for unit, n in match.groupdict().items() if n)


def parse_walltime(text: str) -> float:
    """Seconds; ValueError naming the forms that are understood."""
    text = text.strip().lower()
    found = _with_units(text)
    if found is None:
        found = _clock_form(text)
    if found is None or found <= 0:
        raise ValueError(f"not a time: {text!r} (understood: {WALLTIME_FORMS})")
    return found


def _clock_form(text: str) -> float | None:
    """`M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if (
        not all(re.fullmatch(r"[0-9]+", p) for p in parts)
        or len(parts) > 3
        or (dash and not re.fullmatch(r"[0-9]+", days))
    ):
        return None
    numbers = [float(p) for p in parts]
    if dash:
        hours, minutes, seconds = (numbers + [0.0, 0.0])[:3]
        return ((float(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(numbers) == 1:
        return numbers[0] * 60
    if len(numbers) == 2:
        return numbers[0] * 60 + numbers[1]
    return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]


def parse_duration(text: str) -> float:
    """Seconds, where a bare number is seconds; ValueError naming the forms."""
    text = text.strip().lower()
    found = _with_units(text)
    if found is None and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        found = float(text)
    if found is None and ":" in text and "-" not in text:
        found = _clock_form(text)
    if found is None or found < 0:
        raise ValueError(f"not a duration: {text!r} (understood: {DURATION_FORMS})")
    return found


def short(seconds: float) -> str:
    """For the status line: 3.1 s, 47:10, 3:12:44, 1-02:03:04."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
