"""What a program says of one of several modules: `PolicySpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class PolicySpec:
    """One module of a multi-agent program.

    policy_class: None; a module's class is in its RLModuleSpec. observation_space, action_space: None: those of the
    agents that have this module. config: settings of this module over the algorithm's.
    """

    policy_class: Any = None
    observation_space: Any = None
    action_space: Any = None
    config: Any = None

    def __post_init__(self) -> None:
        if self.policy_class is not None:
            raise ValueError(
                "PolicySpec(policy_class=..) is of RLlib's old API stack: use "
                "config.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={id: RLModuleSpec(..)}))"
            )
        if self.config is not None and not isinstance(self.config, dict) and not hasattr(self.config, "to_dict"):
            raise ValueError(
                f"PolicySpec(config=..) must be a dict or an AlgorithmConfig, not {type(self.config).__name__}"
            )

    def get_state(self) -> tuple[Any, Any, Any, Any]:
        """The four fields."""
        return (self.policy_class, self.observation_space, self.action_space, self.config)
