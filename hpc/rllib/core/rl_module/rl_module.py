"""RLModule: networks with three forward passes (inference, exploration, training), and the spec that builds one."""

from __future__ import annotations

import abc
import dataclasses
import logging
import re
from collections.abc import Collection
from typing import Any, ClassVar

from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.rl_module.spaces import space_from_dict, space_to_dict
from hpc.rllib.utils.checkpoints import Checkpointable
from hpc.rllib.utils.serialization import deserialize_type, serialize_type

logger = logging.getLogger(__name__)
#: Characters that a file name must not have: a module's id names a folder of checkpoints.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')


def validate_module_id(policy_id: str, error: bool = False) -> None:
    """Check that an id can name a folder; if not, raise a ValueError, or warn where ``error`` is False."""
    if isinstance(policy_id, str) and policy_id and not _FORBIDDEN.search(policy_id) and policy_id[-1] not in " .":
        return
    said = (
        f'module id {policy_id!r} is no file name: use a text without <>:"/\\|?* that does not end in a dot or a space'
    )
    if error:
        raise ValueError(said)
    logger.warning(said)


def config_dict(model_config: Any) -> dict[str, Any]:
    """A model config as a dict, whether it is one or a dataclass, as DefaultModelConfig."""
    if dataclasses.is_dataclass(model_config) and not isinstance(model_config, type):
        return dataclasses.asdict(model_config)
    return model_config or {}


