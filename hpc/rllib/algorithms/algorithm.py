"""The base of algorithms: a Trainable that samples, learns, reports, evaluates and saves."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpc
from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.parts.acting import Acting
from hpc.rllib.algorithms.parts.evaluating import Evaluator
from hpc.rllib.algorithms.parts.membership import Membership
from hpc.rllib.algorithms.parts.reporting import Bounds, group_report, log_learner_results, requests_report
from hpc.rllib.algorithms.parts.resources import room_of, warn_of_room
from hpc.rllib.algorithms.parts.saving import Saving
from hpc.rllib.callbacks.utils import call_hook, callbacks_of
from hpc.rllib.core import (
    COMPONENT_ENV_RUNNER,
    COMPONENT_EVAL_ENV_RUNNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_METRICS_LOGGER,
    DEFAULT_MODULE_ID,
)
from hpc.rllib.env.env_runner_group import EnvRunnerGroup
from hpc.rllib.utils import metrics as keys
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.metrics.sample_report import SampleReport
from hpc.tune.trainable import Trainable

if TYPE_CHECKING:
    from hpc.rllib.env.fragment import Sample
    from hpc.tune.placement import PlacementGroupFactory

#: What programs of the old API stack call, and what is there in its place.
_OLD_NAMES = {
    "compute_single_action": "act(observation), or get_module().forward_inference(batch)",
    "compute_actions": "act(observation) for each, or get_module().forward_inference(batch)",
    "get_policy": "get_module(module_id)",
    "add_policy": "add_module(module_id, module_spec)",
    "remove_policy": "remove_module(module_id)",
    "export_policy_model": "get_module(module_id), which is a torch.nn.Module",
    "export_policy_checkpoint": "get_module(module_id).save_to_path(path)",
    "evaluate_offline": "evaluate()",
    "workers": "env_runner_group",
    "evaluation_workers": "eval_env_runner_group",
    "restore_workers": "restore_env_runners(env_runner_group)",
}


class Algorithm(Saving, Membership, Acting, Trainable):
    """What ``config.build_algo()`` makes: call `train` again and again, `evaluate`, `save_to_path`, and `stop`.

    An algorithm defines get_default_config and training_step. It runs in a program's own process, with no session if
    it has no actors, and as a trial of a Tuner.
    """

    METADATA_FILE_NAME = "rllib_checkpoint.json"
    STATE_FILE_NAME = "algorithm_state"

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The algorithm's own configuration. Algorithms define it."""
        return AlgorithmConfig(algo_class=cls)

    def __init__(self, config: Any = None, env: Any = None, **kwargs: Any) -> None:
        made = self._complete(config)
        if env is not None:
            made.environment(env)
        made.validate()
        made.freeze()
        self.metrics = MetricsLogger(root=True, stats_cls_lookup=made.stats_cls_lookup)
        self.env_runner_group: Any = None
        self.learner_group: Any = None
        self.local_replay_buffer: Any = None
        self._evaluator: Evaluator | None = None
        self._room_is_known = False
        try:
            super().__init__(made, **kwargs)  # type: ignore[arg-type]
        except BaseException:
            self.cleanup()
            raise

    @classmethod
    def _complete(cls, config: Any) -> AlgorithmConfig:
        """The configuration of this algorithm from a dict, a checkpoint's state, or a configuration of any class."""
        made = cls.get_default_config()
        if isinstance(config, AlgorithmConfig):
            if isinstance(config, type(made)):
                made = config.copy(copy_frozen=False)
            else:
                made.update_from_dict(config.to_dict())
        elif isinstance(config, dict) and "class" in config:
            made = type(made).from_state(config)
        else:
            made.update_from_dict(dict(config or {}))
        if made.algo_class is None:
            made.algo_class = cls
        return made

    # making it

    def setup(self, config: Any) -> None:
        """Make the env runners and learners. Derived classes call it first."""
        self.config = config
        os.environ.update({key: str(value) for key, value in config.extra_python_environs_for_driver.items()})
        logging.getLogger("hpc.rllib").setLevel(config.log_level)
        self.callbacks = callbacks_of(config)
        self._report = SampleReport(self.metrics, config.metrics_num_episodes_for_smoothing, config.is_multi_agent)
        room, runners = _room_of_trial(), config.num_env_runners
        self._look_at_room(room)
        if config.is_online:
            self.env_runner_group = EnvRunnerGroup(
                config=config,
                local_env_runner=config.create_local_env_runner or not runners,
                placement_group=room,
                pg_offset=1,
            )
            self._report.expect()
        self._evaluator = Evaluator(self, room, 1 + (runners if config.is_online else 0))
        if config.evaluation_interval or config.evaluation_num_env_runners > 0:
            self._evaluator.make_group()
        self._make_learners(room)
        self._hook("on_algorithm_init", metrics_logger=self.metrics)

    def _look_at_room(self, room: Any) -> None:
        """Say it where actors do not fit: in a program of its own; a trial has its room."""
        config: Any = self.config
        if room is None and not self._room_is_known and hpc.is_initialized():
            self._room_is_known = True
            warn_of_room(config, config.get_evaluation_config_object())

    def _make_learners(self, room: Any) -> None:
        from hpc.rllib.core.learner.learner_group import LearnerGroup

        config: Any = self.config
        if config.num_learners:
            self._look_at_room(room)
        group = self.env_runner_group or self.eval_env_runner_group
        spaces = group.get_spaces() if group is not None else None
        spec = config.get_multi_rl_module_spec(spaces=spaces)
        offset = 1 + (config.num_env_runners if config.is_online else 0) + config.evaluation_num_env_runners
        self.learner_group = LearnerGroup(config=config, module_spec=spec, placement_group=room, pg_offset=offset)
        self._sync_all_weights()

    def _sync_all_weights(self) -> None:
        for group in (self.env_runner_group, self.eval_env_runner_group):
            if group is not None:
                group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """The room of a trial: its process, env runners, those that evaluate, and learners."""
        made = cls._complete(config)
        made.validate()
        evaluates = made.evaluation_interval or made.evaluation_num_env_runners > 0
        return room_of(made, made.get_evaluation_config_object() if evaluates else None)

    # running it

    def step(self) -> dict[str, Any]:
        """One iteration, and what it reports; `train` calls it, and adds times."""
        evaluator, config = self._evaluator, self.config
        assert evaluator is not None
        evaluation: dict[str, Any] | None = None
        due = evaluator.is_due(self.iteration + 1)
        if due and config.evaluation_parallel_to_training:
            with self.metrics.log_time((keys.TIMERS, keys.EVALUATION_ITERATION_TIMER)):
                _, evaluation = evaluator.beside(self._iterate)
            self._sync_runner_states()
        else:
            self._iterate()
            # Before the evaluation: the new weights belong to what connectors have learnt in this iteration.
            self._sync_runner_states()
            if due:
                with self.metrics.log_time((keys.TIMERS, keys.EVALUATION_ITERATION_TIMER)):
                    evaluation = evaluator.evaluate()
        return self._results(evaluation)

    def _iterate(self) -> None:
        """Training steps until the least time and numbers of steps of an iteration are reached."""
        with self.metrics.log_time((keys.TIMERS, keys.TRAINING_ITERATION_TIMER)):
            bounds = Bounds(self)
            while True:
                self._restore_runners()
                with self.metrics.log_time((keys.TIMERS, keys.TRAINING_STEP_TIMER)):
                    returned: Any = self.training_step()  # type: ignore[func-returns-value]
                if returned is not None:
                    raise ValueError(
                        "training_step() must return None: log results by self.metrics.log_value(key, value), and they "
                        "are in the result of train()"
                    )
                self.metrics.log_value(keys.NUM_TRAINING_STEP_CALLS_PER_ITERATION, 1, reduce="sum")
                if bounds.is_over():
                    return

    def training_step(self) -> None:
        """Sample a train batch, learn it, and bring the new weights to the env runners. Algorithms define their own."""
        config: Any = self.config
        with self.metrics.log_time((keys.TIMERS, keys.ENV_RUNNER_SAMPLING_TIMER)):
            samples = self.env_runner_group.collect(
                steps=config.total_train_batch_size, count_by=config.count_steps_by, timeout_s=config.sample_timeout_s
            )
        self.log_samples(samples)
        with self.metrics.log_time((keys.TIMERS, keys.LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(samples=samples, timesteps=self.timesteps())
        self.log_learner_results(results)
        with self.metrics.log_time((keys.TIMERS, keys.SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def log_samples(self, samples: Iterable[Sample]) -> None:
        """Take what samples say of episodes, steps and times into the results, under "env_runners"."""
        self._report.write(samples)

    def log_learner_results(self, results: Any) -> None:
        """Take what ``learner_group.update`` has returned into the results, under "learners"."""
        log_learner_results(self.metrics, results)

    @property
    def steps_sampled(self) -> int:
        """Steps of environments over the whole life."""
        return int(self.metrics.peek((keys.ENV_RUNNER_RESULTS, keys.NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))

    def timesteps(self) -> dict[str, int]:
        """Steps over the whole life, as learners' schedules go by them."""
        return {keys.NUM_ENV_STEPS_SAMPLED_LIFETIME: self.steps_sampled}

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Look whether env runners that had failed are there again; their ids. They have the current weights."""
        return env_runner_group.probe_unhealthy_env_runners()

    def _restore_runners(self) -> None:
        if self.env_runner_group is None:
            return
        with self.metrics.log_time((keys.TIMERS, keys.RESTORE_ENV_RUNNERS_TIMER)):
            back = self.restore_env_runners(self.env_runner_group)
        if back:
            self.tell_recreated(self.env_runner_group, back, self.config)

    def tell_recreated(self, group: Any, indices: list[int], config: Any) -> None:
        """Call on_env_runners_recreated for env runners that are there again."""
        self._hook(
            "on_env_runners_recreated",
            env_runner_group=group,
            env_runner_indices=indices,
            is_evaluation=config.in_evaluation,
        )

    def _sync_runner_states(self) -> None:
        config, group = self.config, self.env_runner_group
        if group is None or config._dont_auto_sync_env_runner_states:
            return
        with self.metrics.log_time((keys.TIMERS, keys.SYNCH_ENV_CONNECTOR_STATES_TIMER)):
            group.sync_env_runner_states(config=config, env_steps_sampled=self.steps_sampled)

    def _results(self, evaluation: dict[str, Any] | None) -> dict[str, Any]:
        results = self.metrics.compile()
        runners = results.get(keys.ENV_RUNNER_RESULTS, {})
        results.setdefault(keys.NUM_ENV_STEPS_SAMPLED_LIFETIME, runners.get(keys.NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        if evaluation is not None:
            assert self._evaluator is not None
            results[keys.EVALUATION_RESULTS] = {**evaluation, **self._evaluator.report()}
        if self.env_runner_group is not None:
            results[keys.FAULT_TOLERANCE_STATS] = group_report(self.env_runner_group)
            results["env_runner_group"] = requests_report(self.env_runner_group)
        return results

    def evaluate(self) -> dict[str, Any]:
        """Evaluate now, with evaluation_config over the settings; the metrics: ``{"env_runners": {...}}``."""
        assert self._evaluator is not None
        return self._evaluator.evaluate()

    def log_result(self, result: dict[str, Any]) -> None:
        """Call on_train_result."""
        if self._session is None:  # as a trial, the Tuner adds them
            result.setdefault("config", self.config.to_dict())
            result.setdefault("node_ip", _node_ip())
        self._hook("on_train_result", metrics_logger=self.metrics, result=result)

    def _hook(self, hook: str, **given: Any) -> None:
        call_hook(hook, self.callbacks, self.config, algorithm=self, **given)

    def cleanup(self) -> None:
        """Stop learners and env runners; `stop` calls it."""
        if self.learner_group is not None:
            self.learner_group.shutdown()
        if self.env_runner_group is not None:
            self.env_runner_group.stop()
        if self._evaluator is not None:
            self._evaluator.stop()

    # its parts

    @property
    def env_runner(self) -> Any:
        """The env runner of this process; None where there are only actors."""
        return self.env_runner_group.local_env_runner if self.env_runner_group is not None else None

    @property
    def eval_env_runner_group(self) -> Any:
        """The env runners that evaluate; None before there are some."""
        return self._evaluator.group if self._evaluator is not None else None

    @property
    def eval_env_runner(self) -> Any:
        """The env runner of this process that evaluates."""
        group = self.eval_env_runner_group
        return group.local_env_runner if group is not None else None

    @property
    def evaluation_config(self) -> Any:
        """The configuration of env runners that evaluate."""
        return self._evaluator.config if self._evaluator is not None else None

    def __getattr__(self, name: str) -> Any:
        instead = _OLD_NAMES.get(name)
        if instead is not None:
            raise AttributeError(f"{type(self).__name__}.{name} is of RLlib's old API stack: use {instead}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        config: Any = self.config
        return (
            f"{type(self).__name__}(env={config.env}; env-runners={config.num_env_runners}; "
            f"learners={config.num_learners}; multi-agent={config.is_multi_agent})"
        )

    # state

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """All that is needed to go on: of learners, env runners, connectors, counters and generators."""
        state: dict[str, Any] = {}
        for name, part in self.get_checkpointable_components():
            if self._check_component(name, components, not_components):
                skipped = [*(self._get_subcomponents(name, not_components) or ()), *self._unsaved(name)]
                if name in (COMPONENT_ENV_RUNNER, COMPONENT_EVAL_ENV_RUNNER):
                    skipped.append("rl_module")
                state[name] = part.get_state(
                    components=self._get_subcomponents(name, components), not_components=skipped or None, **kwargs
                )
        assert self._evaluator is not None
        state[COMPONENT_METRICS_LOGGER] = {
            **self.metrics.get_state(),
            "evaluation": self._evaluator.get_state(),
            "time_total_s": self._keys.time_total_s,
        }
        state["training_iteration"] = self.training_iteration
        return state

    def _unsaved(self, name: str) -> list[str]:
        """Parts that checkpoint_trainable_policies_only leaves out."""
        config: Any = self.config
        learns = config._who_learns() if config.checkpoint_trainable_policies_only else None
        if name != COMPONENT_LEARNER_GROUP or learns is None:
            return []
        return [f"learner/rl_module/{module_id}" for module_id in config.policies if not learns(module_id, None)]

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up a state; weights and states of connectors go to all env runners."""
        logged = state.get(COMPONENT_METRICS_LOGGER)
        if logged is not None:
            assert self._evaluator is not None
            self.metrics.set_state(logged)
            self._report.resume()
            self._evaluator.set_state(logged["evaluation"])
            self._keys.time_total_s = logged["time_total_s"]
        for name, part in self.get_checkpointable_components():
            if name in state:
                part.set_state(state[name])
        self._keys.iteration = state.get("training_iteration", self._keys.iteration)
        self._spread()

    def _spread(self) -> None:
        """Bring weights, and states of connectors, from this process to all env runners."""
        self._sync_all_weights()
        group = self.env_runner_group
        if group is not None and group.num_remote_env_runners():
            group.sync_env_runner_states(
                config=self.config, from_worker=group.connectors, env_steps_sampled=self.steps_sampled
            )

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The learners, and the env runners of this process; without one, the connectors that all have."""
        parts = [(COMPONENT_LEARNER_GROUP, self.learner_group)]
        connectors = self.env_runner_group.connectors if self.env_runner_group is not None else None
        if connectors is not None:
            parts.append((COMPONENT_ENV_RUNNER, connectors))
        if self.eval_env_runner is not None:
            parts.append((COMPONENT_EVAL_ENV_RUNNER, self.eval_env_runner))
        return parts

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The configuration."""
        return (self.config.get_state(),), {}

    def restore_from_path(self, path: str | Path, **kwargs: Any) -> None:
        """Take up a checkpoint, or with ``component="learner_group/learner/rl_module/.."`` that of one part."""
        super().restore_from_path(path, **kwargs)
        self._spread()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take up what save_checkpoint has written, and call on_checkpoint_loaded."""
        self.restore_from_path(checkpoint)
        self._hook("on_checkpoint_loaded")

    def get_weights(self, policies: Collection[str] | None = None) -> dict[str, Any]:
        """The weights of modules as arrays: ``{module_id: {name: array}}``."""
        return self.learner_group.get_weights(module_ids=policies)

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Give modules these weights, in learners and env runners."""
        self.learner_group.set_weights(weights)
        self._sync_all_weights()

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> Any:
        """The module of this id in this process's env runner, with the current weights; None if there is none."""
        return self._acting_module(module_id)


@functools.cache
def _node_ip() -> str:
    from hpc.util import get_node_ip_address

    return get_node_ip_address()


def _room_of_trial() -> Any:
    """The placement group of the trial that this process is of; None for a program of its own."""
    from hpc.tune.context import state

    if state.session is None:
        return None
    from hpc.util import get_current_placement_group

    return get_current_placement_group()
