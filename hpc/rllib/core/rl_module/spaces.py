"""Spaces as simple values, and back: what specs write into files."""

from __future__ import annotations

import base64
import pickle
from typing import Any

from hpc import cloudpickle


def space_to_dict(space: Any) -> dict[str, Any] | None:
    """A space as its text and its pickle."""
    if space is None:
        return None
    return {"space": str(space), "pickle": base64.b64encode(cloudpickle.dumps(space)).decode()}


def space_from_dict(d: dict[str, Any] | None) -> Any:
    """The space of what `space_to_dict` gave."""
    return None if d is None else pickle.loads(base64.b64decode(d["pickle"]))
