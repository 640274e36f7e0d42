"""How far an actor of a trial is: what it does, and what comes after. Pure."""

from __future__ import annotations

from enum import Enum

from hpc.tune.trial import Trial


class Stage(Enum):
    """What an actor does now."""

    STARTING = "it begins"
    STEPPING = "it trains, and will report"
    DECIDING = "it has reported, and the decision is being made"
    HELD = "it has reported, and waits for a decision that comes later"
    SAVING = "it makes a checkpoint"
    STOPPING = "it ends"


class Actor:
    """One run of a trial in a room. then: the decision that a save delays. wish: what was asked for amid a step:
    "PAUSE", or "SAVE". fresh: its latest report has a checkpoint."""

    __slots__ = ("began_from", "fresh", "room", "stage", "then", "trial", "wish")

    def __init__(self, trial: Trial, room: int) -> None:
        self.trial = trial
        self.room = room
        self.stage = Stage.STARTING
        self.then = ""
        self.wish = ""
        self.began_from = trial.checkpoint
        self.fresh = False
