"""What goes wrong in an experiment."""

from __future__ import annotations


class TuneError(Exception):
    """An experiment cannot be what it is told to be, or a trial of it has failed; the text says why."""


class TrialDrained(Exception):
    """What a trial has called, a trainer for instance, has ended because the session does: it has stored what it needs
    to go on. So this is no failure of the trial."""
