"""Learner: modules with their optimizers, and the steps of an update, which algorithms override one by one.

An update prepares a train batch, takes minibatches of it, and for each computes outputs, losses, gradients, and applies
these. What computes with tensors is left to a subclass for a framework.
"""

from __future__ import annotations

import copy
import math
import platform
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from hpc.rllib.core import (
    ALL_MODULES,
    COMPONENT_METRICS_LOGGER,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from hpc.rllib.core.learner.batches import Batch
from hpc.rllib.core.learner.preparing import Preparing
from hpc.rllib.core.rl_module.apis.self_supervised_loss_api import SelfSupervisedLossAPI
from hpc.rllib.core.rl_module.apis.target_network_api import TargetNetworkAPI
from hpc.rllib.core.rl_module.multi_rl_module import MultiRLModule, MultiRLModuleSpec
from hpc.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec, validate_module_id
from hpc.rllib.policy.policy import PolicySpec
from hpc.rllib.utils.checkpoints import Checkpointable
from hpc.rllib.utils.metrics import (
    MODULE_TRAIN_BATCH_SIZE_MEAN,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger
from hpc.rllib.utils.schedules.scheduler import Scheduler

DEFAULT_OPTIMIZER = "default_optimizer"
POLICY_LOSS_KEY = "policy_loss"
VF_LOSS_KEY = "vf_loss"
ENTROPY_KEY = "entropy"
LR_KEY = "learning_rate"

ParamDict = dict[Hashable, Any]


class Learner(Preparing, Checkpointable):
    """Trains modules. Build it before use; ``update`` trains on samples, episodes or batches.

    config: the algorithm's. module_spec: of the modules; None: the config's. module: modules that are built already.
    """

    framework: str | None = None
    TOTAL_LOSS_KEY = "total_loss"
    #: Whether the minibatch at hand is the update's last one: what is logged with window=1 counts only there.
    is_last_minibatch = True

    def __init__(self, *, config: Any, module_spec: Any = None, module: RLModule | None = None) -> None:
        self.config = config.copy(copy_frozen=False)
        self._module_spec = module_spec
        self._module_obj = module
        self._node = platform.node()
        self._device: Any = None
        self._learner_index = 0
        self._placement_group: Any = None
        self._weights_seq_no = 0
        #: Averages one flat buffer of all gradients over the ranks, in place; None for a learner alone.
        self.reduce_gradients: Callable[[Any], None] | None = None
        self._module: MultiRLModule | None = None
        self._reset()

    def _reset(self) -> None:
        self._optimizer_parameters: dict[Any, list[Hashable]] = {}
        self._named_optimizers: dict[str, Any] = {}
        self._params: ParamDict = {}
        self._module_optimizers: dict[str, list[str]] = defaultdict(list)
        self._optimizer_name_to_module: dict[str, str] = {}
        self._optimizer_lr_schedules: dict[Any, Scheduler] = {}
        lookup = getattr(self.config, "stats_cls_lookup", None)
        self.metrics = MetricsLogger(stats_cls_lookup=lookup, root=False)
        self._is_built = False

    # building

    def build(self) -> None:
        """Build modules, their target networks and optimizers. A second call does nothing."""
        if self._is_built:
            return
        with self._own_random():
            self._module = self._make_module()
            for module in self._module.values():
                self._make_targets(module)
            self.configure_optimizers()
        self._log_trainable_parameters()
        self._is_built = True

    def _make_module(self) -> MultiRLModule:
        if self._module_obj is not None:
            module: RLModule = self._module_obj
        else:
            spec = self._module_spec or self.config.get_multi_rl_module_spec()
            module = copy.deepcopy(spec).build()
        multi = module.as_multi_rl_module()
        self._module_spec = MultiRLModuleSpec.from_module(multi)
        return multi

    @staticmethod
    def _make_targets(module: RLModule) -> None:
        if isinstance(module, TargetNetworkAPI) and not module.inference_only:
            module.make_target_networks()

    def shutdown(self) -> None:
        """Give up what the learner holds outside of this process; the base holds nothing."""

    def _set_learner_index_and_placement_group(self, *, learner_index: int, placement_group: Any = None) -> None:
        self._learner_index = learner_index
        self._placement_group = placement_group

    @property
    def distributed(self) -> bool:
        """Whether there are several learners."""
        return self.config.num_learners > 1

    @property
    def module(self) -> MultiRLModule:
        """The modules by id."""
        return self._module  # type: ignore[return-value]

    @property
    def node(self) -> str:
        """The name of the machine."""
        return self._node

    @property
    def device(self) -> Any:
        """Where the modules are."""
        return self._device

    def _check_is_built(self, error: bool = True) -> bool:
        if self._module is None and error:
            raise ValueError("the learner is not built: call build() first")
        return self._module is not None

    # optimizers

    def configure_optimizers(self) -> None:
        """Register the optimizers of all modules that can be trained."""
        for module_id in self.module.ids():
            if self.rl_module_is_compatible(self.module[module_id]):
                config = self.config.get_config_for_module(module_id)
                self.configure_optimizers_for_module(module_id=module_id, config=config)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register a module's optimizers by `register_optimizer`."""
        raise NotImplementedError

    def register_optimizer(
        self,
        *,
        module_id: str = ALL_MODULES,
        optimizer_name: str = DEFAULT_OPTIMIZER,
        optimizer: Any,
        params: Sequence[Any],
        lr_or_lr_schedule: Any = None,
    ) -> None:
        """Register an optimizer of a module for some of its parameters, with a learning rate or a schedule of it."""
        self._check_registered_optimizer(optimizer, params)
        name = f"{module_id}_{optimizer_name}"
        self._module_optimizers[module_id].append(name)
        self._optimizer_name_to_module[name] = module_id
        self._named_optimizers[name] = optimizer
        refs = [self.get_param_ref(param) for param in params]
        self._optimizer_parameters[optimizer] = refs
        self._params.update(zip(refs, params))
        if lr_or_lr_schedule is not None:
            description = "learning rate or schedule"
            Scheduler.validate(
                fixed_value_or_schedule=lr_or_lr_schedule, setting_name="lr_or_lr_schedule", description=description
            )
            scheduler = Scheduler(fixed_value_or_schedule=lr_or_lr_schedule)
            self._optimizer_lr_schedules[optimizer] = scheduler
            self._set_optimizer_lr(optimizer, lr=scheduler.get_current_value())

    def _check_registered_optimizer(self, optimizer: Any, params: Sequence[Any]) -> None:
        if not isinstance(params, list):
            raise ValueError(f"params must be a list of parameters, not {type(params).__name__}")

    def get_optimizer(self, module_id: str = DEFAULT_MODULE_ID, optimizer_name: str = DEFAULT_OPTIMIZER) -> Any:
        """An optimizer by its module and name."""
        for name in (optimizer_name, f"{module_id}_{optimizer_name}"):
            if name in self._named_optimizers:
                return self._named_optimizers[name]
        known = sorted(self._named_optimizers)
        raise KeyError(f"module {module_id!r} has no optimizer {optimizer_name!r}; there are {known}")

    def get_optimizers_for_module(self, module_id: str = ALL_MODULES) -> list[tuple[str, Any]]:
        """Pairs of (name, optimizer) of a module."""
        names = self._module_optimizers.get(module_id, [])
        return [(name[len(module_id) + 1 :], self._named_optimizers[name]) for name in names]

    def filter_param_dict_for_optimizer(self, param_dict: ParamDict, optimizer: Any) -> ParamDict:
        """The part of a dict by parameter that an optimizer has; entries that are None are left out."""
        refs = self._optimizer_parameters[optimizer]
        return {ref: found for ref in refs if (found := param_dict.get(ref)) is not None}

    def rl_module_is_compatible(self, module: RLModule) -> bool:
        """Whether this learner can train a module; one with a loss of its own needs none of the learner's APIs."""
        if isinstance(module, SelfSupervisedLossAPI):
            return True
        return all(isinstance(module, api) for api in self.rl_module_required_apis())

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """APIs that a module needs to be trained."""
        return []

    def get_param_ref(self, param: Any) -> Hashable:
        """A key for a parameter."""
        raise NotImplementedError

    def get_parameters(self, module: RLModule) -> Sequence[Any]:
        """The trained parameters of a module."""
        raise NotImplementedError

    @staticmethod
    def _get_optimizer_lr(optimizer: Any) -> float:
        raise NotImplementedError

    @staticmethod
    def _set_optimizer_lr(optimizer: Any, lr: float) -> None:
        raise NotImplementedError

    # losses and gradients

    def compute_losses(self, *, fwd_out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of each module, by its own function if it has one."""
        losses = {}
        for module_id in fwd_out:
            module = self.module[module_id].unwrapped()
            config = self.config.get_config_for_module(module_id)
            given = {
                "module_id": module_id,
                "config": config,
                "batch": batch[module_id],
                "fwd_out": fwd_out[module_id],
            }
            if isinstance(module, SelfSupervisedLossAPI):
                losses[module_id] = module.compute_self_supervised_loss(learner=self, **given)
            else:
                losses[module_id] = self.compute_loss_for_module(**given)
        return losses

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Any:
        """The loss to minimise for a module, one number as a tensor."""
        raise NotImplementedError

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> ParamDict:
        """Gradients of the sum of losses, by parameter."""
        raise NotImplementedError

    def postprocess_gradients(self, gradients_dict: ParamDict) -> ParamDict:
        """Clip the gradients of each module."""
        processed: ParamDict = {}
        for module_id in self.module.ids():
            own: ParamDict = {}
            for _, optimizer in self.get_optimizers_for_module(module_id):
                own.update(self.filter_param_dict_for_optimizer(gradients_dict, optimizer))
            config = self.config.get_config_for_module(module_id)
            processed.update(
                self.postprocess_gradients_for_module(module_id=module_id, config=config, module_gradients_dict=own)
            )
        return processed

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: ParamDict
    ) -> ParamDict:
        """Clip the gradients of each optimizer by ``grad_clip`` and ``grad_clip_by``, and log their norm."""
        if config.grad_clip is None and not config.log_gradients:
            return module_gradients_dict
        processed: ParamDict = {}
        for name, optimizer in self.get_optimizers_for_module(module_id):
            own = self.filter_param_dict_for_optimizer(module_gradients_dict, optimizer)
            norm = self._clip(own, config)
            if norm is not None:
                self.metrics.log_value((module_id, f"gradients_{name}_global_norm"), norm, window=1)
            processed.update(own)
        return processed

    def _clip(self, gradients: ParamDict, config: Any) -> Any:
        """Clip gradients in place. Returns their norm before, where it is wanted."""
        raise NotImplementedError

    def apply_gradients(self, gradients_dict: ParamDict) -> None:
        """Let each optimizer make a step by these gradients."""
        raise NotImplementedError

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Called at the start of each update. timesteps: lifetime counts of the algorithm."""

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Called at the end of each update: learning rates follow their schedules."""
        step = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for module_id, names in self._module_optimizers.items():
            for name in names:
                optimizer = self._named_optimizers[name]
                scheduler = self._optimizer_lr_schedules.get(optimizer)
                if scheduler is not None:
                    self._set_optimizer_lr(optimizer, lr=scheduler.update(timestep=step))
                key = (module_id, f"{name[len(module_id) + 1 :]}_{LR_KEY}")
                self.metrics.log_value(key, self._get_optimizer_lr(optimizer), window=1)

    # update

    def update(
        self,
        samples: Sequence[Any] | None = None,
        *,
        batch: dict[str, Batch] | None = None,
        episodes: Sequence[Any] | None = None,
        timesteps: dict[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        num_total_minibatches: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Train on samples, on episodes or on a batch by module id. Returns what was logged, by module id.

        num_epochs: passes over the train batch, in minibatches of minibatch_size rows of each module (None: all rows);
        shuffle_batch_per_epoch: in another order in each pass. num_total_minibatches: the exact number of minibatches,
        by steps. A stateful module's row is a sequence: there are as many times fewer as it is long.
        Raises ValueError if a loss or a weight is no longer finite.
        """
        self._check_is_built()
        if kwargs:
            raise TypeError(f"Learner.update takes no {sorted(kwargs)}")
        timesteps = timesteps or {}
        with self._own_random():
            self.before_gradient_based_update(timesteps=timesteps)
            # RLlib counts this update, too, where it says how far behind the weights were that acted.
            self._weights_seq_no += 1
            train, env_steps = self._train_batch(samples, batch, episodes)
            total = num_total_minibatches or 0
            if total and minibatch_size and batch is None:
                total = self._of_sequences(total, num_epochs)
            minibatches = self._minibatches(train, num_epochs, minibatch_size, shuffle_batch_per_epoch, total)
            self._log_trained(train, env_steps, self._update_on(minibatches))
            self.after_gradient_based_update(timesteps=timesteps)
        return self.metrics.reduce()

    def _of_sequences(self, total: int, epochs: int) -> int:
        """The number of minibatches where rows are sequences: ``total`` was made by steps, before there were any.

        It hangs on modules and settings only, so all ranks have the same one.
        """
        if not len(self.module) or not all(self.layout_of(name) == "sequences" for name in self.module.ids()):
            return total
        shortest = min(module.unwrapped().model_config.get("max_seq_len", 20) for module in self.module.values())
        return epochs * max(1, math.ceil(total / epochs / shortest))

    def _update_on(self, minibatches: Iterable[dict[str, Batch]]) -> dict[str, list[int]]:
        """One step of gradients for each minibatch. Returns the numbers of rows by module."""
        counts: dict[str, list[int]] = defaultdict(list)
        losses: dict[str, Any] = {}
        for minibatch, self.is_last_minibatch in _with_last(minibatches):
            _, losses, _ = self._update(minibatch)
            for module_id, rows in minibatch.items():
                counts[module_id].append(self._count(rows))
        self._check_finite(losses)
        for module_id, loss in losses.items():
            self.metrics.log_value((module_id, self.TOTAL_LOSS_KEY), loss, window=1)
        return counts

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        """One step of gradients: (outputs, losses by module id, metrics)."""
        raise NotImplementedError

    def _minibatches(
        self, train: dict[str, Batch], epochs: int, size: int | None, shuffle: bool, total: int
    ) -> Iterable[dict[str, Batch]]:
        raise NotImplementedError

    @staticmethod
    def _count(rows: Batch) -> int:
        """How many steps a minibatch has; padding counts, as in RLlib."""
        raise NotImplementedError

    def _check_finite(self, losses: dict[str, Any]) -> None:
        """Raise a ValueError if a loss or a weight is not finite."""

    def _own_random(self) -> AbstractContextManager[Any]:
        """A context in which random numbers come of this learner's own generator."""
        return nullcontext()

    def _log_trained(self, train: dict[str, Batch], env_steps: int, counts: dict[str, list[int]]) -> None:
        self._log_trainable_parameters()
        log, total, passes = self.metrics.log_value, 0, 1.0
        for module_id, rows in counts.items():
            steps = sum(rows)
            total += steps
            passes = steps / max(1, self._count(train[module_id]))
            log((module_id, WEIGHTS_SEQ_NO), self._weights_seq_no, window=1)
            log((module_id, MODULE_TRAIN_BATCH_SIZE_MEAN), float(np.mean(rows)), reduce="mean")
            log((module_id, NUM_MODULE_STEPS_TRAINED), steps, reduce="sum")
            log((module_id, NUM_MODULE_STEPS_TRAINED_LIFETIME), steps, reduce="lifetime_sum", with_throughput=True)
        for name, value in (
            (NUM_MODULE_STEPS_TRAINED, total),
            (NUM_ENV_STEPS_TRAINED, round(env_steps * passes)),
        ):
            log((ALL_MODULES, name), value, reduce="sum", with_throughput=True)
            log((ALL_MODULES, f"{name}_lifetime"), value, reduce="lifetime_sum", with_throughput=True)

    def _log_trainable_parameters(self) -> None:
        """Log how many parameters are trained."""

    def should_module_be_updated(self, module_id: str, multi_agent_batch: Any = None) -> bool:
        """Whether config.policies_to_train has a module: a collection of ids or a function of id and batch."""
        chosen = self.config.policies_to_train
        if chosen is None:
            return True
        return bool(chosen(module_id, multi_agent_batch)) if callable(chosen) else module_id in set(chosen)

    # adding and removing modules

    def add_module(
        self,
        *,
        module_id: str,
        module_spec: RLModuleSpec,
        config_overrides: dict[str, Any] | None = None,
        new_should_module_be_updated: Any = None,
    ) -> MultiRLModuleSpec:
        """Add a module and its optimizers. Returns the new spec of all modules."""
        validate_module_id(module_id, error=True)
        self._check_is_built()
        module_spec = copy.deepcopy(module_spec)
        module_spec.inference_only = False
        with self._own_random():
            module = module_spec.build()
            self._place(module)
            self.module.add_module(module_id, module)
            self._make_targets(module)
            self.config.policies[module_id] = PolicySpec()
            if config_overrides is not None:
                self.config.rl_module(algorithm_config_overrides_per_module={module_id: config_overrides})
            if self.rl_module_is_compatible(module):
                config = self.config.get_config_for_module(module_id)
                self.configure_optimizers_for_module(module_id=module_id, config=config)
        return self._modules_changed(new_should_module_be_updated)

    def remove_module(self, module_id: str, *, new_should_module_be_updated: Any = None) -> MultiRLModuleSpec:
        """Remove a module and its optimizers. Returns the new spec of all modules."""
        self._check_is_built()
        self.module._check_module_exists(module_id)
        for name in self._module_optimizers.pop(module_id, []):
            optimizer = self._named_optimizers.pop(name)
            self._optimizer_name_to_module.pop(name, None)
            self._optimizer_lr_schedules.pop(optimizer, None)
            for ref in self._optimizer_parameters.pop(optimizer):
                self._params.pop(ref, None)
        self.module.remove_module(module_id)
        self.config.policies.pop(module_id, None)
        self.config.algorithm_config_overrides_per_module.pop(module_id, None)
        self.metrics.delete(module_id, key_error=False)
        return self._modules_changed(new_should_module_be_updated)

    def _modules_changed(self, new_should_module_be_updated: Any) -> MultiRLModuleSpec:
        if new_should_module_be_updated is not None:
            self.config.multi_agent(policies_to_train=new_should_module_be_updated)
        self._module_spec = MultiRLModuleSpec.from_module(self.module)
        self.config.rl_module(rl_module_spec=self._module_spec)
        self._log_trainable_parameters()
        return self._module_spec

    def _place(self, module: RLModule) -> None:
        """Move a module to the learner's device."""

    # state

    def get_weights(self, module_ids: Collection[str] | None = None, *, inference_only: bool = False) -> dict[str, Any]:
        """Copies of the weights by module id; inference_only: those that acting needs."""
        self._check_is_built()
        return self.module.get_state(components=module_ids, inference_only=inference_only)

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Take weights by module id."""
        self._check_is_built()
        self.module.set_state(weights)

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights, states of optimizers and schedules, counters, and the generator of random numbers."""
        self._check_is_built()
        state: dict[str, Any] = {
            "should_module_be_updated": self.config.policies_to_train,
            WEIGHTS_SEQ_NO: self._weights_seq_no,
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
        if self._check_component(COMPONENT_OPTIMIZER, components, not_components):
            state[COMPONENT_OPTIMIZER] = self._get_optimizer_state()
            state["random"] = self._get_random_state()
        if self._check_component(COMPONENT_METRICS_LOGGER, components, not_components):
            state[COMPONENT_METRICS_LOGGER] = self.metrics.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave."""
        self._check_is_built()
        if COMPONENT_RL_MODULE in state:
            self.module.set_state(state[COMPONENT_RL_MODULE])
        if COMPONENT_OPTIMIZER in state:
            self._set_optimizer_state(state[COMPONENT_OPTIMIZER])
        if "random" in state:
            self._set_random_state(state["random"])
        self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, 0) or self._weights_seq_no
        if "should_module_be_updated" in state:
            self.config.multi_agent(policies_to_train=state["should_module_be_updated"])
        if COMPONENT_METRICS_LOGGER in state:
            self.metrics.set_state(state[COMPONENT_METRICS_LOGGER])

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that build a learner like this one."""
        return (), {"config": self.config, "module_spec": self._module_spec, "module": self._module_obj}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The modules, in a folder of their own."""
        if not self._check_is_built(error=False):
            self.build()
        return [(COMPONENT_RL_MODULE, self.module)]

    def _get_optimizer_state(self) -> dict[str, Any]:
        raise NotImplementedError

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def _get_random_state(self) -> Any:
        return None

    def _set_random_state(self, state: Any) -> None:
        """Take up the generator of random numbers where it was."""

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What ``func(learner, ...)`` returns."""
        return func(self, *args, **kwargs)


def _with_last(items: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each item, and whether it is the last one."""
    held: list[Any] = []
    for item in items:
        if held:
            yield held.pop(), False
        held.append(item)
    if held:
        yield held.pop(), True
