"""Errors of environments."""

from __future__ import annotations


class StepFailedRecreateEnvError(Exception):
    """Raise it in ``step`` to have the environment made anew, with ``restart_failed_sub_environments``, unlogged."""


class EnvError(Exception):
    """An environment cannot be made, or does not keep to gymnasium's rules. The message says what to do."""
