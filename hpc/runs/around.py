"""In what a run was started: a library that starts runs in its own processes says so, for those that wait for room."""

from __future__ import annotations


class _Around:
    """hint: what to change so that a run that is started here finds room; "" where nobody has anything to say."""

    hint = ""


around = _Around()