@dataclasses.dataclass
class RLModuleSpec:
    """What an RLModule is built from; spaces that are None are filled in by the algorithm."""

    module_class: type[RLModule] | None = None
    observation_space: Any = None
    action_space: Any = None
    inference_only: bool = False
    learner_only: bool = False
    model_config: Any = None
    catalog_class: type | None = None
    load_state_path: str | None = None

    def build(self) -> RLModule:
        """The module."""
        if self.module_class is None:
            raise ValueError("this RLModuleSpec has no module_class: set one, or give the spec to config.rl_module()")
        if self.observation_space is None:
            raise ValueError("this RLModuleSpec has no observation_space: set it, or give it to config.rl_module()")
        return self.module_class(
            observation_space=self.observation_space,
            action_space=self.action_space,
            inference_only=self.inference_only,
            learner_only=self.learner_only,
            model_config=config_dict(self.model_config),
            catalog_class=self.catalog_class,
        )

    @classmethod
    def from_module(cls, module: RLModule) -> RLModuleSpec:
        """The spec that builds a module like this one; its weights are no part of it."""
        if isinstance(module, RLModule.multi_class):
            raise ValueError("a MultiRLModule has a MultiRLModuleSpec: use MultiRLModuleSpec.from_module()")
        return cls(
            module_class=type(module),
            observation_space=module.observation_space,
            action_space=module.action_space,
            inference_only=module.inference_only,
            learner_only=module.learner_only,
            model_config=module.model_config,
            catalog_class=module.catalog_class,
        )

    def to_dict(self) -> dict[str, Any]:
        """The spec as simple values; `from_dict` reads them."""
        return {
            "module_class": serialize_type(self.module_class),
            "observation_space": space_to_dict(self.observation_space),
            "action_space": space_to_dict(self.action_space),
            "inference_only": self.inference_only,
            "learner_only": self.learner_only,
            "model_config": config_dict(self.model_config),
            "catalog_class": serialize_type(self.catalog_class),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> RLModuleSpec:
        """The spec of what `to_dict` gave."""
        return cls(
            module_class=deserialize_type(d["module_class"], error=True),
            observation_space=space_from_dict(d["observation_space"]),
            action_space=space_from_dict(d["action_space"]),
            inference_only=d["inference_only"],
            learner_only=d["learner_only"],
            model_config=d["model_config"],
            catalog_class=deserialize_type(d["catalog_class"], error=True),
        )

    def update(self, other: RLModuleSpec, override: bool = True) -> None:
        """Take the other's values where it has any; without ``override`` only those that this one lacks."""
        if not isinstance(other, RLModuleSpec):
            raise ValueError(f"an RLModuleSpec is updated with an RLModuleSpec, not with {type(other).__name__}")
        names = [
            "module_class",
            "observation_space",
            "action_space",
            "model_config",
            "catalog_class",
            "load_state_path",
        ]
        for name in names:
            mine, theirs = getattr(self, name), getattr(other, name)
            if override:
                mine, theirs = theirs, mine
            setattr(self, name, mine if mine is not None and mine != {} else theirs)
        if override:
            self.inference_only = other.inference_only or self.inference_only
            self.learner_only = other.learner_only and self.learner_only

    def as_multi_rl_module_spec(self) -> Any:
        """A MultiRLModuleSpec with this one under the default module id."""
        return RLModule.multi_spec_class(
            rl_module_specs={DEFAULT_MODULE_ID: self}, load_state_path=self.load_state_path
        )


class RLModule(Checkpointable, abc.ABC):
    """Networks with forward passes. Subclasses define ``setup`` and ``_forward``, or one ``_forward_*`` for each use.

    A forward pass takes a batch (``obs``, and ``state_in`` if stateful) and returns ``action_dist_inputs`` or
    ``actions``, and ``state_out`` if stateful. In ``setup`` the spaces and ``model_config`` are set.
    """

    framework: str | None = None
    STATE_FILE_NAME = "module_state"
    #: MultiRLModule and its spec; their file, which needs this one, puts them here.
    multi_class: ClassVar[Any] = None
    multi_spec_class: ClassVar[Any] = None

    def __init__(
        self,
        *,
        observation_space: Any = None,
        action_space: Any = None,
        inference_only: bool | None = None,
        learner_only: bool = False,
        model_config: Any = None,
        catalog_class: Any = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"RLModule takes no argument {sorted(kwargs)}; settings of your own go into model_config")
        self.observation_space = observation_space
        self.action_space = action_space
        self.inference_only = bool(inference_only)
        self.learner_only = learner_only
        self.model_config: Any = config_dict(model_config)
        self.catalog_class = catalog_class
        self._catalog, self._catalog_error = self._make_catalog()
        self.action_dist_cls: Any = None
        if self._catalog is not None:
            self.action_dist_cls = self._catalog.get_action_dist_cls(framework=self.framework)
        if getattr(self, "_is_setup", False):
            raise RuntimeError(f"setup() of {type(self).__name__} ran twice: inherit from TorchRLModule first")
        self._is_stateful: bool | None = None
        self.setup()
        self._is_setup = True

    def _make_catalog(self) -> tuple[Any, Exception | None]:
        if self.catalog_class is None:
            return None, None
        try:
            made = self.catalog_class(
                observation_space=self.observation_space,
                action_space=self.action_space,
                model_config_dict=self.model_config,
            )
        except Exception as error:
            # A module that builds its own networks needs no catalog: the error is raised at its first use.
            return None, error
        return made, None

    @property
    def catalog(self) -> Any:
        """The catalog that built the default parts; None for a module without one."""
        if self._catalog_error is not None:
            raise self._catalog_error
        return self._catalog

    def setup(self) -> None:
        """Build the networks. Called once, at the end of the constructor."""

    def get_inference_action_dist_cls(self) -> Any:
        """The distribution class for ``forward_inference``."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_inference_action_dist_cls")

    def get_exploration_action_dist_cls(self) -> Any:
        """The distribution class for ``forward_exploration``."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_exploration_action_dist_cls")

    def get_train_action_dist_cls(self) -> Any:
        """The distribution class for ``forward_train``."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_train_action_dist_cls")

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One pass for all uses, unless a subclass defines one of the others."""
        return {}

    def forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The pass for acting greedily."""
        return self._forward_inference(batch, **kwargs)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The pass for acting with exploration."""
        return self._forward_exploration(batch, **kwargs)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The pass for computing losses."""
        if self.inference_only:
            raise RuntimeError("this module is inference_only: build it with inference_only=False to train it")
        return self._forward_train(batch, **kwargs)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def get_initial_state(self) -> Any:
        """The state before the first step of an episode, without a batch axis; {} for a stateless module."""
        return {}

    def is_stateful(self) -> bool:
        """Whether the module has a state."""
        if self._is_stateful is None:
            state = self.get_initial_state()
            if not isinstance(state, dict):
                raise TypeError(f"get_initial_state() must return a dict, not {type(state).__name__}")
            self._is_stateful = bool(state)
        return self._is_stateful

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights as arrays by name; inference_only: those that acting needs."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments that build a module like this one."""
        return (), {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "inference_only": self.inference_only,
            "learner_only": self.learner_only,
            "model_config": self.model_config,
            "catalog_class": self.catalog_class,
        }

    def as_multi_rl_module(self) -> Any:
        """A MultiRLModule with this one, itself, under the default module id."""
        multi = self.multi_class(rl_module_specs={})
        multi.add_module(DEFAULT_MODULE_ID, self)
        return multi

    def unwrapped(self) -> RLModule:
        """The module itself, without what wraps it."""
        return self
