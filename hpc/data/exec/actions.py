"""What the machine wants done, and by whom nothing of it is decided any more: the shell does it in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.maps import ReadOperator
from hpc.data.exec.work import Actor, Block, Work


@dataclass(frozen=True)
class Submit:
    """Begin a piece of work. ``window``: blocks that it may make ahead."""

    work: Work
    window: int


@dataclass(frozen=True)
class Take:
    """Take so many blocks of what a piece of work offers, at most, and tell them."""

    work: Work
    most: int


@dataclass(frozen=True)
class Cancel:
    """Nothing is wanted of a piece of work any more."""

    work: Work


@dataclass(frozen=True)
class Pull:
    """Bring the next parts of a source, so many at most."""

    op: ReadOperator
    most: int


@dataclass(frozen=True)
class StartActor:
    """Start an actor of a pool."""

    actor: Actor


@dataclass(frozen=True)
class StopActor:
    """End an actor that has nothing to do."""

    actor: Actor


@dataclass(frozen=True)
class Emit:
    """A block for the consumer."""

    block: Block


@dataclass(frozen=True)
class Found:
    """A block that the consumer has found lost is there again."""

    block: Block


@dataclass(frozen=True)
class Finish:
    """The run has ended: with an error or without."""

    error: BaseException | None


@dataclass(frozen=True)
class Report:
    """A sentence for people: why nothing goes on, or what was left out."""

    text: str
    op: Operator | None = None


Action: TypeAlias = Submit | Take | Cancel | Pull | StartActor | StopActor | Emit | Found | Finish | Report
