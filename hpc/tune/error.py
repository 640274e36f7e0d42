"""What goes wrong in an experiment."""

from __future__ import annotations


class TuneError(Exception):
    """An experiment cannot be what it is told to be, or a trial of it has failed; the text says why."""
