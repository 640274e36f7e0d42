"""What an engine is told once: the experiment's configuration in plain values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from hpc.tune.retention import Rule
from hpc.tune.trial import Trial

#: Trials that are made ahead of room for them: of a generator without a model, and of a searcher, which learns.
AHEAD, SEARCHER_AHEAD = 200, 1


@dataclass
class Settings:
    """trainable_name: as in the trials' names. shape: of the room of a trial whose suggestion has none.

    metric: of the experiment, which each result must have unless strict is False. stop: a trial ends when a metric of
    this flat name is at least this. max_failures: a trial that failed so often runs again; -1: always. fail_fast: end
    all at the first failure; retention: which checkpoints stay.

    saves: whether the trainable makes a checkpoint when asked, as classes do. checkpoint_frequency: after so many
    iterations each; 0: never. checkpoint_at_end: after a trial's last result.

    time_budget_s: the experiment stops after so many seconds, all drivers together. ahead: so many trials are made
    before there is room. asking: for so many rooms is waited at a time. root: the experiment's directory, is_local:
    whether that is on a file system of this machine. name: gives a new trial its name and path.
    """

    trainable_name: str
    shape: Hashable = None
    metric: str | None = None
    strict: bool = True
    stop: dict[str, float] = field(default_factory=dict)
    max_failures: int = 0
    fail_fast: bool = False
    retention: Rule = field(default_factory=Rule)
    saves: bool = False
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool = False
    time_budget_s: float | None = None
    ahead: int = AHEAD
    asking: int = 32
    root: str = ""
    is_local: bool = True
    name: Callable[[Trial], None] = lambda trial: None

    def relative(self, path: str) -> str:
        """A path as it is recorded: relative to the experiment's directory, if it is there."""
        root = self.root.rstrip("/")
        return path.removeprefix(f"{root}/") if root else path
