"""MultiRLModule: modules by id, with forward passes over batches by id; and the spec that builds one."""

from __future__ import annotations

import dataclasses
import pprint
from collections.abc import Callable, Collection, ItemsView, KeysView, ValuesView
from typing import Any

from hpc.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec, config_dict, validate_module_id
from hpc.rllib.core.rl_module.spaces import space_from_dict, space_to_dict
from hpc.rllib.utils.serialization import deserialize_type, serialize_type


class MultiRLModule(RLModule):
    """Modules by id. Batches and outputs are dicts by id; ids that it does not have are left out of the outputs.

    Subclass it for modules that share networks: build these in ``setup`` after ``super().setup()``.
    """

    def __init__(
        self,
        *,
        observation_space: Any = None,
        action_space: Any = None,
        inference_only: bool | None = None,
        model_config: Any = None,
        rl_module_specs: dict[str, RLModuleSpec] | None = None,
        **kwargs: Any,
    ) -> None:
        specs = dict(rl_module_specs or {})
        for module_id, spec in specs.items():
            if not isinstance(spec, RLModuleSpec):
                raise ValueError(f"the spec of module {module_id!r} must be an RLModuleSpec, not {type(spec).__name__}")
        if inference_only is None:
            inference_only = bool(specs) and all(spec.inference_only for spec in specs.values())
        if inference_only:
            for spec in specs.values():
                spec.inference_only = True
        self.rl_module_specs = specs
        super().__init__(
            observation_space=observation_space,
            action_space=action_space,
            inference_only=inference_only,
            model_config=model_config,
            **kwargs,
        )

    def setup(self) -> None:
        """Build each module of the specs."""
        self._rl_modules: dict[str, RLModule] = {}
        for module_id, spec in self.rl_module_specs.items():
            self._rl_modules[module_id] = spec.build()
            self.framework = self.framework or self._rl_modules[module_id].framework

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {mid: self._rl_modules[mid]._forward(batch[mid], **kwargs) for mid in batch if mid in self}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {mid: self._rl_modules[mid].forward_inference(batch[mid], **kwargs) for mid in batch if mid in self}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {mid: self._rl_modules[mid].forward_exploration(batch[mid], **kwargs) for mid in batch if mid in self}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {mid: self._rl_modules[mid].forward_train(batch[mid], **kwargs) for mid in batch if mid in self}

    def get_initial_state(self) -> dict[str, Any]:
        return {module_id: module.get_initial_state() for module_id, module in self._rl_modules.items()}

    def is_stateful(self) -> bool:
        return any(module.is_stateful() for module in self._rl_modules.values())

    def add_module(self, module_id: str, module: RLModule, *, override: bool = False) -> None:
        """Add a module; an id that is taken is an error unless ``override``."""
        validate_module_id(module_id)
        if module_id in self._rl_modules and not override:
            raise ValueError(f"there is already a module {module_id!r}: set override=True to replace it")
        if module.framework is not None:
            if self.framework not in (None, module.framework):
                raise ValueError(f"module {module_id!r} is of framework {module.framework!r}, not {self.framework!r}")
            self.framework = module.framework
        if not module.inference_only:
            self.inference_only = False
        self._rl_modules[module_id] = module
        self.rl_module_specs[module_id] = RLModuleSpec.from_module(module.unwrapped())

    def remove_module(self, module_id: str, *, raise_err_if_not_found: bool = True) -> None:
        """Remove a module."""
        if raise_err_if_not_found:
            self._check_module_exists(module_id)
        self._rl_modules.pop(module_id, None)
        self.rl_module_specs.pop(module_id, None)

    def foreach_module(self, func: Callable[..., Any], *, return_dict: bool = False, **kwargs: Any) -> Any:
        """What ``func(module_id, module, **kwargs)`` returns for each, as a list or by id."""
        results = {mid: func(mid, module.unwrapped(), **kwargs) for mid, module in self._rl_modules.items()}
        return results if return_dict else list(results.values())

    def __contains__(self, item: object) -> bool:
        return item in self._rl_modules

    def __getitem__(self, module_id: str) -> RLModule:
        self._check_module_exists(module_id)
        return self._rl_modules[module_id]

    def get(self, module_id: str, default: Any = None) -> Any:
        """The module of an id, or the default."""
        return self._rl_modules.get(module_id, default)

    def ids(self) -> list[str]:
        """Ids, as a list of its own."""
        return list(self._rl_modules)

    def items(self) -> ItemsView[str, RLModule]:
        """Pairs of id and module."""
        return self._rl_modules.items()

    def keys(self) -> KeysView[str]:
        """Ids."""
        return self._rl_modules.keys()

    def values(self) -> ValuesView[RLModule]:
        """Modules."""
        return self._rl_modules.values()

    def __len__(self) -> int:
        return len(self._rl_modules)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({pprint.pformat(self._rl_modules)})"

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The state of each module by id; components: ids to take, or to leave out."""
        return {
            module_id: module.get_state(
                components=self._get_subcomponents(module_id, components),
                not_components=self._get_subcomponents(module_id, not_components),
                inference_only=inference_only,
            )
            for module_id, module in self._rl_modules.items()
            if self._check_component(module_id, components, not_components)
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Set the states of modules; those of ids that it does not have are left out."""
        for module_id, module_state in state.items():
            if module_id in self._rl_modules:
                self._rl_modules[module_id].set_state(module_state)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "inference_only": self.inference_only,
            "model_config": self.model_config,
            "rl_module_specs": self.rl_module_specs,
        }

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Each module, under its id."""
        return list(self._rl_modules.items())

    def as_multi_rl_module(self) -> MultiRLModule:
        return self

    def _check_module_exists(self, module_id: str) -> None:
        if module_id not in self._rl_modules:
            raise KeyError(f"there is no module {module_id!r}, only {sorted(self._rl_modules)}")


@dataclasses.dataclass
class MultiRLModuleSpec:
    """What a MultiRLModule is built from: a spec by module id."""

    multi_rl_module_class: type[MultiRLModule] = MultiRLModule
    observation_space: Any = None
    action_space: Any = None
    inference_only: bool | None = None
    model_config: Any = None
    rl_module_specs: dict[str, RLModuleSpec] | None = None
    load_state_path: str | None = None
    modules_to_load: set[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rl_module_specs, dict):
            raise ValueError(
                "MultiRLModuleSpec needs rl_module_specs, a dict of RLModuleSpec by module id. For one module for all "
                "agents give the RLModuleSpec itself to config.rl_module(rl_module_spec=...)"
            )
        if self.inference_only is None:
            self.inference_only = all(spec.inference_only for spec in self.rl_module_specs.values())

    @property
    def specs(self) -> dict[str, RLModuleSpec]:
        """The specs by module id."""
        if self.rl_module_specs is None:
            self.rl_module_specs = {}
        return self.rl_module_specs

    @property
    def module_specs(self) -> dict[str, RLModuleSpec]:
        """The specs by module id, under their older name."""
        return self.specs

    def build(self, module_id: str | None = None) -> RLModule:
        """All modules in one, or the module of an id."""
        if module_id:
            return self.specs[module_id].build()
        return self.multi_rl_module_class(
            observation_space=self.observation_space,
            action_space=self.action_space,
            inference_only=self.inference_only,
            model_config=config_dict(self.model_config) if self.model_config is not None else None,
            rl_module_specs=self.specs,
        )

    def add_modules(self, module_specs: dict[str, RLModuleSpec], override: bool = True) -> None:
        """Add specs; without ``override`` those of known ids fill in what is missing."""
        for module_id, spec in module_specs.items():
            if override or module_id not in self.specs:
                if not spec.inference_only:
                    self.inference_only = False
                self.specs[module_id] = spec
            else:
                self.specs[module_id].update(spec)

    def remove_modules(self, module_ids: str | Collection[str]) -> None:
        """Remove specs; unknown ids are left out."""
        for module_id in [module_ids] if isinstance(module_ids, str) else module_ids:
            self.specs.pop(module_id, None)

    @classmethod
    def from_module(cls, module: MultiRLModule) -> MultiRLModuleSpec:
        """The spec that builds modules like these; their weights are no part of it."""
        return cls(
            multi_rl_module_class=type(module),
            observation_space=module.observation_space,
            action_space=module.action_space,
            inference_only=module.inference_only,
            model_config=module.model_config,
            rl_module_specs={mid: RLModuleSpec.from_module(one.unwrapped()) for mid, one in module.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """The spec as simple values; `from_dict` reads them."""
        return {
            "multi_rl_module_class": serialize_type(self.multi_rl_module_class),
            "observation_space": space_to_dict(self.observation_space),
            "action_space": space_to_dict(self.action_space),
            "inference_only": self.inference_only,
            "model_config": config_dict(self.model_config),
            "rl_module_specs": {module_id: spec.to_dict() for module_id, spec in self.specs.items()},
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> MultiRLModuleSpec:
        """The spec of what `to_dict` gave."""
        return cls(
            multi_rl_module_class=deserialize_type(d["multi_rl_module_class"], error=True),
            observation_space=space_from_dict(d.get("observation_space")),
            action_space=space_from_dict(d.get("action_space")),
            inference_only=d["inference_only"],
            model_config=d.get("model_config"),
            rl_module_specs={mid: RLModuleSpec.from_dict(spec) for mid, spec in d["rl_module_specs"].items()},
        )

    def update(self, other: MultiRLModuleSpec | RLModuleSpec, override: bool = False) -> None:
        """Add another's specs; an RLModuleSpec fills in what each of these lacks."""
        if isinstance(other, RLModuleSpec):
            if not other.inference_only:
                self.inference_only = False
            for spec in self.specs.values():
                spec.update(other, override=False)
        else:
            self.add_modules(other.specs, override=override)

    def as_multi_rl_module_spec(self) -> MultiRLModuleSpec:
        """Itself."""
        return self

    def __contains__(self, item: object) -> bool:
        return item in self.specs

    def __getitem__(self, item: str) -> RLModuleSpec:
        return self.specs[item]


RLModule.multi_class = MultiRLModule
RLModule.multi_spec_class = MultiRLModuleSpec
