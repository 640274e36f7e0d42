"""Ray's place for the class of trials."""

from __future__ import annotations

from hpc.tune.trial import Trial

__all__ = ["Trial"]
