"""What a rank tells the driver (events), and what the driver tells a rank (orders)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hpc.runs.manifest import Entry

#: How a rank's checkpoint comes to the run's directory: its files are copied, a function of the user's brings them, or
#: the user has brought them before.
Way = Literal["files", "function", "there"]


@dataclass(frozen=True)
class Reported:
    """A rank is in its ``report`` of this number, and waits for the others. way: of its checkpoint, if it has one.

    waits: ``report`` returns once the checkpoint is stored. validation: see `hpc.runs.validation`."""

    number: int
    metrics: dict[str, Any]
    way: Way | None = None
    dir_name: str | None = None
    waits: bool = True
    validation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Brought:
    """A rank's files of the report of this number are in the run's directory: these, or the directory at ``path``.

    failure: they are not, and why."""

    number: int
    entries: tuple[Entry, ...] = ()
    path: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Joined:
    """A rank waits in a collective call of this number for the others. data: of rank 0, pickled."""

    number: int
    what: str
    data: bytes | None = None


@dataclass(frozen=True)
class Asked:
    """A rank wants the checkpoints that were reported. ``reports``: not before so many reports are complete;
    ``validated``: nor before validations are."""

    number: int
    reports: int
    validated: bool


@dataclass(frozen=True)
class Returned:
    """The rank's function has returned. The value is rank 0's; other ranks send none."""

    value: Any


@dataclass(frozen=True)
class Raised:
    """The rank's function has raised. error: the exception (`spi.pickled_error`)."""

    traceback: str
    text: str
    error: bytes


@dataclass(frozen=True)
class Leaving:
    """The rank's node is taken away, in so many seconds if that is known."""

    left_s: float | None


@dataclass(frozen=True)
class Gone:
    """The rank's process has died with its node, which was taken away, and the others may go on for a while."""


Event = Reported | Brought | Joined | Asked | Returned | Raised | Leaving | Gone


@dataclass(frozen=True)
class Begun:
    """All ranks are in this report. name: of its checkpoint, if there is one; path: where files go.

    waits: ranks without files of their own wait until it is stored, too. must_save: the next report is to have a
    checkpoint."""

    number: int
    name: str | None = None
    path: str | None = None
    waits: bool = True
    must_save: bool = False


@dataclass(frozen=True)
class Complete:
    """The report of this number is complete, and this is its checkpoint, if there is one."""

    number: int
    checkpoint: str | None = None
    must_save: bool = False


@dataclass(frozen=True)
class Exchanged:
    """All ranks are in the collective call of this number; rank 0, or the driver, gave this, pickled."""

    number: int
    data: bytes | None


@dataclass(frozen=True)
class Answered:
    """What `Asked` of this number wanted."""

    number: int
    value: Any


Order = Begun | Complete | Exchanged | Answered
