"""What an IMPALA learner keeps beside its modules, and how fragments become its train batch.

Modules without a state see all rows of all fragments at once. Those with one see sequences, each with one row more, for
the value of what comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc.rllib.algorithms.impala.keys import LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.learner import Learner
from hpc.rllib.core.rl_module.apis import ValueFunctionAPI
from hpc.rllib.env.fragment import Fragment
from hpc.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from hpc.rllib.utils.schedules.scheduler import Scheduler
from hpc.rllib.utils.trees import map_tree

#: Columns with a row more than there are steps.
LONGER = (Columns.OBS, "action_mask")
NEEDED = (
    Columns.OBS,
    Columns.ACTIONS,
    Columns.ACTION_LOGP,
    Columns.ACTION_DIST_INPUTS,
    Columns.REWARDS,
    Columns.TERMINATEDS,
    Columns.TRUNCATEDS,
    Columns.LOSS_MASK,
    "action_mask",
)


class IMPALALearner(Learner):
    """Fragments side by side, [T + 1, N] observations to [T, N] steps, and a coefficient that follows a schedule."""

    batch_layout = "fragments"

    def build(self) -> None:
        """Builds modules and optimizers."""
        self.entropy_coeff_schedulers_per_module: dict[str, Scheduler] = {}
        super().build()

    def entropy_coeff(self, module_id: str) -> float:
        """The coefficient of entropy that holds now."""
        if module_id not in self.entropy_coeff_schedulers_per_module:
            value = self.config.get_config_for_module(module_id).entropy_coeff
            self.entropy_coeff_schedulers_per_module[module_id] = Scheduler(fixed_value_or_schedule=value)
        return float(self.entropy_coeff_schedulers_per_module[module_id].get_current_value())

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Moves the coefficient of entropy."""
        super().before_gradient_based_update(timesteps=timesteps)
        for module_id in list(self.module.keys()):
            self.entropy_coeff(module_id)
            scheduler = self.entropy_coeff_schedulers_per_module[module_id]
            value = scheduler.update(timestep=timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
            self.metrics.log_value((module_id, LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY), float(value), window=1)

    def remove_module(self, module_id: str, **kwargs: Any) -> Any:
        """Forgets the module's coefficient, too."""
        spec = super().remove_module(module_id, **kwargs)
        self.entropy_coeff_schedulers_per_module.pop(module_id, None)
        return spec

    def _fragments(self, samples: Sequence[Any] | None, episodes: Sequence[Any] | None) -> dict[str, list[Any]]:
        """One fragment for each module: those with fewer rows are padded."""
        found = super()._fragments(samples, episodes)
        return {module_id: [Fragment.concat(several)] for module_id, several in found.items()}

    def postprocess_fragment(self, module_id: str, fragment: Fragment, config: Any) -> dict[str, Any]:
        """Columns of steps [T, N, ...], with one row more for observations; or of sequences, as many as it takes."""
        names = [*NEEDED, *self.connected_columns.get(module_id, ())]
        columns = {name: fragment[name] for name in names if name in fragment}
        module = self.module[module_id].unwrapped()
        if not module.is_stateful():
            return columns
        length = module.model_config.get("max_seq_len", 20)
        return sequences(columns, fragment.get(Columns.STATE_IN), fragment.segments(), length)

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """Modules need values."""
        return [ValueFunctionAPI]


def sequences(
    columns: dict[str, Any], states: Any, segments: Sequence[tuple[int, int, int]], length: int
) -> dict[str, Any]:
    """Pieces of episodes of at most ``length`` steps, side by side: [length, B, ...], observations one row longer.

    The states before their first steps are [1, B, ...]. What is behind the end of a piece has no loss mask."""
    pieces = [
        (column, row, min(row + length, end)) for column, start, end in segments for row in range(start, end, length)
    ]
    at_columns = np.array([column for column, _, _ in pieces])
    starts = np.array([start for _, start, _ in pieces])
    ends = np.array([end for _, _, end in pieces])
    steps = np.arange(length)[:, None] + starts
    inside = steps < ends
    rows = np.minimum(steps, ends - 1)
    longer = np.minimum(np.arange(length + 1)[:, None] + starts, ends)
    made = {
        name: map_tree(lambda leaf, at=longer if name in LONGER else rows: leaf[at, at_columns], column)
        for name, column in columns.items()
    }
    made[Columns.LOSS_MASK] = made[Columns.LOSS_MASK] & inside
    if states is not None:
        made[Columns.STATE_IN] = map_tree(lambda leaf: leaf[starts, at_columns][None], states)
    return made
