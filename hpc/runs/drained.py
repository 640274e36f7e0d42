"""How what runs for long ends when its session does: it has saved, and the script ends so that it can go on."""

from __future__ import annotations


class Drained(SystemExit):
    """The session drains, and what is needed to go on is stored: ``fit`` ends. So it does where nodes are lost for
    good, and a run of a fixed size has no room without them.

    A script that does not catch it ends with exit code 75. It goes on in the next job of a chain, or in this one when
    that is started again.
    """

    def __init__(self, what: str) -> None:
        super().__init__(75)
        self.what = what

    def __str__(self) -> str:
        return self.what
