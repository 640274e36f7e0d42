"""What users report, as text and as numbers. It may be anything, so neither raises."""

from __future__ import annotations

import math
from typing import Any


def as_text(value: Any) -> str:
    """The value as text. What a user's class cannot say of itself is no reason to end an experiment."""
    try:
        return str(value).encode(errors="backslashreplace").decode()
    except Exception as error:
        return f"<{type(value).__name__}, of which there is no text: {type(error).__name__}>"


def as_number(value: Any) -> float:
    """The value as a float: NaN for what is no number, and infinity for one that a float cannot hold."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except Exception:
        return math.nan
