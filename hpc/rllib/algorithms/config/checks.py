"""The checks of a configuration: each says what does not fit, and what to change."""

from __future__ import annotations

import logging
from typing import Any

from hpc.rllib.algorithms.config.given import is_search
from hpc.rllib.callbacks.callbacks import OLD_HOOKS
from hpc.rllib.utils import force_list

logger = logging.getLogger(__name__)
VECTORIZE_MODES = ("sync", "async", "vector_entry_point", "custom")

_READING = "read the data by hpc.data yourself, and write what is to be learnt as episodes"
#: Settings of RLlib that nothing reads: only their defaults are right. What to do without them.
UNUSED: dict[str, tuple[Any, str]] = {
    "torch_ddp_kwargs": ({}, "learners average their gradients themselves"),
    "torch_compile_worker": (False, "env runners act by numpy where the network is small, and by torch else"),
    "input_filesystem_kwargs": ({}, "data are read from paths of this machine"),
    "output_filesystem_kwargs": ({}, "data are written to paths of this machine"),
    "prelearner_class": (None, "use a learner connector: config.learners(learner_connector=..)"),
    "prelearner_buffer_class": (None, "use a learner connector: config.learners(learner_connector=..)"),
    "prelearner_buffer_kwargs": ({}, "use a learner connector: config.learners(learner_connector=..)"),
    "prelearner_use_recorded_module_states": (False, _READING),
}

_FILES = "data are read at once, and files are cut by rows"
#: Settings of RLlib's insides: results are the same without them. Their defaults, and how it is here.
HINTS: dict[str, tuple[Any, str]] = {
    "input_compress_columns": (["obs", "new_obs"], _FILES),
    "input_read_batch_size": (None, _FILES),
    "iter_batches_kwargs": ({}, _FILES),
    "map_batches_kwargs": ({}, _FILES),
    "output_compress_columns": (["obs", "new_obs"], _FILES),
    "output_max_file_size": (64 * 1024 * 1024, _FILES),
    "metrics_episode_collection_timeout_s": (60.0, "metrics come with the samples"),
    "keep_per_episode_custom_metrics": (False, 'log values with metrics_logger.log_value(.., reduce="item_series")'),
}


def check_all(config: Any) -> None:
    """Raise ValueError for the first thing that does not fit."""
    for name, (default, instead) in UNUSED.items():
        if getattr(config, name) != default:
            value_error(config, f"`{name}` has no effect in hpc.rllib: {instead}")
    for name, (default, instead) in HINTS.items():
        if getattr(config, name) != default and not config.in_evaluation:
            logger.warning("`%s` has no effect in hpc.rllib: %s", name, instead)
    for check in (
        _check_sampling,
        _check_callbacks,
        _check_learning,
        _check_agents,
        _check_evaluation,
        _check_offline,
    ):
        check(config)


def value_error(config: Any, message: str) -> None:
    """Raise ValueError with this text; where checks are off, warn."""
    if not config._validate_config:
        logger.warning(message)
        return
    raise ValueError(
        f"{message}\nTo suppress all validation errors, set `config.experimental(_validate_config=False)` at your own "
        "risk."
    )


def _check_sampling(config: Any) -> None:
    mode = config.gym_env_vectorize_mode
    if getattr(mode, "value", mode) not in VECTORIZE_MODES:
        value_error(
            config,
            f"`gym_env_vectorize_mode` ({mode}) must be a member of `gymnasium.VectorizeMode`! Allowed values are "
            f"{', '.join(VECTORIZE_MODES)}.",
        )
    for name in ("num_env_runners", "evaluation_num_env_runners", "num_learners"):
        value = getattr(config, name)
        if not is_search(value) and (not isinstance(value, int) or value < 0):
            value_error(config, f"`{name}` ({value!r}) must be an int and >=0!")
    if config.merge_env_runner_states not in (True, False, "training_only"):
        value_error(
            config,
            f"`merge_env_runner_states` ({config.merge_env_runner_states!r}) must be True, False or 'training_only'!",
        )
    if config.render_env:
        value_error(config, "`render_env` is not there: render in your environment, or in a callback")


