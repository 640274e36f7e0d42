"""Logging a thing once: `log_once` and its switches, kept per process."""

from __future__ import annotations

import time

PERIOD_S = 60.0


class _Once:
    """What this process has logged, and how often it may be logged again."""

    seen: set[str] = set()
    disabled = False
    periodic = False
    last_s = 0.0


def log_once(key: str) -> bool:
    """True for the first call with the key in this process, False after it: a condition for a line of a log."""
    if _Once.disabled:
        return False
    now_s = time.monotonic()
    if key not in _Once.seen:
        _Once.seen.add(key)
        _Once.last_s = now_s
        return True
    if _Once.periodic and now_s - _Once.last_s > PERIOD_S:
        _Once.seen.clear()
        _Once.last_s = now_s
    return False


def disable_log_once_globally() -> None:
    """Make `log_once` return False in this process, whatever the key."""
    _Once.disabled = True


def enable_periodic_logging() -> None:
    """Forget the keys once no new one has come for 60 s, so that `log_once` is True again for each."""
    _Once.periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget the key, or all keys: the next `log_once` of it is True."""
    if key is None:
        _Once.seen.clear()
    else:
        _Once.seen.discard(key)
