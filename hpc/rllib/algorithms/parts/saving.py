"""Checkpoints of an algorithm: as a directory with its parts, and as a Trainable has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.utils.checkpoints import Checkpointable, _read, made_by


class Saving(Checkpointable):
    """from_checkpoint with changed settings, and the two methods by which a Tuner saves and restores."""

    @classmethod
    def from_checkpoint(cls, path: Any, filesystem: Any = None, *, config: Any = None, **kwargs: Any) -> Any:
        """A new algorithm with the state of a checkpoint.

        config: settings over those that were saved, as ``{"num_env_runners": 0}``, or a whole AlgorithmConfig.
        """
        with _read(path, filesystem) as local:
            kind, args, _ = made_by(Path(local), cls.CLASS_AND_CTOR_ARGS_FILE_NAME)
            if not issubclass(kind, cls):
                raise ValueError(f"the checkpoint {path} is of {kind.__name__}, which is no {cls.__name__}")
            if not isinstance(config, AlgorithmConfig):
                config = AlgorithmConfig.from_state(args[0]).update_from_dict(config or {})
            made = kind(config=config)
            try:
                made.restore_from_path(local, **kwargs)
                made.learner_group.foreach_learner(_learn_only, chosen=made.config.policies_to_train)
            except BaseException:
                made.stop()
                raise
        return made

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all into this directory."""
        self.save_to_path(checkpoint_dir)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Any:
        """Refused: a state has no configuration. Raises ValueError that says what to use."""
        raise ValueError(f"use {cls.__name__}.from_checkpoint(path), or config.build_algo() and algo.set_state(state)")


def _learn_only(learner: Any, chosen: Any) -> None:
    """Have a learner train the modules that the configuration says, as opposed to the checkpoint."""
    learner.config.multi_agent(policies_to_train=chosen)
