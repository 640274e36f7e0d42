"""How a run fails by itself, apart from what users' functions raise."""

from __future__ import annotations


class CutsChangedError(RuntimeError):
    """A task ran again and cut its rows into other blocks, after some of the first ones were used already."""


class StalledError(RuntimeError):
    """Nothing has gone on for longer than the user allows."""