def _check_callbacks(config: Any) -> None:
    for one in force_list(config.callbacks_class):
        for hook, instead in OLD_HOOKS.items():
            if hasattr(one, hook):
                value_error(config, f"{one.__name__}.{hook} is never called: use {instead}")


def _check_learning(config: Any) -> None:
    from hpc.rllib.utils.schedules.scheduler import Scheduler

    if not is_search(config.lr):
        Scheduler.validate(fixed_value_or_schedule=config.lr, setting_name="lr", description="learning rate")
    if config.torch_compile_learner_what_to_compile not in ("forward_train", "complete_update"):
        value_error(
            config,
            "`torch_compile_learner_what_to_compile` must be 'forward_train' or 'complete_update', not "
            f"{config.torch_compile_learner_what_to_compile!r}",
        )
    if _is_number(config.gamma) and not 0.0 <= config.gamma <= 1.0:
        value_error(config, f"`gamma` ({config.gamma}) must be between 0 and 1!")
    size, rows = config.minibatch_size, config._train_batch_size_per_learner
    if isinstance(size, int) and isinstance(rows, int) and size > rows:
        value_error(
            config,
            f"`minibatch_size` ({size}) must be <= `train_batch_size_per_learner` ({rows}). In on-policy algorithms a "
            "batch is cut into minibatches.",
        )


def _check_agents(config: Any) -> None:
    chosen = config.policies_to_train
    if isinstance(chosen, (list, set, tuple)):
        for module_id in chosen:
            if module_id not in config.policies:
                value_error(
                    config,
                    f"`config.multi_agent(policies_to_train=..)` contains policy ID ({module_id}) that was not defined "
                    "in `config.multi_agent(policies=..)`!",
                )


def _check_evaluation(config: Any) -> None:
    if config.evaluation_num_env_runners > 0 and not config.evaluation_interval:
        logger.warning(
            "evaluation_num_env_runners=%s, and evaluation_interval is %s: they evaluate only when "
            "Algorithm.evaluate() is called",
            config.evaluation_num_env_runners,
            config.evaluation_interval,
        )
    if config.evaluation_num_env_runners == 0 and config.evaluation_parallel_to_training:
        value_error(
            config,
            "`evaluation_parallel_to_training` can only be done if `evaluation_num_env_runners` > 0! Try setting "
            "`config.evaluation_parallel_to_training` to False.",
        )
    duration = config.evaluation_duration
    if duration == "auto":
        if not config.evaluation_parallel_to_training:
            value_error(config, "`evaluation_duration=auto` not supported for `evaluation_parallel_to_training=False`!")
    elif not is_search(duration) and (not isinstance(duration, int) or duration <= 0):
        value_error(config, f"`evaluation_duration` ({duration}) must be an int and >0!")
    if config.evaluation_duration_unit not in ("episodes", "timesteps"):
        value_error(
            config,
            f"`evaluation_duration_unit` ({config.evaluation_duration_unit!r}) must be 'episodes' or 'timesteps'!",
        )


def _check_offline(config: Any) -> None:
    evaluates = config.evaluation_num_env_runners > 0 or config.evaluation_interval
    unknown = config.action_space is None or config.observation_space is None
    if config.is_offline and not config.is_online and not evaluates and unknown:
        value_error(
            config,
            "If no evaluation should be run, `action_space` and `observation_space` must be provided.",
        )
    if config.input_read_batch_size and not config.input_read_episodes:
        value_error(
            config,
            "`input_read_batch_size` is for data of episodes: set `input_read_episodes=True`, or leave it out",
        )
    if config.output and config.output_write_episodes and config.batch_mode != "complete_episodes":
        value_error(
            config,
            "When recording episodes only complete episodes should be recorded (i.e. "
            "`batch_mode=='complete_episodes'`). Otherwise recorded episodes cannot be read in for training.",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
