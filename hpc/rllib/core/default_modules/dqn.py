"""The default module of DQN: an encoder and heads of advantages and values; dueling, distributional, noisy.

The distribution over atoms is that of Bellemare et al. 2017. With dueling heads the value has atoms too, and advantages
are centred over actions, as in Rainbow (Hessel et al. 2018). RLlib's value head has one output there, and softmax
cancels it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.utils import make_target_network
from hpc.rllib.core.masks import ACTION_MASK, NEXT_ACTION_MASK, mask_logits
from hpc.rllib.core.models.base import ENCODER_OUT
from hpc.rllib.core.models.catalog import Catalog
from hpc.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from hpc.rllib.core.rl_module.apis.q_net_api import QNetAPI
from hpc.rllib.core.rl_module.apis.target_network_api import TargetNetworkAPI
from hpc.rllib.core.rl_module.rl_module import RLModule
from hpc.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from hpc.rllib.utils.schedules.scheduler import Scheduler
from hpc.rllib.utils.trees import map_tree

ATOMS = "atoms"
QF_LOGITS = "qf_logits"
QF_NEXT_PREDS = "qf_next_preds"
QF_PREDS = "qf_preds"
QF_PROBS = "qf_probs"
QF_TARGET_NEXT_PREDS = "qf_target_next_preds"
QF_TARGET_NEXT_PROBS = "qf_target_next_probs"


class DQNCatalog(Catalog):
    """Chooses an encoder, a head of advantages and a head of values."""

    def __init__(self, observation_space: Any, action_space: Any, model_config_dict: Any) -> None:
        super().__init__(observation_space, action_space, model_config_dict)
        self.num_atoms = int(self._model_config_dict.get("num_atoms", 1))
        noisy = self._model_config_dict.get("noisy", False)
        self._noise = {"noisy_std": float(self._model_config_dict.get("std_init", 0.5)) if noisy else None}
        self.af_head_config = self.head(int(self.action_space.n) * self.num_atoms, **self._noise)
        self.vf_head_config = self.head(self.num_atoms, **self._noise)

    def build_af_head(self, framework: str = "torch") -> Any:
        """The head of advantages; of Q-values, without a value head."""
        return self.af_head_config.build(framework=framework)

    def build_vf_head(self, framework: str = "torch") -> Any:
        """The head of values."""
        return self.vf_head_config.build(framework=framework)

    def get_action_dist_cls(self, framework: str = "torch") -> Any:
        from hpc.rllib.core.distribution.torch.torch_distribution import TorchCategorical

        return TorchCategorical


class DefaultDQNRLModule(RLModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """A Q-function with its target, whatever framework computes it."""

    def setup(self) -> None:
        config = self.model_config
        self.uses_dueling = bool(config.get("dueling", True))
        self.uses_double_q = bool(config.get("double_q", True))
        self.uses_noisy = bool(config.get("noisy", False))
        self.num_atoms = int(config.get("num_atoms", 1))
        self.v_min, self.v_max = float(config.get("v_min", -10.0)), float(config.get("v_max", 10.0))
        self.epsilon_schedule = Scheduler(fixed_value_or_schedule=config.get("epsilon", [(0, 1.0), (10000, 0.05)]))
        self.encoder = self.catalog.build_encoder(framework=self.framework)
        self.af = self.catalog.build_af_head(framework=self.framework)
        if self.uses_dueling:
            self.vf = self.catalog.build_vf_head(framework=self.framework)

    def epsilon(self, t: int) -> float:
        """The share of random actions after t steps of the environment; none with noisy layers, which explore."""
        if self.uses_noisy:
            return 0.0
        self.epsilon_schedule.update(t)
        return float(self.epsilon_schedule.get_current_value())

    def get_non_inference_attributes(self) -> list[str]:
        return ["_target_encoder", "_target_af"] + (["_target_vf"] if self.uses_dueling else [])

    def make_target_networks(self) -> None:
        self._target_encoder = make_target_network(self.encoder)
        self._target_af = make_target_network(self.af)
        if self.uses_dueling:
            self._target_vf = make_target_network(self.vf)

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        pairs = [(self.encoder, self._target_encoder), (self.af, self._target_af)]
        return [*pairs, (self.vf, self._target_vf)] if self.uses_dueling else pairs

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self._qf_forward_helper(batch, self._target_encoder, self._heads(self._target_af, "_target_vf"))

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self._qf_forward_helper(batch, self.encoder, self._heads(self.af, "vf"))

    def _heads(self, af: Any, vf: str) -> Any:
        return {"af": af, "vf": getattr(self, vf)} if self.uses_dueling else af

    def get_initial_state(self) -> dict[str, Any]:
        return self.encoder.get_initial_state() if hasattr(self.encoder, "get_initial_state") else {}

    def _qf_forward_helper(self, batch: dict[str, Any], encoder: Any, head: Any) -> dict[str, Any]:
        raise NotImplementedError


class DefaultDQNTorchRLModule(TorchRLModule, DefaultDQNRLModule):
    """DQN's Q-function in torch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["catalog_class"] = kwargs.get("catalog_class") or DQNCatalog
        super().__init__(*args, **kwargs)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            values = self.compute_q_values(batch)
        return self._acted(values, mask_logits(values[QF_PREDS], batch.get(ACTION_MASK)).argmax(-1))

    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            # Noise on the weights is there in training mode only, and it is what explores.
            self.train(self.uses_noisy)
            values = self.compute_q_values(batch)
            self.train(False)
        scores = mask_logits(values[QF_PREDS], batch.get(ACTION_MASK))
        allowed = torch.ones_like(scores) if batch.get(ACTION_MASK) is None else batch[ACTION_MASK].float()
        drawn = torch.multinomial(allowed.reshape(-1, allowed.shape[-1]), 1).reshape(scores.shape[:-1])
        explores = torch.rand(scores.shape[:-1], device=scores.device) < self.epsilon(t)
        return self._acted(values, torch.where(explores, drawn, scores.argmax(-1)))

    @staticmethod
    def _acted(values: dict[str, Any], actions: Any) -> dict[str, Any]:
        out = {Columns.ACTIONS: actions}
        if Columns.STATE_OUT in values:
            out[Columns.STATE_OUT] = values[Columns.STATE_OUT]
        return out

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Q-values of observations, and of next ones by the target and (double_q) this network; invalid ones masked."""
        now = {Columns.OBS: batch[Columns.OBS]}
        later = {Columns.OBS: batch[Columns.NEXT_OBS]}
        if Columns.STATE_IN in batch:
            now[Columns.STATE_IN] = batch[Columns.STATE_IN]
            later[Columns.STATE_IN] = batch[Columns.NEXT_STATE_IN]
        both = map_tree(lambda a, b: torch.cat([a, b], dim=0), now, later) if self.uses_double_q else now
        values = self.compute_q_values(both)
        target = self.forward_target(later)
        mask = batch.get(NEXT_ACTION_MASK)
        rows = batch[Columns.REWARDS].shape[0] if Columns.REWARDS in batch else target[QF_PREDS].shape[0]
        out = {name: values[name][:rows] for name in (QF_PREDS, QF_LOGITS, QF_PROBS) if name in values}
        out[QF_TARGET_NEXT_PREDS] = mask_logits(target[QF_PREDS], mask)
        if self.uses_double_q:
            out[QF_NEXT_PREDS] = mask_logits(values[QF_PREDS][rows:], mask)
        if self.num_atoms > 1:
            out[ATOMS] = target[ATOMS]
            out[QF_TARGET_NEXT_PROBS] = target[QF_PROBS]
        if Columns.STATE_OUT in values:
            out[Columns.STATE_OUT] = map_tree(lambda leaf: leaf[:rows], values[Columns.STATE_OUT])
            out[Columns.NEXT_STATE_OUT] = target[Columns.STATE_OUT]
        return out

    def compute_advantage_distribution(self, batch: Any) -> dict[str, Any]:
        """Atoms [atoms], and the logits and probabilities [..., actions, atoms] of a head's outputs."""
        logits = batch.reshape(*batch.shape[:-1], -1, self.num_atoms)
        return {ATOMS: self._atoms(batch), "logits": logits, "probs": logits.softmax(dim=-1)}

    def _atoms(self, like: Any) -> Any:
        return torch.linspace(self.v_min, self.v_max, self.num_atoms, device=like.device)

    def _qf_forward_helper(self, batch: dict[str, Any], encoder: Any, head: Any) -> dict[str, Any]:
        encoded = encoder(batch)
        features = encoded[ENCODER_OUT]
        advantages = head["af"](features) if self.uses_dueling else head(features)
        advantages = advantages.reshape(*advantages.shape[:-1], -1, self.num_atoms)
        if self.uses_dueling:
            values = head["vf"](features).unsqueeze(-2)
            advantages = values + advantages - advantages.mean(dim=-2, keepdim=True)
        out: dict[str, Any]
        if self.num_atoms > 1:
            probs, atoms = nn.functional.softmax(advantages, dim=-1), self._atoms(features)
            out = {ATOMS: atoms, QF_PREDS: (atoms * probs).sum(-1), QF_LOGITS: advantages, QF_PROBS: probs}
        else:
            out = {QF_PREDS: advantages.squeeze(-1)}
        if Columns.STATE_OUT in encoded:
            out[Columns.STATE_OUT] = encoded[Columns.STATE_OUT]
        return out

    def acting_networks(self) -> dict[str, Any]:
        """The networks of acting, for an actor that computes them without torch: lists in the order of their use."""
        networks: dict[str, Any] = {"policy": [self.encoder, self.af], "greedy": True, "epsilon": self.epsilon}
        if self.uses_dueling:
            networks["duel"] = [self.vf]
        if self.num_atoms > 1:
            networks["atoms"] = self._atoms(torch.zeros(1)).numpy()
        return networks
