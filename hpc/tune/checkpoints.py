"""The checkpoints of all trials: which stay, and which another trial goes on from. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hpc.tune.retention import Rule
from hpc.tune.trial import Trial

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint


class Checkpoints:
    """A checkpoint of one trial that another goes on from stays until that one has a newer one of its own."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._uses: Counter[str] = Counter()
        self._borrowers: set[str] = set()
        #: Checkpoints that their trials do not keep any more.
        self._doomed: dict[str, Checkpoint] = {}

    def keep(self, trial: Trial, new: Checkpoint, metrics: dict[str, Any]) -> Iterator[tuple[Checkpoint, bool]]:
        """The trial's latest one. Yields those that are dropped: of this trial with True, and others with False."""
        kept, dropped = self._rule.add(trial.checkpoints, (new, metrics))
        trial.checkpoints = kept
        for old, _ in dropped:
            yield old, True
        yield from ((one, False) for one in self._give_back(trial))
        trial.checkpoint = new

    def may_delete(self, dropped: Checkpoint) -> bool:
        """Whether a dropped one can be deleted now; else it is later."""
        if self._uses[dropped.path] == 0:
            return True
        self._doomed[dropped.path] = dropped
        return False

    def borrow(self, trial: Trial, checkpoint: Checkpoint) -> Iterator[Checkpoint]:
        """The trial goes on from another one's checkpoint. Yields one that can be deleted now."""
        self._uses[checkpoint.path] += 1
        yield from self._give_back(trial)
        self._borrowers.add(trial.trial_id)
        trial.checkpoint = checkpoint

    def load(self, trials: Iterable[Trial]) -> None:
        """Begin with what these trials have."""
        trials = list(trials)
        own = {one.path for trial in trials for one, _ in trial.checkpoints}
        for trial in trials:
            latest = trial.checkpoint
            if latest is not None and all(one.path != latest.path for one, _ in trial.checkpoints):
                self._borrowers.add(trial.trial_id)
                self._uses[latest.path] += 1
                if latest.path not in own:
                    self._doomed[latest.path] = latest

    def _give_back(self, trial: Trial) -> Iterator[Checkpoint]:
        if trial.trial_id not in self._borrowers or trial.checkpoint is None:
            return
        self._borrowers.remove(trial.trial_id)
        path = trial.checkpoint.path
        self._uses[path] -= 1
        if self._uses[path] == 0 and path in self._doomed:
            yield self._doomed.pop(path)
