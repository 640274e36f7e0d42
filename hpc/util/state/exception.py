"""What the state API raises."""

from __future__ import annotations

from hpc.core.exceptions import HpcError


class RayStateApiException(HpcError):
    """The state API cannot answer: a filter names no field, or no state that there is, or a limit is out of range."""


__all__ = ["RayStateApiException"]
