"""The errors of collectives."""

from __future__ import annotations


class CollectiveError(RuntimeError):
    """A group has ended, or its ranks did not call the same operation: a rank died, left, or called another one.

    The group cannot be used any more. Make another one, by another name or after `destroy_collective_group`."""


class CollectiveTimeoutError(CollectiveError, TimeoutError):
    """A rank did not come within the time limit of the group."""
