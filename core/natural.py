"""The order in which people count names: s2 before s10."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names so."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
